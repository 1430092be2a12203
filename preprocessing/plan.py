"""A split as a whole: its videos, what is left to do, what became of them."""

import collections
import dataclasses
from pathlib import Path

from tqdm import tqdm

from preprocessing.jobs import Outcome, is_complete, outcome_of
from preprocessing.settings import Settings
from utils.chunkfiles import read_record
from utils.claims import claimed, sweep
from utils.cli import UserError, legible
from utils.constants import LABELS
from utils.files import discard
from utils.listing import is_system_file, is_video_name, left_out_words, to_rename
from utils.tables import read_table, write_table

NOT_AGAIN = "; not tried again until the file changes or --overwrite is given"


def list_videos(out_dir: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
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


def no_videos(out_dir: Path) -> UserError:
    """What to say of a folder without videos."""
    if not out_dir.is_dir():
        return UserError(f"{out_dir} is no folder; expected one with real/ and fake/ in it.")
    splits = (
        [out_dir.parent]
        if out_dir.name in LABELS
        else sorted(p for p in out_dir.glob("*") if any((p / k).is_dir() for k in LABELS))
    )
    hint = (
        f"did you mean --out_dir {' or '.join(map(str, splits))}?"
        if splits
        else "put the split's videos there."
    )
    if words := to_rename(out_dir):
        hint = f"{words}."
    return UserError(f"no video in {out_dir / 'real'} or {out_dir / 'fake'}; {hint}")


def remembered(out_dir: Path, sources: list[Path]) -> dict[str, Outcome]:
    """The failures that ended a worker or took for ever, by name, of videos that have not changed since
    failures.csv was written.
    """
    path, found = out_dir / "failures.csv", {}
    rows = {row.get("video"): row for row in read_table(path)}
    for source in sources:
        row = rows.get(video_name(source), {})
        stage, reason = row.get("stage"), row.get("reason") or ""
        is_lasting = stage == "time" or (stage == "crash" and "out of memory" not in reason)
        if is_lasting and source.is_file() and source.stat().st_ctime < path.stat().st_mtime:
            words = f"{reason.removesuffix(NOT_AGAIN)}{NOT_AGAIN}"
            found[video_name(source)] = Outcome("failed", stage, words)
    return found


def plan(
    out_dir: Path, settings: Settings, overwrite: bool, preview: bool
) -> tuple[list[list[str | None]], dict[str, Outcome]]:
    """Look through a split.

    Args:
        overwrite: do videos again that are complete with other settings.

    Returns:
        The jobs to do, their paths below `out_dir`, and the outcomes of the videos that are complete, or
        failed before in a way that is not tried again, by name ("real/a.mp4").

    Raises:
        UserError: no video, or some are complete with other settings.
    """
    videos, others = list_videos(out_dir)
    if not videos:
        raise no_videos(out_dir)
    for label in LABELS:
        sweep(out_dir / "pytmp" / label)
        if not any(source.parent.name == label for source, _ in videos):
            print(f"note: no video in {out_dir / label}")
    remove_renamed(videos)
    if others:
        print(left_out_words(list(map(str, others))))
    if words := to_rename(out_dir):
        print(f"note: {words}, or its videos are left out")
    orphans = sorted(
        {p for label in LABELS for p in (out_dir / "pytmp" / label).glob("[!.]*")}
        - {target for _, target in videos}
    )
    if orphans:
        print(
            f"note: chunks without a video in {len(orphans)} folders, the first {legible(str(orphans[0]))}; "
            "write_csv.py lists them, so delete them if the video was taken away"
        )
    todo, complete = [], {}
    failed_before = {} if overwrite else remembered(out_dir, [source for source, _ in videos])
    for source, target in tqdm(videos, unit="video", desc="looking for complete ones", delay=2, leave=False):
        sheet = out_dir / "preview" / source.parent.name / f"{target.name}.jpg"
        record = read_record(target)
        if record and record.get("settings_hash") != settings.hash and not overwrite:
            asked, was = dataclasses.asdict(settings), record["settings"]
            differ = [f"{key} {was.get(key)}, now {now}" for key, now in asked.items() if was.get(key) != now]
            raise UserError(
                f"{target} was made with {'; '.join(differ)}. Give the same settings, or --overwrite to redo what has others."
            )
        is_whole = is_complete(record, source, settings)
        if (
            not is_whole
            and source.is_file()
            and not any(folder.is_symlink() for folder in (sheet.parent, sheet.parent.parent))
        ):
            sheet.unlink(missing_ok=True)  # it shows what is done again now
        if is_whole and (not preview or sheet.exists()):
            complete[video_name(source)] = outcome_of("complete", record)
        elif not is_whole and video_name(source) in failed_before:
            complete[video_name(source)] = failed_before[video_name(source)]
        else:
            todo.append(
                [
                    path and str(path.relative_to(out_dir))
                    for path in (source, target, sheet if preview else None)
                ]
            )
    return todo, complete


def video_name(source: Path) -> str:
    return f"{source.parent.name}/{source.name}"


def write_tables(out_dir: Path, outcomes: dict[str, Outcome], is_all: bool) -> None:
    """Write failures.csv, warnings.csv and timings.csv.

    Rows of earlier runs stay where they still hold: failures and warnings of videos that another run has in
    hand, times of complete ones, and unless `outcomes` are those of all videos (`is_all`), every row of a
    video that they do not name. Failures of a file that has changed since do not hold: `remembered` goes by
    the time of failures.csv.
    """
    kept = {name: ("busy",) if is_all else ("busy", None) for name in ("failures", "warnings")}
    kept["timings"] = ("complete", *kept["failures"])
    tables = {
        "failures": (
            ("video", "stage", "reason"),
            [
                (video, outcome.stage, outcome.reason)
                for video, outcome in outcomes.items()
                if outcome.status == "failed"
            ],
        ),
        "warnings": (
            ("video", "warning"),
            [(video, words) for video, outcome in outcomes.items() for words in outcome.warnings],
        ),
        "timings": (
            ("video", "step", "seconds"),
            [
                (video, step, f"{s:.3f}")
                for video, outcome in outcomes.items()
                for step, s in outcome.seconds.items()
            ],
        ),
    }
    with claimed(out_dir / "failures.csv", wait=True):  # another run may end at the same time
        for name, (header, rows) in tables.items():
            path = out_dir / f"{name}.csv"
            for row in read_table(path):
                outcome, source = outcomes.get(row.get("video")), out_dir / str(row.get("video"))
                is_of_another = (
                    name == "failures" and source.is_file() and source.stat().st_ctime >= path.stat().st_mtime
                )
                if (outcome and outcome.status) in kept[name] and not is_of_another:
                    rows.append(tuple(str(row.get(column) or "") for column in header))
            write_table(path, header, sorted(rows))
    sweep(out_dir)


def report(out_dir: Path, outcomes: dict[str, Outcome], seconds: float) -> int:
    """Write the tables of all videos and print the summary. Returns the number of failures."""
    write_tables(out_dir, outcomes, is_all=True)
    paths = {name: out_dir / f"{name}.csv" for name in ("failures", "warnings")}
    failed = {video: outcome for video, outcome in sorted(outcomes.items()) if outcome.status == "failed"}
    n_warned = sum(1 for outcome in outcomes.values() if outcome.warnings)
    n = collections.Counter(outcome.status for outcome in outcomes.values())
    n_chunks = collections.Counter(
        {k: sum(o.n_chunks for o in outcomes.values() if o.status == k) for k in ("complete", "done")}
    )
    print(
        f"{len(outcomes)} videos: {n['complete']} were complete, {n['done']} done now ({n_chunks['done']} chunks), "
        f"{n['failed']} failed; {n_chunks.total()} chunks in all"
    )
    if n["done"]:
        print(f"{seconds:.0f} s, {3600 * n['done'] / seconds:.0f} videos an hour")
    if n["busy"]:
        print(f"{n['busy']} are being done by another run on this folder")
    if n_warned:
        print(f"{n_warned} videos gave less than they should: {paths['warnings']}")
    for stage, count in sorted(collections.Counter(outcome.stage for outcome in failed.values()).items()):
        print(f"  failed at {stage}: {count}")
    if failed:
        print(f"names and reasons: {paths['failures']}")
    return len(failed)
