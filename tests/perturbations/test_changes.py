"""Each perturbation changes a picture or a sound by as much as its level says."""

import numpy as np
import pytest

from perturbations.kinds import BANDS_HZ, DELAYS_MS, KINDS, generator
from perturbations.pictures import BLOCKS_A_SIDE, GREY, keep_picture
from perturbations.sounds import keep_sound
from tests.clips import face_pictures
from utils.constants import SAMPLE_RATE_HZ

RNG = np.random.default_rng(0)
SPEECH = 0.1 * RNG.standard_normal(SAMPLE_RATE_HZ) * (1 + np.sin(np.arange(SAMPLE_RATE_HZ) / 2000))


def levels(name: str):
    return pytest.mark.parametrize("level", KINDS[name].strengths)


def changed(name: str, level: int, values: np.ndarray) -> np.ndarray:
    """A picture or a sound as a kind and level leaves it."""
    kind = KINDS[name]
    change = kind.picture or kind.sound
    return change(values, kind.strengths[level], generator("a", name, level))


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    error = np.square(a.astype(float) - b).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def gain_db(name: str, level: int, frequency_hz: float) -> float:
    """By how much a tone gets stronger, without the ends."""
    tone = sine(frequency_hz, 1.0)
    inner = slice(SAMPLE_RATE_HZ // 4, -SAMPLE_RATE_HZ // 4)
    return 20 * np.log10(np.std(changed(name, level, tone)[inner]) / np.std(tone[inner]))


def sine(frequency_hz: float, seconds: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)


PICTURES = [name for name, kind in KINDS.items() if kind.picture not in (None, keep_picture)]
SOUNDS = [name for name, kind in KINDS.items() if kind.sound not in (None, keep_sound)]


@pytest.mark.parametrize("name", PICTURES)
def test_each_level_leaves_less_of_a_picture(name):
    face = face_pictures(1, 224)[0]
    before = face.copy()
    left = [psnr_db(changed(name, level, face), face) for level in KINDS[name].strengths]
    assert left == sorted(left, reverse=True) and len(set(left)) == 5 and left[0] < 50
    assert (face == before).all()


@pytest.mark.parametrize("name", SOUNDS)
def test_each_level_leaves_as_many_samples(name):
    for level in KINDS[name].strengths:
        for n in (1, 700, len(SPEECH)):
            heard = changed(name, level, SPEECH[:n])
            assert heard.shape == (n,) and np.isfinite(heard).all() and not np.shares_memory(heard, SPEECH)


@pytest.mark.parametrize("name", SOUNDS)
def test_silence_stays_silent(name):
    for level in KINDS[name].strengths:
        assert not changed(name, level, np.zeros(9000)).any()


def test_randomness_is_of_the_video_the_kind_and_the_level():
    draws = [generator(*key).integers(2**60) for key in (("a", "noise", 1), ("a", "noise", 1))]
    others = [
        generator(*key).integers(2**60) for key in (("b", "noise", 1), ("a", "blocks", 1), ("a", "noise", 2))
    ]
    assert draws[0] == draws[1] and len({draws[0], *others}) == 4


@levels("resize")
def test_resize_loses_what_is_too_fine(level):
    scale, x = KINDS["resize"].strengths[level], np.arange(600)

    def contrast(cycles_per_px: float) -> float:
        row = 128 + 100 * np.cos(2 * np.pi * cycles_per_px * x)
        grating = np.tile(np.rint(row)[None, :, None], (300, 1, 3)).astype(np.uint8)
        return changed("resize", level, grating)[50:-50, 50:-50].std() / grating.std()

    assert contrast(scale / 8) > 0.9
    if scale <= 0.5:
        assert contrast(scale) < 0.05  # a whole cycle in each pixel of the small picture


@levels("blur")
def test_blur_is_as_wide_as_its_kernel_says(level):
    kernel_px = KINDS["blur"].strengths[level]
    edge = np.zeros((9, 101, 3), np.uint8)
    edge[:, 50:] = 255
    slope = np.diff(changed("blur", level, edge)[4, :, 0].astype(float)) / 255  # the kernel's own shape
    x = np.arange(len(slope))
    width = np.sqrt((slope * np.square(x - (slope * x).sum())).sum())
    assert width == pytest.approx(kernel_px / 6, rel=0.05)
    assert (slope > 0).sum() <= kernel_px


@levels("noise")
def test_noise_has_its_variance(level):
    variance = KINDS["noise"].strengths[level]
    noise = changed("noise", level, np.full((300, 300, 3), 128, np.uint8)) / 255 - 128 / 255
    clipped = 0.07 if variance > 0.02 else 0.02  # what lies beyond black and white is cut off
    assert noise.var() == pytest.approx(variance, rel=clipped)
    r, g = noise[..., 0].ravel(), noise[..., 1].ravel()
    assert abs(np.corrcoef(r, g)[0, 1]) < 0.02


@levels("blocks")
def test_blocks_cover_as_much_as_they_should(level):
    height, width, n = 160, 224, KINDS["blocks"].strengths[level]
    side = height // BLOCKS_A_SIDE
    rng, kind = generator("a", "blocks", level), KINDS["blocks"]
    frames = [kind.picture(np.zeros((height, width, 3), np.uint8), n, rng) for _ in range(100)]
    assert set(np.unique(frames)) == {0, GREY} and (frames[0] != frames[1]).any()
    inner = np.array(frames)[:, side:-side, side:-side, 0] == GREY  # squares do not lie across the edge
    places = (height - side + 1) * (width - side + 1)
    assert inner.mean() == pytest.approx(1 - (1 - side**2 / places) ** n, rel=0.05)


@levels("contrast")
def test_contrast_is_lessened_by_its_ratio(level):
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 4, 3))
    left = changed("contrast", level, ramp)
    slope = np.polyfit(np.arange(256), left[:, 0, 0].astype(float), 1)[0]
    assert slope == pytest.approx(KINDS["contrast"].strengths[level], abs=0.002)
    assert (left[GREY] == GREY).all()


