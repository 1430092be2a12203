"""Weights out of files from anywhere: nothing in them is executed, and they take no more memory than they
have bytes.

state = read_weights(Path("sfd_face.pth"))
"""

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
import torch
from numpy._core.multiarray import scalar

from utils.files import open_regular

# NumPy numbers among the plain ones, as training code likes to save them (old and new module name)
NUMPY_SCALARS: list[Any] = [
    *((scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]
ITEM_BYTES = dict(Double=8, Float=4, Half=2, BFloat16=2, Long=8, Int=4, Short=2, Char=1, Byte=1, Bool=1)
UNREADABLE = (  # what a damaged file can make PyTorch, pickle or zipfile raise
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file in plain words, on one line, out of one of `UNREADABLE`."""
    if isinstance(error, KeyError):
        return f"it has no {error}"[:200]
    return " ".join(str(error).split())[:200] or "it is cut off"


class _Storage(NamedTuple):
    """The memory of a tensor, as a file claims it."""

    n_bytes: int
    item_bytes: int


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], *_) -> None:
    if math.prod(size) * storage.item_bytes > storage.n_bytes:  # the same number many times over
        raise pickle.UnpicklingError(
            f"a tensor of {' x '.join(map(str, size))} numbers, of which the file has fewer"
        )


def _encode(text: str, encoding: str) -> None:
    if encoding != "latin1":  # as bytes are saved; others make more of less, again and again
        raise pickle.UnpicklingError(f"bytes in {encoding!r}")


class _Number:
    """A NumPy number or its type."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _: tuple) -> None:
        pass


class _Rehearsal(pickle._Unpickler):  # the one in Python: that in C takes memory for any claim
    """Reads a pickle with a stand-in for everything that it would make.

    Raises:
        UnpicklingError: it names something that no weights need, or claims more than the file holds.
    """

    dispatch: ClassVar = {
        op: load for op, load in pickle._Unpickler.dispatch.items() if op != pickle.BYTEARRAY8[0]
    }
    stand_ins: ClassVar = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): lambda *_: None,
        ("_codecs", "encode"): _encode,
        ("numpy", "dtype"): _Number,
        ("numpy.core.multiarray", "scalar"): _Number,
        ("numpy._core.multiarray", "scalar"): _Number,
    }

    def __init__(self, file: BinaryIO, n_bytes: int, members: dict[str, int] | None = None):
        super().__init__(file)
        self.n_left = n_bytes
        self.members = members  # sizes of the storages, where they are known
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> object:
        if module == "torch" and name.removesuffix("Storage") in ITEM_BYTES:
            return name.removesuffix("Storage")
        if (module, name) not in self.stand_ins:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no weights need")
        return self.stand_ins[module, name]

    def persistent_load(self, claim: tuple) -> _Storage:
        _, kind, key, _, n_items, *_ = claim
        storage = _Storage(n_items * ITEM_BYTES[kind], ITEM_BYTES[kind])
        self.n_left -= max(0, storage.n_bytes - self.storages.get(key, 0))
        self.storages[key] = max(storage.n_bytes, self.storages.get(key, 0))
        if self.n_left < 0 or (self.members is not None and storage.n_bytes > self.members.get(key, 0)):
            raise pickle.UnpicklingError(f"it claims {storage.n_bytes:,} bytes of numbers that are not there")
        return storage


def _rehearse(file: BinaryIO, n_bytes: int) -> None:
    """Look whether a file of `torch.save` holds what it claims and no more, before any memory is taken."""
    if (
        file.read(4) != b"PK\3\4"
    ):  # as before PyTorch 1.6: magic number, version, system, contents, names of storages
        file.seek(0)
        for _ in range(5):
            _Rehearsal(file, n_bytes).load()
        return
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        sizes = {member.filename.partition("/")[2]: member.file_size for member in members}
        if (
            sum(sizes.values()) > n_bytes
            or len(sizes) < len(members)
            or any(member.compress_type for member in members)
        ):
            raise zipfile.BadZipFile(
                "its parts claim more bytes than the file has, a name twice, or are compressed"
            )
        (name,) = (member.filename for member in members if member.filename.endswith("/data.pkl"))
        storages = {
            name.removeprefix("data/"): size for name, size in sizes.items() if name.startswith("data/")
        }
        _Rehearsal(BytesIO(archive.read(name)), n_bytes, storages).load()


def read_weights(path: Path) -> Any:
    """What `torch.save` wrote, in its present or its former format, on the CPU: tensors, NumPy numbers and
    plain values.

    Raises:
        ValueError: damaged, more claimed than there is, or code in it.
        OSError: it can't be read.
    """
    with open_regular(path, 2**63) as file:
        head = file.read(4)
        if head != b"PK\3\4" and head[:1] != b"\x80":
            is_onnx = path.suffix == ".onnx"
            raise ValueError(
                "an ONNX file is for onnxruntime; give the .pth or .pth.tar that it was made from"
                if is_onnx
                else "it is no file that torch.save wrote"
            )
        file.seek(0)
        try:
            _rehearse(file, path.stat().st_size)
            file.seek(0)
            with torch.serialization.safe_globals(NUMPY_SCALARS):
                return torch.load(file, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            raise ValueError(why_unreadable(error)) from error
