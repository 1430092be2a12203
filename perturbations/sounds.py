"""Perturbations of the sound, (n,) float64 in -1..1 at 48 kHz, to as many samples, of a strength and with a
video's own randomness. What goes beyond -1..1 is clipped when it is written.
"""

from fractions import Fraction

import numpy as np
from scipy import signal

from utils.constants import SAMPLE_RATE_HZ

BAND_ORDER = 4  # of the filter, which is applied forwards and backwards
WINDOW = 2048  # samples of the phase vocoder's window, 43 ms
HOP = WINDOW // 4  # from one window to the next
MAX_DENOMINATOR = 100  # of the ratio that stands for a number of semitones: off by less than 0.1 % of one
DECAY = np.log(1000)  # by as much, in 60 dB, an amplitude falls: ln(10^(60/20))


def keep_sound(sound: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return sound


def add_white_noise(sound: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise that is so much weaker than the whole sound in the mean; none to silence."""
    noise = rng.standard_normal(len(sound))
    power = np.square(sound).mean() / 10 ** (snr_db / 10)
    return sound + noise * np.sqrt(power / np.square(noise).mean())


def raise_pitch(sound: np.ndarray, semitones: float, rng: np.random.Generator) -> np.ndarray:
    """Raise all frequencies, formants too: stretch the sound, then play it so much faster."""
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(MAX_DENOMINATOR)
    stretched = stretch(sound, float(ratio))
    return signal.resample_poly(stretched, ratio.denominator, ratio.numerator)[: len(sound)]


def stretch(sound: np.ndarray, ratio: float) -> np.ndarray:
    """Make a sound so many times as long by a phase vocoder; the frequencies stay.

    Bins turn together with the nearest peak of their spectrum, so that a click stays in its place in the
    window (identity phase locking: Laroche and Dolson, IEEE Trans. Speech and Audio Processing 7, 1999).

    Returns:
        (at least ratio * n,) float64. What was in the middle of a window stays there: nothing gets late.
    """
    window = signal.windows.hann(WINDOW, sym=False)
    n_windows = int(np.ceil(len(sound) * ratio / HOP)) + 1
    padded = np.pad(sound, (WINDOW // 2 + HOP, WINDOW + HOP))
    result = np.zeros((n_windows - 1) * HOP + WINDOW)
    written = np.zeros(WINDOW // 2 + 1, complex)  # the spectrum of the window before, as it was written
    for k in range(n_windows):
        start = round(k * HOP / ratio)  # in `padded`, of the window a hop before the one that is written
        before = np.fft.rfft(window * padded[start : start + WINDOW])  # (WINDOW / 2 + 1,)
        now = np.fft.rfft(window * padded[start + HOP : start + HOP + WINDOW])
        # a peak turns by as much as it does within a hop of the original
        turn = written * np.conj(before)
        turn = turn[nearest_peaks(np.abs(now))]
        size = np.abs(turn)
        written = now * np.divide(turn, size, out=np.ones_like(turn), where=size > 0)
        result[k * HOP : k * HOP + WINDOW] += window * np.fft.irfft(written)
    overlap = np.square(window).sum() / HOP  # the same everywhere, as Hann windows a quarter apart are
    return result[WINDOW // 2 :] / overlap


def nearest_peaks(size: np.ndarray) -> np.ndarray:
    """Of each bin of a spectrum the nearest one that is larger than the two on either side, (n,)."""
    peaks = signal.argrelmax(size, order=2)[0]
    if not len(peaks):
        return np.arange(len(size))
    return peaks[np.searchsorted((peaks[1:] + peaks[:-1]) / 2, np.arange(len(size)))]


def add_reverb(sound: np.ndarray, rt60_s: float, rng: np.random.Generator) -> np.ndarray:
    """Add the echo of a room: noise that falls by 60 dB within `rt60_s`, after the direct sound and in all as
    strong. The power of the whole stays.
    """
    t = np.arange(1, round(rt60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(len(t)) * np.exp(-DECAY * t / rt60_s)
    response = np.concatenate([[1.0], tail / np.linalg.norm(tail)])
    wet = signal.oaconvolve(sound, response)[: len(sound)]
    power, power_before = np.square(wet).mean(), np.square(sound).mean()
    return wet * np.sqrt(power_before / power) if power else wet


def limit_band(sound: np.ndarray, band_hz: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Keep the frequencies of a band; both its ends are 6 dB down. Nothing gets late."""
    sections = signal.butter(BAND_ORDER, band_hz, "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    n_padding = min(len(sound) - 1, SAMPLE_RATE_HZ // 10)
    return signal.sosfiltfilt(sections, sound, padlen=n_padding)


def delay(sound: np.ndarray, late_ms: float, rng: np.random.Generator) -> np.ndarray:
    """Let the sound come later, or earlier if `late_ms` is below 0. Silence fills, what goes beyond an end
    is cut off.
    """
    n = min(round(abs(late_ms) * SAMPLE_RATE_HZ / 1000), len(sound))
    silence, rest = np.zeros(n), len(sound) - n
    return np.concatenate([silence, sound[:rest]] if late_ms > 0 else [sound[n:], silence])
