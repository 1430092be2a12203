"""Picture and sound on one clock, whatever the source."""

import gc
import itertools
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from corpora.remux import remux
from preprocessing.faces import crop_face
from tests import clips
from tests.clips import retime, set_matrix, set_rotation, tone, write_clip
from tests.conftest import ROOT
from utils import media
from utils.chunkfiles import read_wav, write_wav
from utils.clocks import Clock
from utils.constants import SAMPLE_RATE_HZ
from utils.containers import VideoError
from utils.media import Source, open_source
from utils.pictures import orientation, rgb_patch, to_rgb
from utils.probe import COMMAND
from utils.sound import Sound
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
    ("rate_hz", "suffix", "codec"),
    [(16_000, "mp4", "aac"), (48_000, "mkv", "pcm_s16le"), (44_100, "avi", "libmp3lame")],
)
def test_any_sound_becomes_48_khz_mono(tmp_path, layout, rate_hz, suffix, codec):
    path = write_clip(
        tmp_path / f"a.{suffix}",
        [GREY] * 50,
        sound=tone(2, rate_hz, layout),
        rate_hz=rate_hz,
        codecs=("libx264", codec),
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
    both.write_bytes(
        data + (data if suffix == "ts" else data[13:])
    )  # the second one without the file's header
    grey = brightness(both)
    assert 238 <= len(grey) <= 243
    with open_source(both) as source:
        for _ in source.frames():
            pass
        loud = [np.abs(source.sound.read(i * 1600, 1600)[0].astype(int)).max() > 8000 for i in range(240)]
        assert source.sound.read(0, 8 * 48_000)[1] < 5_000
        assert any("clock starts again 1 times, first after 4.0" in warning for warning in source.warnings)
    for begin in (0, 120):
        seen, heard = (
            begin + np.flatnonzero(what[begin : begin + 120]) for what in (grey > 150, np.array(loud))
        )
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


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "rgb24"]
)
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
        tmp_path / "b.ts",
        [GREY] * 50,
        times_s=times,
        sound=second,
        rate_hz=48_000,
        sound_start_s=2,
        codecs=codecs,
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
            self.container, self.streams, self.duration, self.n_pictures = (
                container,
                container.streams,
                None,
                0,
            )

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


def numbered(n: int) -> list[np.ndarray]:
    """Pictures whose grey tells their number, modulo 11, and differs much from one to the next."""
    return [np.full((64, 64, 3), 20 + 18 * (4 * i % 11), np.uint8) for i in range(n)]


def numbers(path) -> np.ndarray:
    """The numbers, modulo 11, of `numbered` pictures, frame by frame at 30 fps."""
    return 3 * np.rint((brightness(path) - 20) / 18).astype(int) % 11  # 4 * 3 is 1, modulo 11


def check_numbers(path, n: int = 75, tolerance_s: float = 0.02) -> None:
    """Every one of `numbered` pictures at 25 fps is shown, in order and in time."""
    shown = numbers(path)
    assert len(shown) == pytest.approx(n * 1.2, abs=2)
    begins = [k for k in range(len(shown)) if k == 0 or shown[k] != shown[k - 1]]
    assert [shown[k] for k in begins] == [i % 11 for i in range(n)]
    assert np.abs(np.array(begins) / 30 - np.arange(n) / 25).max() <= tolerance_s


B_FRAMES = {"bf": "3", "preset": "fast", "b-adapt": "0"}


