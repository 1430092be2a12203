"""train.py: what a run writes, exact resume, scoring, and clear words for bad input. Small frames, on the CPU."""

import pickle
import shutil
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from model import TwoStreamNet, dissimilarity
from utils.checkpoint import load_checkpoint
from utils.cli import UserError

SMALL = ["--img_dim", "32", "--final_dim", "16", "--batch_size", "4", "--num_workers", "0", "--device", "cpu", "--lr", "1e-4"]
RUN = "deepfake_audio-32_r18_bs4_lr0.0001"


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """tag -> [(step, value), ...] of the TensorBoard files in a folder."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            data = data[16 + length :]
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory, chunk_tree, scripts):
    """Two runs of two epochs: one straight, one stopped after the first and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    train = scripts["train"].main
    common = ["--out_dir", str(chunk_tree), *SMALL, "--augment", "hflip", "noise", "--print_freq", "2"]
    train([*common, "--log_dir", str(folder / "straight"), "--epochs", "2"])
    train([*common, "--log_dir", str(folder / "resumed"), "--epochs", "1", "--resume"])  # nothing there yet: starts
    train([*common, "--log_dir", str(folder / "resumed"), "--epochs", "2", "--resume"])
    return folder


def test_a_resumed_run_equals_a_straight_one(runs):
    straight, resumed = (load_checkpoint(runs / kind / RUN / "model" / "epoch2.pth.tar", {}) for kind in ("straight", "resumed"))
    assert straight.keys() == resumed.keys() >= {
        "epoch", "net", "state_dict", "least_loss", "avg_score_real", "avg_score_fake", "optimizer", "iteration",
    }  # fmt: skip
    for name, tensor in straight["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    for i, state in straight["optimizer"]["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, resumed["optimizer"]["state"][i][name])
    for key in ("epoch", "iteration", "least_loss", "avg_score_real", "avg_score_fake"):
        assert straight[key] == resumed[key]
    assert (straight["epoch"], straight["iteration"]) == (2, 6)


def test_run_folder_and_tensorboard(runs):
    names = sorted(p.name for p in (runs / "straight" / RUN / "model").iterdir())
    assert names[0] == "epoch2.pth.tar" and names[1].startswith("model_best_epoch") and len(names) == 2
    events = scalars(runs / "straight" / RUN / "img" / "train")
    assert {tag: [step for step, _ in points] for tag, points in events.items()} == {
        "local/loss": [2, 3, 5, 6],
        "global/loss": [0, 1],
        "global/avg_score_fake": [0, 1],
        "global/avg_score_real": [0, 1],
    }
    assert events == scalars(runs / "resumed" / RUN / "img" / "train")


@pytest.fixture(scope="module")
def scored(runs, chunk_tree, scripts):
    folder = runs / "scores"
    scripts["train"].main(
        ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(runs / "straight"), "--test", "--scores_dir", str(folder)]
    )
    return folder


def test_scores_of_the_test_split(runs, scored, chunk_tree, scripts, tmp_path):
    videos = pd.read_csv(scored / "scores.csv")
    chunks = pd.read_csv(scored / "chunk_scores.csv", dtype={"chunk": str})
    assert list(videos.columns) == ["video", "label", "track", "n_chunks", "dissimilarity_sum", "mds"]
    assert list(chunks.columns) == [
        "video", "label", "track", "chunk", "start_s", "end_s", "dissimilarity", "p_fake_video", "p_fake_audio",
    ]  # fmt: skip
    assert list(videos.video) == [f"{label}/v{i}" for label in ("fake", "real") for i in range(3)]
    assert list(videos.label) == [0, 0, 0, 1, 1, 1] and (videos.n_chunks == 2).all()
    np.testing.assert_allclose(videos.mds, chunks.groupby("video").dissimilarity.mean())
    assert list(chunks.end_s[:2]) == [1.0, 2.0]
    assert chunks.p_fake_video.between(0, 1).all() and chunks.p_fake_audio.between(0, 1).all()

    best = next((runs / "straight" / RUN / "model").glob("model_best*"))
    again = tmp_path / "one"  # named by its path, other batch size, workers: the same scores
    arguments = ["--out_dir", str(chunk_tree), "--batch_size", "2", "--num_workers", "1", "--device", "cpu"]
    scripts["train"].main([*arguments, "--test", str(best), "--scores_dir", str(again)])
    np.testing.assert_allclose(pd.read_csv(again / "scores.csv").mds, videos.mds, rtol=1e-4)


