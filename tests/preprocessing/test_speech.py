"""Which of several faces speaks, and which never moves: on generated heads, and by hand-made motion."""

import cv2
import numpy as np
import pytest

from demo.faces import CLOSED, Scene
from demo.speech import FPS as DEMO_FPS
from demo.speech import RATE_HZ, draw_speaker, speak
from preprocessing.chunking import find_faces, track_and_crop
from preprocessing.faces import Track
from preprocessing.jobs import outcome_of
from preprocessing.record import process_video
from preprocessing.settings import Settings
from preprocessing.speech import (
    FaceMotion,
    choose_speaker,
    faces_at_once,
    frame_loudness,
    speech_evidence,
    who_speaks,
)
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import FixedDetector
from utils.constants import SAMPLES_PER_FRAME
from utils.media import open_source
from utils.sound import Sound
from utils.timing import Stopwatch

SIZE, SECONDS = 144, 4.0


class Side(FixedDetector):
    """A face in each half of the frame, the right one named first; they tremble, as detectors' boxes do."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def detect(self, frames):
        found = []
        for frame in frames:
            height, width = frame.shape[:2]
            boxes = [
                [width * (0.5 * k + 0.11), height * 0.2, width * (0.5 * k + 0.39), height * 0.82, 1]
                for k in (1, 0)
            ]
            found.append(np.array(boxes) + np.append(self.rng.normal(0, 1, (2, 4)), [[0], [0]], 1))
        return found


def two_heads(path, seed: int, speaker: int, listener: str):
    """A clip of two heads that turn and blink; that of side `speaker` (0: left) says what is heard. The other
    one's mouth is shut ("silent"), smiles now and then ("smiles"), says something else ("talks"), or it is a
    photograph ("photo")."""
    rng = np.random.default_rng(seed)
    n = round(SECONDS * DEMO_FPS)
    scenes = [Scene(rng, SIZE, n) for _ in range(2)]
    voice = draw_speaker(rng)
    heard, other = (speak(rng, SECONDS, voice) for _ in range(2))
    pictures = []
    for i in range(n):
        heads = []
        for k, scene in enumerate(scenes):
            mouth = heard.mouth[i] if k == speaker else other.mouth[i]
            if k != speaker and listener in ("silent", "smiles"):
                smile = max(0.0, np.sin(i / 8)) if listener == "smiles" else 0.0
                mouth = np.array(CLOSED) + smile * np.array([0.05, 0.3, 0.0])
            is_photo = k != speaker and listener == "photo"
            heads.append(scene.frame(0) if is_photo else scene.frame(i, mouth))
        pictures.append(np.hstack(heads)[..., ::-1])
    return write_clip(path, pictures, sound=heard.samples[None].astype(np.float32), rate_hz=RATE_HZ)


@pytest.mark.parametrize(
    ("seed", "speaker", "listener"), [(0, 0, "silent"), (1, 1, "silent"), (2, 0, "talks"), (3, 1, "photo")]
)
def test_of_two_heads_the_one_that_speaks_is_kept(tmp_path, seed, speaker, listener):
    source = two_heads(tmp_path / "two.mp4", seed, speaker, listener)
    record, _ = process_video(source, tmp_path / "out", tmp_path / "work", Side(), Settings("x"))
    (track,) = record["tracks"]
    assert (np.mean(track["boxes"], 0)[[0, 2]].mean() > SIZE) == speaker
    (warning,) = record["warnings"]
    assert warning.startswith("2 faces at the same time from 0.0 s; the one that moves")
    assert ("with the sound" in warning) == (listener != "photo") and "still" not in track
    assert record["n_tracks_found"] == 2 and warning in outcome_of("complete", record).warnings


@pytest.mark.parametrize(
    ("seed", "speaker", "listener", "listener_speaks"),
    [
        (0, 0, "silent", False),
        (1, 1, "silent", False),
        (2, 0, "smiles", False),
        (3, 1, "smiles", False),
        (4, 1, "photo", False),
        (5, 0, "talks", True),  # as a face does whose lips were forged
    ],
)
def test_who_of_two_heads_speaks(tmp_path, seed, speaker, listener, listener_speaks):
    clip = two_heads(tmp_path / "two.mp4", seed, speaker, listener)
    clock, settings = Stopwatch(), Settings("x", tracks="all")
    with open_source(clip, tmp_path, clock) as source:
        found = track_and_crop(find_faces(source, Side(), settings, clock), tmp_path / "out", settings, clock)
        tracks, motions = [w.track for w in found.tracks], [w.motion for w in found.tracks]
        speaking = who_speaks(tracks, motions, source.sound)
    is_speaker = [(track.boxes[:, [0, 2]].mean() > SIZE) == speaker for track in tracks]
    assert sorted(is_speaker) == [False, True]
    assert [one.speaks for one in speaking] == [is_one or listener_speaks for is_one in is_speaker]
    assert max(speaking, key=lambda one: one.evidence) == speaking[is_speaker.index(True)]


def test_a_photograph_is_marked_and_left_out_beside_others(tmp_path):
    source = two_heads(tmp_path / "two.mp4", 4, 1, "photo")
    record, _ = process_video(
        source, tmp_path / "out", tmp_path / "work", Side(), Settings("x", tracks="all")
    )
    is_left = [np.mean(track["boxes"], 0)[0] < SIZE for track in record["tracks"]]
    assert [track.get("still", False) for track in record["tracks"]] == is_left and sum(is_left) == 1
    prefix = f"{is_left.index(True):02d}_"
    assert all(chunk["chunk"].startswith(prefix) for chunk in record["still"]) and len(record["still"]) == 4
    assert (
        not any(chunk["chunk"].startswith(prefix) for chunk in record["chunks"])
        and len(record["chunks"]) == 4
    )
    assert sorted(p.name for p in (tmp_path / "out").glob("*_*[0-9]")) == [
        chunk["chunk"] for chunk in record["chunks"]
    ]
    warnings = outcome_of("complete", record).warnings
    assert "2 faces at the same time from 0.0 s; all have the same sound" in warnings
    assert "4 chunks of a face that never moves left out, the first at 0.00 s" in warnings


def test_alone_even_a_photograph_is_kept(tmp_path, fixed_detector):
    source = write_clip(tmp_path / "a.mp4", face_pictures(1) * 60, sound=tone(2.4))
    record, _ = process_video(source, tmp_path / "out", tmp_path / "work", fixed_detector, Settings("x"))
    assert record["tracks"][0]["still"] and len(record["chunks"]) == 2 and record["warnings"] == []


def shaken(picture: np.ndarray, i: int) -> np.ndarray:
    """The picture with noise, shifted by up to a pixel and in changing light, as a photograph is filmed."""
    rng = np.random.default_rng(i)
    shift = np.array([[1, 0, rng.uniform(-0.7, 0.7)], [0, 1, rng.uniform(-0.7, 0.7)]])
    moved = cv2.warpAffine(picture, shift, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    return np.clip(moved * rng.uniform(0.9, 1.1) + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def test_what_counts_as_never_moving():
    faces = face_pictures(90, 224)
    still, speaks, short = FaceMotion(), FaceMotion(), FaceMotion()
    for i, face in enumerate(faces):
        still.add(shaken(faces[0], i))
        speaks.add(shaken(face, i))
    short.add(faces[0])
    assert still.is_still and not speaks.is_still
    assert not short.is_still  # too short to say
    assert speaks.mouth.shape == (90,) and speaks.mouth.mean() > 2 * still.mouth.mean()


def test_evidence_is_the_correlation_at_the_best_lag():
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0, 1, 60), 5)
    for lag in (-4, 0, 4):
        assert speech_evidence([np.roll(loud, lag)], loud)[0] > 0.95
    far, against = speech_evidence([np.roll(loud, 40), 1 - loud], loud)
    assert far < 0.4 and against < 0.4
    assert speech_evidence([np.zeros(300)], loud) == speech_evidence([loud], np.full(300, 7.0)) == [0]
    assert speech_evidence([loud, loud / 100], loud) == pytest.approx(
        [1, 0.1]
    )  # what hardly moves hardly speaks


class Motion(FaceMotion):
    def __init__(self, mouth: np.ndarray, is_still: bool = False):
        super().__init__()
        self._mouth, self._is_still = list(mouth), is_still

    @property
    def is_still(self):
        return self._is_still


def track(number: int, first: int, n: int, side: float = 100.0) -> Track:
    made = Track(number, first, [0.0, 0.0, side, side])
    made.hold(n - 1)
    return made


class Given(Sound):
    """Sound of one loudness per frame."""

    def __init__(self, loud: np.ndarray):
        self.samples = np.repeat(loud, SAMPLES_PER_FRAME).astype(np.int16)

    def read(self, start, n_samples):
        return self.samples[start : start + n_samples], 0


def test_the_choice_among_tracks():
    rng = np.random.default_rng(1)
    loud = np.repeat(rng.uniform(0, 9000, 120), 5)  # 20 s
    sound, noise = Given(loud), np.repeat(rng.uniform(0, 9000, 120), 5)
    np.testing.assert_allclose(frame_loudness(sound, 7, 100), loud[7:107].astype(int), atol=1)

    def choose(*given):
        tracks = [track(i, first, n, side) for i, (first, n, side, _) in enumerate(given)]
        return choose_speaker(tracks, [motion for *_, motion in given], sound)

    def says(first, n):
        return Motion(loud[first : first + n])

    def shut(n):
        return Motion(noise[:n])

    assert choose((0, 300, 100, shut(300)), (300, 200, 100, says(300, 200))) == (
        0,
        "",
    )  # one after the other: the longest
    assert choose((0, 300, 100, shut(300)), (0, 299, 50, says(0, 299)))[0] == 1
    assert choose((0, 300, 100, says(0, 300)), (0, 299, 500, shut(299)))[0] == 0
    assert (
        choose((0, 600, 100, shut(600)), (200, 200, 100, says(200, 200)))[0] == 1
    )  # who speaks for a third of the time
    assert choose((0, 600, 100, shut(600)), (280, 200, 100, shut(200)))[0] == 0
    both = says(0, 300)
    best, why = choose((0, 300, 100, both), (0, 300, 120, both))
    assert best == 1 and "the larger one was kept" in why
    assert choose((0, 300, 100, both), (0, 300, 100, both))[0] == 0  # the one that was there first
    assert choose((0, 300, 100, both), (280, 300, 120, both)) == (0, "")  # 20 frames are no overlap
    photo = Motion(loud[:400], is_still=True)
    assert choose((0, 400, 300, photo), (0, 200, 60, shut(200))) == (1, "the one that moves was kept")
    assert choose((0, 400, 300, photo), (450, 100, 60, shut(100))) == (1, "")
    assert choose((0, 400, 300, photo)) == (0, "")


def test_who_speaks_by_hand():
    rng = np.random.default_rng(2)
    loud = np.repeat(rng.uniform(0, 9000, 120), 5)
    sound, noise = Given(loud), np.repeat(rng.uniform(0, 1, 120), 5)

    def speaks(*given):
        tracks = [track(i, first, len(mouth)) for i, (first, mouth) in enumerate(given)]
        return [one.speaks for one in who_speaks(tracks, [Motion(mouth) for _, mouth in given], sound)]

    own, part = loud / 9000, (loud / 9000)[:100]
    assert speaks((0, noise)) == [True]  # a face alone, whatever its mouth does
    assert speaks((0, noise / 200)) == [False]  # but for one that is shut
    assert speaks((0, own / 200)) == [True]  # unless it follows the sound
    assert speaks((0, own), (0, noise / 3)) == [True, False]
    assert speaks((0, own), (0, noise)) == [True, True]  # it moves as one that speaks
    assert speaks((0, own / 3), (0, noise / 3)) == [True, True]
    assert speaks((0, part), (0, noise / 3)) == [True, True]  # seen together for less than half of its time
    assert speaks((0, own), (0, noise[:100] / 3)) == [True, False]
    still = who_speaks([track(0, 0, 300)], [Motion(own[:300], is_still=True)], sound)
    assert not still[0].speaks and still[0].evidence > 0.9


def test_faces_at_the_same_time():
    assert faces_at_once([track(0, 0, 100), track(1, 100, 100)]) == (1, 0)
    assert faces_at_once([track(0, 0, 100), track(1, 80, 100)]) == (1, 0)  # less than a second
    assert faces_at_once([track(0, 0, 100), track(1, 60, 100), track(2, 65, 10), track(3, 150, 100)]) == (
        2,
        60,
    )
    assert faces_at_once([track(0, 0, 100), track(1, 0, 300), track(2, 60, 100), track(3, 200, 60)]) == (3, 0)


def test_no_rival_is_deleted_before_the_choice(tmp_path):
    """The speaker is seen from 1 s on and the listener all the time: the speaker is kept, though not the
    longest.
    """
    source = two_heads(tmp_path / "two.mp4", 5, 1, "silent")

    class Late(Side):
        n = 0

        def detect(self, frames):
            found = super().detect(frames)
            for i in range(len(found)):
                found[i] = found[i][1:] if self.n < 25 else found[i]
                self.n += 1
            return found

    record, _ = process_video(source, tmp_path / "out", tmp_path / "work", Late(), Settings("x"))
    (kept,) = record["tracks"]
    assert kept["first_frame"] == 30 and np.mean(kept["boxes"], 0)[0] > SIZE
    assert record["warnings"][0].startswith(
        "2 faces at the same time from 1.0 s; the one that moves with the sound"
    )
