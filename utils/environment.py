"""What a run's figures may depend on beside its flags: commit, packages, device, memory."""

import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from utils.cli import n_cores

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
