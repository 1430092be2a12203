"""Splits of a data set that do not leak, and what two splits share that they should not."""

import hashlib
import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from corpora.base import Entry, Listing
from utils.cli import UserError
from utils.files import file_digest
from utils.tables import Schema, read_table

GROUPINGS = ("original", "identity", "none")
VIDEO_INDEX = Schema(
    "video",
    ("video", "label", "source_file", "original", "identity"),
    remedy="this is no index of collect.py: name an index.csv that it has written",
)


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
    from scipy.sparse import coo_array  # here, so that the command line is parsed at once
    from scipy.sparse.csgraph import connected_components

    if not entries:
        return []
    # of videos and people, as they come
    numbers: defaultdict[tuple[str, str], int] = defaultdict(itertools.count().__next__)
    links = [(numbers["video", e.name], numbers[other]) for e in entries for other in linked_to(e, by)]
    shape = (len(numbers), len(numbers))
    graph = coo_array(([1] * len(links), tuple(zip(*links, strict=True))), shape)
    _, group_of = connected_components(graph, directed=False)
    groups = defaultdict(list)
    for entry in entries:
        groups[group_of[numbers["video", entry.name]]].append(entry)
    return list(groups.values())


def linked_to(entry: Entry, by: str) -> Iterator[tuple[str, str]]:
    """What must be in the split of a video, itself first: see `group`."""
    yield "video", entry.name
    if by != "none" and entry.original:
        yield "video", entry.original
    if by == "identity":
        yield from (("person", person) for person in entry.identity)


def by_shares(listing: Listing, shares: str, seed: int, by: str) -> dict[str, list[Entry]]:
    """`split_entries` of a data set; a test set of its own is left out, of the listing too.

    Args:
        shares: such as "85:15".
    """
    if by == "identity" and not any(entry.identity for entry in listing.entries):
        wrong = "this data set does not say who is in its videos"
        raise UserError(f"--group_by identity: {wrong}; take --group_by original.")
    rest = [entry for entry in listing.entries if not listing.own_test or entry.split != "test"]
    if n_own := rest and len(listing.entries) - len(rest):
        listing.notes.append(f"{listing.own_test} ({n_own} videos) is left out of --split")
        listing.entries = rest
    train, test = map(int, shares.split(":"))
    return split_entries(listing.entries, test / (train + test), seed, by)


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
    n_groups = sum(map(len, kinds.values()))
    for split, members in parts.items():
        if len({entry.label for entry in members}) < 2:
            what = f"{len(entries)} videos in {n_groups} groups leave the {split} split"
            hint = what_to_do(entries, n_groups, by)
            raise UserError(f"--split, --group_by {by}: {what} without real or without fake ones; {hint}.")
    return parts


def what_to_do(entries: Sequence[Entry], n_groups: int, by: str) -> str:
    """What mends a split that has no real or no fake video."""
    labels = sorted({entry.label for entry in entries})
    hint = "take other shares, or more videos" if len(labels) > 1 else f"all of them are {labels[0]}"
    finer = {"identity": "original or none", "original": "none"}.get(by)
    return f"{hint}, or --group_by {finer}" if finer and n_groups < len(entries) else hint


def read_index_file(path: Path) -> list[dict[str, str]]:
    """The rows of an index.csv; UserError if it is none."""
    rows = read_table(path, VIDEO_INDEX)
    for i, row in enumerate(rows, 1):
        if not row["video"] or not row["source_file"]:
            raise UserError(f"{path}: row {i} lacks its video or its source_file; run collect.py again.")
    return rows


def shared(indices: Sequence[Path], by_content: bool) -> dict[str, list[str]]:
    """What two index files share: videos (the same file), originals (of fakes, or themselves there),
    identities and, if asked for, contents (other files with the same bytes).

    Raises:
        UserError: a file is no index, or a video can't be read.
    """
    both = [read_index_file(path) for path in indices]
    people = [[row["identity"].split(";") for row in rows] for rows in both]
    found = {
        "videos": in_both([{os.path.realpath(row["source_file"]) for row in rows} for rows in both]),
        "originals": in_both([{row["original"] or row["video"] for row in rows} for rows in both]),
        "identities": in_both([set(itertools.chain(*names)) - {""} for names in people]),
    }
    if by_content:
        found["contents"] = shared_contents(both)
    return found


def in_both(values: list[set[str]]) -> list[str]:
    return sorted(set.intersection(*values))


def shared_contents(both: list[list[dict[str, str]]]) -> list[str]:
    """Which videos of two indices are files with the same bytes."""
    files = {row["source_file"] for rows in both for row in rows}
    sizes = {file: os.path.getsize(file) for file in files if os.path.isfile(file)}
    n_of_size = Counter(sizes.get(row["source_file"]) for rows in both for row in rows)
    videos: list[dict[str, str]] = [{}, {}]  # by their digests
    for known, rows in zip(videos, both, strict=True):
        for row in tqdm(rows, unit="file", desc="contents", leave=False):
            file = row["source_file"]
            if file in sizes and n_of_size[sizes[file]] > 1:  # only files of one size can be alike
                known[file_digest(Path(file))] = row["video"]
    return sorted(f"{videos[0][key]} = {videos[1][key]}" for key in videos[0].keys() & videos[1].keys())


def periods_text(spans: list[list[float]] | None) -> str:
    """Fake periods as a cell: JSON, empty if nothing is known."""
    return "" if spans is None else json.dumps(spans)
