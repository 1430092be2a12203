"""Checkpoints: written whole or not at all, read without executing anything; the authors' files load too.

A run keeps, in its folder model/: epoch<N>.pth.tar after N epochs, epoch<N>_step<S>.pth.tar S steps later, of
both kinds the two newest; model_best_epoch<N>.pth.tar, the best epoch.
"""

import math
import os
import re
import reprlib
import shutil
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from utils.calibration import MIN_VIDEOS, Calibration, calibration_words, checked_calibration
from utils.cli import UserError
from utils.files import replacing
from utils.training_record import TrainingRecord, checked_record
from utils.weights import read_weights, why_unreadable

FILE_NAME = re.compile(r"(model_best_)?epoch(\d+)(?:_step(\d+))?\.pth\.tar")

# of the videos of a threshold, where all are real: with the sound of another second they stand for fakes
FOREIGN = "with foreign sounds"


class UnderWay(TypedDict):
    """An epoch that is not over, all ranks together."""

    position: int  # chunks taken
    n_steps: int  # steps taken
    sums: Tensor  # (n_terms,) float64, of the loss terms over the steps
    distances: Tensor  # (n,) float32, score of each row of the index as seen in training; -1: not seen
    bad: dict[int, str]  # rows that could not be read, and why
    seconds: float  # spent
    wait_s: float  # of these, waiting for the loader


class Checkpoint(TypedDict, total=False):
    """What a file of a run holds. The authors' files have the first six entries at most, exported ones no
    training.
    """

    epoch: int  # epochs done
    net: str
    state_dict: dict[str, Tensor]  # the network's weights
    optimizer: dict  # Adam's state
    avg_score_real: float  # mean dissimilarity of the real chunks of the last epoch, as trained
    avg_score_fake: float
    config: dict  # arguments of `TwoStreamNet`; a file may lack `EARLIER`
    least_loss: float  # of the best epoch; without held-out videos of all epochs
    best_value: (
        float  # of all epochs what chooses the best one: the loss, or minus the AUC of held-out videos
    )
    scaler: dict  # the loss scaling's state
    iteration: int  # steps done
    log: list[dict]  # figures of each epoch, as in log.jsonl
    under_way: UnderWay | None
    order_digest: str  # of the chunks and their order, which an epoch under way counts on
    polarity: str  # of the scores, for readers of the file
    args: dict  # the flags
    env: dict  # see `describe_environment`
    mean_mds_real: float  # of the videos that the threshold is from; in the best checkpoint
    mean_mds_fake: float
    threshold: float  # the paper's: their midpoint
    threshold_from: str  # which videos: training or held-out, perhaps `FOREIGN`
    calibration: Calibration  # of held-out videos; not there if they are too few
    record: (
        TrainingRecord  # what it was trained on and its figures on held-out videos; in the best checkpoint
    )


