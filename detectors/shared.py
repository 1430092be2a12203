"""One detector that serves several processes: the one that drives a GPU runs it, workers that decode videos
feed it.

Where it lives, `handle = share(detector)`; in a worker, `SharedDetector(*handle)` has the same interface.
"""

import os
import threading
from collections.abc import Sequence
from multiprocessing.managers import BaseManager

import numpy as np

from detectors import Detector

Address = str | bytes | tuple[str, int] | None  # as `multiprocessing` has it


class _Manager(BaseManager):
    pass


class SharedDetector:
    """A detector that lives in another process of this machine; arguments and results as in `detectors`."""

    is_shared = True

    def __init__(self, address: Address, key: bytes, batch_size: int):
        self.batch_size = batch_size
        _Manager.register("detector")
        manager = _Manager(address=address, authkey=key)
        manager.connect()
        self._detector = manager.detector()  # type: ignore[attr-defined]  # made by `register`

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._detector.detect(np.stack(frames))


class _OneAtATime:
    """Lets one request in at a time; the frames of the others are here already when their turn comes."""

    def __init__(self, detector: Detector):
        self._detector = detector
        self._turn = threading.Lock()

    def detect(self, frames: np.ndarray) -> list[np.ndarray]:
        with self._turn:
            return self._detector.detect(list(frames))


def share(detector: Detector) -> tuple[Address, bytes, int]:
    """Serve a detector from a thread of this process. Returns the arguments of `SharedDetector`."""
    key = os.urandom(32)
    server_side = _OneAtATime(detector)

    class Server(BaseManager):
        pass

    Server.register("detector", callable=lambda: server_side, exposed=("detect",))
    server = Server(authkey=key).get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.address, key, detector.batch_size
