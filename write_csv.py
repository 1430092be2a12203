"""Check the chunks that pre-process.py wrote and list them: train_split.csv and test_split.csv.

    python write_csv.py --out_dir .

Reads <out_dir>/<train|test>/pytmp/<real|fake>/<video>/<chunk>/.  Writes <out_dir>/train_split.csv and
test_split.csv (a row per chunk: video, label, track, chunk, path, start_s) and rejects.csv (chunks left out,
and why).  Where collect.py has left an index.csv in a split, its columns original, identity, manipulation,
method, category and source are taken over.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import hashlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from utils.chunkfiles import (
    INDEX_COLUMNS,
    IndexRow,
    check_chunk,
    chunk_frames,
    frame_bytes,
    index_path,
    length_of,
    list_chunks,
    read_record,
    sound_path,
    track_of,
)
from utils.cli import HelpFormatter, UserError, legible, run, to_path
from utils.constants import COLLECTED_COLUMNS, LABELS, SECOND, SPLITS, ChunkLength
from utils.tables import read_table, write_table

COLLECTED = "index.csv"  # of a split, by collect.py
REJECTS = "rejects.csv"
N_THREADS = 8  # they wait for the disk and for the decoder, which works outside Python's lock
N_SHOWN = 10  # rejects


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    parser.add_argument("--out_dir", type=to_path, required=True, help="folder with train/ and test/ in it")
    return parser.parse_args(argv)


@dataclass
class Checked:
    """What was found in the folders of some videos."""

    rows: list[IndexRow] = field(default_factory=list)  # of the good chunks
    rejects: list[tuple[str, str]] = field(default_factory=list)  # path of each other chunk, and why
    settings: set[str] = field(default_factory=set)  # hashes of those that the videos were made with
    lengths: dict[ChunkLength, str] = field(default_factory=dict)  # of the chunks, each with a video of it
    digests: dict[Path, bytes] = field(default_factory=dict)  # of a good chunk of each video

    def add(self, other: "Checked") -> None:
        self.rows += other.rows
        self.rejects += other.rejects
        self.settings |= other.settings
        self.lengths = other.lengths | self.lengths
        self.digests |= other.digests


def check_video(out_dir: Path, label: str, video: Path) -> Checked:
    """Check the chunks in a video's folder."""
    found, record = Checked(), read_record(video)
    length = length_of(record)
    for name, start_s in list_chunks(video, record):
        path = (video / name).relative_to(out_dir).as_posix()
        why = check_chunk(video / name, length)
        if why is None:
            video_name, track = f"{label}/{video.name}", track_of(name)
            found.lengths[length] = video_name
            if not found.rows:
                found.digests[video.relative_to(out_dir)] = first_chunk_digest(video / name, length)
            found.rows.append(IndexRow(video_name, LABELS[label], track, name, path, round(start_s, 3)))
        else:
            found.rejects.append((path, why))
    if record and "settings_hash" in record:
        found.settings.add(record["settings_hash"])
    return found


def first_chunk_digest(chunk: Path, length: ChunkLength) -> bytes:
    """Of a chunk's first picture and its sound, which the same video in another folder has, too."""
    first = frame_bytes(chunk_frames(chunk, length)[0])
    return hashlib.sha256(first + sound_path(chunk).read_bytes()).digest()


def check_split(out_dir: Path, split: str) -> Checked:
    """Check the chunks of all videos of a split, in order of their labels and names."""
    found = Checked()
    videos = [
        (label, video)
        for label in sorted(LABELS)
        for video in sorted((out_dir / split / "pytmp" / label).glob("[!.]*"))
        if video.is_dir()
    ]
    with ThreadPoolExecutor(N_THREADS) as pool:
        checked = pool.map(lambda item: check_video(out_dir, *item), videos)
        for of_video in tqdm(checked, total=len(videos), unit="video", desc=split):
            found.add(of_video)
    return found


def find_splits(out_dir: Path) -> list[str]:
    """The splits below a folder that have chunks; UserError if there are none."""
    if not out_dir.is_dir():
        raise UserError(
            f"--out_dir {out_dir}: there is no such folder; expected one with train/ and test/ in it."
        )
    splits = [split for split in SPLITS if (out_dir / split / "pytmp").is_dir()]
    if not splits and (out_dir / "pytmp").is_dir():
        parent = out_dir.absolute().parent
        raise UserError(f"{out_dir} is a split; did you mean --out_dir {parent}, which holds it?")
    if not splits:
        first = f"run pre-process.py --out_dir {out_dir / 'train'} first."
        raise UserError(f"neither train/pytmp nor test/pytmp exists in {out_dir}; {first}")
    return splits


