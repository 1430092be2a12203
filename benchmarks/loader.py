"""Time the loader alone: chunks per second and core, beside the plain way to read a chunk.

    python benchmarks/loader.py --out_dir . --img_dim 224 112 64

Reads chunks of <out_dir>/train_split.csv, from the page cache after the first pass.  Prints a Markdown table: our data set in one
process and in loader processes, then single steps: decoding and MFCC alone, and the plain way (PIL for each frame, resized and
normalised frame by frame, MFCC by python_speech_features).
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from python_speech_features import mfcc
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from augmentation import IMAGENET_MEAN, IMAGENET_STD
from dataset import ChunkDataset, build_loader, chunk_frames, read_index, read_video, scoring_batches
from utils.audio import N_FFT, chunk_mfcc
from utils.cli import n_cores, number, run, to_path
from utils.media import SAMPLE_RATE_HZ, read_wav
from utils.runs import device_name


def plain_chunk(folder: Path, img_dim: int) -> tuple[torch.Tensor, np.ndarray]:
    """A chunk as a script without regard to speed reads it."""
    transform = v2.Compose(
        [
            v2.Resize((img_dim, img_dim)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    video = torch.stack([transform(Image.open(path).convert("RGB")) for path in chunk_frames(folder)], 1)
    samples = read_wav(folder.with_name(folder.name + ".wav"))
    return video, mfcc(samples, SAMPLE_RATE_HZ, nfft=N_FFT).T


def per_second(items: Sequence, function: Callable, repeat: int) -> float:
    """How many items a second a function of one item gets done: the median of several passes, after a warm-up."""
    times = []
    for _ in range(1 + repeat):
        start = time.perf_counter()
        for item in items:
            function(item)
        times.append(time.perf_counter() - start)
    return len(items) / statistics.median(times[1:])


def loaded_per_second(dataset: ChunkDataset, batch_size: int, num_workers: int, repeat: int) -> float:
    """How many chunks a second the loader gives, the start of its processes included."""
    loader = build_loader(dataset, scoring_batches(len(dataset), batch_size), num_workers)
    return len(dataset) * per_second([loader], lambda loader: [None for _ in loader], repeat)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out_dir", type=to_path, required=True, help="folder with train_split.csv")
    parser.add_argument("--img_dim", type=number(int, 32), nargs="+", default=[224, 112, 64], help="default: 224 112 64")
    parser.add_argument("--batch_size", type=number(int, 1), default=8, help="chunks (default: 8)")
    parser.add_argument("--n_chunks", type=number(int, 1), default=200, help="of the index, at most (default: 200)")
    parser.add_argument("--num_workers", type=number(int, 1), default=n_cores(), help="default: the cores available")
    parser.add_argument("--repeat", type=number(int, 1), default=3, help="timed repetitions (default: 3)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    index = read_index(args.out_dir, "train")
    index = index.sample(min(args.n_chunks, len(index)), random_state=0).reset_index(drop=True)
    n = len(index)
    folders = [args.out_dir / path for path in index.path]
    kilobytes = statistics.mean(path.stat().st_size for folder in folders for path in chunk_frames(folder)) / 1000
    print(f"{device_name(torch.device('cpu'))}; {n_cores()} cores, PyTorch {torch.__version__}, OpenCV {cv2.__version__}, Python "
          f"{platform.python_version()}; {n} chunks, {kilobytes:.1f} kB a frame\n")  # fmt: skip
    print("| frames | chunks/s, one process | loader processes | chunks/s | per core | plain way, one process | decoding alone |")
    print("|---" * 7 + "|")
    for img_dim in args.img_dim:
        dataset = ChunkDataset(index, args.out_dir, img_dim)
        ours, spread = (loaded_per_second(dataset, args.batch_size, workers, args.repeat) for workers in (0, args.num_workers))
        plain = per_second(folders[: max(1, n // 4)], partial(plain_chunk, img_dim=img_dim), args.repeat)
        decoding = per_second(folders, partial(read_video, img_dim=img_dim), args.repeat)
        per_core = spread / min(args.num_workers, n_cores())
        cells = (f"{ours:.1f}", args.num_workers, f"{spread:.1f}", f"{per_core:.1f}", f"{plain:.1f}", f"{decoding:.1f}")
        print(f"| {img_dim}×{img_dim} | " + " | ".join(map(str, cells)) + " |")
    sounds = [read_wav(folder.with_name(folder.name + ".wav")) for folder in folders]
    rate = per_second(sounds, chunk_mfcc, args.repeat)
    plain_rate = per_second(sounds, partial(mfcc, samplerate=SAMPLE_RATE_HZ, nfft=N_FFT), args.repeat)
    print(f"\nMFCC alone: {rate:.0f} chunks/s; python_speech_features.mfcc: {plain_rate:.0f}")


if __name__ == "__main__":
    run(main)
