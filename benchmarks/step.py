"""Time a training step: part by part, and with other precisions, memory formats and ways to compute.

    python benchmarks/step.py --img_dim 64 224 --device auto
    python benchmarks/step.py --img_dim 64 224 --trials

Random input, medians.  Prints a Markdown table of seconds: the whole step of `train.py` (copy, normalisation,
forward, three losses, backward, Adam), the visual stream and the audio stream alone (forward and backward),
Adam alone, and the evaluation forward.

--trials: the step as train.py takes it and with one thing changed at a time, with its peak memory, the
arithmetic that it gets done, its share of what a large matrix product gets done on the same device, and the
chunks that it scores per second.  Beside them the authors' way: float32, channels first, batch 8, Adam not
fused, a loop over the samples for the losses, scoring one chunk at a time.  Precisions are measured at every
batch size; the rest at one, and at the first frame size.  On a CPU each trial has a process of its own.
"""

import argparse
import contextlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import engine
import model as model_module
from augmentation import normalize
from engine import AMP, Epoch, Execution, Objective, Targets, Trainer, forward, train_epoch
from model import FoldedConv3d, TwoStreamNet
from utils.cli import number, run
from utils.environment import device_name, peak_memory_mb
from utils.ranks import Ranks

WARM_UP = 2
AUTHORS = "the authors' way"
AUTHORS_BATCH = 8
CHOICES = {  # what a user may choose -> arguments of Execution
    "as train.py": {},
    "--amp fp16": {"amp": "fp16"},
    "--amp bf16": {"amp": "bf16"},
}
TRIALS = CHOICES | {
    AUTHORS: {},
    "--amp fp16 --compile": {"amp": "fp16", "compiled": True},
    "--amp fp16, 2-D stages as 3-D convolutions": {"amp": "fp16"},
    "--amp bf16, 2-D stages as 3-D convolutions": {"amp": "bf16"},
    "--amp fp16, scoring clip by clip": {"amp": "fp16"},
    "matrix products in TF32 too": {},
    "cudnn.benchmark": {},
    "channels first in memory": {},
    "Adam not fused": {},
    "gradient checkpointing of the visual stream": {},
    "convolutions in full float32, no TF32": {},
    "--amp bf16 --compile": {"amp": "bf16", "compiled": True},
    "--compile": {"compiled": True},
}
OBJECTIVE = Objective(0.99)
ON_GPU_ALONE = ("convolutions in full float32, no TF32", "matrix products in TF32 too", "cudnn.benchmark")


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
        "track": torch.arange(batch_size),
        "bad": [],
    }
    if device.type == "cuda":
        batch |= {key: value.pin_memory() for key, value in batch.items() if key != "bad"}
    return batch


def take_step(trainer: Trainer, batch: dict) -> None:
    train_epoch(trainer, Epoch(pd.DataFrame({"path": batch["row"].tolist()}), trainer.ranks), [batch])


def measure(img_dim: int, batch_size: int, ranks: Ranks, repeat: int) -> list[float]:
    """Seconds: step, visual stream, audio stream, Adam, evaluation."""
    torch.manual_seed(0)
    device = ranks.device
    model = TwoStreamNet(img_dim=img_dim).to(device).train()
    trainer = Trainer(model, ranks, OBJECTIVE, lr=1e-3, weight_decay=1e-5)
    batch = random_batch(img_dim, batch_size, device)
    video, audio = normalize(batch["video"].to(device)), batch["audio"].to(device)

    def evaluate() -> None:
        with torch.inference_mode():
            forward(model, batch, device, "off")

    parts = [
        lambda: take_step(trainer, batch),
        lambda: model.netfclip(model.netcnnlip(video).mean(2).flatten(1)).sum().backward(),
        lambda: model.netfcaud(model.netcnnaud(audio).flatten(1)).sum().backward(),
        trainer.optimizer.step,
    ]
    seconds = [median_s(part, device, repeat) for part in parts]
    model.eval()
    return [*seconds, median_s(evaluate, device, repeat)]


