"""What a training run says about itself: its settings, surroundings, log and TensorBoard scalars."""

import contextlib
import json
import os
import platform
import re
import shlex
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from utils.checkpoint import list_checkpoints
from utils.cli import UserError, n_cores
from utils.files import replacing
from utils.jsonfiles import load_json, plain

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "opencv-python-headless",
    "opencv-python",
    "python_speech_features",
    "tensorboardX",
)


RUN_NAME = re.compile(
    r"deepfake_audio-(?P<img_dim>\d+)_r(?P<depth>\d+)_bs(?P<batch_size>\d+)_lr(?P<lr>[\d.e+-]+)"
)
MAX_ARGS_BYTES = 100_000
MAX_LISTED = 5  # runs in a message
LOCK_S = 5.0  # to wait for a run folder whose training is just ending


def run_name(img_dim: int, net: str, batch_size: int, lr: float) -> str:
    """The name of a run's folder, as the authors have it; a training that goes on with another rate keeps its
    own.
    """
    return f"deepfake_audio-{img_dim}_r{net.removeprefix('resnet')}_bs{batch_size}_lr{lr:g}"


def list_runs(log_dir: Path) -> list[Path]:
    """The run folders that hold checkpoints, sorted."""
    return [
        run
        for run in sorted(log_dir.glob("deepfake_audio-*"))
        if RUN_NAME.fullmatch(run.name) and list_checkpoints(run / "model")
    ]


def command_of(run_dir: Path, defaults: dict, leave_out: Sequence[str]) -> str:
    """The flags that name a run: its folder's and those of its args.json, if it can be read, that are not the
    defaults.
    """
    named = RUN_NAME.fullmatch(run_dir.name).groupdict()
    values: dict = {}
    with contextlib.suppress(OSError, ValueError):
        values = load_json(run_dir / "args.json", MAX_ARGS_BYTES)
    values = values if isinstance(values, dict) else {}
    values |= {
        "net": f"resnet{named['depth']}",
        "img_dim": named["img_dim"],
        "batch_size": named["batch_size"],
    }
    values |= {"lr": named["lr"], "log_dir": run_dir.parent}
    words = []
    for name, default in defaults.items():
        value = plain(values.get(name))
        is_default = str(value) == (f"{default:g}" if name == "lr" else str(default))
        if name in leave_out or value is None or value is False or is_default:
            continue
        flag = "--start-epoch" if name == "start_epoch" else f"--{name}"
        given = [] if value is True else value if isinstance(value, list) else [value]
        words += [flag, *(shlex.quote(str(word)) for word in given)]
    return " ".join(words)


def in_one_line(commands: Sequence[str]) -> str:
    """Some command lines for a message; no more than `MAX_LISTED`."""
    more = f" (and {len(commands) - MAX_LISTED} more)" if len(commands) > MAX_LISTED else ""
    return "; ".join(commands[:MAX_LISTED]) + more


def lock_run(run_dir: Path) -> FileLock:
    """Take a run folder, existing or not, for this training alone; released by `release` or with the process,
    however it ends.

    Raises:
        UserError: another training has it, or its parent folder can't be written.
    """
    lock = FileLock(run_dir.with_name(f".{run_dir.name}.lock"))  # beside it: --overwrite deletes the folder
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_S)
    except Timeout as error:
        raise UserError(
            f"{run_dir} is in the hands of another training, and two would mix their checkpoints; wait for its end, or name "
            "another --log_dir."
        ) from error
    except OSError as error:
        raise UserError(
            f"can't write in {run_dir.parent}: {error.strerror or error}; mend it or name another --log_dir."
        ) from error
    return lock


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
        # float32 matrix products and convolutions of recent NVIDIA cards may use TF32: PyTorch's defaults are
        # left alone
        "tf32_matmul": is_gpu and torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": is_gpu and torch.backends.cudnn.allow_tf32,
    }


def peak_memory_mb(device: torch.device) -> float:
    """The most memory that PyTorch took on a GPU, or this process on the CPU, in MB; NaN where the system
    does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource  # not on Windows
    except ImportError:
        return float("nan")
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    )


def write_log(path: Path, records: Sequence[dict]) -> None:
    """Write log.jsonl, an epoch per line. The checkpoint holds the records, so that no epoch is missing or
    doubled.
    """
    with replacing(path) as partial:
        partial.write_text("".join(json.dumps(plain(record)) + "\n" for record in records))


class Scalars:
    """A TensorBoard file, written by tensorboardX without its queue: what is flushed is on the disk before a
    checkpoint is.

    Scalars named local/... are counted in steps, the others in epochs, both from 1 as in the log.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(
            str(folder / "events"), f".{os.getpid()}.{time.time_ns()}"
        )  # a file of its own

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
        n_epochs: epochs done; the others are counted in epochs from 1.
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
            if not tags or event.step <= (iteration if tags[0].startswith("local/") else n_epochs):
                kept.append(data[at:end])
            at = end
        if sum(map(len, kept)) < len(data):
            with replacing(path) as partial:
                partial.write_bytes(b"".join(kept))
