"""Writing files whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
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
