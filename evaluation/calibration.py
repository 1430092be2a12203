"""A probability out of the MDS: fitted on held-out videos (Platt's logistic), and tried on others (Brier
score, reliability diagram).

Platt, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers (1999) 61-74.
Two numbers can be fitted on few videos; isotonic regression takes many.
"""

from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from evaluation.auc import LEVEL, Interval
from utils.calibration import MIN_VIDEOS, Calibration, calibrated
from utils.constants import LABELS

PER_BIN, MAX_BINS = 15, 10  # videos of a bin at least; bins at most


class Bin(TypedDict):
    """Videos that are given nearly the same probability."""

    n: int
    p_fake: float  # mean of the probabilities
    fake_share: float  # what they should be
    fake_share_ci95: Interval  # Wilson's, as if the videos were independent


class CalibrationFigures(Calibration):
    """How right the probabilities of a score table are."""

    brier: float  # mean squared difference of probability and truth; 0 is best
    brier_of_share: float  # of giving every video the share of fakes
    p_fake: float  # mean of the probabilities
    fake_share: float  # what it should be
    bins: list[Bin]  # from the lowest probabilities to the highest; none with fewer videos than two bins take


def fit_calibration(scores: pd.DataFrame) -> Calibration | None:
    """Platt's logistic of the MDS of held-out videos, a table with label and mds; None if fewer than
    `MIN_VIDEOS` of them are real or fake.

    His smoothed targets, (n + 1) / (n + 2) for the n fakes and 1 / (n + 2) for the n real ones, keep it from
    being sure where the classes are few or parted without a mistake.
    """
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    mds = scores.mds.to_numpy(np.float64)
    n_fake, n_real = int(is_fake.sum()), int((~is_fake).sum())
    if min(n_fake, n_real) < MIN_VIDEOS:
        return None
    target = np.where(is_fake, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    middle, spread = mds.mean(), mds.std() or 1.0
    values = np.tile((mds - middle) / spread, 2)[:, None]  # each video as fake and as real,
    says_fake = np.repeat([True, False], len(mds))
    weight = np.concatenate([target, 1 - target])  # by its target
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(values, says_fake, weight)
    slope = float(fitted.coef_[0, 0] / spread)
    intercept = float(fitted.intercept_[0] - slope * middle)
    return {"slope": slope, "intercept": intercept, "n_real": n_real, "n_fake": n_fake}


def reliability(is_fake: np.ndarray, p_fake: np.ndarray) -> list[Bin]:
    """Videos in order of their probability, in bins of as many each: 2 to `MAX_BINS`, or none if they are too
    few.
    """
    n_bins = min(MAX_BINS, len(p_fake) // PER_BIN)
    if n_bins < 2:
        return []
    bins: list[Bin] = []
    for rows in np.array_split(np.argsort(p_fake, kind="stable"), n_bins):
        found = binomtest(int(is_fake[rows].sum()), len(rows))
        low, high = found.proportion_ci(LEVEL, method="wilson")
        share, mean = float(found.statistic), float(p_fake[rows].mean())
        interval = float(low), float(high)
        bins.append({"n": len(rows), "p_fake": mean, "fake_share": share, "fake_share_ci95": interval})
    return bins


def calibration_figures(scores: pd.DataFrame, calibration: Calibration) -> CalibrationFigures:
    """How right the probabilities are that a calibration gives the videos of a score table."""
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    p_fake = calibrated(scores.mds.to_numpy(np.float64), calibration)
    share = float(is_fake.mean())
    return {
        **calibration,
        "brier": float(np.mean((p_fake - is_fake) ** 2)),
        "brier_of_share": share * (1 - share),
        "p_fake": float(p_fake.mean()),
        "fake_share": share,
        "bins": reliability(is_fake, p_fake),
    }
