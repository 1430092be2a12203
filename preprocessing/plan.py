"""A split as a whole: its videos, what is left to do, what became of them."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from preprocessing.jobs import Job, Outcome, if_complete, outcome_of
from preprocessing.settings import Settings
from utils.chunkfiles import VideoRecord, read_record
from utils.claims import claimed, sweep
from utils.cli import UserError, legible
from utils.constants import LABELS
from utils.files import discard
from utils.listing import is_system_file, is_video_name, left_out_words, to_rename
from utils.tables import read_table, write_table

FAILURES = "failures.csv"
NOT_AGAIN = "; not tried again until the file changes or --overwrite is given"
LASTING_STAGES = ("time", "crash")  # failures that are not tried again
TABLES = {  # the columns of each
    "failures": ("video", "stage", "reason"),
    "warnings": ("video", "warning"),
    "timings": ("video", "step", "seconds"),
}


def pair_videos(out_dir: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair each file below <out_dir>/real and <out_dir>/fake with the folder of its chunks; and what can't be
    a video.

    A folder is named by the video's stem, or by its whole name where the stem is not its own.
    """
    pairs, others = [], []
    for label in LABELS:
        entries = sorted(p for p in (out_dir / label).glob("*") if not is_system_file(p.name))
        videos = [p for p in entries if is_video_name(p.name)]
        others += [p for p in entries if not is_video_name(p.name)]
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


def is_split(folder: Path) -> bool:
    """Whether a folder has videos by label; results of localize.py have such folders, too."""
    return any((folder / label).is_dir() for label in LABELS) and not (folder / "summary.csv").exists()


def no_videos(out_dir: Path) -> UserError:
    """What to say of a folder without videos."""
    if not out_dir.is_dir():
        return UserError(f"{out_dir} is no folder; expected one with real/ and fake/ in it.")
    if out_dir.name in LABELS:
        splits = [out_dir.parent]
    else:
        splits = sorted(p for p in out_dir.glob("*") if is_split(p))
    if words := to_rename(out_dir):
        hint = f"{words}."
    elif splits:
        hint = f"did you mean --out_dir {' or '.join(map(str, splits))}?"
    else:
        hint = "put the split's videos there."
    return UserError(f"no video in {out_dir / 'real'} or {out_dir / 'fake'}; {hint}")


def print_notes(out_dir: Path, videos: list[tuple[Path, Path]], others: list[Path]) -> None:
    """Say what is odd about a split: labels without videos, files and chunks that are left alone."""
    for label in LABELS:
        if not any(source.parent.name == label for source, _ in videos):
            print(f"note: no video in {out_dir / label}")
    if others:
        print(left_out_words(list(map(str, others))))
    if words := to_rename(out_dir):
        print(f"note: {words}, or its videos are left out")
    folders = {p for label in LABELS for p in (out_dir / "pytmp" / label).glob("[!.]*")}
    orphans = sorted(folders - {target for _, target in videos})
    if orphans:
        print(
            f"note: chunks without a video in {len(orphans)} folders, the first {legible(str(orphans[0]))}; "
            "write_csv.py lists them, so delete them if the video was taken away"
        )


def lasting_failures(out_dir: Path, sources: list[Path]) -> dict[str, Outcome]:
    """The failures that ended a worker or took for ever, by name, of videos that have not changed since
    failures.csv was written.
    """
    path, found = out_dir / FAILURES, {}
    rows = {row.get("video"): row for row in read_table(path)}
    for source in sources:
        row = rows.get(video_name(source), {})
        stage, reason = row.get("stage", ""), row.get("reason", "")
        if stage == "crash" and "out of memory" in reason:
            stage = "killed"  # as earlier versions have written it
        if stage in LASTING_STAGES and source.is_file() and source.stat().st_ctime < path.stat().st_mtime:
            words = f"{reason.removesuffix(NOT_AGAIN)}{NOT_AGAIN}"
            found[video_name(source)] = Outcome("failed", stage, words)
    return found


def check_settings(target: Path, record: VideoRecord, settings: Settings) -> None:
    """UserError if a video is complete with other settings."""
    if record.get("settings_hash") == settings.hash:
        return
    asked = dataclasses.asdict(settings)
    was = dataclasses.asdict(Settings()) | record["settings"]  # what it does not name is the default
    differ = [f"{key} {was.get(key)}, now {now}" for key, now in asked.items() if was.get(key) != now]
    what_to_do = "Give the same settings, or --overwrite to redo what has others."
    raise UserError(f"{target} was made with {'; '.join(differ)}. {what_to_do}")


def remove_sheet(sheet: Path) -> None:
    """Remove the contact sheet of a video that is done again; not where a link leads elsewhere."""
    if not any(folder.is_symlink() for folder in (sheet.parent, sheet.parent.parent)):
        sheet.unlink(missing_ok=True)


