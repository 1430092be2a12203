"""AV-Deepfake1M and AV-Deepfake1M++.

Traps: records as one file, as a folder of files or beside the videos; paths in them with or without the
split; "both" is spelt in two ways; the test sets have no labels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpora.base import (
    SOURCE_FPS,
    Corpus,
    Entry,
    Listing,
    OnDisk,
    choice,
    records_of,
    register,
    relative,
    wrong_root,
)
from utils.cli import UserError
from utils.jsonfiles import checked_spans, read_json

SPLITS_WITH_LABELS = ("train", "val")
EXPECTED = "records with file, modify_type, fake_segments, ..."
MANIPULATIONS = {  # by modify_type
    "real": "",
    "visual_modified": "video",
    "audio_modified": "audio",
    "both_modified": "both",
    "both-modified": "both",
}


def read_avdeepfake1m(root: Path) -> Listing:
    """train and val with their records: `<split>_metadata.json`, or one JSON per file in `<split>_metadata/`
    or beside the video.
    """
    listing, on_disk = Listing(), OnDisk()
    for split in SPLITS_WITH_LABELS:
        for path, file, record in split_records(root, split):
            manipulation = choice(record, "modify_type", MANIPULATIONS, f"{path}: {file}")
            name = below(split, file)
            if root / name in on_disk:
                listing.entries.append(labelled_entry(name, root / name, split, manipulation, record, path))
            else:
                listing.miss(name, split, f"in {path.name}, but not on the disk")
    if not listing.entries and not listing.missing:
        raise wrong_root(root, "train_metadata.json, train_metadata/ or JSON files in train/")
    if tests := sorted(path.name for path in root.glob("test*") if path.is_dir()):
        listing.notes.append(f"{', '.join(tests)}: without labels, left out")
    return listing


def split_records(root: Path, split: str) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """The file that holds a record, the video that it names, the record."""
    whole, apart = root / f"{split}_metadata.json", root / f"{split}_metadata"
    if whole.is_file():
        yield from (
            (whole, file, record) for file, record in records_of(whole, f"a list of {EXPECTED}", list)
        )
        return
    for path in sorted((apart if apart.is_dir() else root / split).rglob("*.json")):
        record = read_json(path, EXPECTED)
        if not isinstance(record, dict) or not isinstance(record.get("file"), str):
            raise UserError(f"{path}: {str(record)[:80]}, expected one of the {EXPECTED}")
        yield path, relative(record["file"], path), record


def below(split: str, file: str) -> str:
    """The path of a file from the root on, whether it begins with the split or not."""
    return file if file.startswith(f"{split}/") else f"{split}/{file}"


def labelled_entry(
    name: str, source: Path, split: str, manipulation: str, record: dict[str, Any], path: Path
) -> Entry:
    original = below(split, relative(record["original"], path)) if record.get("original") else ""
    models = [str(record[key]) for key in ("video_model", "audio_model") if record.get(key)]
    n_frames = record.get("video_frames")
    return Entry(
        name,
        source,
        "fake" if manipulation else "real",
        split,
        original=original if manipulation else "",
        identity=(name.split("/")[1],),
        manipulation=manipulation,
        method="+".join(models) if manipulation else "",
        fake_periods=checked_spans(record.get("fake_segments") or [], 2, f"{path}: {name}"),
        fps=SOURCE_FPS,
        duration_s=n_frames / SOURCE_FPS if isinstance(n_frames, int) else None,
        has_audio=True,
    )


def looks_like_avdeepfake1m(root: Path) -> bool:
    ends = ("", ".json")
    return any((root / f"{split}_metadata{end}").exists() for split in SPLITS_WITH_LABELS for end in ends)


register(Corpus("avdeepfake1m", read_avdeepfake1m, looks_like_avdeepfake1m))