def test_threshold_is_the_midpoint_of_the_training_videos(runs, scored, chunk_tree, scripts):
    best = next((runs / "straight" / RUN / "model").glob("model_best*"))
    train = scripts["train"]
    checkpoint = load_checkpoint(best, {})
    model = train.build_model(checkpoint, best).eval()
    index = train.read_index(chunk_tree, "train")
    dataset = train.ChunkDataset(index, chunk_tree, 32)
    mds = {}
    for row, video in enumerate(index.video):
        item = dataset[row]
        with torch.no_grad():
            out = model(train.normalize(item["video"][None]), item["audio"][None])
        mds.setdefault(video, []).append(dissimilarity(out["video_emb"], out["audio_emb"]).item())
    real, fake = (np.mean([np.mean(d) for v, d in mds.items() if v.startswith(label)]) for label in ("real", "fake"))
    assert checkpoint["mean_mds_real"] == pytest.approx(real, rel=1e-4)
    assert checkpoint["threshold"] == pytest.approx((real + fake) / 2, rel=1e-4)
    stored, origin = scripts["test"].stored_threshold(scored / "scores.json")
    assert stored == checkpoint["threshold"] and "midpoint" in origin


def test_a_checkpoint_of_the_authors_code_goes_on_training(runs, chunk_tree, scripts, tmp_path):
    ours = torch.load(runs / "straight" / RUN / "model" / "epoch2.pth.tar", weights_only=True)
    adam = ours["optimizer"]
    for state in adam["state"].values():
        state["step"] = int(state["step"])  # as PyTorch 1 saved it, with fewer settings in a group
    adam["param_groups"] = [
        {k: g[k] for k in ("lr", "betas", "eps", "weight_decay", "amsgrad", "params")} for g in adam["param_groups"]
    ]
    theirs = {k: ours[k] for k in ("epoch", "net", "least_loss", "avg_score_real", "avg_score_fake", "iteration")}
    theirs |= {"optimizer": adam, "state_dict": {f"module.{k}": v for k, v in ours["state_dict"].items()}}
    torch.save(theirs, tmp_path / "epoch2.pth.tar")
    arguments = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(tmp_path)]
    scripts["train"].main([*arguments, "--resume", str(tmp_path / "epoch2.pth.tar")])
    assert load_checkpoint(tmp_path / RUN / "model" / "epoch3.pth.tar", {})["iteration"] == 9


