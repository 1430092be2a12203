"""Where the videos of a data set go: <out_dir>/<split>/<label>/<name>, as links or copies, and index.csv.

What is there already stays, what an earlier run put there and this one does not is taken away, and what this
project did not make is never touched.
"""

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from corpora.base import Entry, Missing
from corpora.splits import periods_text
from utils.cli import UserError
from utils.constants import LABELS, SPLITS
from utils.files import replacing
from utils.listing import is_video_name
from utils.tables import read_table, write_table

LINKS = ("sym", "hard", "copy")
INDEX = "index.csv"
COLUMNS = (
    *("video", "label", "file", "source_file", "original", "identity"),
    *("manipulation", "method", "category", "source"),
    *("fake_periods", "fps", "duration_s", "has_audio"),
)
MAX_NAME = 180  # of a laid-out file, in bytes; longer ones end in a hash


def laid_out_names(entries: Iterable[Entry]) -> dict[str, str]:
    """A file name for each entry, by its name: the path with "__" for "/", unique also without its suffix."""
    flat = {entry.name: flat_name(entry) for entry in entries}
    n_of_stem = Counter(stem.lower() for stem, _ in flat.values())
    whole = {f"{stem}{suffix}".lower() for stem, suffix in flat.values()}
    n_of_stem.update(whole & n_of_stem.keys())
    names = {}
    for name, (stem, suffix) in flat.items():
        is_long = len(os.fsencode(stem)) > MAX_NAME
        if n_of_stem[stem.lower()] > 1 or is_long:
            begin = os.fsdecode(os.fsencode(stem)[:MAX_NAME])
            stem = f"{begin}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:10]}"
        names[name] = stem + suffix
    return names


def flat_name(entry: Entry) -> tuple[str, str]:
    """The path of an entry with "__" for "/", in two: what comes before the suffix of the file, and that."""
    stem, suffix = os.path.splitext(entry.name.replace("/", "__"))
    if not re.fullmatch(r"\.\w{1,5}", suffix):
        stem, suffix = stem + suffix, ""
    return stem, ".mkv" if entry.sound or not suffix else suffix


def place(entry: Entry, target: Path, link: str, is_ours: bool) -> bool:
    """Put a video in its place unless it is there; whether that had to be done.

    Args:
        is_ours: whether what is in that place was put there by this project.

    Raises:
        UserError: something else is there, or it can't be written. ValueError: the source can't be read.
    """
    source = Path(os.path.abspath(entry.source))
    if not source.exists():
        raise ValueError(f"{source} is a link to nothing")
    if is_in_place(entry, source, target, link, is_ours):
        return False
    if os.path.lexists(target) and not is_ours:
        wrong = f"{target} is there and was not made by collect.py"
        raise UserError(f"{wrong}; move it away, or name another --out_dir.")
    with replacing(target) as partial:
        if entry.sound is not None:
            from corpora.remux import remux  # here, since what it imports takes a second

            remux(entry.source, entry.sound, partial, entry.fps)
        elif link == "sym":
            os.symlink(source, partial)
        elif link == "hard":
            os.link(source.resolve(), partial)
        else:
            shutil.copyfile(source, partial)
    return True


def is_in_place(entry: Entry, source: Path, target: Path, link: str, is_ours: bool) -> bool:
    """Whether a video is laid out as it should be."""
    if entry.sound is None and link == "sym":
        return target.is_symlink() and os.readlink(target) == str(source)
    if not is_ours or not target.is_file() or target.is_symlink():
        return False
    if entry.sound is not None:
        return True
    known, now = target.stat(), source.stat()
    is_same_file = (known.st_ino, known.st_dev) == (now.st_ino, now.st_dev)
    return known.st_size == now.st_size and is_same_file == (link == "hard")


@dataclass
class LaidOut:
    """What came of laying out."""

    n_placed: int = 0  # videos that were not there before
    failed: dict[str, Missing] = field(default_factory=dict)  # those that can't be read, by name
    notes: list[str] = field(default_factory=list)  # of files that are in the way


