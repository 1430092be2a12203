"""Three face detectors behind one interface.

    detector = build_detector("yunet")
    faces = detector.detect(frames)

`frames` is a sequence of (H, W, 3) uint8 RGB arrays of one size; the result has one (n, 5) float32 array per
frame: x1, y1, x2, y2 in pixels of that frame (they may lie outside it) and the score in 0..1, best first. A
detector does one call at a time: whoever calls it from several threads sees to that.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from detectors.download import WeightsError, cache_folder

__all__ = ["DETECTORS", "Detector", "FindsLandmarks", "WeightsError", "build_detector", "build_landmarks"]

DETECTORS = ("s3fd", "yunet", "libfacedetection")


class Detector(Protocol):
    batch_size: int  # frames per call of `detect` that keep the detector busy
    is_shared: bool  # whether one process should run it for all: it fills a device

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]: ...


@runtime_checkable
class FindsLandmarks(Protocol):
    def landmarks(self, picture: np.ndarray) -> np.ndarray | None:
        """Eyes, nose and corners of the mouth of the likeliest face of a picture, (H, W, 3) uint8 RGB: (5, 2)
        float32 x y in its pixels; None if there is no face.
        """
        ...


def build_detector(
    name: str, device: str = "cpu", weights: Path | None = None, half: bool = False
) -> Detector:
    """Build a detector ready to run.

    Args:
        name: one of `DETECTORS`.
        device: a torch device; only s3fd uses it.
        weights: a local weights file (s3fd: .pth, yunet: .onnx); None takes the cached file or downloads it.
        half: compute in half precision; only s3fd can.

    Raises:
        WeightsError: the weights are absent and can't be fetched, or are not this detector's.
    """
    if name == "s3fd":
        from detectors.s3fd import S3FD

        return S3FD(weights, device, half)
    if name == "yunet":
        from detectors.yunet import YuNet

        return YuNet(weights)
    if name == "libfacedetection":
        from detectors.libfacedetection import LibFaceDetection

        if weights is not None:
            raise WeightsError(
                f"--weights {weights} has no use: libfacedetection carries its weights inside."
            )
        return LibFaceDetection()
    raise ValueError(f"detector is {name!r}, expected one of {', '.join(DETECTORS)}")


def build_landmarks(detector: Detector) -> FindsLandmarks | None:
    """What finds eyes, nose and mouth in a crop: the detector if it can, else libfacedetection if it is
    installed, else YuNet if its weights are in the cache: nothing is downloaded for it. None without either.
    """
    if isinstance(detector, FindsLandmarks):
        return detector
    from detectors.libfacedetection import LibFaceLandmarks
    from detectors.yunet import WEIGHTS, YuNet

    with suppress(WeightsError):
        return LibFaceLandmarks()
    if (cache_folder() / WEIGHTS.name).is_file():
        with suppress(WeightsError):
            return YuNet()
    return None
