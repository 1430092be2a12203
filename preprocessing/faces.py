"""From detections to tracks, from tracks to crops (the authors' procedure, figures and deviations as in the
README).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from preprocessing.settings import MIN_DETECTIONS
from utils.constants import CROP_SIZE_PX

MAX_GAP_FRAMES = 40
MIN_IOU = 0.5
MIN_SIZE_PX = 50
MEDIAN_FRAMES = 13
CROP_SCALE = 0.40
FILL = 110  # grey of what lies outside the frame


class Track:
    """One face through one shot, from its first to its last detection, with interpolated boxes between."""

    def __init__(self, number: int, first_frame: int, box: Sequence[float]):
        self.number = number  # in order of the first detections
        self.first_frame = first_frame
        self.n_detections = 1
        self.ended = False
        self._boxes = [box]

    @property
    def boxes(self) -> np.ndarray:
        """(n, 4) float64 x1 y1 x2 y2 in pixels, for frames first_frame .. last_frame."""
        return np.array(self._boxes)

    @property
    def n_frames(self) -> int:
        return len(self._boxes)

    @property
    def last_frame(self) -> int:
        return self.first_frame + len(self._boxes) - 1

    @property
    def last_box(self) -> Sequence[float]:
        return self._boxes[-1]

    def add(self, frame: int, box: Sequence[float]) -> None:
        """Go on to a detection at a later frame."""
        missing = np.arange(self.last_frame + 1, frame)
        if len(missing):
            ends = (self.last_frame, frame)
            between = [np.interp(missing, ends, pair) for pair in zip(self.last_box, box, strict=True)]
            self._boxes += np.stack(between, 1).tolist()
        self._boxes.append(box)
        self.n_detections += 1

    def hold(self, n_frames: int) -> None:
        """Keep the last box for some more frames."""
        self._boxes += [self.last_box] * n_frames

    def n_final_windows(self) -> int:
        """For how many of the track's frames, from its first one on, nothing to come can change the crop
        window.
        """
        return self.n_frames if self.ended else max(0, self.n_frames - MEDIAN_FRAMES // 2)

    def windows(self, start: int, stop: int) -> np.ndarray:
        """Rows start .. stop-1 of `crop_windows` for the whole track, counted from its first frame."""
        begin = max(start - MEDIAN_FRAMES // 2, 0)
        boxes = np.array(self._boxes[begin : stop + MEDIAN_FRAMES // 2])
        return crop_windows(boxes)[start - begin : stop - begin]


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1 y1 x2 y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = width * height
    return area / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - area)


class Tracker:
    """Links detections into tracks, greedily in time: in each frame the older track chooses first.

    Args:
        detect_every: faces are looked for in every Nth frame, so that a detection counts for N.
        min_track: detections that a track needs.
    """

    def __init__(self, detect_every: int = 1, min_track: int = MIN_DETECTIONS):
        self.live: list[Track] = []  # in order of their first detection
        self._detect_every = detect_every
        self._min_track = min_track
        self._n_started = 0

    def update(self, frame: int, boxes: np.ndarray | None) -> list[Track]:
        """Take the detections of the next frame, (n, 4 or more) x1 y1 x2 y2 in pixels, or None if nobody
        looked at it.

        Returns the tracks that end here, since they were not seen for too long.
        """
        if boxes is not None:
            free = np.asarray(boxes, np.float64)[:, :4].tolist()
            for track in self.live:
                match = next((box for box in free if box_iou(box, track.last_box) > MIN_IOU), None)
                if match is not None:
                    free.remove(match)
                    track.add(frame, match)
            for box in free:
                self.live.append(Track(self._n_started, frame, box))
                self._n_started += 1
        return self._end([track for track in self.live if frame - track.last_frame >= MAX_GAP_FRAMES])

    def end_shot(self, stop: int) -> list[Track]:
        """End and return all tracks: frame `stop` belongs to another shot."""
        for track in self.live:
            n_unseen = stop - 1 - track.last_frame
            if n_unseen < self._detect_every:  # nobody looked at these
                track.hold(n_unseen)
        return self._end(self.live)

    def _end(self, tracks: list[Track]) -> list[Track]:
        for track in tracks:
            track.ended = True
        self.live = [track for track in self.live if not track.ended]
        return tracks

    def is_long_enough(self, track: Track) -> bool:
        return track.n_detections * self._detect_every >= self._min_track

    def is_face(self, track: Track) -> bool:
        """Whether a track was seen often enough and is more than 50 px wide or high in the mean."""
        x1, y1, x2, y2 = track.boxes.mean(0)
        return self.is_long_enough(track) and max(x2 - x1, y2 - y1) > MIN_SIZE_PX


def crop_windows(boxes: np.ndarray, edge: str = "nearest") -> np.ndarray:
    """Smooth a track's boxes and widen them to the windows that are cut out.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels.
        edge: "nearest" repeats the first and last value under the 13-frame median; "constant" pads with zeros
            as the authors do, which pulls the first and last 6 windows to the upper left.

    Returns:
        (n, 4) int: top, bottom, left, right, end-exclusive; they may lie outside the frame.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).T
    values = np.stack([np.maximum(x2 - x1, y2 - y1) / 2, (x1 + x2) / 2, (y1 + y2) / 2])
    margin = ((0, 0), (MEDIAN_FRAMES // 2, MEDIAN_FRAMES // 2))
    # DEVIATION: edge values repeated, so windows do not jump
    padded = np.pad(values, margin, mode="edge" if edge == "nearest" else "constant")
    neighbours = np.lib.stride_tricks.sliding_window_view(padded, MEDIAN_FRAMES, axis=1)  # (3, n, 13)
    half_size, x, y = np.sort(neighbours, axis=2)[:, :, MEDIAN_FRAMES // 2]
    pad = (half_size * (1 + 2 * CROP_SCALE)).astype(int)  # added before truncating: int() rounds negatives up
    windows = [
        y + pad - half_size,
        y + pad + half_size * (1 + 2 * CROP_SCALE),
        x + pad - half_size * (1 + CROP_SCALE),
        x + pad + half_size * (1 + CROP_SCALE),
    ]
    return np.stack([edge_px.astype(int) - pad for edge_px in windows], 1)


def crop_face(frame: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """Cut a window (top, bottom, left, right) out of an (H, W, 3) uint8 frame: (224, 224, 3), grey 110
    outside it.

    A window has at least one pixel: that of a box under a pixel, which is no face but is followed like one,
    may have none.
    """
    top, bottom, left, right = map(int, window)
    bottom, right = max(bottom, top + 1), max(right, left + 1)
    height, width = frame.shape[:2]
    inside = frame[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if top < 0 or left < 0 or bottom > height or right > width:
        patch = np.full((bottom - top, right - left, 3), FILL, np.uint8)
        y, x = max(-top, 0), max(-left, 0)
        patch[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        inside = patch
    return cv2.resize(inside, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=cv2.INTER_LINEAR)