@pytest.mark.parametrize(
    ("suffix", "codec"), [("avi", "libx264"), ("avi", "mpeg4"), ("mp4", "libx264"), ("ts", "libx264")]
)
def test_pictures_that_are_decoded_in_another_order(tmp_path, suffix, codec):
    """AVI holds the times of decoding alone."""
    options = {"bf": "3"} if codec == "mpeg4" else B_FRAMES
    path = write_clip(
        tmp_path / f"a.{suffix}",
        numbered(75),
        sound=tone(3),
        codecs=(codec, "libmp3lame"),
        codec_options=options,
        key_every=30,
    )
    with av.open(str(path)) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    assert av.video.frame.PictureType.B in kinds
    check_numbers(path)


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_joining_keeps_the_times_of_pictures(tmp_path, suffix):
    options = {"codecs": ("libx264", "libmp3lame"), "codec_options": B_FRAMES, "key_every": 30}
    path = write_clip(tmp_path / f"a.{suffix}", numbered(75), sound=tone(3), **options)
    write_wav(tmp_path / "a.wav", np.zeros(144_000, np.int16))
    remux(path, tmp_path / "a.wav", tmp_path / "joined.mkv", 25)
    check_numbers(tmp_path / "joined.mkv")
    with av.open(str(tmp_path / "joined.mkv")) as container:  # as others read them
        times = [frame.pts for frame in container.decode(video=0)]
    np.testing.assert_allclose(np.diff(times), 40, atol=1)
    with open_source(tmp_path / "joined.mkv") as source:
        for _ in source.frames():
            pass
        assert float(source.sound.start) == pytest.approx(0, abs=0.002)


def test_a_lost_packet_moves_no_other_picture(tmp_path):
    """Also where the times are guessed: until the next key frame at most."""
    path = write_clip(
        tmp_path / "a.avi",
        numbered(75),
        sound=tone(3),
        codecs=("libx264", "libmp3lame"),
        codec_options=B_FRAMES,
        key_every=25,
    )
    data = bytearray(path.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"00dc"]
    start, stop = at[30], at[31]
    data[start + 8 : stop] = bytes(stop - start - 8)
    path.write_bytes(data)
    shown = numbers(path)
    assert list(shown[62:88]) == [round(k * 25 / 30 - 0.01) % 11 for k in range(62, 88)]


@pytest.mark.parametrize("jitter_s", [0.010, 0.020])
def test_sound_whose_time_stamps_tremble_is_unbroken(tmp_path, jitter_s):
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.5, 0.5, (1, 48_000 * 6)).astype(np.float32)
    plain = write_clip(
        tmp_path / "a.mkv", [GREY] * 150, sound=sound, rate_hz=48_000, codecs=("libx264", "libopus")
    )
    trembling = retime(
        plain,
        tmp_path / "b.mkv",
        lambda kind, i, s: s + 0.05 + (kind == "audio") * rng.uniform(-jitter_s, jitter_s),
    )
    sounds = []
    for path in (plain, trembling):
        with open_source(path) as source:
            for _ in source.frames():
                pass
            assert source.sound.read(4800, 280_000)[1] == 0
            sounds.append(source.sound.read(0, 288_000)[0][4800:-4800].astype(float))
    spectra = [np.fft.rfft(samples) for samples in sounds]
    lag = int(np.argmax(np.fft.irfft(spectra[0] * spectra[1].conj())))
    lag = lag - len(sounds[0]) if lag > len(sounds[0]) // 2 else lag
    assert abs(lag) <= 0.003 * 48_000
    np.testing.assert_array_equal(np.roll(sounds[1], lag)[1000:-1000], sounds[0][1000:-1000])


def test_sound_that_is_missing_among_trembling_time_stamps_is_missed(tmp_path):
    rng = np.random.default_rng(0)
    path = write_clip(
        tmp_path / "a.mkv", [GREY] * 150, sound=tone(6, 48_000), rate_hz=48_000, codecs=("libx264", "libopus")
    )
    trembling = retime(
        path,
        tmp_path / "b.mkv",
        lambda kind, i, s: (
            s + 0.05 + (kind == "audio") * (rng.uniform(-0.02, 0.02) + (0.3 if i > 150 else 0))
        ),
    )
    (((_, before), (_, around), (_, after))) = read_sound(
        trembling, (4800, 120_000), (134_400, 28_800), (165_000, 90_000)
    )
    assert before == after == 0 and around == pytest.approx(0.3 * 48_000, abs=0.045 * 48_000)


