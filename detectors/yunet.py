"""YuNet by OpenCV's FaceDetectorYN: a few milliseconds a frame on a CPU core, with a 230 kB download."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detectors.download import WeightsError, WeightsFile, fetch

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


class YuNet:
    """FaceDetectorYN on the CPU; arguments and results as in `detectors`."""

    batch_size = 8
    is_shared = False

    def __init__(self, weights: Path | None = None):
        path = weights or fetch(WEIGHTS)
        cv2.utils.logging.setLogLevel(
            cv2.utils.logging.LOG_LEVEL_ERROR
        )  # OpenCV 5 warns at every start that it ignores the default target
        if not path.is_file():
            raise WeightsError(f"{path} does not exist or is no file; expected {WEIGHTS.name}.")
        try:
            self.net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), MIN_SCORE, NMS_IOU, TOP_K)
        except cv2.error as error:
            raise WeightsError(f"{path} holds no YuNet network that OpenCV can read; expected {WEIGHTS.name}.") from error

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        faces = []
        for frame in frames:
            self.net.setInputSize((frame.shape[1], frame.shape[0]))
            found = self.net.detect(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1]  # (n, 15): x y w h, landmarks, score
            found = np.empty((0, 15), np.float32) if found is None else found
            order = np.argsort(-found[:, 14], kind="stable")
            corners = np.hstack([found[:, :2], found[:, :2] + found[:, 2:4], found[:, 14:]])
            faces.append(corners[order])
        return faces
