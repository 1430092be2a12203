"""DeepSpeak v2, from descriptions.

Traps: it comes as 25 zip files, so videos are found by their names, in any folder; the records of fakes name
recordings, not originals; the split is by person, and a face may come from the other one.

Sources: the paper (arXiv 2408.05366); the card of faridlab/deepspeak_v2 on Hugging Face; public programs that
read its tables, for their names, their columns and the names of videos.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from corpora.base import (
    Corpus,
    Entry,
    Listing,
    choice,
    no_doubles,
    register,
    relative,
    videos_below,
    wrong_root,
)
from utils.tables import Schema, read_table

REALS, FAKES, SPLIT_OF = "annotations-real.csv", "annotations-fake.csv", "annotations-split-def.csv"
OWN = "take the data set's own"
REAL_TABLE = Schema("video", ("video-file", "identity"), remedy=OWN)
FAKE_TABLE = Schema(
    "video",
    (
        *("video-file", "kind", "engine", "identity-source", "identity-target"),
        *("recording-target", "audio-config"),
    ),
    remedy=OWN,
)
SPLIT_TABLE = Schema("person", ("identity", "split"), remedy=OWN)
SPLITS = {"train": "train", "val": "val", "test": "test"}


def read_deepspeak(root: Path) -> Listing:
    """annotations-real.csv, annotations-fake.csv and, for its own split, annotations-split-def.csv; the
    videos <identity>-<recording>.mp4 and <engine>-<source recording>-<target recording>[-<audio>].mp4 in any
    folder below.
    """
    if not all((root / name).is_file() for name in (REALS, FAKES)):
        raise wrong_root(root, f"{REALS}, {FAKES} and {SPLIT_OF} beside the unpacked videos")
    listing, split_of = Listing(), splits_of_people(root / SPLIT_OF)
    on_disk = defaultdict(list)
    for path in videos_below(root):
        on_disk[path.name].append(path)
    for path, file, row in rows_of(root):
        places = on_disk.get(file)
        if not places:
            part = row.get("engine") or "real"
            listing.miss(file, part, f"in {path.name}, but not on the disk")
            continue
        if len(places) > 1:
            listing.notes.append(f"{file} is there {len(places)} times: taken once, from {places[0].parent}")
        name = places[0].relative_to(root).as_posix()
        if path.name == REALS:
            person = row["identity"]
            entry = Entry(
                name, places[0], "real", split_of.get(person, ""), identity=tuple(filter(None, (person,)))
            )
        else:
            entry = fake_entry(name, places[0], row, split_of, original_beside(row, on_disk, root))
        listing.entries.append(entry)
    return listing


def rows_of(root: Path) -> Iterator[tuple[Path, str, dict[str, str]]]:
    """The table that holds a record, the file that it names, the record."""
    for name, schema in ((REALS, REAL_TABLE), (FAKES, FAKE_TABLE)):
        path = root / name
        rows = read_table(path, schema)
        files = [Path(relative(row["video-file"], path)).name for row in rows]
        files = [file if Path(file).suffix else f"{file}.mp4" for file in files]
        no_doubles(files, path)
        yield from ((path, file, row) for file, row in zip(files, rows, strict=True))


def splits_of_people(path: Path) -> dict[str, str]:
    """The split of each person; none if the data set's file is not there."""
    if not path.is_file():
        return {}
    rows = read_table(path, SPLIT_TABLE)
    no_doubles((row["identity"] for row in rows), path)
    return {row["identity"]: choice(row, "split", SPLITS, f"{path}: {row['identity']}") for row in rows}


def original_beside(row: dict[str, str], on_disk: dict[str, list[Path]], root: Path) -> str:
    """The name of the recording that a fake was made from; its file's alone if that is not there."""
    file = f"{row['identity-target']}-{row['recording-target']}.mp4"
    return on_disk[file][0].relative_to(root).as_posix() if file in on_disk else file


def fake_entry(
    name: str, source: Path, row: dict[str, str], split_of: dict[str, str], original: str
) -> Entry:
    """A fake goes to the split of who is to be seen; its sound is fake if a voice engine is named."""
    voice = row["audio-config"].lower()
    is_cloned = voice not in ("", "real")
    return Entry(
        name,
        source,
        "fake",
        split_of.get(row["identity-target"], ""),
        original=original,
        identity=tuple(sorted({row["identity-source"], row["identity-target"]} - {""})),
        manipulation="both" if is_cloned else "video",
        method="+".join([row["engine"], voice] if is_cloned else [row["engine"]]),
        category=row["kind"],
    )


def looks_like_deepspeak(root: Path) -> bool:
    return (root / FAKES).is_file()


register(Corpus("deepspeak", read_deepspeak, looks_like_deepspeak, from_descriptions=True))
