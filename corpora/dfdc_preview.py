"""DFDC's preview: 66 people, two methods.

Traps: the records name people, not originals; those follow from the files' names.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from corpora.base import Corpus, Entry, Listing, OnDisk, as_said, choice, records_of, register, wrong_root

RECORDS = "dataset.json"
EXPECTED = '{"original_videos/...": {"label": "real", "set": "train", ...}, ...}'


def read_dfdc_preview(root: Path) -> Listing:
    """`dataset.json` with the paths of all videos, lower-case labels and its own set: train or test."""
    path, listing, on_disk = root / RECORDS, Listing(), OnDisk()
    if not path.is_file():
        raise wrong_root(root, f"{RECORDS} beside original_videos/")
    records = records_of(path, EXPECTED, dict)
    known = {name for name, _ in records}
    for name, record in records:
        where = f"{path}: {name}"
        label = choice(record, "label", as_said("real", "fake"), where)
        split = choice(record, "set", as_said("train", "test"), where)
        if root / name not in on_disk:
            listing.miss(name, name.split("/")[0], f"in {RECORDS}, but not on the disk")
            continue
        people = (record[key] for key in ("target_id", "swapped_id") if record.get(key) is not None)
        who = tuple(sorted(set(map(str, people))))
        entry = Entry(name, root / name, label, split, identity=who)
        if label == "fake":
            original = original_of(name, record)
            if original not in known:
                original = ""
            entry = replace(entry, original=original, manipulation="video", method=name.split("/")[0])
        listing.entries.append(entry)
    return listing


def original_of(name: str, record: dict[str, Any]) -> str:
    """The real video of a fake: <swapped>_<target>_<clip>.mp4 is made of <target>_<clip>.mp4."""
    target, file = str(record.get("target_id")), name.rpartition("/")[2]
    return f"original_videos/{target}/{file[file.find(f'_{target}_') + 1 :]}"


def looks_like_dfdc_preview(root: Path) -> bool:
    return (root / RECORDS).is_file()


register(Corpus("dfdc_preview", read_dfdc_preview, looks_like_dfdc_preview))
