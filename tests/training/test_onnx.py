"""`train.py --export mds.onnx`: the file gives the scores of `train.py --test`, says what it is, and is not
written if it gives others.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from torch import nn

import model
import onnx_export
from benchmarks import onnx_speed
from dataset import ChunkDataset, read_index
from model import TwoStreamNet
from onnx_export import Chunk, check_outputs, differences, input_arrays
from tests.conftest import ROOT
from utils.checkpoint import load_checkpoint
from utils.cli import UserError
from utils.constants import CHUNKS_S, STREAMS
from utils.files import file_digest

SMALL = {"net": "resnet18", "img_dim": 32, "final_dim": 16, "width": 0.1}
TRAIN = ["--img_dim", "32", "--width", "0.1", "--batch_size", "4", "--num_workers", "0", "--device", "cpu"]
KINDS = {  # of networks: flags
    "both": [],
    "standardised": ["--preset", "sync", "--batch_size", "4"],
    "video": ["--streams", "video"],
    "audio": ["--streams", "audio"],
}
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "verdicts.md").read_text(), re.S)
SNIPPET = next(block for block in BLOCKS if "onnxruntime" in block).replace("/000_real/", "/v0/")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, chunk_tree, scripts):
    """A folder by kind: mds.pth.tar, mds.onnx made of it, and the scores of the test split."""
    folders = {}
    for kind, flags in KINDS.items():
        folder = folders[kind] = tmp_path_factory.mktemp(kind)
        common = ["--out_dir", str(chunk_tree), *TRAIN, *flags, "--log_dir", str(folder)]
        scripts["train"].main([*common, "--epochs", "1"])
        next(folder.rglob("model_best*")).rename(folder / "mds.pth.tar")
        found = [*common, "--test", str(folder / "mds.pth.tar"), "--scores_dir", str(folder)]
        scripts["train"].main(found)
        scripts["train"].main(["--export", str(folder / "mds.onnx"), str(folder / "mds.pth.tar")])
    return folders


@pytest.fixture
def save(tmp_path):
    """Save a network of these arguments, untrained, as a checkpoint."""

    def save_network(**changed) -> Path:
        torch.manual_seed(0)
        network, path = SMALL | changed, tmp_path / "m.pth.tar"
        torch.save({"config": network, "state_dict": TwoStreamNet(**network).state_dict()}, path)
        return path

    return save_network


@pytest.fixture
def export(scripts, tmp_path):
    """Export a checkpoint to a folder, which is returned."""

    def export_checkpoint(path: Path) -> Path:
        (tmp_path / "out").mkdir(exist_ok=True)
        assert scripts["train"].main(["--export", str(tmp_path / "out" / "mds.onnx"), str(path)]) == 0
        return tmp_path / "out" / "mds.onnx"

    return export_checkpoint


def refused(export, path: Path, match: str) -> None:
    """Exporting a checkpoint is an error of one line, and leaves nothing behind."""
    with pytest.raises(UserError, match=match) as caught:
        export(path)
    assert "\n" not in str(caught.value)
    assert not list((path.parent / "out").iterdir())


def open_file(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_test(trained, chunk_tree, kind):
    """At any batch size, though PyTorch scored the chunks in batches of its own."""
    table = pd.read_csv(trained[kind] / "chunk_scores.csv")
    items = ChunkDataset(read_index(chunk_tree, "test"), chunk_tree, 32)
    chunks = [Chunk(item["video"], item["audio"]) for item in map(items.__getitem__, range(len(items)))]
    session = open_file(trained[kind] / "mds.onnx")
    names = [output.name for output in session.get_outputs()]
    net = TwoStreamNet(**load_checkpoint(trained[kind] / "mds.pth.tar", {})["config"])
    for size in (1, 5):
        batches = [chunks[i : i + size] for i in range(0, len(chunks), size)]
        parts = [session.run(None, input_arrays(net, batch)) for batch in batches]
        found = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
        score = open_file(trained[kind] / "mds.onnx").get_modelmeta().custom_metadata_map["score"]
        np.testing.assert_allclose(found[score], table.dissimilarity, rtol=1e-4)
        for name in set(found) & {"p_fake_video", "p_fake_audio"}:
            np.testing.assert_allclose(found[name], table[name], atol=1e-4)
    if kind in ("both", "standardised"):
        assert names == ["dissimilarity", "p_fake_video", "p_fake_audio", "video_emb", "audio_emb"]
        distance = np.linalg.norm(found["video_emb"] - found["audio_emb"], axis=1)
        np.testing.assert_allclose(distance, found["dissimilarity"], rtol=1e-5)
    else:
        assert names == [f"p_fake_{kind}", f"{kind}_emb"] and score == names[0]


@pytest.mark.parametrize("kind", ["both", "standardised"])
def test_the_script_of_the_docs_gives_the_score_of_its_chunk(trained, chunk_tree, tmp_path, kind):
    """Without PyTorch, which it can't import here."""
    (tmp_path / "test").symlink_to(chunk_tree / "test")
    (tmp_path / "mds.onnx").write_bytes((trained[kind] / "mds.onnx").read_bytes())
    script = "import sys; sys.modules['torch'] = None\n" + SNIPPET
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    printed, threshold = map(float, re.findall(r"[\d.]+(?:e-?\d+)?", done.stdout))
    table = pd.read_csv(trained[kind] / "chunk_scores.csv", dtype={"chunk": str})
    _, label, name, chunk = re.search(r'"test/(pytmp)/(\w+)/(\w+)/(\d+)"', SNIPPET).groups()
    (expected,) = table[(table.video == f"{label}/{name}") & (table.chunk == chunk)].dissimilarity
    assert printed == pytest.approx(expected, rel=1e-4)
    assert threshold == load_checkpoint(trained[kind] / "mds.pth.tar", {})["threshold"]