TRAINING = (
    "optimizer",
    "scaler",
    "under_way",
    "log",
    "order_digest",
    "iteration",
    "least_loss",
    "best_value",
)
FRACTION = (int, float)
CONFIG: dict[str, Any] = (
    dict.fromkeys(("net", "distance", "streams"), str)
    | dict.fromkeys(("dropout", "width", "chunk_s"), FRACTION)
    | dict.fromkeys(("img_dim", "final_dim"), int)
)
EARLIER: dict[str, Any] = {"streams": "both", "chunk_s": 1.0}  # what a config that does not say it means
WHOLE_NUMBERS = ("epoch", "iteration")
FLOATS = (
    "least_loss",
    "best_value",
    "avg_score_real",
    "avg_score_fake",
    "mean_mds_real",
    "mean_mds_fake",
    "threshold",
)
NUMBERS: dict[str, type] = dict.fromkeys(WHOLE_NUMBERS, int) | dict.fromkeys(FLOATS, float)
PARTS = {
    "optimizer": dict,
    "scaler": dict,
    "log": list,
    "under_way": dict,
    "args": dict,
    "env": dict,
}  # or None
MAX_COUNT = 2**53  # of epochs and steps
SHORT = reprlib.Repr()  # a few bytes of a pickle can be a value of any length
SHORT.maxlevel = 2


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to disk: a crash leaves the old file or the new one. UserError if it can't be
    written.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # how PyTorch reports a full disk
            raise OSError(str(error).splitlines()[0]) from error
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path, config: dict) -> Checkpoint:
    """Read a checkpoint of this project or of the authors' code onto the CPU.

    Args:
        path: the file.
        config: arguments of `TwoStreamNet` to assume for a file that holds none, as the authors' hold none.

    Returns:
        The file's dictionary, its state_dict without the prefix `module.`, and with `config`; figures as
        plain numbers.

    Raises:
        UserError: no such file, damaged, not a checkpoint of this network, more claimed than there is, or
            code in it (which is not executed).
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist or is no file.")
    try:
        found: dict = read_weights(path)
        state = {name.removeprefix("module."): tensor for name, tensor in found["state_dict"].items()}
        is_ours = "config" in found
        own = EARLIER | (found["config"] if is_ours else config | EARLIER)
        final_dim = len(state["netfcaud.3.bias" if own["streams"] == "audio" else "netfclip.3.bias"])
        found |= {"config": own if is_ours else own | {"final_dim": final_dim}, "state_dict": state}
        check_parts(found, final_dim)
        tensors = [*state.values(), *moments(found.get("optimizer"))]
        if sum(x.nbytes for x in tensors) > path.stat().st_size:
            raise ValueError("one tensor in many places")
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror or error}).") from error
    except (LookupError, AttributeError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        why = why_unreadable(error)
        raise UserError(f"{path} is damaged or no checkpoint of this network ({why}).") from error
    return cast(Checkpoint, found)


def moments(optimizer: dict | None) -> list[Tensor]:
    """All tensors of an optimiser's state."""
    states = optimizer["state"].values() if optimizer else ()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def check_parts(checkpoint: dict, final_dim: int) -> None:
    """Make the numbers of a checkpoint plain ones; ValueError, TypeError and the like if a part is not what
    it should be.
    """
    config = checkpoint["config"]
    is_known = config.keys() <= CONFIG.keys()
    if not is_known or not all(isinstance(value, CONFIG[name]) for name, value in config.items()):
        raise TypeError(f"its config is {SHORT.repr(config)}")
    if config["final_dim"] != final_dim or config.get("img_dim", 1) < 1:
        raise ValueError(f"its config is {SHORT.repr(config)}, the weights have final_dim {final_dim}")
    for name in (*NUMBERS, *PARTS):
        if checkpoint.get(name, 0) is None and name != "under_way":
            del checkpoint[name]  # nothing is known
    for name, kind in NUMBERS.items():
        if name in checkpoint:
            checkpoint[name] = kind(checkpoint[name])
    if not all(0 <= checkpoint.get(name, 0) <= MAX_COUNT for name in WHOLE_NUMBERS):
        raise ValueError("an epoch or iteration that can't be")
    if not math.isfinite(checkpoint.get("threshold", 0)):
        raise ValueError("a threshold that is not finite")
    # below them nothing would ever be better
    if not all(checkpoint.get(name, 0) > -math.inf for name in ("least_loss", "best_value")):
        raise ValueError("a least loss or best value that can't be")
    for name, kind in PARTS.items():
        if not isinstance(checkpoint.get(name) or kind(), kind):
            raise TypeError(f"{name} is no {kind.__name__}")
    if "calibration" in checkpoint:
        checkpoint["calibration"] = checked_calibration(checkpoint["calibration"])
    if "record" in checkpoint:
        checkpoint["record"] = checked_record(checkpoint["record"])
    if not isinstance(checkpoint.get("env", {}).get("processes", 1), int):
        raise TypeError("the number of processes in env is none")
    figures = [pair for record in checkpoint.get("log") or () for pair in record.items()]
    for name, figure in figures:
        if not isinstance(name, str) or not isinstance(figure, (int, float)):
            raise TypeError(f"{name} in the log is no number")
    under_way = checkpoint.get("under_way")
    if under_way and not (
        isinstance(under_way.get("n_steps"), int) and isinstance(checkpoint.get("order_digest"), str)
    ):
        raise TypeError("the epoch under way")


def refuse_other_network(path: Path, checkpoint: Checkpoint, asked: dict) -> None:
    """UserError if flags that were given name another network than the checkpoint at `path` holds."""
    config = checkpoint["config"]
    differ = [name for name, value in asked.items() if config.get(name, value) != value]
    if differ:
        has, given = (" ".join(f"--{name} {values[name]}" for name in differ) for values in (config, asked))
        raise UserError(
            f"{path} holds a network of {has}, got {given}; leave that out, the checkpoint says it."
        )


