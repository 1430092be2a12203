"""From detections to tracks, from tracks to crops (the authors' procedure, figures and deviations as in the README)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import median_filter

MAX_GAP_FRAMES = 40
MIN_IOU = 0.5
MIN_DETECTIONS = 51
MIN_SIZE_PX = 50
MEDIAN_FRAMES = 13
CROP_SCALE = 0.40
CROP_SIZE_PX = 224
FILL = 110  # grey of what lies outside the frame


@dataclass
class Track:
    """One face through one shot: `boxes` is (n, 4) float64 x1 y1 x2 y2 in pixels, for frames first_frame .. last_frame."""

    first_frame: int
    boxes: np.ndarray

    @property
    def n_frames(self) -> int:
        return len(self.boxes)

    @property
    def last_frame(self) -> int:
        return self.first_frame + len(self.boxes) - 1


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1 y1 x2 y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = width * height
    return area / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - area)


def track_faces(detections: Sequence[np.ndarray], first_frame: int = 0) -> list[Track]:
    """Link the detections of one shot into tracks, greedily in time.

    Args:
        detections: per frame (n, 4 or more): x1 y1 x2 y2 in pixels.
        first_frame: the number of the shot's first frame.

    Returns:
        The tracks with more than 50 detections and a mean side of more than 50 px, missing boxes interpolated, in
        order of their first detection.
    """
    free = [[tuple(map(float, box[:4])) for box in boxes] for boxes in detections]
    tracks = []
    for start in range(len(free)):
        while free[start]:
            frames, boxes = [start], [free[start].pop(0)]
            for t in range(start + 1, len(free)):
                if t - frames[-1] > MAX_GAP_FRAMES:
                    break
                match = next((box for box in free[t] if iou(box, boxes[-1]) > MIN_IOU), None)
                if match is not None:
                    free[t].remove(match)
                    frames.append(t)
                    boxes.append(match)
            if len(frames) < MIN_DETECTIONS:
                continue
            known = np.array(boxes)
            every = np.arange(frames[0], frames[-1] + 1)
            filled = np.stack([np.interp(every, frames, known[:, i]) for i in range(4)], 1)
            mean_width, mean_height = (filled[:, 2:] - filled[:, :2]).mean(0)
            if max(mean_width, mean_height) > MIN_SIZE_PX:
                tracks.append(Track(first_frame + frames[0], filled))
    return tracks


def crop_windows(boxes: np.ndarray, edge: str = "nearest") -> np.ndarray:
    """Smooth a track's boxes and widen them to the windows that are cut out.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels.
        edge: "nearest" repeats the first and last value under the 13-frame median; "constant" pads with zeros as the
            authors do, which pulls the first and last 6 windows to the upper left.

    Returns:
        (n, 4) int: top, bottom, left, right, end-exclusive; they may lie outside the frame.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).T
    half_size, x, y = (
        median_filter(values, MEDIAN_FRAMES, mode=edge)  # DEVIATION: edge values repeated, so windows do not jump
        for values in (np.maximum(x2 - x1, y2 - y1) / 2, (x1 + x2) / 2, (y1 + y2) / 2)
    )
    pad = (half_size * (1 + 2 * CROP_SCALE)).astype(int)  # added before truncating: int() rounds negatives up
    windows = [
        y + pad - half_size,
        y + pad + half_size * (1 + 2 * CROP_SCALE),
        x + pad - half_size * (1 + CROP_SCALE),
        x + pad + half_size * (1 + CROP_SCALE),
    ]
    return np.stack([edge_px.astype(int) - pad for edge_px in windows], 1)


def crop_face(frame: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """Cut a window (top, bottom, left, right) out of an (H, W, 3) uint8 frame: (224, 224, 3), grey 110 outside it."""
    top, bottom, left, right = map(int, window)
    height, width = frame.shape[:2]
    inside = frame[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if top < 0 or left < 0 or bottom > height or right > width:
        patch = np.full((bottom - top, right - left, 3), FILL, np.uint8)
        y, x = max(-top, 0), max(-left, 0)
        patch[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        inside = patch
    return cv2.resize(inside, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=cv2.INTER_LINEAR)
