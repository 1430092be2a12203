"""The published data sets as they lie on disk: what each file is, by the data set's own records.

Every reader takes the root folder and gives `Entry`s; it reads the records, lists folders and opens no video.
Traps that the readers know: see the README's section on each data set.
"""

import csv
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.cli import UserError
from utils.constants import LABELS
from utils.jsonfiles import checked_spans, parse_json, read_json
from utils.listing import is_system_file, is_video_name, left_out_words, to_rename, walk
from utils.tables import read_text, unescape_cell

DATASETS = ("dfdc", "dfdc_preview", "fakeavceleb", "dftimit", "lavdf", "avdeepfake1m", "folder")
SOURCE_FPS = 25.0  # of FakeAVCeleb, DF-TIMIT, LAV-DF and AV-Deepfake1M, by their descriptions


@dataclass(frozen=True)
class Entry:
    """One video of a data set.

    Args:
        name: its path below the root, with "/", the suffix included; unique.
        source: the file; of a sequence of JPEGs its folder.
        label: real or fake.
        split: the data set's own (train, dev, val, test), empty if it has none.
        original: name of the real video that a fake was made from, empty if unknown.
        identity: who is to be seen or heard.
        manipulation: what was changed: video, audio, both, or empty.
        method, category: in the data set's own words.
        fake_periods: [[begin_s, end_s], ...], None if the data set does not say.
        sound: a WAV file beside the source, which has no sound then.
    """

    name: str
    source: Path
    label: str
    split: str = ""
    original: str = ""
    identity: tuple[str, ...] = ()
    manipulation: str = ""
    method: str = ""
    category: str = ""
    fake_periods: list | None = None
    fps: float | None = None
    duration_s: float | None = None
    has_audio: bool | None = None
    sound: Path | None = None


@dataclass
class Found:
    """What a reader found: the entries whose files are there, (name, part, why) of what is missing, and notes
    for people.

    `n_wanted` is how many videos lists ask for, found or missing; None where all of the data set are meant.
    """

    entries: list[Entry] = field(default_factory=list)
    missing: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_wanted: int | None = None


def wrong_root(root: Path, looked_for: str) -> UserError:
    """What to say of a root that is not the data set's."""
    if not root.is_dir():
        return UserError(f"--root {root} is no folder.")
    entries = sorted(
        p.name + ("/" if p.is_dir() else "") for p in root.iterdir() if not p.name.startswith(".")
    )
    listed = ", ".join(entries[:8]) + (f" and {len(entries) - 8} more" if len(entries) > 8 else "")
    alike = [name for name, looks in LOOKS.items() if looks(root)]
    hint = f"; it looks like the data set {alike[0]}" if alike else ""
    if any(p.suffix == ".zip" for p in root.iterdir()):
        hint += "; unpack the zip files"
    return UserError(f"--root {root}: looked for {looked_for}, found {listed or 'nothing'}{hint}.")


class Names:
    """Which files are there, a folder listed once: faster than asking for each of 128,000."""

    def __init__(self):
        self._known: dict[str, set[str]] = {}

    def __contains__(self, path: Path) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._known:
            try:
                self._known[folder] = set(os.listdir(folder))
            except OSError:
                self._known[folder] = set()
        return name in self._known[folder]


def records_of(path: Path, expected: str, kind: type) -> list[tuple[str, dict]]:
    """The records of a JSON file, {name: record} or [record with file, ...], with their names; UserError for
    anything else.
    """
    value = read_json(path, expected)
    if isinstance(value, kind):
        pairs = (
            list(value.items())
            if kind is dict
            else [(r.get("file") if isinstance(r, dict) else None, r) for r in value]
        )
        odd = next(
            (
                (name, record)
                for name, record in pairs
                if not isinstance(name, str) or not isinstance(record, dict)
            ),
            None,
        )
        if odd is None:
            pairs = [(relative(name, path), record) for name, record in pairs]
            no_doubles([name for name, _ in pairs], path)
            return pairs
        raise UserError(f"{path}: record {str(odd)[:80]}, expected {expected}.")
    raise UserError(f"{path} holds a {type(value).__name__}, expected {expected}.")


