"""What all data sets share: an entry for each video, the listing that a reader gives, checks, the registry.

A reader takes the root folder and gives a `Listing`: it reads the data set's own records, lists folders and
opens no video.  Each file beside this one that reads a data set names the traps that its reader knows.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from utils.cli import UserError
from utils.jsonfiles import read_json
from utils.listing import is_video_name, walk

SOURCE_FPS = 25.0  # of FakeAVCeleb, DF-TIMIT, LAV-DF and AV-Deepfake1M, by their descriptions


@dataclass(frozen=True)
class Entry:
    """One video of a data set."""

    name: str  # its path below the root, with "/", the suffix included; unique
    source: Path  # the file; of a sequence of JPEGs its folder
    label: str  # real or fake
    split: str = ""  # the data set's own (train, dev, val, test), empty if it has none
    original: str = ""  # name of the real video that a fake was made from, empty if unknown
    identity: tuple[str, ...] = ()  # who is to be seen or heard
    manipulation: str = ""  # what was changed: video, audio, both, or empty
    method: str = ""  # in the data set's own words
    category: str = ""  # in the data set's own words
    fake_periods: list[list[float]] | None = (
        None  # [[begin_s, end_s], ...], None if the data set does not say
    )
    fps: float | None = None
    duration_s: float | None = None
    has_audio: bool | None = None
    sound: Path | None = None  # a WAV file beside the source, which has no sound then


class Missing(NamedTuple):
    """A video that is not there, or can't be read: a row of missing.csv."""

    video: str  # as the records or the list name it
    part: str  # of the data set, by which missing videos are counted
    why: str


@dataclass
class Listing:
    """What a reader found below a root."""

    entries: list[Entry] = field(default_factory=list)  # the videos that are there
    missing: list[Missing] = field(default_factory=list)  # those that are named, and not there
    notes: list[str] = field(default_factory=list)  # what a person should know
    lists: dict[str, Path] = field(default_factory=dict)  # by split, taken where no others are given
    own_test: str = ""  # what its videos of the split test are called, if --split leaves them out
    n_wanted: int | None = None  # videos that lists ask for, there or missing; None: all of the data set

    def miss(self, video: str, part: str, why: str) -> None:
        self.missing.append(Missing(video, part, why))


def by_folder(line: str) -> tuple[str, str]:
    """`Corpus.listed` of most data sets: the path itself, and its first folder."""
    return line, line.partition("/")[0]


@dataclass(frozen=True)
class Corpus:
    """What collect.py knows of a data set."""

    name: str  # of --dataset
    read: Callable[..., Listing]  # takes the root, and the values of `flags` by name
    looks: Callable[[Path], bool]  # whether a root looks like this data set: a hint for who named another one
    # own flags of collect.py, without "--", with what add_argument takes
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # under which key a line of a list, or a name without suffix, is looked up; and in which part it is missed
    listed: Callable[[str], tuple[str, str]] = by_folder
    from_descriptions: bool = False  # the reader was never run on the data set itself


CORPORA: dict[str, Corpus] = {}  # by name; filled as the package is imported


def register(corpus: Corpus) -> None:
    CORPORA[corpus.name] = corpus


def wrong_root(root: Path, looked_for: str) -> UserError:
    """What to say of a root that is not the data set's."""
    if not root.is_dir():
        return UserError(f"--root {root} is no folder.")
    inside = [path for path in root.iterdir() if not path.name.startswith(".")]
    names = sorted(path.name + "/" * path.is_dir() for path in inside)
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    alike = [corpus.name for corpus in CORPORA.values() if corpus.looks(root)]
    hint = f"; it looks like the data set {alike[0]}" if alike else ""
    if any(path.suffix == ".zip" for path in inside):
        hint += "; unpack the zip files"
    return UserError(f"--root {root}: looked for {looked_for}, found {listed or 'nothing'}{hint}.")


class OnDisk:
    """Which files are there, a folder listed once: faster than asking for each of 128,000."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def __contains__(self, path: Path) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._known:
            try:
                self._known[folder] = set(os.listdir(folder))
            except OSError:
                self._known[folder] = set()
        return name in self._known[folder]


def videos_below(root: Path) -> list[Path]:
    """All files below a folder that are videos by their names, sorted; see `utils.listing.walk`."""
    return [Path(folder, file) for folder, _, files in walk(root) for file in files if is_video_name(file)]


def plain_spelling(name: str) -> str:
    """One spelling of a folder's name: "Asian (East)" and "asian_east" are the same, "fo" and "FO" too."""
    return re.sub(r"[-_ ()]+", "_", name).strip("_").lower()


def folders_in(root: Path, names: Collection[str]) -> dict[str, Path]:
    """Which of these folders lie in a root, in any spelling, by name; UserError if one is there in two."""
    spelt = {plain_spelling(name): name for name in names}
    found: dict[str, Path] = {}
    for path in sorted(root.glob("*")):
        name = spelt.get(plain_spelling(path.name))
        if name and path.is_dir() and found.setdefault(name, path) != path:
            raise UserError(f"{root} has {found[name].name} and {path.name}; move one of them away.")
    return found


def records_of(path: Path, expected: str, kind: type) -> list[tuple[str, dict[str, Any]]]:
    """The records of a JSON file, {name: record} or [record with file, ...] by `kind`, with their names;
    UserError for anything else.
    """
    value = read_json(path, expected)
    is_kind = isinstance(value, kind)
    if not is_kind:
        raise UserError(f"{path} holds a {type(value).__name__}, expected {expected}.")
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = [(record.get("file") if isinstance(record, dict) else None, record) for record in value]
    for name, record in pairs:
        if not isinstance(name, str) or not isinstance(record, dict):
            raise UserError(f"{path}: record {str((name, record))[:80]}, expected {expected}.")
    pairs = [(relative(name, path), record) for name, record in pairs]
    no_doubles((name for name, _ in pairs), path)
    return pairs


def no_doubles(names: Iterable[str], where: Path) -> None:
    """UserError if a record is there twice."""
    doubles = [name for name, n in Counter(names).items() if n > 1]
    if doubles:
        words = f"names {len(doubles)} files more than once, the first {doubles[0]}"
        raise UserError(f"{where} {words}; leave one record for each.")


def relative(name: object, where: Path | str) -> str:
    """A path out of a record, with "/"; UserError if it leaves the data set."""
    plain = name.replace("\\", "/").removeprefix("./") if isinstance(name, str) and "\n" not in name else ""
    if not plain or plain.startswith("/") or ".." in plain.split("/"):
        raise UserError(f"{where} names {name!r}, expected a path below the data set.")
    return plain


def choice(record: Mapping[str, Any], key: str, choices: Mapping[Any, str], where: str) -> str:
    """What a field of a record means; UserError for a value that is none of `choices`, in any case."""
    value = record.get(key)
    value = value.lower() if isinstance(value, str) else value
    if not isinstance(value, (str, int)) or value not in choices:
        raise UserError(f"{where}: {key} is {value!r}, expected one of {', '.join(map(repr, choices))}.")
    return choices[value]


def as_said(*words: str) -> dict[str, str]:
    """`choices` of `choice` that mean what they say."""
    return dict(zip(words, words, strict=True))
