"""Reads a video to its end in a process of its own, so that a file that ends its reader ends nothing else.

    python -m utils.probe VIDEO    (localize.py does, before it judges)

The exit status is 0 whatever the file holds, unless the reader dies of it.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from utils.containers import VideoError
from utils.media import open_source
from utils.timing import MAX_STALL_S, killed_if_stalled

COMMAND = (sys.executable, "-m", "utils.probe")


def cause_of_death(exit_code: int) -> tuple[str, str]:
    """The stage and the reason of a failure, from the exit status of the process that died of it (negative:
    the signal).

    Stages: `time`, by `killed_if_stalled`; `killed` from outside, by the system where memory runs out;
    `crash`, by the video itself.
    """
    if exit_code == -getattr(signal, "SIGALRM", 0):
        return "time", f"no new picture for {MAX_STALL_S // 60} minutes"
    how = signal.strsignal(-exit_code) if exit_code < 0 else None
    is_killed = exit_code == -getattr(signal, "SIGKILL", 0)
    return "killed" if is_killed else "crash", how or f"status {exit_code}"


def probe(path: Path) -> None:
    """Have a video read to its end by another process.

    Raises:
        VideoError: that one died of it (stage `crash`), came to no end (`time`) or was killed by something
            else (`killed`).
    """
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([*COMMAND, os.path.abspath(path)], cwd=root, check=False, capture_output=True)
    if done.returncode < 0:
        stage, how = cause_of_death(done.returncode)
        words = {
            "killed": "the process that reads it was killed; out of memory?",
            "crash": f"the process that reads it dies of it ({how})",
        }
        raise VideoError(stage, words.get(stage, how))


if __name__ == "__main__":
    with (
        contextlib.suppress(VideoError, OSError),
        killed_if_stalled(),
        open_source(Path(sys.argv[1])) as source,
    ):
        for _ in source.frames():
            pass