@pytest.mark.parametrize("img_dim", [64, 112])
def test_weights_of_the_authors_code_load(tmp_path, scripts, img_dim):
    model = TwoStreamNet(img_dim=img_dim, final_dim=32)
    path = tmp_path / "epoch7.pth.tar"
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    numbers = {"epoch": 7, "avg_score_real": np.float64(0.25), "avg_score_fake": np.float32(0.75), "net": "resnet18"}
    torch.save({"state_dict": state, **numbers}, path)
    flags = {"net": "resnet18", "img_dim": img_dim, "final_dim": 1024, "dropout": 0.5}
    loaded = load_checkpoint(path, flags)
    assert loaded["config"] == flags | {"final_dim": 32}
    again = scripts["train"].build_model(loaded, path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    assert scripts["train"].stored_threshold(loaded) == (
        0.5,
        "midpoint of the training epoch's mean scores, measured in training mode",
    )
    with pytest.raises(UserError, match="does not fit --net, --img_dim"):
        scripts["train"].build_model(load_checkpoint(path, flags | {"img_dim": 224}), path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_bad_checkpoints_give_one_line(runs, chunk_tree, scripts, tmp_path, capsys):
    good = runs / "straight" / RUN / "model" / "epoch2.pth.tar"
    with good.open("rb") as file:
        (tmp_path / "cut.pth.tar").write_bytes(file.read(100_000))
    (tmp_path / "text.pth.tar").write_text("<html></html>")
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "foreign.pth.tar")
    (tmp_path / "evil.pth.tar").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": Evil()}, tmp_path / "evil2.pth.tar")
    cases = {
        "cut": "is damaged",
        "text": "is damaged",
        "foreign": "is damaged or no checkpoint of this network",
        "evil": "is damaged",
        "evil2": "is damaged",
        "absent": "does not exist",
    }
    for name, words in cases.items():
        for flag in ("--test", "--resume"):
            arguments = ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path / "log")]
            with pytest.raises(UserError, match=words) as caught:
                scripts["train"].main([*arguments, flag, str(tmp_path / f"{name}.pth.tar")])
            assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(UserError, match="was trained with --img_dim 32; give the same flags"):
        scripts["train"].main(["--out_dir", str(chunk_tree), "--img_dim", "64", "--final_dim", "16", "--resume", str(good)])
    weights = torch.load(good, weights_only=True)
    torch.save({"state_dict": weights["state_dict"]}, tmp_path / "weights.pth.tar")
    with pytest.raises(UserError, match="holds no epoch, iteration, least_loss, optimizer"):
        scripts["train"].main(["--out_dir", str(chunk_tree), *SMALL, "--resume", str(tmp_path / "weights.pth.tar")])
    with pytest.raises(UserError, match="train first"):
        scripts["train"].main(["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path / "log"), "--test"])


def test_bad_training_sets_and_losses(chunk_tree, scripts, tmp_path):
    common = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(tmp_path / "log")]
    with pytest.raises(UserError, match="has 12 chunks, --batch_size is 64"):
        scripts["train"].main([*common, "--batch_size", "64"])
    with pytest.raises(UserError, match=r"not finite: the loss in epoch 1, step 3 \(contrastive"):
        scripts["train"].main([*common, "--lr", "1e30"])
    damaged = tmp_path / "damaged"  # one chunk of 12 is lost, so a batch of 2 is skipped; NaN must be noticed all the same
    shutil.copytree(chunk_tree, damaged)
    (damaged / "train/pytmp/real/v0/00000.wav").unlink()
    arguments = ["--out_dir", str(damaged), *SMALL, "--batch_size", "2", "--lr", "1e30", "--epochs", "1"]
    with pytest.raises(UserError, match="not finite: the mean loss of epoch 1"):
        scripts["train"].main([*arguments, "--log_dir", str(tmp_path / "log"), "--print_freq", "100"])
    assert not list(tmp_path.rglob("*.pth.tar"))
    index = pd.read_csv(damaged / "train_split.csv", dtype=str)
    index[index.label == "0"].to_csv(damaged / "train_split.csv", index=False)
    with pytest.raises(UserError, match="only fake chunks"):
        scripts["train"].main(arguments)
    for arguments in (
        ["--epochs", "0"],
        ["--lr", "-1"],
        ["--net", "resnet19"],
        ["--dropout", "2"],
        ["--epoch", "3"],
        ["--resume", "--test"],
    ):
        with pytest.raises(SystemExit) as caught:
            scripts["train"].parse_args(["--out_dir", ".", *arguments])
        assert caught.value.code == 2


def test_an_earlier_run_is_not_overwritten_unasked(runs, chunk_tree, scripts):
    arguments = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(runs / "straight")]
    with pytest.raises(UserError, match=r"--resume, start anew with --overwrite"):
        scripts["train"].main(arguments)
    other = runs / "resumed" / RUN / "model" / "epoch2.pth.tar"
    with pytest.raises(UserError, match="would take the place of another run's checkpoints"):
        scripts["train"].main([*arguments, "--resume", str(other)])
    assert (runs / "straight" / RUN / "model" / "epoch2.pth.tar").is_file()


def test_no_gpu_is_said(scripts, chunk_tree):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="finds no GPU"):
        scripts["train"].main(["--out_dir", str(chunk_tree), "--device", "cuda"])
