"""The figures over all thresholds. A new one is one entry in `FIGURES`: metrics.json, screen and page follow.

Fake is the positive class, and the higher score the more fake.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_curve

FPRS = (0.01, 0.1)  # false positive rates at which the true positive rate is given


def equal_error_rate(is_fake: np.ndarray, score: np.ndarray) -> float:
    """The rate at which misses and false alarms are equal, interpolated linearly on the ROC curve, 0..1."""
    fpr, tpr, _ = roc_curve(is_fake, score, drop_intermediate=False)
    gap = fpr + tpr - 1  # rises from -1 to 1 along the curve
    i = int(np.argmax(gap >= 0))
    if gap[i] == 0:
        return float(fpr[i])
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(fpr[i - 1] + share * (fpr[i] - fpr[i - 1]))


def tpr_at_fpr(is_fake: np.ndarray, score: np.ndarray, fpr: float) -> float:
    """The largest share of fakes that a threshold finds while it calls at most the share `fpr` of the real
    videos fake, 0..1.

    Not interpolated: with fewer than 1/fpr real videos it is the share of fakes above every real one.
    """
    rates, found, _ = roc_curve(is_fake, score, drop_intermediate=False)
    return float(found[rates <= fpr * (1 + 1e-9)].max())


@dataclass(frozen=True)
class Figure:
    """A number over all thresholds.

    Its texts may hold {fake_share:.4f}, for the share of fakes among the videos.
    """

    key: str  # in metrics.json
    name: str  # before the value, on the screen and on the page
    compute: Callable[[np.ndarray, np.ndarray], float]  # of is_fake (n,) bool and the score (n,) float64
    note: str  # on the page: what it says
    remark: str = ""  # on the screen, after the value


FIGURES = (
    Figure(
        "average_precision",
        "average precision",
        average_precision_score,
        note="the area under precision over recall; a random ranking has {fake_share:.4f}, the share of "
        "fakes, so compare it only on the same videos",
        remark="precision of a random ranking: {fake_share:.4f}, the share of fakes",
    ),
    Figure(
        "eer",
        "equal error rate",
        equal_error_rate,
        note="where fakes are missed as often as real videos are called fake; 0 is best, 0.5 guessing",
    ),
)
