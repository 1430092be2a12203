"""Splits of a data set that do not leak, and what two splits share that they should not."""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from corpora.base import Entry
from utils.cli import UserError
from utils.files import file_digest
from utils.tables import read_table

GROUPINGS = ("original", "identity", "none")


def place_of(seed: int, name: str) -> bytes:
    """Where a name comes in the order of a seed."""
    return hashlib.sha256(f"{seed}\n{name}".encode(errors="surrogateescape")).digest()


def group(entries: Sequence[Entry], by: str) -> list[list[Entry]]:
    """Entries that must stay in one split: those that are linked by originals, or by people and originals,
    over any number of others.

    Args:
        by: "original" (a fake, its original and that one's other fakes), "identity" (all videos of a person
            too) or "none".
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(key: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for entry in entries:
        keys = [("video", entry.name)]
        if by in ("original", "identity") and entry.original:
            keys.append(("video", entry.original))
        if by == "identity":
            keys += [("person", person) for person in entry.identity]
        for key in keys[1:]:
            parent[find(key)] = find(keys[0])
    groups = defaultdict(list)
    for entry in entries:
        groups[find(("video", entry.name))].append(entry)
    return list(groups.values())


def split_entries(entries: Sequence[Entry], test_share: float, seed: int, by: str) -> dict[str, list[Entry]]:
    """Part entries into train and test, whole groups (see `group`) at a time.

    Groups of the same kinds of videos (label and manipulation) are parted in the given shares, counted in
    videos, in the order of a hash of the seed and of the first name in them, so that any machine gives the
    same and other files change little.

    Raises:
        UserError: a split would have no real or no fake video.
    """
    kinds = defaultdict(list)
    for members in group(entries, by):
        kinds[tuple(sorted({(entry.label, entry.manipulation) for entry in members}))].append(members)
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    owed = 0.0  # to the test split, by kinds whose groups did not come out even
    for _, groups in sorted(kinds.items()):
        groups.sort(key=lambda members: place_of(seed, min(entry.name for entry in members)))
        owed += test_share * sum(map(len, groups))
        for members in groups:  # into the test split as long as that comes nearer to its share
            is_test = len(members) / 2 <= owed
            parts["test" if is_test else "train"] += members
            owed -= len(members) * is_test
    for split, members in parts.items():
        if len({entry.label for entry in members}) < 2:
            n_groups = sum(map(len, kinds.values()))
            finer = (
                {"identity": "original or none", "original": "none"}.get(by)
                if n_groups < len(entries)
                else None
            )
            labels = sorted({entry.label for entry in entries})
            hint = "take other shares, or more videos" if len(labels) > 1 else f"all of them are {labels[0]}"
            hint += f", or --group_by {finer}" if finer else ""
            raise UserError(
                f"--split, --group_by {by}: {len(entries)} videos in {n_groups} groups leave the {split} split "
                f"without real or without fake ones; {hint}."
            )
    return parts


def read_index_file(path: Path) -> list[dict[str, str]]:
    """The rows of an index.csv; UserError if it is none."""
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no file; expected an index.csv of collect.py.")
    rows = read_table(path)
    if not rows or not {"video", "label", "source_file", "original", "identity"} <= rows[0].keys():
        raise UserError(
            f"{path} is no index of collect.py; expected the columns video, label, source_file, original, identity, ..."
        )
    for i, row in enumerate(rows, 1):
        if not row["video"] or not row["source_file"]:
            raise UserError(f"{path}: row {i} lacks its video or its source_file; run collect.py again.")
    return rows


def shared(first: Path, second: Path, by_content: bool) -> dict[str, list[str]]:
    """What two index files share: videos (the same file), originals (of fakes, or themselves there),
    identities and, if asked for, contents (other files with the same bytes).

    Raises:
        UserError: a file is no index, or a video can't be read.
    """
    rows = read_index_file(first), read_index_file(second)
    found: dict[str, set[str]] = {}
    found["videos"] = set.intersection(
        *({os.path.realpath(row["source_file"]) for row in own} for own in rows)
    )
    origins = [{row["original"] or row["video"] for row in own} for own in rows]
    found["originals"] = set.intersection(*origins)
    found["identities"] = set.intersection(
        *({person for row in own for person in row["identity"].split(";") if person} for own in rows)
    )
    if by_content:
        # only files of one size can be alike
        sizes = Counter(
            os.path.getsize(row["source_file"])
            for own in rows
            for row in own
            if os.path.isfile(row["source_file"])
        )
        hashes: list[dict[str, str]] = [{}, {}]
        for known, own in zip(hashes, rows, strict=True):
            for row in tqdm(own, unit="file", desc="contents", leave=False):
                path = Path(row["source_file"])
                if path.is_file() and sizes[path.stat().st_size] > 1:
                    known[file_digest(path)] = row["video"]
        found["contents"] = {
            f"{hashes[0][key]} = {hashes[1][key]}" for key in hashes[0].keys() & hashes[1].keys()
        }
    return {what: sorted(values) for what, values in found.items()}


def periods_text(spans: list | None) -> str:
    """Fake periods as a cell: JSON, empty if nothing is known."""
    return "" if spans is None else json.dumps(spans)
