"""Time a training step part by part: median of several repetitions on random input.

    python benchmarks/step.py --img_dim 64 224 --device auto

Prints a Markdown table of seconds: the whole step of `train.py` (forward, three losses, backward, Adam), the visual stream and
the audio stream alone (forward and backward), Adam alone, and the evaluation forward.
"""

import argparse
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from model import TwoStreamNet, contrastive_loss
from utils.cli import number, pick_device

WARM_UP = 2


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


def measure(img_dim: int, batch_size: int, device: torch.device, repeat: int) -> list[float]:
    """Seconds: step, visual stream, audio stream, Adam, evaluation."""
    torch.manual_seed(0)
    model = TwoStreamNet(img_dim=img_dim).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    video = torch.randn(batch_size, 3, 30, img_dim, img_dim, device=device)
    audio = torch.randn(batch_size, 1, 13, 99, device=device)
    label = torch.arange(batch_size, device=device) % 2

    def step() -> None:
        out = model(video, audio)
        loss = contrastive_loss(out["video_emb"], out["audio_emb"], label, 0.99)
        loss = loss + F.cross_entropy(out["video_logits"], label) + F.cross_entropy(out["audio_logits"], label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def evaluate() -> None:
        with torch.inference_mode():
            model(video, audio)

    parts = [
        step,
        lambda: model.netfclip(model.netcnnlip(video).mean(2).flatten(1)).sum().backward(),
        lambda: model.netfcaud(model.netcnnaud(audio).flatten(1)).sum().backward(),
        optimizer.step,
    ]
    seconds = [median_s(part, device, repeat) for part in parts]
    model.eval()
    return [*seconds, median_s(evaluate, device, repeat)]


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.is_file() else []
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--img_dim", type=number(int, 32), nargs="+", default=[64, 112, 224], help="default: 64 112 224")
    parser.add_argument("--batch_size", type=number(int, 2), default=8, help="chunks (default: 8)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--repeat", type=number(int, 1), default=5, help="timed repetitions (default: 5)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    device = pick_device(args.device)
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    print(f"{device_name(device)}; {versions}; batch {args.batch_size}, float32\n")
    print("| frames | step | visual stream | audio stream | Adam | evaluation | chunks/s in training |")
    print("|---" * 7 + "|")
    for img_dim in args.img_dim:
        seconds = measure(img_dim, args.batch_size, device, args.repeat)
        cells = " | ".join(f"{s:.2f} s" for s in seconds)
        print(f"| {img_dim}×{img_dim} | {cells} | {args.batch_size / seconds[0]:.1f} |")


if __name__ == "__main__":
    main()