def test_a_file_says_what_it_is(trained):
    path = trained["both"] / "mds.pth.tar"
    session, checkpoint = open_file(path.with_name("mds.onnx")), load_checkpoint(path, {})
    about = session.get_modelmeta().custom_metadata_map
    assert (
        about.items()
        >= {
            "score": "dissimilarity",
            "polarity": "higher is more fake",
            "threshold": str(checkpoint["threshold"]),
            "distance": "authors",
            "img_dim": "32",
            "chunk_s": "1.0",
            "checkpoint_sha256": file_digest(path),
        }.items()
    )
    assert about["threshold_origin"].startswith("midpoint of the mean MDS of real and fake training videos")
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "frames": ["N", 3, 30, 32, 32],
        "mfcc": ["N", 1, 13, 99],
        **{name: ["N"] for name in ("dissimilarity", "p_fake_video", "p_fake_audio")},
        **{name: ["N", 102] for name in ("video_emb", "audio_emb")},
    }
    for name in ("frames", "mfcc"):
        assert str(tuple(shapes[name])).replace("'", "") in about[name]
    explained = (ROOT / "docs" / "files.md").read_text()
    assert all(f"`{name}`" in explained for name in [*about, *shapes])


@pytest.mark.parametrize(
    "changed",
    [{"chunk_s": chunk_s} for chunk_s in CHUNKS_S]
    + [{"streams": streams, "chunk_s": 0.5} for streams in STREAMS]
    + [{"img_dim": 50}, {"net": "resnet50", "width": 0.05}, {"width": 0.25}],
)
def test_every_network_can_be_exported(save, export, changed):
    session = open_file(export(save(**changed)))
    length = {0.5: (15, 49), 1.0: (30, 99), 2.0: (60, 199)}[changed.get("chunk_s", 1.0)]
    size, shapes = changed.get("img_dim", 32), {x.name: x.shape for x in session.get_inputs()}
    expected = {"frames": ["N", 3, length[0], size, size], "mfcc": ["N", 1, 13, length[1]]}
    assert all(shape == expected[name] for name, shape in shapes.items())
    assert "threshold" not in session.get_modelmeta().custom_metadata_map  # an untrained one has none


def scale_weight(graph: onnx.ModelProto, place: int) -> None:
    """Make one of the weights 2 % larger."""
    weights = [tensor for tensor in graph.graph.initializer if len(tensor.dims) > 1]
    values = onnx.numpy_helper.to_array(weights[place]) * np.float32(1.02)
    weights[place].CopyFrom(onnx.numpy_helper.from_array(values, weights[place].name))


def change_operator(graph: onnx.ModelProto, old: str, new: str) -> None:
    """Make the first operator of a kind one of another kind."""
    node = next(node for node in graph.graph.node if node.op_type == old)
    node.op_type = new


def change_epsilon(graph: onnx.ModelProto) -> None:
    node = next(node for node in graph.graph.node if node.op_type == "InstanceNormalization")
    next(value for value in node.attribute if value.name == "epsilon").f = 0.1


def swap_outputs(graph: onnx.ModelProto) -> None:
    """Give the two probabilities each other's values."""
    names = ["p_fake_video", "p_fake_audio"]
    nodes = [next(node for node in graph.graph.node if name in node.output) for name in names]
    for node, name in zip(nodes, reversed(names), strict=True):
        node.output[0] = name


