"""What people have: videos in folders named by label, or a table of videos.

Traps: folders spelt Real/ or FAKE/, files between the videos that are none.
"""

from pathlib import Path

from corpora.base import (
    Corpus,
    Entry,
    Listing,
    OnDisk,
    as_said,
    choice,
    no_doubles,
    register,
    relative,
    wrong_root,
)
from utils.cli import UserError
from utils.constants import LABELS, SPLITS
from utils.jsonfiles import cell_spans
from utils.listing import is_system_file, is_video_name, left_out_words, to_rename, walk
from utils.tables import Schema, read_table

TABLE = Schema("video", ("file", "label"), "see the README on what the table holds")
MAY_HAVE = ("split", "original", "identity", "manipulation", "method", "category", "fake_periods")
OWN_SPLITS = as_said("", "train", "dev", "val", "test")
EXPECTED = "real/ and fake/, train/ and test/ with these in them, or a CSV file with file and label"


def read_folder(root: Path) -> Listing:
    """real/ and fake/, or train/ and test/ with these in them, searched to any depth; or a CSV file with the
    columns file (below the CSV's folder) and label (real or fake), and perhaps split and other columns of the
    index.
    """
    return read_videos_table(root) if root.is_file() else read_tree(root)


def read_videos_table(path: Path) -> Listing:
    listing, on_disk = Listing(), OnDisk()
    rows = read_table(path, TABLE)
    no_doubles((row["file"] for row in rows), path)
    for row in rows:
        name = relative(row["file"], path)
        where = f"{path}: {name}"
        label = choice(row, "label", as_said(*LABELS), where)
        if path.parent / name not in on_disk:
            listing.miss(name, "", f"in {path.name}, but not on the disk")
            continue
        row = dict.fromkeys(MAY_HAVE, "") | row
        choice(row, "split", OWN_SPLITS, where)
        entry = Entry(
            name,
            path.parent / name,
            label,
            row["split"],
            original=row["original"],
            manipulation=row["manipulation"],
            method=row["method"],
            category=row["category"],
            identity=tuple(filter(None, row["identity"].split(";"))),
            fake_periods=cell_spans(row["fake_periods"], where),
        )
        listing.entries.append(entry)
    return listing


def read_tree(root: Path) -> Listing:
    splits = [split for split in SPLITS if looks_like_folder(root / split)]
    renamed = ", ".join(filter(None, (to_rename(root / split) for split in (".", *SPLITS))))
    if not splits and not looks_like_folder(root):
        if renamed:
            raise UserError(f"--root {root}: {renamed}; expected real/ and fake/.")
        raise wrong_root(root, EXPECTED)
    listing = Listing()
    if renamed:
        listing.notes.append(f"{renamed}, or its videos are left out")
    others: list[str] = []
    for split in splits or [""]:
        for label in LABELS:
            others += add_videos(root, split, label, listing)
    if others:
        listing.notes.append(left_out_words(others))
    return listing


def add_videos(root: Path, split: str, label: str, listing: Listing) -> list[str]:
    """Add the videos of a label; the names of files that are none."""
    folder, others = root / split / label, []
    for inner, _, files in walk(folder) if folder.is_dir() else ():
        for path in (Path(inner, file) for file in files):
            name = path.relative_to(root).as_posix()
            if is_video_name(path.name):
                listing.entries.append(Entry(name, path, label, split))
            elif not is_system_file(path.name):
                others.append(name)
    return others


def looks_like_folder(root: Path) -> bool:
    return any((root / label).is_dir() for label in LABELS)


register(Corpus("folder", read_folder, looks_like_folder))
