"""KoDF, the Korean DeepFake Detection Dataset, from descriptions.

Traps: it is given out twice, with folders by method and from AI-Hub, with Korean tables, whose folders differ
from archive to archive; AI-Hub has copies of videos, changed to mislead detectors, under the same names;
without the tables no fake names its original.

Sources: the paper (arXiv 2103.10094); preprocess/kodf/README.md of github.com/HanMoonSub/DeepGuard, for
methods and tables; public programs that read AI-Hub's archives, for columns, folders and the names of videos.
The folders of the other release, original_videos/ above all, are the least certain.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from corpora.base import (
    Corpus,
    Entry,
    Listing,
    folders_in,
    plain_spelling,
    register,
    relative,
    videos_below,
    wrong_root,
)
from utils.cli import UserError
from utils.listing import walk
from utils.tables import Schema, read_table

REALS = "original_videos"
METHODS = ("audio-driven", "dffs", "dfl", "fo", "fsgan")
MISLEADING = "탐지방해"  # in the name of the folder with copies that are to mislead detectors
KINDS = {plain_spelling(name): name for name in (REALS, *METHODS)}
# AI-Hub's tables are named <original or changed videos>_<split>_<metadata>.csv; the columns: the video; who
# is in it; of a fake the model, the video that was changed, who is in that, whose face it was given
REAL_TABLE, FAKE_TABLE = "원본영상", "변조영상"
VIDEO, PERSON, MODEL, ORIGINAL, TARGET, SOURCE = (
    "영상ID",
    "UUID",
    "변조모델",
    "타겟영상",
    "타겟UUID",
    "소스UUID",
)
COLUMNS = {REAL_TABLE: (VIDEO,), FAKE_TABLE: (VIDEO, MODEL)}
SPLITS = {"train": "train", "valid": "val", "test": "test"}  # by what the name of a table holds
REAL_NAME = re.compile(r"(?:\d{6}_)?(\w+?)_\d+")  # [<date>_]<person>_<number>


@dataclass(frozen=True)
class Record:
    """What is known of a video, by a table or by where it lies."""

    method: str  # empty: it is real
    identity: tuple[str, ...] = ()
    original: str = ""  # its file's name, without suffix
    split: str = ""
    table: str = ""


def read_kodf(root: Path) -> Listing:
    """original_videos/ and a folder for each method, searched to any depth; or AI-Hub's archives, unpacked
    anywhere, with the tables 원본영상_*.csv and 변조영상_*.csv.
    """
    records = read_tables(root)
    if not records and REALS not in folders_in(root, [REALS]):
        folders = ", ".join(f"{name}/" for name in (REALS, *METHODS))
        raise wrong_root(root, f"{folders}, or tables {REAL_TABLE}_*.csv and {FAKE_TABLE}_*.csv")
    listing, left_out = Listing(), Counter[str]()
    seen: dict[str, str] = {}  # names by the names of files without suffix
    for path in videos_below(root):
        name, stem = path.relative_to(root).as_posix(), path.stem
        record = records.get(stem) or record_of_place(path.relative_to(root))
        if MISLEADING in composed(name):
            left_out[f"in {MISLEADING}, copies that are to mislead detectors,"] += 1
        elif record is None:
            left_out["that lie in no table and in no folder of a method"] += 1
        elif stem in seen:
            listing.notes.append(f"{name} has the name of {seen[stem]}: taken once, as the first")
        else:
            seen[stem] = name
            listing.entries.append(kodf_entry(name, path, record))
    listing.notes += [f"{n} videos {why} are left out" for why, n in left_out.items()]
    for stem, record in records.items():
        if stem not in seen:
            listing.miss(stem, record.method or "original", f"in {record.table}, but not on the disk")
    if not all(entry.original for entry in listing.entries if entry.label == "fake"):
        listing.notes.append(
            "fakes without a record name no original; --group_by identity keeps people apart"
        )
    listing.entries = [replace(e, original=seen.get(e.original, e.original)) for e in listing.entries]
    return listing


def kodf_entry(name: str, source: Path, record: Record) -> Entry:
    return Entry(
        name,
        source,
        "fake" if record.method else "real",
        record.split,
        original=record.original,
        identity=record.identity,
        manipulation="video" if record.method else "",
        method=record.method,
    )


def composed(name: str) -> str:
    """A name with whole letters: the names of files from a Mac have theirs taken apart."""
    return unicodedata.normalize("NFC", name)


def read_tables(root: Path) -> dict[str, Record]:
    """The records of AI-Hub's tables below the root, by the names of files without suffix."""
    records: dict[str, Record] = {}
    for folder, _, files in walk(root) if root.is_dir() else ():
        for file in files:
            kind, _, rest = composed(file).partition("_")
            if kind in COLUMNS and rest.lower().endswith(".csv"):
                split = next((own for word, own in SPLITS.items() if word in rest.lower()), "")
                read_kodf_table(Path(folder, file), kind, split, records)
    return records


def read_kodf_table(path: Path, kind: str, split: str, records: dict[str, Record]) -> None:
    schema = Schema("video", COLUMNS[kind], remedy="take the data set's own")
    for row in read_table(path, schema):
        stem = Path(relative(row[VIDEO], path)).stem
        if stem in records:
            other = records[stem].table
            raise UserError(f"{path} names {stem}, and so does {other}; leave one record for each.")
        if kind == FAKE_TABLE and not row[MODEL]:
            raise UserError(f"{path}: {stem} has no {MODEL}, expected {', '.join(METHODS)}.")
        columns = (PERSON,) if kind == REAL_TABLE else (TARGET, SOURCE)
        who = tuple(sorted({row.get(column, "") for column in columns} - {""}))
        place = record_of_name(stem, row.get(MODEL, ""))
        original = row.get(ORIGINAL, "") if kind == FAKE_TABLE else ""
        records[stem] = replace(
            place, identity=who or place.identity, original=Path(original).stem, split=split, table=path.name
        )


def record_of_place(path: Path) -> Record | None:
    """What the folders of a video, and its name, say of it."""
    kinds = [KINDS[plain_spelling(part)] for part in path.parts[:-1] if plain_spelling(part) in KINDS]
    if not kinds:
        return None
    return record_of_name(path.stem, "" if kinds[0] == REALS else kinds[0])


def record_of_name(stem: str, method: str) -> Record:
    """Who is in a video: <target>_<source>_<method's number>_<number>, or see `REAL_NAME`."""
    if not method:
        match = REAL_NAME.fullmatch(stem)
        return Record("", (match[1],) if match else ())
    parts = stem.split("_")
    return Record(method, tuple(sorted(set(parts[:2]))) if len(parts) == 4 else ())


def looks_like_kodf(root: Path) -> bool:
    return len(folders_in(root, (REALS, *METHODS))) > 1


register(Corpus("kodf", read_kodf, looks_like_kodf, from_descriptions=True))
