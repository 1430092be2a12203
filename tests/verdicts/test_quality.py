"""How well a face is seen, on faces whose figures are known."""

import cv2
import numpy as np
import pytest

from tests.clips import face_pictures
from verdicts.quality import MAX_LOOKS, light_of, looked_at, measure_face, turn_of
from verdicts.verdict import TrackScores

FACE = np.float64([[70, 80], [150, 80], [110, 120], [80, 156], [140, 156]])  # looks into the camera


def turned(degrees: float, tilt: float = 0.0) -> np.ndarray:
    """The landmarks of a flat face, turned aside and tilted."""
    points = (FACE - FACE.mean(0)) * [np.cos(np.radians(degrees)), 1]
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return points @ np.array([[c, s], [-s, c]])


@pytest.mark.parametrize("tilt", [0, 30, -75])
def test_how_far_a_face_is_turned(tilt):
    for degrees in (0, 20, 45, 60, 90):
        assert turn_of(turned(degrees, tilt)) == pytest.approx(degrees, abs=3)
    assert turn_of(np.zeros((5, 2))) == 0


def track(start_s=(0.0, 1.0), n_frames=75, first_frame=0) -> TrackScores:
    boxes = np.tile([10.0, 20.0, 70.0, 110.0], (n_frames, 1))
    n = len(start_s)
    return TrackScores(0, first_frame, boxes, np.array(start_s), np.ones((n, 3)), np.ones(n, bool))


def test_only_judged_frames_are_looked_at():
    assert looked_at(track()) == [0, 15, 30, 45]
    assert looked_at(track((3.0,), first_frame=60)) == [30, 45]  # the track begins at 2 s
    assert looked_at(track(())) == []
    many = looked_at(track(np.arange(0, 100, 0.2), 3100))
    assert len(many) == MAX_LOOKS and many[0] == 0 and many[-1] > 2900


class Writer:
    """The crops of a track."""

    def __init__(self, picture: np.ndarray):
        self._jpeg = cv2.imencode(".jpg", picture)[1].tobytes()

    def jpeg(self, i: int) -> bytes:
        return self._jpeg


class Finder:
    """A detector that finds the same landmarks in every picture."""

    def landmarks(self, picture):
        assert picture.shape == (224, 224, 3)
        return turned(60)


def test_the_figures_of_a_track():
    grey = np.full((224, 224, 3), 90, np.uint8)
    found = measure_face(Writer(grey), track(), None)
    assert found == {"size_px": 90.0, "turned": None, "sharpness": 0.0, "brightness": 90.0, "contrast": 0.0}
    assert measure_face(Writer(grey), track(), Finder())["turned"] == pytest.approx(60, abs=3)
    assert measure_face(Writer(grey), track(()), Finder()) is None


def test_blur_and_darkness_are_seen():
    crop = cv2.resize(face_pictures(1)[0], (224, 224))
    sharp, bright, contrast = light_of(crop)
    assert sharp > 30
    blurred = [light_of(cv2.GaussianBlur(crop, (0, 0), sigma))[0] for sigma in (1, 3, 6)]
    assert sharp > blurred[0] > blurred[1] > blurred[2] and blurred[2] < 30
    darker = light_of((crop * 0.1).astype(np.uint8))
    assert darker[1] == pytest.approx(bright * 0.1, abs=1) and darker[2] < contrast * 0.15