class Layout:
    """The places of all videos of a data set below `out_dir`."""

    def __init__(self, entries: Sequence[Entry], out_dir: Path, dataset: str, link: str):
        self.out_dir, self.dataset, self.link = out_dir, dataset, link
        self._names = laid_out_names(entries)
        self._labels = {entry.name: entry.label for entry in entries}

    def file_of(self, entry: Entry) -> str:
        """Where a video goes, below the folder of its split."""
        return f"{entry.label}/{self._names[entry.name]}"

    def video_of(self, name: str) -> str:
        """What other scripts call the video of a name; empty if that is."""
        if not name:
            return ""
        # an original that is not there still keeps its fakes together
        file = self._names.get(name, name.replace("/", "__"))
        return f"{self._labels.get(name, 'real')}/{os.path.splitext(file)[0]}"

    def write_index(self, split: str, entries: Iterable[Entry]) -> None:
        ordered = sorted(entries, key=lambda entry: (entry.label, entry.name))
        write_table(self.out_dir / split / INDEX, COLUMNS, map(self.index_row, ordered))

    def index_row(self, entry: Entry) -> tuple:
        """The cells of `COLUMNS`."""
        known = (entry.fps, entry.duration_s, entry.has_audio)
        return (
            self.video_of(entry.name),
            LABELS[entry.label],
            self.file_of(entry),
            os.path.abspath(entry.source),
            self.video_of(entry.original),
            ";".join(entry.identity),
            entry.manipulation,
            entry.method,
            entry.category,
            self.dataset,
            periods_text(entry.fake_periods),
            *("" if value is None else value for value in known),
        )

    def make_room(self, split: str, entries: Iterable[Entry]) -> set[str]:
        """Make the folders of a split and take away what an earlier run put there and this one does not; what
        earlier runs put there, by its index.

        Raises:
            UserError: what is to go is no link, or a folder is one.
        """
        folder = self.out_dir / split
        for label in LABELS:
            if (folder / label).is_symlink():
                wrong = "is a link; what is laid out must not go into another folder"
                raise UserError(f"{folder / label} {wrong}. Remove it.")
            (folder / label).mkdir(parents=True, exist_ok=True)
        listed = {row.get("file", "") for row in read_table(folder / INDEX)}
        ours = {file for file in listed if is_ours(file)}
        for file in sorted(ours - set(map(self.file_of, entries))):
            path = folder / file
            if path.is_symlink():
                path.unlink()
            elif path.exists():
                wrong = f"{path} is of an earlier split and no link"
                raise UserError(f"{wrong}; delete {folder} or name another --out_dir.")
        return ours

    def others(self, split: str, entries: Iterable[Entry]) -> list[str]:
        """Files of a split's folder that do not belong to it."""
        placed, folder = set(map(self.file_of, entries)), self.out_dir / split
        files = [f"{label}/{file}" for label in LABELS for file in sorted(os.listdir(folder / label))]
        return [file for file in files if file not in placed and not file.partition("/")[2].startswith(".")]


def is_ours(file: str) -> bool:
    """Whether a path out of an index is of the form that laying out gives: an index may be from strangers."""
    label, _, name = file.partition("/")
    return label in LABELS and "/" not in name and name not in ("", ".", "..")


def lay_out(splits: dict[str, list[Entry]], layout: Layout) -> LaidOut:
    """Put all videos in place and write index.csv of each split; take away what an earlier run put there and
    this one does not.

    Raises:
        UserError: files are in the way that this project did not make.
    """
    done, ours = LaidOut(), {}
    for split, entries in splits.items():
        ours[split] = layout.make_room(split, entries)
        # before the videos, so that what a killed run has put in place is known
        layout.write_index(split, entries)
    with tqdm(total=sum(map(len, splits.values())), unit="video", desc="laying out") as progress:
        for split, entries in splits.items():
            for entry in entries:
                file = layout.file_of(entry)
                target = layout.out_dir / split / file
                try:
                    done.n_placed += place(entry, target, layout.link, file in ours[split])
                except ValueError as error:  # the others go on
                    done.failed[entry.name] = Missing(entry.name, split, str(error))
                progress.update()
            if done.failed:
                layout.write_index(split, [entry for entry in entries if entry.name not in done.failed])
            if others := layout.others(split, entries):
                words = f"{len(others)} files in {layout.out_dir / split} are not of this split"
                which = f"the first {others[0]}; pre-process.py takes them too, so delete what is not meant"
                done.notes.append(f"{words}, {which}")
    return done


def check_place(out_dir: Path, root: Path, entries: Sequence[Entry], dataset: str) -> None:
    """UserError if what is laid out would lie among the videos of the data set, or among those of others."""
    folders = {os.path.realpath(entry.source.parent) for entry in entries}
    targets = {Path(os.path.realpath(out_dir / split)) for split in SPLITS}
    inside = sorted(folder for folder in folders if targets & {Path(folder), *Path(folder).parents})
    if inside or os.path.realpath(out_dir) == os.path.realpath(root):
        wrong = f"train/ and test/ would be among the videos in {inside[0] if inside else root}"
        raise UserError(f"--out_dir {out_dir}: {wrong}; name another --out_dir.")
    for split in SPLITS:
        check_split_folder(out_dir / split, dataset)


def check_split_folder(folder: Path, dataset: str) -> None:
    """UserError if the folder of a split holds another data set, or videos from elsewhere."""
    sources = {row.get("source") or dataset for row in read_table(folder / INDEX)}
    if others := sorted(sources - {dataset}):
        mixed = f"with which {dataset} would be mixed, or whose place it would take"
        raise UserError(f"{folder} holds the data set {', '.join(others)}, {mixed}; name another --out_dir.")
    if (folder / INDEX).exists():
        return
    files = [
        path for label in LABELS for path in sorted((folder / label).glob("*")) if is_video_name(path.name)
    ]
    if files:
        count = f"videos of that kind in {folder}: {len(files)}"
        wrong = f"{files[0]} was not made by collect.py"
        raise UserError(f"{wrong}; move it away, or name another --out_dir ({count}).")
