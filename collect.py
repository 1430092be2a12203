"""Lay out a published data set, as it lies on the disk, for pre-process.py: one command, splits that do not
leak.

    python collect.py --dataset dfdc --root DFDC --out_dir .                     # the authors' lists
    python collect.py --dataset fakeavceleb --root FakeAVCeleb_v1.2 --out_dir . --split 70:30 --group_by
    identity
    python collect.py --check train/index.csv test/index.csv                     # what do two splits share?

Reads the data set's own records below --root.  Writes <out_dir>/<train|test>/<real|fake>/<name> as links (no
second copy), an index.csv beside them (what is known of each video) and <out_dir>/missing.csv (what the
records name and the disk lacks); with --split also split_train.txt and split_test.txt, to be published or
given back by --train_list and --test_list.  Running it again goes on.  Exit status: 0, 1 if --check finds
something shared, 2 for bad arguments or, with --strict, missing videos.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import collections
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from corpora.base import DATASETS, PART, READERS, Entry, Found, list_names, listed_name
from corpora.remux import remux
from corpora.splits import GROUPINGS, periods_text, shared, split_entries
from utils.cli import MAX_SEED, UserError, legible, number, run, to_path
from utils.constants import LABELS, SPLITS
from utils.files import replacing
from utils.listing import is_video_name
from utils.tables import read_table, read_text, write_table

ROOT = Path(__file__).parent
LINKS = ("sym", "hard", "copy")
INDEX, MISSING = "index.csv", "missing.csv"
MISSING_COLUMNS = ("video", "part", "why")
COLUMNS = (
    "video",
    "label",
    "file",
    "source_file",
    "original",
    "identity",
    "manipulation",
    "method",
    "category",
    "source",
    "fake_periods",
    "fps",
    "duration_s",
    "has_audio",
)
MAX_NAME = 180  # of a laid-out file, in bytes; longer ones end in a hash


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--dataset", choices=DATASETS, help="what lies below --root")
    add(
        "--root",
        type=to_path,
        help="folder of the data set; for folder also a CSV file with the columns file and label",
    )
    add("--out_dir", type=to_path, default=Path("."), help="where train/ and test/ are made (default: .)")
    add(
        "--train_list",
        type=to_path,
        metavar="FILE",
        help="names of the training videos (default for dfdc: the authors' list)",
    )
    add(
        "--test_list",
        type=to_path,
        metavar="FILE",
        help="names of the test videos (default for dfdc: the authors' list)",
    )
    add("--split", metavar="TRAIN:TEST", help="make a split of one's own in these shares, such as 85:15")
    add("--seed", type=number(int, 0, MAX_SEED), default=0, help="of --split (default: 0)")
    add(
        "--group_by",
        choices=GROUPINGS,
        default="original",
        help="what --split keeps together: fakes with their original, all of a person, nothing (default: original)",
    )
    add(
        "--dev",
        choices=("train", "test", "none"),
        help="where a data set's dev or val split goes (default: test if the test split has no labels, else none)",
    )
    add(
        "--quality",
        choices=("both", "lq", "hq"),
        default="both",
        help="of dftimit: its protocols (default: both)",
    )
    add(
        "--on_leak",
        choices=("keep", "train", "test", "drop"),
        default="keep",
        help="a real video that both lists need: keep it in both, in one, or drop it (default: keep)",
    )
    add("--link", choices=LINKS, default="sym", help="how videos are laid out (default: sym)")
    add("--strict", action="store_true", help="fail if a video is missing")
    add("--dry_run", action="store_true", help="only say what would be laid out")
    add("--check", type=to_path, nargs=2, metavar="INDEX", help="print what two index files share, and stop")
    add("--content", action="store_true", help="with --check: also look for equal files of other names")
    args = parser.parse_args(argv)
    if not args.check and (not args.dataset or not args.root):
        parser.error("give --dataset and --root, or --check and two index files")
    if bool(args.train_list) != bool(args.test_list):
        parser.error("--train_list and --test_list go together")
    if args.split and (args.train_list or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", args.split)):
        parser.error(f"--split {args.split}: expected two shares such as 85:15, and no lists")
    return args


def read_list(path: Path) -> list[str]:
    """The lines of a list; UserError if it can't be read or is empty."""
    try:
        with read_text(path) as file:
            text = file.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} can't be read ({why}); expected a list with a video in each line."
        ) from error
    lines = [line.strip().removeprefix("./") for line in text.split("\n")]
    if not any(lines):
        raise UserError(f"{path} is empty; expected a list with a video in each line.")
    return list(dict.fromkeys(filter(None, lines)))


