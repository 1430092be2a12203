"""CSV tables whose cells may hold any name: bytes that are not text, formulas."""

import csv
import io
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

from utils.cli import UserError
from utils.constants import LABELS
from utils.files import MAX_TABLE_BYTES, open_regular, replacing


def checked_labels(labels: "pd.Series", path: Path) -> "pd.Series":
    """The labels of a table as whole numbers; UserError if one is something else than 0 or 1."""
    import pandas as pd  # here, so that workers that read no table start at once

    numbers = pd.to_numeric(
        labels.astype(str), errors="coerce"
    )  # as text first: true and false are no labels
    wrong = sorted(set(labels[~numbers.isin(LABELS.values())].astype(str)))
    if wrong:
        shown = str if pd.api.types.is_numeric_dtype(labels) else repr
        listed = ", ".join(shown(label[:40]) for label in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise UserError(f"{path} has labels [{listed}], expected 0 (fake) and 1 (real).")
    return numbers.astype(np.int64)


FORMULA = re.compile(
    r"'*[=+\-@\t\r]"
)  # how a cell begins that a spreadsheet would compute, and one that is escaped


def escape_cell(cell: object) -> object:
    """The cell with a quote before it if it is a text that a spreadsheet would take for a formula (OWASP's
    list).
    """
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def unescape_cell(cell: object) -> object:
    """The inverse of `escape_cell`. Cells that it never makes, as other programs write them, stay as they
    are.
    """
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and FORMULA.match(cell) else cell


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file, texts escaped and lines ended by \\n; UserError if that fails."""
    with (
        replacing(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        # csv quotes what holds a half of its line end, so texts with \r too if it is this one (by itself from
        # Python 3.13 on)
        lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
        csv.writer(lines, lineterminator="\r\n").writerows(
            [header, *([escape_cell(cell) for cell in row] for row in rows)]
        )


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file of `write_table`, of an older version or of another program, a dict per row; none if
    there is no such file.

    A byte order mark and empty cells at the ends of rows, as spreadsheets leave them, do not count; cells
    that a row lacks are empty.

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
        raise UserError(
            f"{path} can't be read as CSV ({why}); mend it, or delete it: it is written again."
        ) from error
    return rows


def read_text(path: Path, at_most: int = MAX_TABLE_BYTES) -> io.TextIOWrapper:
    """A text in UTF-8 for reading, see `open_regular`, without its byte order mark; bytes that are no text
    are kept.
    """
    return io.TextIOWrapper(
        open_regular(path, at_most), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def write_frame(path: Path, frame: "pd.DataFrame") -> None:
    """`write_table` of a data frame; missing values are empty cells."""
    cells = frame.astype(object).where(frame.notna(), "")
    write_table(path, list(frame.columns), cells.itertuples(index=False))


def read_frame(path: Path, **options) -> "pd.DataFrame":
    """`pandas.read_csv` of a file of `write_table`, of an older version or of another program, see
    `read_table`.

    Raises:
        OSError, ValueError, UserError: it can't be read, or is no CSV.
    """
    import pandas as pd  # here, so that workers that read no table start at once

    # index_col: else the first column of rows that end in a comma would be taken for their names
    options |= {
        "index_col": False,
        "low_memory": False,
        "encoding": "utf-8-sig",
        "encoding_errors": "surrogateescape",
    }
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(file, **options)
        except (pd.errors.ParserWarning, pd.errors.ParserError):
            columns = list(
                dict.fromkeys(name for row in read_table(path) for name in row)
            )  # if the cells too many are empty
            file.seek(0)
            frame = pd.read_csv(file, usecols=columns, **options)
    texts = frame.select_dtypes(exclude="number")
    return frame.assign(**{name: texts[name].map(unescape_cell) for name in texts})
