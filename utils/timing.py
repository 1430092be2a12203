"""Where the time goes, and when it is too much."""

import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

MAX_STALL_S = 1800  # without a new picture of a video, whatever the detector; then nothing will come of it
MAX_PICTURE_S = 60  # for each picture in the mean, beyond that half hour


class Stopwatch:
    """Sums seconds of wall time by name in `seconds`: what passed since the last lap belongs to the lap that
    ends now.
    """

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = self._start = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._start

    def is_too_slow(self, n_pictures: int) -> bool:
        """Whether a video of which so many pictures are read took absurdly long."""
        return self.elapsed_s > MAX_STALL_S + MAX_PICTURE_S * n_pictures


@contextmanager
def killed_if_stalled(seconds: float = MAX_STALL_S) -> Iterator[None]:
    """End this process, whatever it is stuck in, by SIGALRM if `go_on` is not called for so long. Not on
    Windows.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def go_on(seconds: float = MAX_STALL_S) -> None:
    """Wind the clock of `killed_if_stalled` up again, if it runs."""
    if hasattr(signal, "setitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        signal.setitimer(signal.ITIMER_REAL, seconds)