def by_lists(found: Found, lists: dict[str, Path], on_leak: str) -> dict[str, list[Entry]]:
    """The videos that lists name and, where a list names fakes alone, the originals of these, each once.

    What is not there goes to `found.missing`, what both lists need to `found.notes`.
    """
    entries = {entry.name: entry for entry in found.entries}
    names = list_names(found.entries)
    known_missing = {name for name, _, _ in found.missing}
    found.missing.clear()  # of the whole data set; a list may need less
    parts: dict[str, dict[str, Entry]] = {}
    for split, path in lists.items():
        chosen: dict[str, Entry] = {}
        lines = read_list(path)
        for line in lines:
            name = listed_name(line, names)
            if name is None:
                part = (
                    line.rpartition(".")[2]
                    if PART.fullmatch(line.rpartition(".")[2])
                    else line.partition("/")[0]
                )
                found.missing.append((line, part, f"in {path.name}, but not on the disk"))
            else:
                chosen[name] = entries[name]
        if not chosen:
            raise UserError(
                f"none of the {len(lines)} videos in {path} is there, the first is {lines[0]}; is --root right?"
            )
        if all(entry.label == "fake" for entry in chosen.values()):
            n_without = 0
            for entry in list(chosen.values()):
                if not entry.original:
                    n_without += 1
                elif entry.original in entries:
                    chosen[entry.original] = entries[entry.original]
                else:
                    why = (
                        "in metadata.json, but not on the disk"
                        if entry.original in known_missing
                        else "named as an original only"
                    )
                    found.missing.append((entry.original, entry.original.partition("/")[0], why))
            if n_without:
                found.notes.append(f"{split}: {n_without} fakes name no original")
        parts[split] = chosen
    found.missing[:] = dict.fromkeys(found.missing)
    found.n_wanted = len(parts["train"].keys() | parts["test"].keys()) + len(found.missing)
    leaks = sorted(parts["train"].keys() & parts["test"].keys())
    if leaks:
        for name in leaks:
            for split in SPLITS:
                if on_leak in ("drop", *(s for s in SPLITS if s != split)):
                    del parts[split][name]
        n_real = sum(entries[name].label == "real" for name in leaks)
        done = {"keep": "kept in both", "drop": "dropped"}.get(on_leak, f"kept in {on_leak} alone")
        found.notes.append(
            f"LEAK: {len(leaks)} videos ({n_real} real) are needed by both splits, the first {leaks[0]}; "
            f"{done} (--on_leak {on_leak})"
        )
    origins = [{entry.original or entry.name for entry in chosen.values()} for chosen in parts.values()]
    if related := sorted(set.intersection(*origins) - set(leaks)):
        found.notes.append(
            f"LEAK: videos made from the same {len(related)} originals are in both splits, the first {related[0]}"
        )
    return {split: list(chosen.values()) for split, chosen in parts.items()}


def by_own_splits(found: Found, dev: str | None) -> dict[str, list[Entry]]:
    """The data set's own splits; UserError if it has none."""
    own = collections.defaultdict(list)
    for entry in found.entries:
        own[entry.split].append(entry)
    if own.keys() <= {"", "test"} and own[""]:
        raise UserError(
            "this data set has no splits of its own; give --split, such as --split 85:15, or lists."
        )
    if dev is None:
        dev = "none" if own["test"] else "test"
    for name in ("dev", "val"):
        if own[name] and dev != "none":
            own[dev] += own[name]
            found.notes.append(f"its split {name} ({len(own[name])} videos) goes to {dev}")
        elif own[name]:
            found.notes.append(
                f"its split {name} ({len(own[name])} videos) is left out; --dev train or test takes it in"
            )
    return {split: own[split] for split in SPLITS}


