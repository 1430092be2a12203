"""Writing and removing files whole or not at all; tables whose cells may hold names that are not text."""

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from utils.cli import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` if nothing fails.

    Raises:
        UserError: the file can't be written.
    """
    partial = path.with_name(f".{path.name}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}; make room or mend the folder, then go on.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file; UserError if that fails."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file, a dict per row; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def discard(folder: Path, work: Path) -> None:
    """Move a folder, if it is there, into another one in one step, so that nobody finds a part of it; there it can be deleted.

    `work` is a folder for this caller alone on the same file system; it is made if need be.
    """
    work.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, work / "discarded")
