"""What only a GPU can show: `pytest -m gpu`, skipped without one. MDS_GPU_TESTS=cpu runs all that a CPU can,
as a rehearsal.
"""

import copy
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import model as model_module
from augmentation import normalize
from dataset import ChunkDataset, build_loader, read_index, scoring_batches
from detectors import build_detector
from detectors.s3fd.network import S3FDNet
from engine import CHUNK_SCORES, Execution, Objective, Trainer, score_chunks
from model import TwoStreamNet, dissimilarity
from tests.conftest import GOLDEN, ROOT, take_step
from tests.golden import fill
from tests.training.test_model import REFERENCE, filled
from tests.training.test_train import RUN, SMALL
from tests.training.tiny_train import TINY
from utils.checkpoint import list_checkpoints, load_checkpoint
from utils.ranks import Ranks, StopSignal

IS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if IS_GPU else "cpu"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not IS_GPU and os.environ.get("MDS_GPU_TESTS") != "cpu", reason="needs a GPU"),
]
needs_gpu = pytest.mark.skipif(not IS_GPU, reason="needs a GPU")


@pytest.fixture
def full_float32():
    switches = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


def deviation(ours: torch.Tensor, reference: np.ndarray) -> float:
    return float(np.abs(ours.detach().float().cpu().numpy() - reference).max() / np.abs(reference).max())


def golden_deviation(img_dim: int) -> float:
    """The largest relative deviation of an evaluation on the device from the reference figures."""
    model = filled(img_dim).to(DEVICE).eval()
    with torch.no_grad():
        out = model(fill.video(2, img_dim).to(DEVICE), fill.audio(2).to(DEVICE))
    out["distance"] = dissimilarity(out["video_emb"], out["audio_emb"])
    return max(deviation(values, REFERENCE[f"eval{img_dim}_{name}"]) for name, values in out.items())


@pytest.mark.parametrize(
    "img_dim", [64, pytest.param(112, marks=needs_gpu), pytest.param(224, marks=needs_gpu)]
)
def test_evaluation_equals_the_reference(img_dim, full_float32, record_property):
    assert golden_deviation(img_dim) < 1e-3
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default
    in_tf32 = golden_deviation(img_dim)
    record_property("deviation_in_tf32", in_tf32)
    print(f"evaluation at {img_dim} px: relative deviation {in_tf32:.1e} with TF32 in the convolutions")
    assert in_tf32 < 3e-2


def batch_of(n: int, img_dim: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "video": torch.randint(0, 256, (n, 30, img_dim, img_dim, 3), dtype=torch.uint8, generator=generator),
        "audio": torch.randn(n, 1, 13, 99, generator=generator),
        "label": torch.arange(n) % 2,
        "row": torch.arange(n),
    }


def test_a_step_equals_that_of_the_cpu(full_float32):
    torch.manual_seed(0)
    start = TwoStreamNet(img_dim=64, dropout=0.0, init="torch")
    results = []
    for device in ("cpu", DEVICE):
        model = copy.deepcopy(start).to(device).train()
        trainer = Trainer(model, Ranks(device), Objective(0.99), lr=1e-4, weight_decay=1e-5)
        terms, distances = take_step(trainer, batch_of(8, 64))
        moved = torch.cat(
            [
                (p.detach().cpu() - q.detach()).flatten()
                for p, q in zip(model.parameters(), start.parameters(), strict=True)
            ]
        )
        results.append((terms.cpu(), distances.cpu(), moved))
    for ours, expected in zip(results[1][:2], results[0][:2], strict=True):
        torch.testing.assert_close(ours, expected, rtol=2e-3, atol=1e-3)
    # Adam's first step is lr times the sign of each gradient: the two devices agree wherever it is more than
    # rounding
    assert (results[0][2] - results[1][2]).abs().gt(1e-4).float().mean() < 0.02


@pytest.mark.parametrize("amp", [pytest.param("fp16", marks=needs_gpu), "bf16"])
def test_mixed_precision_stays_finite_and_near_float32(amp):
    n_steps, img_dim = (50, 64) if IS_GPU else (6, 32)
    ends = {}
    for precision in ("off", amp):
        torch.manual_seed(0)
        model = TwoStreamNet(img_dim=img_dim, dropout=0.0, init="torch").to(DEVICE).train()
        trainer = Trainer(
            model, Ranks(DEVICE), Objective(0.99), lr=1e-4, weight_decay=1e-5, execution=Execution(precision)
        )
        terms = torch.stack([take_step(trainer, batch_of(8, img_dim, i % 2))[0] for i in range(n_steps)])
        assert torch.isfinite(terms).all()
        ends[precision] = terms.sum(1)[-2:].mean().item(), terms.sum(1)[:2].mean().item()
    assert ends["off"][0] < ends["off"][1]  # it has learnt these two batches by heart, to some extent
    assert ends[amp][0] == pytest.approx(ends["off"][0], abs=0.2 * ends["off"][1])


