"""`train.py --streams`: one stream alone, with the loss, the score and the weights of that stream."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

import model
from dataset import ChunkDataset, read_index
from engine import Objective, build_model, forward
from model import TwoStreamNet
from tests.conftest import FixedDetector, load_script
from tests.training.test_train import assert_same_run
from tests.training.tiny_train import SMALL, TINY
from utils.checkpoint import load_checkpoint
from utils.cli import UserError
from utils.constants import SCORE_NAMES
from utils.train_flags import parse_args

STREAMS = ("video", "audio")
TRAIN = [*SMALL, "--batch_size", "4", "--num_workers", "0"]
RUN = "deepfake_audio-32_r18_bs4_lr0.0001"
SMALL_NET = {"img_dim": 32, "final_dim": 16, "dropout": 0.0}
PARTS = {
    "video": "netcnnlip netfclip final_bn_lip final_fc_lip",
    "audio": "netcnnaud netfcaud final_bn_aud final_fc_aud",
}


def a_batch(size: int = 4) -> dict:
    torch.manual_seed(1)
    video = torch.randint(0, 256, (size, 30, 32, 32, 3), dtype=torch.uint8)
    labels = torch.arange(size) % 2
    return {"video": video, "audio": torch.randn(size, 1, 13, 99), "label": labels, "row": torch.arange(size)}


def one_line(function, *arguments, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def test_one_stream_has_its_weights_alone():
    both = TwoStreamNet(img_dim=32, width=0.1).state_dict()
    alone = {
        streams: TwoStreamNet(img_dim=32, width=0.1, streams=streams).state_dict() for streams in STREAMS
    }
    for streams, state in alone.items():
        assert {name.split(".")[0] for name in state} == set(PARTS[streams].split())
        assert {name: x.shape for name, x in state.items()} == {name: both[name].shape for name in state}
    assert alone["video"].keys() | alone["audio"].keys() == both.keys()
    with pytest.raises(ValueError, match="streams is 'lips', expected one of both, video, audio"):
        TwoStreamNet(streams="lips")


def gradients(net: TwoStreamNet, objective: Objective) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Of a batch: the loss terms by name, and the gradient of each parameter."""
    batch, device = a_batch(), torch.device("cpu")
    out = forward(net.train(), batch, device, "off")
    terms = objective(out, objective.targets(batch, device))
    objective.total(terms).backward()
    named = dict(zip(objective.names, terms.tolist(), strict=True))
    return named, {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("streams", STREAMS)
def test_gradients_are_those_of_its_cross_entropy_in_the_whole_network(tiny, streams):
    """With the other terms weighed 0 the whole network has them in this stream, and none in the other."""
    whole, alone = TwoStreamNet(**SMALL_NET), TwoStreamNet(**SMALL_NET, streams=streams)
    alone.load_state_dict({name: whole.state_dict()[name] for name in alone.state_dict()})
    weights = torch.tensor([0.0, streams == "video", streams == "audio"])
    terms, expected = gradients(whole, Objective(0.99, weights=weights))
    term, found = gradients(alone, Objective(0.99, streams=streams))
    assert term == {f"{streams}_ce": terms[f"{streams}_ce"]}
    assert all(gradient.any() for gradient in found.values())
    for name, gradient in expected.items():
        assert torch.equal(gradient, found[name]) if name in found else not gradient.any(), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory, chunk_tree, scripts):
    """For each stream a run of two epochs, its scores, and its model exported."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TINY.items():
            patch.setattr(model, name, value)
        for streams in STREAMS:
            folder = folders[streams] = tmp_path_factory.mktemp(streams)
            common = ["--out_dir", str(chunk_tree), *TRAIN, "--log_dir", str(folder)]
            train = scripts["train"].main
            train([*common, "--streams", streams, "--epochs", "2", "--save_every_min", "1e-9"])
            (within,) = (folder / RUN / "model").glob("epoch1_step*")
            within.rename(folder / "within.pth.tar")
            train([*common, "--test", "--scores_dir", str(folder)])  # the checkpoint knows its streams
            train([*common, "--export", str(folder / "mds.pth")])
    return folders


@pytest.mark.parametrize("streams", STREAMS)
def test_the_score_is_that_of_the_classifier(runs, chunk_tree, tiny, streams):
    folder = runs[streams]
    (path,) = (folder / RUN / "model").glob("model_best*")
    checkpoint = load_checkpoint(path, {})
    assert checkpoint["config"]["streams"] == streams
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == set(PARTS[streams].split())
    net, index = build_model(checkpoint, path).eval(), read_index(chunk_tree, "test")
    chunks = pd.read_csv(folder / "chunk_scores.csv")
    dataset = ChunkDataset(index, chunk_tree, 32)
    items = [dataset[i] for i in range(len(index))]
    batch = {name: torch.stack([item[name] for item in items]) for name in ("video", "audio")}
    with torch.no_grad():
        out = forward(net, batch, torch.device("cpu"), "off")
    assert out.keys() == {f"{streams}_emb", f"{streams}_logits"}
    p_fake = out[f"{streams}_logits"].exp()[:, 0] / out[f"{streams}_logits"].exp().sum(1)
    assert chunks[["video", "start_s"]].equals(index[["video", "start_s"]])
    assert np.allclose(chunks.dissimilarity, p_fake, rtol=1e-4) and chunks.dissimilarity.between(0, 1).all()
    (other,) = set(STREAMS) - {streams}
    assert chunks[f"p_fake_{streams}"].equals(chunks.dissimilarity) and chunks[f"p_fake_{other}"].isna().all()
    videos = pd.read_csv(folder / "scores.csv").set_index("video")
    assert np.allclose(videos.mds, chunks.groupby("video").dissimilarity.mean()[videos.index])
    stored = json.loads((folder / "scores.json").read_text())
    middle = (checkpoint["mean_mds_real"] + checkpoint["mean_mds_fake"]) / 2
    assert stored["threshold"] == checkpoint["threshold"] == pytest.approx(middle) and 0 < middle < 1
    assert stored["score"] == SCORE_NAMES[streams]


@pytest.mark.parametrize("streams", STREAMS)
def test_what_a_run_says(runs, streams):
    log = [json.loads(line) for line in (runs[streams] / RUN / "log.jsonl").read_text().splitlines()]
    (other,) = set(STREAMS) - {streams}
    for record in log:
        assert record["loss"] == record[f"{streams}_ce"] and math.isfinite(record["train_auc"])
        assert not {"contrastive", f"{other}_ce"} & record.keys()


@pytest.mark.parametrize("streams", STREAMS)
def test_the_report_says_what_the_score_is(runs, scripts, streams, tmp_path, capsys):
    for name in ("scores.csv", "scores.json", "chunk_scores.csv"):
        (tmp_path / name).write_bytes((runs[streams] / name).read_bytes())
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"the MDS of these videos is the mean {SCORE_NAMES[streams]}\n")
    assert "which part of the network" not in printed
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["score"] == SCORE_NAMES[streams] and metrics["heads"].keys() == {"dissonance"}
    assert metrics["chunk_auc"] is not None
    page = (tmp_path / "report.html").read_text()
    assert SCORE_NAMES[streams] in page and "Which modality looks fake" not in page


@pytest.mark.parametrize("streams", STREAMS)
def test_a_resumed_run_equals_a_straight_one(runs, chunk_tree, tiny, scripts, tmp_path, streams):
    """Resumed after an epoch, and from within the second one."""
    common = ["--out_dir", str(chunk_tree), *TRAIN, "--streams", streams]
    train = scripts["train"].main
    train([*common, "--log_dir", str(tmp_path / "whole"), "--epochs", "1"])
    train([*common, "--log_dir", str(tmp_path / "whole"), "--epochs", "2", "--resume"])
    assert_same_run(runs[streams] / RUN, tmp_path / "whole" / RUN)
    log_dir, within = tmp_path / "within", runs[streams] / "within.pth.tar"
    train([*common, "--log_dir", str(log_dir), "--epochs", "2", "--resume", str(within)])
    paths = [folder / RUN / "model" / "epoch2.pth.tar" for folder in (runs[streams], log_dir)]
    newest = [torch.load(path, weights_only=True) for path in paths]
    for name, tensor in newest[0]["state_dict"].items():
        assert torch.equal(tensor, newest[1]["state_dict"][name]), name
    assert newest[0]["log"][-1]["loss"] == newest[1]["log"][-1]["loss"]


@pytest.mark.parametrize("streams", STREAMS)
def test_an_exported_model_scores_alike(runs, chunk_tree, tiny, scripts, tmp_path, streams):
    exported = runs[streams] / "mds.pth"
    common = ["--out_dir", str(chunk_tree), *TRAIN, "--log_dir", str(tmp_path)]
    scripts["train"].main([*common, "--test", str(exported), "--scores_dir", str(tmp_path)])
    both = [pd.read_csv(folder / "scores.csv").mds for folder in (runs[streams], tmp_path)]
    assert np.allclose(*both, atol=2e-3)


def test_other_streams_than_a_checkpoints_are_refused(runs, chunk_tree, tiny, scripts, tmp_path):
    path = str(runs["audio"] / "mds.pth")
    common = ["--out_dir", str(chunk_tree), *TRAIN, "--log_dir", str(tmp_path)]
    train = scripts["train"].main
    one_line(train, [*common, "--streams", "video", "--test", path], match="streams audio")
    one_line(train, [*common, "--epochs", "2", "--resume", path], match="trained with --streams audio")


@pytest.mark.parametrize("streams", STREAMS)
def test_one_stream_has_no_dissonance_to_localize(runs, tiny, monkeypatch, tmp_path, streams):
    script = load_script("localize")
    monkeypatch.setattr("verdicts.detection.build_detector", lambda *_: FixedDetector())
    (tmp_path / "v.mp4").write_bytes(b"")
    flags = [str(tmp_path / "v.mp4"), "--model", str(runs[streams] / "mds.pth"), "--detector", "yunet"]
    words = f"holds the {streams} stream alone, which has no dissonance to judge by"
    one_line(script.main, [*flags, "--out", str(tmp_path / "out"), "--device", "cpu"], match=words)


@pytest.mark.parametrize(
    "flags",
    [
        ["--loss_weights", "1", "1", "0"],
        ["--pairs", "cross"],
        ["--distance", "standardised"],
        ["--heads", "detached"],
        ["--hyper_param", "20"],
        ["--preset", "sync", "--pairs", "cross"],
    ],
)
def test_flags_about_two_streams_are_refused(flags, capsys):
    parse_args(["--out_dir", ".", *flags])
    with pytest.raises(SystemExit, match="2"):
        parse_args(["--out_dir", ".", "--streams", "audio", *flags])
    words = re.escape(" ".join(flags[-2:] if flags[0] != "--loss_weights" else flags[:1]))
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(f"{words} is about two streams together, --streams audio trains one alone", said)


def test_the_preset_of_one_stream_is_what_is_not_about_both():
    args = parse_args(["--out_dir", ".", "--streams", "video", "--preset", "sync"])
    assert (args.norm, args.init, args.batch_size, args.lr) == ("clip", "torch", 32, 2.5e-4)
    assert (args.pairs, args.distance, args.heads) == ("dataset", "authors", "joint")
    assert parse_args(["--out_dir", "."]).streams == "both"