def plan(
    out_dir: Path, settings: Settings, overwrite: bool, preview: bool
) -> tuple[list[Job], dict[str, Outcome]]:
    """Look through a split.

    Args:
        overwrite: do videos again that are complete with other settings.

    Returns:
        The jobs to do, and the outcomes of the videos that are complete, or failed before in a way that is
        not tried again, by name ("real/a.mp4").

    Raises:
        UserError: no video, or some are complete with other settings.
    """
    videos, others = pair_videos(out_dir)
    if not videos:
        raise no_videos(out_dir)
    for label in LABELS:
        sweep(out_dir / "pytmp" / label)
    remove_renamed(videos)
    print_notes(out_dir, videos, others)
    failed_before = {} if overwrite else lasting_failures(out_dir, [source for source, _ in videos])
    todo: list[Job] = []
    known: dict[str, Outcome] = {}
    for source, target in tqdm(videos, unit="video", desc="looking for complete ones", delay=2, leave=False):
        name = video_name(source)
        sheet = out_dir / "preview" / source.parent.name / f"{target.name}.jpg"
        made = read_record(target)
        if made and not overwrite:
            check_settings(target, made, settings)
        record = if_complete(made, source, settings)
        if record is None and source.is_file():
            remove_sheet(sheet)
        if record and (not preview or sheet.exists()):
            known[name] = outcome_of("complete", record)
        elif record is None and name in failed_before:
            known[name] = failed_before[name]
        else:
            todo.append(Job(source, target, sheet if preview else None))
    return todo, known


def video_name(source: Path) -> str:
    return f"{source.parent.name}/{source.name}"


def table_rows(outcomes: dict[str, Outcome]) -> dict[str, list[tuple[str, ...]]]:
    """The rows of each of `TABLES`."""
    rows: dict[str, list[tuple[str, ...]]] = {name: [] for name in TABLES}
    for video, outcome in outcomes.items():
        if outcome.status == "failed":
            rows["failures"].append((video, outcome.stage, outcome.reason))
        rows["warnings"] += [(video, words) for words in outcome.warnings]
        rows["timings"] += [(video, step, f"{s:.3f}") for step, s in outcome.seconds.items()]
    return rows


def kept_rows(
    out_dir: Path, table: str, outcomes: dict[str, Outcome], statuses: Sequence[str | None]
) -> Iterable[tuple[str, ...]]:
    """The rows of an earlier run's table whose videos have one of the statuses now (None: no outcome).

    Not failures of a file that has changed since: `lasting_failures` goes by the time of failures.csv.
    """
    path = out_dir / f"{table}.csv"
    for row in read_table(path):
        outcome, source = outcomes.get(row.get("video", "")), out_dir / str(row.get("video"))
        has_changed = source.is_file() and source.stat().st_ctime >= path.stat().st_mtime
        status = outcome.status if outcome else None
        if status in statuses and not (table == "failures" and has_changed):
            yield tuple(row.get(column, "") for column in TABLES[table])


def write_tables(out_dir: Path, outcomes: dict[str, Outcome], is_all: bool) -> None:
    """Write failures.csv, warnings.csv and timings.csv.

    Rows of earlier runs stay where they still hold: failures and warnings of videos that another run has in
    hand, times of complete ones, and unless `outcomes` are those of all videos (`is_all`), every row of a
    video that they do not name.
    """
    kept: tuple[str | None, ...] = ("busy",) if is_all else ("busy", None)
    with claimed(out_dir / FAILURES, wait=True):  # another run may end at the same time
        for table, rows in table_rows(outcomes).items():
            statuses = ("complete", *kept) if table == "timings" else kept
            rows += kept_rows(out_dir, table, outcomes, statuses)
            write_table(out_dir / f"{table}.csv", TABLES[table], sorted(rows))
    sweep(out_dir)


def report(out_dir: Path, outcomes: dict[str, Outcome], seconds: float) -> int:
    """Write the tables of all videos and print the summary. Returns the number of failures."""
    write_tables(out_dir, outcomes, is_all=True)
    n = collections.Counter(outcome.status for outcome in outcomes.values())
    n_chunks: collections.Counter[str] = collections.Counter()
    for outcome in outcomes.values():
        n_chunks[outcome.status] += outcome.n_chunks
    done = f"{n['done']} done now ({n_chunks['done']} chunks), {n['failed']} failed"
    in_all = f"{n_chunks.total()} chunks in all"
    print(f"{len(outcomes)} videos: {n['complete']} were complete, {done}; {in_all}")
    if n["done"]:
        print(f"{seconds:.0f} s, {3600 * n['done'] / seconds:.0f} videos an hour")
    if n["busy"]:
        print(f"{n['busy']} are being done by another run on this folder")
    if n_warned := sum(1 for outcome in outcomes.values() if outcome.warnings):
        print(f"{n_warned} videos gave less than they should: {out_dir / 'warnings.csv'}")
    stages = collections.Counter(outcome.stage for outcome in outcomes.values() if outcome.status == "failed")
    for stage, count in sorted(stages.items()):
        print(f"  failed at {stage}: {count}")
    if stages:
        print(f"names and reasons: {out_dir / FAILURES}")
    return n["failed"]
