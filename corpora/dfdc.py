"""DFDC, Kaggle's Deepfake Detection Challenge, and its public test set.

Traps: the parts' folders are spelt in two ways, their zip files often lie beside them, a root may be one
part, fakes may name an original that is in no list; the test set's records have is_fake in place of label.
"""

import re
from pathlib import Path

from corpora.base import Corpus, Entry, Listing, OnDisk, choice, records_of, register, wrong_root
from utils.cli import UserError
from utils.constants import SPLITS

PART = re.compile(r"dfdc_train_part_0*(\d+)")
RECORDS = "metadata.json"
EXPECTED = '{"name.mp4": {"label": "FAKE", "original": "..."}, ...}'
AUTHORS_LISTS = {split: Path(__file__).parent.parent / f"{split}_list.txt" for split in SPLITS}


def read_dfdc(root: Path) -> Listing:
    """`dfdc_train_part_<n>/` (or `_0<n>`), each with metadata.json; zip files beside them are named, not
    read. A folder with a metadata.json of its own is read too, such as the public test set's.
    """
    is_part = (root / RECORDS).is_file()
    folders = [root] if is_part else sorted(path.parent for path in root.glob(f"*/{RECORDS}"))
    if not folders:
        raise wrong_root(root, f"dfdc_train_part_<n>/{RECORDS}")
    listing, on_disk = Listing(own_test="the public test set"), OnDisk()
    if zips := packed_parts(root, folders):
        listing.notes.append(f"zip files that are not unpacked: {', '.join(zips)}")
    check_spellings(root, folders)
    for folder in folders:
        own_name = folder.resolve().name
        prefix = f"{own_name}/" if PART.fullmatch(own_name) or not is_part else ""
        read_part(folder, prefix, listing, on_disk)
    if not all(entry.split for entry in listing.entries):
        listing.lists = AUTHORS_LISTS
    return listing


def packed_parts(root: Path, folders: list[Path]) -> list[str]:
    """The zip files of parts that have no folder."""
    parts = {match[1] for folder in folders if (match := PART.fullmatch(folder.name))}
    zips = [(path.name, PART.fullmatch(path.stem)) for path in root.glob("*.zip")]
    return sorted(name for name, match in zips if match and match[1] not in parts)


def check_spellings(root: Path, folders: list[Path]) -> None:
    """UserError if a part is there in both spellings."""
    seen: dict[str, str] = {}
    for folder in folders:
        part = PART.fullmatch(folder.resolve().name)
        if part and seen.setdefault(part[1], folder.name) != folder.name:
            twice = f"{seen[part[1]]} and {folder.name}"
            raise UserError(f"{root} has part {part[1]} twice, {twice}; move one of them away.")


def read_part(folder: Path, prefix: str, listing: Listing, on_disk: OnDisk) -> None:
    """Add the videos of a folder, whose names get the prefix."""
    path = folder / RECORDS
    for file, record in records_of(path, EXPECTED, dict):
        where, name = f"{path}: {file}", f"{prefix}{file}"
        if "is_fake" in record:
            label, split = choice(record, "is_fake", {0: "real", 1: "fake"}, where), "test"
        else:
            label, split = choice(record, "label", {"real": "real", "fake": "fake"}, where), ""
        if folder / file not in on_disk:
            listing.miss(name, folder.name, f"in {RECORDS}, but not on the disk")
            continue
        original = record.get("original")
        has_original = label == "fake" and isinstance(original, str) and original
        origin = f"{prefix}{original}" if has_original else ""
        listing.entries.append(Entry(name, folder / file, label, split, origin))


def listed_in_part(line: str) -> tuple[str, str]:
    """`Corpus.listed`: the authors' `video.dfdc_train_part_03` is the file `video` of dfdc_train_part_3/, or
    of _03/.
    """
    video, _, part = line.rpartition(".")
    folder, _, file = line.rpartition("/")
    if video and (match := PART.fullmatch(part)):
        return f"part {match[1]}/{video}", part
    if match := PART.fullmatch(folder):
        return f"part {match[1]}/{file}", folder
    return line, line.partition("/")[0]


def looks_like_dfdc(root: Path) -> bool:
    return any(PART.fullmatch(path.name.removesuffix(".zip")) for path in root.glob("dfdc_train_part_*"))


register(Corpus("dfdc", read_dfdc, looks_like_dfdc, listed=listed_in_part))
