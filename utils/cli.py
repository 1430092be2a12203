"""What the scripts share on the command line: errors on one line, argument types, the choice of a device."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# upper bounds of flags: beyond them a number is a slip of the finger
MAX_PROCESSES = 1024
MAX_IMG_DIM = 1024  # pixels; crops have 224
MAX_FINAL_DIM = 65_536
MAX_SEED = 2**32 - 1


def legible(text: str) -> str:
    """A text, such as a file's name, as it can be shown: bytes that are no text become a replacement
    character; control characters, line breaks among them, are spelt.
    """
    text = text.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(Exception):
    """A mistake that the user can mend. The text is one line, whatever names it holds: what, where, got,
    expected, what to do.
    """

    def __init__(self, text: str):
        super().__init__(legible(text))


STOPPED = "stopped; the same command goes on from here"


def stop_quietly() -> None:
    """Let Ctrl-C end this process at once with one line, until `run` takes over: for the seconds in which
    libraries are imported, when there is nothing to clean up.
    """

    def stop(*_) -> None:
        os.write(2, f"\n{STOPPED}\n".encode())
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody wants it ignored
        signal.signal(signal.SIGINT, stop)


def run(main: Callable[[], int | None], hint: str = "") -> None:
    """Call a script's `main` and exit: its status (None is 0), 2 for a UserError or a file that fails, 130
    for Ctrl-C.

    Args:
        hint: how the same command goes on after Ctrl-C, if that takes more than to give it again.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        if callable(signal.getsignal(signal.SIGINT)):  # else it is ignored
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = main() or 0
    except (UserError, OSError) as error:
        words = system_words(error) if isinstance(error, OSError) and error.strerror else str(error)
        print(f"{Path(sys.argv[0]).name}: {legible(words)}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"\n{STOPPED}{hint}", file=sys.stderr)
        status = 130
    sys.exit(status)


def system_words(error: OSError) -> str:
    """What the system says of a file, without its number."""
    name, words = error.filename2 or error.filename, error.strerror or str(error)
    return f"{os.fsdecode(name)}: {words}" if isinstance(name, (str, bytes, os.PathLike)) else words


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of a script's docstring, and ends each flag's help with its default where that says
    something.
    """

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        says_nothing = default is None or default is False or default is argparse.SUPPRESS
        if says_nothing or "(default:" in (text or "") or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)"


def number(
    kind: type, low: float, high: float = float("inf"), open_low: bool = False
) -> Callable[[str], float]:
    """An argparse type: a finite int or float between `low` (excluded if `open_low`) and `high`."""
    span = f"{'above' if open_low else 'at least'} {low}" + (
        f" and at most {high}" if high != float("inf") else ""
    )

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or value == float("inf") or (open_low and value == low):
            raise argparse.ArgumentTypeError(
                f"got {text!r}, expected {'an integer' if kind is int else 'a number'} {span}"
            )
        return value

    return parse


def to_path(text: str) -> Path:
    """An argparse type: a path. The empty one, as of a variable that is not set, would be the current folder:
    an error.
    """
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a path; is a variable of the command line not set?"
        )
    return Path(text)


def parse_asked(
    parser: argparse.ArgumentParser, argv: list[str] | None, *names: str
) -> tuple[argparse.Namespace, dict]:
    """Parse a command line; give too those of the named flags that it has, with their values, defaults or
    not.
    """
    args = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names)))
    asked = {name: value for name in names if (value := vars(args)[name]) is not None}
    vars(args).update({name: parser.get_default(name) for name in names if name not in asked})
    return args, asked


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str, gpu: int = 0) -> "torch.device":
    """The torch device for --device auto|cpu|cuda and the index of the GPU to take; UserError if it is not
    there.
    """
    import torch  # here, so that scripts that only compute figures start at once

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and n_gpus == 0):
        return torch.device("cpu")
    if n_gpus == 0:
        raise UserError("--device cuda: PyTorch finds no GPU here; take --device cpu or mend the driver.")
    if gpu >= n_gpus:
        raise UserError(f"--gpu {gpu}: PyTorch finds {n_gpus} GPU(s), numbered from 0.")
    return torch.device("cuda", gpu)