def losses_by_sample(objective: Objective, out: dict[str, Tensor], targets: Targets) -> Tensor:
    """The three loss terms (3,), summed up sample by sample in a Python loop."""
    label = targets.label
    contrastive = torch.zeros((), device=label.device)
    for video_emb, audio_emb, y in zip(out["video_emb"], out["audio_emb"], label.float(), strict=True):
        d = torch.linalg.vector_norm(video_emb - audio_emb)
        contrastive = contrastive + y * d**2 + (1 - y) * torch.clamp(objective.margin - d, min=0) ** 2
    entropies = [nn.functional.cross_entropy(out[f"{head}_logits"], label) for head in ("video", "audio")]
    return torch.stack([contrastive / len(label), *entropies])


@contextlib.contextmanager
def changed(name: str, trainer: Trainer) -> Iterator[None]:
    """Have one thing done otherwise, and as before in the end."""
    is_authors = name == AUTHORS
    cudnn, matmul, net = torch.backends.cudnn, torch.backends.cuda.matmul, trainer.model.netcnnlip
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    undo: list[tuple[object, str, object]] = []

    def replace(owner: object, attribute: str, value: object) -> None:
        undo.append((owner, attribute, getattr(owner, attribute)))
        setattr(owner, attribute, value)

    if name.startswith("convolutions in full"):
        cudnn.allow_tf32 = False
    if name.startswith("matrix products"):
        matmul.allow_tf32 = True
    cudnn.benchmark = name == "cudnn.benchmark"
    if is_authors or name.startswith("channels first"):
        net.to(memory_format=torch.contiguous_format)
        replace(engine, "normalize", lambda video: normalize(video).contiguous())
    if is_authors:
        replace(Objective, "__call__", losses_by_sample)
    if is_authors or name.startswith("Adam"):
        trainer.optimizer = torch.optim.Adam(trainer.model.parameters(), lr=1e-3, weight_decay=1e-5)
    if name.endswith("3-D convolutions"):
        replace(FoldedConv3d, "forward", nn.Conv3d.forward)
    if name.endswith("clip by clip"):
        at_once = model_module.normalise_clips
        one_by_one = lambda x, *norm: torch.cat([at_once(clip, *norm) for clip in x.split(1)])  # noqa: E731
        replace(model_module, "normalise_clips", one_by_one)
    if name.startswith("gradient checkpointing"):
        whole = net.forward
        replace(net, "forward", lambda x: checkpoint(whole, x, use_reentrant=False))
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = before
        for owner, attribute, value in reversed(undo):
            setattr(owner, attribute, value)


def try_step(
    name: str, img_dim: int, batch_size: int, device: str, repeat: int, model: TwoStreamNet | None = None
) -> tuple[float, float, float]:
    """One trial, of a network that is there or of a new one: seconds a step, its peak memory in MB, chunks
    scored per second.
    """
    torch.manual_seed(0)
    ranks = Ranks(device)
    model = model or TwoStreamNet(img_dim=img_dim).to(ranks.device)
    if ranks.device.type == "cuda":
        torch.compiler.reset()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    execution = Execution(**TRIALS[name])
    trainer = Trainer(model.train(), ranks, OBJECTIVE, lr=1e-6, weight_decay=1e-5, execution=execution)
    batch = random_batch(img_dim, batch_size, ranks.device)
    scored = {key: values[:1] for key, values in batch.items()} if name == AUTHORS else batch
    with changed(name, trainer):
        seconds = median_s(lambda: take_step(trainer, batch), ranks.device, repeat)
        memory = peak_memory_mb(ranks.device)
        model.eval()

        def score() -> None:
            with torch.inference_mode():
                engine.chunk_values(forward(trainer.net, scored, ranks.device, trainer.amp))

        scoring_s = median_s(score, ranks.device, repeat)
    return seconds, memory, len(scored["row"]) / scoring_s


def tera_operations(img_dim: int, device: torch.device) -> float:
    """Multiplications and additions of a training step for each of its chunks, in units of 10^12."""
    model = TwoStreamNet(img_dim=img_dim).to(device).train()
    trainer = Trainer(model, Ranks(device.type), OBJECTIVE, lr=0, weight_decay=0)
    with FlopCounterMode(display=False) as counter:
        take_step(trainer, random_batch(img_dim, 2, device))
    return counter.get_total_flops() / 2 / 1e12


def peak_rate(dtype: torch.dtype, device: torch.device) -> float:
    """10^12 operations a second that the product of two large matrices gets done, float32 ones on a GPU in
    TF32.
    """
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    seconds = median_s(lambda: a @ b, device, 10)
    torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * n**3 / seconds / 1e12


