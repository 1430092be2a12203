"""Checkpoints: written whole or not at all, read without executing anything; the authors' files load too."""

import contextlib
import math
import os
import pickle
from pathlib import Path

import numpy as np
import torch

from model import HIDDEN_DIM, RESNETS, TwoStreamNet
from utils.cli import UserError

# NumPy numbers among the plain ones, as training code likes to save them (old and new module name)
NUMPY_SCALARS = [
    *((np._core.multiarray.scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]


def save_checkpoint(path: Path, checkpoint: dict) -> None:
    """Write beside `path`, then rename: a crash leaves the old file or the new one."""
    partial = path.with_name(f".{path.name}.tmp")
    try:
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(f"can't write checkpoint {path} ({error}); make room, then go on with --resume.") from error


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint of this project or of the authors' code onto the CPU.

    Returns the file's dictionary, its state_dict without the prefix `module.` and with `config` always there: net,
    img_dim, final_dim (read from the weights' shapes where the file does not say), dropout.

    Raises:
        UserError: no such file, damaged, or not a checkpoint of this network.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist or is no file.")
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in checkpoint["state_dict"].items()}
        final_dim, hidden = state["netfclip.3.weight"].shape
        n_features = state["netfclip.0.weight"].shape[1]
        n_channels = state["netcnnlip.layer4.0.conv1.weight"].shape[0]
    except (OSError, EOFError, KeyError, AttributeError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        cause = (str(error).strip().splitlines() or [""])[0][:150]
        raise UserError(f"{path} is damaged or no checkpoint of this network ({type(error).__name__}: {cause}).") from error
    if hidden != HIDDEN_DIM:
        raise UserError(f"{path} has a hidden layer of {hidden}, expected {HIDDEN_DIM}: not this network.")
    if "config" not in checkpoint:
        net = checkpoint.get("net")
        side = math.isqrt(n_features // n_channels)
        checkpoint["config"] = {
            "net": net if net in RESNETS else "resnet18",
            "img_dim": 32 * side,
            "final_dim": final_dim,
            "dropout": 0.5,
        }
    checkpoint["state_dict"] = state
    return checkpoint


def build_model(checkpoint: dict, path: Path) -> TwoStreamNet:
    """The network that a checkpoint describes, with its weights; UserError if they do not fit."""
    model = TwoStreamNet(**checkpoint["config"])
    load_weights(model, checkpoint, path)
    return model


def load_weights(model: TwoStreamNet, checkpoint: dict, path: Path) -> None:
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not fit the network {checkpoint['config']}: {detail}") from error
