"""Write the videos of a split again, perturbed: how much does a detector's AUC fall with each kind and level?

    python perturb.py --out_dir test --kind blur --level 3
    python perturb.py --out_dir test --kind none h264 late --level all    # none has no level but 0
    python perturb.py --out_dir test --kind all --level all

Reads <out_dir>/<real|fake>/*, as pre-process.py does, and <out_dir>/index.csv, if collect.py has left one.
Writes <to>/<kind>_<level>/test/<real|fake>/<video>.mp4, with the index, and <to>/failures.csv (each video
that failed, and why), <to>/warnings.csv (what else is odd) and <to>/videos.csv (all videos of the split).  So
<to>/<kind>_<level> is an --out_dir for write_csv.py and train.py --test, and test/ in it one for
pre-process.py; `test.py --robustness <to>` makes a table of their scores.  docs/robustness.md says what the
kinds and levels are.  Running it again skips what is complete.  Exit status: 0, 1 if videos failed, 2 for bad
arguments.
"""

if __name__ == "__main__":  # before the imports
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path

from pebble import ProcessExpired
from tqdm import tqdm

from perturbations.kinds import KINDS, SPLIT, VIDEOS, perturbed_folder
from perturbations.rewrite import (
    RewriteOutcome,
    Task,
    is_complete,
    rewrite_in_worker,
    rewrite_video,
    use_one_thread,
)
from preprocessing.plan import no_videos, pair_videos, video_name
from preprocessing.pool import run_in_pool
from utils.claims import claimed, sweep
from utils.cli import MAX_PROCESSES, HelpFormatter, UserError, legible, n_cores, number, run, to_path
from utils.constants import LABELS
from utils.files import make_folder
from utils.listing import left_out_words
from utils.probe import cause_of_death
from utils.tables import read_table, write_table

