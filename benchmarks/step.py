"""Time a training step: part by part, and with other precisions, memory formats and ways to compute.

    python benchmarks/step.py --img_dim 64 224 --device auto
    python benchmarks/step.py --img_dim 64 224 --trials

Random input, medians.  Prints a Markdown table of seconds: the whole step of `train.py` (copy, normalisation, forward, three
losses, backward, Adam), the visual stream and the audio stream alone (forward and backward), Adam alone, and the evaluation
forward.  --trials: the step as train.py takes it and with one thing changed at a time, each in a process of its own, with its
peak memory and the arithmetic that it gets done.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import engine
from augmentation import normalize
from engine import Trainer, forward
from model import TwoStreamNet
from utils.cli import number, run
from utils.distributed import Ranks
from utils.runs import device_name, peak_memory_mb

WARM_UP = 2
TRIALS = {  # what is changed -> arguments of Trainer
    "as train.py": {},
    "--amp bf16": {"amp": "bf16"},
    "--amp fp16": {"amp": "fp16"},
    "--compile": {"compile": True},
    "--amp bf16 --compile": {"amp": "bf16", "compile": True},
    "channels first in memory": {},
    "2-D stages as 2-D convolutions": {},
    "gradient checkpointing of the visual stream": {},
    "Adam not fused": {},
    "convolutions in full float32, no TF32": {},
    "matrix products in TF32 too": {},
    "cudnn.benchmark": {},
}
ON_GPU_ALONE = ("--amp fp16", "convolutions in full float32, no TF32", "matrix products in TF32 too", "cudnn.benchmark")


def median_s(function: Callable[[], None], device: torch.device, repeat: int) -> float:
    times = []
    for i in range(WARM_UP + repeat):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i >= WARM_UP:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def random_batch(img_dim: int, batch_size: int, device: torch.device) -> dict[str, Tensor]:
    """What the loader gives."""
    batch = {
        "video": torch.randint(0, 256, (batch_size, 30, img_dim, img_dim, 3), dtype=torch.uint8),
        "audio": torch.randn(batch_size, 1, 13, 99),
        "label": torch.arange(batch_size) % 2,
        "row": torch.arange(batch_size),
    }
    return {key: tensor.pin_memory() if device.type == "cuda" else tensor for key, tensor in batch.items()}


def measure(img_dim: int, batch_size: int, ranks: Ranks, repeat: int) -> list[float]:
    """Seconds: step, visual stream, audio stream, Adam, evaluation."""
    torch.manual_seed(0)
    device = ranks.device
    model = TwoStreamNet(img_dim=img_dim).to(device).train()
    trainer = Trainer(model, ranks, lr=1e-3, weight_decay=1e-5, margin=0.99)
    batch = random_batch(img_dim, batch_size, device)
    video, audio = normalize(batch["video"].to(device)), batch["audio"].to(device)

    def evaluate() -> None:
        with torch.inference_mode():
            forward(model, batch, device, "off")

    parts = [
        lambda: trainer.step([batch], 1),
        lambda: model.netfclip(model.netcnnlip(video).mean(2).flatten(1)).sum().backward(),
        lambda: model.netfcaud(model.netcnnaud(audio).flatten(1)).sum().backward(),
        trainer.optimizer.step,
    ]
    seconds = [median_s(part, device, repeat) for part in parts]
    model.eval()
    return [*seconds, median_s(evaluate, device, repeat)]


class FoldedConv(nn.Conv3d):
    """A 3-D convolution that computes as a 2-D one of all frames where it can."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size[0] > 1 or self.stride[0] > 1:
            return super().forward(x)
        frames = x.transpose(1, 2).flatten(0, 1)  # (B, C, T, H, W) -> (B*T, C, H, W)
        y = F.conv2d(frames, self.weight[:, :, 0], None, self.stride[1:], self.padding[1:])
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def try_step(name: str, img_dim: int, batch_size: int, device: str, repeat: int) -> tuple[float, float, float]:
    """One trial: seconds a step, peak memory in MB, operations (multiplications and additions) a step in units of 10^12."""
    torch.manual_seed(0)
    ranks = Ranks(device)
    if name.startswith("convolutions in full"):
        torch.backends.cudnn.allow_tf32 = False
    if name.startswith("matrix products"):
        torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = name == "cudnn.benchmark"
    model = TwoStreamNet(img_dim=img_dim).to(ranks.device).train()
    trainer = Trainer(model, ranks, lr=1e-3, weight_decay=1e-5, margin=0.99, **TRIALS[name])
    if name.startswith("channels first"):
        model.netcnnlip.to(memory_format=torch.contiguous_format)
        engine.normalize = lambda video: normalize(video).contiguous()
    if name.startswith("2-D"):
        for module in model.modules():
            if isinstance(module, nn.Conv3d):
                module.__class__ = FoldedConv
    if name.startswith("gradient checkpointing"):
        whole = model.netcnnlip.forward
        model.netcnnlip.forward = lambda x: checkpoint(whole, x, use_reentrant=False)
    if name.startswith("Adam"):
        trainer.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    batch = random_batch(img_dim, batch_size, ranks.device)
    seconds = median_s(lambda: trainer.step([batch], 1), ranks.device, repeat)
    memory = peak_memory_mb(ranks.device)
    with FlopCounterMode(display=False) as counter:
        Trainer(model, ranks, lr=0, weight_decay=0, margin=0.99).step([batch], 1)
    return seconds, memory, counter.get_total_flops() / 1e12


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--img_dim", type=number(int, 32), nargs="+", default=[64, 112, 224], help="default: 64 112 224")
    parser.add_argument("--batch_size", type=number(int, 2), nargs="+", default=[8], help="chunks (default: 8)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--repeat", type=number(int, 1), default=5, help="timed repetitions (default: 5)")
    parser.add_argument(
        "--trials", nargs="*", choices=TRIALS, metavar="NAME", help=f"some of {', '.join(TRIALS)}; without names all"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    ranks = Ranks(args.device)
    print(f"{device_name(ranks.device)}; PyTorch {torch.__version__}, Python {platform.python_version()}\n")
    cases = [(img_dim, batch_size) for img_dim in args.img_dim for batch_size in args.batch_size]
    if args.trials is None:
        print("| frames | batch | step | visual stream | audio stream | Adam | evaluation | chunks/s in training |")
        print("|---" * 8 + "|")
        for img_dim, batch_size in cases:
            seconds = measure(img_dim, batch_size, ranks, args.repeat)
            cells = " | ".join(f"{s:.3f} s" for s in seconds)
            print(f"| {img_dim}×{img_dim} | {batch_size} | {cells} | {batch_size / seconds[0]:.1f} |")
        return
    print("| frames | batch | what | step | chunks/s | peak memory | TFLOP/s |")
    print("|---" * 7 + "|")
    for img_dim, batch_size in cases:
        for name in args.trials or TRIALS:
            if name in ON_GPU_ALONE and ranks.device.type != "cuda":
                continue
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # for its own peak of memory
                try:
                    trial = pool.submit(try_step, name, img_dim, batch_size, ranks.device.type, args.repeat)
                    seconds, memory, tera = trial.result()
                except (RuntimeError, BrokenProcessPool) as error:
                    print(f"| {img_dim}×{img_dim} | {batch_size} | {name} | failed: {str(error).splitlines()[0][:80]} | | | |")
                    continue
            cells = (f"{seconds:.3f} s", f"{batch_size / seconds:.1f}", f"{memory:.0f} MB", f"{tera / seconds:.2f}")
            print(f"| {img_dim}×{img_dim} | {batch_size} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    run(main)
