"""One raw video, one verdict: faces followed, seconds scored, and everything there is to show of it.

from judge import Judge    (localize.py does)
"""

import base64
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dataset import decode_frame, decode_video
from detectors import Detector
from engine import build_model
from model import TwoStreamNet
from saliency import check_maps, explain
from utils.annotate import write_annotated
from utils.audio import chunk_mfcc
from utils.checkpoint import stored_threshold
from utils.chunking import ChunkWriter, Settings, check_tracks, cut_sound, find_faces, track_and_crop
from utils.cli import UserError
from utils.media import CHUNK_FRAMES, FPS, Source, VideoError, open_source
from utils.pages import data_uri, legible, write_page
from utils.runs import device_name, git_commit
from utils.timeline import FACE_COLOURS, MAX_FACES, page_curve, plot_timeline
from utils.timing import Stopwatch
from utils.verdict import CAVEATS, WHY, Face, chunk_starts, give_verdict, in_words, looks

MAX_CARDS = 60  # seconds shown with pictures and maps on a page
MAX_PAGE_MB = 64  # of video inside a page
TILE_PX = 96
N_CHECKED = 8  # seconds whose maps are compared with those of random weights
STAGES = {"network": "network", "pictures": "files", "video": "files"}  # of the clock's laps; all others find faces


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
        detector, settings: of pre-processing.
        device: where the network computes, `batch_size` chunks at a time.
        amp: a key of `engine.AMP`.
        brief: leave out pictures, video and page.
        check: compare the maps with those of random weights.

    Raises:
        UserError: no threshold, or the weights do not fit the network.
    """

    def __init__(
        self, checkpoint: dict, path: Path, threshold: float | None, stride_s: float, smooth_s: float, detector: Detector,
        settings: Settings, device: torch.device, amp: str, batch_size: int, brief: bool, check: bool,
    ):  # fmt: skip
        self.config, self.device, self.amp, self.batch_size = checkpoint["config"], device, amp, batch_size
        self.model: TwoStreamNet = build_model(checkpoint, path).to(device).eval().requires_grad_(False)
        self.model.netcnnlip.to(memory_format=torch.channels_last_3d)  # as `normalize` gives its input; faster
        self.detector, self.settings, self.brief, self.check = detector, settings, brief, check
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
            "brief": brief,
            "check_maps": check,
        }
        self.made_by = {"git_commit": git_commit(), "device": device_name(device)}
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
                yield face, start, is_second, self.frames(writer, start), torch.from_numpy(chunk_mfcc(samples))

    def frames(self, writer: ChunkWriter, start: int) -> Tensor:
        """The frames of the chunk of a track that begins at its frame `start`, as `decode_video` gives them."""
        jpegs = ((f"{i}", writer.jpeg(i)) for i in range(start, start + CHUNK_FRAMES))
        return decode_video(jpegs, self.model.img_dim)

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
            if not torch.isfinite(scores).all():
                raise UserError(f"{name}: the model gives a score that is not finite; it has diverged in training, take another.")
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

    def judge(self, path: Path, name: str, folder: Path, scratch: Path, true_spans: Sequence | None) -> dict:
        """Judge a video and write what there is to show into `folder`, which is there.

        Args:
            name: of the video, for people.
            scratch: an empty folder for what is only needed on the way.
            true_spans: (begin_s, end_s) of what is fake in truth, or None.

        Returns:
            What `give_verdict` does, with file, words, map_check if asked for, seconds_spent and model.

        Raises:
            VideoError: it can't be judged; the stage and the reason. OSError, UserError: a file can't be written, or the model is
            of no use.
        """
        clock = Stopwatch()
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
            if self.check and shown:
                some = [shown[i] for i in np.linspace(0, len(shown) - 1, min(N_CHECKED, len(shown))).round().astype(int)]
                verdict["map_check"] = self.compare_maps(source, found.tracks, some)
                clock.lap("network")
            if not self.brief:
                plot_timeline(name, faces, verdict, true_spans, folder / "timeline.png")
                cards = self.cards(shown, found.tracks)
                clock.lap("pictures")
                with open_source(path, scratch) as again:
                    write_annotated(again, source.sound, faces, self.threshold, found.n_frames, folder / "annotated.mp4")
                clock.lap("video")
                self.write_report(folder, verdict, faces, true_spans, cards, len(shown) - len(cards))
                clock.lap("pictures")
        spent = {"faces": 0.0, "network": 0.0, "files": 0.0}
        for lap, s in clock.seconds.items():
            if lap != "detect":  # it runs beside the others
                spent[STAGES.get(lap, "faces")] += s
        verdict["seconds_spent"] = {stage: round(s, 2) for stage, s in spent.items()}
        verdict["model"] = {"threshold_origin": self.threshold_origin, **self.config}
        verdict["made_by"] = self.made_by
        return verdict

    def compare_maps(self, source: Source, writers: list[ChunkWriter], seconds: list[Second]) -> dict[str, float | None]:
        """`check_maps` for some seconds."""
        videos, audios = [], []
        for second in seconds:
            writer = writers[second.face]
            videos.append(self.frames(writer, second.start))
            samples, _ = cut_sound(source, writer.track.first_frame + second.start, [])
            audios.append(torch.from_numpy(chunk_mfcc(samples)))
        maps = torch.stack([second.maps for second in seconds], 1)
        found = check_maps(self.config, maps, torch.stack(videos), torch.stack(audios), self.device, self.amp)
        return {name: round(value, 3) if np.isfinite(value) else None for name, value in found.items()}

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
        self, folder: Path, verdict: dict, faces: list[Face], true_spans: Sequence | None, cards: list[dict], n_hidden: int
    ) -> None:
        """Write report.html beside annotated.mp4, which it holds unless that is large."""
        video = folder / "annotated.mp4"
        is_inside = video.stat().st_size <= MAX_PAGE_MB * 10**6
        name, curve = legible(verdict["file"]), f"a chunk of 1 s every {self.identity['stride_s']:g} s"
        facts = {
            "file": name,
            "network": f"{self.config['net']}, frames of {self.config['img_dim']} pixels",
            "checkpoint": f"SHA-256 {self.identity['model_sha256']}",
            "threshold": f"{self.threshold:.6g}, {self.threshold_origin}",
            "curve": f"{curve}, smoothed by {self.smooth_s:g} s; the MDS is the mean over whole seconds",
            "face detector": self.settings.detector,
            "computed on": self.made_by["device"],
        }
        write_page(
            folder / "report.html",
            "verdict.html",
            title=f"{name}: {verdict['verdict']}",
            name=name,
            verdict=verdict,
            curve=page_curve(faces, verdict, true_spans) | {"max_faces": MAX_FACES},
            colours=FACE_COLOURS,
            cards=cards,
            n_hidden=n_hidden,
            caveats=CAVEATS,
            facts=facts,
            video_file=None if is_inside else video.name,
            video_base64=base64.b64encode(video.read_bytes()).decode() if is_inside else "",
        )


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
