"""Where a video is cut: PySceneDetect's ContentDetector, at half its cost."""

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from utils.constants import FPS


class ShotDetector(ContentDetector):
    """Finds the first frames of shots in pictures that come one by one."""

    def __init__(self):
        super().__init__()
        self._last_hsv: np.ndarray | None = None

    def cuts(self, number: int, picture: np.ndarray) -> list[int]:
        """Take the next picture, (H, W, 3) uint8 RGB, and its frame number.

        Returns:
            The frames that turn out to begin a shot: this one, or up to `event_buffer_length` earlier ones.
        """
        return [cut.frame_num for cut in self.process_frame(FrameTimecode(number, float(FPS)), picture)]

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: np.ndarray) -> float:
        """The mean difference of hue, saturation and value from the picture before, by one call and without
        copies.
        """
        last, self._last_hsv = self._last_hsv, cv2.cvtColor(frame_img, cv2.COLOR_RGB2HSV)
        return 0.0 if last is None else cv2.norm(self._last_hsv, last, cv2.NORM_L1) / last.size
