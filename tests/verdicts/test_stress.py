"""A video judged again when it is written in other ways: localize.py --stress."""

import errno

import av
import numpy as np
import pytest
import torch

from tests.clips import face_pictures, write_clip
from tests.verdicts.test_answer import record
from tests.verdicts.test_localize import checkpoint, clip, localize, read_json  # noqa: F401, fixtures
from utils.cli import UserError
from utils.containers import VideoError
from utils.media import open_source
from utils.pictures import to_rgb
from verdicts.answer import shaken
from verdicts.schema import ABOVE, BELOW, UNDECIDED
from verdicts.stress import WAYS, judge_in_other_ways, write_again
from verdicts.words import stress_words


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """2 s of a face and of noise, coded finely."""
    pictures = face_pictures(50, 112)
    noise = np.random.default_rng(0).integers(-9, 9, (50, *pictures[0].shape))
    grainy = list(np.clip(np.array(pictures) + noise, 0, 255).astype(np.uint8))
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    sound = np.random.default_rng(1).uniform(-0.3, 0.3, (1, 88_200)).astype(np.float32)
    return write_clip(path, grainy, sound=sound, codec_options={"crf": "8"})


def watch(path):
    """Pictures, upright, and the sound of the first second and a half."""
    with open_source(path) as film:
        shown = [to_rgb(frame) for frame, n in film.frames() for _ in range(n)]
        return np.array(shown).astype(int), film.sound.read(2400, 72_000)[0].astype(float)


def sound_kbps(path) -> float:
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(audio=0) if packet.size]
    seconds = float(sum(packet.duration * packet.time_base for packet in packets))
    return 8 * sum(packet.size for packet in packets) / seconds / 1000


def lag(sound, again) -> int:
    """By how many samples one sound lies beside the other."""
    spectra = [np.fft.rfft(samples, 2**18) for samples in (sound, again)]
    return abs(int(np.fft.fftfreq(2**18, 2**-18)[np.argmax(np.fft.irfft(spectra[0].conj() * spectra[1]))]))


@pytest.mark.parametrize("name", WAYS)
def test_each_way_says_what_it_does(name, video, tmp_path):
    written = write_again(video, WAYS[name], tmp_path)
    (pictures, sound), (again, sound_again) = watch(video), watch(written)
    assert again.shape == pictures.shape
    with av.open(str(video)) as before, av.open(str(written)) as after:
        codecs = sorted(stream.codec_context.name for stream in after.streams)
        containers = before.format.name, after.format.name
        n_bytes = [sum(p.size for p in file.demux(video=0)) for file in (before, after)]
    error = np.abs(again - pictures).mean()
    if name == "another container":
        assert containers[0] != containers[1] and codecs == ["aac", "h264"]
        assert error == 0 and n_bytes[0] == n_bytes[1]
        assert lag(sound, sound_again) <= 48  # Matroska has whole milliseconds
    elif name == "AAC at 64 kbit/s":
        assert error == 0 and codecs == ["aac", "h264"] and lag(sound, sound_again) == 0
        assert sound_kbps(written) == pytest.approx(64, rel=0.05)
        assert not np.array_equal(sound, sound_again) and np.corrcoef(sound, sound_again)[0, 1] > 0.3
    else:
        assert 0.5 < error < 15 and np.array_equal(sound, sound_again) and codecs == ["aac", "h264"]
        assert n_bytes[1] < n_bytes[0]


def test_quicktime_is_as_exact_as_mp4(tmp_path):
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (1, 88_200)).astype(np.float32)
    made = {"sound": noise, "sound_start_s": 0.123, "codecs": ("libx264", "pcm_s16le")}
    late = write_clip(tmp_path / "a.mkv", face_pictures(50, 112), **made)
    written = write_again(late, None, tmp_path)
    assert written.suffix == ".mov" and lag(watch(late)[1], watch(written)[1]) == 0


def test_from_matroska_to_another_container(video, tmp_path):
    (tmp_path / "there").mkdir()
    there = write_again(video, WAYS["another container"], tmp_path / "there")
    back = write_again(there, WAYS["another container"], tmp_path)
    assert (there.suffix, back.suffix) == (".matroska", ".mov")
    assert np.array_equal(watch(back)[0], watch(video)[0])


def stressed(video, tmp_path, scores, mds=1.0, threshold=0.8):
    """What is found if the ways give these scores, an error for one that is none."""
    left = list(scores)

    def mds_of(path, folder):
        assert path.is_file() and folder.is_dir() and not any(folder.iterdir())
        score = left.pop(0)
        if isinstance(score, Exception):
            raise score
        return score

    found = judge_in_other_ways(video, mds, threshold, mds_of, tmp_path)
    assert not left and list(tmp_path.iterdir()) == []
    return found


