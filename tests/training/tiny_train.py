"""train.py with a network a thousand times smaller, in processes that start at once, for tests that kill and
spread it.
"""

import datetime
import os
import signal
import sys
import time
from multiprocessing import get_context, set_start_method
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import model
import train
from utils import checkpoint
from utils import ranks as ranks_module
from utils.cli import run


def tiny_audio_net(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(1, channels, (13, 18), stride=(1, 4))  # gives `model.audio_positions` for every length
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


TINY = {
    "WIDTHS": (4, 4, 8, 8),
    "HIDDEN_DIM": 16,
    "AUDIO_CHANNELS": 8,
    "audio_net": lambda width: tiny_audio_net(model.scaled(8, width)),
}
SMALL = ["--img_dim", "32", "--final_dim", "16", "--device", "cpu", "--lr", "1e-4"]


def main(argv: list[str], log: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run train.py and exit.

    In the environment DIE_AT kills rank 1 before that step, the first time it is started; SEES_LESS hides the
    newest epoch of a folder from rank 1, as a file system may that is not up to date; LATE_S has rank 1 come
    that late to each exchange of scores, and has the collectives of all ranks give up after two seconds.
    """
    os.environ.update(environment or {})
    set_start_method("fork", force=True)  # of loader processes, as everywhere else
    torch.set_num_threads(
        1
    )  # alone and as one of several ranks, however they were started: it decides the last bits
    if log:
        for number in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    for name, value in TINY.items():
        setattr(model, name, value)
    if (
        "DIE_AT" in os.environ
        and os.environ["RANK"] == "1"
        and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    ):
        take_step, steps = train.Epoch.step, []

        def step(epoch):
            steps.append(1)
            if len(steps) == int(os.environ["DIE_AT"]):
                os.kill(os.getpid(), signal.SIGKILL)
            return take_step(epoch)

        train.Epoch.step = step
    if "SEES_LESS" in os.environ and os.environ["RANK"] == "1":
        listed = checkpoint.list_checkpoints

        def list_less(*arguments, **more) -> list[Path]:
            found = listed(*arguments, **more)
            return [path for path in found if checkpoint.epoch_of(path) < checkpoint.epoch_of(found[0])]

        train.list_checkpoints = checkpoint.list_checkpoints = list_less
    if "LATE_S" in os.environ:
        meet, start_group = ranks_module.Ranks.meet, ranks_module.dist.init_process_group
        late_s = float(os.environ["LATE_S"]) * (os.environ["RANK"] == "1")
        ranks_module.Ranks.meet = lambda ranks: (time.sleep(late_s), meet(ranks))
        limit = datetime.timedelta(seconds=2)
        ranks_module.dist.init_process_group = lambda *arguments, **more: start_group(
            *arguments, **more, timeout=limit
        )
    sys.argv[0] = "train.py"
    run(lambda: train.main(argv))


def start(argv: list[str], log: Path, **environment: str) -> BaseProcess:
    """Start `main` in a process forked from one that has imported everything and done nothing."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.training.tiny_train"])
    process = context.Process(target=main, args=(argv, log, environment))
    process.start()
    return process


if __name__ == "__main__":
    main(sys.argv[1:])