def no_doubles(names: Sequence[str], where: Path) -> None:
    """UserError if a record is there twice."""
    doubles = [name for name, n in Counter(names).items() if n > 1]
    if doubles:
        raise UserError(
            f"{where} names {len(doubles)} files more than once, the first {doubles[0]}; leave one record for each."
        )


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file that are not empty, perhaps with a byte order mark; UserError if it has none."""
    try:
        with read_text(path) as file:
            rows = [[unescape_cell(cell) for cell in row] for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} can't be read as CSV ({getattr(error, 'strerror', None) or error})."
        ) from error
    if not rows:
        raise UserError(f"{path} is empty; expected a header and a row for each video.")
    return rows


def relative(name: str, where: Path) -> str:
    """A path out of a record, with "/"; UserError if it leaves the data set."""
    if not isinstance(name, str) or "\n" in name:
        raise UserError(f"{where} names {name!r}, expected a path below the data set.")
    name = name.replace("\\", "/").removeprefix("./")
    if name.startswith("/") or ".." in name.split("/") or not name:
        raise UserError(f"{where} names {name!r}, expected a path below the data set.")
    return name


def choice(record: dict, key: str, choices: dict, where: str) -> object:
    """What a field of a record means; UserError for a value that is none of `choices`."""
    value = record.get(key)
    value = value.lower() if isinstance(value, str) else value
    if not isinstance(value, (str, int)) or value not in choices:
        raise UserError(f"{where}: {key} is {value!r}, expected one of {', '.join(map(repr, choices))}.")
    return choices[value]


# DFDC

PART = re.compile(r"dfdc_train_part_0*(\d+)")


def read_dfdc(root: Path) -> Found:
    """`dfdc_train_part_<n>/` (or `_0<n>`), each with metadata.json; zip files beside them are named, not
    read. A folder with a metadata.json of its own is read too, such as the public test set's, whose records
    have is_fake.
    """
    found, names = Found(), Names()
    folders = (
        [root]
        if (root / "metadata.json").is_file()
        else sorted(p.parent for p in root.glob("*/metadata.json"))
    )
    if not folders:
        raise wrong_root(root, "dfdc_train_part_<n>/metadata.json")
    parts = {m[1] for p in folders if (m := PART.fullmatch(p.name))}
    if zips := sorted(
        p.name for p in root.glob("*.zip") if (m := PART.fullmatch(p.stem)) and m[1] not in parts
    ):
        found.notes.append(f"zip files that are not unpacked: {', '.join(zips)}")
    seen: dict[str, str] = {}
    for folder in folders:
        part = PART.fullmatch(folder.resolve().name)
        if part and seen.setdefault(part[1], folder.name) != folder.name:
            raise UserError(
                f"{root} has part {part[1]} twice, {seen[part[1]]} and {folder.name}; move one of them away."
            )
        path = folder / "metadata.json"
        prefix = f"{folder.resolve().name}/" if part or folder != root else ""
        for file, record in records_of(path, '{"name.mp4": {"label": "FAKE", "original": "..."}, ...}', dict):
            where = f"{path}: {file}"
            if "is_fake" in record:
                label, split = choice(record, "is_fake", {0: "real", 1: "fake"}, where), "test"
            else:
                label, split = choice(record, "label", {"real": "real", "fake": "fake"}, where), ""
            original = record.get("original") or ""
            name = f"{prefix}{file}"
            if folder / file not in names:
                found.missing.append((name, folder.name, "in metadata.json, but not on the disk"))
                continue
            original = (
                f"{prefix}{original}" if label == "fake" and isinstance(original, str) and original else ""
            )
            found.entries.append(Entry(name, folder / file, label, split, original))
    return found


def listed_name(line: str, names: dict[str, str]) -> str | None:
    """The entry that a line of a list means: its name, with or without suffix, or the authors'
    `video.dfdc_train_part_03`.
    """
    video, _, part = line.rpartition(".")
    if video and (match := PART.fullmatch(part)):
        line = f"part {match[1]}/{video}"
    return names.get(line)


def list_names(entries: Sequence[Entry]) -> dict[str, str]:
    """By what a list may call them the names of entries."""
    names, n_of_stem = {}, Counter(os.path.splitext(entry.name)[0] for entry in entries)
    for entry in entries:
        stem = os.path.splitext(entry.name)[0]
        if n_of_stem[stem] == 1:
            names[stem] = entry.name
        folder, _, file = stem.rpartition("/")
        if match := PART.fullmatch(folder):
            names[f"part {match[1]}/{file}"] = entry.name
    return names | {entry.name: entry.name for entry in entries}


# DFDC preview


def read_dfdc_preview(root: Path) -> Found:
    """`dataset.json` with the paths of all videos, lower-case labels and its own set: train or test."""
    path, found, names = root / "dataset.json", Found(), Names()
    if not path.is_file():
        raise wrong_root(root, "dataset.json beside original_videos/")
    records = records_of(path, '{"original_videos/...": {"label": "real", "set": "train", ...}, ...}', dict)
    known = {name for name, _ in records}
    for name, record in records:
        where = f"{path}: {name}"
        label = choice(record, "label", {"real": "real", "fake": "fake"}, where)
        split = choice(record, "set", {"train": "train", "test": "test"}, where)
        if root / name not in names:
            found.missing.append((name, name.split("/")[0], "in dataset.json, but not on the disk"))
            continue
        who = tuple(
            sorted({str(record[key]) for key in ("target_id", "swapped_id") if record.get(key) is not None})
        )
        original = ""
        if label == "fake":  # <swapped>_<target>_<clip>.mp4 is made of <target>_<clip>.mp4
            target, file = str(record.get("target_id")), name.rpartition("/")[2]
            original = f"original_videos/{target}/{file[file.find(f'_{target}_') + 1 :]}"
        found.entries.append(
            Entry(
                name,
                root / name,
                label,
                split,
                original=original if original in known else "",
                identity=who,
                manipulation="video" if label == "fake" else "",
                method=name.split("/")[0] if label == "fake" else "",
            )
        )
    return found


# FakeAVCeleb

CELEB_TYPES = {
    "RealVideo-RealAudio": ("A", "real", ""),
    "RealVideo-FakeAudio": ("B", "fake", "audio"),
    "FakeVideo-RealAudio": ("C", "fake", "video"),
    "FakeVideo-FakeAudio": ("D", "fake", "both"),
}
CELEB_HEADER = ["source", "target1", "target2", "method", "category", "type", "race", "gender", "path", ""]


def plain_race(name: str) -> str:
    """One spelling of a folder's name: "Asian (East)" and "Asian_East" are the same."""
    return re.sub(r"[ _()]+", "_", name).strip("_").lower()


