"""Training that is killed at any moment, and training by several processes: the result is that of one
undisturbed process.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import ROOT
from tests.training.test_train import assert_same_run, scalars
from tests.training.tiny_train import SMALL, start

RUN = "deepfake_audio-32_r18_bs2_lr0.0001"
FLAGS = [*SMALL, "--batch_size", "2", "--epochs", "3", "--print_freq", "1", "--augment", "hflip", "noise"]


def finish(process, limit_s: float = 120) -> int:
    process.join(limit_s)
    assert process.exitcode is not None, "still running"
    return process.exitcode


@pytest.fixture(scope="module")
def straight(tmp_path_factory, chunk_tree) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    process = start(
        ["--out_dir", str(chunk_tree), *FLAGS, "--num_workers", "0", "--log_dir", str(folder)], folder / "log"
    )
    assert finish(process) == 0, (folder / "log").read_text()
    return folder / RUN


HELD_OUT = ["--val_fraction", "0.3"]


@pytest.fixture(scope="module")
def straight_held_out(tmp_path_factory, chunk_tree) -> Path:
    folder = tmp_path_factory.mktemp("held_out")
    command = [
        "--out_dir",
        str(chunk_tree),
        *FLAGS,
        *HELD_OUT,
        "--num_workers",
        "0",
        "--log_dir",
        str(folder),
    ]
    assert finish(start(command, folder / "log")) == 0, (folder / "log").read_text()
    return folder / RUN


@pytest.mark.parametrize("how", ["at random moments", "while a checkpoint is written", "by SIGTERM"])
def test_a_run_killed_and_resumed_ends_where_the_straight_one_ends(straight, chunk_tree, tmp_path, how):
    rng = np.random.default_rng(len(how))
    workers = "1" if how == "by SIGTERM" else "0"
    command = ["--out_dir", str(chunk_tree), *FLAGS, "--num_workers", workers, "--log_dir", str(tmp_path)]
    command += ["--save_every_min", "0.0001", "--resume"]
    log, model_dir = tmp_path / "log", tmp_path / RUN / "model"
    for _ in range(4):
        log.write_text("")
        process = start(command, log)
        n_steps = rng.integers(1, 6)
        while process.is_alive() and log.read_text().count(" step ") < n_steps:
            time.sleep(0.01)
        if how == "while a checkpoint is written":
            while process.is_alive() and not list(model_dir.glob(".*.tmp")):
                time.sleep(0.0005)
        else:
            process.join(rng.uniform(0, 0.2))
        if not process.is_alive():
            break
        os.kill(process.pid, signal.SIGTERM if how == "by SIGTERM" else signal.SIGKILL)
        status = finish(process)
        if how == "by SIGTERM" and status:
            assert status == 128 + signal.SIGTERM
            assert "--resume, without a path, goes on from" in log.read_text()
    assert finish(start(command, log)) == 0, log.read_text()
    assert "resumed from" in log.read_text()
    assert_same_run(straight, tmp_path / RUN)


@pytest.mark.parametrize("when", ["epoch 2 done", "held-out videos", "threshold from"])
def test_a_run_killed_while_it_scores_or_between_epochs_twice_in_a_row(
    straight_held_out, chunk_tree, tmp_path, when
):
    """Loader processes and all, with two kills one after the other at about the same place."""
    rng = np.random.default_rng(len(when))
    command = [
        "--out_dir",
        str(chunk_tree),
        *FLAGS,
        *HELD_OUT,
        "--num_workers",
        "1",
        "--log_dir",
        str(tmp_path),
    ]
    command += ["--save_every_min", "0.0001", "--resume"]
    log = tmp_path / "log"
    n_killed = 0
    for _ in range(2):
        log.write_text("")
        process = start(command, log)
        while process.is_alive() and when not in log.read_text():
            time.sleep(0.005)
        process.join(rng.uniform(0, 0.1))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            n_killed += 1
        finish(process)
    assert n_killed
    assert finish(start(command, log)) == 0, log.read_text()
    assert "resumed from" in log.read_text()
    assert_same_run(straight_held_out, tmp_path / RUN)
    assert not list(tmp_path.rglob(".*.tmp")) and not list(tmp_path.rglob("*.damaged"))


def start_ranks(n_ranks: int, command: list[str], folder: Path, **environment: str) -> list[BaseProcess]:
    """Start train.py on several ranks, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(n_ranks),
        "LOCAL_WORLD_SIZE": str(n_ranks),
    }
    group |= environment
    return [
        start(command, folder / "log", RANK=str(rank), LOCAL_RANK=str(rank), **group)
        for rank in range(n_ranks)
    ]


def on_ranks(n_ranks: int, command: list[str], folder: Path, **environment: str) -> None:
    ranks = start_ranks(n_ranks, command, folder, **environment)
    assert [finish(rank) for rank in ranks] == [0] * n_ranks, (folder / "log").read_text()


