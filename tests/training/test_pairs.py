"""Which chunks meet in a batch and what the loss makes of them; norms by clip, detached heads, narrow
networks, presets.
"""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from dataset import ChunkDataset, epoch_batches, epoch_order, read_index, units_of, with_foreign_sound
from engine import Objective, Targets
from model import TwoStreamNet, cross_contrastive_loss
from tests.training.test_resume import on_ranks
from tests.training.test_train import RUN, SMALL, assert_same_run
from utils.checkpoint import load_checkpoint
from utils.cli import UserError
from utils.train_flags import PRESETS, parse_args

SYNC = ["--preset", "sync", "--lr", "1e-4", "--batch_size", "4"]


def made_up_index(n_videos: int, n_seconds: int) -> pd.DataFrame:
    """Real videos and a fake of each."""
    rows = [
        (
            f"{label}/{i}",
            code,
            0,
            f"{s:05d}",
            f"{label}/{i}/{s:05d}",
            float(s),
            f"real/{i}" if label == "fake" else "",
        )
        for label, code in (("real", 1), ("fake", 0))
        for i in range(n_videos)
        for s in range(n_seconds)
    ]
    return pd.DataFrame(rows, columns=["video", "label", "track", "chunk", "path", "start_s", "original"])


@pytest.mark.parametrize("n_seconds", [1, 3, 4, 10])
def test_seconds_of_a_track_meet_crosswise(n_seconds):
    index = made_up_index(20, n_seconds)
    units = units_of(index, "cross")
    orders = [epoch_order(index.label.to_numpy(), seed, units=units) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    assert sorted(orders[0].tolist()) == list(range(len(index)))
    own = units[orders[0].numpy()]
    lengths = np.diff([0, *(np.flatnonzero(np.diff(own)) + 1), len(own)])
    assert lengths.min() >= min(4, n_seconds)
    batches = epoch_batches(orders[0], 8)
    assert batches == epoch_batches(orders[0], 8, position=0) and batches[1:] == epoch_batches(
        orders[0], 8, position=8
    )


def test_a_second_meets_that_of_its_fakes_as_twins():
    index = made_up_index(10, 3)
    order = epoch_order(index.label.to_numpy(), 0, units=units_of(index, "twins")).numpy()
    pairs = index.iloc[order].reset_index(drop=True)
    first, second = pairs[::2].reset_index(drop=True), pairs[1::2].reset_index(drop=True)
    assert (first.start_s == second.start_s).all() and (first.label + second.label == 1).all()
    assert (first.video.str[5:] == second.video.str[5:]).all()
    assert units_of(index, "dataset") is None


def test_foreign_sounds_are_other_seconds_of_the_same_track():
    index = pd.concat(
        [made_up_index(3, 5), made_up_index(1, 1).replace("real/0", "real/alone")], ignore_index=True
    )
    chunks = with_foreign_sound(index)
    real, fake = chunks[chunks.label == 1], chunks[chunks.label == 0]
    assert len(real) == 16 and (real.sound == real.path).all()
    # the one of a second has none
    assert len(fake) == 15 and set(fake.video) == {"fake/0", "fake/1", "fake/2"}
    assert (fake.sound != fake.path).all() and (fake.sound.str[:7] == fake.path.str[:7]).all()
    assert fake.groupby("video").sound.nunique().eq(5).all()


def test_a_foreign_sound_is_heard(chunk_tree):
    index = with_foreign_sound(read_index(chunk_tree, "train"))
    chunks = ChunkDataset(index, chunk_tree, 32)
    fake = chunks[int(np.flatnonzero(index.label == 0)[0])]
    picture, sound = (
        chunks[int(np.flatnonzero((index.label == 1) & (index.path == path))[0])]
        for path in (index.path[fake["row"]], index.sound[fake["row"]])
    )
    assert torch.equal(fake["video"], picture["video"]) and torch.equal(fake["audio"], sound["audio"])
    assert not torch.equal(fake["audio"], picture["audio"])


def test_the_crosswise_loss_by_hand():
    rng = torch.Generator().manual_seed(0)
    video, audio = (torch.randn(6, 3, generator=rng) for _ in range(2))
    label, track = torch.tensor([1, 1, 1, 0, 0, 1]), torch.tensor([0, 0, 1, 2, 2, 3])
    agree, disagree = [], []
    for i in range(6):
        for j in range(6):
            d = torch.linalg.vector_norm(video[i] - audio[j]).item()
            if i == j and label[i] == 1:
                agree.append(d**2)
            elif track[i] == track[j]:
                disagree.append(max(0.0, 2.5 - d) ** 2)
    assert (len(agree), len(disagree)) == (4, 2 + 4)  # of track 0 two, of the fake track all four
    expected = (np.mean(agree) + np.mean(disagree)) / 2
    loss = cross_contrastive_loss(video, audio, label, track, 2.5)
    assert loss.shape == (6,) and loss.mean().item() == pytest.approx(expected, rel=1e-5)
    # no other sound: half is missing
    alone = cross_contrastive_loss(video[:1], audio[:1], label[:1], track[:1], 2.5)
    assert alone.item() == pytest.approx(
        torch.linalg.vector_norm(video[0] - audio[0]).item() ** 2 / 2, rel=1e-5
    )


def test_the_loss_is_the_weighted_sum_of_its_terms():
    objective = Objective(1.0, weights=torch.tensor([1.0, 0.5, 0.0]))
    assert objective.total(torch.tensor([2.0, 4.0, 100.0])).item() == 4
    assert Objective(1.0).total(torch.tensor([2.0, 4.0, 1.0])).item() == 7
    batch = {"label": torch.tensor([1, 0]), "track": torch.tensor([3, 3])}
    assert objective.targets(batch, torch.device("cpu")).track is None
    assert Objective(1.0, pairs="cross").targets(batch, torch.device("cpu")) == Targets(
        batch["label"], batch["track"]
    )


def test_norms_by_clip_are_the_same_in_training_and_evaluation():
    torch.manual_seed(0)
    model = TwoStreamNet(img_dim=32, norm="clip")
    video = torch.randn(3, 3, 30, 32, 32) * torch.tensor([1.0, 3.0, 0.2]).view(3, 1, 1, 1, 1)
    with torch.no_grad():
        trained, alone = model.train().netcnnlip(video), model.netcnnlip(video[:1])
        evaluated = model.eval().netcnnlip(video)
    torch.testing.assert_close(trained, evaluated)
    torch.testing.assert_close(trained[:1], alone, atol=1e-3, rtol=1e-3)  # whatever is beside it in the batch
    with torch.no_grad():
        by_batch = TwoStreamNet(img_dim=32).train().netcnnlip(video)
    assert not torch.allclose(by_batch[:1], alone, atol=1e-2)


@pytest.mark.parametrize("detach_heads", [False, True])
def test_detached_heads_learn_without_shaping_the_embeddings(detach_heads, tiny):
    model = TwoStreamNet(img_dim=32, final_dim=16, dropout=0.0, detach_heads=detach_heads).train()
    out = model(torch.randn(4, 3, 30, 32, 32), torch.randn(4, 1, 13, 99))
    (out["video_logits"].square().sum() + out["audio_logits"].square().sum()).backward()
    assert (
        model.final_fc_lip[1].weight.grad.abs().sum() > 0
        and model.final_fc_aud[1].weight.grad.abs().sum() > 0
    )
    shaped = [model.netfclip[0].weight.grad, model.netfcaud[0].weight.grad]
    assert [gradient is None for gradient in shaped] == [detach_heads] * 2


def test_a_quarter_of_the_width():
    narrow = TwoStreamNet(img_dim=32, width=0.25, final_dim=256)
    assert sum(p.numel() for p in narrow.parameters()) == pytest.approx(4.54e6, rel=0.01)
    assert narrow.netcnnlip.layer4[0].conv1.out_channels == 64 and narrow.netfcaud[0].out_features == 1024
    whole = {name: list(x.shape) for name, x in TwoStreamNet(img_dim=32).state_dict().items()}
    assert whole.keys() == narrow.state_dict().keys()


def test_a_preset_is_the_default_of_other_flags(capsys):
    args = parse_args(["--out_dir", ".", "--preset", "sync", "--lr", "0.5", "--norm", "batch"])
    expected = PRESETS["sync"] | {"lr": 0.5, "norm": "batch"}
    assert {name: vars(args)[name] for name in expected} == expected
    plain = parse_args(["--out_dir", "."])
    assert (plain.norm, plain.pairs, plain.distance, plain.heads, plain.lr) == (
        "batch",
        "dataset",
        "authors",
        "joint",
        1e-3,
    )
    narrow = parse_args(["--out_dir", ".", "--preset", "sync", "--width", "0.25"])
    assert narrow.lr == pytest.approx(1e-3)  # 2.5e-4 at full width
    assert (plain.final_dim, parse_args(["--out_dir", ".", "--width", "0.25"]).final_dim) == (1024, 256)
    with pytest.raises(SystemExit):
        parse_args(["--out_dir", ".", "--pairs", "cross", "--balance", "sampler"])
    assert "--balance sampler draws chunks one by one" in capsys.readouterr().err


@pytest.fixture
def real_tree(chunk_tree, tmp_path):
    """`chunk_tree` with real videos alone to train on."""
    index = pd.read_csv(chunk_tree / "train_split.csv", dtype={"chunk": str})
    index[index.label == 1].to_csv(tmp_path / "train_split.csv", index=False)
    shutil.copy(chunk_tree / "test_split.csv", tmp_path)
    for split in ("train", "test"):
        (tmp_path / split).symlink_to(chunk_tree / split)
    return tmp_path


@pytest.fixture(autouse=True)
def tiny_in_scripts(request):
    """The scripts of these tests train a tiny network."""
    if "scripts" in request.fixturenames:
        request.getfixturevalue("tiny")


@pytest.mark.parametrize("flags", [[], ["--val_fraction", "0.4"]])
def test_real_videos_alone_are_enough(real_tree, scripts, capsys, flags):
    common = [
        "--out_dir",
        str(real_tree),
        *SMALL,
        *SYNC,
        "--batch_size",
        "2",
        "--log_dir",
        str(real_tree / "log"),
    ]
    assert scripts["train"].main([*common, *flags, "--epochs", "2"]) == 0
    said = capsys.readouterr().out
    assert "preset sync: --norm clip --pairs cross" in said
    whose = "held-out" if flags else "training"
    assert f"mean MDS of {whose} videos with foreign sounds: real " in said
    (best,) = (real_tree / "log").rglob("model_best*")
    checkpoint = load_checkpoint(best, {})
    middle = (checkpoint["mean_mds_real"] + checkpoint["mean_mds_fake"]) / 2
    assert checkpoint["threshold"] == pytest.approx(middle) and checkpoint["args"]["preset"] == "sync"
    assert ("val_auc" in checkpoint["log"][0]) == bool(flags)
    record = checkpoint["record"]
    assert record["n_fake"] == 0 < record["n_real"]
    assert record["held_out"]["is_foreign"] if flags else record["held_out"] is None
    scripts["train"].main(
        ["--out_dir", str(real_tree), "--test", str(best), "--scores_dir", str(real_tree), "--device", "cpu"]
    )
    origin = json.loads((real_tree / "scores.json").read_text())["threshold_origin"]
    assert origin.startswith(f"midpoint of the mean MDS of real and fake {whose} videos with foreign sounds")


def test_without_crosswise_pairs_real_videos_alone_are_not(real_tree, scripts):
    with pytest.raises(UserError, match="only real chunks; it needs real and fake ones, or --pairs cross"):
        scripts["train"].main(["--out_dir", str(real_tree), *SMALL, "--log_dir", str(real_tree / "log")])
    flags = ["--out_dir", str(real_tree), *SMALL, *SYNC, "--loss_weights", "1", "1"]
    with pytest.raises(
        UserError, match="--loss_weights has 2 numbers, expected 3, of contrastive, video_ce, audio_ce"
    ):
        scripts["train"].main([*flags, "--batch_size", "2", "--log_dir", str(real_tree / "log")])


@pytest.mark.parametrize(
    "more", [[], ["--pairs", "twins", "--width", "0.5", "--loss_weights", "1", "0.1", "0.1"]]
)
def test_a_resumed_run_of_the_preset_equals_a_straight_one(chunk_tree, scripts, tmp_path, more):
    common = ["--out_dir", str(chunk_tree), *SMALL, *SYNC, *more, "--val_fraction", "0.3"]
    for folder, epochs in (("straight", ["3"]), ("resumed", ["1", "3"])):
        for n in epochs:
            flags = [*common, "--log_dir", str(tmp_path / folder), "--epochs", n, "--resume"]
            assert scripts["train"].main(flags) == 0
    assert_same_run(tmp_path / "straight" / RUN, tmp_path / "resumed" / RUN)
    if more:
        other = [
            *common,
            "--width",
            "0.25",
            "--log_dir",
            str(tmp_path / "resumed"),
            "--epochs",
            "4",
            "--resume",
        ]
        with pytest.raises(UserError, match="was trained with .*--width 0.5"):
            scripts["train"].main(other)
        (best,) = (tmp_path / "resumed").rglob("model_best*")
        exported = tmp_path / "m.pth"
        scripts["train"].main(["--export", str(exported), str(best)])
        for path in (best, exported):
            folder = tmp_path / f"of_{path.name}"
            scripts["train"].main(
                [
                    "--out_dir",
                    str(chunk_tree),
                    "--test",
                    str(path),
                    "--scores_dir",
                    str(folder),
                    "--device",
                    "cpu",
                ]
            )
        tables = [pd.read_csv(tmp_path / f"of_{path.name}" / "scores.csv") for path in (best, exported)]
        np.testing.assert_allclose(tables[0].mds, tables[1].mds, rtol=1e-2)


def test_the_preset_on_two_processes(chunk_tree, tmp_path):
    flags = [
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        *SYNC,
        "--batch_size",
        "2",
        "--epochs",
        "1",
        "--print_freq",
        "1",
    ]
    on_ranks(2, [*flags, "--num_workers", "0", "--log_dir", str(tmp_path)], tmp_path)
    log = (tmp_path / "log").read_text()
    losses = [float(value) for value in re.findall(r"contrastive ([\d.]+) .* chunks/s", log)]
    assert len(losses) == 3 and np.isfinite(losses).all() and "threshold" in log
    again = tmp_path / "again"
    again.mkdir()
    shutil.copytree(next(tmp_path.glob("deepfake*")), again / next(tmp_path.glob("deepfake*")).name)
    on_ranks(
        2, [*flags[:-4], "--epochs", "2", "--num_workers", "0", "--log_dir", str(again), "--resume"], again
    )
    assert "resumed from" in (again / "log").read_text()
