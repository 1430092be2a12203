"""The kinds of perturbation and what each of their levels means: docs/robustness.md has the same table."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perturbations import pictures, sounds

Change = Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]
SPLIT = "test"  # what is perturbed is there to be tested on, so that write_csv.py calls it that
VIDEOS = "videos.csv"  # all videos of the split, perturbed or not
FINE_CRF = 12  # of pictures that are coded again but not perturbed by that


@dataclass(frozen=True)
class Kind:
    """A kind of perturbation. A stream without a change is copied as it is."""

    words: str  # what a strength means: a format for one
    strengths: Mapping[int, Any] = field(hash=False)  # by level; what a change takes
    picture: Change | None = None  # of a frame, see `pictures`
    sound: Change | None = None  # of the whole sound, see `sounds`
    is_crf: bool = False  # the strength is the quality of H.264 that the pictures are coded with
    is_bit_rate: bool = False  # the strength is the bit rate of AAC in kbit/s that the sound is coded with

    def meaning(self, level: int) -> str:
        return self.words.format(self.strengths[level])

    def crf(self, level: int) -> int:
        return self.strengths[level] if self.is_crf else FINE_CRF

    def bit_rate(self, level: int) -> int | None:
        """Bits by second of one channel, or None for sound without loss."""
        return 500 * self.strengths[level] if self.is_bit_rate else None  # kbit/s of two channels


def by_level(*strengths: Any) -> dict[int, Any]:
    return dict(enumerate(strengths, start=1))


DELAYS_MS = (40, 80, 120, 200, 500)
BANDS_HZ = ((50, 7000), (100, 5000), (200, 4000), (300, 3400), (500, 2000))
# what the same encoding does without a perturbation; it has no levels but this one
CONTROL = Kind("coded again alone", {0: None}, pictures.keep_picture, sounds.keep_sound)
KINDS = {
    "none": CONTROL,
    "h264": Kind("CRF {}", by_level(30, 32, 35, 38, 40), picture=pictures.keep_picture, is_crf=True),
    "resize": Kind("to {} of the size", by_level(0.75, 0.5, 0.35, 0.25, 0.2), picture=pictures.shrink),
    "blur": Kind("kernel of {} px", by_level(7, 9, 13, 17, 21), picture=pictures.blur),
    "noise": Kind(
        "variance {}", by_level(0.001, 0.002, 0.005, 0.01, 0.05), picture=pictures.add_colour_noise
    ),
    "blocks": Kind("{} blocks", by_level(16, 32, 48, 64, 80), picture=pictures.cover),
    "contrast": Kind("times {}", by_level(0.85, 0.725, 0.6, 0.475, 0.35), picture=pictures.lessen_contrast),
    "saturation": Kind("times {}", by_level(0.4, 0.3, 0.2, 0.1, 0.0), picture=pictures.lessen_saturation),
    "sound_noise": Kind("SNR {} dB", by_level(40, 30, 20, 15, 10), sound=sounds.add_white_noise),
    "aac": Kind("{} kbit/s", by_level(320, 192, 128, 96, 64), sound=sounds.keep_sound, is_bit_rate=True),
    "pitch": Kind("{} semitones up", by_level(2, 4, 6, 8, 10), sound=sounds.raise_pitch),
    "reverb": Kind("RT60 {} s", by_level(0.2, 0.4, 0.6, 0.8, 1.0), sound=sounds.add_reverb),
    "band": Kind("{0[0]} to {0[1]} Hz", by_level(*BANDS_HZ), sound=sounds.limit_band),
    "late": Kind("{} ms", by_level(*DELAYS_MS), sound=sounds.delay),
    "early": Kind("{} ms", by_level(*(-ms for ms in DELAYS_MS)), sound=sounds.delay),
}


def perturbed_folder(to: Path, kind: str, level: int) -> Path:
    """Where a kind and level of a split lies, below the folder of all of them: an --out_dir of its own."""
    return to / f"{kind}_{level}"


def generator(video: str, kind: str, level: int) -> np.random.Generator:
    """The randomness of a video, whatever its label, in a kind and level: the same in each run."""
    text = f"{kind}/{level}/{video}".encode(errors="surrogateescape")
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:8]))
