"""YuNet by onnxruntime: a few milliseconds a frame on one CPU core, with a 230 kB download.

A grid cell of `stride` pixels at each of three strides says whether it sees a face (cls), how well its box
fits (obj), where the box is (bbox: centre in strides from the cell's corner, log of the size in strides), and
where eyes, nose and mouth are (kps: in strides from the cell's corner).
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from detectors.download import WeightsError, WeightsFile, fetch
from utils.onnxfiles import NO_NETWORK

COMMIT = "0047ac24afb1a50a0c6105001c89d1b5b805dbf1"
WEIGHTS = WeightsFile(
    "yunet_s_640_640.onnx",
    (
        f"https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/{COMMIT}/onnx/yunet_s_640_640.onnx",
        f"https://cdn.jsdelivr.net/gh/ShiqiYu/libfacedetection.train@{COMMIT}/onnx/yunet_s_640_640.onnx",
    ),
    "sha256:8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    232_589,
)
MIN_SCORE = 0.6
NMS_IOU = 0.3
TOP_K = 750
STRIDES = (8, 16, 32)
OUTPUTS = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox") for stride in STRIDES]
LANDMARK_OUTPUTS = [f"{kind}_{stride}" for kind in ("cls", "obj", "kps") for stride in STRIDES]
# The file declares frames of 640x640, though nothing in the network depends on it. Its dimensions (ONNX's
# TensorShapeProto) get a name, of the same length, instead of the number: then onnxruntime takes any size.
DECLARED_SIZE = b"\x0a\x03\x08\x80\x05\x0a\x03\x08\x80\x05"  # dim { dim_value: 640 } dim { dim_value: 640 }
ANY_SIZE = b"\x0a\x03\x12\x01h\x0a\x03\x12\x01w"  # dim { dim_param: "h" } dim { dim_param: "w" }


@functools.lru_cache(maxsize=8)
def grid_cells(height: int, width: int) -> np.ndarray:
    """(n, 3) float32: column, row, stride of every cell of a frame whose sides are multiples of 32."""
    grids = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride].reshape(2, -1)
        grids.append(np.stack([columns, rows, np.full(len(rows), stride)], 1))
    return np.concatenate(grids).astype(np.float32)


def decode_outputs(cls: np.ndarray, obj: np.ndarray, bbox: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The network's outputs for one frame, (n,), (n,), (n, 4) for n cells, as faces: (m, 5) x1 y1 x2 y2
    score, best first.
    """
    scores = np.sqrt(cls.clip(0, 1) * obj.clip(0, 1))
    likely = scores > MIN_SCORE
    scores, bbox, (columns, rows, strides) = scores[likely], bbox[likely], cells[likely].T
    size = np.exp(bbox[:, 2:]) * strides[:, None]
    corner = (bbox[:, :2] + np.stack([columns, rows], 1)) * strides[:, None] - size / 2
    whole_px: Any = np.hstack([corner, size]).astype(int)  # as OpenCV suppresses its boxes
    kept: Any = cv2.dnn.NMSBoxes(whole_px, scores, MIN_SCORE, NMS_IOU, top_k=TOP_K)  # best first
    return np.hstack([corner, corner + size, scores[:, None]])[np.asarray(kept, np.int64)]


class YuNet:
    """YuNet on one thread of the CPU; arguments and results as in `detectors`."""

    batch_size = 8  # frames a call: one after the other through the network, faster than in one batch
    is_shared = False

    def __init__(self, weights: Path | None = None):
        path = weights or fetch(WEIGHTS)
        if not path.is_file():
            raise WeightsError(f"{path} does not exist or is no file; expected {WEIGHTS.name}.")
        # only errors; it warns that outputs have another size than declared
        onnxruntime.set_default_logger_severity(3)
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.run_options = onnxruntime.RunOptions()
        self.run_options.only_execute_path_to_fetches = True  # boxes or landmarks
        try:
            content = path.read_bytes().replace(DECLARED_SIZE, ANY_SIZE)
            self.net = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self.detect([np.zeros((64, 64, 3), np.uint8)])
        except OSError as error:
            raise WeightsError(
                f"{path} can't be read ({error.strerror}); expected {WEIGHTS.name}."
            ) from error
        except (*NO_NETWORK, ValueError) as error:
            raise WeightsError(
                f"{path} holds no YuNet network that onnxruntime can run; expected {WEIGHTS.name}."
            ) from error

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        faces = []
        for frame in frames:
            (cls, obj, bbox), cells = self._run(frame, OUTPUTS)
            faces.append(decode_outputs(cls[:, 0], obj[:, 0], bbox, cells))
        return faces

    def landmarks(self, picture: np.ndarray) -> np.ndarray | None:
        """As `FindsLandmarks.landmarks`."""
        (cls, obj, points), cells = self._run(picture, LANDMARK_OUTPUTS)
        scores = np.sqrt(cls[:, 0].clip(0, 1) * obj[:, 0].clip(0, 1))
        best = int(scores.argmax())
        if scores[best] <= MIN_SCORE:
            return None
        return (points[best].reshape(5, 2) + cells[best, :2]) * cells[best, 2]

    def _run(self, frame: np.ndarray, outputs: list[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Three kinds of outputs, (n, any) of n cells each, and the cells, see `grid_cells`."""
        height, width = frame.shape[:2]
        image = np.zeros((1, 3, height + -height % 32, width + -width % 32), np.float32)
        image[0, :, :height, :width] = frame.transpose(2, 0, 1)[::-1]  # blue first, 0..255
        found = self.net.run(outputs, {"input": image}, self.run_options)
        kinds = [np.concatenate(found[i : i + 3], 1)[0] for i in (0, 3, 6)]
        return kinds, grid_cells(*image.shape[2:])
