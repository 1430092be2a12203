"""Splits as lists of videos give them, or as the data set itself has them."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from corpora.base import Entry, Listing, by_folder
from utils.cli import UserError
from utils.constants import SPLITS
from utils.tables import read_text

Listed = Callable[[str], tuple[str, str]]  # see `Corpus.listed`
LINE_PER_VIDEO = "expected a list with a video in each line"


def read_list(path: Path) -> list[str]:
    """The lines of a list, each once; UserError if it can't be read or is empty."""
    try:
        with read_text(path) as file:
            text = file.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path} can't be read ({why}); {LINE_PER_VIDEO}.") from error
    lines = [line.strip().removeprefix("./") for line in text.split("\n")]
    if not any(lines):
        raise UserError(f"{path} is empty; {LINE_PER_VIDEO}.")
    return list(dict.fromkeys(filter(None, lines)))


def by_lists(
    listing: Listing, lists: dict[str, Path], on_leak: str, listed: Listed = by_folder
) -> dict[str, list[Entry]]:
    """The videos that lists name and, where a list names fakes alone, the originals of these, each once.

    What is not there takes the place of `listing.missing`, what both lists need goes to `listing.notes`.

    Args:
        on_leak: what happens to a video that both need: keep it in both, in train or test alone, or drop it.
        listed: of the data set, see `Corpus`.
    """
    entries = {entry.name: entry for entry in listing.entries}
    keys = list_keys(listing.entries, listed)
    known_missing = {video for video, _, _ in listing.missing}
    listing.missing = []  # of the whole data set; a list may need less
    parts: dict[str, dict[str, Entry]] = {}
    for split, path in lists.items():
        names = names_in(path, keys, listing, listed)
        parts[split] = chosen = {name: entries[name] for name in names}
        if all(entry.label == "fake" for entry in chosen.values()):
            add_originals(split, chosen, entries, known_missing, listing)
    listing.missing = list(dict.fromkeys(listing.missing))
    listing.n_wanted = len(parts["train"].keys() | parts["test"].keys()) + len(listing.missing)
    listing.notes += part_leaks(parts, on_leak)
    return {split: list(chosen.values()) for split, chosen in parts.items()}


def list_keys(entries: Sequence[Entry], listed: Listed) -> dict[str, str]:
    """The names of entries by all that a line of a list may call them: with or without suffix, or as `listed`
    has it.
    """
    stems = {entry.name: os.path.splitext(entry.name)[0] for entry in entries}
    n_of_stem = Counter(stems.values())
    only = {stem: name for name, stem in stems.items() if n_of_stem[stem] == 1}
    return {listed(stem)[0]: name for stem, name in only.items()} | only | {name: name for name in stems}


def names_in(path: Path, keys: dict[str, str], listing: Listing, listed: Listed) -> list[str]:
    """The names of the entries that a list names; the others are missing. UserError if none is there."""
    lines, names = read_list(path), []
    for line in lines:
        key, part = listed(line)
        name = keys.get(line) or keys.get(key)
        if name is None:
            listing.miss(line, part, f"in {path.name}, but not on the disk")
        else:
            names.append(name)
    if not names:
        wrong = f"none of the {len(lines)} videos in {path} is there, the first is {lines[0]}"
        raise UserError(f"{wrong}; is --root right?")
    return names


def add_originals(
    split: str, chosen: dict[str, Entry], entries: dict[str, Entry], known_missing: set[str], listing: Listing
) -> None:
    """Add the originals of fakes to them.

    Args:
        known_missing: videos that the data set's records name, and that are not there.
    """
    originals = [fake.original for fake in chosen.values()]
    for original in originals:
        if original in entries:
            chosen[original] = entries[original]
        elif original:
            is_known = original in known_missing
            why = "in metadata.json, but not on the disk" if is_known else "named as an original only"
            listing.miss(original, original.partition("/")[0], why)
    if n_without := originals.count(""):
        listing.notes.append(f"{split}: {n_without} fakes name no original")


def part_leaks(parts: dict[str, dict[str, Entry]], on_leak: str) -> list[str]:
    """Take the videos that both splits need out of those that `on_leak` says; what is to say of them, and of
    fakes that have their original in common.
    """
    notes, (train, test) = [], (parts[split] for split in SPLITS)
    leaks = sorted(train.keys() & test.keys())
    if leaks:
        n_real = sum(train[name].label == "real" for name in leaks)
        done = {"keep": "kept in both", "drop": "dropped"}.get(on_leak, f"kept in {on_leak} alone")
        needed = f"{len(leaks)} videos ({n_real} real) are needed by both splits, the first {leaks[0]}"
        notes.append(f"LEAK: {needed}; {done} (--on_leak {on_leak})")
    for split, chosen in parts.items():
        for name in leaks if on_leak not in ("keep", split) else ():
            del chosen[name]
    origins = [{entry.original or entry.name for entry in chosen.values()} for chosen in parts.values()]
    if related := sorted(set.intersection(*origins) - set(leaks)):
        made = f"videos made from the same {len(related)} originals are in both splits"
        notes.append(f"LEAK: {made}, the first {related[0]}")
    return notes


def by_own_splits(listing: Listing, dev: str | None) -> dict[str, list[Entry]]:
    """The data set's own splits; UserError if it has none. What they share goes to `listing.notes`.

    Args:
        dev: where its split dev or val goes: train, test or none; None: to test if it has no test split.
    """
    own = defaultdict(list)
    for entry in listing.entries:
        own[entry.split].append(entry)
    if own.keys() <= {"", "test"} and own[""]:
        wrong = "this data set has no splits of its own"
        raise UserError(f"{wrong}; give --split, such as --split 85:15, or lists.")
    if dev is None:
        dev = "none" if own["test"] else "test"
    for name in ("dev", "val"):
        held = f"its split {name} ({len(own[name])} videos)"
        if own[name] and dev != "none":
            own[dev] += own[name]
            listing.notes.append(f"{held} goes to {dev}")
        elif own[name]:
            listing.notes.append(f"{held} is left out; --dev train or test takes it in")
    if n_without := len(own[""]):
        listing.notes.append(f"{n_without} videos are in none of its splits, and left out")
    parts = {split: own[split] for split in SPLITS}
    listing.notes += part_leaks({split: {e.name: e for e in part} for split, part in parts.items()}, "keep")
    people = [{person for entry in part for person in entry.identity} for part in parts.values()]
    if both := sorted(set.intersection(*people)):
        apart = "--split with --group_by identity keeps them apart"
        listing.notes.append(f"{len(both)} people are in both splits, the first {both[0]}; {apart}")
    return parts
