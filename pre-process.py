"""Find the faces in videos, track and crop them, and cut them with their sound into 1-second chunks.

    python pre-process.py --out_dir train
    torchrun --nproc_per_node=8 pre-process.py --out_dir train    # several GPUs or machines

Reads <out_dir>/real/* and <out_dir>/fake/*, videos in any container that FFmpeg's libraries read.  Writes
<out_dir>/pytmp/<real|fake>/<video>/<chunk>/<frame>.jpg (30 crops of 224x224), <chunk>.wav (the same second) and
video.json (tracks, boxes, what was left out), <out_dir>/failures.csv (each video that failed, and why),
<out_dir>/warnings.csv (what else was left out) and <out_dir>/timings.csv (seconds spent on each video, by step).
Running it again skips what is complete; several runs on one folder share the work.  Exit status: 0, 1 if videos
failed (0 under torchrun, which takes 1 for a crash), 2 for bad arguments.
"""

import argparse
import collections
import dataclasses
import functools
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from detectors import DETECTORS, WeightsError, build_detector
from detectors.shared import SharedDetector, share
from utils.chunking import RECORD, TRACKS, Settings, read_record
from utils.cli import UserError, number, pick_device, run
from utils.files import discard, read_table, write_table
from utils.jobs import Job, Outcome, claimed, do_jobs, is_complete, outcome_of, sweep
from utils.labels import LABELS
from utils.parallel import Group, n_cores

