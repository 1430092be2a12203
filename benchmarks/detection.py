"""How many frames per second each face detector gets through, by frame size, batch and precision.

    python benchmarks/detection.py --detectors s3fd --sizes 480x270 284x160 --batch_size 1 8 32 64

Prints a Markdown table, medians of --repeat runs.  Without --weights s3fd has random weights that find next
to nothing: the time of a network does not depend on them.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from detectors import DETECTORS, Detector, build_detector
from detectors.s3fd.network import S3FDNet
from utils.cli import UserError, number, pick_device, run, to_path
from utils.environment import device_name


def random_s3fd(device: str, half: bool = False) -> Detector:
    """S3FD with random weights, that finds next to nothing."""
    torch.manual_seed(0)
    net = S3FDNet()
    for head in net.conf:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        head.bias.data[0] = 5.0  # background
    with tempfile.TemporaryDirectory() as folder:
        torch.save(net.state_dict(), Path(folder) / "random.pth")
        return build_detector("s3fd", device, Path(folder) / "random.pth", half)


def frames_per_second(detector: Detector, size: tuple[int, int], batch_size: int, repeat: int) -> float:
    width, height = size
    frames = list(np.random.default_rng(0).integers(0, 256, (batch_size, height, width, 3), np.uint8))
    times = []
    for i in range(2 + repeat):
        start = time.perf_counter()
        detector.detect(frames)  # results are on the CPU, so the device has finished
        if i >= 2:
            times.append(time.perf_counter() - start)
    return batch_size / statistics.median(times)


def frame_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected <width>x<height> in pixels")
    return int(width), int(height)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add, whole, sizes = parser.add_argument, number(int, 1), [(480, 270), (284, 160)]
    add("--detectors", nargs="+", choices=DETECTORS, default=["s3fd"], help="default: s3fd")
    add("--weights", type=to_path, help="detector weights on disk, with one detector")
    add("--sizes", type=frame_size, nargs="+", default=sizes, help="default: 480x270 284x160")
    batches = [1, 8, 32, 64]
    add("--batch_size", type=whole, nargs="+", default=batches, help="frames (default: 1 8 32 64)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where s3fd runs (default: auto)")
    add("--repeat", type=whole, default=5, help="timed repetitions (default: 5)")
    args = parser.parse_args(argv)
    if args.weights and len(args.detectors) > 1:
        parser.error("--weights belong to one detector, got several --detectors")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    device = pick_device(args.device)
    print(f"{device_name(device)}; PyTorch {torch.__version__}\n")
    print("| detector | frames | batch | precision | frames/s |")
    print("|---" * 5 + "|", flush=True)
    for name, half in itertools.product(args.detectors, (False, True)):
        if half and name != "s3fd":
            continue
        try:
            if name == "s3fd" and not args.weights:
                detector = random_s3fd(str(device), half)
            else:
                detector = build_detector(name, str(device) if name == "s3fd" else "cpu", args.weights, half)
        except OSError as error:
            raise UserError(f"{error}") from error
        for size, batch_size in itertools.product(args.sizes, args.batch_size):
            rate = frames_per_second(detector, size, batch_size, args.repeat)
            cells = (f"{size[0]}×{size[1]}", str(batch_size), "half" if half else "float32", f"{rate:.1f}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    run(main)
