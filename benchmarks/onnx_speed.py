"""Time the scoring of a chunk by PyTorch and, with the file of `train.py --export mds.onnx`, by onnxruntime.

    python benchmarks/onnx_speed.py --networks 32:0.25 112:1

Untrained networks, one chunk at a time from frames and MFCC on, one thread, both in turn, medians. Prints a
Markdown table. It takes the package onnx.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from engine import build_model
from model import TwoStreamNet
from onnx_export import export_onnx, input_arrays, named_outputs, probe_chunks
from utils.checkpoint import load_checkpoint
from utils.cli import number, run
from utils.environment import device_name

WARM_UP = 2


def network_of(text: str) -> tuple[int, float]:
    """An argparse type: side of the frames in pixels and width of the network."""
    img_dim, _, width = text.partition(":")
    return int(img_dim), float(width)


def measure_scoring(img_dim: int, width: float, repeat: int) -> tuple[float, float]:
    """Median seconds of a chunk by PyTorch and by onnxruntime."""
    torch.manual_seed(0)
    config = {"net": "resnet18", "img_dim": img_dim, "width": width, "final_dim": round(1024 * width)}
    with tempfile.TemporaryDirectory() as folder:
        path, file = Path(folder, "m.pth"), Path(folder, "m.onnx")
        torch.save({"config": config, "state_dict": TwoStreamNet(**config).state_dict()}, path)
        checkpoint = load_checkpoint(path, {})
        export_onnx(file, checkpoint, path)
        net = build_model(checkpoint, path).eval()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    arrays = input_arrays(net, probe_chunks(net)[-1:])
    frames, mfcc = map(torch.from_numpy, arrays.values())
    frames = frames.contiguous(memory_format=torch.channels_last_3d)  # as scoring has them

    @torch.inference_mode()
    def by_pytorch() -> None:
        named_outputs(net(frames, mfcc))

    seconds: list[list[float]] = [[], []]
    for i in range(WARM_UP + repeat):
        for times, score in zip(seconds, (by_pytorch, lambda: session.run(None, arrays)), strict=True):
            start = time.perf_counter()
            score()
            times += [time.perf_counter() - start] if i >= WARM_UP else []
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--networks", type=network_of, nargs="+", default=[(32, 0.25), (112, 1.0)], metavar="PIXELS:WIDTH")
    add("--repeat", type=number(int, 1), default=9)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    versions = f"PyTorch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"{device_name(torch.device('cpu'))}; {versions}\n")
    print("| frames | width | PyTorch | onnxruntime | PyTorch / onnxruntime |\n|---|---|---|---|---|")
    for img_dim, width in args.networks:
        ours, theirs = measure_scoring(img_dim, width, args.repeat)
        cells = f"{img_dim}×{img_dim} | {width:g} | {ours:.4f} s | {theirs:.4f} s | {ours / theirs:.2f}"
        print(f"| {cells} |")


if __name__ == "__main__":
    run(main)