def refuse_other_chunks(path: Path, checkpoint: Checkpoint, chunk_s: float, where: Path | str) -> None:
    """UserError if the chunks of `where`, of `chunk_s` seconds, are not as long as those that the network in
    the checkpoint at `path` is made for.
    """
    made_for = checkpoint["config"]["chunk_s"]
    if made_for != chunk_s:
        raise UserError(
            f"{path} holds a network for chunks of {made_for:g} s, those of {where} have {chunk_s:g} s; take "
            f"another checkpoint, or make chunks with pre-process.py --chunk_s {made_for:g}."
        )


def list_checkpoints(model_dir: Path, best: bool = False) -> list[Path]:
    """The checkpoints of a run to go on from, or the best ones alone, the newest first."""
    found = []
    for path in model_dir.glob("*.pth.tar"):
        if (match := FILE_NAME.fullmatch(path.name)) and (match[1] or not best):
            found.append(((int(match[2]), int(match[3] or 0), match[1] is None), path))
    return [path for _, path in sorted(found, reverse=True)]


def epoch_of(path: Path) -> int:
    """How many epochs were done when a checkpoint was written, by its name, one of `list_checkpoints`."""
    match = FILE_NAME.fullmatch(path.name)
    assert match is not None
    return int(match[2])


def best_checkpoint(model_dir: Path) -> Path:
    """The best checkpoint of a run; UserError if there is none."""
    found = list_checkpoints(model_dir, best=True)
    if not found:
        raise UserError(
            f"no model_best_epoch<N>.pth.tar in {model_dir}; train first, give the flags of the run, or name "
            "a checkpoint."
        )
    return found[0]


def load_resumable(path: Path, config: dict) -> tuple[Path, Checkpoint]:
    """Load the checkpoint to go on from: `path` itself or, of a run's folder, the newest one that is whole.

    Returns:
        The file and what `load_checkpoint` gives. Damaged files that are passed over are named on the screen
        and get another name, so that they do not count as one of the two that are kept.

    Raises:
        UserError: nothing to load; of a damaged file the text names the one before it.
    """
    if not path.is_dir():
        try:
            return path, load_checkpoint(path, config)
        except UserError as error:
            family = list_checkpoints(path.parent)
            older = family[family.index(path) + 1 :] if path in family else []
            raise UserError(
                f"{error}" + (f" The one before it: --resume {older[0]}" if older else "")
            ) from error
    model_dir = path / "model" if (path / "model").is_dir() else path
    for candidate in list_checkpoints(model_dir):
        try:
            return candidate, load_checkpoint(candidate, config)
        except UserError as error:
            if isinstance(error.__cause__, PermissionError):  # not the file's fault
                raise
            aside = candidate.with_name(f"{candidate.name}.damaged")
            os.replace(candidate, aside)
            print(f"{error} It is now {aside.name}; trying the one before it.")
    raise UserError(f"no checkpoint in {model_dir} to go on from; name a run folder or a checkpoint.")


def keep_checkpoint(model_dir: Path, checkpoint: Checkpoint, step: int, is_best: bool) -> None:
    """Save the newest checkpoint, if it is one as the best too, and delete those that it takes the place of.

    Two are kept, the newest and the one before it. The best shares its file with the newest where the file
    system allows; it is written first: a crash in between costs the time since the last checkpoint, no more.
    Those of a later time than the newest are of a future that is trained again.
    """
    newest = model_dir / f"epoch{checkpoint['epoch']}{f'_step{step}' if step else ''}.pth.tar"
    if is_best:
        best = model_dir / f"model_best_{newest.name}"
        save_checkpoint(best, checkpoint)
        with replacing(newest) as partial:
            partial.unlink(missing_ok=True)
            try:
                os.link(best, partial)
            except OSError:
                shutil.copyfile(best, partial)
    else:
        save_checkpoint(newest, checkpoint)
    best_ones = list_checkpoints(model_dir, best=True)
    others = [path for path in list_checkpoints(model_dir) if path not in best_ones]
    place = others.index(newest)
    kept = {
        *others[place : place + 2],
        *[path for path in best_ones if epoch_of(path) <= checkpoint["epoch"]][:1],
    }
    for path in {*others, *best_ones} - kept:
        path.unlink()


def threshold_videos(checkpoint: Checkpoint) -> str:
    """Of which videos the threshold in a checkpoint is, in words."""
    whose, _, more = checkpoint.get("threshold_from", "training").partition(" ")
    words = f"{whose} videos {more}".strip()
    return words if whose == "held-out" else f"{words}, whose scores the network may have learnt by heart"


