"""Writing and removing files whole or not at all; tables whose cells may hold any name: bytes that are not text, formulas."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO

from utils.cli import UserError

if TYPE_CHECKING:
    import pandas as pd

MAX_TABLE_BYTES = 2**32  # of a table, or of the records of a data set: the largest have a million rows
MAX_RECORD_BYTES = 2**28  # of what is known of one video
MAX_DIGITS = 20  # of a whole number in JSON
HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")  # in JSON; two of them may be one character
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how a cell begins that a spreadsheet would compute, and one that is escaped


def open_regular(path: Path, at_most: int = MAX_TABLE_BYTES) -> BinaryIO:
    """Open a file for reading, as bytes. What could be read for ever, or would wait for a writer, is not opened: pipes, devices,
    files that have, or claim, more than `at_most` bytes.

    Raises:
        OSError: it can't be opened. ValueError: it is no regular file, or too large.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    flags = [getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY")]  # not all of them on all systems
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


def load_json(path: Path, at_most: int = MAX_TABLE_BYTES) -> object:
    """What a JSON file holds, see `open_regular` and `parse_json`; OSError and ValueError as these."""
    return parse_json(read_bytes(path, at_most))


def parse_json(data: bytes) -> object:
    """The value of a JSON text in UTF-8, perhaps with a byte order mark.

    Raises:
        ValueError: no JSON, or such as could not be used or written again: nested too deeply, a whole number of more than
            `MAX_DIGITS` digits, half a character.
    """

    def whole(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"a number of {len(digits)} digits, expected finite numbers of at most {MAX_DIGITS}")
        return int(digits)

    try:
        value = json.loads(data.decode("utf-8-sig"), parse_int=whole)
        if HALF_CHARACTER.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")  # as names that are not text are written
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds half a character, {error.object[error.start]!a}") from error
    return value


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

    A byte order mark and empty cells at the ends of rows, as spreadsheets leave them, do not count; cells that a row lacks are
    empty.

    Raises:
        UserError: it is no CSV.
    """
    rows = []
    try:
        with read_text(path) as file:
            reader = csv.DictReader(file, restval="")
            for row in reader:
                if any(row.pop(None, ())) or row.pop("", ""):
                    raise ValueError(f"line {reader.line_num} has more cells than the header")
                rows.append({name: unescape_cell(cell) for name, cell in row.items()})
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path} can't be read as CSV ({why}); mend it, or delete it: it is written again.") from error
    return rows


def read_text(path: Path, at_most: int = MAX_TABLE_BYTES) -> io.TextIOWrapper:
    """A text in UTF-8 for reading, see `open_regular`, without its byte order mark; bytes that are no text are kept."""
    return io.TextIOWrapper(open_regular(path, at_most), encoding="utf-8-sig", errors="surrogateescape", newline="")


def write_frame(path: Path, frame: "pd.DataFrame") -> None:
    """`write_table` of a data frame; missing values are empty cells."""
    cells = frame.astype(object).where(frame.notna(), "")
    write_table(path, list(frame.columns), cells.itertuples(index=False))


def read_frame(path: Path, **options) -> "pd.DataFrame":
    """`pandas.read_csv` of a file of `write_table`, of an older version or of another program, see `read_table`.

    Raises:
        OSError, ValueError, UserError: it can't be read, or is no CSV.
    """
    import pandas as pd  # here, so that workers that read no table start at once

    # index_col: else the first column of rows that end in a comma would be taken for their names
    options |= {"index_col": False, "low_memory": False, "encoding": "utf-8-sig", "encoding_errors": "surrogateescape"}
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(file, **options)
        except (pd.errors.ParserWarning, pd.errors.ParserError):
            columns = list(dict.fromkeys(name for row in read_table(path) for name in row))  # if the cells too many are empty
            file.seek(0)
            frame = pd.read_csv(file, usecols=columns, **options)
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
    with open_regular(path, 2**63) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard(folder: Path, work: Path) -> None:
    """Move a folder, if it is there, into another one in one step, so that nobody finds a part of it; there it can be deleted.

    `work` is a folder for this caller alone on the same file system; it is made if need be.
    """
    work.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, work / "discarded")
