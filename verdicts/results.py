"""Folders of results: what was judged before, one video judged, the tables over all."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utils.claims import NO_ROOM, claimed
from utils.cli import UserError
from utils.constants import LABELS
from utils.containers import VideoError
from utils.files import MAX_RECORD_BYTES, discard
from utils.jsonfiles import checked_spans, load_json, write_json
from utils.probe import probe
from utils.tables import read_table, read_text, write_table
from verdicts.answer import STRESS
from verdicts.judge import Judge, Question
from verdicts.offsets import MIN_SECONDS
from verdicts.overview import OVERVIEW, write_overview
from verdicts.schema import (
    ABOVE,
    BELOW,
    VERDICT_FILE,
    VERDICT_WORDS,
    VERSION,
    Failure,
    Identity,
    TrackVerdict,
    Verdict,
)

# failures that are remembered in verdict.json, so that such a file is not read again with the same settings
LASTING = ("crash", "time")
SUMMARY, PROPOSALS, OFFSETS = "summary.csv", "proposals.json", "offsets.csv"
FIGURE_COLUMNS = ("mds", "threshold", "spans", "p_fake_video", "p_fake_audio", "judged_s", "duration_s")
SUMMARY_COLUMNS = ("file", "verdict", "reasons", "side", *FIGURE_COLUMNS, "stage", "reason")
FIRST_COLUMNS = ("file", "verdict", *FIGURE_COLUMNS, "stage", "reason")  # of a first version's summary.csv
OFFSET_FIGURES = ("offset_ms", "confidence", "distance_unmoved", "distance", "judged_s")
OFFSET_ANSWERS = ("stands_out", "agrees_if_moved")
OFFSET_COLUMNS = ("video", "track", "speaks", *OFFSET_FIGURES, *OFFSET_ANSWERS, "reason")


# what is there


def read_verdict(folder: Path) -> Verdict | Failure | None:
    """The verdict.json of a folder, perhaps of a first version (`is_first`); None if it has none, or none
    that localize.py can have written.
    """
    try:
        known: Any = load_json(folder / VERDICT_FILE, MAX_RECORD_BYTES)
        is_ours = is_failure(known) if known["verdict"] is None else is_verdict(known)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, UserError):
        return None
    return known if is_ours else None


def is_failure(known: Any) -> bool:
    """Whether a value out of a file is a failure that is remembered; any error: it is not."""
    texts = (known["file"], known["reason"])
    return (
        known["stage"] in LASTING
        and all(isinstance(text, str) for text in texts)
        and isinstance(known["identity"], dict)
    )


def is_verdict(known: Any) -> bool:
    """Whether a value out of a file is a verdict, as far as it is used here; any error: it is not."""
    covered, parts = known["coverage"], known["modalities"]
    numbers = [known["mds"], known["threshold"], covered["judged_s"], covered["duration_s"]]
    numbers += known["seconds_spent"].values()
    numbers += [parts[head]["p_fake"] for head in ("video", "audio")]
    numbers += [span[end] for span in known["spans"] for end in ("start_s", "end_s")]
    checked_spans(known["proposals"], 3, VERDICT_FILE)
    return (
        (is_first(known) or is_answered(known))
        and all(type(number) in (int, float) for number in numbers)
        and isinstance(known["words"], list)
        and all(isinstance(text, str) for text in (known["file"], *known["words"]))
        and isinstance(known["identity"], dict)
    )


def is_answered(known: Any) -> bool:
    """Whether a verdict out of a file holds an answer; any error: it does not."""
    texts = [reason[key] for reason in known["reasons"] for key in ("code", "text")]
    texts += known["grounds"]
    return (
        known["verdict"] in VERDICT_WORDS
        and known["side"] in (ABOVE, BELOW)
        and all(isinstance(known[key], list) for key in ("reasons", "grounds"))
        and bool(known["reasons"])
        and all(isinstance(text, str) for text in texts)
        and is_offset(known["offset"])
        and isinstance(known["tracks"], list)
        and all(is_track(track) for track in known["tracks"])
    )


def is_track(known: Any) -> bool:
    """Whether what is said of a track is, as far as it is used here; any error: it is not."""
    return type(known["track"]) is int and type(known["speaks"]) is bool and is_offset(known["offset"])


def is_offset(known: Any) -> bool:
    """Whether a value out of a file is an offset, or None; any error: it is not."""
    return known is None or (
        all(type(known[figure]) in (int, float) for figure in OFFSET_FIGURES)
        and all(type(known[answer]) is bool for answer in OFFSET_ANSWERS)
    )


def is_first(known: Mapping[str, Any]) -> bool:
    """Whether a verdict is of a first version, which called videos fake or real: localize.py's own, but to be
    judged again.
    """
    return known["verdict"] in LABELS


def check_target(target: Path) -> None:
    """UserError if something else than a result of localize.py is where one is to be written."""
    if os.path.lexists(target) and read_verdict(target) is None:
        what = "exists and is no result of localize.py, which would take its place"
        raise UserError(f"{target} {what}; name another --out.")


def check_out(out: Path) -> None:
    """UserError if the tables over all videos would take the place of something else."""
    if os.path.lexists(out) and not out.is_dir():
        raise UserError(f"--out {out} is no folder.")
    is_ours = dict.fromkeys(
        (SUMMARY, PROPOSALS, OVERVIEW), has_header(out / SUMMARY, SUMMARY_COLUMNS, FIRST_COLUMNS)
    )
    is_ours[OFFSETS] = has_header(out / OFFSETS, OFFSET_COLUMNS)
    for name, known in is_ours.items():
        if os.path.lexists(out / name) and not known:
            what = "exists and was not written by localize.py, which would overwrite it"
            raise UserError(f"{out / name} {what}; name another --out.")


def has_header(path: Path, *headers: Sequence[str]) -> bool:
    """Whether a file is there and begins with one of the headers."""
    if not path.is_file():
        return False
    with read_text(path) as file:  # a spreadsheet may have kept it, with commas at the ends of lines
        return file.readline(1000).rstrip("\r\n,") in map(",".join, headers)


def still_holds(result: Verdict | Failure, asked: Identity) -> bool:
    """Whether a result of an earlier run is what another run would find, which may ask for less."""
    if result.get("version") != VERSION:
        return False
    known: Mapping[str, Any] = result["identity"]
    reasons = [] if result["verdict"] is None else result["reasons"]
    is_shaken = STRESS in [reason["code"] for reason in reasons]
    free = {"brief", "check_maps", "stress"} | ({"true_spans"} if asked["brief"] else set())
    is_same = all(known.get(key) == asked.get(key) for key in (known.keys() | asked.keys()) - free)
    return (
        is_same
        and known.get("brief") in (False, asked["brief"])
        and known.get("check_maps") in (True, asked["check_maps"])
        and (known.get("stress") == asked["stress"] or (known.get("stress") is True and not is_shaken))
    )


# one video


@dataclass(frozen=True)
class Judged:
    """What became of a video."""

    result: Verdict | Failure
    was_known: bool  # from an earlier run


def judge_one(
    judge: Judge, path: Path, name: str, target: Path, true_spans: Sequence | None
) -> Judged | None:
    """The verdict on a video, which is in its folder then, or why there is none. None: another run is at it.

    Raises:
        UserError: something else is in the place of the result, nothing can be written, or the model is of no
            use.
    """
    with claim(target) as work:
        if work is None:
            return None
        check_target(target)
        known, question = read_verdict(target), None
        try:
            question = judge.ask(path, name, true_spans)
            if known and still_holds(known, question.identity):
                return Judged(known, was_known=True)
            probe(path)
            verdict = judge.judge(question, new_folder(work / "result"), new_folder(work / "scratch"))
            put(verdict, work / "result", target, work)
            return Judged(verdict, was_known=False)
        except UserError:
            raise
        except Exception as error:  # whatever one odd video does, the others go on
            raise_if_all_fail(error, name, target)
            failure = failure_of(error, name)
            note_failure(failure, known, question, target, work)
            return Judged(failure, was_known=False)


@contextlib.contextmanager
def claim(target: Path) -> Iterator[Path | None]:
    """`claimed`, with a UserError if nothing can be written there."""
    with contextlib.ExitStack() as held:
        try:
            work = held.enter_context(claimed(target))
        except OSError as error:
            what = f"can't write to {target.parent} ({error.strerror})"
            raise UserError(f"{what}; name another --out, or mend it.") from error
        yield work


def new_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def put(result: Verdict | Failure, folder: Path, target: Path, work: Path) -> None:
    """Put a folder, with the result in it, in the place of the folder of an earlier one."""
    write_json(folder / VERDICT_FILE, dict(result))
    discard(target, work)
    os.replace(folder, target)


def raise_if_all_fail(error: Exception, name: str, target: Path) -> None:
    """UserError if other videos would fail for the same reason."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        raise UserError(
            f"can't write to {target}: {error.strerror}; mend it, then run this again."
        ) from error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        raise UserError(f"out of memory at {name}; try a lower --batch_size.") from error


