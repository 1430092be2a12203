"""Tracks, crop windows and crops against the reference figures."""

import json

import numpy as np
import pytest
from scipy.ndimage import median_filter

from preprocessing.faces import Track, Tracker, crop_face, crop_windows
from tests.conftest import GOLDEN

SEQUENCES = json.loads((GOLDEN / "tracks.json").read_text())


def track_faces(detections: list[np.ndarray]) -> list[Track]:
    """The faces of one shot, in order of their first detection."""
    tracker, tracks = Tracker(), []
    for frame, boxes in enumerate(detections):
        tracks += tracker.update(frame, boxes)
    tracks += tracker.end_shot(len(detections))
    return sorted(filter(tracker.is_face, tracks), key=lambda track: track.number)


def boxes_of(name: str) -> list[np.ndarray]:
    return [np.array(boxes, np.float64).reshape(-1, 4) for boxes in SEQUENCES[name]["detections"]]


@pytest.mark.parametrize("name", SEQUENCES)
def test_tracks_and_windows_equal_the_reference(name):
    expected = SEQUENCES[name]
    tracks = track_faces(boxes_of(name))
    assert [(t.first_frame, t.last_frame) for t in tracks] == [
        (t["first_frame"], t["last_frame"]) for t in expected["tracks"]
    ]
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


@pytest.mark.parametrize("edge", ["nearest", "constant"])
@pytest.mark.parametrize("n_frames", [1, 2, 6, 7, 13, 14, 100])
def test_windows_are_smoothed_by_a_median(n_frames, edge):
    centre, half = np.random.default_rng(n_frames).uniform((100, 20), (300, 90), (n_frames, 2)).T.round(1)
    boxes = np.stack([centre - half, centre - half, centre + half, centre + half], 1)
    smooth_centre, smooth_half = (
        median_filter(v, 13, mode=edge)
        for v in ((boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 2] - boxes[:, 0]) / 2)
    )
    pad = (smooth_half * 1.8).astype(int)
    bottom = (smooth_centre + pad + smooth_half * 1.8).astype(int) - pad
    right = (smooth_centre + pad + smooth_half * 1.4).astype(int) - pad
    np.testing.assert_array_equal(crop_windows(boxes, edge)[:, [1, 3]], np.stack([bottom, right], 1))


def test_windows_do_not_jump_at_the_ends_of_a_track():
    boxes = np.array([300.0, 100.0, 400.0, 220.0]) - 2 * np.arange(60)[:, None]  # drifts to the upper left
    top = {edge: crop_windows(boxes, edge)[:, 0] for edge in ("nearest", "constant")}
    assert np.abs(np.diff(top["nearest"])).max() <= 2
    assert top["constant"][0] <= top["nearest"][0] - 12  # the authors' zeros pull the first windows along
    np.testing.assert_array_equal(top["constant"][6:-6], top["nearest"][6:-6])


def test_window_far_outside_is_grey():
    frame = np.zeros((50, 50, 3), np.uint8)
    assert (crop_face(frame, (-90, -20, -90, -20)) == 110).all()


def test_windows_of_a_growing_track_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    boxes = np.array([100.0, 80.0, 190.0, 200.0]) + rng.normal(0, 6, (90, 4)).cumsum(0)
    track, windows = Track(0, 5, boxes[0].tolist()), []
    for i in [*range(1, 30), 45, *range(46, 90)]:  # a gap of 15 frames
        track.add(5 + i, boxes[i].tolist())
        windows += track.windows(len(windows), track.n_final_windows()).tolist()
        assert len(windows) == max(0, track.n_frames - 6)
    track.ended = True
    windows += track.windows(len(windows), track.n_final_windows()).tolist()
    np.testing.assert_array_equal(windows, crop_windows(track.boxes))


def test_detecting_every_nth_frame():
    boxes = np.array([100.0, 100.0, 200.0, 200.0]) + np.arange(103)[:, None]
    tracker = Tracker(detect_every=5)
    for i in range(103):
        assert tracker.update(i, boxes[i : i + 1] if i % 5 == 0 else None) == []
    (track,) = tracker.end_shot(103)
    assert tracker.is_face(track) and (track.first_frame, track.last_frame) == (0, 102)
    np.testing.assert_allclose(track.boxes[:101], boxes[:101])  # interpolated
    np.testing.assert_allclose(track.boxes[101:], boxes[[100, 100]])  # held where nobody looked
    assert tracker.live == []


def test_a_track_ends_after_40_frames_unseen():
    tracker, box = Tracker(), np.array([[10.0, 10.0, 90.0, 90.0]])
    tracker.update(0, box)
    assert all(tracker.update(i, np.empty((0, 4))) == [] for i in range(1, 40))
    assert len(tracker.update(40, np.empty((0, 4)))) == 1
    tracker.update(41, box)
    assert all(tracker.update(i, np.empty((0, 4))) == [] for i in range(42, 81))
    assert tracker.update(81, box) == [] and tracker.live[0].n_frames == 41


@pytest.mark.parametrize(("overlap", "n_tracks"), [(0.45, 2), (0.5, 2), (0.55, 1)])
def test_a_detection_joins_above_an_iou_of_one_half(overlap, n_tracks):
    shift = 100 * (1 - overlap) / (1 + overlap)  # two squares of 100 px beside each other with that IoU
    tracker = Tracker()
    tracker.update(0, np.array([[0.0, 0.0, 100.0, 100.0]]))
    tracker.update(1, np.array([[shift, 0.0, shift + 100.0, 100.0]]))
    assert len(tracker.live) == n_tracks


@pytest.mark.parametrize(
    "box", [(10.2, 10.2, 10.6, 10.5), (10, 10, 10, 10), (20, 20, 12, 12), (-0.4, 3, -0.1, 3.2)]
)
def test_a_box_under_a_pixel_has_a_crop(box):
    (window,) = crop_windows(np.array([box]))
    assert crop_face(np.full((40, 40, 3), 7, np.uint8), window).shape == (224, 224, 3)