def laid_out_names(entries: Sequence[Entry]) -> dict[str, str]:
    """A file name for each entry, by its name: the path with "__" for "/", unique also without its suffix."""
    flat = {}
    for entry in entries:
        stem, suffix = os.path.splitext(entry.name.replace("/", "__"))
        if not re.fullmatch(r"\.\w{1,5}", suffix):
            stem, suffix = stem + suffix, ""
        flat[entry.name] = stem, ".mkv" if entry.sound or not suffix else suffix
    n_of_stem = collections.Counter(stem.lower() for stem, _ in flat.values())
    n_of_stem.update({f"{stem}{suffix}".lower() for stem, suffix in flat.values()} & n_of_stem.keys())
    names = {}
    for name, (stem, suffix) in flat.items():
        is_long = len(os.fsencode(stem)) > MAX_NAME
        if n_of_stem[stem.lower()] > 1 or is_long:
            tag = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:10]
            stem = f"{os.fsdecode(os.fsencode(stem)[:MAX_NAME]) if is_long else stem}-{tag}"
        names[name] = stem + suffix
    return names


def place(entry: Entry, target: Path, link: str, is_ours: bool) -> bool:
    """Put a video in its place unless it is there; whether that had to be done.

    Args:
        is_ours: whether what is in that place was put there by this script.

    Raises:
        UserError: something else is there, or it can't be written. ValueError: the source can't be read.
    """
    source = Path(os.path.abspath(entry.source))
    if not source.exists():
        raise ValueError(f"{source} is a link to nothing")
    is_file = target.is_file() and not target.is_symlink()
    if entry.sound is not None:
        is_there = is_file and is_ours
    elif link == "sym":
        is_there = target.is_symlink() and os.readlink(target) == str(source)
    elif is_file:
        known, now = target.stat(), source.stat()
        is_same = (known.st_ino, known.st_dev) == (now.st_ino, now.st_dev)
        is_there = known.st_size == now.st_size and is_ours and is_same == (link == "hard")
    else:
        is_there = False
    if is_there:
        return False
    if os.path.lexists(target) and not is_ours:
        raise UserError(
            f"{target} is there and was not made by collect.py; move it away, or name another --out_dir."
        )
    with replacing(target) as partial:
        if entry.sound is not None:
            remux(entry.source, entry.sound, partial, entry.fps)
        elif link == "sym":
            os.symlink(source, partial)
        elif link == "hard":
            os.link(source.resolve(), partial)
        else:
            shutil.copyfile(source, partial)
    return True


def index_rows(
    entries: Sequence[Entry], names: dict[str, str], labels: dict[str, str], dataset: str
) -> list[tuple]:
    """Rows of index.csv, `COLUMNS`. `labels` has those of all entries of the data set, `names` their laid-out
    names.
    """

    def video(name: str) -> str:
        if not name:
            return ""
        file = names.get(
            name, name.replace("/", "__")
        )  # an original that is not there still keeps its fakes together
        return f"{labels.get(name, 'real')}/{os.path.splitext(file)[0]}"

    return [
        (
            video(entry.name),
            LABELS[entry.label],
            f"{entry.label}/{names[entry.name]}",
            os.path.abspath(entry.source),
            video(entry.original),
            ";".join(entry.identity),
            entry.manipulation,
            entry.method,
            entry.category,
            dataset,
            periods_text(entry.fake_periods),
            *("" if x is None else x for x in (entry.fps, entry.duration_s, entry.has_audio)),
        )
        for entry in sorted(entries, key=lambda entry: (entry.label, entry.name))
    ]


