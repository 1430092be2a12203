"""Run folders: their names, which of them there are, and where a training begins or goes on."""

import contextlib
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from utils.checkpoint import (
    Checkpoint,
    best_checkpoint,
    epoch_of,
    list_checkpoints,
    load_resumable,
    refuse_other_chunks,
)
from utils.cli import UserError
from utils.files import make_folder
from utils.jsonfiles import load_json, plain
from utils.train_flags import MODE_FLAGS, NEWEST, parse_args

RUN_NAME = re.compile(
    r"deepfake_audio-(?P<img_dim>\d+)_r(?P<depth>\w+)_bs(?P<batch_size>\d+)_lr(?P<lr>[\d.e+-]+)"
)
MAX_ARGS_BYTES = 100_000
MAX_LISTED = 5  # runs in a message
LOCK_S = 5.0  # to wait for a run folder whose training is just ending


@dataclass(frozen=True)
class Wish:
    """How a training is to begin, by its flags."""

    folder: Path  # of the run, by the settings that name it
    resume: Path | None  # a checkpoint or a run folder to go on from; `NEWEST`: this run's; None: begin anew
    overwrite: bool  # what is in the folder
    reset_lr: bool  # so that a run of another rate may be meant
    out_dir: Path  # to be named in messages, and
    epochs: int
    lr: float


@dataclass
class Start:
    """Where a training begins."""

    folder: Path  # of the run, locked
    path: Path | None = None  # the checkpoint that it goes on from
    has_best: bool = False  # whether the run has a best checkpoint of that time or before


def run_name(img_dim: int, net: str, batch_size: int, lr: float) -> str:
    """The name of a run's folder, as the authors have it; a training that goes on at another rate keeps its
    own.
    """
    return f"deepfake_audio-{img_dim}_r{net.removeprefix('resnet')}_bs{batch_size}_lr{lr:g}"


def named_settings(run: Path) -> dict[str, str]:
    """The settings in the name of a run's folder: img_dim, depth, batch_size, lr."""
    match = RUN_NAME.fullmatch(run.name)
    return match.groupdict() if match else {}


def list_runs(log_dir: Path) -> list[Path]:
    """The run folders that hold checkpoints, sorted."""
    runs = sorted(log_dir.glob("deepfake_audio-*"))
    return [run for run in runs if named_settings(run) and list_checkpoints(run / "model")]


def command_flags(run: Path, defaults: dict, leave_out: Sequence[str]) -> str:
    """The flags that name a run: those in its name and those in its args.json, if it can be read, that are
    not the defaults.
    """
    values: dict = {}
    with contextlib.suppress(OSError, ValueError):
        stored = load_json(run / "args.json", MAX_ARGS_BYTES)
        values = dict(stored) if isinstance(stored, dict) else {}
    named = named_settings(run)
    values |= {name: named[name] for name in ("img_dim", "batch_size", "lr")}
    net = f"resnet{named['depth']}" if named["depth"].isdigit() else named["depth"]
    values |= {"net": net, "log_dir": run.parent}
    words: list[str] = []
    for name, default in defaults.items():
        value = plain(values.get(name))
        is_default = str(value) == (f"{default:g}" if name == "lr" else str(default))
        if name in leave_out or value is None or value is False or is_default:
            continue
        words.append("--start-epoch" if name == "start_epoch" else f"--{name}")
        given = [] if value is True else value if isinstance(value, list) else [value]
        words += [shlex.quote(str(word)) for word in given]
    return " ".join(words)


def resume_command(run: Path, out_dir: Path, epochs: int) -> str:
    """The command line that goes on with a run, to `epochs` in all."""
    defaults = vars(parse_args(["--out_dir", str(out_dir)]))
    flags = command_flags(run, defaults, (*MODE_FLAGS, "asked", "epochs"))
    return f"python train.py --resume --epochs {epochs} --out_dir {shlex.quote(str(out_dir))} {flags}".strip()


def in_one_line(commands: Sequence[str]) -> str:
    """Some command lines for a message; no more than `MAX_LISTED`."""
    more = f" (and {len(commands) - MAX_LISTED} more)" if len(commands) > MAX_LISTED else ""
    return "; ".join(commands[:MAX_LISTED]) + more


def lock_run(run: Path) -> FileLock:
    """Take a run folder, existing or not, for this training alone; released by `release` or with the process,
    however it ends.

    Raises:
        UserError: another training has it, or its parent folder can't be written.
    """
    lock = FileLock(run.with_name(f".{run.name}.lock"))  # beside it: --overwrite deletes the folder
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_S)
    except Timeout as error:
        raise UserError(
            f"{run} is in the hands of another training, and two would mix their checkpoints; "
            "wait for its end, or name another --log_dir."
        ) from error
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"can't write in {run.parent}: {why}; mend it or name another --log_dir.") from error
    return lock