def read_fakeavceleb(root: Path) -> Found:
    """meta_data.csv, whose column `path` is the file's name and whose last column, without a name, is its
    folder.
    """
    path, found, names = root / "meta_data.csv", Found(), Names()
    if not path.is_file() and len(inner := sorted(root.glob("FakeAVCeleb*/meta_data.csv"))) == 1:
        root, path = inner[0].parent, inner[0]
    if not path.is_file():
        raise wrong_root(root, "meta_data.csv beside RealVideo-RealAudio/")
    header, *rows = read_rows(path)
    if header != CELEB_HEADER:
        raise UserError(
            f"{path} has the columns {', '.join(header)}, expected {', '.join(CELEB_HEADER)} and one without a name."
        )
    folders = {  # as they are spelt here
        (kind, plain_race(p.name)): p.name
        for kind in CELEB_TYPES
        for p in (root / kind).glob("*")
        if p.is_dir()
    }
    seen: dict[str, str] = {}
    entries = []
    real: dict[
        tuple[str, ...], str
    ] = {}  # by the plain spelling, since the races are spelt per type; also those that are missing
    for i, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UserError(f"{path}: line {i} has {len(row)} cells, expected {len(header)}.")
        record = dict(zip(header[:-1], row, strict=False))
        place = relative(row[-1], path).split("/")
        if record["type"] not in CELEB_TYPES or record["type"] not in place:
            raise UserError(
                f"{path}: line {i} has the type {record['type']!r} and the folder {row[-1]!r}, expected one of "
                f"{', '.join(CELEB_TYPES)} in both."
            )
        category, label, manipulation = CELEB_TYPES[record["type"]]
        kind, race, *rest = place[place.index(record["type"]) :]  # without FakeAVCeleb/ or FakeAVCeleb_v1.2/
        race = folders.get((kind, plain_race(race)), race)
        name = "/".join([kind, race, *rest, relative(record["path"], path)])
        if name in seen:
            found.notes.append(
                f"{name} is there twice, as {seen[name]} and as {record['method']}: taken once, as the first"
            )
            continue
        seen[name] = record["method"]
        if label == "real":
            real[tuple(map(plain_race, name.split("/")[1:]))] = name
        if root / name not in names:
            found.missing.append((name, kind, "in meta_data.csv, but not on the disk"))
            continue
        who = tuple(
            sorted(
                {
                    value
                    for value in (record["source"], record["target1"], record["target2"])
                    if value.strip("- ")
                }
            )
        )
        stem = record["path"].split("_")[0].removesuffix(".mp4")
        original = (
            f"RealVideo-RealAudio/{race}/{'/'.join([*rest[:-1], record['source']])}/{stem}.mp4"
            if label == "fake"
            else ""
        )
        method = record["method"] if label == "fake" else ""
        entries.append(
            Entry(name, root / name, label, "", original, who, manipulation, method, category, fps=SOURCE_FPS)
        )
    for entry in entries:
        original = real.get(tuple(map(plain_race, entry.original.split("/")[1:])), entry.original)
        found.entries.append(Entry(**vars(entry) | {"original": original}))
    return found