FAULTS = {
    "a visual weight": lambda graph: scale_weight(graph, 0),
    "the last weight": lambda graph: scale_weight(graph, -1),
    "an activation": lambda graph: change_operator(graph, "Relu", "Abs"),
    "the distance": lambda graph: change_operator(graph, "ReduceL2", "ReduceL1"),
    "a norm": change_epsilon,
    "two outputs": swap_outputs,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_a_fault_is_not_written(trained, export, tmp_path, monkeypatch, fault):
    intact = onnx_export.to_onnx

    def broken(*arguments) -> bytes:
        graph = onnx.load_from_string(intact(*arguments))
        FAULTS[fault](graph)
        return graph.SerializeToString()

    monkeypatch.setattr(onnx_export, "to_onnx", broken)
    path = tmp_path / "m.pth.tar"
    path.write_bytes((trained["both"] / "mds.pth.tar").read_bytes())
    words = r"onnxruntime's \w+ differs from PyTorch's by .* expected at most 1e-04; nothing is written"
    refused(export, path, match=words)
    monkeypatch.undo()
    export(path)


class BatchNorm(nn.Module):
    """By the statistics of the batch, as the authors' layer."""

    def __init__(self, norm: model.ClipNorm3d):
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean((0, 2, 3, 4), keepdim=True)
        deviation = (centred.square().mean((0, 2, 3, 4), keepdim=True) + 1e-5).sqrt()
        return centred / deviation * self.weight[:, None, None, None] + self.bias[:, None, None, None]


def test_a_file_whose_scores_depend_on_the_batch_is_not_written(save, export, monkeypatch):
    def with_batch_norms(net: TwoStreamNet) -> TwoStreamNet:
        net.netcnnlip.bn1 = BatchNorm(net.netcnnlip.bn1)
        return intact(net)

    intact = onnx_export.with_instance_norms
    monkeypatch.setattr(onnx_export, "with_instance_norms", with_batch_norms)
    refused(export, save(), match="differs from PyTorch's by")
    # alone every chunk is right
    monkeypatch.setattr(onnx_export, "PROBE_BATCHES", ([0], [1], [2], [3]))
    export(save())


class NormOfTwo(nn.Module):
    """Of a batch of two, as the one that the exporter follows through the network."""

    def __init__(self, norm: nn.InstanceNorm3d):
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x).reshape(2, *x.shape[1:])


def test_a_file_of_one_batch_size_is_not_written(save, export, monkeypatch):
    def with_two(net: TwoStreamNet) -> TwoStreamNet:
        net = intact(net)
        net.netcnnlip.bn1 = NormOfTwo(net.netcnnlip.bn1)
        return net

    intact = onnx_export.with_instance_norms
    monkeypatch.setattr(onnx_export, "with_instance_norms", with_two)
    refused(export, save(), match="onnxruntime can't run it, nothing is written: ")


def test_where_double_precision_says_that_it_is_rounding():
    exact = {"video_emb": np.linspace(-1, 1, 8).reshape(4, 2), "p_fake_video": np.full(4, 0.25)}

    def off(by: float) -> dict[str, np.ndarray]:
        return exact | {"video_emb": exact["video_emb"] + by}

    def never() -> dict[str, np.ndarray]:
        raise AssertionError("not needed")

    file = Path("mds.onnx")
    assert check_outputs(off(5e-5), off(0), never, file) == pytest.approx(5e-5, rel=0.01)
    assert check_outputs(off(1e-3), off(-1e-3), lambda: exact, file) == pytest.approx(2e-3, rel=0.01)
    for found, expected in ((3e-3, 1e-3), (2e-4, 0), (np.nan, 0), (np.nan, 1e-3)):
        with pytest.raises(UserError, match="onnxruntime's video_emb differs"):
            check_outputs(off(found), off(expected), lambda: exact, file)
    swapped = exact | {"p_fake_video": np.full(4, 0.2502)}  # a probability's own size does not count
    assert differences(swapped, exact)["p_fake_video"] == pytest.approx(2e-4)


def test_what_can_not_be_exported_is_refused(save, export, tmp_path, monkeypatch):
    path = save()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        refused(export, path, match=r'takes the package onnx, .* install it: pip install "onnx>=1.17,<2"')
    with monkeypatch.context() as patch:
        patch.setattr(onnx_export, "MAX_FILE_BYTES", 1000)
        refused(export, path, match="bytes, an ONNX file takes at most 1,000")

    class Unknown(nn.Module):
        stride, out_channels = 32, 3

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x[:, :, :8, :1, :1])

    with monkeypatch.context() as patch:
        patch.setitem(model.BACKBONES, "resnet18", lambda width: Unknown())
        refused(export, save(), match="PyTorch finds no ONNX for this network: .*bessel")
    checkpoint = torch.load(save(), weights_only=True)
    checkpoint["state_dict"]["netfclip.0.weight"].fill_(torch.nan)
    torch.save(checkpoint, path)
    refused(export, path, match="not finite; its training has diverged, nothing is written")
    (tmp_path / "out" / "mds.onnx").touch()
    with pytest.raises(UserError, match="the file exists"):
        export(save())


def test_speed_benchmark(capsys):
    onnx_speed.main(["--networks", "32:0.05", "--repeat", "1"])
    cells = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    pytorch_s, onnxruntime_s, ratio = (float(cell.removesuffix(" s")) for cell in cells[2:])
    assert cells[0] == "32×32" and ratio == pytest.approx(pytorch_s / onnxruntime_s, rel=0.1)