def test_all_ranks_go_on_from_the_checkpoint_that_rank_0_chooses(chunk_tree, tmp_path):
    flags = [
        "--out_dir",
        str(chunk_tree),
        *SMALL,
        "--batch_size",
        "2",
        "--num_workers",
        "0",
        "--print_freq",
        "1",
    ]
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    for folder in (straight, resumed):
        folder.mkdir()
    on_ranks(2, [*flags, "--log_dir", str(straight), "--epochs", "2"], straight)
    shutil.copytree(straight / RUN, resumed / RUN)
    on_ranks(2, [*flags, "--log_dir", str(straight), "--epochs", "3", "--resume"], straight)
    on_ranks(2, [*flags, "--log_dir", str(resumed), "--epochs", "3", "--resume"], resumed, SEES_LESS="1")
    assert_same_run(straight / RUN, resumed / RUN)
    for name in ("epoch3.pth.tar", "epoch2.pth.tar"):  # one rank sets them aside, none trips over that
        os.truncate(resumed / RUN / "model" / name, 1000)
    for best in (resumed / RUN / "model").glob("model_best*"):
        best.unlink()
    ranks = start_ranks(2, [*flags, "--log_dir", str(resumed), "--epochs", "3", "--resume"], resumed)
    assert [finish(rank) for rank in ranks] == [2, 2]
    assert (resumed / "log").read_text().count("train.py: no checkpoint in") == 2


def test_scores_are_not_lost_for_a_rank_that_is_late(straight, chunk_tree, tmp_path):
    """By more than the time after which a collective gives up."""
    checkpoint = str(next((straight / "model").glob("model_best*")))
    score = [
        "--out_dir",
        str(chunk_tree),
        "--device",
        "cpu",
        "--num_workers",
        "0",
        "--batch_size",
        "5",
        "--test",
        checkpoint,
    ]
    on_ranks(2, [*score, "--scores_dir", str(tmp_path)], tmp_path, LATE_S="5")
    assert len(pd.read_csv(tmp_path / "chunk_scores.csv")) == 12


def test_two_processes_equal_one_with_twice_the_batch(chunk_tree, tmp_path):
    """Losses of every step, scores that pick the epoch, the threshold, test scores of unequal shares."""
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--epochs", "2", "--print_freq", "1", "--dropout", "0"]
    flags += ["--val_fraction", "0.3"]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = ["--log_dir", str(tmp_path / "one"), "--num_workers", "0"]
    two = ["--log_dir", str(tmp_path / "two"), "--num_workers", "0"]
    assert finish(start([*flags, *one, "--batch_size", "4"], tmp_path / "one" / "log")) == 0
    on_ranks(2, [*flags, *two, "--batch_size", "2", "--sync_bn"], tmp_path / "two")
    runs = [tmp_path / "one" / "deepfake_audio-32_r18_bs4_lr0.0001", tmp_path / "two" / RUN]
    alone, together = (scalars(run / "img" / "train") for run in runs)
    assert [step for step, _ in together["local/loss"]] == [1, 2, 3, 4]
    for tag in ("local/loss", "global/loss", "global/contrastive", "global/avg_score_real", "global/val_auc"):
        np.testing.assert_allclose(together[tag], alone[tag], rtol=1e-3, err_msg=tag)
    a, b = (torch.load(max((run / "model").glob("model_best*")), weights_only=True) for run in runs)
    assert b["threshold"] == pytest.approx(a["threshold"], rel=1e-3)

    checkpoint = str(max((runs[0] / "model").glob("model_best*")))
    score = [
        "--out_dir",
        str(chunk_tree),
        "--device",
        "cpu",
        "--num_workers",
        "0",
        "--batch_size",
        "5",
        "--test",
        checkpoint,
    ]
    assert finish(start([*score, "--scores_dir", str(tmp_path / "one")], tmp_path / "one" / "log")) == 0
    on_ranks(
        2, [*score, "--scores_dir", str(tmp_path / "two")], tmp_path / "two"
    )  # batches of 5, 5 and 2 chunks
    for name in ("scores.csv", "chunk_scores.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert len(pd.read_csv(tmp_path / "two" / "chunk_scores.csv")) == 12


def test_two_processes_that_one_is_asked_to_stop(chunk_tree, tmp_path):
    """One of them gets SIGTERM: both end at the same step, the state is saved, and the resumed run ends as
    the straight one.
    """
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--batch_size", "2", "--epochs", "3", "--num_workers", "0"]
    flags += ["--print_freq", "1"]
    folders = [tmp_path / "straight", tmp_path / "stopped"]
    for folder in folders:
        folder.mkdir()
    on_ranks(2, [*flags, "--log_dir", str(folders[0])], folders[0])
    command = [*flags, "--log_dir", str(folders[1]), "--resume"]
    log = folders[1] / "log"
    ranks = start_ranks(2, command, folders[1])
    while not log.exists() or log.read_text().count(" step ") < 2:
        time.sleep(0.01)
    os.kill(ranks[1].pid, signal.SIGTERM)
    assert [finish(rank) for rank in ranks] == [128 + signal.SIGTERM] * 2
    assert "--resume, without a path, goes on from" in log.read_text()
    on_ranks(2, command, folders[1])
    assert "resumed from" in log.read_text()
    assert_same_run(folders[0] / RUN, folders[1] / RUN)


@pytest.mark.slow
def test_torchrun_starts_a_run_again_whose_rank_died(chunk_tree, tmp_path):
    flags = ["--out_dir", str(chunk_tree), *SMALL, "--batch_size", "2", "--epochs", "3", "--num_workers", "0"]
    (tmp_path / "straight").mkdir()
    on_ranks(2, [*flags, "--log_dir", str(tmp_path / "straight")], tmp_path / "straight")
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--max-restarts=1",
        "--standalone",
    ]
    command = [
        *launcher,
        str(ROOT / "tests" / "training" / "tiny_train.py"),
        *flags,
        "--log_dir",
        str(tmp_path),
    ]
    command += ["--save_every_min", "0.0001", "--resume"]
    done = subprocess.run(
        command, env=os.environ | {"DIE_AT": "5"}, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stdout
    assert_same_run(tmp_path / "straight" / RUN, tmp_path / RUN)
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / RUN / "log.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]