# DF-TIMIT and VidTIMIT


def read_dftimit(root: Path) -> Found:
    """DeepfakeTIMIT/{lower,higher}_quality/<subject>/<utterance>-video-<other>.avi with <utterance>.wav, and
    VidTIMIT/<subject>/ {video/<utterance>/001, 002, ..., audio/<utterance>.wav}, or
    <subject>/<utterance>.avi. Of the real videos those are taken that fakes were made from.
    """
    found, names = Found(), Names()
    fakes, reals = root / "DeepfakeTIMIT", root / "VidTIMIT"
    if not fakes.is_dir() or not reals.is_dir():
        raise wrong_root(root, "DeepfakeTIMIT/ and VidTIMIT/")
    originals: dict[tuple[str, str], set[str]] = {}
    for path in sorted(fakes.glob("*_quality/*/[!.]*-video-*.avi")):
        quality, subject = path.parts[-3:-1]
        utterance, _, other = path.stem.split("-", 2)
        sound = path.with_name(f"{utterance}.wav")
        name = path.relative_to(root).as_posix()
        if sound not in names:
            found.missing.append((name, f"{quality}/{subject}", f"without {sound.name} beside it"))
            continue
        originals.setdefault((subject, utterance), set()).add(other)
        found.entries.append(
            Entry(
                name,
                path,
                "fake",
                original=f"VidTIMIT/{subject}/{utterance}",
                identity=tuple(sorted((subject, other))),
                manipulation="video",
                method="faceswap-gan",
                category=quality,
                fps=SOURCE_FPS,
                has_audio=True,
                sound=sound,
            )
        )
    if not found.entries and not found.missing:
        raise wrong_root(root, "DeepfakeTIMIT/<lower|higher>_quality/<subject>/<utterance>-video-<other>.avi")
    for subject, utterance in sorted(originals):
        name = f"VidTIMIT/{subject}/{utterance}"
        frames, sound = reals / subject / "video" / utterance, reals / subject / "audio" / f"{utterance}.wav"
        packed = reals / subject / f"{utterance}.avi"
        common = {"identity": (subject,), "fps": SOURCE_FPS, "has_audio": True}
        if packed in names:
            found.entries.append(
                Entry(name, packed, "real", sound=sound if sound in names else None, **common)
            )
        elif frames in names and sound in names:
            found.entries.append(Entry(name, frames, "real", sound=sound, **common))
        else:
            found.missing.append(
                (name, subject, f"neither {packed.name} nor video/{utterance}/ with audio/{utterance}.wav")
            )
    return found


# LAV-DF and AV-Deepfake1M


