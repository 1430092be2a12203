"""Late and early sound: curves by hand, the shifts of the sound against a network of no weights that
knows the answer, what is written.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from augmentation import normalize
from engine import build_model
from preprocessing.chunking import cut_sound
from tests.clips import face_pictures, tone, write_clip
from tests.verdicts.test_localize import checkpoint, clip, localize, track  # noqa: F401, fixtures
from utils.checkpoint import load_checkpoint
from utils.constants import FPS, ChunkLength
from utils.mfcc import chunk_mfcc
from utils.sound import Sound
from verdicts.lipsync import SoundEmbedder, distances_of_shifts
from verdicts.offsets import (
    MAX_SHIFT,
    MIN_CONFIDENCE,
    SHIFTS,
    find_offset,
    mean_curve,
    offset_words,
    plot_offset,
)
from verdicts.schema import ABOVE, BELOW
from verdicts.verdict import give_verdict
from verdicts.words import in_words


def valley(shift: int, depth: float = 0.8, level: float = 1.0) -> np.ndarray:
    """(31,), a curve that is lowest at a shift."""
    return level - depth * np.exp(-(((SHIFTS - shift) / 3) ** 2))


def test_a_chunk_that_cannot_be_heard_everywhere_does_not_dent_the_curve():
    rng = np.random.default_rng(0)
    levels = rng.normal(0, 0.3, 12)
    full = valley(3)[:, None] + levels
    assert mean_curve(full) == pytest.approx(full.mean(1))
    holed = full.copy()
    holed[:10, :3] = np.nan  # the first ones: before the sound begins
    holed[25:, 9:] = np.nan
    assert mean_curve(holed) == pytest.approx(full.mean(1), abs=1e-6)
    assert np.abs(np.nanmean(holed, 1) - full.mean(1)).max() > 0.02  # what the plain mean would give


def test_points_of_few_chunks_are_none():
    distances = np.ones((31, 6))
    distances[:5, 1:] = np.nan  # one chunk
    distances[5:8, 2:] = np.nan  # two of six
    distances[8:10, 3:] = np.nan  # half
    assert np.isnan(mean_curve(distances)).tolist() == [True] * 8 + [False] * 23
    assert find_offset([distances], 6, 0.5) is None
    assert (
        find_offset([np.empty((31, 0))], 0, 0.5) is None and find_offset([np.ones((31, 1))], 1, 0.5) is None
    )
    assert "can't be said" in offset_words(None)


@pytest.mark.parametrize(
    ("shift", "words"), [(4, "lags behind the picture by 133 ms"), (-6, "ahead of the picture by 200")]
)
def test_a_late_sound_agrees_if_moved(shift, words):
    offset = find_offset([valley(shift)[:, None] + np.zeros(3), valley(shift)[:, None] + np.zeros(2)], 5, 0.6)
    assert offset["offset_ms"] == pytest.approx(shift / 30 * 1000, abs=0.1) and offset["judged_s"] == 5
    assert (
        offset["curve_ms"][0] == -500 and offset["curve_ms"][MAX_SHIFT] == 0 and offset["curve_ms"][-1] == 500
    )
    assert offset["distance"] == pytest.approx(0.2) and offset["distance_unmoved"] == pytest.approx(
        valley(shift)[15]
    )
    assert offset["confidence"] == pytest.approx(np.median(valley(shift)) - 0.2)
    assert offset["agrees_if_moved"] and offset["stands_out"]
    assert words in offset_words(offset) and "so moved, lips and sound agree" in offset_words(offset)


@pytest.mark.parametrize(
    ("curve", "stands_out", "words"),
    [
        (valley(0), True, "lie together"),
        (valley(1), True, "lie together"),  # a frame is as fine as it can tell
        (valley(5, 0.45, 1.06), True, "where they agree best"),  # still above the threshold
        (valley(5, 0.5, 0.55), True, "where they agree best"),  # below it already as it is
        (valley(15), True, "500 ms or more"),  # the true minimum may lie beyond
        (valley(5, 0.6 * MIN_CONFIDENCE * 0.9), False, "no shift stands out"),
    ],
)
def test_what_is_no_late_sound(curve, stands_out, words):
    offset = find_offset([curve[:, None] + np.zeros(3)], 5, 0.6)
    assert not offset["agrees_if_moved"] and offset["stands_out"] == stands_out
    assert words in offset_words(offset)
    assert find_offset([valley(5)[:, None] + np.zeros(3)], 5, 0.6)[
        "agrees_if_moved"
    ]  # but for these it would
    short = find_offset([valley(5)[:, None] + np.zeros(3)], 3, 0.6)
    assert not short["agrees_if_moved"] and not short["stands_out"]
    assert "it takes 4 seconds, and there are 3" in offset_words(short)


class PlaceEmbedder:
    """Embeds a window as its first frame; silence from frame 40 to 44."""

    def __init__(self):
        self.seen: list[int] = []
        self.batches: set[tuple[int, int]] = set()

    def embed(self, sound, first_frames):
        self.seen += first_frames
        self.batches.add((first_frames[0] % len(first_frames), len(first_frames)))
        return {f: None if 40 <= f < 45 else torch.tensor([float(f)]) for f in first_frames}


@pytest.mark.parametrize("block", [6, 16])
def test_the_sound_that_is_found_later_lags(block):
    embedder = PlaceEmbedder()
    starts = [[0, 6, 30, 60], [33]]
    pictures = [torch.tensor([[f + 4.0] for f in own]) for own in starts]  # what belongs is 4 frames later
    distances = distances_of_shifts(embedder, None, starts, pictures, block)
    assert [d.shape for d in distances] == [(31, 4), (31, 1)]
    for own, firsts in zip(distances, starts, strict=True):
        for column, first in zip(own.T, firsts, strict=True):
            expected = np.abs(SHIFTS - 4.0)
            expected[(first + SHIFTS >= 40) & (first + SHIFTS < 45)] = np.nan
            np.testing.assert_array_equal(column, expected)
    assert len(embedder.seen) == len(set(embedder.seen))  # each window once, whatever overlaps
    assert embedder.batches == {(0, block)}  # the same ones together, whichever chunks ask for them
    assert find_offset(distances, 5, 3.0)["offset_ms"] == 133.3


def test_each_window_is_cut_and_embedded_as_a_chunk_is(checkpoint):  # noqa: F811
    stored = load_checkpoint(checkpoint, {})
    net = build_model(stored, checkpoint).eval().requires_grad_(False)
    net.standardise = nn.ModuleDict(
        {name: nn.BatchNorm1d(16, affine=False) for name in ("video", "audio")}
    ).eval()
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 3000, 4 * 48_000).astype(np.int16)
    samples[2 * 48_000 :] = 0

    class Heard(Sound):
        def read(self, start, n_samples):
            inside = samples[max(0, start) : max(0, start + n_samples)]
            return np.pad(inside, (n_samples - len(inside), 0)), n_samples - len(inside)

    frames = [-4, -3, 0, 7, 60]  # 133 ms before the sound begins, 100 ms, inside, silence
    found = SoundEmbedder(net, torch.device("cpu"), "off").embed(Heard(), frames)
    assert found[-4] is None and found[60] is None

    class Source:
        sound = Heard()

    video = torch.randint(0, 256, (1, 30, 64, 64, 3), dtype=torch.uint8)
    for frame in (-3, 0, 7):
        own, _ = cut_sound(Source(), frame, [])
        expected = net(normalize(video), torch.from_numpy(chunk_mfcc(own))[None])["audio_emb"][0]
        assert torch.allclose(found[frame], expected, rtol=1e-4, atol=1e-6)


class FlashNet(nn.Module):
    """Compares the light of each frame with the loudness at its time: a network that sees sync unlearnt."""

    img_dim, chunk_s = 32, 1.0

    def netcnnlip(self, video):
        return video.mean((1, 3, 4), keepdim=True)  # (B, 1, 30, 1, 1)

    def embed_sound(self, audio):
        loud = nn.functional.adaptive_avg_pool1d(audio[:, 0, :1], FPS)[:, 0]  # (B, 30) log energy
        return self.scaled(loud)

    def compare(self, features, audio):
        light, none = self.scaled(features.flatten(1)), torch.zeros(len(audio), 2)
        return {
            "video_emb": light,
            "audio_emb": self.embed_sound(audio),
            "video_logits": none,
            "audio_logits": none,
        }

    @staticmethod
    def scaled(values):
        centred = values - values.mean(1, keepdim=True)
        return centred / (2**0.5 * torch.linalg.vector_norm(centred, dim=1, keepdim=True) + 1e-6)


def flashing(path, late_ms: float, seed: int = 0):
    """6 s of a talking face in changing light, whose sound follows it, late by so many milliseconds."""
    rng = np.random.default_rng(seed)
    light = np.repeat(rng.uniform(0, 1, 75), 2)  # a new one every 80 ms, at 25 fps
    pictures = [
        (p * (0.7 + 0.2 * e)).astype(np.uint8) for p, e in zip(face_pictures(150), light, strict=True)
    ]
    time_s = np.arange(6 * 44_100) / 44_100
    heard = light[np.clip(((time_s - late_ms / 1000) * 25).astype(int), 0, 149)]
    return write_clip(path, pictures, sound=tone(6.0) * np.exp(4 * (heard - 1)).astype(np.float32))


@pytest.fixture
def sees_sync(monkeypatch):
    monkeypatch.setattr("verdicts.judge.build_model", lambda *_: FlashNet())


@pytest.mark.parametrize("late_ms", [200, 0, -133])
def test_videos_with_a_known_shift(checkpoint, localize, sees_sync, tmp_path, late_ms):  # noqa: F811
    video = flashing(tmp_path / "in" / "flash.mp4", late_ms)
    flags = ("--model", checkpoint, "--out", tmp_path / "out", "--threshold", 0.6, "--offsets")
    assert localize(video, *flags) == 0
    (row,) = pd.read_csv(tmp_path / "out" / "offsets.csv").to_dict("records")
    assert row["offset_ms"] == pytest.approx(late_ms, abs=34) and row["stands_out"] == "yes"
    assert row["agrees_if_moved"] == ("yes" if late_ms else "no") and row["video"] == "flash.mp4"
    assert row["distance"] < 0.6 and (row["distance_unmoved"] > 0.6) == bool(late_ms)


def test_offsets_of_a_folder(checkpoint, clip, localize, tmp_path, capsys):  # noqa: F811
    folder, out = tmp_path / "in", tmp_path / "out"
    flashing(folder / "a.mp4", 0)
    write_clip(folder / "short.mp4", face_pictures(60), sound=tone(1.4))
    write_clip(folder / "mute.mp4", face_pictures(60), sound=0 * tone(2.4))
    flags = ("--model", checkpoint, "--out", out, "--offsets")
    assert localize(folder, *flags) == 1
    text = (out / "offsets.csv").read_text()
    table = pd.read_csv(out / "offsets.csv", keep_default_na=False)
    assert table.video.tolist() == ["a.mp4", "mute.mp4", "short.mp4"]
    assert table.track.astype(str).tolist() == ["0", "", "0"]
    assert (
        table.reason[0] == ""
        and table.reason[1].startswith("chunk: no second")
        and "too little" in table.reason[2]
    )
    assert sorted(p.name for p in (out / "a.mp4").iterdir()) == ["verdict.json"]
    verdict = json.loads((out / "a.mp4" / "verdict.json").read_text())
    (own,) = verdict["tracks"]
    assert own["offset"] == verdict["offset"] and own["speaks"] and -1 <= own["speech"] <= 1
    assert own["offset"]["distance_unmoved"] == pytest.approx(
        np.mean(verdict["curves"][0]["dissimilarity"][2:-2]), rel=0.02
    )  # of the chunks that can be moved both ways, nearly
    said = capsys.readouterr().out
    assert "a.mp4: " in said and "short.mp4: Whether the sound" in said and "offsets.csv" in said
    (folder / "mute.mp4").unlink()
    assert localize(folder, *flags) == 0  # goes on: nothing is judged again, nothing is lost
    assert "2 were judged before" in capsys.readouterr().out and (out / "offsets.csv").read_text() == text


def test_a_face_that_does_not_speak_does_not_decide():
    late = valley(4)[:, None] + np.zeros(5)
    speaker = track(0, scores=(0.2, 0.2, 0.2, 0.2, 0.2), speech=0.6, moved=late)
    listener = track(
        1, scores=(0.9, 0.9, 0.9, 0.9, 0.9), speech=0.1, speaks=False, moved=valley(-8)[:, None] + np.zeros(5)
    )
    found = give_verdict([speaker, listener], 150, 0.6)
    assert found["track"] == 0 and found["mds"] == pytest.approx(0.2) and found["side"] == BELOW
    assert "nobody_speaks" not in [reason["code"] for reason in found["reasons"]]
    assert found["spans"] == [] and max(score for score, _, _ in found["proposals"]) < 0.2
    assert [(t["speaks"], t["speech"], t["side"]) for t in found["tracks"]] == [
        (True, 0.6, BELOW),
        (False, 0.1, ABOVE),
    ]
    assert found["offset"]["offset_ms"] == 133.3 and found["tracks"][1]["offset"]["offset_ms"] == -266.7
    assert "Faces that do not speak, and so do not decide: track 1 (score 0.9)." in in_words(found)
    assert "of track 0, the only one that speaks (a track is" in in_words(found)[0]
    more = give_verdict([speaker, listener, track(2, scores=(0.1,) * 5, speaks=True)], 150, 0.6)
    assert "of track 0, the most dissonant of 2 that speak (a track is" in in_words(more)[0]
    speaker.speaks = False
    found = give_verdict([speaker, listener], 150, 0.6)
    assert found["track"] == 1 and found["side"] == ABOVE  # then all count
    assert "of track 1, the most dissonant of 2 (a track is" in in_words(found)[0]
    assert "nobody_speaks" in [reason["code"] for reason in found["reasons"]]
    assert any("No judged face shows evidence of speech" in line for line in in_words(found))
    assert found["offset"]["judged_s"] == 5  # both faces at once


@pytest.mark.parametrize(
    ("chunk_s", "n", "stands_out"), [(0.5, 4, False), (0.5, 8, True), (2, 2, True), (1, 3, False)]
)
def test_four_seconds_are_four_whatever_a_chunk_takes(chunk_s, n, stands_out):
    length, starts = ChunkLength.of(chunk_s), np.arange(n) * chunk_s
    both = [
        track(i, scores=(0.9,) * n, starts=starts, length=length, moved=valley(4)[:, None] + np.zeros(n))
        for i in range(2)
    ]
    for tracks in (both[:1], both):  # two faces at once are no more seconds
        offset = give_verdict(tracks, 150, 0.6)["offset"]
        assert offset["judged_s"] == n * chunk_s and offset["stands_out"] == stands_out


def test_the_confidence_is_in_thresholds_of_the_model():
    curve = [valley(5)[:, None] + np.zeros(5)]  # a confidence of 0.8
    assert find_offset(curve, 5, 2.0)["stands_out"] is False  # it has none
    found = find_offset(curve, 5, 2.0, own_threshold=0.6)
    assert found["stands_out"] and found["confidence_floor"] == pytest.approx(0.6 * MIN_CONFIDENCE)
    tracks = [track(scores=(0.9,) * 5, moved=curve[0])]
    found = give_verdict(tracks, 150, 2.0, own_threshold=0.6)
    assert found["offset"]["stands_out"] and found["tracks"][0]["offset"]["stands_out"]
    assert plot_offset(found["offset"], 2.0)["floor"] == f"{0.6 * MIN_CONFIDENCE:.3g}"


def test_the_drawing_stays_in_its_frame():
    for shift in (-15, 0, 4, 15):
        plot = plot_offset(find_offset([valley(shift)[:, None] + np.zeros(3)], 5, 0.6), 0.6)
        points = [tuple(map(float, point.split(","))) for point in plot["points"].split()]
        assert len(points) == 31 and (plot["best_x"], plot["best_y"]) in points
        assert all(
            plot["left"] <= x <= plot["right"] and plot["top"] <= y <= plot["bottom"] for x, y in points
        )
        assert plot["best_y"] == max(y for _, y in points) and plot["anchor"] == {
            -15: "start",
            15: "end",
        }.get(shift, "middle")
        assert (
            plot["zero_x"] == (plot["left"] + plot["right"]) / 2
            and plot["top"] < plot["threshold_y"] < plot["bottom"]
        )
