"""CSV tables whose cells may hold any name: bytes that are not text, formulas."""

import csv
import io
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from utils.cli import UserError
from utils.constants import COLLECTED_COLUMNS, LABELS
from utils.files import MAX_TABLE_BYTES, open_regular, replacing

if TYPE_CHECKING:  # else where it is used, so that who reads no table starts at once
    import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # begins a cell that a spreadsheet would compute, or an escaped one
MEND = "mend it, or delete it: it is written again"


@dataclass(frozen=True)
class Schema:
    """What a table must hold, and what is said if it does not."""

    row: str = "row"  # what a row is: a video, a chunk
    required: tuple[str, ...] = ()  # columns; `label` among them must be 0 or 1 in a frame
    remedy: str = MEND  # what to do about a table that is none
    if_none: str = ""  # what to do about one without rows; empty: the same
    text: tuple[str, ...] = ("video", "chunk", "path", *COLLECTED_COLUMNS)  # never read as numbers
    numbers: tuple[str, ...] = ()  # read as numbers in a frame; NaN where a cell holds none


ANY = Schema()


def escape_cell(cell: object) -> object:
    """The cell with a quote before it if it is a text that a spreadsheet would take for a formula (OWASP's
    list).
    """
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def unescape_cell(cell: Any) -> Any:
    """The inverse of `escape_cell`. Cells that it never makes, as other programs write them, stay as they
    are.
    """
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and FORMULA.match(cell) else cell


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file, texts escaped and lines ended by \\n; UserError if that fails."""
    with (
        replacing(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        # csv quotes what holds a half of its line end, so texts with \r too if it is this one (by itself from
        # Python 3.13 on)
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        escaped = ([escape_cell(cell) for cell in row] for row in rows)
        csv.writer(lines, lineterminator="\r\n").writerows([header, *escaped])


def write_frame(path: Path, frame: "pd.DataFrame") -> None:
    """`write_table` of a data frame; missing values are empty cells."""
    cells = frame.astype(object).where(frame.notna(), "")
    write_table(path, list(frame.columns), cells.itertuples(index=False))


def read_text(path: Path, at_most: int = MAX_TABLE_BYTES) -> io.TextIOWrapper:
    """A text in UTF-8 for reading, see `open_regular`, without its byte order mark; bytes that are no text
    are kept.
    """
    file = open_regular(path, at_most)
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def unreadable(path: Path, error: Exception | str, schema: Schema) -> UserError:
    """What to say of a file that is no table."""
    why = " ".join(str(getattr(error, "strerror", None) or error).split())
    return UserError(f"{path} can't be read as CSV ({why}); {schema.remedy}.")


class EmptyTable(UserError):
    """A file that has not even a header."""

    def __init__(self, path: Path, schema: Schema):
        wrong = f"it is empty; expected a header and a row per {schema.row}"
        super().__init__(str(unreadable(path, wrong, schema)))


def without_rows(path: Path, schema: Schema) -> UserError:
    return UserError(f"{path} lists no {schema.row}; {schema.if_none or schema.remedy}.")


def check_columns(path: Path, columns: Collection[str], schema: Schema) -> None:
    """UserError if a required column is not among those of a table."""
    missing = [name for name in schema.required if name not in columns]
    if missing:
        *first, last = schema.required
        expected = f"at least {', '.join(first)} and {last}" if first else last
        raise UserError(f"{path} has no column {', '.join(missing)}; expected {expected}; {schema.remedy}.")


def read_rows(path: Path, schema: Schema = ANY) -> Iterator[tuple[int, list[str]]]:
    """The header of a CSV file of `write_table`, of an older version or of another program, then its rows,
    each with the number of its last line.

    All rows are as long as the header: cells that one lacks are empty, and empty ones too many are cut off,
    as spreadsheets leave them, also a byte order mark. Empty rows are left out.

    Raises:
        UserError: it is no CSV; EmptyTable if it has no header. FileNotFoundError: it is not there.
    """
    try:
        with read_text(path) as file:
            reader = csv.reader(file)
            n_columns = 0
            for row in filter(None, reader):
                n_columns = n_columns or len(row)
                if any(row[n_columns:]):
                    raise ValueError(f"line {reader.line_num} has more cells than the header")
                cells = [unescape_cell(cell) for cell in row[:n_columns]]
                yield reader.line_num, cells + [""] * (n_columns - len(cells))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, error, schema) from error
    if not n_columns:
        raise EmptyTable(path, schema)


def read_table(path: Path, schema: Schema | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file, see `read_rows`, as dicts; none if there is no such file or it is empty, unless
    a schema tells what must be there.

    Columns without a name must be empty, as spreadsheets leave them, and are left out.

    Raises:
        UserError: it is no CSV, or not of the schema.
    """
    rules = schema or ANY
    rows = read_rows(path, rules)
    try:
        _, header = next(rows)
    except EmptyTable:
        if schema:
            raise
        return []
    except FileNotFoundError as error:
        if schema:
            raise unreadable(path, error, schema) from error
        return []
    check_columns(path, header, rules)
    table = []
    for line, cells in rows:
        row = dict(zip(header, cells, strict=True))
        if row.pop("", ""):
            raise unreadable(path, f"line {line} has more cells than the header", rules)
        table.append(row)
    if schema and not table:
        raise without_rows(path, schema)
    return table


