"""How well a face is seen: its size, whether it is turned away, how sharp and how bright it is."""

import math

import cv2
import numpy as np

from detectors import FindsLandmarks
from preprocessing.chunking import ChunkWriter
from utils.chunkfiles import decode_frame
from utils.constants import FPS
from verdicts.schema import FaceFigures
from verdicts.verdict import TrackScores

SIDE_PX = 112  # at which crops are looked at, so that figures do not depend on the video's size
FACE_PART = np.s_[10:78, 20:92]  # rows and columns of the face within that
EVERY_FRAMES = FPS // 2
MAX_LOOKS = 60  # at a track; of a longer one evenly spread
# Distance of the eyes over that of eyes and mouth, of a face that looks into the camera: real clips have 0.9
# to 1.1, generated faces 1.03 to 1.1.
FRONTAL = 1.05


def measure_face(
    writer: ChunkWriter, track: TrackScores, finder: FindsLandmarks | None
) -> FaceFigures | None:
    """The medians of a track's face over frames of its judged chunks; None where none was judged.

    Args:
        writer: has the track's crops.
        finder: of landmarks; without one it is not known whether the face is turned.
    """
    frames = looked_at(track)
    crops = [crop for i in frames if (crop := decode_frame(writer.jpeg(i))) is not None]
    if not crops:
        return None
    sides = (track.boxes[frames][:, 2:] - track.boxes[frames][:, :2]).max(1)
    sharpness, brightness, contrast = np.median([light_of(crop) for crop in crops], axis=0).tolist()
    return {
        "size_px": round(float(np.median(sides)), 1),
        "turned": median_turn(crops, finder),
        "sharpness": round(sharpness, 1),
        "brightness": round(brightness, 1),
        "contrast": round(contrast, 1),
    }


def looked_at(track: TrackScores) -> list[int]:
    """Which frames of a track, counted from its first one, are looked at: of judged chunks alone."""
    is_judged = np.zeros(len(track.boxes), bool)
    for start in np.rint(track.start_s * FPS).astype(int) - track.first_frame:
        is_judged[start : start + track.length.n_frames] = True
    frames = np.flatnonzero(is_judged)[::EVERY_FRAMES]
    if len(frames) > MAX_LOOKS:
        frames = frames[np.linspace(0, len(frames) - 1, MAX_LOOKS).astype(int)]
    return frames.tolist()


def light_of(crop: np.ndarray) -> tuple[float, float, float]:
    """Sharpness (variance of the Laplacian), mean and standard deviation of a face's grey levels, 0..255, of
    a crop (H, W, 3) uint8 BGR.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    face = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)[FACE_PART]
    return float(cv2.Laplacian(face, cv2.CV_64F).var()), float(face.mean()), float(face.std())


def median_turn(crops: list[np.ndarray], finder: FindsLandmarks | None) -> float | None:
    """By how many degrees a face is turned aside; None if its landmarks are not to be had."""
    if finder is None:
        return None
    found = [points for crop in crops if (points := finder.landmarks(crop[:, :, ::-1])) is not None]
    return round(float(np.median([turn_of(points) for points in found])), 1) if found else None


def turn_of(points: np.ndarray) -> float:
    """By about how many degrees, 0..90, a face is turned aside: of a face that turns the eyes come closer to
    each other, but not to the mouth.

    Args:
        points: (5, 2) both eyes, the nose, both corners of the mouth, in pixels.
    """
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    height = float(np.linalg.norm(mouth - eyes))
    if not height:
        return 0.0
    down = (mouth - eyes) / height
    across = np.array([down[1], -down[0]])  # a head that is tilted is not turned
    width = abs(float((points[1] - points[0]) @ across))
    return math.degrees(math.acos(min(1.0, width / height / FRONTAL)))
