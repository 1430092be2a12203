"""JSON written whole, and read from anywhere: nothing in it takes more than its bytes."""

import json
import math
import re
from pathlib import Path
from typing import Any

from utils.cli import UserError
from utils.files import MAX_TABLE_BYTES, read_bytes, replacing

MAX_DIGITS = 20  # of a whole number in JSON
HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")  # in JSON; two of them may be one character
HUGE = 1e300  # no number of seconds, and no score


def load_json(path: Path, at_most: int = MAX_TABLE_BYTES) -> Any:
    """What a JSON file holds, see `open_regular` and `parse_json`; OSError and ValueError as these."""
    return parse_json(read_bytes(path, at_most))


def whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        limit = f"expected finite numbers of at most {MAX_DIGITS}"
        raise ValueError(f"a number of {len(digits)} digits, {limit}")
    return int(digits)


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8, perhaps with a byte order mark.

    Raises:
        ValueError: no JSON, or such as could not be used or written again: nested too deeply, a whole number
            of more than `MAX_DIGITS` digits, half a character.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_int=whole_number)
        if HALF_CHARACTER.search(data):
            # as names that are not text are written
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds half a character, {error.object[error.start]!a}") from error
    return value


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


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file; UserError if it can't be read."""
    try:
        return load_json(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path} can't be read as JSON ({why}); expected {expected}.") from error


def checked_spans(spans: object, n: int, where: str) -> list[list[float]]:
    """Spans out of a file: lists of n finite numbers, the last two begin <= end; UserError for others."""
    expected = "[score, begin_s, end_s]" if n == 3 else "[begin_s, end_s]"
    if not isinstance(spans, list):
        raise UserError(f"{where} is {str(spans)[:80]}, expected a list of {expected}.")
    for span in spans:
        if not (is_numbers(span, n) and span[-2] <= span[-1]):
            wanted = f"finite numbers {expected} with begin_s <= end_s"
            raise UserError(f"{where} has {str(span)[:80]}, expected {wanted}.")
    return spans


def cell_spans(cell: str, where: str) -> list[list[float]] | None:
    """The spans [begin_s, end_s] of a table's cell, None of an empty one; UserError for anything else."""
    if not cell:
        return None
    try:
        spans = parse_json(cell.encode(errors="surrogateescape"))
    except ValueError as error:
        raise UserError(f"{where} has fake_periods {cell[:80]!r}, expected JSON.") from error
    return checked_spans(spans, 2, where)


def is_numbers(value: object, n: int) -> bool:
    """Whether it is a list of n numbers that can be reckoned with."""
    if not isinstance(value, list) or len(value) != n:
        return False
    return all(type(x) in (int, float) and abs(x) < HUGE for x in value)