def read_frame(path: Path, schema: Schema = ANY) -> "pd.DataFrame":
    """A CSV file, see `read_rows`, as a data frame; pandas reads it, which is faster by far.

    Columns of `schema.text` are text, those of `schema.numbers` numbers, `label` is 0 or 1 if it is required;
    pandas decides on the others. A cell that is empty is no missing value, but an empty text.

    Raises:
        UserError: it can't be read, is no CSV, or not of the schema.
    """
    import pandas as pd

    try:
        frame = parse_frame(path, schema)
    except pd.errors.EmptyDataError as error:
        raise EmptyTable(path, schema) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error, schema) from error
    check_columns(path, frame.columns, schema)
    if schema.required and frame.empty:
        raise without_rows(path, schema)
    columns = {name: as_numbers(frame[name]) for name in schema.numbers}
    if "label" in schema.required:
        columns["label"] = checked_labels(frame.label, path)
    return frame.assign(**columns)


def parse_frame(path: Path, schema: Schema) -> "pd.DataFrame":
    """`pandas.read_csv`, cells unescaped; where rows are longer than the header, see `read_rows`."""
    import pandas as pd

    types = dict.fromkeys(schema.text, str)
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # index_col: else the first column of rows that end in a comma would be taken for their names
        read = partial(pd.read_csv, file, dtype=types, keep_default_na=False, index_col=False)
        read = partial(read, low_memory=False, encoding="utf-8-sig", encoding_errors="surrogateescape")
        try:
            frame = read()
        except (pd.errors.ParserWarning, pd.errors.ParserError):
            (_, header), *_ = read_rows(path, schema)  # says so if the cells too many are not empty
            file.seek(0)
            frame = read(usecols=[name for name in dict.fromkeys(header) if name])
        file.seek(0)
        if not any(b"'" in block for block in iter(lambda: file.read(2**20), b"")):
            return frame  # nothing is escaped; to look at each cell takes longer than to read the table
    texts = frame.select_dtypes(exclude="number")
    return frame.assign(**{name: texts[name].map(unescape_cell) for name in texts})


def as_numbers(cells: "pd.Series") -> "pd.Series":
    """The cells of a column as numbers, NaN where they are none, as true and false are."""
    import pandas as pd

    is_number = pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells)
    return pd.to_numeric(cells if is_number else cells.astype(str), errors="coerce")


def checked_labels(labels: "pd.Series", path: Path) -> "pd.Series":
    """The labels of a table as whole numbers; UserError if one is something else than 0 or 1."""
    import pandas as pd

    numbers = as_numbers(labels)
    wrong = sorted(set(labels[~numbers.isin(LABELS.values())].astype(str)))
    if wrong:
        shown = str if pd.api.types.is_numeric_dtype(labels) else repr
        listed = ", ".join(shown(label[:40]) for label in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise UserError(f"{path} has labels [{listed}], expected 0 (fake) and 1 (real).")
    return numbers.astype("int64")
