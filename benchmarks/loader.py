"""Time the loader alone: chunks per second and core, beside the plain way to read a chunk.

    python benchmarks/loader.py --out_dir . --img_dim 224 112 64

Reads chunks of <out_dir>/train_split.csv, from the page cache after the first pass.  Prints a Markdown table:
our data set in one process and in loader processes, then single steps: decoding and MFCC alone, and the plain
way (PIL for each frame, resized and normalised frame by frame, MFCC by python_speech_features).

--train: instead, the loader beside the training step of train.py: chunks per second and the share of the time
spent waiting for the loader, after its first batch; on a GPU also the rate of torchvision's decoder there.
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
import pandas as pd
import torch
from PIL import Image
from python_speech_features import mfcc
from torchvision.io import decode_jpeg
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from augmentation import IMAGENET_MEAN, IMAGENET_STD
from dataset import ChunkDataset, build_loader, epoch_batches, epoch_order, read_index, scoring_batches
from engine import AMP, Epoch, Execution, Objective, Trainer, train_epoch
from model import TwoStreamNet
from utils.chunkfiles import chunk_frames, read_video, read_wav
from utils.cli import n_cores, number, run, to_path
from utils.constants import CHUNK_FRAMES, SAMPLE_RATE_HZ
from utils.environment import device_name
from utils.mfcc import N_FFT, chunk_mfcc
from utils.ranks import Ranks

AMP_NAMES = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}


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
    """How many items a second a function of one item gets done: the median of several passes, after a
    warm-up.
    """
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


def measure_training(
    index: pd.DataFrame, root: Path, img_dim: int, batch_size: int, amp: str, num_workers: int, ranks: Ranks
) -> tuple[float, float]:
    """Train on the chunks of an index once: chunks per second, and the share of the time spent waiting for
    the loader.
    """
    torch.manual_seed(0)
    model = TwoStreamNet(img_dim=img_dim).to(ranks.device).train()
    trainer = Trainer(model, ranks, Objective(0.99), lr=1e-6, weight_decay=1e-5, execution=Execution(amp))
    epoch = Epoch(index, ranks)
    dataset = ChunkDataset(index, root, img_dim)
    batches = epoch_batches(epoch_order(dataset.labels, 0), batch_size)
    n_warm_up = max(1, len(batches) // 5)  # the loader's processes start, the GPU picks its kernels
    at_start: list[float] = []  # of what is measured: the time, seconds waited and chunks taken until then

    def after_step() -> None:
        if epoch.n_steps == n_warm_up:
            epoch.checked_losses(1)
            at_start.extend((time.perf_counter(), epoch.wait_s, epoch.position))

    train_epoch(trainer, epoch, build_loader(dataset, batches, num_workers, ranks.on_gpu), after_step)
    epoch.checked_losses(1)  # waits for the device
    start, wait_s, position = at_start
    seconds = time.perf_counter() - start
    return (epoch.position - position) / seconds, (epoch.wait_s - wait_s) / seconds


def run_training(args: argparse.Namespace, index: pd.DataFrame) -> None:
    ranks = Ranks("auto")
    print(f"{device_name(ranks.device)}; {n_cores()} cores, PyTorch {torch.__version__}\n")
    print("| frames | batch | precision | loader processes | trained chunks/s | waiting for the loader |")
    print("|---" * 6 + "|", flush=True)
    for img_dim in args.img_dim:
        for amp in args.train:
            for batch_size in args.batch_size:
                repeated = pd.concat([index] * -(-args.n_chunks // len(index)))[: args.n_chunks].reset_index(
                    drop=True
                )
                rate, share = measure_training(
                    repeated, args.out_dir, img_dim, batch_size, amp, args.num_workers, ranks
                )
                cells = (batch_size, AMP_NAMES[amp], args.num_workers, f"{rate:.1f}", f"{share:.1%}")
                print(f"| {img_dim}×{img_dim} | " + " | ".join(map(str, cells)) + " |", flush=True)
    if ranks.device.type == "cuda":
        paths = [path for path in index.path[:32] for path in chunk_frames(args.out_dir / path)]
        jpegs = [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in paths]
        seconds = []
        for _ in range(1 + args.repeat):
            start = time.perf_counter()
            decode_jpeg(jpegs, device=ranks.device)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        rate = len(jpegs) / CHUNK_FRAMES / statistics.median(seconds[1:])
        print(f"\nJPEG decoding on the GPU by torchvision, {len(jpegs)} frames at once: {rate:.0f} chunks/s")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out_dir", type=to_path, required=True, help="folder with train_split.csv")
    parser.add_argument(
        "--img_dim", type=number(int, 32), nargs="+", default=[224, 112, 64], help="default: 224 112 64"
    )
    parser.add_argument(
        "--batch_size", type=number(int, 1), nargs="+", default=[8], help="chunks (default: 8)"
    )
    parser.add_argument("--n_chunks", type=number(int, 1), default=200, help="of the index (default: 200)")
    parser.add_argument(
        "--num_workers", type=number(int, 1), default=n_cores(), help="default: the cores available"
    )
    parser.add_argument("--repeat", type=number(int, 1), default=3, help="timed repetitions (default: 3)")
    parser.add_argument(
        "--train",
        nargs="*",
        choices=AMP,
        metavar="PRECISION",
        help=f"measure the loader beside the training step, in some of {', '.join(AMP)} (default: off)",
    )
    args = parser.parse_args(argv)
    if args.train == []:
        args.train = ["off"]
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    index = read_index(args.out_dir, "train")
    if args.train:
        run_training(args, index)
        return
    torch.set_num_threads(1)
    index = index.sample(min(args.n_chunks, len(index)), random_state=0).reset_index(drop=True)
    n = len(index)
    folders = [args.out_dir / path for path in index.path]
    kilobytes = (
        statistics.mean(path.stat().st_size for folder in folders for path in chunk_frames(folder)) / 1000
    )
    print(
        f"{device_name(torch.device('cpu'))}; {n_cores()} cores, PyTorch {torch.__version__}, OpenCV "
        f"{cv2.__version__}, Python "
        f"{platform.python_version()}; {n} chunks, {kilobytes:.1f} kB a frame\n"
    )
    print(
        "| frames | chunks/s, one process | loader processes | chunks/s | per core | plain way, one process "
        "| decoding alone |"
    )
    print("|---" * 7 + "|")
    for img_dim in args.img_dim:
        dataset = ChunkDataset(index, args.out_dir, img_dim)
        ours, spread = (
            loaded_per_second(dataset, args.batch_size[0], workers, args.repeat)
            for workers in (0, args.num_workers)
        )
        plain = per_second(folders[: max(1, n // 4)], partial(plain_chunk, img_dim=img_dim), args.repeat)
        decoding = per_second(folders, partial(read_video, img_dim=img_dim), args.repeat)
        per_core = spread / min(args.num_workers, n_cores())
        cells = (
            f"{ours:.1f}",
            args.num_workers,
            f"{spread:.1f}",
            f"{per_core:.1f}",
            f"{plain:.1f}",
            f"{decoding:.1f}",
        )
        print(f"| {img_dim}×{img_dim} | " + " | ".join(map(str, cells)) + " |")
    sounds = [read_wav(folder.with_name(folder.name + ".wav")) for folder in folders]
    rate = per_second(sounds, chunk_mfcc, args.repeat)
    plain_rate = per_second(sounds, partial(mfcc, samplerate=SAMPLE_RATE_HZ, nfft=N_FFT), args.repeat)
    print(f"\nMFCC alone: {rate:.0f} chunks/s; python_speech_features.mfcc: {plain_rate:.0f}")


if __name__ == "__main__":
    run(main)
