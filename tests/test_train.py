"""train.py: what a run writes, resume, scoring, and clear words for bad input. A tiny network, on the CPU."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

import dataset
import model
from augmentation import normalize
from dataset import ChunkDataset, build_loader, read_index, scoring_batches
from engine import Trainer, build_model
from model import TwoStreamNet, dissimilarity
from tests import tiny_train
from utils.checkpoint import load_checkpoint, stored_threshold
from utils.cli import UserError
from utils.distributed import Ranks
from utils.scoring import read_summary

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
    """Two run folders end with the same bits: weights, optimiser, TensorBoard; and with the same epochs in the log."""
    names = [sorted(p.name for p in (run / "model").iterdir() if p.name.startswith("model_best")) for run in (straight, resumed)]
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
        for key in ("epoch", "iteration", "least_loss", "best_value", "avg_score_real", "avg_score_fake", "threshold"):
            assert a.get(key) == b.get(key), key
    timed = {"chunks_per_s", "data_wait_share", "peak_memory_mb"}
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (straight, resumed)]
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
    train([*common, "--log_dir", str(folder / "resumed"), "--epochs", "1", "--resume"])  # nothing there yet: starts
    train([*common, "--log_dir", str(folder / "resumed"), "--epochs", "2", "--resume"])
    return folder


def test_a_resumed_run_equals_a_straight_one(runs):
    assert_same_run(runs / "straight" / RUN, runs / "resumed" / RUN)
    checkpoint = load_checkpoint(runs / "straight" / RUN / "model" / "epoch2.pth.tar", {})
    assert checkpoint.keys() >= {"epoch", "net", "state_dict", "least_loss", "avg_score_real", "avg_score_fake", "optimizer"}
    assert (checkpoint["epoch"], checkpoint["iteration"]) == (2, 6)


def test_a_run_says_what_happened(runs):
    run = runs / "straight" / RUN
    names = sorted(p.name for p in (run / "model").iterdir())
    assert names[:2] == ["epoch1.pth.tar", "epoch2.pth.tar"] and names[2].startswith("model_best_epoch") and len(names) == 3
    events = scalars(run / "img" / "train")
    steps = {tag: [step for step, _ in points] for tag, points in events.items()}
    assert steps.pop("local/loss") == [2, 3, 5, 6]
    assert steps.keys() >= {"global/loss", "global/avg_score_fake", "global/avg_score_real", "global/train_auc"}
    assert all(points == [1, 2] for points in steps.values())  # as in the log
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for record in records:
        assert record["loss"] == pytest.approx(record["contrastive"] + record["video_ce"] + record["audio_ce"])
        assert 0 <= record["train_auc"] <= 1 and 0 <= record["data_wait_share"] <= 1 and record["peak_memory_mb"] > 100
        assert record["mean_mds_real"] > 0 and record["chunks_per_s"] > 0 and record["n_bad_chunks"] == 0
    assert json.loads((run / "args.json").read_text())["augment"] == ["hflip", "noise"]
    assert json.loads((run / "env.json").read_text())["packages"]["torch"] == torch.__version__.split("+")[0]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    best = load_checkpoint(next((run / "model").glob("model_best*")), {})
    assert best["args"]["lr"] == 1e-4 and best["polarity"] == "higher is more fake" and best["env"]["python"]


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
    real, fake = (np.mean([np.mean(d) for v, d in mds.items() if v.startswith(label)]) for label in ("real", "fake"))
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
    network = TwoStreamNet(img_dim=img_dim, final_dim=32)
    path = tmp_path / "epoch7.pth.tar"
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    numbers = {"epoch": 7, "avg_score_real": np.float64(0.25), "avg_score_fake": np.float32(0.75), "net": "resnet18"}
    torch.save({"state_dict": state, **numbers}, path)
    flags = {"net": "resnet18", "img_dim": img_dim, "final_dim": 1024, "dropout": 0.5}
    loaded = load_checkpoint(path, flags)
    assert loaded["config"] == flags | {"final_dim": 32}
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
        scripts["train"].main(["--out_dir", str(chunk_tree), "--img_dim", "64", "--final_dim", "16", "--resume", str(good)])
    with pytest.raises(UserError, match="train first"):
        scripts["train"].main(["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path / "log"), "--test"])


def copy_of_run(run: Path, log_dir: Path) -> Path:
    shutil.copytree(run, log_dir / RUN)
    return log_dir / RUN / "model"


def test_a_damaged_newest_checkpoint(runs, chunk_tree, scripts, tmp_path, capsys):
    model_dir = copy_of_run(runs / "straight" / RUN, tmp_path)
    newest, before = model_dir / "epoch2.pth.tar", model_dir / "epoch1.pth.tar"
    for best in model_dir.glob("model_best*"):
        best.unlink()
    newest.write_bytes(newest.read_bytes()[:20_000])
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--augment", "hflip", "noise", "--epochs", "2", "--log_dir", str(tmp_path)]
    with pytest.raises(UserError, match=f"epoch2.pth.tar is damaged .* The one before it: --resume {before}"):
        scripts["train"].main([*flags, "--resume", str(newest)])
    capsys.readouterr()
    assert scripts["train"].main([*flags, "--print_freq", "2", "--resume", str(tmp_path / RUN)]) == 0
    printed = capsys.readouterr().out
    assert "epoch2.pth.tar is damaged" in printed and (model_dir / "epoch2.pth.tar.damaged").exists()
    assert f"resumed from {before} after 1 epochs" in printed
    resumed = torch.load(newest, weights_only=True)["state_dict"]
    straight = torch.load(runs / "straight" / RUN / "model" / "epoch2.pth.tar", weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in straight.items())


def test_bad_training_sets_and_losses(chunk_tree, scripts, tmp_path):
    common = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(tmp_path / "log")]
    with pytest.raises(UserError, match="has 12 chunks, a step takes 64"):
        scripts["train"].main([*common, "--batch_size", "64"])
    with pytest.raises(UserError, match=r"not finite: the loss in epoch 1, step \d \(contrastive .* the batch held train/pytmp/"):
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
    flags = ["--out_dir", str(tmp_path), *SMALL, "--batch_size", "8", "--epochs", "1", "--log_dir", str(tmp_path / "log")]
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
        UserError, match=r"a loader process died \(DataLoader worker .*go on with --resume and fewer --num_workers"
    ):
        scripts["train"].main(["--out_dir", str(chunk_tree), *SMALL, "--num_workers", "1", "--log_dir", str(tmp_path)])


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
        scripts["train"].main([*flags, "--export", str(tmp_path / "new.pth"), str(tmp_path / "large.pth.tar")])


def test_held_out_videos_pick_the_epoch(chunk_tree, scripts, tmp_path, capsys):
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "3", "--log_dir", str(tmp_path), "--val_fraction", "0.3"]
    scripts["train"].main(flags)
    assert "8 chunks of 4 videos, on cpu; 2 videos held out" in capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / RUN / "log.jsonl").read_text().splitlines()]
    aucs = [record["val_auc"] for record in records]
    assert (tmp_path / RUN / "model" / f"model_best_epoch{1 + int(np.argmax(aucs))}.pth.tar").is_file()
    with pytest.raises(UserError, match=r"was trained with --val_fraction 0.3; give the same flags"):
        scripts["train"].main([*flags[:-2], "--resume"])


def test_resume_notes_what_is_no_longer_the_same(runs, chunk_tree, scripts, tmp_path, capsys):
    copy_of_run(runs / "straight" / RUN, tmp_path)
    index = pd.read_csv(chunk_tree / "train_split.csv", dtype=str)
    (tmp_path / "elsewhere").symlink_to(chunk_tree)
    index["path"] = [f"elsewhere/{path}" for path in index.path]
    index.to_csv(tmp_path / "train_split.csv", index=False)
    flags = ["--out_dir", str(tmp_path), *SMALL, "--log_dir", str(tmp_path), "--epochs", "3", "--seed", "7", "--resume"]
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
    torch.save(checkpoint | {"under_way": under_way, "order_digest": "another"}, model_dir / "epoch1_step1.pth.tar")
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path), "--epochs", "2"]
    scripts["train"].main([*flags, "--resume", str(model_dir / "epoch1_step1.pth.tar")])
    assert "note: other chunks or another order than before, so epoch 2 begins anew" in capsys.readouterr().out
    assert load_checkpoint(model_dir / "epoch2.pth.tar", {})["under_way"] is None


def test_going_back_to_an_older_checkpoint_forgets_a_later_best(runs, chunk_tree, scripts, tmp_path, capsys):
    model_dir = copy_of_run(runs / "straight" / RUN, tmp_path)
    for best in model_dir.glob("model_best*"):
        best.rename(model_dir / "model_best_epoch2.pth.tar")
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--log_dir", str(tmp_path), "--epochs", "2"]
    scripts["train"].main([*flags, "--resume", str(model_dir / "epoch1.pth.tar")])
    best = load_checkpoint(model_dir / "model_best_epoch2.pth.tar", {})  # written anew: without augmentation, another loss
    assert best["args"]["augment"] is None and best["epoch"] == 2


@pytest.mark.parametrize("flags", ["--balance sampler", "--balance loss", "--amp bf16", "--amp fp16", "--accumulate 3"])
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
            trainer = Trainer(network, ranks, lr=1e-3, weight_decay=0, margin=1)
            terms, rows, distances = trainer.step(iter([batch] * 3), n)
        assert len(rows) == len(distances) == 12 * n
        results.append((terms, network.state_dict()))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1]["netfclip.0.weight"], results[1][1]["netfclip.0.weight"])


def test_an_earlier_run_is_not_overwritten_unasked(runs, chunk_tree, scripts):
    arguments = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "1", "--log_dir", str(runs / "straight")]
    with pytest.raises(UserError, match=r"--resume, start anew with --overwrite"):
        scripts["train"].main(arguments)
    other = runs / "resumed" / RUN / "model" / "epoch2.pth.tar"
    with pytest.raises(UserError, match="would take the place of the checkpoints in .* go on from those with --resume alone"):
        scripts["train"].main([*arguments, "--resume", str(other)])
    assert (runs / "straight" / RUN / "model" / "epoch2.pth.tar").is_file()


def test_no_gpu_is_said(scripts, chunk_tree):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="finds no GPU"):
        scripts["train"].main(["--out_dir", str(chunk_tree), "--device", "cuda"])
