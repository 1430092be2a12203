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
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from utils.chunkfiles import INDEX_COLUMNS, index_path, read_record, read_video, read_wav
from utils.cli import UserError, legible, run, to_path
from utils.constants import CHUNK_FRAMES, FPS, GROUP_COLUMNS, LABELS, SPLITS
from utils.tables import read_table, write_table

COLLECTED = "index.csv"  # of a split, by collect.py
N_THREADS = 8  # they wait for the disk and for the decoder, which works outside Python's lock


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out_dir", type=to_path, required=True, help="folder with train/ and test/ in it")
    return parser.parse_args(argv)


def check_chunk(folder: Path) -> str | None:
    """Why a chunk can't be used, or None: 30 readable frames of one size and 48,000 samples of sound."""
    try:
        read_video(folder)
        read_wav(folder.with_name(folder.name + ".wav"))
    except FileNotFoundError as error:
        return f"no {Path(error.filename).name}"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def list_chunks(video: Path, record: dict | None) -> list[tuple[int, str, float]]:
    """Track, name and start in seconds of each chunk of a video folder, from its record and from the folder
    itself.
    """
    names = {p.name for p in video.iterdir() if p.is_dir()} | {p.stem for p in video.glob("*.wav")}
    starts = {chunk["chunk"]: chunk["first_frame"] / FPS for chunk in record["chunks"]} if record else {}
    chunks = []
    for name in sorted(names | set(starts)):
        track, _, number = name.rpartition("_")  # <track>_<chunk>, or <chunk> of the only one
        # without a record (chunks made by the authors' code) a chunk's number is its second in the track
        start_s = starts.get(name, float(number) * CHUNK_FRAMES / FPS if number.isdecimal() else 0.0)
        chunks.append((int(track) if track.isdecimal() else 0, name, start_s))
    return chunks


def index_video(
    out_dir: Path, label: str, video: Path
) -> tuple[list[dict], list[tuple[str, str]], str | None]:
    """Index rows of a video's good chunks, (path, reason) of the others, and the hash of its settings if it
    has a record.
    """
    rows, rejects, record = [], [], read_record(video)
    for track, chunk, start_s in list_chunks(video, record):
        path = (video / chunk).relative_to(out_dir).as_posix()
        why = check_chunk(video / chunk)
        if why is None:
            values = (f"{label}/{video.name}", LABELS[label], track, chunk, path, round(start_s, 3))
            rows.append(dict(zip(INDEX_COLUMNS, values, strict=True)))
        else:
            rejects.append((path, why))
    return rows, rejects, record and record.get("settings_hash")


def index_split(out_dir: Path, split: str) -> tuple[list[dict], list[tuple[str, str]], set[str]]:
    """Rows of a split's index, sorted, (path, reason) of the chunks left out, and the hashes of the videos'
    settings.
    """
    videos = [
        (label, video)
        for label in sorted(LABELS)
        for video in sorted((out_dir / split / "pytmp" / label).glob("[!.]*"))
        if video.is_dir()
    ]
    with ThreadPoolExecutor(N_THREADS) as pool:
        found = pool.map(lambda item: index_video(out_dir, *item), videos)
        found = list(tqdm(found, total=len(videos), unit="video", desc=split))
    rows, rejects, hashes = zip(*found, strict=True) if found else ((), (), ())
    return list(chain(*rows)), list(chain(*rejects)), set(hashes) - {None}


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.out_dir.is_dir():
        raise UserError(
            f"--out_dir {args.out_dir}: there is no such folder; expected one with train/ and test/ in it."
        )
    splits = [split for split in SPLITS if (args.out_dir / split / "pytmp").is_dir()]
    if not splits and (args.out_dir / "pytmp").is_dir():
        raise UserError(
            f"{args.out_dir} is a split; did you mean --out_dir {args.out_dir.absolute().parent}, which holds it?"
        )
    if not splits:
        raise UserError(
            f"neither train/pytmp nor test/pytmp exists in {args.out_dir}; run pre-process.py --out_dir "
            f"{args.out_dir / 'train'} first."
        )
    all_rejects, settings = [], set()
    print(f"{'split':<6} {'label':<6} {'videos':>7} {'chunks':>8} {'seconds':>8}")
    for split in splits:
        rows, rejects, hashes = index_split(args.out_dir, split)
        settings |= hashes
        known = {row.get("video", ""): row for row in read_table(args.out_dir / split / COLLECTED)}
        if "" in known:
            raise UserError(
                f"{args.out_dir / split / COLLECTED} has rows without a video; run collect.py again, or delete it."
            )
        columns = [
            name
            for name in ("original", "identity", *GROUP_COLUMNS)
            if known and name in next(iter(known.values()))
        ]
        more = ([known.get(row["video"], {}).get(name, "") for name in columns] for row in rows)
        cells = ([*row.values(), *others] for row, others in zip(rows, more, strict=True))
        write_table(index_path(args.out_dir, split), [*INDEX_COLUMNS, *columns], cells)
        unknown = sorted({row["video"] for row in rows} - known.keys()) if known else []
        if unknown:
            print(
                legible(
                    f"note: {len(unknown)} videos are not in {args.out_dir / split / COLLECTED}, the first {unknown[0]}"
                )
            )
        for label, code in LABELS.items():
            chunks = [row for row in rows if row["label"] == code]
            n_videos = len({row["video"] for row in chunks})
            print(
                f"{split:<6} {label:<6} {n_videos:>7} {len(chunks):>8} {len(chunks) * CHUNK_FRAMES // FPS:>8}"
            )
        all_rejects += rejects
    write_table(args.out_dir / "rejects.csv", ("path", "reason"), all_rejects)
    for split in set(SPLITS) - set(splits):
        index_path(args.out_dir, split).unlink(missing_ok=True)
        print(
            f"{split}: {args.out_dir / split / 'pytmp'} does not exist, so there is no {index_path(args.out_dir, split)}"
        )
    if len(settings) > 1:
        print(
            f"note: the videos were pre-processed with {len(settings)} different settings; one for all is meant (--overwrite)"
        )
    if all_rejects:
        print(f"{len(all_rejects)} chunks left out, see {args.out_dir / 'rejects.csv'}:")
        for path, why in all_rejects[:10]:
            print(legible(f"  {path}: {why}"))
        print("to make a video's chunks again, delete its folder and run pre-process.py")


if __name__ == "__main__":
    run(main)
