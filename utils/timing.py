"""Where the time goes."""

import time
from collections import defaultdict


class Stopwatch:
    """Sums seconds of wall time by name in `seconds`: what passed since the last lap belongs to the lap that ends now."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now
