"""Lay out a published data set, as it lies on the disk, for pre-process.py: one command, splits that do not
leak.

    python collect.py --dataset dfdc --root DFDC --out_dir .                     # the authors' lists
    python collect.py --dataset fakeavceleb --root FakeAVCeleb --out_dir . --split 70:30 --group_by identity
    python collect.py --check train/index.csv test/index.csv                     # what do two splits share?

Reads the data set's own records below --root.  Writes <out_dir>/<train|test>/<real|fake>/<name> as links (no
second copy), an index.csv beside them (what is known of each video) and <out_dir>/missing.csv (what the
records name and the disk lacks); with --split also split_train.txt and split_test.txt, to be published or
given back by --train_list and --test_list.  Running it again goes on.  Exit status: 0, 1 if --check finds
something shared, 2 for bad arguments or, with --strict, missing videos.
"""

if __name__ == "__main__":  # before the imports
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import corpora  # which reads all data sets' files
from corpora.base import CORPORA, Entry, Listing, Missing
from corpora.layout import LINKS, LaidOut, Layout, check_place, lay_out
from corpora.lists import by_lists, by_own_splits
from corpora.splits import GROUPINGS, by_shares, shared
from utils.cli import MAX_SEED, HelpFormatter, UserError, legible, number, run, to_path
from utils.files import replacing
from utils.tables import write_table

MISSING = "missing.csv"
MAX_NOTES = 20
FROM_DESCRIPTIONS = (
    "read from descriptions, never tried on the data set itself: compare the counts with its own"
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    untried = ", ".join(name for name, corpus in CORPORA.items() if corpus.from_descriptions)
    what = f"what lies below --root; known from descriptions alone: {untried}"
    add("--dataset", choices=corpora.DATASETS, help=what)
    table = "for folder also a CSV file with the columns file and label"
    add("--root", type=to_path, help=f"folder of the data set; {table}")
    add("--out_dir", type=to_path, default=Path("."), help="where train/ and test/ are made")
    of_dfdc = "(default for dfdc: the authors' list)"
    add("--train_list", type=to_path, metavar="FILE", help=f"names of the training videos {of_dfdc}")
    add("--test_list", type=to_path, metavar="FILE", help=f"names of the test videos {of_dfdc}")
    add("--split", metavar="TRAIN:TEST", help="make a split of one's own in these shares, such as 85:15")
    add("--seed", type=number(int, 0, MAX_SEED), default=0, help="of --split (default: 0)")
    groups = "fakes with their original, all of a person, nothing"
    add("--group_by", choices=GROUPINGS, default="original", help=f"what --split keeps together: {groups}")
    none = "(default: test if the test split has no labels, else none)"
    add("--dev", choices=("train", "test", "none"), help=f"where a data set's dev or val split goes {none}")
    for corpus in CORPORA.values():
        for name, options in corpus.flags.items():
            add(f"--{name}", **options)
    leaks = "a real video that both lists need: keep it in both, in one, or drop it"
    add("--on_leak", choices=("keep", "train", "test", "drop"), default="keep", help=leaks)
    add("--link", choices=LINKS, default="sym", help="how videos are laid out")
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


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.check:
        return print_shared(shared(args.check, args.content))
    corpus = CORPORA[args.dataset]
    listing = corpus.read(args.root, **{name: vars(args)[name] for name in corpus.flags})
    if not listing.entries:
        raise nothing_there(args.root, listing.missing)
    if corpus.from_descriptions:
        listing.notes.insert(0, FROM_DESCRIPTIONS)

    given = {"train": args.train_list, "test": args.test_list} if args.train_list else {}
    if args.split:
        splits = by_shares(listing, args.split, args.seed, args.group_by)
    elif lists := given or listing.lists:
        splits = by_lists(listing, lists, args.on_leak, corpus.listed)
    else:
        splits = by_own_splits(listing, args.dev)
    print_listing(listing, splits)

    check_place(args.out_dir, args.root, listing.entries, args.dataset)
    if args.dry_run:
        print("nothing was written (--dry_run)")
    else:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        write_missing(args.out_dir, listing.missing)
    if listing.missing and args.strict:
        wrong = f"{len(listing.missing)} videos are missing, see {args.out_dir / MISSING}"
        raise UserError(f"--strict: {wrong}; nothing was laid out.")
    if args.dry_run:
        return 0
    if listing.missing:
        print(f"names: {args.out_dir / MISSING}")
    if args.split:
        write_lists(args.out_dir, splits)
    laid_out = lay_out(splits, Layout(listing.entries, args.out_dir, args.dataset, args.link))
    if laid_out.failed:
        write_missing(args.out_dir, [*listing.missing, *laid_out.failed.values()])
    print_laid_out(laid_out, args.out_dir)
    return 0


def nothing_there(root: Path, missing: list[Missing]) -> UserError:
    named = f"; its records name {len(missing)} videos, the first {missing[0].video}" if missing else ""
    return UserError(f"--root {root} holds no video of the data set{named}.")


def write_missing(out_dir: Path, missing: Iterable[Missing]) -> None:
    write_table(out_dir / MISSING, Missing._fields, sorted(missing))


def write_lists(out_dir: Path, splits: dict[str, list[Entry]]) -> None:
    """Write a split of one's own, to be published or given back."""
    for split, entries in splits.items():
        lines = sorted(f"{entry.name}\n" for entry in entries if not re.search(r"[\r\n]", entry.name))
        if n_odd := len(entries) - len(lines):
            print(f"note: {n_odd} names with line breaks can't stand in split_{split}.txt")
        with replacing(out_dir / f"split_{split}.txt") as path:
            path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def print_listing(listing: Listing, splits: dict[str, list[Entry]]) -> None:
    print(f"{'split':<6} {'real':>8} {'fake':>8}")
    for split, entries in splits.items():
        n = Counter(entry.label for entry in entries)
        print(f"{split:<6} {n['real']:>8} {n['fake']:>8}")
    for note in listing.notes[:MAX_NOTES]:
        print(legible(f"note: {note}"))
    if len(listing.notes) > MAX_NOTES:
        print(f"note: and {len(listing.notes) - MAX_NOTES} more of that kind")
    if n_missing := len(listing.missing):
        counts = Counter(missing.part for missing in listing.missing)
        parts = ", ".join(f"{part or 'all'} {n}" for part, n in sorted(counts.items()))
        n_found = len(listing.entries) if listing.n_wanted is None else listing.n_wanted - n_missing
        print(f"found {n_found:,} of {n_found + n_missing:,} videos")
        print(f"missing: {n_missing} videos ({legible(parts)})")


def print_laid_out(laid_out: LaidOut, out_dir: Path) -> None:
    for note in laid_out.notes:
        print(legible(f"note: {note}"))
    if failed := list(laid_out.failed.values()):
        first = legible(failed[0].why)
        print(f"{len(failed)} videos can't be read, the first: {first}; all in {out_dir / MISSING}")
    now = f"python pre-process.py --out_dir {out_dir / 'train'}"
    print(f"{laid_out.n_placed} videos put in place, the others were there; now: {now}")


def print_shared(found: dict[str, list[str]]) -> int:
    """Print what two index files share; the exit status."""
    for what, values in found.items():
        listed = legible(f": {', '.join(values[:5])}{', ...' if len(values) > 5 else ''}") if values else ""
        print(f"shared {what:<10} {len(values):>7}{listed}")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    run(main)
