"""MAVOS-DD, several languages, an open set, from descriptions.

Traps: the records are an Arrow file, to be written as a table first; later releases have more columns; new
methods and new languages are tested beside the known ones, which have most of the real videos.

Sources: the paper (arXiv 2505.11109), for the four test sets; public programs that load unibuc-cs/MAVOS-DD of
Hugging Face, for the columns and how the test sets follow from them.
"""

from collections.abc import Callable
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
from utils.tables import Schema, read_table

RECORDS = "metadata.csv"
COLUMNS = ("video_path", "label", "split", "language", "generative_method")
TABLE = Schema("video", (*COLUMNS, "open_set_model", "open_set_language"), remedy="write it again")
SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
FLAGS = {"true": "yes", "false": "", "1": "yes", "0": ""}
MANIPULATIONS = {("yes", ""): "video", ("", "yes"): "audio", ("yes", "yes"): "both"}
# which test videos are taken, by whether their method and their language are new
TEST_SETS: dict[str, Callable[[str, str], bool]] = {
    "all": lambda model, language: True,
    "closed": lambda model, language: not (model or language),
    "open_model": lambda model, language: not language,
    "open_language": lambda model, language: not model,
}
TEST_SET = {
    "choices": tuple(TEST_SETS),
    "default": "all",
    "help": "of mavosdd: test videos without new methods and languages, with new methods, with new languages",
}


def read_mavosdd(root: Path, test_set: str = "all") -> Listing:
    """metadata.csv with the columns of the data set's Arrow file, and <language>/<method>/<video>.mp4."""
    path, listing, on_disk = root / RECORDS, Listing(), OnDisk()
    if not path.is_file():
        if any(root.glob("data-*.arrow")):
            written = f"datasets.load_from_disk('{root}').to_csv('{path}')"
            raise UserError(f"{path} is not there; write it with Hugging Face's datasets: {written}.")
        raise wrong_root(root, f"{RECORDS} beside folders by language")
    rows = read_table(path, TABLE)
    names = [relative(row["video_path"], path) for row in rows]
    no_doubles(names, path)
    for name, row in zip(names, rows, strict=True):
        where = f"{path}: {name}"
        label = choice(row, "label", as_said("real", "fake"), where)
        split = choice(row, "split", SPLITS, where)
        model, language = (choice(row, f"open_set_{of}", FLAGS, where) for of in ("model", "language"))
        if split == "test" and not TEST_SETS[test_set](model, language):
            continue
        if root / name not in on_disk:
            listing.miss(name, row["language"], f"in {RECORDS}, but not on the disk")
            continue
        entry = Entry(
            name,
            root / name,
            label,
            split,
            manipulation=manipulation_of(row, where) if label == "fake" else "",
            method="+".join(methods_of(row)) if label == "fake" else "",
            category=row["language"],
        )
        listing.entries.append(entry)
    return listing


def manipulation_of(row: dict[str, str], where: str) -> str:
    """What was changed; empty if the release does not say."""
    if "video_fake" not in row or "audio_fake" not in row:
        return ""
    changed = tuple(choice(row, f"{of}_fake", FLAGS, where) for of in ("video", "audio"))
    if changed not in MANIPULATIONS:
        raise UserError(f"{where} is fake, but neither video_fake nor audio_fake; expected one of them.")
    return MANIPULATIONS[changed]


def methods_of(row: dict[str, str]) -> list[str]:
    """What made the picture and what the voice; a real picture with a voice that was made has the latter."""
    methods = (row["generative_method"], row.get("audio_generative_method", ""))
    return [method for method in dict.fromkeys(methods) if method.lower() not in ("", "real", "none")]


def looks_like_mavosdd(root: Path) -> bool:
    return (root / RECORDS).is_file() or any(root.glob("data-*.arrow"))


register(
    Corpus("mavosdd", read_mavosdd, looks_like_mavosdd, flags={"test_set": TEST_SET}, from_descriptions=True)
)