NOT_VIDEOS = {".csv", ".ini", ".jpeg", ".jpg", ".json", ".log", ".md", ".mp3", ".png", ".txt", ".wav", ".xml", ".zip"}
MAX_UNEXPECTED = 20  # failures in a row that no video explains: something else is broken


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out_dir", type=Path, required=True, help="folder of one split, with real/ and fake/ in it")
    parser.add_argument("--detector", choices=DETECTORS, default="s3fd", help="face detector (default: s3fd)")
    parser.add_argument("--weights", type=Path, help="detector weights on disk instead of the download")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where s3fd runs (default: auto)")
    parser.add_argument("--half", action="store_true", help="run s3fd in half precision")
    parser.add_argument(
        "--detect_scale", type=number(float, 0, 1, open_low=True), default=0.25,
        help="scale of the frames the detector sees (default: 0.25)",
    )  # fmt: skip
    parser.add_argument(
        "--detect_min_px", type=number(int, 1), default=160,
        help="but never less than this many pixels on the shorter side (default: 160; 1: the authors' scale always)",
    )  # fmt: skip
    parser.add_argument(
        "--detect_every", type=number(int, 1, 20), default=1, metavar="N",
        help="look for faces in every Nth frame and interpolate between (default: 1)",
    )  # fmt: skip
    parser.add_argument("--jpeg_quality", type=number(int, 1, 100), default=95, help="of the crops, 1..100 (default: 95)")
    parser.add_argument(
        "--tracks", choices=TRACKS, default="longest",
        help="keep a video's longest face track, or all, as <video>/<track>_<chunk> (default: longest)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="redo videos that are complete")
    parser.add_argument(
        "--workers", type=number(int, 0), metavar="N",
        help="processes that decode videos, of each rank under torchrun (default: the cores available; 0: none but this one)",
    )  # fmt: skip
    parser.add_argument(
        "--preview", action="store_true", help="draw a contact sheet of each video: <out_dir>/preview/<real|fake>/<video>.jpg"
    )
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
                with claimed(old) as work:
                    if work is not None:
                        discard(old, work)


def plan(out_dir: Path, settings: Settings, overwrite: bool, preview: bool) -> tuple[list[list[str | None]], dict[str, Outcome]]:
    """Look through a split.

    Returns the jobs to do, their paths below `out_dir`, and the outcomes of the videos that are complete, by name
    ("real/a.mp4").

    Raises:
        UserError: no video, or some are complete with other settings.
    """
    videos, others = list_videos(out_dir)
    if not videos:
        splits = [p.name for p in out_dir.glob("*") if any((p / label).is_dir() for label in LABELS)]
        hint = f"did you mean --out_dir {out_dir / splits[0]}?" if splits else "put the split's videos there."
        raise UserError(f"no video in {out_dir / 'real'} or {out_dir / 'fake'}; {hint}")
    for label in LABELS:
        sweep(out_dir / "pytmp" / label)
        if not any(source.parent.name == label for source, _ in videos):
            print(f"note: no video in {out_dir / label}")
    remove_renamed(videos)
    if others:
        print(f"not videos by their suffix, left alone: {', '.join(str(p) for p in others)}")
    todo, complete = [], {}
    for source, target in tqdm(videos, unit="video", desc="looking for complete ones", delay=2, leave=False):
        sheet = out_dir / "preview" / source.parent.name / f"{target.name}.jpg"
        record = None if overwrite else read_record(target)
        if record and record.get("settings_hash") != settings.hash:
            asked = dataclasses.asdict(settings)
            was = record["settings"]
            differ = [f"{key} {was.get(key)}, now {now}" for key, now in asked.items() if was.get(key) != now]
            raise UserError(f"{target} was made with {'; '.join(differ)}. Give the same settings, or --overwrite to redo all.")
        is_whole = is_complete(record, source, settings)
        if not is_whole:
            sheet.unlink(missing_ok=True)  # it shows what is done again now
        if is_whole and (not preview or sheet.exists()):
            complete[video_name(source)] = outcome_of("complete", record)
            continue
        todo.append([path and str(path.relative_to(out_dir)) for path in (source, target, sheet if preview else None)])
        if overwrite:  # without its record it is incomplete, so an interrupted run can go on without the flag
            (target / RECORD).unlink(missing_ok=True)
    return todo, complete


def video_name(source: Path) -> str:
    return f"{source.parent.name}/{source.name}"


def report(out_dir: Path, outcomes: dict[str, Outcome], seconds: float) -> int:
    """Write failures.csv, warnings.csv and timings.csv and print the summary. Returns the number of failures.

    Rows of earlier runs stay where they still hold: failures of videos that another run has in hand, times of complete ones.
    """
    paths = {name: out_dir / f"{name}.csv" for name in ("failures", "warnings", "timings")}
    failed = {video: outcome for video, outcome in sorted(outcomes.items()) if outcome.status == "failed"}
    is_now = {video: outcome.status for video, outcome in outcomes.items()}
    rows = [(video, outcome.stage, outcome.reason) for video, outcome in failed.items()]
    rows += [tuple(row.values()) for row in read_table(paths["failures"]) if is_now.get(row["video"]) == "busy"]
    write_table(paths["failures"], ("video", "stage", "reason"), sorted(rows))
    warned = [(video, warning) for video, outcome in sorted(outcomes.items()) for warning in outcome.warnings]
    write_table(paths["warnings"], ("video", "warning"), warned)
    rows = [
        (video, step, f"{spent:.3f}")
        for video, outcome in outcomes.items() for step, spent in outcome.seconds.items()
    ]  # fmt: skip
    rows += [tuple(row.values()) for row in read_table(paths["timings"]) if is_now.get(row["video"]) in ("complete", "busy")]
    write_table(paths["timings"], ("video", "step", "seconds"), sorted(rows))
    n = collections.Counter(outcome.status for outcome in outcomes.values())
    n_chunks = sum(outcome.n_chunks for outcome in outcomes.values() if outcome.status == "done")
    print(f"{len(outcomes)} videos: {n['complete']} were complete, {n['done']} done now ({n_chunks} chunks), "
          f"{n['failed']} failed")  # fmt: skip
    if n["done"]:
        print(f"{seconds:.0f} s, {3600 * (n['done'] + n['failed']) / seconds:.0f} videos an hour")
    if n["busy"]:
        print(f"{n['busy']} are being done by another run on this folder")
    if warned:
        n_warned = len({video for video, _ in warned})
        print(f"{n_warned} videos gave less than they should: {paths['warnings']}")
    for stage, count in sorted(collections.Counter(outcome.stage for outcome in failed.values()).items()):
        print(f"  failed at {stage}: {count}")
    if failed:
        print(f"names and reasons: {paths['failures']}")
    return len(failed)


def do_all(
    work: Callable[[Iterable[Job]], Iterator], out_dir: Path, todo: list[list[str]], group: Group, progress: tqdm
) -> dict[str, Outcome]:
    """Do the jobs of this process by `work`: those that no other rank takes, then again those that another run had in hand.

    Returns their outcomes by name.

    Raises:
        UserError: nothing can be written, or something is broken that no video explains.
    """
    outcomes: dict[str, Outcome] = {}
    n_unexpected = 0

    def claim() -> Iterator[Job]:
        while (i := group.add("claimed") - 1) < len(todo):
            yield tuple(path and out_dir / path for path in todo[i])

    busy: list[Job] = []
    for is_retry, jobs in enumerate((claim(), busy)):
        with closing(work(jobs)) as results:
            for result in results:
                if result is None:
                    progress.update(group.add("done", 0) - progress.n)
                    continue
                job, outcome = result
                if outcome.status == "stop":
                    raise UserError(outcome.reason)
                if outcome.status == "busy" and not is_retry:
                    busy.append(job)
                    continue
                name = video_name(job[0])
                outcomes[name] = outcome
                progress.update(group.add("done") - progress.n)
                if outcome.status == "failed":
                    progress.write(f"{name}: {outcome.reason}")
                n_unexpected = n_unexpected + 1 if outcome.stage in ("unexpected", "crash") else 0
                if n_unexpected == MAX_UNEXPECTED:
                    raise UserError(f"{MAX_UNEXPECTED} videos in a row failed unexpectedly, the last with: {outcome.reason}")
    return outcomes


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clusters and torchrun send it: stop as by Ctrl-C
    settings = Settings(
        args.detector, args.half, args.detect_scale, args.detect_min_px, args.detect_every, args.jpeg_quality, args.tracks
    )
    if args.half and args.detector != "s3fd":
        raise UserError(f"--half has no use with --detector {args.detector}; only s3fd can compute in half precision.")
    group = Group()
    outcomes: dict[str, Outcome] = {}
    if group.rank == 0:
        todo, outcomes = plan(args.out_dir, settings, args.overwrite and not group.is_restarted, args.preview)
        group.share("todo", todo)
    todo = group.get("todo")
    start = time.monotonic()
    if todo:
        n_own_cores = max(1, n_cores() // group.local_size)
        n_workers = min(len(todo), n_own_cores if args.workers is None else args.workers)
        try:
            device = str(pick_device(args.device, group.local_rank)) if args.detector == "s3fd" else "cpu"
            detector = build_detector(args.detector, device, args.weights, args.half)
        except WeightsError as error:
            hint = "" if args.weights else " Or take --detector libfacedetection, which downloads nothing."
            raise UserError(f"--detector {args.detector}: {error}{hint}") from error
        if n_workers and detector.is_shared:
            build = functools.partial(SharedDetector, *share(detector))
        else:
            build = functools.partial(build_detector, args.detector, device, args.weights, args.half)
        work = functools.partial(do_jobs, detector=detector, build=build, settings=settings, n_workers=n_workers)
        with tqdm(total=len(todo), unit="video", disable=group.rank > 0, smoothing=0.05) as progress:
            try:
                outcomes |= do_all(work, args.out_dir, todo, group, progress)
            finally:
                for label in LABELS:
                    sweep(args.out_dir / "pytmp" / label)
            while group.rank == 0 and group.add("done", 0) < len(todo):  # others are still at work
                time.sleep(1)
                progress.update(group.add("done", 0) - progress.n)
        if group.rank > 0:
            group.share(f"outcomes {group.rank}", {name: dataclasses.asdict(outcome) for name, outcome in outcomes.items()})
            return 0
        for rank in range(1, group.size):
            outcomes |= {name: Outcome(**outcome) for name, outcome in group.get(f"outcomes {rank}").items()}
    elif group.rank > 0:
        return 0
    with claimed(args.out_dir / "failures.csv", wait=True):  # another run may end at the same time
        n_failed = report(args.out_dir, outcomes, time.monotonic() - start)
    sweep(args.out_dir)
    return 1 if n_failed and not group.is_launched else 0


if __name__ == "__main__":
    run(main)
