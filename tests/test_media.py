"""Picture and sound on one clock, whatever the source."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.clips import set_rotation, tone, write_clip
from utils.faces import crop_face
from utils.media import (
    SAMPLE_RATE_HZ,
    Clock,
    Sound,
    Source,
    VideoError,
    open_source,
    read_wav,
    rgb_patch,
    to_rgb,
    write_wav,
)
from utils.timing import Stopwatch

GREY = np.full((64, 96, 3), 90, np.uint8)


def flash_clip(path, fps, flash_s, seconds=2.0, times_s=None, **options):
    """A grey clip with one white frame at flash_s and a click of sound at the same time."""
    times = [float(i / Fraction(fps)) for i in range(round(seconds * fps))] if times_s is None else times_s
    shown = max(i for i, t in enumerate(times) if t <= flash_s + 1e-9)
    pictures = [np.full_like(GREY, 255) if i == shown else GREY for i in range(len(times))]
    rate = options.get("rate_hz", 44_100)
    sound = np.zeros((1, round(seconds * rate)), np.float32)
    click = round((times[shown] - options.get("sound_start_s", 0.0)) * rate)
    sound[:, click : click + rate // 200] = 0.9
    return write_clip(path, pictures, fps=fps, times_s=times_s, sound=sound, **options), times[shown]


def sound_only(path):
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=44_100, layout="mono")
        block = av.AudioFrame.from_ndarray(tone(1), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = 44_100, 0, Fraction(1, 44_100)
        container.mux([*audio.encode(block), *audio.encode(None)])


def read_frames(path) -> list:
    with open_source(path) as source:
        return list(source.frames())


def first_rgb(path) -> np.ndarray:
    return to_rgb(read_frames(path)[0][0])


def read_sound(path, *spans):
    """Per (start, n_samples) the samples and how many of them are missing."""
    with open_source(path) as source:
        for _ in source.frames():
            pass
        return [source.sound.read(*span) for span in spans]


def brightness(path) -> np.ndarray:
    """Mean grey of each output frame at 30 fps."""
    return np.array([to_rgb(frame).mean() for frame, n in read_frames(path) for _ in range(n)])


def loudest_s(path, n_frames) -> float:
    ((samples, _),) = read_sound(path, (0, n_frames * 1600))
    return float(np.argmax(np.abs(samples.astype(int)) > 8000)) / SAMPLE_RATE_HZ


@pytest.mark.parametrize(("fps", "sound_start_s"), [(15, 0.0), (60, 0.2)])  # more in test_preprocess.py
def test_flash_and_click_agree(tmp_path, fps, sound_start_s):
    path, time = flash_clip(tmp_path / "a.mp4", fps, 1.2, sound_start_s=sound_start_s)
    grey = brightness(path)
    assert len(grey) == pytest.approx(60, abs=1)
    bright = np.flatnonzero(grey > 200)
    assert bright[0] / 30 == pytest.approx(time, abs=1 / 60 + 1e-6)
    assert len(bright) == pytest.approx(30 / float(fps), abs=1)
    assert loudest_s(path, 60) == pytest.approx(time, abs=0.005)


def test_variable_frame_rate(tmp_path):
    times = list(np.cumsum(np.random.default_rng(0).uniform(0.01, 0.09, 40)))
    path, time = flash_clip(tmp_path / "v.mkv", 25, times[20], times_s=times, seconds=times[-1])
    bright = np.flatnonzero(brightness(path) > 200)
    assert bright[0] / 30 == pytest.approx(time - times[0], abs=1 / 60 + 0.001)  # Matroska rounds to 1 ms
    assert loudest_s(path, 60) == pytest.approx(time - times[0], abs=0.006)


def test_each_source_frame_stands_for_the_right_number_of_frames(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [GREY] * 30, fps=15, sound=tone(2))
    counts = [n for _, n in read_frames(path)]
    assert len(counts) == 30 and sum(counts) == 60 and set(counts) == {2}


@pytest.mark.parametrize("layout", [1, 2])
@pytest.mark.parametrize(
    ("rate_hz", "suffix", "codec"), [(16_000, "mp4", "aac"), (48_000, "mkv", "pcm_s16le"), (44_100, "avi", "libmp3lame")]
)
def test_any_sound_becomes_48_khz_mono(tmp_path, layout, rate_hz, suffix, codec):
    path = write_clip(
        tmp_path / f"a.{suffix}", [GREY] * 50, sound=tone(2, rate_hz, layout), rate_hz=rate_hz, codecs=("libx264", codec)
    )
    (samples, _), (middle, n_missing) = read_sound(path, (0, 96_000), (24_000, 48_000))
    assert samples.shape == (96_000,) and samples.dtype == np.int16
    np.testing.assert_array_equal(middle, samples[24_000:72_000])
    middle = middle.astype(float)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440  # of 1 s, so bin = Hz
    assert np.abs(middle).max() == pytest.approx(0.5 * 32767, rel=0.06)
    assert n_missing == 0


def test_missing_sound_is_known(tmp_path):
    late = write_clip(tmp_path / "late.mkv", [GREY] * 75, sound=tone(2.2), sound_start_s=0.5)
    seconds = read_sound(late, *((48_000 * i, 48_000) for i in range(4)))
    missing = [n for _, n in seconds]
    assert missing[0] == pytest.approx(24_000, abs=1500)  # an AAC frame of slack
    assert missing[1] == 0 and missing[3] == 48_000
    assert missing[2] == pytest.approx(0.3 * 48_000, abs=1500)
    assert not seconds[0][0][:20_000].any() and seconds[0][0][26_000:].any()


def test_rotation_is_undone(tmp_path):
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:40, :40, 0] = 255  # red at the upper left
    corner = {90: (0, -1), 180: (-1, -1), 270: (-1, 0)}
    for degrees, (row, column) in corner.items():
        path = write_clip(tmp_path / f"{degrees}.mp4", [picture] * 3, sound=tone(0.2))
        set_rotation(path, degrees)
        rgb = first_rgb(path)
        assert rgb.shape == ((96, 160, 3) if degrees == 180 else (160, 96, 3))
        assert rgb[row, column, 0] > 200 and rgb[..., 0].mean() < 60


def test_colour_order(tmp_path):
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[..., 2] = 255
    path = write_clip(tmp_path / "b.mp4", [blue] * 3, sound=tone(0.2))
    rgb = first_rgb(path)
    assert rgb[..., 2].mean() > 200 > 60 > rgb[..., 0].mean()


@pytest.mark.parametrize(
    ("make", "stage", "words"),
    [
        (lambda p: p.write_bytes(b""), "open", "can't be opened"),
        (lambda p: p.write_text("not a video"), "open", "can't be opened"),
        (lambda p: p.mkdir(), "open", "is a folder"),
        (lambda p: write_clip(p, [GREY] * 5), "audio", "has no sound"),
        (lambda p: sound_only(p), "video", "has no video stream"),
    ],
)
def test_unusable_files_have_a_reason(tmp_path, make, stage, words):
    path = tmp_path / "x.mp4"
    make(path)
    with pytest.raises(VideoError, match=words) as caught:
        read_frames(path)
    assert caught.value.stage == stage


def test_corrupt_packets_are_stepped_over(tmp_path):
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (96, 96, 3), np.uint8) for _ in range(50)]
    path = write_clip(tmp_path / "c.mp4", pictures, sound=tone(2))
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + len(data) // 3
    data[middle : middle + 2000] = noise.bytes(2000)
    path.write_bytes(data)
    assert sum(n for _, n in read_frames(path)) == pytest.approx(60, abs=2)


def test_wav_files_are_checked(tmp_path):
    samples = np.arange(48_000).astype(np.int16)
    write_wav(tmp_path / "a.wav", samples)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav"), samples)
    write_wav(tmp_path / "b.wav", samples[:-1])
    with pytest.raises(ValueError, match="b.wav has 47999 samples, .* expected 48000"):
        read_wav(tmp_path / "b.wav")
    data = (tmp_path / "a.wav").read_bytes()
    for length in (*range(60), len(data) - 1):  # cut anywhere
        (tmp_path / "c.wav").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"c\.wav"):
            read_wav(tmp_path / "c.wav")


@pytest.mark.parametrize("suffix", ["ts", "flv"])
def test_a_clock_that_starts_again_goes_on(tmp_path, suffix):
    """Two recordings one after the other: both are there, the second beside its own sound."""
    codecs = {"codecs": ("libx264" if suffix == "ts" else "flv", "libmp3lame")}
    sound = 0 * tone(4)
    sound[:, 88_200:132_300] = tone(1)  # from 2 to 3 s
    grey, light = [GREY] * 50, [GREY + 100] * 25
    path = write_clip(tmp_path / f"a.{suffix}", [*grey, *light, *grey[:25]], sound=sound, **codecs)
    both = tmp_path / f"both.{suffix}"
    data = path.read_bytes()
    both.write_bytes(data + (data if suffix == "ts" else data[13:]))  # the second one without the file's header
    grey = brightness(both)
    assert 238 <= len(grey) <= 243
    with open_source(both) as source:
        for _ in source.frames():
            pass
        loud = [np.abs(source.sound.read(i * 1600, 1600)[0].astype(int)).max() > 8000 for i in range(240)]
        assert source.sound.read(0, 8 * 48_000)[1] < 5_000
        assert any("clock starts again 1 times, first after 4.0" in warning for warning in source.warnings)
    for begin in (0, 120):
        seen, heard = (begin + np.flatnonzero(what[begin : begin + 120]) for what in (grey > 150, np.array(loud)))
        assert 28 <= len(seen) <= 32 and abs(seen[0] - heard[0]) <= 2 and abs(seen[0] - begin - 60) <= 3


@pytest.mark.parametrize("wrong_s", [-2.4, -0.3, 30.0])
def test_one_wrong_time_stamp_moves_nothing_else(tmp_path, wrong_s):
    path = write_clip(tmp_path / "a.mkv", [GREY] * 100, sound=tone(4))
    clock, moved = Clock(), []
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.dts is not None]
        right = [(packet, packet.dts) for packet in packets]
        video = [packet for packet in packets if packet.stream.type == "video"]
        video[60].pts = video[60].dts = video[60].dts + round(wrong_s / video[60].time_base)
        assert list(clock.mended(iter(packets))) == packets
        moved = [abs(float((packet.dts - dts) * packet.time_base)) for packet, dts in right]
    assert max(moved) < (0.05 if abs(wrong_s) > 0.5 else 0.31) and clock.restarts == []


def test_a_clock_that_starts_again_for_the_sound_alone_is_wrong(tmp_path):
    """Picture and sound would part if it were believed; so the sound comes late and is left out."""
    path = write_clip(tmp_path / "a.mkv", [GREY] * 150, sound=tone(6))
    clock = Clock()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.dts is not None]
        for packet in packets:
            if packet.stream.type == "audio" and packet.dts * packet.time_base > 3:
                packet.pts = packet.dts = packet.dts - round(Fraction(3) / packet.time_base)
        times = [packet.dts for packet in packets]
        assert [packet.dts for packet in clock.mended(iter(packets))] == times and clock.restarts == []


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "rgb24"])
def test_patches_equal_the_whole_frame(pix_fmt):
    rng = np.random.default_rng(0)
    noise = av.VideoFrame.from_ndarray(rng.integers(0, 256, (120, 200, 3), np.uint8), format="rgb24")
    for width, height in ((200, 120), (66, 50), (51, 33)):
        frame = noise.reformat(width, height, pix_fmt)
        whole = to_rgb(frame)
        for top, left in rng.integers(-90, 210, (30, 2)):
            window = np.array([top, top + 71, left, left + 60])
            patch, y, x = rgb_patch(frame, window)
            assert patch.nbytes <= whole.nbytes
            np.testing.assert_array_equal(crop_face(patch, window - (y, y, x, x)), crop_face(whole, window))


def test_a_long_pause_of_the_picture_is_no_damage(tmp_path):
    times = [i / 25 + (0.3 if i > 30 else 0) for i in range(75)]
    path = write_clip(tmp_path / "v.mkv", [GREY] * 75, times_s=times, sound=tone(3.3))
    with open_source(path) as source:
        assert sum(n for _, n in source.frames()) == pytest.approx(99, abs=1)
        assert source.damaged() == []


def test_sound_whose_format_changes(tmp_path):
    codecs = ("libx264", "libmp3lame")
    first = write_clip(tmp_path / "a.ts", [GREY] * 50, sound=tone(2), codecs=codecs)
    times = [2 + i / 25 for i in range(50)]
    second = tone(2, 48_000, channels=2)
    second = write_clip(
        tmp_path / "b.ts", [GREY] * 50, times_s=times, sound=second, rate_hz=48_000, sound_start_s=2, codecs=codecs
    )
    both = tmp_path / "ab.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    ((samples, n_missing),) = read_sound(both, (4_800, 180_000))
    assert n_missing < 6_000
    for start in (10_000, 130_000):
        assert np.argmax(np.abs(np.fft.rfft(samples[start : start + 48_000]))) == 440


def test_frames_before_a_read_error_are_not_lost(tmp_path):
    """A file that can't be read on gives what the decoder still holds."""

    class Cut:
        def __init__(self, container):
            self.container, self.streams, self.duration, self.n_pictures = container, container.streams, None, 0

        def demux(self, streams):
            for i, packet in enumerate(self.container.demux(streams)):
                if i == 60:
                    raise av.error.InvalidDataError(1094995529, "broken")
                self.n_pictures += packet.stream.type == "video"
                yield packet

    path = write_clip(tmp_path / "a.mp4", [GREY] * 75, fps=30, sound=tone(2.5), codecs=("mpeg4", "aac"))
    with av.open(str(path)) as container:
        cut = Cut(container)
        source = Source(cut, Sound(), Stopwatch())
        assert sum(n for _, n in source.frames()) == cut.n_pictures > 10
        assert source.warnings[0].startswith("can't be read to its end")