def test_the_range_and_what_held(video, tmp_path):
    found = stressed(video, tmp_path, [0.9, 0.7, 0.8, 1.2, VideoError("face", "no face at all")])
    assert (found["mds_low"], found["mds_high"], found["n_held"]) == (0.7, 1.2, 3)
    assert [way["way"] for way in found["ways"]] == list(WAYS)
    assert [way["side"] for way in found["ways"]] == [ABOVE, BELOW, ABOVE, ABOVE, None]
    words = stress_words(found)
    assert "in 4 ways: MDS 0.7 to 1.2, its side of the threshold held in 3 of them." in words
    assert words.endswith("Not judged: another container: no face at all.")
    found = stressed(video, tmp_path, [0.1] * 5, mds=0.2)
    assert found["n_held"] == 5 and "held in all." in stress_words(found)
    found = stressed(video, tmp_path, [VideoError("face", "none")] * 5)
    assert (found["mds_low"], found["mds_high"], found["n_held"]) == (None, None, 0)
    assert "could be judged in none" in stress_words(found)


def test_no_room_is_told(video, tmp_path, monkeypatch):
    def full(*_):
        raise av.error.FFmpegError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("verdicts.stress.write_changed", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_again(video, WAYS["AAC at 64 kbit/s"], tmp_path)


def test_an_odd_way_costs_itself_alone(video, tmp_path, monkeypatch):
    def odd(*_):
        raise IndexError("so odd")

    monkeypatch.setattr("verdicts.stress.write_copy", odd)
    found = stressed(video, tmp_path, [1.0] * 4)
    assert found["n_held"] == 4
    name, reason = found["ways"][-1]["way"], found["ways"][-1]["reason"]
    assert (name, reason) == ("another container", "IndexError: so odd")


def test_an_answer_that_does_not_stand_is_none(video, tmp_path):
    held = stressed(video, tmp_path, [0.9, 0.9, 0.8, 1.2, VideoError("face", "no face")])
    why = [{"code": "above", "text": "so"}]
    assert shaken(ABOVE, why, held) == (ABOVE, why)
    turned = stressed(video, tmp_path, [0.9, 0.7, 0.8, 0.1, VideoError("face", "no face")])
    verdict, (reason,) = shaken(ABOVE, why, turned)
    assert (verdict, reason["code"]) == (UNDECIDED, "stress")
    assert "again in 4 ways" in reason["text"] and "in 2 of them" in reason["text"]
    before = [{"code": "small_face", "text": "so"}]
    verdict, reasons = shaken(UNDECIDED, before, turned)
    assert verdict == UNDECIDED and [reason["code"] for reason in reasons] == ["small_face", "stress"]


def test_ways_that_turn_an_answer(checkpoint, clip, localize, tmp_path, monkeypatch):  # noqa: F811
    """With the threshold in the middle of the range that the ways span, and a model that is surely right."""
    monkeypatch.setattr("verdicts.answer.NARROW", 0.0)

    def judge(name, *flags):
        flags = ("--stride_s", "1", "--min_judged_s", "1", *flags)
        localize(clip, "--model", checkpoint, "--out", tmp_path / name, *flags)
        return read_json(tmp_path / name / clip.name / "verdict.json")

    before = judge("before", "--stress", "--brief")
    scores = sorted({before["mds"], *(way["mds"] for way in before["stress"]["ways"])})
    threshold = (scores[0] + scores[-1]) / 2
    assert scores[0] < threshold < scores[-1]
    means = {"mean_mds_real": threshold - 0.5, "mean_mds_fake": threshold + 0.5, "mds_sd": 0.01}
    known = {"record": record(**means, is_foreign=True), "threshold": threshold}
    torch.save(torch.load(checkpoint, weights_only=True) | known, checkpoint)
    plain = judge("plain", "--brief")
    assert plain["verdict"] == plain["side"]
    found = judge("found", "--stress")
    n_other = 0
    for way, same in zip(found["stress"]["ways"], before["stress"]["ways"], strict=True):
        assert way["mds"] == same["mds"] and way["side"] == (ABOVE if way["mds"] >= threshold else BELOW)
        n_other += way["side"] != found["side"]
    assert n_other > 0 and found["stress"]["n_held"] == 5 - n_other
    assert found["mds"] == before["mds"] and found["verdict"] == UNDECIDED
    (reason,) = found["reasons"]
    assert reason["code"] == "stress" and f"in {n_other} of them" in reason["text"]
    page = (tmp_path / "found" / clip.name / "report.html").read_text()
    assert reason["text"] in page and ABOVE in page and BELOW in page
    # a way is judged as a file that is given would be
    copy = write_again(clip, WAYS["H.264 at CRF 35"], tmp_path)
    localize(copy, "--model", checkpoint, "--out", tmp_path / "copy", "--stride_s", "1", "--brief")
    whole = read_json(tmp_path / "copy" / copy.name / "verdict.json")
    assert whole["mds"] == found["stress"]["ways"][1]["mds"]


def test_what_offsets_leave_out(checkpoint, clip, localize, tmp_path):  # noqa: F811
    for flags in (["--stress"], ["--check_maps"], ["--labels", tmp_path / "a.json"]):
        with pytest.raises(UserError, match=f"leave out {flags[0]}"):
            localize(clip, "--model", checkpoint, "--out", tmp_path / "out", "--offsets", *flags)
    assert not (tmp_path / "out").exists()
