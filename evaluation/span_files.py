"""Proposals and true spans out of files, and which of them belong together."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from utils.cli import UserError
from utils.constants import LABELS
from utils.jsonfiles import cell_spans, checked_spans, read_json
from utils.tables import Schema, read_table

LABEL_FIELDS = ("fake_periods", "fake_segments")  # of LAV-DF, of AV-Deepfake1M
EXPECTED = f"a list of records with file and {' or '.join(LABEL_FIELDS)}"
SPAN_INDEX = Schema("video", ("file", "label", "fake_periods"), remedy="name an index.csv of collect.py")


def read_proposals(path: Path) -> dict[str, list[list[float]]]:
    """Read proposals: a JSON object {file: [[score, begin_s, end_s], ...]}; UserError for anything else."""
    expected = '{"file": [[score, begin_s, end_s], ...], ...}'
    value = read_json(path, expected)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, expected an object {expected}.")
    return {file: checked_spans(spans, 3, f"{path}: {file}") for file, spans in value.items()}


def read_labels(path: Path, split: str | None = None) -> dict[str, list[list[float]]]:
    """Read true spans: a JSON list of records with `file` and `fake_periods` (LAV-DF) or `fake_segments`
    (AV-Deepfake1M), each a list of [begin_s, end_s]; of those whose field `split` is `split`, if one is
    given. Or an index.csv of collect.py, in which videos of unknown periods are left out. UserError for
    anything else.
    """
    if path.suffix == ".csv":
        return read_index_labels(path)
    records = read_json(path, EXPECTED)
    if not isinstance(records, list) or not records:
        held = f"a {type(records).__name__}" if records else "nothing"
        raise UserError(f"{path} holds {held}, expected {EXPECTED}.")
    labels, splits = {}, set()
    for i, record in enumerate(records):
        fields = [name for name in LABEL_FIELDS if name in record] if isinstance(record, dict) else []
        if not fields or not isinstance(record.get("file"), str):
            raise UserError(f"{path}: record {i} is {str(record)[:80]}, expected {EXPECTED}.")
        if record["file"] in labels:
            raise UserError(f"{path}: {record['file']} is there twice, expected one record per file.")
        spans = checked_spans(record[fields[0]], 2, f"{path}: {record['file']}")
        splits.add(str(record.get("split")))
        if split in (None, record.get("split")):
            labels[record["file"]] = spans
    if not labels:
        raise UserError(f"{path} has no record of the split {split!r}; it has {', '.join(sorted(splits))}.")
    return labels


def name_as_labelled(files: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """The labels' name of each file that has one.

    That is the same name, else the longest one that the file's path ends with ("/data/test/fake/a.mp4":
    "test/fake/a.mp4"), else the only one that ends with the file's name ("a.mp4": "test/fake/a.mp4"). Where
    several files would have one name so, none of them has it, but the one of the same name.
    """
    known = set(labels)
    longer: dict[str, list[str]] = {}  # by each tail of theirs
    for name in known:
        for tail in tails(name)[1:]:
            longer.setdefault(tail, []).append(name)
    names = {}
    for file in files:
        found = [tail for tail in tails(file) if tail in known][:1] or longer.get(file, [])
        if len(found) == 1:
            names[file] = found[0]
    n_files = Counter(names.values())
    return {file: name for file, name in names.items() if file == name or n_files[name] == 1}


def tails(name: str) -> list[str]:
    """A path with "/" and what is left of it without its first part, its first two, ..."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def read_index_labels(path: Path) -> dict[str, list[list[float]]]:
    """True spans of the videos of an index.csv, by `file`; UserError if it holds none."""
    labels = {}
    for row in read_table(path, SPAN_INDEX):
        where = f"{path}: {row['file']}"
        spans = cell_spans(row["fake_periods"], where)
        if spans is not None or row["label"] == str(LABELS["real"]):
            labels[row["file"]] = spans or []
    return labels