@needs_gpu
def test_compiled_scores_are_the_same(chunk_tree, monkeypatch):
    for name, value in TINY.items():
        monkeypatch.setattr(model_module, name, value)
    model = TwoStreamNet(img_dim=32, final_dim=16).to(DEVICE)
    trainer = Trainer(
        model, Ranks(DEVICE), Objective(0.99), lr=1e-4, weight_decay=0, execution=Execution(compiled=True)
    )
    batch = batch_of(4, 32)
    assert torch.isfinite(take_step(trainer, batch)[0]).all()
    index = read_index(chunk_tree, "test")
    scores = []
    for compiled in (False, True):
        loader = build_loader(
            ChunkDataset(index, chunk_tree, 32), scoring_batches(len(index), 8), num_workers=0
        )
        scores.append(
            score_chunks(
                model,
                index,
                loader,
                Ranks(DEVICE),
                Execution(compiled=compiled),
                StopSignal("stopping"),
                "test",
            )
        )
    plain, compiled = (table[list(CHUNK_SCORES)].to_numpy() for table in scores)
    np.testing.assert_allclose(plain, compiled, rtol=1e-2, atol=1e-3)


def test_s3fd_equals_the_reference(full_float32):
    reference = np.load(GOLDEN / "s3fd.npz")
    net = S3FDNet().eval()
    fill.fill_state_dict(net)
    with torch.no_grad():
        heads = net.to(DEVICE)(torch.from_numpy(reference["image"]).to(DEVICE))
    for ours, name in zip(heads, ("loc", "conf", "priors"), strict=True):
        assert deviation(ours, reference[name]) < 1e-3


@pytest.fixture
def s3fd(s3fd_weights):
    return build_detector("s3fd", device=DEVICE, weights=s3fd_weights)


@needs_gpu
def test_a_batch_that_does_not_fit_is_halved(s3fd):
    frames = [np.random.default_rng(i).integers(0, 256, (270, 480, 3), np.uint8) for i in range(32)]
    expected = s3fd.detect(frames)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(1.2e9 / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            s3fd._detect(frames)
        found = s3fd.detect(frames)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert [len(faces) for faces in found] == [len(faces) for faces in expected]
    assert all(np.allclose(a[:, 4], b[:, 4], atol=1e-2) for a, b in zip(found, expected, strict=True))


def test_a_run_moves_between_cpu_and_gpu(tmp_path, chunk_tree, scripts, monkeypatch):
    for name, value in TINY.items():
        monkeypatch.setattr(model_module, name, value)
    common = ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path), "--resume"]
    for epochs, device in ((1, "cpu"), (2, DEVICE), (3, "cpu")):
        assert scripts["train"].main([*common, "--epochs", str(epochs), "--device", device]) == 0
    model_dir = tmp_path / RUN / "model"
    checkpoint = load_checkpoint(list_checkpoints(model_dir)[0], {})
    assert checkpoint["epoch"] == 3 and len(checkpoint["log"]) == 3
    assert all(
        tensor.device.type == "cpu" and torch.isfinite(tensor).all()
        for tensor in checkpoint["state_dict"].values()
    )
    scores = []
    for device in ("cpu", DEVICE):
        arguments = [
            "--out_dir",
            str(chunk_tree),
            *SMALL,
            "--log_dir",
            str(tmp_path),
            "--scores_dir",
            str(tmp_path / device),
        ]
        assert scripts["train"].main([*arguments, "--device", device, "--test"]) == 0
        scores.append((tmp_path / device / "scores.csv").read_text().splitlines()[1:])
    assert [line.split(",")[0] for line in scores[0]] == [line.split(",")[0] for line in scores[1]]


def test_sigterm_within_an_epoch_saves_and_resumes(tmp_path, chunk_tree):
    command = [
        sys.executable,
        str(ROOT / "tests" / "training" / "tiny_train.py"),
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--log_dir",
        str(tmp_path),
    ]
    command += ["--device", DEVICE, "--print_freq", "1", "--num_workers", "1"]
    process = subprocess.Popen(
        [*command, "--epochs", "10000"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    for line in process.stdout:
        if "epoch 3 step 1" in line:
            process.send_signal(signal.SIGTERM)
            break
    printed = process.stdout.read()
    assert process.wait() == 128 + signal.SIGTERM and "--resume" in printed, printed
    newest = list_checkpoints(tmp_path / RUN / "model")[0]
    n_epochs = load_checkpoint(newest, {})["epoch"] + 1
    done = subprocess.run(
        [*command, "--epochs", str(n_epochs), "--resume"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (
        done.returncode == 0 and "resumed from" in done.stdout and f"epoch {n_epochs} done" in done.stdout
    ), done.stderr


def test_pinned_batches_and_bad_chunks(chunk_tree):
    index = read_index(chunk_tree, "test")
    index.loc[1, "path"] = "test/pytmp/real/gone/00000"
    loader = build_loader(
        ChunkDataset(index, chunk_tree, 32), scoring_batches(len(index), 4), num_workers=2, pin_memory=IS_GPU
    )
    rows, bad = [], []
    for batch in loader:
        assert batch["video"].is_pinned() == batch["audio"].is_pinned() == IS_GPU
        copied = batch["video"].to(DEVICE, non_blocking=True)
        assert torch.equal(normalize(copied).cpu().isfinite().all(), torch.tensor(True))
        assert torch.equal(copied.cpu(), batch["video"])
        rows += batch["row"].tolist()
        bad += batch["bad"]
    assert rows == [row for row in range(len(index)) if row != 1]
    assert [row for row, _ in bad] == [1] and "gone" in bad[0][1]
