"""train.py: what a run writes, resume, scoring, and clear words for bad input. A tiny network, on the CPU."""

import contextlib
import io
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

import dataset
import evaluation.calibration
import model
import utils.runs
from augmentation import normalize
from dataset import ChunkDataset, build_loader, read_index, scoring_batches
from engine import Execution, Objective, Trainer, build_model, score_chunks
from evaluation.tables import read_summary
from mds import video_scores
from model import TwoStreamNet, dissimilarity
from tests.conftest import ROOT, load_script, take_step
from tests.training import tiny_train
from utils.checkpoint import (
    keep_checkpoint,
    list_checkpoints,
    load_checkpoint,
    stored_calibration,
    stored_threshold,
)
from utils.cli import UserError
from utils.ranks import Ranks, StopSignal
from utils.runs import lock_run

SMALL = [*tiny_train.SMALL, "--batch_size", "4", "--num_workers", "0"]
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


def assert_same_run(straight: Path, resumed: Path) -> None:
    """Two run folders end with the same bits: weights, optimiser, TensorBoard; and with the same epochs in
    the log.
    """
    names = [
        sorted(p.name for p in (run / "model").iterdir() if p.name.startswith("model_best"))
        for run in (straight, resumed)
    ]
    assert names[0] == names[1]
    newest = max((straight / "model").glob("epoch*"), key=lambda p: int(p.name.split(".")[0][5:])).name
    for name in (newest, *names[0]):
        a, b = (torch.load(run / "model" / name, weights_only=True) for run in (straight, resumed))
        assert a.keys() == b.keys()
        for key, tensor in a["state_dict"].items():
            assert torch.equal(tensor, b["state_dict"][key]), key
        for i, state in a["optimizer"]["state"].items():
            for key, tensor in state.items():
                assert torch.equal(tensor, b["optimizer"]["state"][i][key]), key
        for key in (
            "epoch",
            "iteration",
            "least_loss",
            "best_value",
            "avg_score_real",
            "avg_score_fake",
            "threshold",
        ):
            assert a.get(key) == b.get(key), key
    timed = {"chunks_per_s", "data_wait_share", "peak_memory_mb"}
    logs = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (straight, resumed)
    ]
    untimed = [[{k: v for k, v in record.items() if k not in timed} for record in log] for log in logs]
    assert untimed[0] == untimed[1] and [r["epoch"] for r in logs[0]] == list(range(1, len(logs[0]) + 1))
    events = [scalars(run / "img" / "train") for run in (straight, resumed)]
    assert {tag: points for tag, points in events[0].items() if tag[7:] not in timed} == {
        tag: points for tag, points in events[1].items() if tag[7:] not in timed
    }


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A network a thousand times smaller."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_train.TINY.items():
            patch.setattr(model, name, value)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, chunk_tree, scripts):
    """Two runs of two epochs: one straight, one stopped after the first and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    train = scripts["train"].main
    common = ["--out_dir", str(chunk_tree), *SMALL, "--augment", "hflip", "noise", "--print_freq", "2"]
    train([*common, "--log_dir", str(folder / "straight"), "--epochs", "2"])
    train(
        [*common, "--log_dir", str(folder / "resumed"), "--epochs", "1", "--resume"]
    )  # nothing there yet: starts
    train([*common, "--log_dir", str(folder / "resumed"), "--epochs", "2", "--resume"])
    return folder


def test_a_resumed_run_equals_a_straight_one(runs):
    assert_same_run(runs / "straight" / RUN, runs / "resumed" / RUN)
    checkpoint = load_checkpoint(runs / "straight" / RUN / "model" / "epoch2.pth.tar", {})
    assert checkpoint.keys() >= {
        "epoch",
        "net",
        "state_dict",
        "least_loss",
        "avg_score_real",
        "avg_score_fake",
        "optimizer",
    }
    assert (checkpoint["epoch"], checkpoint["iteration"]) == (2, 6)


def test_a_run_says_what_happened(runs):
    run = runs / "straight" / RUN
    names = sorted(p.name for p in (run / "model").iterdir())
    assert (
        names[:2] == ["epoch1.pth.tar", "epoch2.pth.tar"]
        and names[2].startswith("model_best_epoch")
        and len(names) == 3
    )
    events = scalars(run / "img" / "train")
    steps = {tag: [step for step, _ in points] for tag, points in events.items()}
    assert steps.pop("local/loss") == [2, 3, 5, 6]
    assert steps.keys() >= {
        "global/loss",
        "global/avg_score_fake",
        "global/avg_score_real",
        "global/train_auc",
    }
    assert all(points == [1, 2] for points in steps.values())  # as in the log
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for record in records:
        assert record["loss"] == pytest.approx(
            record["contrastive"] + record["video_ce"] + record["audio_ce"]
        )
        assert (
            0 <= record["train_auc"] <= 1
            and 0 <= record["data_wait_share"] <= 1
            and record["peak_memory_mb"] > 100
        )
        assert record["mean_mds_real"] > 0 and record["chunks_per_s"] > 0 and record["n_bad_chunks"] == 0
    assert json.loads((run / "args.json").read_text())["augment"] == ["hflip", "noise"]
    assert json.loads((run / "env.json").read_text())["packages"]["torch"] == torch.__version__.split("+")[0]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    newest = load_checkpoint(run / "model" / "epoch2.pth.tar", {})
    for name in ("avg_score_real", "avg_score_fake"):
        assert newest[name] == records[1][name] != records[0][name]
    assert records[1]["avg_score_real"] != records[1]["avg_score_fake"]
    assert newest["state_dict"]["netfclip.1.num_batches_tracked"] == 6  # in training mode at each step
    best = load_checkpoint(next((run / "model").glob("model_best*")), {})
    assert best["args"]["lr"] == 1e-4 and best["polarity"] == "higher is more fake" and best["env"]["python"]


@pytest.fixture(scope="module")
def scored(runs, chunk_tree, scripts):
    folder = runs / "scores"
    scripts["train"].main(
        [
            "--out_dir",
            str(chunk_tree),
            *SMALL,
            "--log_dir",
            str(runs / "straight"),
            "--test",
            "--scores_dir",
            str(folder),
        ]
    )
    return folder


def test_scores_of_the_test_split(runs, scored, chunk_tree, scripts, tmp_path):
    videos = pd.read_csv(scored / "scores.csv")
    chunks = pd.read_csv(scored / "chunk_scores.csv", dtype={"chunk": str})
    assert list(videos.columns) == ["video", "label", "track", "n_chunks", "dissimilarity_sum", "mds"]
    assert list(chunks.columns) == [
        "video",
        "label",
        "track",
        "chunk",
        "start_s",
        "end_s",
        "dissimilarity",
        "p_fake_video",
        "p_fake_audio",
    ]
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
    checkpoint = load_checkpoint(best, {})
    network = build_model(checkpoint, best).eval()
    index = read_index(chunk_tree, "train")
    chunks = ChunkDataset(index, chunk_tree, 32)
    mds = {}
    for row, video in enumerate(index.video):
        item = chunks[row]
        with torch.no_grad():
            out = network(normalize(item["video"][None]), item["audio"][None])
        mds.setdefault(video, []).append(dissimilarity(out["video_emb"], out["audio_emb"]).item())
    real, fake = (
        np.mean([np.mean(d) for v, d in mds.items() if v.startswith(label)]) for label in ("real", "fake")
    )
    assert checkpoint["mean_mds_real"] == pytest.approx(real, rel=1e-4)
    assert checkpoint["threshold"] == pytest.approx((real + fake) / 2, rel=1e-4)
    stored = read_summary(scored / "scores.json")
    assert stored["threshold"] == checkpoint["threshold"] and "midpoint" in stored["threshold_origin"]


def test_a_checkpoint_of_the_authors_code_goes_on_training(runs, chunk_tree, scripts, tmp_path):
    ours = torch.load(runs / "straight" / RUN / "model" / "epoch2.pth.tar", weights_only=True)
    adam = ours["optimizer"]
    for state in adam["state"].values():
        state["step"] = int(state["step"])  # as PyTorch 1 saved it, with fewer settings in a group
    adam["param_groups"] = [
        {k: g[k] for k in ("lr", "betas", "eps", "weight_decay", "amsgrad", "params")}
        for g in adam["param_groups"]
    ]
    theirs = {
        k: ours[k] for k in ("epoch", "net", "least_loss", "avg_score_real", "avg_score_fake", "iteration")
    }
    theirs |= {"optimizer": adam, "state_dict": {f"module.{k}": v for k, v in ours["state_dict"].items()}}
    torch.save(theirs, tmp_path / "epoch2.pth.tar")
    arguments = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(tmp_path)]
    scripts["train"].main([*arguments, "--resume", str(tmp_path / "epoch2.pth.tar")])
    assert load_checkpoint(tmp_path / RUN / "model" / "epoch3.pth.tar", {})["iteration"] == 9


@pytest.mark.parametrize("img_dim", [64, 112])
def test_weights_of_the_authors_code_load(tmp_path, scripts, img_dim):
    network = TwoStreamNet(img_dim=img_dim, final_dim=32)
    path = tmp_path / "epoch7.pth.tar"
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    numbers = {
        "epoch": 7,
        "avg_score_real": np.float64(0.25),
        "avg_score_fake": np.float32(0.75),
        "net": "resnet18",
    }
    torch.save({"state_dict": state, **numbers}, path)
    flags = {"net": "resnet18", "img_dim": img_dim, "final_dim": 1024, "dropout": 0.5}
    loaded = load_checkpoint(path, flags)
    assert loaded["config"] == flags | {"final_dim": 32, "streams": "both", "chunk_s": 1.0}
    again = build_model(loaded, path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in network.state_dict().items())
    assert stored_threshold(loaded) == (
        0.5,
        "midpoint of the training epoch's mean scores, measured in training mode",
    )
    with pytest.raises(UserError, match="does not fit --net, --img_dim"):
        build_model(load_checkpoint(path, flags | {"img_dim": 224}), path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_bad_checkpoints_give_one_line(runs, chunk_tree, scripts, tmp_path, capsys):
    good = runs / "straight" / RUN / "model" / "epoch2.pth.tar"
    with good.open("rb") as file:
        (tmp_path / "cut.pth.tar").write_bytes(file.read(10_000))
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
        scripts["train"].main(
            ["--out_dir", str(chunk_tree), "--img_dim", "64", "--final_dim", "16", "--resume", str(good)]
        )
    with pytest.raises(UserError, match="train first"):
        scripts["train"].main(
            ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path / "log"), "--test"]
        )


def copy_of_run(run: Path, log_dir: Path) -> Path:
    shutil.copytree(run, log_dir / RUN)
    return log_dir / RUN / "model"


def test_a_damaged_newest_checkpoint(runs, chunk_tree, scripts, tmp_path, capsys):
    model_dir = copy_of_run(runs / "straight" / RUN, tmp_path)
    newest, before = model_dir / "epoch2.pth.tar", model_dir / "epoch1.pth.tar"
    for best in model_dir.glob("model_best*"):
        best.unlink()
    newest.write_bytes(newest.read_bytes()[:20_000])
    flags = [
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--augment",
        "hflip",
        "noise",
        "--epochs",
        "2",
        "--log_dir",
        str(tmp_path),
    ]
    with pytest.raises(UserError, match=f"epoch2.pth.tar is damaged .* The one before it: --resume {before}"):
        scripts["train"].main([*flags, "--resume", str(newest)])
    capsys.readouterr()
    assert scripts["train"].main([*flags, "--print_freq", "2", "--resume", str(tmp_path / RUN)]) == 0
    printed = capsys.readouterr().out
    assert "epoch2.pth.tar is damaged" in printed and (model_dir / "epoch2.pth.tar.damaged").exists()
    assert f"resumed from {before} after 1 epochs" in printed
    resumed = torch.load(newest, weights_only=True)["state_dict"]
    straight = torch.load(runs / "straight" / RUN / "model" / "epoch2.pth.tar", weights_only=True)[
        "state_dict"
    ]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in straight.items())


def test_bad_training_sets_and_losses(chunk_tree, scripts, tmp_path):
    common = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(tmp_path / "log")]
    with pytest.raises(UserError, match="has 12 chunks, a step takes 64"):
        scripts["train"].main([*common, "--batch_size", "64"])
    with pytest.raises(
        UserError,
        match=r"not finite: the loss in epoch 1, step \d \(contrastive .* the batch held train/pytmp/",
    ):
        scripts["train"].main([*common, "--lr", "1e30"])
    assert not list(tmp_path.rglob("*.pth.tar"))
    only_fakes = tmp_path / "fakes"
    only_fakes.mkdir()
    index = pd.read_csv(chunk_tree / "train_split.csv", dtype=str)
    index[index.label == "0"].to_csv(only_fakes / "train_split.csv", index=False)
    with pytest.raises(UserError, match="only fake chunks"):
        scripts["train"].main(["--out_dir", str(only_fakes), *SMALL])
    for arguments in (
        ["--epochs", "0"],
        ["--lr", "-1"],
        ["--net", "resnet19"],
        ["--dropout", "2"],
        ["--epoch", "3"],
        ["--resume", "--test"],
        ["--export", "a", "b", "c"],
    ):
        with pytest.raises(SystemExit) as caught:
            scripts["train"].parse_args(["--out_dir", ".", *arguments])
        assert caught.value.code == 2


def test_damaged_chunks_are_replaced_and_counted(chunk_tree, scripts, tmp_path, capsys):
    index = pd.read_csv(chunk_tree / "train_split.csv", dtype=str)
    (tmp_path / "train").symlink_to(chunk_tree / "train")
    many = pd.concat([index] * 10)
    many.iloc[3, many.columns.get_loc("path")] = "nowhere"
    many.to_csv(tmp_path / "train_split.csv", index=False)
    flags = [
        "--out_dir",
        str(tmp_path),
        *SMALL,
        "--batch_size",
        "8",
        "--epochs",
        "1",
        "--log_dir",
        str(tmp_path / "log"),
    ]
    scripts["train"].main(flags)
    assert f"can't be read, replaced by the next chunk: {tmp_path}/nowhere: " in capsys.readouterr().out
    log = next((tmp_path / "log").rglob("log.jsonl"))
    assert json.loads(log.read_text())["n_bad_chunks"] == 1
    many.iloc[7, many.columns.get_loc("path")] = "nowhere else"
    many.to_csv(tmp_path / "train_split.csv", index=False)
    with pytest.raises(UserError, match=r"2 of 120 training chunks can't be read, more than 1%"):
        scripts["train"].main([*flags, "--overwrite"])


def test_a_dead_loader_process_is_said(chunk_tree, scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "read_video", lambda *_: os.kill(os.getpid(), 9))
    with pytest.raises(
        UserError,
        match=r"a loader process died \(DataLoader worker .*go on with --resume and fewer --num_workers",
    ):
        scripts["train"].main(
            ["--out_dir", str(chunk_tree), *SMALL, "--num_workers", "1", "--log_dir", str(tmp_path)]
        )


def test_export(runs, scored, chunk_tree, scripts, tmp_path, capsys):
    flags = ["--out_dir", str(chunk_tree), *SMALL]
    file = tmp_path / "mds.pth"
    scripts["train"].main([*flags, "--log_dir", str(runs / "straight"), "--export", str(file)])
    with pytest.raises(UserError, match="the file exists"):
        scripts["train"].main([*flags, "--log_dir", str(runs / "straight"), "--export", str(file)])
    best = next((runs / "straight" / RUN / "model").glob("model_best*"))
    exported, whole = (torch.load(path, weights_only=True) for path in (file, best))
    assert file.stat().st_size < best.stat().st_size / 3
    assert exported["threshold"] == whole["threshold"] and exported["config"] == whole["config"]
    assert exported["state_dict"]["netfclip.0.weight"].dtype == torch.float16
    assert exported["state_dict"]["netfclip.1.running_var"].dtype == torch.float32  # may be beyond float16
    scripts["train"].main([*flags, "--test", str(file), "--scores_dir", str(tmp_path)])
    mds, expected = (pd.read_csv(folder / "scores.csv").mds for folder in (tmp_path, scored))
    np.testing.assert_allclose(mds, expected, rtol=1e-2)
    capsys.readouterr()
    scripts["train"].main([*flags, "--epochs", "1", "--log_dir", str(tmp_path), "--resume", str(file)])
    assert "its weights are the initial ones of a new training" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / RUN / "model" / "epoch1.pth.tar", {})["iteration"] == 3
    whole["state_dict"]["netfclip.0.weight"][0, 0] = 1e6
    torch.save(whole, tmp_path / "large.pth.tar")
    with pytest.raises(UserError, match=r"netfclip.0.weight is not finite in half precision"):
        scripts["train"].main(
            [*flags, "--export", str(tmp_path / "new.pth"), str(tmp_path / "large.pth.tar")]
        )


def test_held_out_videos_pick_the_epoch(chunk_tree, scripts, tmp_path, capsys):
    flags = [
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--epochs",
        "3",
        "--log_dir",
        str(tmp_path),
        "--val_fraction",
        "0.3",
    ]
    scripts["train"].main(flags)
    assert "8 chunks of 4 videos, on cpu; 2 videos held out" in capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / RUN / "log.jsonl").read_text().splitlines()]
    best = max(records, key=lambda record: (record["val_auc"], -record["loss"]))
    assert (tmp_path / RUN / "model" / f"model_best_epoch{best['epoch']}.pth.tar").is_file()
    with pytest.raises(UserError, match=r"was trained with --val_fraction 0.3; give the same flags"):
        scripts["train"].main([*flags[:-2], "--resume"])


def test_resume_notes_what_is_no_longer_the_same(runs, chunk_tree, scripts, tmp_path, capsys):
    copy_of_run(runs / "straight" / RUN, tmp_path)
    index = pd.read_csv(chunk_tree / "train_split.csv", dtype=str)
    (tmp_path / "elsewhere").symlink_to(chunk_tree)
    index["path"] = [f"elsewhere/{path}" for path in index.path]
    index.to_csv(tmp_path / "train_split.csv", index=False)
    flags = [
        "--out_dir",
        str(tmp_path),
        *SMALL,
        "--log_dir",
        str(tmp_path),
        "--epochs",
        "3",
        "--seed",
        "7",
        "--resume",
    ]
    scripts["train"].main(flags)
    printed = capsys.readouterr().out
    assert "note: other flags than before: --augment ['hflip', 'noise'] -> None, --seed 0 -> 7" in printed
    assert "begins anew" not in printed  # it would have begun anyway
    scripts["train"].main([*flags, "--epochs", "4", "--amp", "fp16", "--wd", "0"])
    assert "--wd 1e-05 -> 0.0, " in capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / RUN / "model" / "epoch4.pth.tar", {})
    assert checkpoint["optimizer"]["param_groups"][0]["weight_decay"] == 0


def test_an_epoch_under_way_with_other_chunks_begins_anew(runs, chunk_tree, scripts, tmp_path, capsys):
    model_dir = copy_of_run(runs / "straight" / RUN, tmp_path)
    checkpoint = torch.load(model_dir / "epoch1.pth.tar", weights_only=True)
    under_way = {"position": 4, "n_steps": 1, "sums": torch.zeros(3), "distances": torch.zeros(5)}
    torch.save(
        checkpoint | {"under_way": under_way, "order_digest": "another"}, model_dir / "epoch1_step1.pth.tar"
    )
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path), "--epochs", "2"]
    scripts["train"].main([*flags, "--resume", str(model_dir / "epoch1_step1.pth.tar")])
    assert (
        "note: other chunks or another order than before, so epoch 2 begins anew" in capsys.readouterr().out
    )
    assert load_checkpoint(model_dir / "epoch2.pth.tar", {})["under_way"] is None


def test_going_back_to_an_older_checkpoint_forgets_a_later_best(runs, chunk_tree, scripts, tmp_path, capsys):
    model_dir = copy_of_run(runs / "straight" / RUN, tmp_path)
    for best in model_dir.glob("model_best*"):
        best.rename(model_dir / "model_best_epoch2.pth.tar")
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path), "--epochs", "2"]
    scripts["train"].main([*flags, "--resume", str(model_dir / "epoch1.pth.tar")])
    best = load_checkpoint(
        model_dir / "model_best_epoch2.pth.tar", {}
    )  # written anew: without augmentation, another loss
    assert best["args"]["augment"] is None and best["epoch"] == 2


@pytest.mark.parametrize(
    "flags", ["--balance sampler", "--balance loss", "--amp bf16", "--amp fp16", "--accumulate 3"]
)
def test_options_train(chunk_tree, scripts, tmp_path, flags):
    common = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(tmp_path)]
    assert scripts["train"].main([*common, *flags.split()]) == 0
    checkpoint = load_checkpoint(tmp_path / RUN / "model" / "epoch1.pth.tar", {})
    assert checkpoint["iteration"] == (1 if "accumulate" in flags else 3)
    assert {tensor.dtype for tensor in checkpoint["state_dict"].values()} == {torch.float32, torch.int64}


def test_a_step_over_several_batches_takes_their_mean_gradient(chunk_tree):
    index = read_index(chunk_tree, "train")
    (batch,) = build_loader(ChunkDataset(index, chunk_tree, 32), scoring_batches(12, 12), num_workers=0)
    results = []
    for n in (1, 2):
        torch.manual_seed(0)
        network = TwoStreamNet(img_dim=32, final_dim=16, dropout=0)
        with Ranks("cpu") as ranks:
            trainer = Trainer(network, ranks, Objective(1), lr=1e-3, weight_decay=0, accumulate=n)
            terms, distances = take_step(trainer, batch)
        assert (distances > 0).all()
        # Adam's step does not tell its size
        gradient = trainer.optimizer.state[network.netfclip[0].weight]["exp_avg"]
        results.append((terms, network.state_dict(), gradient))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1]["netfclip.0.weight"], results[1][1]["netfclip.0.weight"])
    torch.testing.assert_close(results[0][2], results[1][2])


def test_an_earlier_run_is_not_overwritten_unasked(runs, chunk_tree, scripts):
    arguments = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(runs / "straight")]
    with pytest.raises(UserError, match=r"--resume, start anew with --overwrite"):
        scripts["train"].main(arguments)
    other = runs / "resumed" / RUN / "model" / "epoch2.pth.tar"
    with pytest.raises(
        UserError, match="would take the place of the checkpoints in .* go on from those with --resume alone"
    ):
        scripts["train"].main([*arguments, "--resume", str(other)])
    assert (runs / "straight" / RUN / "model" / "epoch2.pth.tar").is_file()


def test_no_gpu_is_said(scripts, chunk_tree):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="finds no GPU"):
        scripts["train"].main(["--out_dir", str(chunk_tree), "--device", "cuda"])


# finding, locking and naming runs


def one_line(function, *arguments, match: str) -> str:
    with pytest.raises(UserError, match=match) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_rate_goes_on_in_the_runs_folder(runs, chunk_tree, scripts, tmp_path, capsys):
    model_dir = copy_of_run(runs / "straight" / RUN, tmp_path)
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--augment", "hflip", "noise", "--log_dir", str(tmp_path)]
    flags[flags.index("--lr") + 1] = "1e-5"
    said = one_line(
        scripts["train"].main,
        [*flags, "--epochs", "3", "--resume"],
        match=f"{RUN[:-6]}1e-05 holds no checkpoint; to go on",
    )
    command = said.split("the runs that are there: ")[1].split("; to start this one leave --resume out")[0]
    assert not (tmp_path / f"{RUN[:-6]}1e-05").exists()
    again = scripts["train"].parse_args(shlex.split(command)[2:])
    assert (again.lr, again.augment, again.log_dir, again.img_dim) == (1e-4, ["hflip", "noise"], tmp_path, 32)

    assert scripts["train"].main([*flags, "--epochs", "3", "--resume", "--reset_lr"]) == 0
    printed = capsys.readouterr().out
    assert (
        f"resumed from {model_dir / 'epoch2.pth.tar'}" in printed
        and "the learning rate is now 1e-05, it was 0.0001" in printed
    )
    checkpoint = load_checkpoint(model_dir / "epoch3.pth.tar", {})
    assert checkpoint["optimizer"]["param_groups"][0]["lr"] == 1e-5 and checkpoint["iteration"] == 9
    assert checkpoint["log"][-1]["lr"] == 1e-5 and checkpoint["log"][0]["lr"] == 1e-4
    shutil.copytree(tmp_path / RUN, tmp_path / f"{RUN}5")  # a rate of 0.00015: which of the two?
    said = one_line(
        scripts["train"].main,
        [*flags, "--epochs", "4", "--resume", "--reset_lr"],
        match="; python train.py --resume",
    )
    assert said.count("--reset_lr --lr 1e-05") == 2


def test_reset_lr_is_what_changes_the_rate(runs, chunk_tree, scripts, tmp_path, capsys):
    """The same checkpoint, trained on with its own rate and with one that is 0 but for rounding: the second
    does not move.
    """
    before = torch.load(runs / "straight" / RUN / "model" / "epoch2.pth.tar", weights_only=True)["state_dict"]
    for flag, moves in (([], True), (["--reset_lr"], False)):
        folder = tmp_path / str(moves)
        copy_of_run(runs / "straight" / RUN, folder)
        flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(folder)]
        flags[flags.index("--lr") + 1] = "1e-30"
        start = str(folder / RUN / "model" / "epoch2.pth.tar")
        scripts["train"].main([*flags, "--resume", start, *flag])
        assert (folder / RUN / "model" / "epoch3.pth.tar").exists() != moves  # the folder keeps its name
        after = torch.load(next(folder.rglob("epoch3.pth.tar")), weights_only=True)["state_dict"]
        name = "netfclip.0.weight"
        assert torch.equal(before[name], after[name]) != moves
    assert (
        "the checkpoint's learning rate 0.0001 goes on; --reset_lr takes --lr 1e-30"
        in capsys.readouterr().out
    )


def test_forgotten_flags_name_the_runs_that_are_there(runs, chunk_tree, scripts, tmp_path):
    log_dir = runs / "straight"
    best = next((log_dir / RUN / "model").glob("model_best*"))
    flags = ["--out_dir", str(chunk_tree), "--log_dir", str(log_dir), "--device", "cpu"]
    one_line(scripts["train"].main, [*flags, "--test"], match=f"or name a checkpoint: --test {best}.")
    one_line(
        scripts["train"].main,
        [*flags, "--export", str(tmp_path / "x")],
        match=f"--export {tmp_path / 'x'} {best}.",
    )
    one_line(
        scripts["train"].main,
        [*flags, "--resume"],
        match="holds no checkpoint; to go on with one of the runs",
    )
    one_line(
        scripts["train"].main,
        [*flags, "--resume", "--epochs", "77"],
        match="python train.py --resume --epochs 77 --out_dir",
    )
    assert [p.name for p in log_dir.iterdir() if p.is_dir()] == [RUN]
    (tmp_path / RUN / "model").mkdir(parents=True)
    (tmp_path / RUN / "model" / "epoch1.pth.tar").touch()
    for content in ("[" * 100_000, "[]", '{"augment": {"a": 1}, "lr": "; rm -rf", "seed": "$(ls)"}'):
        (tmp_path / RUN / "args.json").write_text(content)
        flags[3] = str(tmp_path)
        said = one_line(scripts["train"].main, [*flags, "--resume"], match="--img_dim 32")
    assert "'$(ls)'" in said and "rm -rf" not in said


def test_a_flag_of_another_network_is_refused(runs, chunk_tree, scripts, tmp_path):
    best = str(next((runs / "straight" / RUN / "model").glob("model_best*")))
    flags = ["--out_dir", str(chunk_tree), "--device", "cpu", "--num_workers", "0"]
    for flag in (
        ["--img_dim", "224"],
        ["--net", "resnet34"],
        ["--distance", "standardised"],
        ["--final_dim", "1024"],
    ):
        words = f"holds a network of {flag[0]} .*, got {' '.join(flag)}; leave that out"
        one_line(scripts["train"].main, [*flags, *flag, "--test", best], match=words)
        one_line(scripts["train"].main, [*flag, "--export", str(tmp_path / "x"), best], match=words)
    scripts["train"].main(["--export", str(tmp_path / "x"), best])  # without --out_dir, as in the README
    with pytest.raises(SystemExit):
        scripts["train"].parse_args(["--epochs", "1"])


def test_two_trainings_in_one_folder(runs, chunk_tree, scripts, tmp_path, monkeypatch):
    copy_of_run(runs / "straight" / RUN, tmp_path)
    monkeypatch.setattr(utils.runs, "LOCK_S", 0.01)
    lock = lock_run(tmp_path / RUN)
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(tmp_path)]
    for start in ("--resume", "--overwrite"):
        one_line(
            scripts["train"].main,
            [*flags, start],
            match="is in the hands of another training, and two would mix",
        )
    assert not (tmp_path / RUN / "model" / "epoch3.pth.tar").exists()
    lock.release()
    assert scripts["train"].main([*flags, "--resume"]) == 0
    lock_run(tmp_path / RUN).release()  # the training has let go of it


# checkpoints whose parts are not what they should be


def test_an_optimiser_without_the_state_of_a_parameter_goes_on(runs, chunk_tree, scripts, tmp_path):
    checkpoint = torch.load(runs / "straight" / RUN / "model" / "epoch2.pth.tar", weights_only=True)
    names = list(TwoStreamNet(img_dim=32, final_dim=16).state_dict())
    assert names[-1] == "final_fc_aud.1.bias"
    for i in list(checkpoint["optimizer"]["state"])[-2:]:  # as after a training without the audio head's loss
        del checkpoint["optimizer"]["state"][i]
    (tmp_path / RUN / "model").mkdir(parents=True)
    torch.save(checkpoint, tmp_path / RUN / "model" / "epoch2.pth.tar")
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(tmp_path), "--resume"]
    assert scripts["train"].main(flags) == 0
    state = load_checkpoint(tmp_path / RUN / "model" / "epoch3.pth.tar", {})["optimizer"]["state"]
    steps = sorted({float(moments["step"]) for moments in state.values()})
    assert steps == [3, 9]


UNDER_WAY = {
    "position": 4,
    "n_steps": 1,
    "sums": torch.zeros(3),
    "distances": torch.zeros(12),
    "bad": {},
    "seconds": 1.0,
    "wait_s": 0.5,
}


def group(**changes):
    def change(checkpoint: dict) -> None:
        checkpoint["optimizer"]["param_groups"][0] |= changes

    return change


def state(**changes):
    def change(checkpoint: dict) -> None:
        checkpoint["optimizer"]["state"][0] |= changes

    return change


def parts(**changes):
    return lambda checkpoint: checkpoint.update(changes)


def under_way(**changes):
    """An epoch under way whose order is that of the run that goes on."""

    def change(checkpoint: dict) -> None:
        checkpoint["epoch"] = 1
        checkpoint["under_way"] = UNDER_WAY | changes

    return change


WRONG = {
    "rate": (
        group(lr=float("nan")),
        "does not fit a training to go on with: its optimiser: a learning rate of nan",
    ),
    "negative rate": (group(lr=-1.0), "its optimiser: a learning rate of -1"),
    "no parameters": (group(params=[]), "does not fit"),
    "one parameter twice": (group(params=[0] * 34), "does not fit"),
    "a flat moment": (state(exp_avg=torch.zeros(1)), r"exp_avg has the shape \[1\], expected"),
    "no moment": (lambda checkpoint: checkpoint["optimizer"]["state"][0].pop("exp_avg_sq"), "does not fit"),
    "a step": (state(step=float("nan")), "its optimiser: step nan"),
    "no groups": (lambda checkpoint: checkpoint["optimizer"].pop("param_groups"), "does not fit"),
    "a scaler": (parts(scaler={"scale": "x"}), "its optimiser: "),
    "a scaler of nan": (
        parts(scaler={"scale": float("nan"), "growth_interval": 1}),
        "its optimiser: a loss scaling",
    ),
    "processes": (parts(env={"processes": "many\nmore"}), "is damaged or no checkpoint"),
    "a least loss": (parts(least_loss=float("nan")), "is damaged or no checkpoint"),
    "a best value": (parts(best_value=float("-inf")), "is damaged or no checkpoint"),
    "an iteration": (parts(iteration=2**70), "is damaged or no checkpoint"),
    "the log": (parts(log=[{"loss": "x"}]), "is damaged or no checkpoint"),
    "a position": (under_way(position=-4), "its epoch under way: 1 steps to chunk -4 of 12"),
    "no step": (under_way(n_steps=0), "its epoch under way: 0 steps"),
    "distances": (under_way(distances=torch.zeros(1)), r"distances has the shape \[1\], expected \[12\]"),
    "sums": (under_way(sums=torch.full((3,), float("nan"))), "a sum of losses that is not finite"),
    "bad": (under_way(bad=[1]), "its epoch under way: "),
    "seconds": (under_way(seconds="x"), "its epoch under way: "),
}


@pytest.fixture(scope="module")
def newest(runs) -> Path:
    return runs / "straight" / RUN / "model" / "epoch2.pth.tar"


@pytest.mark.parametrize("name", WRONG)
def test_parts_of_a_checkpoint_to_go_on_from_that_are_wrong(newest, chunk_tree, scripts, tmp_path, name):
    change, words = WRONG[name]
    checkpoint = torch.load(newest, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "x.pth.tar")
    flags = [
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--amp",
        "fp16",
        "--epochs",
        "3",
        "--log_dir",
        str(tmp_path),
    ]
    one_line(scripts["train"].main, [*flags, "--resume", str(tmp_path / "x.pth.tar")], match=words)
    assert not list(tmp_path.rglob("epoch*.pth.tar"))


def test_what_a_checkpoint_need_not_say(newest, chunk_tree, scripts, tmp_path, capsys):
    checkpoint = torch.load(newest, weights_only=True)
    checkpoint |= dict.fromkeys(("args", "env", "scaler", "threshold", "best_value", "under_way"))
    checkpoint["log"] = [{}, {"other": 1.0}]  # of an older version
    checkpoint["optimizer"]["param_groups"][0] |= {
        "maximize": True,
        "amsgrad": True,
        "betas": (0.5, 0.5),
        "weight_decay": 9.0,
    }
    torch.save(checkpoint, tmp_path / "x.pth.tar")
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(tmp_path)]
    assert scripts["train"].main([*flags, "--resume", str(tmp_path / "x.pth.tar")]) == 0
    (saved,) = load_checkpoint(tmp_path / RUN / "model" / "epoch3.pth.tar", {})["optimizer"]["param_groups"]
    assert (saved["maximize"], saved["amsgrad"], saved["betas"], saved["weight_decay"]) == (
        False,
        False,
        (0.9, 0.999),
        1e-5,
    )
    assert "resumed from" in capsys.readouterr().out


# small words


def test_an_empty_path_is_a_mistake():
    """Of every flag that takes a path, of every script."""
    n_flags = 0
    for script in ("collect", "pre-process", "write_csv", "train", "test", "localize"):
        module = load_script(script)
        source = (ROOT / ("utils/train_flags.py" if script == "train" else f"{script}.py")).read_text()
        assert "type=Path" not in source
        flags = re.findall(r'"(--\w+|videos)",\s*type=to_path|add_path\(\s*"(--\w+)"', source)
        n_flags += len(flags)
        needed = ["--out_dir", "x"] if script in ("pre-process", "train") else []
        for flag, empty in product(map("".join, flags), ("", " ")):
            given = {"videos": [empty], "--check": [flag, empty, "x"]}.get(flag, [flag, empty])
            with pytest.raises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()) as said:
                module.parse_args([*given, *(needed if flag != "--out_dir" else [])])
            assert caught.value.code == 2, flag
            assert "expected a path; is a variable of the command line not set?" in said.getvalue(), flag
    assert n_flags >= 23


@pytest.mark.parametrize(
    "flags",
    [
        "--num_workers 1025",
        "--img_dim 1025",
        "--final_dim 65537",
        f"--seed {2**32}",
        "--seed -1",
        "--img_dim 31",
        "--final_dim 0",
    ],
)
def test_numbers_beyond_their_bounds(scripts, flags, capsys):
    with pytest.raises(SystemExit):
        scripts["train"].parse_args(["--out_dir", ".", *flags.split()])
    assert "expected an integer at least" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "pre-process --out_dir . --workers 1025",
        f"collect --dataset folder --root . --seed {2**32}",
        "localize x.mp4 --model x --img_dim 1025",
    ],
)
def test_numbers_of_the_other_scripts_beyond_their_bounds(command, capsys):
    script, *flags = command.split()
    with pytest.raises(SystemExit):
        load_script(script).parse_args(flags)
    assert "expected an integer at least" in capsys.readouterr().err


def test_test_names_its_checkpoint(runs, chunk_tree, scripts, tmp_path, capsys):
    best = next((runs / "straight" / RUN / "model").glob("model_best*"))
    checkpoint = torch.load(best, weights_only=True)
    torch.save(checkpoint | {"threshold": 1e6}, tmp_path / "high.pth.tar")
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--scores_dir", str(tmp_path)]
    scripts["train"].main([*flags, "--test", str(tmp_path / "high.pth.tar")])
    printed = capsys.readouterr().out
    assert f"scoring 12 chunks of 6 videos with {tmp_path / 'high.pth.tar'}" in printed
    assert "the stored threshold 1e+06 calls none of the 6 videos fake" in printed
    assert "scores the network may have learnt by heart" in printed
    (tmp_path / "file").touch()
    flags[-1] = str(tmp_path / "file")
    one_line(scripts["train"].main, [*flags, "--test", str(best)], match="can't write in .*/file: ")


def test_a_signal_says_what_is_true(capfd):
    for words in ("stopping as soon as the state is saved", "stopping; no scores are written"):
        with StopSignal(words) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert (
            stop.number == signal.SIGTERM
            and capfd.readouterr().err == f"\n{words}; a second Ctrl-C stops at once\n"
        )


def test_what_a_training_on_a_cpu_will_take(scripts):
    forecast = scripts["train"].forecast
    assert forecast(28, 150, 224) == "28 s a step, 70 minutes in all; --img_dim 64 takes about 8% of that"
    assert forecast(28, 150, 64) == "28 s a step, 70 minutes in all"
    assert forecast(0.51, 100, 224) == "0.51 s a step, 1 minutes in all"
    assert forecast(28, 1500, 112) == "28 s a step, 12 hours in all; --img_dim 64 takes about 33% of that"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's permissions")
def test_folders_that_can_not_be_written(runs, chunk_tree, tmp_path):
    """As another user than root: one line for the run's folder, before any step; for --scores_dir before any
    score.
    """
    if os.geteuid() == 0:
        caps = "-dac_override,-dac_read_search"
        drop = ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}"]
        if subprocess.run([*drop, "true"], check=False, capture_output=True).returncode:
            pytest.skip("can't give up root's rights here")
    else:
        drop = []
    locked = tmp_path / "locked"
    copy_of_run(runs / "straight" / RUN, locked / "log")
    best = next((runs / "straight" / RUN / "model").glob("model_best*"))
    (locked / "log" / RUN / "model").chmod(0o555)
    locked.chmod(0o555)
    common = [
        *drop,
        sys.executable,
        str(ROOT / "tests" / "training" / "tiny_train.py"),
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--epochs",
        "3",
    ]
    commands = [
        ["--log_dir", str(locked / "new")],
        ["--log_dir", str(locked / "log"), "--resume"],
        ["--test", str(best), "--scores_dir", str(locked / "scores")],
    ]
    started = [
        subprocess.Popen([*common, *more], stdout=-1, stderr=subprocess.PIPE, text=True) for more in commands
    ]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 2 and said.count("\n") == 1, said
        assert re.match(f"train.py: can't write in {locked}.*: Permission denied; mend", said), said
    locked.chmod(0o755)


def test_the_threshold_is_of_the_held_out_videos(chunk_tree, scripts, tmp_path, capsys):
    flags = [
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--epochs",
        "1",
        "--log_dir",
        str(tmp_path),
        "--val_fraction",
        "0.3",
    ]
    scripts["train"].main(flags)
    printed = capsys.readouterr().out
    assert "mean MDS of held-out videos: real " in printed and re.search(
        r"s a step, \d+ minutes in all\n", printed
    )
    best = next((tmp_path / RUN / "model").glob("model_best*"))
    checkpoint = load_checkpoint(best, {})
    _, held_out = dataset.hold_out(read_index(chunk_tree, "train"), 0.3)
    network = build_model(checkpoint, best)
    loader = build_loader(
        ChunkDataset(held_out, chunk_tree, 32), scoring_batches(len(held_out), 4), num_workers=0
    )
    with Ranks("cpu") as ranks, StopSignal("") as stop:
        videos = video_scores(score_chunks(network, held_out, loader, ranks, Execution(), stop, "held out"))
    assert set(videos.label) == {0, 1} and len(videos) == 2
    real, fake = (videos.mds[videos.label == label].item() for label in (1, 0))
    assert checkpoint["threshold"] == pytest.approx((real + fake) / 2, rel=1e-4)
    assert stored_threshold(checkpoint)[1] == "midpoint of the mean MDS of real and fake held-out videos"
    assert "calibration" not in checkpoint and "probability of fake: none: fewer than 10 real" in printed
    record = checkpoint["record"]
    trained, _ = dataset.hold_out(read_index(chunk_tree, "train"), 0.3)
    assert record["n_chunks_real"] + record["n_chunks_fake"] == len(trained)
    figures = record["held_out"]
    assert (figures["n_real"], figures["n_fake"], figures["auc"]) == (1, 1, float(fake > real))
    assert figures["mean_mds_real"] == pytest.approx(real, rel=1e-4) and figures["auc_ci95"][0] < 0.5
    assert set(figures["heads"]) == {"video", "audio"}
    assert "It was tested on 1 real and 1 fake video, held out of its training: " in printed


def test_of_epochs_with_the_same_auc_the_lowest_loss_is_best(chunk_tree, scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(scripts["train"], "video_auc", lambda scores: 1.0)
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "4", "--val_fraction", "0.3"]
    scripts["train"].main([*flags, "--log_dir", str(tmp_path)])
    log = [json.loads(line) for line in (tmp_path / RUN / "log.jsonl").read_text().splitlines()]
    lowest = min(log, key=lambda record: record["loss"])
    (best,) = tmp_path.rglob("model_best*")
    assert lowest["epoch"] > 1 and best.name == f"model_best_epoch{lowest['epoch']}.pth.tar"


def test_the_loss_of_a_worse_epoch_does_not_count(chunk_tree, scripts, tmp_path, monkeypatch):
    aucs, losses, figures = iter([0.9, 1, 1]), iter([0.1, 0.5, 0.3]), scripts["train"].epoch_figures
    monkeypatch.setattr(scripts["train"], "video_auc", lambda scores: next(aucs))
    monkeypatch.setattr(scripts["train"], "epoch_figures", lambda *of: figures(*of) | {"loss": next(losses)})
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--val_fraction", "0.3"]
    scripts["train"].main([*flags, "--log_dir", str(tmp_path)])
    (best,) = tmp_path.rglob("model_best*")
    assert best.name == "model_best_epoch3.pth.tar"


def test_without_held_out_videos_the_record_has_no_figures(chunk_tree, scripts, tmp_path, capsys):
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(tmp_path)]
    scripts["train"].main(flags)
    (best,) = tmp_path.rglob("model_best*")
    record = load_checkpoint(best, {})["record"]
    index = read_index(chunk_tree, "train")
    assert record["held_out"] is None and record["n_real"] == index.video[index.label == 1].nunique()
    assert "no videos were held out of its training (train.py --val_fraction)" in capsys.readouterr().out
    scripts["train"].main([*flags, "--export", str(tmp_path / "exported.pth.tar")])
    assert load_checkpoint(tmp_path / "exported.pth.tar", {})["record"] == record
    stored = torch.load(best, weights_only=True)  # as if by an older version
    threshold = stored["threshold"]
    torch.save({key: value for key, value in stored.items() if key != "record"}, best)
    scripts["train"].main([*flags, "--resume"])
    stored = load_checkpoint(best, {})
    assert stored["record"] == record and stored["threshold"] == pytest.approx(threshold, rel=1e-6)
    torch.save(torch.load(best, weights_only=True) | {"record": {"n_real": 1}}, best)
    with pytest.raises(UserError, match="damaged or no checkpoint of this network"):
        load_checkpoint(best, {})


def test_probabilities_go_with_the_checkpoint_into_the_scores(chunk_tree, scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation.calibration, "MIN_VIDEOS", 1)
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--val_fraction", "0.3"]
    flags += ["--log_dir", str(tmp_path), "--scores_dir", str(tmp_path / "scores")]
    scripts["train"].main(flags)
    (best,) = tmp_path.rglob("model_best*")
    stored, words = stored_calibration(load_checkpoint(best, {}))
    assert (stored["n_real"], stored["n_fake"]) == (1, 1)
    assert "fitted on 1 real and 1 fake held-out training videos" in words
    scripts["train"].main([*flags, "--export", str(tmp_path / "exported.pth.tar")])
    assert stored_calibration(load_checkpoint(tmp_path / "exported.pth.tar", {}))[0] == stored
    scripts["train"].main([*flags, "--test"])
    scores = pd.read_csv(tmp_path / "scores" / "scores.csv")
    chances = 1 / (1 + np.exp(-(stored["slope"] * scores.mds + stored["intercept"])))
    assert scores.p_fake_calibrated.to_numpy() == pytest.approx(chances.to_numpy())
    summary = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert (summary["calibration"], summary["calibration_origin"]) == (stored, words)
    assert (summary["distance"], summary["margin"]) == ("authors", 0.99)
    assert read_summary(tmp_path / "scores" / "scores.json")["calibration"] == stored


def test_curves_are_there_after_the_first_epoch(chunk_tree, scripts, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "2", "--log_dir", str(tmp_path)]
    monkeypatch.setattr(scripts["train"], "best_checkpoint", stop)  # what comes after the last epoch
    with pytest.raises(KeyboardInterrupt):
        scripts["train"].main(flags)
    assert (tmp_path / RUN / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_write_csv_says_that_the_folder_is_not_there(scripts, tmp_path):
    one_line(
        scripts["write_csv"].main, ["--out_dir", str(tmp_path / "no")], match="no: there is no such folder"
    )
    one_line(
        scripts["write_csv"].main, ["--out_dir", str(tmp_path)], match="neither train/pytmp nor test/pytmp"
    )


# shared memory


def test_too_little_shared_memory_is_said_at_once(chunk_tree, scripts, tmp_path, monkeypatch):
    room = SimpleNamespace(free=64_000_000)  # the default of containers
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda _: room)
    assert 8 * 30 * 224 * 224 * 3 == 36_126_720  # a batch at the default settings
    with pytest.raises(
        UserError,
        match=r"/dev/shm has room for 64 MB, .* of 4 loader processes take 289 MB.* --num_workers 0.",
    ):
        dataset.check_shared_memory(8, 100, 224, 4)
    dataset.check_shared_memory(8, 1, 224, 4)  # one batch in all
    dataset.check_shared_memory(8, 100, 224, 0)
    dataset.check_shared_memory(8, 100, 64, 8)
    room.free = 10_000
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--num_workers", "2", "--log_dir", str(tmp_path)]
    one_line(scripts["train"].main, flags, match="/dev/shm has room for 0 MB")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs Linux")
def test_shared_memory_that_runs_out_is_one_line_and_no_wait(chunk_tree, tmp_path):
    """As if the room were there at first; the loader processes that are left are not waited for."""
    code = f"""if True:
        import shutil, sys, types
        sys.path.insert(0, {str(ROOT)!r})
        import torch
        import dataset
        from tests.training import tiny_train
        def fail(*_):
            raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left")
        dataset.default_collate = fail
        tiny_train.main(sys.argv[1:])
    """
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--num_workers", "2", "--log_dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert (
        "train.py: a loader process finds no room in /dev/shm; give the container more"
        in done.stderr.splitlines()[-1]
    )


def test_each_epoch_has_an_order_and_an_augmentation_of_its_own(chunk_tree, scripts, tmp_path, monkeypatch):
    orders, epochs = [], []
    draw, build = scripts["train"].epoch_batches, scripts["train"].build_loader
    monkeypatch.setattr(
        scripts["train"], "epoch_batches", lambda *arguments: orders.append(draw(*arguments)) or orders[-1]
    )
    monkeypatch.setattr(
        scripts["train"], "build_loader", lambda data, *more: epochs.append(data.epoch) or build(data, *more)
    )
    flags = [
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--epochs",
        "3",
        "--log_dir",
        str(tmp_path),
        "--seed",
        "4",
        "--augment",
        "hflip",
    ]
    scripts["train"].main(flags)
    assert epochs[:3] == [0, 1, 2] and len({str(order) for order in orders}) == 3
    labels = read_index(chunk_tree, "train").label.to_numpy()
    assert orders == [dataset.epoch_batches(dataset.epoch_order(labels, 4 + epoch), 4) for epoch in range(3)]


def test_which_checkpoints_are_kept(tmp_path):
    for epoch, step, is_best in (
        (0, 2, False),
        (1, 0, True),
        (1, 2, False),
        (2, 0, False),
        (3, 0, True),
        (4, 0, False),
    ):
        keep_checkpoint(tmp_path, {"epoch": epoch}, step, is_best)
        newest = list_checkpoints(tmp_path)[0]
        assert newest.name == (f"epoch{epoch}_step{step}.pth.tar" if step else f"epoch{epoch}.pth.tar")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "epoch3.pth.tar",
        "epoch4.pth.tar",
        "model_best_epoch3.pth.tar",
    ]
    keep_checkpoint(tmp_path, {"epoch": 2}, 0, False)  # gone back to: what comes later is of another future
    assert [p.name for p in tmp_path.iterdir()] == ["epoch2.pth.tar"]


def test_the_best_epoch_has_the_highest_auc_or_the_lowest_loss(chunk_tree, scripts, tmp_path, monkeypatch):
    for name, flags in (("auc", ["--val_fraction", "0.3"]), ("loss", [])):
        values = iter(
            [0.4, 0.9, 0.2] if name == "auc" else [3.0, 1.0, 2.0]
        )  # of the three epochs: the second is the best
        if name == "auc":
            monkeypatch.setattr(scripts["train"], "video_auc", lambda _: next(values))  # noqa: B023
        else:
            figures = scripts["train"].epoch_figures
            changed = lambda *more, values=values, figures=figures: figures(*more) | {"loss": next(values)}  # noqa: E731
            monkeypatch.setattr(scripts["train"], "epoch_figures", changed)
        common = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(tmp_path / name)]
        scripts["train"].main([*common, *flags])
        (best,) = (tmp_path / name).rglob("model_best*")
        assert best.name == "model_best_epoch2.pth.tar"


@pytest.mark.parametrize("arguments", [["--help"], ["--epochs", "none", "--out_dir", "."]])
def test_flags_are_read_before_what_takes_seconds_to_import(arguments):
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert "argparse" in imported and not imported & {"torch", "cv2", "pandas", "sklearn", "matplotlib"}
    assert "Five flags to begin with" in done.stdout or "got 'none', expected an integer" in done.stderr


def test_a_wrong_weight_of_the_loss_costs_nothing(chunk_tree, scripts, tmp_path):
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(tmp_path)]
    scripts["train"].main(flags)
    with pytest.raises(UserError, match="--loss_weights has 2 numbers"):
        scripts["train"].main([*flags, "--overwrite", "--loss_weights", "1", "1"])
    assert (tmp_path / RUN / "model" / "epoch1.pth.tar").is_file()
