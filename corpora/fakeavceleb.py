"""FakeAVCeleb.

Traps: the last column of meta_data.csv has no name, and `path` is the file's name alone; the folders of races
are spelt differently from release to release and from type to type; some files are listed twice.
"""

from dataclasses import replace
from pathlib import Path

from corpora.base import (
    SOURCE_FPS,
    Corpus,
    Entry,
    Listing,
    OnDisk,
    plain_spelling,
    register,
    relative,
    wrong_root,
)
from utils.cli import UserError
from utils.tables import Schema, read_rows

RECORDS = "meta_data.csv"
HEADER = ["source", "target1", "target2", "method", "category", "type", "race", "gender", "path", ""]
TABLE = Schema("video", remedy="take the data set's own")
REAL = "RealVideo-RealAudio"
TYPES = {  # category, label, manipulation
    REAL: ("A", "real", ""),
    "RealVideo-FakeAudio": ("B", "fake", "audio"),
    "FakeVideo-RealAudio": ("C", "fake", "video"),
    "FakeVideo-FakeAudio": ("D", "fake", "both"),
}


def read_fakeavceleb(root: Path) -> Listing:
    """meta_data.csv, whose column `path` is the file's name and whose last column, without a name, is its
    folder.
    """
    path, listing, on_disk = table_of(root), Listing(), OnDisk()
    root = path.parent
    rows = read_rows(path, TABLE)
    _, header = next(rows)
    if header != HEADER:
        expected = f"{', '.join(HEADER)} and one without a name"
        raise UserError(f"{path} has the columns {', '.join(header)}, expected {expected}.")
    folders = [inner for kind in TYPES for inner in (root / kind).glob("*") if inner.is_dir()]
    spelt = {(inner.parent.name, plain_spelling(inner.name)): inner.name for inner in folders}
    methods: dict[str, str] = {}  # by the names of videos
    real: dict[str, str] = {}  # names of real videos, missing ones too, by their plain spelling
    for line, cells in rows:
        record = dict(zip(HEADER, cells, strict=True))
        folder = folder_of(record, spelt, f"{path}: line {line}")
        name = f"{folder}/{relative(record['path'], path)}"
        if name in methods:
            both = f"as {methods[name]} and as {record['method']}"
            listing.notes.append(f"{name} is there twice, {both}: taken once, as the first")
            continue
        methods[name] = record["method"]
        if record["type"] == REAL:
            real[plain_path(name)] = name
        if root / name in on_disk:
            listing.entries.append(celeb_entry(record, folder, name, root / name))
        else:
            listing.miss(name, record["type"], f"in {RECORDS}, but not on the disk")
    originals = [real.get(plain_path(entry.original), entry.original) for entry in listing.entries]
    pairs = zip(listing.entries, originals, strict=True)
    listing.entries = [replace(entry, original=original) for entry, original in pairs]
    return listing


def table_of(root: Path) -> Path:
    """meta_data.csv in the root, or in the only folder FakeAVCeleb* of it."""
    path, inner = root / RECORDS, sorted(root.glob(f"FakeAVCeleb*/{RECORDS}"))
    if not path.is_file() and len(inner) == 1:
        path = inner[0]
    if not path.is_file():
        raise wrong_root(root, f"{RECORDS} beside {REAL}/")
    return path


def plain_path(name: str) -> str:
    return "/".join(map(plain_spelling, name.split("/")))


def folder_of(record: dict[str, str], spelt: dict[tuple[str, str], str], where: str) -> str:
    """The folder of a video below the root, without FakeAVCeleb/ or FakeAVCeleb_v1.2/, its race as the folder
    on the disk is spelt.
    """
    kind, folder = record["type"], record[""]
    parts = relative(folder, where).split("/")
    if kind not in TYPES or kind not in parts[:-1]:
        expected = f"expected one of {', '.join(TYPES)} in both"
        raise UserError(f"{where} has the type {kind!r} and the folder {folder!r}, {expected}.")
    _, race, *rest = parts[parts.index(kind) :]
    return "/".join([kind, spelt.get((kind, plain_spelling(race)), race), *rest])


def celeb_entry(record: dict[str, str], folder: str, name: str, source: Path) -> Entry:
    """A video; the original of a fake is as its own folder is spelt."""
    category, label, manipulation = TYPES[record["type"]]
    people = {record[key] for key in ("source", "target1", "target2")}
    who = tuple(sorted(person for person in people if person.strip("- ")))
    entry = Entry(name, source, label, identity=who, category=category, fps=SOURCE_FPS)
    if label == "real":
        return entry
    _, race, *rest = folder.split("/")
    clip = record["path"].split("_")[0].removesuffix(".mp4")
    original = "/".join([REAL, race, *rest[:-1], record["source"], f"{clip}.mp4"])
    return replace(entry, original=original, manipulation=manipulation, method=record["method"])


def looks_like_fakeavceleb(root: Path) -> bool:
    return (root / RECORDS).exists() or any(root.glob(f"FakeAVCeleb*/{RECORDS}"))


register(Corpus("fakeavceleb", read_fakeavceleb, looks_like_fakeavceleb))
