"""What test_fuzz.py runs in processes of its own: they may crash, hang or be killed."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def forkserver() -> ForkServerContext:
    """Forks processes from one that has imported everything: the imports take seconds."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.training.tiny_train", "verdicts.results", "write_csv"])
    return context


def mutate(data: bytes, seed: int) -> bytes:
    """The bytes with one to five changes, a quarter of them where headers and indices are: at the ends."""
    rng, data = np.random.default_rng(seed), bytearray(data)
    for _ in range(rng.integers(1, 6)):
        size = len(data)
        low, high = [(0, size), (0, min(size, 3000)), (max(0, size - 3000), size), *[(0, size)] * 5][
            rng.integers(8)
        ]
        at, n = int(rng.integers(low, max(low + 1, high))), int(2 ** rng.uniform(0, 9))
        kind = rng.integers(8)
        if kind == 0:
            data[at : at + 1] = bytes([data[at] ^ 1 << rng.integers(8)]) if size else b""
        elif kind == 1:
            data[at : at + n] = rng.bytes(len(data[at : at + n]))
        elif kind == 2:
            data[at : at + n] = bytes(len(data[at : at + n]))
        elif kind == 3:
            data[at : at + n] = b"\xff" * len(data[at : at + n])
        elif kind == 4:
            del data[at : at + n]
        elif kind == 5:
            data[at:at] = data[at : at + n]
        elif kind == 6:
            special = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**24, 2**16][rng.integers(7)]
            data[at : at + 4] = special.to_bytes(4, "big" if rng.integers(2) else "little")[
                : len(data[at : at + 4])
            ]
        elif rng.integers(4) == 0:
            del data[at:]
    return bytes(data)


def limit_memory(n_bytes: int) -> None:
    """Allow so many bytes more than are taken."""
    import resource

    limit = n_bytes + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def pre_process(clip: str, seeds: list[int], folder: str) -> None:
    """`process_video` of mutants; a line of JSON for each: what became of it."""
    from preprocessing.record import process_video
    from preprocessing.settings import Settings
    from tests.conftest import FixedDetector
    from utils.containers import VideoError

    limit_memory(2**30)
    data, folder, detector = Path(clip).read_bytes(), Path(folder), FixedDetector()
    for seed in seeds:
        path, start = folder / f"mutant{Path(clip).suffix}", time.monotonic()
        path.write_bytes(mutate(data, seed))
        print(json.dumps({"seed": seed, "begun": True}), flush=True)
        for name in ("target", "work"):
            shutil.rmtree(folder / name, ignore_errors=True)
        result = {"seed": seed}
        try:
            record, _ = process_video(path, folder / "target", folder / "work", detector, Settings())
            files = [p for p in (folder / "target").rglob("*") if p.is_file()]
            result |= {
                "n_frames": record["n_frames"],
                "n_files": len(files),
                "n_chunks": len(record["chunks"]),
            }
        except VideoError as error:
            result |= {"stage": error.stage, "reason": str(error)}
        except Exception as error:
            result |= {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result | {"seconds": round(time.monotonic() - start, 1)}), flush=True)


def localize(arguments: list[str]) -> None:
    """localize.py with a tiny network and a detector that always finds a face."""
    import torch

    import model
    import verdicts.detection
    from tests.conftest import FixedDetector, load_script
    from tests.training.tiny_train import TINY
    from utils.cli import run

    torch.set_num_threads(1)
    for name, value in TINY.items():
        setattr(model, name, value)
    script = load_script("localize")
    verdicts.detection.build_detector = lambda *_: FixedDetector()
    sys.argv[0] = "localize.py"
    run(
        lambda: script.main(
            [*arguments, "--device", "cpu", "--detector", "yunet", "--brief", "--stride_s", "1"]
        )
    )


def write_csv(arguments: list[str]) -> None:
    from tests.conftest import load_script
    from utils.cli import run

    script = load_script("write_csv")
    sys.argv[0] = "write_csv.py"
    run(lambda: script.main(arguments))


def logged(log: Path, function: Callable, *arguments) -> None:
    """Call a function with its output in a file."""
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    function(*arguments)
