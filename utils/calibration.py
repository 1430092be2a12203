"""The logistic that makes a probability of an MDS, as checkpoints and scores.json hold it.

It holds for videos like those that it was fitted on, mixed of as many fakes and real ones, and for no others.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

MIN_VIDEOS = 10  # held-out ones, real and fake, that a calibration takes


class Calibration(TypedDict):
    """Platt's logistic: the probability of fake is 1 / (1 + exp(-(slope * MDS + intercept)))."""

    slope: float  # per unit of MDS; below 0 if the fakes it was fitted on had the lower scores
    intercept: float
    n_real: int  # held-out videos that it was fitted on
    n_fake: int


def checked_calibration(found: Mapping[str, Any]) -> Calibration:
    """A calibration out of a file; KeyError, TypeError, ValueError or OverflowError if it is none."""
    checked: Calibration = {
        "slope": float(found["slope"]),
        "intercept": float(found["intercept"]),
        "n_real": int(found["n_real"]),
        "n_fake": int(found["n_fake"]),
    }
    is_finite = np.isfinite([checked["slope"], checked["intercept"]]).all()
    if not is_finite or min(checked["n_real"], checked["n_fake"]) < 1:
        raise ValueError("a calibration that can't be")
    return checked


def calibrated(mds: np.ndarray, calibration: Calibration) -> np.ndarray:
    """The probability that videos like those of the calibration, with these MDS, are fake; 0..1."""
    exponent = calibration["slope"] * np.asarray(mds, np.float64) + calibration["intercept"]
    return np.exp(-np.logaddexp(0, -exponent))  # without overflow


def calibration_words(calibration: Calibration) -> str:
    """For which videos a probability holds."""
    videos = f"{calibration['n_real']} real and {calibration['n_fake']} fake held-out training videos"
    valid = "it holds for videos of that kind alone, with that share of fakes"
    odd = "" if calibration["slope"] > 0 else "; among them the fakes did not have the higher scores"
    return f"fitted on {videos}{odd}; {valid}"