def read_lavdf(root: Path) -> Found:
    """metadata.json (or metadata.min.json) with a record of each file, its split train, dev or test, and its
    fake periods.
    """
    found, names = Found(), Names()
    path = next((p for p in (root / "metadata.json", root / "metadata.min.json") if p.is_file()), None)
    if path is None:
        raise wrong_root(root, "metadata.json or metadata.min.json beside train/, dev/ and test/")
    for name, record in records_of(path, "a list of records with file, split, fake_periods, ...", list):
        where = f"{path}: {name}"
        split = choice(record, "split", {s: s for s in ("train", "dev", "test")}, where)
        spans = checked_spans(record.get("fake_periods") or [], 2, where)
        if root / name not in names:
            found.missing.append((name, split, f"in {path.name}, but not on the disk"))
            continue
        changed = record.get("modify_video"), record.get("modify_audio")
        if not all(isinstance(flag, bool) for flag in changed) or any(changed) != bool(spans):
            raise UserError(
                f"{where}: modify_video {changed[0]}, modify_audio {changed[1]} with {len(spans)} fake periods; "
                "expected true or false, and periods where one is true."
            )
        manipulation = {(True, False): "video", (False, True): "audio", (True, True): "both"}.get(changed, "")
        original = relative(record["original"], path) if record.get("original") else ""
        found.entries.append(
            Entry(
                name,
                root / name,
                "fake" if spans else "real",
                split,
                original=original,
                manipulation=manipulation,
                fake_periods=spans,
                fps=SOURCE_FPS,
                duration_s=record.get("duration"),
                has_audio=bool(record.get("audio_channels", 1)),
            )
        )
    return found


MODIFY_TYPES = {
    "real": "",
    "visual_modified": "video",
    "audio_modified": "audio",
    "both_modified": "both",
    "both-modified": "both",
}


def read_avdeepfake1m(root: Path) -> Found:
    """train and val with their records: `<split>_metadata.json`, or one JSON per file in `<split>_metadata/`
    or beside the video. The test sets have no labels.
    """
    found, names = Found(), Names()
    expected = "records with file, modify_type, fake_segments, ..."
    any_records = False
    for split in ("train", "val"):
        whole, apart = root / f"{split}_metadata.json", root / f"{split}_metadata"
        if whole.is_file():
            records = [
                (whole, name, record) for name, record in records_of(whole, f"a list of {expected}", list)
            ]
        else:
            records = []
            for path in sorted((apart if apart.is_dir() else root / split).rglob("*.json")):
                record = read_json(path, expected)
                if not isinstance(record, dict) or not isinstance(record.get("file"), str):
                    raise UserError(f"{path}: {str(record)[:80]}, expected one of the {expected}")
                records.append((path, relative(record["file"], path), record))
        any_records |= bool(records)
        for path, file, record in records:
            where = f"{path}: {file}"
            manipulation = choice(record, "modify_type", MODIFY_TYPES, where)
            name = file if file.startswith(f"{split}/") else f"{split}/{file}"
            if root / name not in names:
                found.missing.append((name, split, f"in {path.name}, but not on the disk"))
                continue
            original = relative(record["original"], path) if record.get("original") else ""
            if original and not original.startswith(f"{split}/"):
                original = f"{split}/{original}"
            models = [str(record[key]) for key in ("video_model", "audio_model") if record.get(key)]
            n_frames = record.get("video_frames")
            label = "fake" if manipulation else "real"
            found.entries.append(
                Entry(
                    name,
                    root / name,
                    label,
                    split,
                    original=original if label == "fake" else "",
                    identity=(name.split("/")[1],),
                    manipulation=manipulation,
                    method="+".join(models) if manipulation else "",
                    fake_periods=checked_spans(record.get("fake_segments") or [], 2, where),
                    fps=SOURCE_FPS,
                    duration_s=n_frames / SOURCE_FPS if isinstance(n_frames, int) else None,
                    has_audio=True,
                )
            )
    if not any_records:
        raise wrong_root(root, "train_metadata.json, train_metadata/ or JSON files in train/")
    if tests := sorted(p.name for p in root.glob("test*") if p.is_dir()):
        found.notes.append(f"{', '.join(tests)}: without labels, left out")
    return found


# anything else