@levels("saturation")
def test_saturation_is_lessened_by_its_ratio(level):
    colours = RNG.integers(60, 190, (50, 50, 3)).astype(np.uint8)
    left = changed("saturation", level, colours).astype(float)
    ratio = KINDS["saturation"].strengths[level]
    brightness = [c @ [0.299, 0.587, 0.114] for c in (colours, left)]
    assert abs(brightness[0] - brightness[1]).max() < 1
    colour = [c[..., 0] - c[..., 2] for c in (colours.astype(float), left)]
    assert np.polyfit(colour[0].ravel(), colour[1].ravel(), 1)[0] == pytest.approx(ratio, abs=0.01)


@levels("sound_noise")
def test_sound_has_its_snr(level):
    noise = changed("sound_noise", level, SPEECH) - SPEECH
    snr_db = 10 * np.log10(np.square(SPEECH).sum() / np.square(noise).sum())
    assert snr_db == pytest.approx(KINDS["sound_noise"].strengths[level], abs=1e-6)
    power = np.abs(np.fft.rfft(noise)) ** 2
    assert power[: len(power) // 2].sum() == pytest.approx(power[len(power) // 2 :].sum(), rel=0.05)  # white


@levels("pitch")
def test_pitch_rises_by_its_semitones(level):
    tone = changed("pitch", level, sine(440, 1.0))
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 2**18))
    peak_hz = spectrum.argmax() * SAMPLE_RATE_HZ / 2**18
    semitones = 12 * np.log2(peak_hz / 440)
    assert semitones == pytest.approx(KINDS["pitch"].strengths[level], abs=0.02)
    assert tone[5000:-5000].std() == pytest.approx(sine(440, 1.0).std(), rel=0.1)


@levels("pitch")
def test_pitch_leaves_the_sound_where_it_is(level):
    at = np.arange(4000, SAMPLE_RATE_HZ - 4000, 6000)
    bursts = np.zeros(SAMPLE_RATE_HZ)
    for start in at:
        bursts[start : start + 1200] = sine(600, 0.025)
    loud = np.square(changed("pitch", level, bursts))
    for start in at:  # the middle of each burst's power, of 25 ms
        window = np.arange(start - 2000, start + 3200)
        middle = (loud[window] * window).sum() / loud[window].sum()
        assert abs(middle - (start + 600)) < 0.001 * SAMPLE_RATE_HZ


@levels("reverb")
def test_reverb_dies_away_in_its_time(level):
    impulse = np.zeros(2 * SAMPLE_RATE_HZ)
    impulse[100] = 0.9
    heard = changed("reverb", level, impulse)
    assert not np.abs(heard[:100]).max() > 1e-9 and heard.argmax() == 100
    echo = np.square(heard[101:])
    assert echo.sum() == pytest.approx(heard[100] ** 2, rel=1e-6)
    left_db = 10 * np.log10(echo[::-1].cumsum()[::-1] / echo.sum())  # Schroeder's curve
    begin, end = (int(np.argmax(left_db < db)) for db in (-5, -35))
    rt60_s = 2 * (end - begin) / SAMPLE_RATE_HZ
    assert rt60_s == pytest.approx(KINDS["reverb"].strengths[level], rel=0.06)
    assert np.square(heard).sum() == pytest.approx(np.square(impulse).sum())


@levels("band")
def test_band_keeps_its_frequencies(level):
    low, high = BANDS_HZ[level - 1]
    assert gain_db("band", level, np.sqrt(low * high)) == pytest.approx(0, abs=0.1)
    assert gain_db("band", level, low) == pytest.approx(-6, abs=0.3)
    assert gain_db("band", level, high) == pytest.approx(-6, abs=0.3)
    assert gain_db("band", level, low / 2) < -30 and gain_db("band", level, 2 * high) < -30
    heard = changed("band", level, SPEECH)
    lags = np.fft.irfft(np.fft.rfft(heard) * np.conj(np.fft.rfft(SPEECH)))
    assert lags.argmax() == 0


@pytest.mark.parametrize("name", ["sound_noise", "reverb", "band", "pitch"])
def test_each_level_leaves_less_of_a_sound(name):
    def similarity(level: int) -> float:
        return float(np.corrcoef(changed(name, level, SPEECH), SPEECH)[0, 1])

    left = [similarity(level) for level in KINDS[name].strengths]
    assert left[0] < 0.99999
    if name in ("sound_noise", "band"):  # the others leave other samples at once
        assert left == sorted(left, reverse=True)


@levels("late")
def test_sound_comes_late_and_early_to_the_sample(level):
    n = DELAYS_MS[level - 1] * 48
    late, early = changed("late", level, SPEECH), changed("early", level, SPEECH)
    assert (late[n:] == SPEECH[:-n]).all() and not late[:n].any()
    assert (early[:-n] == SPEECH[n:]).all() and not early[-n:].any()
    assert KINDS["late"].strengths[level] == -KINDS["early"].strengths[level] == DELAYS_MS[level - 1]
    assert not changed("late", level, SPEECH[: n // 2]).any()  # shorter than the delay