def failure_of(error: Exception, name: str) -> Failure:
    """What is told of a video that can't be judged."""
    stage, reason = "unexpected", f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, VideoError):
        stage, reason = error.stage, str(error)
    return {"version": VERSION, "file": name, "verdict": None, "stage": stage, "reason": reason}


def note_failure(
    failure: Failure, known: Verdict | Failure | None, question: Question | None, target: Path, work: Path
) -> None:
    """Remember a failure that lasts, unless a verdict on the very same file is there; discard a result of
    another file of that name.
    """
    if question is None:  # the file can't be reached: what is known of it may still hold
        return
    is_of_another = known is not None and known["identity"].get("source") != question.identity["source"]
    if is_of_another:
        discard(target, work)
    if failure["stage"] in LASTING and (known is None or known["verdict"] is None or is_of_another):
        remembered: Failure = {**failure, "identity": question.identity}
        put(remembered, new_folder(work / "failure"), target, work)


# all videos


def write_results(out: Path, failed: Mapping[str, Failure], with_offsets: bool = False) -> None:
    """Write summary.csv and proposals.json of all results in `out`, and of the videos that could not be
    judged, now or before; for several videos summary.html, too, and offsets.csv if that is asked for.
    """
    verdicts = dict(all_results(out))
    results = verdicts | dict(failed)
    failed_before = [row for row in read_table(out / SUMMARY) if row.get("stage")]
    rows = {row["file"]: row for row in failed_before}
    rows |= {name: summary_row(name, result) for name, result in results.items()}
    table = in_columns(SUMMARY_COLUMNS, [row for _, row in sorted(rows.items())])
    write_table(out / SUMMARY, SUMMARY_COLUMNS, table)
    if len(table) > 1:
        write_overview(out, SUMMARY_COLUMNS, table)
    proposals = {
        name: result["proposals"] for name, result in verdicts.items() if result["verdict"] is not None
    }
    write_json(out / PROPOSALS, proposals)
    if with_offsets:
        write_offsets(out, results)