def test_empty_packets_repeat_the_picture(tmp_path):
    """Theora's way to say that nothing has changed."""
    pictures = [np.full((64, 64, 3), 60 + 40 * (i // 15), np.uint8) for i in range(75)]
    path = write_clip(tmp_path / "a.mp4", pictures, sound=tone(3), codecs=("mpeg4", "aac"), key_every=1)

    class Emptied:
        def __init__(self, container):
            self.container, self.streams, self.duration = container, container.streams, None

        def demux(self, streams):
            n_pictures = 0
            for packet in self.container.demux(streams):
                n_pictures += packet.stream.type == "video"
                if packet.stream.type == "video" and packet.dts is not None and n_pictures % 15 != 1:
                    empty = av.Packet()
                    empty.stream, empty.time_base = packet.stream, packet.time_base
                    empty.pts, empty.dts, empty.duration = packet.pts, packet.dts, packet.duration
                    packet = empty
                yield packet

    with av.open(str(path)) as container:
        source = Source(Emptied(container), Sound(), Stopwatch())
        grey = [to_rgb(frame).mean() for frame, n in source.frames() for _ in range(n)]
        assert source.damaged() == source.warnings == []
    np.testing.assert_allclose(grey, [60 + 40 * (k // 18) for k in range(90)], atol=6)


MATRICES = {  # a, b, c, d of the display matrix: how the stored picture is shown
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): np.rot90,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_pictures_are_turned_and_mirrored_as_players_do(tmp_path, matrix):
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (6, 10, 1)), np.ones((16, 16, 3))).astype(np.uint8)
    path = write_clip(tmp_path / "a.mp4", [picture] * 3, sound=tone(0.2))
    set_matrix(path, *matrix)
    frame = read_frames(path)[0][0]
    whole = to_rgb(frame)
    expected = MATRICES[matrix](picture)
    assert whole.shape == expected.shape and np.abs(whole.astype(int) - expected).mean() < 5
    window = np.array([20, 70, 10, 60])
    patch, top, left = rgb_patch(frame, window)
    np.testing.assert_array_equal(crop_face(patch, window - (top, top, left, left)), crop_face(whole, window))


@pytest.mark.parametrize(
    ("degrees", "is_said"), [(45, True), (30, True), (1, False), (90, False), (271, False)]
)
def test_a_tilt_is_said(tmp_path, degrees, is_said):
    path = write_clip(tmp_path / "a.mp4", [GREY] * 3, sound=tone(0.2))
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    set_matrix(path, cos, sin, -sin, cos)
    with open_source(path) as source:
        list(source.frames())
        assert any("turned by" in warning for warning in source.warnings) == is_said


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(7, 5), (140, 96)), (Fraction(8, 9), (100, 108)), (Fraction(1), (100, 96)), (None, (100, 96))],
)
def test_pixels_become_square(tmp_path, aspect, size):
    picture = np.zeros((96, 100, 3), np.uint8)
    picture[24:72, 25:75] = 200
    for suffix in ("mp4", "mkv"):
        path = write_clip(tmp_path / f"a.{suffix}", [picture] * 3, sound=tone(0.2), pixel_aspect=aspect)
        rgb = first_rgb(path)
        assert rgb.shape[:2] == size[::-1]
        assert (rgb[size[1] // 2, :, 0] > 100).sum() == pytest.approx(size[0] / 2, abs=2)
        assert (rgb[:, size[0] // 2, 0] > 100).sum() == pytest.approx(size[1] / 2, abs=2)


def test_an_absurd_shape_of_pixels_is_not_believed(tmp_path):
    path = write_clip(tmp_path / "a.mp4", [GREY] * 3, sound=tone(0.2), pixel_aspect=Fraction(6, 1))
    with open_source(path) as source:
        assert next(source.frames())[0].width == GREY.shape[1]
        assert "not believed" in source.warnings[0]


def test_streams_without_a_decoder(tmp_path):
    """The best stream that can be decoded is taken; without any the video fails with a stage and a reason."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width = GREY.shape[:2]
        video.pix_fmt = "yuv420p"
        tracks = [container.add_stream("aac", rate=rate, layout="mono") for rate in (48_000, 44_100)]
        tracks[0].disposition, tracks[1].disposition = av.stream.Disposition.default, av.stream.Disposition(0)
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(GREY, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for track in tracks:
            clips.write_sound(container, track, tone(1, track.rate), track.rate)
    data = path.read_bytes()
    aac = b"\x40\x15"  # object type in the descriptor of the stream
    assert data.count(aac) == 2
    path.write_bytes(data.replace(aac, b"\xfe\x15", 1).replace(b"mp4a", b"zzzz", 1))
    with open_source(path) as source:
        assert sum(n for _, n in source.frames()) == 30 and source.sound.n_decoded > 40_000
        prefers_other = source._container.streams.best("audio").index == 1
        assert source.warnings == ["no decoder for the sound in stream 1, stream 2 is taken"] * prefers_other
    no_sound = data.replace(aac, b"\xfe\x15").replace(b"mp4a", b"zzzz")
    for content, words in ((no_sound, "its sound"), (data.replace(b"avc1", b"zzzz"), "its picture")):
        (tmp_path / "b.mp4").write_bytes(content)
        with pytest.raises(VideoError, match=f"no decoder for {words}") as caught:
            read_frames(tmp_path / "b.mp4")
        assert caught.value.stage == "open"


@pytest.mark.parametrize(
    ("codec", "suffix", "right"), [("pcm_s16le", "mkv", -1), ("aac", "mp4", -1), ("aac", "mkv", -0.9)]
)
def test_channels_of_opposite_phase(tmp_path, codec, suffix, right):
    left = tone(2, 48_000)
    opposite = np.concatenate([left, right * left])
    path = write_clip(
        tmp_path / f"a.{suffix}", [GREY] * 50, sound=opposite, rate_hz=48_000, codecs=("libx264", codec)
    )
    with open_source(path) as source:
        list(source.frames())
        samples, n_missing = source.sound.read(4800, 48_000)
        assert any("cancel each other out" in warning for warning in source.warnings)
    assert n_missing == 0 and np.abs(samples).max() == pytest.approx(0.5 * 32767, rel=0.06)
    assert np.argmax(np.abs(np.fft.rfft(samples))) == 440


def test_wide_stereo_is_mixed(tmp_path):
    """Ambience of opposite phase beside a voice in the middle, and a voice on one side."""
    voice, noise = (
        tone(2, 48_000)[0] * 0.3,
        np.random.default_rng(0).uniform(-0.5, 0.5, 96_000).astype(np.float32),
    )
    for name, sound in (("wide", [voice + noise, voice - noise]), ("left", [voice, 0 * voice])):
        path = write_clip(
            tmp_path / f"{name}.mkv",
            [GREY] * 50,
            sound=np.array(sound),
            rate_hz=48_000,
            codecs=("libx264", "pcm_s16le"),
        )
        with open_source(path) as source:
            list(source.frames())
            assert source.warnings == []
            samples = source.sound.read(4800, 48_000)[0].astype(float)
        level = 0.3 * (0.5 if name == "left" else 1) * 0.5 * 32767
        assert 2 * np.abs(np.fft.rfft(samples))[440] / 48_000 == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_time_that_jumps_holds_no_pictures(tmp_path, suffix):
    times = [i / 25 + (10 if i >= 50 else 0) for i in range(100)]
    path = write_clip(tmp_path / f"a.{suffix}", [GREY] * 100, times_s=times, sound=tone(2))
    with open_source(path) as source:
        found = list(source.frames())
        assert any("1 times no new picture for more than a second" in warning for warning in source.warnings)
    assert sum(n for frame, n in found if frame is None) == pytest.approx(300, abs=2)
    assert sum(n for frame, n in found if frame is not None) == pytest.approx(120, abs=3)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi"])
def test_pictures_beyond_the_sound_are_not_shown(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(media, "SOUND_LAG_S", 2)
    path = write_clip(
        tmp_path / f"a.{suffix}", [GREY] * 80, fps=10, sound=tone(2), codecs=("libx264", "libmp3lame")
    )
    with open_source(path) as source:
        found = list(source.frames())
        assert any("beyond the sound and are left out" in warning for warning in source.warnings)
    assert sum(n for _, n in found) == pytest.approx(240, abs=3)
    assert sum(n for frame, n in found if frame is not None) == pytest.approx(120, abs=12)


def test_sound_that_comes_late_in_the_file_is_waited_for(tmp_path, monkeypatch):
    """All pictures lie before all sound."""
    path = write_clip(
        tmp_path / "a.mkv", [GREY] * 200, fps=10, sound=tone(20), codecs=("libx264", "libmp3lame")
    )
    monkeypatch.setattr(media, "SOUND_LAG_S", 2)
    with open_source(path) as source:
        assert all(frame is not None for frame, _ in source.frames()) and source.warnings == []


def test_a_picture_beyond_a_day_is_refused_before_any_stands_so_long(tmp_path, monkeypatch):
    monkeypatch.setattr(media, "MAX_DURATION_S", 100)
    path = write_clip(
        tmp_path / "a.mkv", [GREY] * 26, times_s=[*(i / 25 for i in range(25)), 200], sound=tone(1)
    )
    n = 0
    with (
        pytest.raises(VideoError, match="claims to come 200 s after the first one"),
        open_source(path) as source,
    ):
        for _, k in source.frames():
            n += k
    assert n < 31


def test_a_video_that_takes_absurdly_long_is_given_up(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mkv", [GREY] * 50, sound=tone(2))
    monkeypatch.setattr(Stopwatch, "is_too_slow", lambda self, n_pictures: n_pictures >= 20)
    with pytest.raises(VideoError, match="takes too long: 20 pictures in 0 minutes") as caught:
        read_frames(path)
    assert caught.value.stage == "time"


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("color_range", [1, 2])  # limited, full
@pytest.mark.parametrize(("space", "kr", "kb"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (9, 0.2627, 0.0593)])
def test_colours_by_matrix_and_range(space, kr, kb, color_range, bits):
    """BT.709, BT.601 and BT.2020, by their definition."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(30, 226, (8, 3)).astype(float)
    luma = rgb @ [kr, 1 - kr - kb, kb]
    blue, red = (rgb[:, 2] - luma) / (2 * (1 - kb)), (rgb[:, 0] - luma) / (2 * (1 - kr))
    top = 2**bits - 1
    if color_range == 1:
        planes = [
            (16 + luma * 219 / 255) * 2 ** (bits - 8),
            *((128 + c * 224 / 255) * 2 ** (bits - 8) for c in (blue, red)),
        ]
    else:
        planes = [luma * top / 255, *(2 ** (bits - 1) + c * top / 255 for c in (blue, red))]
    frame = av.VideoFrame(64, 64, "yuv444p" if bits == 8 else "yuv444p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.repeat(np.repeat(np.rint(values), 8)[None], 64, 0).astype(
            np.uint8 if bits == 8 else np.uint16
        )
        padded = np.zeros((64, plane.line_size // rows.itemsize), rows.dtype)
        padded[:, :64] = rows
        plane.update(padded.tobytes())
    frame.colorspace, frame.color_range = space, color_range
    for shown in (to_rgb(frame), rgb_patch(frame, (0, 64, 0, 64))[0]):
        np.testing.assert_allclose(shown[32, 4::8], rgb, atol=3)


def test_pictures_are_freed_as_they_are_shown(tmp_path):
    """Nothing that holds a picture waits for the garbage collector: they have up to 54 MB each."""
    path = write_clip(
        tmp_path / "a.mp4", [np.full((64, 64, 3), i, np.uint8) for i in range(100)], fps=30, sound=tone(3.3)
    )
    set_rotation(path, 90)
    gc.collect()
    gc.disable()
    try:
        with open_source(path) as source:
            for frame, _ in source.frames():
                assert to_rgb(frame).shape == (64, 64, 3) and orientation(frame).is_turned
            del frame
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) <= 2
    finally:
        gc.enable()


def test_a_first_packet_that_is_lost_costs_its_own_frame(tmp_path):
    pictures = [np.full((64, 64, 3), 40 + i, np.uint8) for i in range(100)]
    path = write_clip(
        tmp_path / "a.avi", pictures, fps=20, sound=tone(5), codecs=("mjpeg", "pcm_s16le"), pix_fmt="yuvj420p"
    )
    data = bytearray(path.read_bytes())
    first = data.index(b"00dc", data.index(b"movi"))
    size = int.from_bytes(data[first + 4 : first + 8], "little")
    data[first + 8 : first + 8 + size] = bytes(size)
    path.write_bytes(data)
    with open_source(path) as source:
        assert sum(n for _, n in source.frames()) >= 149
    assert all(stop <= 2 for _, stop in source.damaged())


@pytest.mark.parametrize("first", [0.3, 0.9, 1.34])
def test_copied_cuts_begin_where_their_edit_list_says(tmp_path, first):
    """A cut at any picture, made without coding anything again: decoding begins at the key frame before,
    showing does not.
    """
    whole = write_clip(tmp_path / "a.mp4", numbered(100), sound=tone(4), codec_options=B_FRAMES, key_every=25)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        source.seek(round(first * 1e6))
        for packet in [packet for packet in source.demux() if packet.dts is not None]:
            move = round(first / packet.time_base)
            packet.pts, packet.dts = packet.pts - move, packet.dts - move
            packet.stream = streams[packet.stream_index]
            out.mux(packet)
    shown = numbers(cut)
    assert len(shown) == pytest.approx((4 - first) * 30, abs=3)
    begins = [k for k in range(1, len(shown)) if shown[k] != shown[k - 1]]
    for k in begins:  # each picture begins within 20 ms of its time
        assert first + k / 30 == pytest.approx(round((first + k / 30) * 25) / 25, abs=0.03)
        assert (shown[k] - round((first + k / 30) * 25)) % 11 in (0, 1, 10)
    assert [(b - a) % 11 for a, b in itertools.pairwise(shown[k] for k in begins)] == [1] * (len(begins) - 1)
    ((samples, n_missing),) = read_sound(cut, (4800, 48_000))
    assert n_missing == 0 and np.argmax(np.abs(np.fft.rfft(samples))) == 440


FAULTS = {  # frames at 30 fps, size, words of the warnings
    "count.mp4": (300, (320, 240), []),
    "avi_h264_bframes.avi": (300, (320, 240), []),
    "time_restarts.ts": (600, (320, 240), ["clock starts again"]),
    "time_restarts.flv": (600, (320, 240), ["clock starts again"]),
    "theora_repeats.ogv": (180, (224, 224), []),
    "anamorphic.mp4": (180, (224, 224), []),
    "no_decoder_second_track.mov": (180, (224, 224), ["no decoder for the sound"]),
    "antiphase.mp4": (300, (320, 240), ["cancel each other out"]),
    "pcm_7_1.mov": (180, (224, 224), []),
    "gap_23h.mkv": (72, (224, 224), ["no new picture"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files_that_once_failed(reference, name):
    n_frames, size, words = FAULTS[name]
    if not (reference / "faults" / name).exists():
        pytest.skip("not there")
    with open_source(reference / "faults" / name) as source:
        found = [(frame.width, frame.height, n) for frame, n in source.frames() if frame is not None]
        assert sum(n for *_, n in found) == n_frames and {found_size[:2] for found_size in found} == {size}
        assert all(any(word in warning for warning in source.warnings) for word in words)
        seconds = [
            np.abs(source.sound.read(i * 48_000, 48_000)[0].astype(int)).max()
            for i in range(min(n_frames // 30, 20))
        ]
        assert max(seconds[:5]) > 1000 < max(seconds[-5:])


def test_the_reader_in_a_process_of_its_own_reads(tmp_path):
    """A wrong command would pass for a harmless video: only a signal counts as a death."""
    source = write_clip(tmp_path / "a.mp4", clips.face_pictures(10), sound=tone(0.4))
    done = subprocess.run([*COMMAND, source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
