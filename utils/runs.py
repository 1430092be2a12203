"""What a training run says about itself: its settings, surroundings, log and TensorBoard scalars."""

import json
import os
import platform
import re
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from utils.cli import n_cores
from utils.files import plain, replacing

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "opencv-python-headless", "opencv-python",
            "python_speech_features", "tensorboardX")  # fmt: skip


def git_commit() -> str | None:
    """The commit of this project's source, with "-dirty" if files were changed; None if it is no clone."""
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--match", ""]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def device_name(device: torch.device) -> str:
    """What the figures were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.is_file() else []
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def describe_environment(device: torch.device, n_ranks: int) -> dict:
    """What a run's figures may depend on beside its flags; plain types."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    is_gpu = device.type == "cuda"
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "device": device_name(device),
        "processes": n_ranks,
        "cores": n_cores(),
        # float32 matrix products and convolutions of recent NVIDIA cards may use TF32: PyTorch's defaults are left alone
        "tf32_matmul": is_gpu and torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": is_gpu and torch.backends.cudnn.allow_tf32,
    }


def peak_memory_mb(device: torch.device) -> float:
    """The most memory that PyTorch took on a GPU, or this process on the CPU, in MB; NaN where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource  # not on Windows
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def write_log(path: Path, records: Sequence[dict]) -> None:
    """Write log.jsonl, an epoch per line. The checkpoint holds the records, so that no epoch is missing or doubled."""
    with replacing(path) as partial:
        partial.write_text("".join(json.dumps(plain(record)) + "\n" for record in records))


class Scalars:
    """A TensorBoard file, written by tensorboardX without its queue: what is flushed is on the disk before a checkpoint is.

    Scalars named local/... are counted in steps, the others in epochs from 0.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{time.time_ns()}")  # a file of its own

    def add(self, tag: str, value: float, step: int) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def rewind_scalars(folder: Path, iteration: int, n_epochs: int) -> None:
    """Delete from a run's TensorBoard files what lies after a checkpoint, and a record that a crash cut off.

    Args:
        folder: with the event files.
        iteration: steps done in all; scalars named local/... are counted in steps.
        n_epochs: epochs done; the others are counted in epochs from 0.
    """
    for path in sorted(folder.glob("events*")):
        data, kept, at = path.read_bytes(), [], 0
        while at + 12 <= len(data):  # a record: its length, a checksum, the event, a checksum
            (length,) = struct.unpack_from("<Q", data, at)
            end = at + 12 + length + 4
            if end > len(data):
                break
            event = Event.FromString(data[at + 12 : end - 4])
            tags = [value.tag for value in event.summary.value]
            if not tags or (event.step <= iteration if tags[0].startswith("local/") else event.step < n_epochs):
                kept.append(data[at:end])
            at = end
        if sum(map(len, kept)) < len(data):
            with replacing(path) as partial:
                partial.write_bytes(b"".join(kept))