def read_folder(root: Path) -> Found:
    """real/ and fake/, or train/ and test/ with these in them, searched to any depth; or a CSV file with the
    columns file (below the CSV's folder) and label (real or fake), and perhaps split and other columns of the
    index.
    """
    found, names = Found(), Names()
    if root.is_file():
        header, *cells = read_rows(root)
        if not {"file", "label"} <= set(header):
            raise UserError(f"{root} has the columns {', '.join(header)}, expected at least file and label.")
        rows = [dict(itertools.zip_longest(header, row[: len(header)], fillvalue="")) for row in cells]
        no_doubles([row["file"] for row in rows], root)
        for row in rows:
            name = relative(row["file"], root)
            label = choice(row, "label", {label: label for label in LABELS}, f"{root}: {name}")
            source = root.parent / name
            if source not in names:
                found.missing.append((name, "", f"in {root.name}, but not on the disk"))
                continue
            texts = {
                key: row.get(key) or "" for key in ("split", "original", "manipulation", "method", "category")
            }
            choice(
                texts,
                "split",
                {split: split for split in ("", "train", "dev", "val", "test")},
                f"{root}: {name}",
            )
            try:
                periods = (row.get("fake_periods") or "").encode(errors="surrogateescape")
                spans = checked_spans(parse_json(periods), 2, f"{root}: {name}") if periods else None
            except ValueError as error:
                raise UserError(
                    f"{root}: {name} has fake_periods {row['fake_periods'][:80]!r}, expected JSON."
                ) from error
            who = tuple(filter(None, (row.get("identity") or "").split(";")))
            found.entries.append(Entry(name, source, label, identity=who, fake_periods=spans, **texts))
        return found
    splits = [s for s in ("train", "test") if any((root / s / label).is_dir() for label in LABELS)]
    renamed = ", ".join(filter(None, (to_rename(root / split) for split in (".", "train", "test"))))
    if not splits and not any((root / label).is_dir() for label in LABELS):
        if renamed:
            raise UserError(f"--root {root}: {renamed}; expected real/ and fake/.")
        raise wrong_root(
            root, "real/ and fake/, train/ and test/ with these in them, or a CSV file with file and label"
        )
    if renamed:
        found.notes.append(f"{renamed}, or its videos are left out")
    others = []
    for folder in (root / split / label for split in splits or [""] for label in LABELS):
        for path in (
            Path(inner, file)
            for inner, _, files in (walk(folder) if folder.is_dir() else ())
            for file in files
        ):
            name = path.relative_to(root).as_posix()
            if is_video_name(path.name):
                found.entries.append(Entry(name, path, folder.name, folder.parent.name if splits else ""))
            elif not is_system_file(path.name):
                others.append(name)
    if others:
        found.notes.append(left_out_words(others))
    return found


READERS: dict[str, Callable[[Path], Found]] = {
    "dfdc": read_dfdc,
    "dfdc_preview": read_dfdc_preview,
    "fakeavceleb": read_fakeavceleb,
    "dftimit": read_dftimit,
    "lavdf": read_lavdf,
    "avdeepfake1m": read_avdeepfake1m,
    "folder": read_folder,
}
LOOKS: dict[str, Callable[[Path], bool]] = {  # which data set a root looks like
    "dfdc": lambda root: any(
        PART.fullmatch(p.name.removesuffix(".zip")) for p in root.glob("dfdc_train_part_*")
    ),
    "dfdc_preview": lambda root: (root / "dataset.json").is_file(),
    "fakeavceleb": lambda root: (
        any(root.glob("meta_data.csv")) or any(root.glob("FakeAVCeleb*/meta_data.csv"))
    ),
    "dftimit": lambda root: (root / "DeepfakeTIMIT").is_dir() or (root / "VidTIMIT").is_dir(),
    "avdeepfake1m": lambda root: any(
        (root / f"{split}_metadata{end}").exists() for split in ("train", "val") for end in ("", ".json")
    ),
    "lavdf": lambda root: (
        any((root / f"metadata{end}.json").is_file() for end in ("", ".min")) and (root / "dev").is_dir()
    ),
    "folder": lambda root: any((root / label).is_dir() for label in LABELS),
}
