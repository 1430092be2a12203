"""One result, one process: claimed among all processes and runs, built beside its place, and swept up after a
kill.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from utils.cli import UserError

WORK = ".work"  # beside the folders of the videos: results that are being built, and a lock for each
LOCK_NAME = re.compile(r"[0-9a-f]{32}\.lock")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def raise_if_no_room(error: Exception) -> None:
    """OSError if an error means that nothing can be written; FFmpeg's need not be one."""
    if (number := getattr(error, "errno", None)) in NO_ROOM:
        raise OSError(number, os.strerror(number)) from error


def work_of(target: Path) -> Path:
    return target.parent / WORK / hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]


@contextmanager
def claimed(target: Path, wait: bool = False) -> Iterator[Path | None]:
    """Take a folder or file, existing or not, for this process alone among all processes and runs.

    Gives an empty place to build in, removed in the end; if another process has it, None, or `wait` for it.
    The claim ends with the process, however that ends.
    """
    with claimed_work(work_of(target), wait) as work:
        yield work


@contextmanager
def claimed_work(work: Path, wait: bool = False) -> Iterator[Path | None]:
    """`claimed`, by the name of the place to build in.

    Raises:
        UserError: the folder for such places is a link; what is in another folder is not ours to delete.
    """
    path = work.with_suffix(".lock")
    if path.parent.is_symlink():
        what = "is a link, and results are built in it and deleted; remove it, then run this again."
        raise UserError(f"{path.parent} {what}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():  # to a file, which would be emptied
        path.unlink()
    lock = FileLock(path)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        yield None
        return
    try:
        if work.is_symlink():
            work.unlink()
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def sweep(parent: Path) -> None:
    """Remove what killed processes left beside the videos' folders, and nothing else; follows no link."""
    if (parent / WORK).is_symlink():
        return
    for path in (parent / WORK).glob("*.lock"):
        if LOCK_NAME.fullmatch(path.name):
            with claimed_work(path.with_suffix("")):
                pass
    with contextlib.suppress(OSError):  # not empty: another run is at work
        (parent / WORK).rmdir()