def lay_out(splits: dict[str, list[Entry]], found: Found, out_dir: Path, dataset: str, link: str) -> None:
    """Put all videos in place and write index.csv of each split; take away what an earlier run put there and
    this one does not.

    Raises:
        UserError: files are in the way that this script did not make.
    """
    names = laid_out_names(found.entries)
    labels = {entry.name: entry.label for entry in found.entries}
    placed = {
        split: {f"{entry.label}/{names[entry.name]}" for entry in entries}
        for split, entries in splits.items()
    }
    ours: dict[str, set[str]] = {}
    for split, entries in splits.items():
        folder = out_dir / split
        for label in LABELS:
            if (folder / label).is_symlink():
                raise UserError(
                    f"{folder / label} is a link; what is laid out must not go into another folder. Remove it."
                )
            (folder / label).mkdir(parents=True, exist_ok=True)
        listed = {row.get("file") or "" for row in read_table(folder / INDEX)}
        ours[split] = {
            file
            for file in listed
            if file.count("/") == 1 and file.split("/")[0] in LABELS and not file.endswith("/..")
        }
        for file in sorted(ours[split] - placed[split]):
            path = folder / file
            if path.is_symlink():
                path.unlink()
            elif path.exists():
                raise UserError(
                    f"{path} is of an earlier split and no link; delete {folder} or name another --out_dir."
                )
        # before the videos, so that what a killed run has put in place is known
        write_table(folder / INDEX, COLUMNS, index_rows(entries, names, labels, dataset))
    n_done, failed = 0, {}
    with tqdm(total=sum(map(len, splits.values())), unit="video", desc="laying out") as progress:
        for split, entries in splits.items():
            for entry in entries:
                file = f"{entry.label}/{names[entry.name]}"
                try:
                    n_done += place(entry, out_dir / split / file, link, file in ours[split])
                except ValueError as error:  # the others go on
                    failed[entry.name] = (entry.name, split, str(error))
                progress.update()
            if failed:
                left = [entry for entry in entries if entry.name not in failed]
                write_table(out_dir / split / INDEX, COLUMNS, index_rows(left, names, labels, dataset))
            others = [
                f"{label}/{file}"
                for label in LABELS
                for file in sorted(os.listdir(out_dir / split / label))
                if f"{label}/{file}" not in placed[split] and not file.startswith(".")
            ]
            if others:
                words = (
                    f"{len(others)} files in {out_dir / split} are not of this split, the first {others[0]}"
                )
                tqdm.write(
                    legible(f"note: {words}; pre-process.py takes them too, so delete what is not meant")
                )
    if failed:
        write_table(out_dir / MISSING, MISSING_COLUMNS, sorted([*found.missing, *failed.values()]))
        first = legible(next(iter(failed.values()))[2])
        print(f"{len(failed)} videos can't be read, the first: {first}; all in {out_dir / MISSING}")
    print(
        f"{n_done} videos put in place, the others were there; now: python pre-process.py --out_dir {out_dir / 'train'}"
    )


def check_out(out_dir: Path, root: Path, entries: Sequence[Entry], dataset: str) -> None:
    """UserError if what is laid out would lie among the videos of the data set, or among those of others."""
    folders = {os.path.realpath(entry.source.parent) for entry in entries}
    inside = [
        folder
        for split in SPLITS
        for folder in sorted(folders)
        if Path(os.path.realpath(out_dir / split)) in (Path(folder), *Path(folder).parents)
    ]
    if inside or os.path.realpath(out_dir) == os.path.realpath(root):
        where = inside[0] if inside else root
        raise UserError(
            f"--out_dir {out_dir}: train/ and test/ would be among the videos in {where}; name another --out_dir."
        )
    for folder in (out_dir / split for split in SPLITS):
        if others := {row.get("source") or dataset for row in read_table(folder / INDEX)} - {dataset}:
            raise UserError(
                f"{folder} holds the data set {', '.join(sorted(others))}, with which {dataset} would be mixed, or "
                "whose place it would take; name another --out_dir."
            )
        if not (folder / INDEX).exists():
            files = [
                file
                for label in LABELS
                for file in sorted((folder / label).glob("*"))
                if is_video_name(file.name)
            ]
            if files:
                raise UserError(
                    f"{files[0]} was not made by collect.py; move it away, or name another --out_dir (videos of that "
                    f"kind in {folder}: {len(files)})."
                )