def find_best(run: Path, flag: str) -> Path:
    """The best checkpoint of a run; UserError, with those of the other runs, if it has none."""
    try:
        return best_checkpoint(run / "model")
    except UserError as error:
        found = [list_checkpoints(other / "model", best=True)[:1] for other in list_runs(run.parent)]
        commands = [f"{flag} {shlex.quote(str(path))}" for paths in found for path in paths]
        if not commands:
            raise
        raise UserError(f"{str(error).removesuffix('.')}: {in_one_line(commands)}.") from error


def find_run(wish: Wish) -> Path:
    """The folder of the run to go on with: the one of the flags, or with --reset_lr one that had another
    rate.

    Raises:
        UserError: no run has these flags, but others are there, and no path says which one is meant.
    """
    if not wish.resume or list_checkpoints(wish.folder / "model"):
        return wish.folder
    runs = list_runs(wish.folder.parent)
    if wish.reset_lr:
        own = named_settings(wish.folder) | {"lr": ""}
        alike = [run for run in runs if named_settings(run) | {"lr": ""} == own]
        if wish.resume != NEWEST:  # the run that the path lies in
            whole = wish.resume.resolve()
            alike = [run for run in alike if run.resolve() in (whole, *whole.parents)]
        if len(alike) == 1:
            return alike[0]
        runs = alike or runs
    if runs and wish.resume == NEWEST:
        new_rate = f" --reset_lr --lr {wish.lr:g}" if wish.reset_lr else ""
        commands = [resume_command(run, wish.out_dir, wish.epochs) + new_rate for run in runs]
        raise UserError(
            f"--resume: {wish.folder} holds no checkpoint; to go on with one of the runs that are there: "
            f"{in_one_line(commands)}; to start this one leave --resume out or name another --log_dir."
        )
    return wish.folder


def find_start(
    resume: Path | None, model_dir: Path, network: dict, val_fraction: float
) -> tuple[Path, Checkpoint] | None:
    """The checkpoint that --resume asks for, checked against the flags; None if there is none to go on from.

    Raises:
        UserError: it can't be read, is of another network, or would mix two runs in one folder.
    """
    if resume is None or (resume == NEWEST and not list_checkpoints(model_dir)):
        return None
    path, checkpoint = load_resumable(model_dir if resume == NEWEST else resume, network)
    if path.resolve().parent != model_dir.resolve() and list_checkpoints(model_dir):
        raise UserError(
            f"{path} would take the place of the checkpoints in {model_dir}; go on from those with "
            "--resume alone, or name another --log_dir."
        )
    refuse_other_chunks(path, checkpoint, network["chunk_s"], "the training split")
    flags = {name: value for name, value in checkpoint["config"].items() if name != "dropout"}
    if "optimizer" in checkpoint:  # else it holds initial weights, and the choice is free
        flags["val_fraction"] = checkpoint.get("args", {}).get("val_fraction", val_fraction)
    given = network | {"val_fraction": val_fraction}
    differ = [f"--{name} {value}" for name, value in flags.items() if value != given[name]]
    if differ:
        raise UserError(f"{path} was trained with {' '.join(' '.join(differ).split())}; give the same flags.")
    return path, checkpoint


def choose_start(
    wish: Wish, network: dict, val_fraction: float, is_restarted: bool, held: contextlib.ExitStack
) -> tuple[Start, Checkpoint | None]:
    """Where a training begins, its folder made and locked; and the checkpoint that it goes on from.

    Args:
        network: arguments of `TwoStreamNet`, by the flags.
        is_restarted: torchrun has started the ranks again, so that the run goes on if it was to be resumed.
        held: gets the lock.

    Raises:
        UserError: `find_run`, `find_start` and `lock_run` say which; or the folder holds checkpoints and no
            flag says what is to become of them.
    """
    folder = find_run(wish)
    model_dir = folder / "model"
    held.callback(lock_run(folder).release)
    again = wish.resume and is_restarted and list_checkpoints(model_dir)
    found = find_start(NEWEST if again else wish.resume, model_dir, network, val_fraction)
    if found:
        make_folder(model_dir)
        path, checkpoint = found
        best = list_checkpoints(model_dir, best=True)
        has_best = any(epoch_of(other) <= checkpoint.get("epoch", 0) for other in best)
        return Start(folder, path, has_best), checkpoint
    if list_checkpoints(model_dir) and not wish.resume and not wish.overwrite:
        raise UserError(
            f"{model_dir} holds checkpoints; go on with --resume, start anew with --overwrite, or name "
            "another --log_dir."
        )
    if wish.overwrite and folder.exists():
        shutil.rmtree(folder)  # which is locked, so no training is at work in it
    make_folder(model_dir)
    return Start(folder), None
