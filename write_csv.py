"""Check the chunks that pre-process.py wrote and list them: train_split.csv and test_split.csv.

    python write_csv.py --out_dir .

Reads <out_dir>/<train|test>/pytmp/<real|fake>/<video>/<chunk>/.  Writes <out_dir>/train_split.csv and test_split.csv (a row
per chunk: video, label, chunk, path, start_s) and rejects.csv (chunks left out, and why).
"""

import argparse
import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from dataset import INDEX_COLUMNS, LABELS, SPLITS, chunk_frames, index_path
from utils.chunking import read_record
from utils.cli import UserError, run
from utils.media import CHUNK_FRAMES, FPS, read_wav

JPEG_END = b"\xff\xd9"
N_THREADS = 8  # they wait for the disk and for OpenCV, which works outside Python's lock


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out_dir", type=Path, required=True, help="folder with train/ and test/ in it")
    return parser.parse_args(argv)


def check_chunk(folder: Path) -> str | None:
    """Why a chunk can't be used, or None: 30 readable frames of one size and 48,000 samples of sound."""
    try:
        shapes = set()
        for path in chunk_frames(folder):
            data = path.read_bytes()
            image = None
            if data.endswith(JPEG_END):  # OpenCV fills a cut file with grey and says nothing
                image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
            if image is None:
                return f"frame {path.name} is damaged"
            shapes.add(image.shape)
        if len(shapes) > 1:
            return "frames of several sizes"
        read_wav(folder.with_name(folder.name + ".wav"))
    except FileNotFoundError as error:
        return f"no {Path(error.filename).name}"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def list_chunks(video: Path) -> list[tuple[str, float]]:
    """Name and start in seconds of each chunk of a video folder, from its record and from the folder itself."""
    names = {p.name for p in video.iterdir() if p.is_dir()} | {p.stem for p in video.glob("*.wav")}
    record = read_record(video)
    starts = {chunk["chunk"]: chunk["first_frame"] / FPS for chunk in record["chunks"]} if record else {}
    # without a record (chunks made by the authors' code) a chunk's number is its second in the track
    return [
        (name, starts.get(name, float(name) * CHUNK_FRAMES / FPS if name.isdecimal() else 0.0))
        for name in sorted(names | set(starts))
    ]


def index_split(out_dir: Path, split: str) -> tuple[list[dict], list[tuple[str, str]]]:
    """Rows of a split's index, sorted, and (path, reason) of the chunks left out."""
    rows = []
    for label, code in sorted(LABELS.items()):
        for video in sorted(p for p in (out_dir / split / "pytmp" / label).glob("[!.]*") if p.is_dir()):
            for chunk, start_s in list_chunks(video):
                path = (video / chunk).relative_to(out_dir).as_posix()
                values = (f"{label}/{video.name}", code, chunk, path, round(start_s, 3))
                rows.append(dict(zip(INDEX_COLUMNS, values, strict=True)))
    with ThreadPoolExecutor(N_THREADS) as pool:
        checks = pool.map(lambda row: check_chunk(out_dir / row["path"]), rows)
        reasons = list(tqdm(checks, total=len(rows), unit="chunk", desc=split))
    good = [row for row, why in zip(rows, reasons, strict=True) if why is None]
    rejects = [(row["path"], why) for row, why in zip(rows, reasons, strict=True) if why is not None]
    return good, rejects


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    splits = [split for split in SPLITS if (args.out_dir / split / "pytmp").is_dir()]
    if not splits:
        raise UserError(
            f"neither train/pytmp nor test/pytmp exists in {args.out_dir}; run pre-process.py --out_dir "
            f"{args.out_dir / 'train'} first."
        )
    all_rejects = []
    print(f"{'split':<6} {'label':<6} {'videos':>7} {'chunks':>8} {'seconds':>8}")
    for split in splits:
        rows, rejects = index_split(args.out_dir, split)
        with index_path(args.out_dir, split).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, INDEX_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        for label, code in LABELS.items():
            chunks = [row for row in rows if row["label"] == code]
            n_videos = len({row["video"] for row in chunks})
            print(f"{split:<6} {label:<6} {n_videos:>7} {len(chunks):>8} {len(chunks) * CHUNK_FRAMES // FPS:>8}")
        all_rejects += rejects
    with (args.out_dir / "rejects.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "reason"), *all_rejects])
    for split in set(SPLITS) - set(splits):
        print(f"{split}: {args.out_dir / split / 'pytmp'} does not exist, no index written")
    if all_rejects:
        print(f"{len(all_rejects)} chunks left out, see {args.out_dir / 'rejects.csv'}:")
        for path, why in all_rejects[:10]:
            print(f"  {path}: {why}")


if __name__ == "__main__":
    run(main)