def stored_threshold(checkpoint: Checkpoint) -> tuple[float | None, str]:
    """The paper's threshold in a checkpoint and where it comes from; None if the checkpoint has none."""
    if "threshold" in checkpoint:
        origin = f"midpoint of the mean MDS of real and fake {threshold_videos(checkpoint)}"
        return checkpoint["threshold"], origin
    unknown = float("nan")
    mean = (checkpoint.get("avg_score_real", unknown) + checkpoint.get("avg_score_fake", unknown)) / 2
    if math.isfinite(mean):
        return mean, "midpoint of the training epoch's mean scores, measured in training mode"
    return None, "none: the checkpoint holds none"


def stored_calibration(checkpoint: Checkpoint) -> tuple[Calibration | None, str]:
    """What makes probabilities of the MDS, see `utils.calibration.calibrated`, and for which videos they
    hold; None, and why, if a checkpoint has nothing.
    """
    if "calibration" in checkpoint:
        return checkpoint["calibration"], calibration_words(checkpoint["calibration"])
    if checkpoint.get("threshold_from") != "held-out":
        return None, "none: it takes real and fake held-out videos (train.py --val_fraction)"
    too_few = f"fewer than {MIN_VIDEOS} real or {MIN_VIDEOS} fake videos were held out"
    return None, f"none: {too_few}, or the model is of an older version"


def export_weights(path: Path, checkpoint: Checkpoint) -> None:
    """Write the weights alone, in half precision, with configuration, threshold, calibration and record.

    Biases, batch normalisation and its statistics, which are small, stay in float32.

    Raises:
        UserError: a weight is beyond float16, or the file can't be written.
    """
    weights = checkpoint["state_dict"].items()
    state = {name: x.half() if x.is_floating_point() and x.dim() > 1 else x for name, x in weights}
    too_large = [name for name, x in state.items() if not torch.isfinite(x).all()]
    if too_large:
        raise UserError(
            f"{too_large[0]} is not finite in half precision; the training has diverged, nothing is exported."
        )
    exported = {key: value for key, value in checkpoint.items() if key not in TRAINING}
    save_checkpoint(path, cast(Checkpoint, exported | {"state_dict": state}))


def merged_groups(own: list[dict], saved: list[dict]) -> list[dict]:
    """Groups of parameters with this run's settings and the learning rate and order of those saved;
    ValueError and the like if they are something else.
    """
    groups = [
        new | {name: old[name] for name in ("lr", "params")} for new, old in zip(own, saved, strict=True)
    ]
    for group in groups:
        group["lr"] = float(group["lr"])
        if not 0 < group["lr"] < math.inf:
            raise ValueError(f"a learning rate of {group['lr']}")
    return groups


def known_moments(saved: dict, groups: list[dict]) -> dict:
    """Adam's state of each parameter that has one; ValueError and the like if it is something else."""
    names = [name for group in groups for name in group["params"]]
    if len(set(names)) < len(names) or not saved.keys() <= set(names):
        raise ValueError("states of other parameters than those of its groups")
    # a parameter without gradient, as that of a loss term left out, has no state yet
    known = {name: moments for name, moments in saved.items() if moments}
    if not known:
        raise ValueError("no state of any parameter")
    for name, moments in known.items():  # "step" is a plain number in the authors' files, which are not fused
        step = torch.tensor(float(moments["step"]))
        known[name] = {"step": step, "exp_avg": moments["exp_avg"], "exp_avg_sq": moments["exp_avg_sq"]}
    return known


def lay_out_moments(parameter: Tensor, moments: dict) -> None:
    """Have Adam's state lie in memory as its parameter does, which the fused step wants; ValueError if it
    does not fit.
    """
    if not moments["step"] >= 0:
        raise ValueError(f"step {moments['step']}")
    for name in ("exp_avg", "exp_avg_sq"):
        if moments[name].shape != parameter.shape:
            got, expected = list(moments[name].shape), list(parameter.shape)
            raise ValueError(f"{name} has the shape {got}, expected {expected}")
        moments[name] = torch.empty_like(parameter, requires_grad=False).copy_(moments[name])


def checked_scaling(scaler: dict) -> dict:
    """The state of a loss scaling as plain numbers; ValueError if it is something else."""
    integers = ("growth_interval", "_growth_tracker")
    numbers = {name: (int if name in integers else float)(value) for name, value in scaler.items()}
    if not all(0 <= value < math.inf for value in numbers.values()) or not numbers["scale"]:
        raise ValueError(f"a loss scaling of {scaler}")
    return numbers