def run_trials(
    names: list[str],
    img_dims: list[int],
    batch_sizes: list[int],
    device: torch.device,
    repeat: int,
    stop: float,
) -> None:
    """Print a row for each trial, begun before the moment `stop` of the monotonic clock."""
    on_gpu = device.type == "cuda"
    peaks = {
        dtype: peak_rate(dtype, device)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)[: 3 if on_gpu else 2]
    }
    print(
        "A large matrix product: "
        + ", ".join(
            f"{name} {rate:.3g} TFLOP/s"
            for name, rate in zip(
                ("float32 (TF32 on a GPU)", "bfloat16", "float16"), peaks.values(), strict=False
            )
        )
        + "\n"
    )
    print(
        "| frames | batch | what | step | chunks/s | peak memory | TFLOP/s | of the product's | scored "
        "chunks/s |"
    )
    print("|---" * 9 + "|", flush=True)
    middle = batch_sizes[(len(batch_sizes) - 1) // 2]
    for img_dim in img_dims:
        tera = tera_operations(img_dim, device)
        model = TwoStreamNet(img_dim=img_dim).to(device) if on_gpu else None
        for name in names:
            if not on_gpu and (name in ON_GPU_ALONE or TRIALS[name].get("amp") == "fp16"):
                continue
            is_first = img_dim == img_dims[0]
            if name not in (*CHOICES, AUTHORS) and not is_first:
                continue
            sizes = (
                batch_sizes
                if name in CHOICES and is_first
                else [AUTHORS_BATCH if name == AUTHORS else middle]
            )
            for batch_size in sizes:
                row = f"| {img_dim}×{img_dim} | {batch_size} | {name} | "
                if time.monotonic() > stop:
                    print(f"{row}no time left | | | | | |", flush=True)
                    continue
                try:
                    if on_gpu:
                        trial = try_step(name, img_dim, batch_size, device.type, repeat, model)
                    else:
                        with ProcessPoolExecutor(
                            1, mp_context=get_context("spawn")
                        ) as pool:  # for its own peak of memory
                            trial = pool.submit(
                                try_step, name, img_dim, batch_size, device.type, repeat
                            ).result()
                except (RuntimeError, BrokenProcessPool) as error:
                    print(f"{row}failed: {str(error).splitlines()[0][:80]} | | | | | |", flush=True)
                    continue
                seconds, memory, scored = trial
                rate = tera * batch_size / seconds
                share = rate / peaks[AMP[TRIALS[name].get("amp", "off")] or torch.float32]
                step = (f"{seconds:.4f} s", f"{batch_size / seconds:.1f}", f"{memory:.0f} MB")
                cells = (*step, f"{rate:.3g}", f"{share:.0%}", f"{scored:.1f}")
                print(row + " | ".join(cells) + " |", flush=True)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--img_dim", type=number(int, 32), nargs="+", default=[64, 112, 224], help="default: 64 112 224"
    )
    parser.add_argument(
        "--batch_size", type=number(int, 2), nargs="+", default=[8], help="chunks (default: 8)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--repeat", type=number(int, 1), default=5, help="timed repetitions (default: 5)")
    parser.add_argument(
        "--trials",
        nargs="*",
        choices=TRIALS,
        metavar="NAME",
        help=f"some of {', '.join(TRIALS)}; without names all",
    )
    parser.add_argument(
        "--budget_s",
        type=number(float, 0),
        default=float("inf"),
        help="seconds after which no trial begins (default: no limit)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    ranks = Ranks(args.device)
    print(f"{device_name(ranks.device)}; PyTorch {torch.__version__}, Python {platform.python_version()}\n")
    if args.trials is not None:
        stop = time.monotonic() + args.budget_s
        run_trials(
            args.trials or list(TRIALS), args.img_dim, args.batch_size, ranks.device, args.repeat, stop
        )
        return
    print(
        "| frames | batch | step | visual stream | audio stream | Adam | evaluation | chunks/s in training |"
    )
    print("|---" * 8 + "|")
    for img_dim in args.img_dim:
        for batch_size in args.batch_size:
            seconds = measure(img_dim, batch_size, ranks, args.repeat)
            cells = " | ".join(f"{s:.3f} s" for s in seconds)
            print(f"| {img_dim}×{img_dim} | {batch_size} | {cells} | {batch_size / seconds[0]:.1f} |")


if __name__ == "__main__":
    run(main)
