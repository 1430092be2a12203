"""Files: opened only if they end, written and removed whole or not at all."""

import contextlib
import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.cli import UserError

MAX_TABLE_BYTES = 2**32  # of a table, or of the records of a data set: the largest have a million rows
MAX_RECORD_BYTES = 2**28  # of what is known of one video


def open_regular(path: Path, at_most: int = MAX_TABLE_BYTES) -> io.BufferedReader:
    """Open a file for reading, as bytes. What could be read for ever, or would wait for a writer, is not
    opened: pipes, devices, files that have, or claim, more than `at_most` bytes.

    Raises:
        OSError: it can't be opened. ValueError: it is no regular file, or too large.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    names = ("O_NONBLOCK", "O_NOCTTY", "O_BINARY")
    flags = [getattr(os, name, 0) for name in names]  # not all of them on all systems
    file = os.fdopen(os.open(path, os.O_RDONLY | sum(flags)), "rb")
    state = os.fstat(file.fileno())
    is_file = stat.S_ISREG(state.st_mode)
    if not is_file or state.st_size > at_most:
        file.close()
        what = f"has more than {at_most:,} bytes" if is_file else "is no regular file (a pipe or a device)"
        raise ValueError(f"{Path(path).name} {what}")
    return file


def read_bytes(path: Path, at_most: int) -> bytes:
    """The content of a file, see `open_regular`."""
    with open_regular(path, at_most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` if nothing fails.

    Raises:
        UserError: the file can't be written.
    """
    partial = path.with_name(f".{path.name}.tmp")
    try:
        # else a link of that name, in a folder from elsewhere, would be followed
        partial.unlink(missing_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"can't write {path}: {why}; make room or mend the folder, then go on.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, if need be, and see that files can be written in it; UserError if not."""
    probe = path / f".{os.getpid()}.tmp"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"can't write in {path}: {why}; mend the folder or name another one.") from error


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open_regular(path, 2**63) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard(folder: Path, work: Path) -> None:
    """Move a folder, if it is there, into another one in one step, so that nobody finds a part of it; there
    it can be deleted.

    `work` is a folder for this caller alone on the same file system; it is made if need be.
    """
    work.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, work / "discarded")