def write_offsets(out: Path, results: Mapping[str, Verdict | Failure]) -> None:
    """Write offsets.csv of results, and of videos that could not be judged before."""
    failed_before = [row for row in read_table(out / OFFSETS) if not row.get("track")]
    rows = {row["video"]: [row] for row in failed_before}
    rows |= {name: offset_rows(name, result) for name, result in results.items()}
    table = [row for _, of_video in sorted(rows.items()) for row in of_video]
    write_table(out / OFFSETS, OFFSET_COLUMNS, in_columns(OFFSET_COLUMNS, table))


def in_columns(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[list]:
    """Rows by column as lists; what a row lacks is empty."""
    return [[row.get(column, "") for column in columns] for row in rows]


def offset_rows(name: str, result: Verdict | Failure) -> list[dict[str, Any]]:
    """The rows of offsets.csv of one video, one for each track, or one that says why there is none."""
    if result["verdict"] is None:
        return [{"video": name, "reason": f"{result['stage']}: {result['reason']}"}]
    tracks = sorted(result["tracks"], key=lambda track: track["track"])
    return [offset_row(name, track) for track in tracks]


def offset_row(name: str, track: TrackVerdict) -> dict[str, Any]:
    """A row of offsets.csv."""
    whose = {"video": name, "track": track["track"], "speaks": yes_no(track["speaks"])}
    if (offset := track["offset"]) is None:
        return whose | {"reason": "too little sound to move"}
    found: Mapping[str, Any] = offset
    figures = {column: found[column] for column in OFFSET_FIGURES}
    if offset["judged_s"] < MIN_SECONDS:
        whose |= {"reason": f"less than {MIN_SECONDS} seconds: the offset means nothing"}
    return whose | figures | {column: yes_no(found[column]) for column in OFFSET_ANSWERS}


def yes_no(is_so: bool) -> str:
    return "yes" if is_so else "no"


def all_results(out: Path) -> Iterator[tuple[str, Verdict | Failure]]:
    """The results below a folder, by the names of their folders; none of another version."""
    for folder, subfolders, files in os.walk(out):
        subfolders[:] = sorted(subfolder for subfolder in subfolders if not subfolder.startswith("."))
        if VERDICT_FILE in files and (result := read_verdict(Path(folder))):
            subfolders.clear()
            if result.get("version") == VERSION:
                yield Path(os.path.relpath(folder, out)).as_posix(), result


def summary_row(name: str, result: Verdict | Failure) -> dict[str, Any]:
    """A row of summary.csv."""
    if result["verdict"] is None:
        return {"file": name, "stage": result["stage"], "reason": result["reason"]}
    parts, covered = result["modalities"], result["coverage"]
    return {
        "file": name,
        "verdict": result["verdict"],
        "reasons": " ".join(reason["code"] for reason in result["reasons"]),
        "side": result["side"],
        "mds": f"{result['mds']:.6g}",
        "threshold": f"{result['threshold']:.6g}",
        "spans": "; ".join(f"{span['start_s']:.2f}-{span['end_s']:.2f}" for span in result["spans"]),
        "p_fake_video": f"{parts['video']['p_fake']:.4f}",
        "p_fake_audio": f"{parts['audio']['p_fake']:.4f}",
        "judged_s": covered["judged_s"],
        "duration_s": covered["duration_s"],
    }