def check(first: Path, second: Path, by_content: bool) -> int:
    """Print what two index files share; the exit status."""
    found = shared(first, second, by_content)
    for what, values in found.items():
        listed = legible(f": {', '.join(values[:5])}{', ...' if len(values) > 5 else ''}") if values else ""
        print(f"shared {what:<10} {len(values):>7}{listed}")
    return 1 if any(found.values()) else 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.check:
        return check(*args.check, args.content)
    found = READERS[args.dataset](args.root)
    if args.dataset == "dftimit" and args.quality != "both":
        quality = {"lq": "lower_quality", "hq": "higher_quality"}[args.quality]
        found.entries = [entry for entry in found.entries if entry.category in ("", quality)]
        needed = {entry.original for entry in found.entries}
        found.entries = [entry for entry in found.entries if entry.label == "fake" or entry.name in needed]
    if not found.entries:
        missed = (
            f"; its records name {len(found.missing)} videos, the first {found.missing[0][0]}"
            if found.missing
            else ""
        )
        raise UserError(f"--root {args.root} holds no video of the data set{missed}.")
    lists = {split: path for split, path in (("train", args.train_list), ("test", args.test_list)) if path}
    if (
        args.dataset == "dfdc"
        and not lists
        and not args.split
        and not all(entry.split for entry in found.entries)
    ):
        lists = {split: ROOT / f"{split}_list.txt" for split in SPLITS}
    if lists:
        splits = by_lists(found, lists, args.on_leak)
    elif args.split:
        if args.group_by == "identity" and not any(entry.identity for entry in found.entries):
            raise UserError(
                "--group_by identity: this data set does not say who is in its videos; take --group_by original."
            )
        train, test = map(int, args.split.split(":"))
        own = [entry for entry in found.entries if entry.split == "test"] if args.dataset == "dfdc" else []
        if own and len(own) < len(found.entries):
            found.notes.append(f"the public test set ({len(own)} videos) is left out of --split")
            found.entries = [entry for entry in found.entries if entry.split != "test"]
        splits = split_entries(found.entries, test / (train + test), args.seed, args.group_by)
    else:
        splits = by_own_splits(found, args.dev)

    print(f"{'split':<6} {'real':>8} {'fake':>8}")
    for split, entries in splits.items():
        n = collections.Counter(entry.label for entry in entries)
        print(f"{split:<6} {n['real']:>8} {n['fake']:>8}")
    for note in found.notes[:20]:
        print(legible(f"note: {note}"))
    if len(found.notes) > 20:
        print(f"note: and {len(found.notes) - 20} more of that kind")
    if found.missing:
        counts = collections.Counter(part for _, part, _ in found.missing)
        listed = legible(", ".join(f"{part or 'all'} {n}" for part, n in sorted(counts.items())))
        n_found = len(found.entries) if found.n_wanted is None else found.n_wanted - len(found.missing)
        print(f"found {n_found:,} of {n_found + len(found.missing):,} videos")
        print(f"missing: {len(found.missing)} videos ({listed})")
    check_out(args.out_dir, args.root, found.entries, args.dataset)
    if args.dry_run:
        print("nothing was written (--dry_run)")
    else:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        write_table(args.out_dir / MISSING, MISSING_COLUMNS, sorted(found.missing))
    if found.missing and args.strict:
        raise UserError(
            f"--strict: {len(found.missing)} videos are missing, see {args.out_dir / MISSING}; nothing was laid out."
        )
    if args.dry_run:
        return 0
    if found.missing:
        print(f"names: {args.out_dir / MISSING}")
    if args.split:
        for split, entries in splits.items():
            lines = sorted(f"{entry.name}\n" for entry in entries if not re.search(r"[\r\n]", entry.name))
            if len(lines) < len(entries):
                print(
                    f"note: {len(entries) - len(lines)} names with line breaks can't stand in split_{split}.txt"
                )
            with replacing(args.out_dir / f"split_{split}.txt") as path:
                path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    lay_out(splits, found, args.out_dir, args.dataset, args.link)
    return 0


if __name__ == "__main__":
    run(main)