INDEX = "index.csv"
ALL = "all"
LEVELS = ("1", "2", "3", "4", "5")
TABLES = {  # the columns of each
    "failures": ("video", "kind", "level", "stage", "reason"),
    "warnings": ("video", "kind", "level", "warning"),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--out_dir", type=to_path, required=True, help="folder of one split, with real/ and fake/ in it")
    words = f"all, or of {', '.join(KINDS)}"
    add("--kind", choices=(ALL, *KINDS), nargs="+", required=True, metavar="KIND", help=words)
    words = "1 (weak) to 5 (strong), or all (default: all)"
    add("--level", choices=(ALL, *LEVELS), nargs="+", default=[ALL], metavar="LEVEL", help=words)
    add("--to", type=to_path, help="folder to write to (default: <out_dir>_perturbed)")
    words = "processes (default: the cores available; 0: none but this one)"
    add("--workers", type=number(int, 0, MAX_PROCESSES), metavar="N", help=words)
    args = parser.parse_args(argv)
    args.kind = list(KINDS) if ALL in args.kind else args.kind
    args.level = [int(level) for level in (LEVELS if ALL in args.level else args.level)]
    return args


def levels_of(kind: str, levels: Iterable[int]) -> list[int]:
    """Those of the levels that a kind has, or its only one."""
    own = KINDS[kind].strengths
    return sorted(set(levels) & own.keys()) or list(own)


def plan_tasks(out_dir: Path, to: Path, kinds: Iterable[str], levels: Iterable[int]) -> list[Task]:
    """All tasks, complete ones included, in order of kind, level and video; makes their folders.

    Raises:
        UserError: no video, or the folders can't be written.
    """
    videos, others = pair_videos(out_dir)
    if not videos:
        raise no_videos(out_dir)
    if others:
        print(left_out_words(list(map(str, others))))
    rows = [(f"{label_of(source)}/{chunks.name}", LABELS[label_of(source)]) for source, chunks in videos]
    make_folder(to)
    write_table(to / VIDEOS, ("video", "label"), rows)
    tasks = []
    for kind in dict.fromkeys(kinds):
        for level in levels_of(kind, levels):
            folder = perturbed_folder(to, kind, level) / SPLIT
            for label in LABELS:
                make_folder(folder / label)
                sweep(folder / label)
            # named as the folder of its chunks, so that it keeps its name in all later tables
            own = [
                Task(source, folder / label_of(source) / f"{chunks.name}.mp4", kind, KINDS[kind], level)
                for source, chunks in videos
            ]
            carry_index(out_dir, folder, own)
            print_strangers(folder, own)
            tasks += own
    return tasks


def label_of(source: Path) -> str:
    return source.parent.name


def carry_index(out_dir: Path, folder: Path, tasks: Iterable[Task]) -> None:
    """Write the index of a split, if it has one, with the names that its files get."""
    rows = read_table(out_dir / INDEX)
    files = {video_name(task.source): task.target.relative_to(folder).as_posix() for task in tasks}
    if rows:
        named = [
            row | {"file": files.get(row["file"], row["file"])} if "file" in row else row for row in rows
        ]
        write_table(folder / INDEX, list(rows[0]), [list(row.values()) for row in named])


def print_strangers(folder: Path, tasks: Iterable[Task]) -> None:
    """Say which files of a perturbed split have no video any more."""
    known = {task.target for task in tasks}
    strangers = sorted(p for k in LABELS for p in (folder / k).glob("[!.]*") if p not in known)
    if strangers:
        first = legible(str(strangers[0]))
        print(f"note: {len(strangers)} files are of no video of this split, the first {first}; delete them")


def result_in_worker(future: Future) -> RewriteOutcome:
    """What became of a video that a worker had in hand, also if the worker died."""
    error = future.exception()
    if not isinstance(error, ProcessExpired):
        return future.result()
    stage, how = cause_of_death(error.exitcode)
    hint = "; out of memory? Try fewer --workers" if stage == "killed" else ""
    return RewriteOutcome("failed", stage, how if stage == "time" else f"the worker died of it ({how}{hint})")


def rewrite_videos(tasks: Iterable[Task], n_workers: int) -> Generator[tuple[Task, RewriteOutcome] | None]:
    """Do every task; yields each with its result, and None about once a second while nothing gets done."""
    if n_workers == 0:
        yield from ((task, rewrite_video(task)) for task in tasks)
        return
    try:
        for done in run_in_pool(rewrite_in_worker, tasks, n_workers, use_one_thread, ()):
            yield done and (Task(*done[0]), result_in_worker(done[1]))
    except BrokenProcessPool as error:
        raise UserError("the workers die as soon as they start; try --workers 0 to see why.") from error


def rewrite_with_progress(tasks: list[Task], results: dict[Task, RewriteOutcome], n_workers: int) -> None:
    """Do tasks; `results` gets what became of each at once. UserError if nothing can be written."""
    with (
        tqdm(total=len(tasks), unit="video", smoothing=0.05) as progress,
        closing(rewrite_videos(tasks, min(n_workers, len(tasks)))) as doing,
    ):
        for done in filter(None, doing):
            task, result = done
            if result.status == "stop":
                raise UserError(result.reason)
            results[task] = result
            progress.update()
            if result.status == "failed":
                where = f"{task.name}_{task.level} {video_name(task.source)}"
                progress.write(legible(f"{where}: {result.reason}"))


def write_outcomes(to: Path, results: dict[Task, RewriteOutcome]) -> None:
    """Write failures.csv and warnings.csv; rows of other runs stay where they still hold."""
    rows: dict[str, list[tuple]] = {name: [] for name in TABLES}
    status: dict[tuple, str] = {}
    for task, result in results.items():
        key = (video_name(task.source), task.name, str(task.level))
        status[key] = result.status
        rows["warnings"] += [(*key, words) for words in result.warnings]
        if result.status == "failed":
            rows["failures"].append((*key, result.stage, result.reason))
    with claimed(to / "failures.csv", wait=True):  # another run may end at the same time
        for table, columns in TABLES.items():
            stays = (None, "busy") if table == "failures" else (None, "busy", "complete")
            for row in read_table(to / f"{table}.csv"):
                cells = tuple(row.get(column, "") for column in columns)
                if status.get(cells[:3]) in stays:
                    rows[table].append(cells)
            write_table(to / f"{table}.csv", columns, sorted(rows[table]))
    sweep(to)


def print_summary(to: Path, results: dict[Task, RewriteOutcome]) -> int:
    """Print what became of each kind and level; returns the number of failures."""
    n_failed = 0
    print(f"{'kind':<12} {'level':>5} {'videos':>7} {'complete':>9} {'failed':>7}")
    for kind, level in dict.fromkeys((task.name, task.level) for task in results):
        n = Counter(
            result.status for task, result in results.items() if (task.name, task.level) == (kind, level)
        )
        print(f"{kind:<12} {level:>5} {n.total():>7} {n['complete'] + n['done']:>9} {n['failed']:>7}")
        n_failed += n["failed"]
    if n_busy := sum(result.status == "busy" for result in results.values()):
        print(f"{n_busy} are being written by another run")
    if n_failed:
        print(f"names and reasons: {to / 'failures.csv'}")
    if any(result.warnings for result in results.values()):
        print(f"what else is odd: {to / 'warnings.csv'}")
    task = next(iter(results))
    print(f"now: python pre-process.py --out_dir {perturbed_folder(to, task.name, task.level) / SPLIT}")
    return n_failed


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # clusters send it: stop as by Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name = os.path.basename(os.path.abspath(args.out_dir))
    to = args.to or Path(os.path.normpath(args.out_dir / ".." / f"{name}_perturbed"))
    tasks = plan_tasks(args.out_dir, to, args.kind, args.level)
    results = {task: RewriteOutcome("complete") for task in tasks if is_complete(task)}
    todo = [task for task in tasks if task not in results]
    try:
        rewrite_with_progress(todo, results, n_cores() if args.workers is None else args.workers)
    finally:
        for folder in {task.target.parent for task in todo}:
            sweep(folder)
        write_outcomes(to, results)
    return 1 if print_summary(to, results) else 0


if __name__ == "__main__":
    run(main)
