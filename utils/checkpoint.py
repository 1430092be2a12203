"""Checkpoints: written whole or not at all, read without executing anything; the authors' files load too."""

import os
import pickle
from pathlib import Path

import numpy as np
import torch

from utils.cli import UserError
from utils.files import replacing

# NumPy numbers among the plain ones, as training code likes to save them (old and new module name)
NUMPY_SCALARS = [
    *((np._core.multiarray.scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]


def save_checkpoint(path: Path, checkpoint: dict) -> None:
    """Write a checkpoint to disk: a crash leaves the old file or the new one. UserError if it can't be written."""
    with replacing(path) as partial, partial.open("wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # how PyTorch reports a full disk
            raise OSError(str(error).splitlines()[0]) from error
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path, config: dict) -> dict:
    """Read a checkpoint of this project or of the authors' code onto the CPU.

    Args:
        path: the file.
        config: arguments of `TwoStreamNet` to assume for a file that holds none, as the authors' hold none.

    Returns:
        The file's dictionary, its state_dict without the prefix `module.`, and with `config`.

    Raises:
        UserError: no such file, damaged, not a checkpoint of this network, or code in it (which is not executed).
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist or is no file.")
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in checkpoint["state_dict"].items()}
        final_dim = len(state["netfclip.3.bias"])
    except (OSError, EOFError, KeyError, AttributeError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is damaged or no checkpoint of this network ({type(error).__name__}).") from error
    return {"config": config | {"final_dim": final_dim}} | checkpoint | {"state_dict": state}
