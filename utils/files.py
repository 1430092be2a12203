"""Writing and removing files whole or not at all; tables whose cells may hold any name: bytes that are not text, formulas."""

import contextlib
import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from utils.cli import UserError

if TYPE_CHECKING:
    import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how a cell begins that a spreadsheet would compute, and one that is escaped


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` if nothing fails.

    Raises:
        UserError: the file can't be written.
    """
    partial = path.with_name(f".{path.name}.tmp")
    try:
        partial.unlink(missing_ok=True)  # else a link of that name, in a folder from elsewhere, would be followed
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}; make room or mend the folder, then go on.") from error
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
        raise UserError(f"can't write in {path}: {error.strerror or error}; mend the folder or name another one.") from error


def escape_cell(cell: object) -> object:
    """The cell with a quote before it if it is a text that a spreadsheet would take for a formula (OWASP's list)."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def unescape_cell(cell: object) -> object:
    """The inverse of `escape_cell`. Cells that it never makes, as other programs write them, stay as they are."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and FORMULA.match(cell) else cell


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file, texts escaped and lines ended by \\n; UserError if that fails."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        # csv quotes what holds a half of its line end, so texts with \r too if it is this one (by itself from Python 3.13 on)
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        csv.writer(lines, lineterminator="\r\n").writerows([header, *([escape_cell(cell) for cell in row] for row in rows)])


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of `write_table`, of an older version or of another program, a dict per row; none if there is no such file.

    Raises:
        UserError: it is no CSV.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            return [{name: unescape_cell(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
        except csv.Error as error:
            raise UserError(f"{path} can't be read as CSV ({error}); delete it, it is written again.") from error


def write_frame(path: Path, frame: "pd.DataFrame") -> None:
    """`write_table` of a data frame; missing values are empty cells."""
    cells = frame.astype(object).where(frame.notna(), "")
    write_table(path, list(frame.columns), cells.itertuples(index=False))


def read_frame(path: Path, **options) -> "pd.DataFrame":
    """`pandas.read_csv` of a file of `write_table`, of an older version or of another program."""
    import pandas as pd  # here, so that workers that read no table start at once

    frame = pd.read_csv(path, encoding_errors="surrogateescape", **options)
    texts = frame.select_dtypes(exclude="number")
    return frame.assign(**{name: texts[name].map(unescape_cell) for name in texts})


def plain(value: object) -> object:
    """The value as JSON can hold it: paths as text, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: dict) -> None:
    """Write JSON, see `plain`; UserError if that fails."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(plain(value), indent=1) + "\n", errors="surrogateescape")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard(folder: Path, work: Path) -> None:
    """Move a folder, if it is there, into another one in one step, so that nobody finds a part of it; there it can be deleted.

    `work` is a folder for this caller alone on the same file system; it is made if need be.
    """
    work.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, work / "discarded")
