"""Find the faces in videos, track and crop them, and cut them with their sound into 1-second chunks.

    python pre-process.py --out_dir train

Reads <out_dir>/real/* and <out_dir>/fake/*, videos in any container that FFmpeg's libraries read.  Writes
<out_dir>/pytmp/<real|fake>/<video>/<chunk>/<frame>.jpg (30 crops of 224x224), <chunk>.wav (the same second) and
video.json (tracks, boxes, what was left out), and <out_dir>/failures.csv: each video that gave no chunk, and why.
Running it again skips what is complete.  Exit status: 0, 1 if videos failed, 2 for bad arguments.
"""

import argparse
import collections
import csv
import dataclasses
import errno
import shutil
from pathlib import Path

from tqdm import tqdm

from detectors import DETECTORS, WeightsError, build_detector
from utils.chunking import RECORD, TRACKS, Settings, process_video, read_record
from utils.cli import UserError, number, pick_device, run
from utils.files import replacing
from utils.labels import LABELS
from utils.media import VideoError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
NOT_VIDEOS = {".csv", ".ini", ".jpeg", ".jpg", ".json", ".log", ".md", ".mp3", ".png", ".txt", ".wav", ".xml", ".zip"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out_dir", type=Path, required=True, help="folder of one split, with real/ and fake/ in it")
    parser.add_argument("--detector", choices=DETECTORS, default="s3fd", help="face detector (default: s3fd)")
    parser.add_argument("--weights", type=Path, help="detector weights on disk instead of the download")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where s3fd runs (default: auto)")
    parser.add_argument(
        "--detect_scale", type=number(float, 0, 1, open_low=True), default=0.25,
        help="scale of the frames the detector sees (default: 0.25)",
    )  # fmt: skip
    parser.add_argument(
        "--detect_min_px", type=number(int, 1), default=160,
        help="but never less than this many pixels on the shorter side (default: 160; 1: the authors' scale always)",
    )  # fmt: skip
    parser.add_argument("--jpeg_quality", type=number(int, 1, 100), default=95, help="of the crops, 1..100 (default: 95)")
    parser.add_argument(
        "--tracks", choices=TRACKS, default="longest",
        help="keep a video's longest face track, or all, as <video>/<track>_<chunk> (default: longest)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="redo videos that are complete")
    return parser.parse_args(argv)


def list_videos(out_dir: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair each file below <out_dir>/real and <out_dir>/fake with the folder of its chunks; and what can't be a video.

    A folder is named by the video's stem, or by its whole name where the stem is not its own.
    """
    pairs, others = [], []
    for label in LABELS:
        entries = sorted(p for p in (out_dir / label).glob("*") if not p.name.startswith("."))
        videos = [p for p in entries if p.suffix.lower() not in NOT_VIDEOS]
        others += [p for p in entries if p.suffix.lower() in NOT_VIDEOS]
        names = {p.name for p in videos if p.suffix}
        n_of_stem = collections.Counter(p.stem for p in videos)
        for p in videos:
            is_own = n_of_stem[p.stem] == 1 and p.stem not in names
            pairs.append((p, out_dir / "pytmp" / label / (p.stem if is_own else p.name)))
    return pairs, others


def remove_renamed(videos: list[tuple[Path, Path]]) -> None:
    """Delete chunk folders of videos that have another folder now (a second video took their stem)."""
    targets = {target for _, target in videos}
    target_of = {(target.parent, source.name): target for source, target in videos}
    for folder in {target.parent for target in targets}:
        for old in folder.glob("[!.]*"):
            record = None if old in targets else read_record(old)
            if record and (folder, record["source"]) in target_of:
                shutil.rmtree(old)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    videos, others = list_videos(args.out_dir)
    if not videos:
        splits = [p.name for p in args.out_dir.glob("*") if any((p / label).is_dir() for label in LABELS)]
        hint = f"did you mean --out_dir {args.out_dir / splits[0]}?" if splits else "put the split's videos there."
        raise UserError(f"no video in {args.out_dir / 'real'} or {args.out_dir / 'fake'}; {hint}")
    for label in LABELS:
        if not any(source.parent.name == label for source, _ in videos):
            print(f"note: no video in {args.out_dir / label}")
    remove_renamed(videos)
    if others:
        print(f"not videos by their suffix, left alone: {', '.join(str(p) for p in others)}")
    settings = Settings(args.detector, args.detect_scale, args.detect_min_px, args.jpeg_quality, args.tracks)
    todo = []
    for source, target in videos:
        record = None if args.overwrite else read_record(target)
        if record and record["settings"] != dataclasses.asdict(settings):
            asked = dataclasses.asdict(settings)
            differ = [f"{key} {old}, now {asked.get(key)}" for key, old in record["settings"].items() if old != asked.get(key)]
            raise UserError(f"{target} was made with {'; '.join(differ)}. Give the same settings, or --overwrite to redo all.")
        is_same = record is not None and source.is_file() and record["source_bytes"] == source.stat().st_size
        if not is_same:
            todo.append((source, target))
    n_chunks = n_without_sound = 0
    failures: list[tuple[str, str, str]] = []
    if todo:
        try:
            detector = build_detector(args.detector, str(pick_device(args.device)), args.weights)
        except WeightsError as error:
            hint = "" if args.weights else " Or take --detector libfacedetection, which downloads nothing."
            raise UserError(f"--detector {args.detector}: {error}{hint}") from error
        if args.overwrite:  # without their records they are incomplete, so an interrupted run can go on without the flag
            for _, target in todo:
                (target / RECORD).unlink(missing_ok=True)
        for source, target in (progress := tqdm(todo, unit="video")):
            try:
                record = process_video(source, target, detector, settings)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise UserError(f"can't write to {target}: {error.strerror}; mend it, then run this again.") from error
                failure = ("read", str(error))
            except VideoError as error:
                failure = (error.stage, str(error))
            except Exception as error:  # whatever one odd video does, the others go on
                failure = ("unexpected", f"{type(error).__name__}: {error}".splitlines()[0])
            else:
                failure = None
            if failure:
                shutil.rmtree(target, ignore_errors=True)  # chunks of an earlier file of this name
                failures.append((source.relative_to(args.out_dir).as_posix(), *failure))
                progress.write(f"{source}: {failure[1]}")
                continue
            n_chunks += len(record["chunks"])
            n_without_sound += len(record["without_sound"])
    with (
        replacing(args.out_dir / "failures.csv") as path,
        path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([("video", "stage", "reason"), *failures])

    print(f"{len(videos)} videos: {len(videos) - len(todo)} were complete, {len(todo) - len(failures)} done now "
          f"({n_chunks} chunks), {len(failures)} failed")  # fmt: skip
    if n_without_sound:
        print(f"{n_without_sound} further chunks left out: the video has no sound there (see video.json)")
    for stage, n in sorted(collections.Counter(stage for _, stage, _ in failures).items()):
        print(f"  failed at {stage}: {n}")
    if failures:
        print(f"names and reasons: {args.out_dir / 'failures.csv'}")
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
