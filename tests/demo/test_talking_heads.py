"""Generated speech and faces: what the mouth does is heard, people differ, and the label shows in neither."""

from dataclasses import replace

import numpy as np
import pytest

from demo import espeak, make_videos
from demo.faces import CLOSED, PORTRAITS, Face, draw_appearance
from demo.make_videos import FAKE_KINDS, main, render
from demo.speech import FPS, RATE_HZ, Spoken, articulate, check_speech, draw_speaker, speak
from utils.cli import UserError

needs_espeak = pytest.mark.skipif(not espeak.is_there(), reason="needs espeak-ng")
KINDS = ["formant", pytest.param("espeak", marks=needs_espeak)]


def loudness(samples: np.ndarray, n_frames: int) -> np.ndarray:
    return np.sqrt((samples[: n_frames * (RATE_HZ // FPS)].reshape(n_frames, -1) ** 2).mean(1))


@pytest.mark.parametrize(
    ("kind", "least"), [("formant", 0.45), pytest.param("espeak", 0.1, marks=needs_espeak)]
)
def test_the_mouth_is_open_when_it_is_loud_but_not_always(kind, least):
    in_step, apart = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        speech = speak(rng, 8, draw_speaker(rng, kind))
        loud, opening = loudness(speech.samples, 200), speech.mouth[:, 0]
        in_step.append(max(np.corrcoef(np.roll(opening, lag), loud)[0, 1] for lag in (0, 1, 2)))
        apart += [abs(np.corrcoef(np.roll(opening, lag), loud)[0, 1]) for lag in (60, 100, 140)]
    assert np.mean(in_step) > max(least, 2 * np.mean(apart)) and max(in_step) < 0.95


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.52, 3.0])
def test_sound_and_mouth_have_the_length_that_was_asked_for(kind, seconds):
    rng = np.random.default_rng(1)
    speaker = draw_speaker(rng, kind)
    speech = speak(rng, seconds, speaker)
    assert speech.samples.shape == (round(seconds * RATE_HZ),) and speech.mouth.shape == (seconds * FPS, 3)
    assert np.abs(speech.samples).max() < 1 and np.isfinite(speech.samples).all()
    assert np.sqrt((speech.samples**2).mean()) == pytest.approx(speaker.loudness)  # dubbed or not
    assert speech.mouth[:, 0].min() >= 0 and speech.mouth[:, 0].max() < 1.3


def said(*phones: str, seed: int = 0) -> dict[str, np.ndarray]:
    """The tract while phones of 150 ms each are said; 210 blocks a second."""
    rng, begins_s = np.random.default_rng(seed), np.arange(len(phones)) * 0.15
    spoken = Spoken(list(phones), begins_s, np.ones(len(phones)), len(phones) * 0.15)
    speaker = replace(draw_speaker(rng), lead_s=0.0, effort=1.0, rate=1.0)
    return articulate(rng, spoken, round(len(phones) * 0.15 * 210), speaker)


@pytest.mark.parametrize("phone", ["p", "b", "m"])
def test_lips_shut_for_a_plosive_and_part_for_the_vowels_around_it(phone):
    opening = said("a", phone, "a")["opening"]
    first, middle, last = np.split(opening[:93], 3)
    assert middle[10:22].max() < 0.02 and min(first.max(), last.max()) > 0.6
    assert said("a", "k", "a")["opening"][40:54].min() > 0.15  # a plosive of the tongue leaves them apart


def test_a_plosive_bursts_and_its_closure_is_silent():
    tract = said("a", "p", "a")
    assert tract["voice"][44:52].max() < 0.05 and tract["noise"][44:52].max() < 0.05
    assert tract["noise"][58:70].max() > 0.1
    assert tract["voice"][20] > 0.9


def test_the_mouth_is_at_rest_in_a_pause_and_takes_the_shape_of_vowels():
    pause = said("a", "_", "_", "_", "a")
    assert pause["opening"][60:100].max() < 0.3 and pause["voice"][60:100].max() < 0.01
    assert said("i", "i", "i")["width"].mean() > 1.1 and said("u", "u", "u")["width"].mean() < 0.75
    assert said("f", "f", "f")["tuck"].mean() > 0.9 > 0.1 > said("s", "s", "s")["tuck"].mean()


def test_a_neighbour_shows_in_a_short_vowel():
    alone, between = said("a", "a", "a")["opening"][40:54], said("u", "a", "u")["opening"][32:62]
    assert between.max() <= alone.max() * 1.1 and between.min() < 0.8 * alone.min()


def test_people_differ_and_the_same_one_stays_the_same():
    looks = [draw_appearance(np.random.default_rng(seed)) for seed in range(6)]
    voices = [draw_speaker(np.random.default_rng(seed)) for seed in range(6)]
    assert len(set(looks)) == len(set(voices)) == 6
    assert (
        draw_appearance(np.random.default_rng(3)) == looks[3]
        and draw_speaker(np.random.default_rng(3)) == voices[3]
    )
    faces = [Face(PORTRAITS[look.portrait], 64, look=look).image.astype(float) for look in looks]
    differences = [np.abs(a - b).mean() for i, a in enumerate(faces) for b in faces[:i]]
    assert min(differences) > 5
    assert np.array_equal(Face(PORTRAITS[looks[0].portrait], 64, look=looks[0]).image, faces[0])
    sounds = [speak(np.random.default_rng(9), 0.5, voice).samples for voice in (*voices[:2], voices[0])]
    assert np.array_equal(sounds[0], sounds[2]) and not np.allclose(sounds[0], sounds[1])


@pytest.mark.parametrize("portrait", PORTRAITS)
def test_the_mouth_is_drawn_where_it_is_and_as_far_as_it_is_open(portrait):
    face = Face(portrait, 128)
    shut = face.draw().astype(float)
    x, y = np.rint(face.mouth).astype(int)
    changes = [np.abs(face.draw((opening, 1, 0)) - shut).sum(2) for opening in (0.0, 0.3, 0.9)]
    # pixels that became another colour, around the mouth and elsewhere
    assert [int((change > 60).sum()) for change in changes] == sorted({int((c > 60).sum()) for c in changes})
    assert changes[0].max() == 0 and changes[2][y + 2 : y + 8, x - 4 : x + 5].min() > 60
    assert changes[2][:50].max() == 0  # eyes and brow stand still
    assert np.abs(face.draw(CLOSED, lids=1.0) - shut)[:64].max() > 30


def test_fakes_differ_from_their_original_in_the_words_alone():
    made = {kind: render(np.random.default_rng([7]), kind, 2.0, 64) for kind in ("real", *FAKE_KINDS)}
    frames, sound, periods = made["real"]
    assert periods == []
    dubbed, other_sound, _ = made["audio"]
    assert np.array_equal(frames, dubbed) and not np.allclose(sound, other_sound)
    for samples in (sound, other_sound):  # as loud, whoever's words
        assert np.sqrt((samples**2).mean()) == pytest.approx(np.sqrt((sound**2).mean()))
    differs = [
        np.abs(np.subtract(a, b, dtype=int)).max() > 0 for a, b in zip(frames, made["video"][0], strict=True)
    ]
    assert np.array_equal(sound, made["video"][1]) and np.mean(differs) > 0.9
    span, span_sound, [(begin_s, end_s)] = made["span"]
    inside = np.arange(50) / FPS
    inside = (inside >= begin_s) & (inside < end_s)
    differs = np.array(
        [np.abs(np.subtract(a, b, dtype=int)).max() > 0 for a, b in zip(frames, span, strict=True)]
    )
    assert np.array_equal(sound, span_sound) and not differs[~inside].any() and differs[inside].mean() > 0.8


def test_a_fake_shares_its_person_with_its_original_and_no_one_is_in_both_splits(monkeypatch, tmp_path):
    people = {}

    def note(rng, *_):
        of_scene, of_voice, *_ = rng.spawn(5)
        people[split, i] = (draw_appearance(of_scene), draw_speaker(of_voice))
        return [], np.zeros(0), []

    monkeypatch.setattr(make_videos, "render", note)
    monkeypatch.setattr(make_videos, "write_video", lambda *_: None)
    for split in ("train", "test"):
        for i in range(8):
            make_videos.make_video(tmp_path, split, i, 1.0, 64, seed=0, speech="formant")
    assert all(people[split, i] == people[split, i + 1] for split, i in people if i % 2 == 0)
    assert len({person for person, _ in people.values()}) == len({voice for _, voice in people.values()}) == 8


def test_no_espeak_is_said_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(espeak, "LIBRARY", "libnowhere.so.1")
    check_speech("formant")
    for flag in ("--speech", "--test_speech"):
        with pytest.raises(
            UserError, match=r"libnowhere.so.1 is not found; install espeak-ng .*--speech formant"
        ):
            main(["--out_dir", str(tmp_path / "out"), flag, "espeak"])
    assert not (tmp_path / "out").exists()


@needs_espeak
def test_espeak_says_the_same_again_and_its_phones_are_where_they_sound():
    said = [espeak.utter_words(np.random.default_rng(5), 4, "en+m3 50", 1.0) for _ in range(2)]
    (sound, names, begins_s, end_s), again = said
    assert np.array_equal(sound, again[0]) and names == again[1] and end_s >= 4
    assert (
        begins_s[0] == 0
        and (np.diff(begins_s) > 0).all()
        and end_s == pytest.approx(len(sound) / espeak.RATE_HZ)
    )
    time_s = np.arange(0, end_s - 0.02, 0.01)
    loud = np.array([np.abs(sound[int(t * 22_050) : int((t + 0.01) * 22_050)]).mean() for t in time_s])
    now = np.array(names)[np.searchsorted(begins_s, time_s + 0.005, "right") - 1]
    vowel, silence, closure = (loud[np.isin(now, list(of))].mean() for of in ("aeiouIE&V@O", "_", "ptk"))
    assert vowel > 4 * closure and vowel > 10 * silence