def one_length(out_dir: Path, split: str, found: Checked) -> ChunkLength:
    """How long the chunks of a split are; UserError if they are not all as long."""
    if len(found.lengths) > 1:
        listed = ", ".join(f"{length.chunk_s:g} s in {video}" for length, video in found.lengths.items())
        raise UserError(
            f"the chunks in {out_dir / split / 'pytmp'} are of several lengths ({listed}), expected one; "
            "make all with one --chunk_s (pre-process.py --overwrite), or delete the folders of the others."
        )
    return next(iter(found.lengths), SECOND)


def write_index(out_dir: Path, split: str, rows: list[IndexRow], length: ChunkLength) -> None:
    """Write the index of a split, with what collect.py knows of its videos; the length of its chunks is in it
    where that is not a second.
    """
    path = out_dir / split / COLLECTED
    known = {row.get("video", ""): row for row in read_table(path)}
    if "" in known:
        raise UserError(f"{path} has rows without a video; run collect.py again, or delete it.")
    first_known = next(iter(known.values()), {})
    columns = [name for name in COLLECTED_COLUMNS if name in first_known]
    more = ([known.get(row.video, {}).get(name, "") for name in columns] for row in rows)
    lengths = {} if length == SECOND else {"chunk_s": length.chunk_s}
    cells = ([*row, *lengths.values(), *others] for row, others in zip(rows, more, strict=True))
    write_table(index_path(out_dir, split), [*INDEX_COLUMNS, *lengths, *columns], cells)
    unknown = sorted({row.video for row in rows} - known.keys()) if known else []
    if unknown:
        print(legible(f"note: {len(unknown)} videos are not in {path}, the first {unknown[0]}"))


def print_counts(split: str, rows: list[IndexRow], length: ChunkLength) -> None:
    for label, code in LABELS.items():
        videos = [row.video for row in rows if row.label == code]
        n_chunks = len(videos)
        n_s = int(n_chunks * length.chunk_s)
        print(f"{split:<6} {label:<6} {len(set(videos)):>7} {n_chunks:>8} {n_s:>8}")


def remove_index(out_dir: Path, split: str) -> None:
    """Remove the index of a split that has no chunks."""
    path = index_path(out_dir, split)
    path.unlink(missing_ok=True)
    print(f"{split}: {out_dir / split / 'pytmp'} does not exist, so there is no {path}")


def print_oddities(found: Checked, path: Path) -> None:
    """Say what is odd about the chunks of all splits; `path` is the table of those that are left out."""
    if len(found.settings) > 1:
        words = f"the videos were pre-processed with {len(found.settings)} different settings"
        print(f"note: {words}; one for all is meant (--overwrite)")
    print_in_both_splits(found.digests)
    if found.rejects:
        print(f"{len(found.rejects)} chunks left out, see {path}:")
        for chunk, why in found.rejects[:N_SHOWN]:
            print(legible(f"  {chunk}: {why}"))
        print("to make a video's chunks again, delete its folder and run pre-process.py")


def print_in_both_splits(digests: dict[Path, bytes]) -> None:
    """Say which videos are in both splits: a test with videos that were trained on tells nothing."""
    same = defaultdict(list)
    for video, digest in digests.items():
        same[digest].append(video)
    of_split = [{video.parts[0]: video for video in videos} for videos in same.values()]
    both = [list(videos.values()) for videos in of_split if len(videos) > 1]
    if both:
        names = " and ".join(video.as_posix().replace("/pytmp", "", 1) for video in both[0])
        words = f"videos in both splits: {len(both)}, the first as {names}"
        print(legible(f"note: {words}; remove them from one, a test on videos of the training says nothing"))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    splits, every = find_splits(args.out_dir), Checked()
    print(f"{'split':<6} {'label':<6} {'videos':>7} {'chunks':>8} {'seconds':>8}")
    for split in splits:
        found = check_split(args.out_dir, split)
        length = one_length(args.out_dir, split, found)
        write_index(args.out_dir, split, found.rows, length)
        print_counts(split, found.rows, length)
        every.add(found)
    write_table(args.out_dir / REJECTS, ("path", "reason"), every.rejects)
    for split in set(SPLITS) - set(splits):
        remove_index(args.out_dir, split)
    print_oddities(every, args.out_dir / REJECTS)


if __name__ == "__main__":
    run(main)
