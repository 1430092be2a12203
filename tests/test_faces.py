"""Tracks, crop windows and crops against the reference figures."""

import json

import numpy as np
import pytest

from tests.conftest import GOLDEN
from utils.chunking import find_tracks
from utils.faces import crop_face, crop_windows, track_faces
from utils.media import VideoError

SEQUENCES = json.loads((GOLDEN / "tracks.json").read_text())


def boxes_of(name: str) -> list[np.ndarray]:
    return [np.array(boxes, np.float64).reshape(-1, 4) for boxes in SEQUENCES[name]["detections"]]


@pytest.mark.parametrize("name", SEQUENCES)
def test_tracks_and_windows_equal_the_reference(name):
    expected = SEQUENCES[name]
    tracks = track_faces(boxes_of(name))
    assert [(t.first_frame, t.last_frame) for t in tracks] == [(t["first_frame"], t["last_frame"]) for t in expected["tracks"]]
    for track, reference in zip(tracks, expected["tracks"], strict=True):
        np.testing.assert_allclose(track.boxes, reference["boxes"], atol=1e-6)
    for track, windows in zip(tracks, expected.get("crop_windows_top_bottom_left_right", []), strict=False):
        np.testing.assert_array_equal(crop_windows(track.boxes, edge="constant"), windows)


def test_crops_equal_the_reference():
    reference = np.load(GOLDEN / "crop_pixels.npz")
    track = track_faces(boxes_of("detections_off_frame_edge"))[0]
    windows = crop_windows(track.boxes, edge="constant")
    for number, crop in zip(reference["frame_index"], reference["crops"], strict=True):
        ours = crop_face(reference["frame"], windows[number])
        assert np.abs(ours.astype(int) - crop).max() <= 1


def test_windows_do_not_jump_at_the_ends_of_a_track():
    boxes = np.array([300.0, 100.0, 400.0, 220.0]) - 2 * np.arange(60)[:, None]  # drifts to the upper left
    top = {edge: crop_windows(boxes, edge)[:, 0] for edge in ("nearest", "constant")}
    assert np.abs(np.diff(top["nearest"])).max() <= 2
    assert top["constant"][0] <= top["nearest"][0] - 12  # the authors' zeros pull the first windows along
    np.testing.assert_array_equal(top["constant"][6:-6], top["nearest"][6:-6])


def test_window_far_outside_is_grey():
    frame = np.zeros((50, 50, 3), np.uint8)
    assert (crop_face(frame, (-90, -20, -90, -20)) == 110).all()


def test_tracks_end_at_shots():
    faces = [np.array([[100.0, 100.0, 200.0, 200.0]])] * 130
    assert [(t.first_frame, t.last_frame) for t in find_tracks(faces, [0])] == [(0, 129)]
    assert [(t.first_frame, t.last_frame) for t in find_tracks(faces, [0, 60])] == [(60, 129), (0, 59)]  # longest first


@pytest.mark.parametrize(
    ("faces", "stage", "words"),
    [
        ([np.ones((1, 4))] * 50, "length", "too short: 1.67 s"),
        ([np.empty((0, 4))] * 80, "face", "no face found in 80 frames"),
        ([np.array([[0.0, 0.0, 40.0, 40.0]])] * 80, "track", "80 of 80 frames, but none"),
    ],
)
def test_no_track_has_a_reason(faces, stage, words):
    with pytest.raises(VideoError, match=words) as caught:
        find_tracks(faces, [0])
    assert caught.value.stage == stage
