"""Fixtures shared by the tests. MDS_REFERENCE names a folder with real clips and weights; tests that need it
skip without.
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import model
from detectors.s3fd.network import S3FDNet
from engine import Epoch, Trainer, train_epoch
from tests.clips import face_pictures, tone, write_clip
from tests.golden import fill
from tests.training.tiny_train import TINY

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden"


def load_script(name: str):
    """Import a top-level script, whatever its name (pre-process.py)."""
    spec = importlib.util.spec_from_file_location(name.replace("-", "_") + "_script", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def scripts():
    """The top-level scripts by name; call `scripts["train"].main([...])`."""
    return {name: load_script(name) for name in ("pre-process", "write_csv", "train", "test")}


@pytest.fixture(scope="session")
def reference() -> Path:
    folder = os.environ.get("MDS_REFERENCE")
    if not folder:
        pytest.skip("MDS_REFERENCE is not set")
    return Path(folder)


@pytest.fixture
def tiny(monkeypatch):
    """A network a thousand times smaller."""
    for name, value in TINY.items():
        monkeypatch.setattr(model, name, value)


def take_step(trainer: Trainer, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Take one training step on a batch, as often as gradients are accumulated.

    Returns its loss terms (n_terms,) and the dissimilarities of its chunks (B,).
    """
    epoch = Epoch(pd.DataFrame({"path": batch["row"].tolist()}), trainer.ranks)
    train_epoch(trainer, epoch, [{"bad": [], "track": batch["row"]} | batch] * trainer.accumulate)
    return epoch.unchecked[0][1], epoch.distances


class FixedDetector:
    """Finds a face in the middle of every frame, at once: for tests of what comes after detection."""

    batch_size = 4
    is_shared = False

    def detect(self, frames):
        return [
            np.array([[f.shape[1] * 0.25, f.shape[0] * 0.25, f.shape[1] * 0.75, f.shape[0] * 0.75, 1]])
            for f in frames
        ]


@pytest.fixture(scope="session")
def s3fd_weights(tmp_path_factory) -> Path:
    """A weights file of S3FD, filled as for the reference figures."""
    net = S3FDNet()
    fill.fill_state_dict(net)
    path = tmp_path_factory.mktemp("s3fd") / "s.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def fixed_detector():
    return FixedDetector()


@pytest.fixture(scope="session")
def chunk_tree(tmp_path_factory) -> Path:
    """An --out_dir with both splits pre-processed (3 videos a label, 2 chunks each) and indexed."""
    out_dir = tmp_path_factory.mktemp("tree")
    pre_process, write_csv = load_script("pre-process"), load_script("write_csv")
    pre_process.build_detector = lambda *_: FixedDetector()
    rng = np.random.default_rng(0)
    pictures = face_pictures(50)
    for split in ("train", "test"):
        for label in ("real", "fake"):
            for i in range(3):
                tinted = [np.clip(p * rng.uniform(0.6, 1.2, 3), 0, 255).astype(np.uint8) for p in pictures]
                sound = (
                    tone(2.0) * rng.uniform(0.2, 1.0)
                    if label == "real"
                    else rng.uniform(-0.5, 0.5, (1, 88200))
                )
                write_clip(out_dir / split / label / f"v{i}.mp4", tinted, sound=sound.astype(np.float32))
        assert pre_process.main(["--out_dir", str(out_dir / split), "--workers", "0"]) == 0
    write_csv.main(["--out_dir", str(out_dir)])
    return out_dir
