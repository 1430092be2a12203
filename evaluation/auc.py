"""The area under the ROC curve with its uncertainty: bootstrap, DeLong's variance, and DeLong's test of two
scores.

DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988) 837-845, by ranks as in Sun and Xu, IEEE Signal
Processing Letters 21 (2014) 1389-1393.  Fake is the positive class, and the higher score the more fake.
"""

from typing import Any, TypedDict

import numpy as np
from scipy.stats import norm, rankdata

LEVEL = 0.95  # of all intervals
Z = norm.ppf((1 + LEVEL) / 2)
Interval = tuple[float, float]  # its lower and its upper end


class PairedTest(TypedDict):
    """DeLong's paired test of two scores of the same videos.

    The last three are None where the test says nothing: one video in a class, or a difference without
    variance.
    """

    auc: float  # of the first score
    auc_versus: float  # of the second
    difference: float  # the first minus the second
    difference_ci95: Interval | None
    z: float | None
    p: float | None  # two-sided, of equal AUCs


def interval_text(interval: Interval | None, spec: str = ".4f") -> str:
    """An interval in words, its ends formatted by `spec`."""
    return "unknown" if interval is None else f"{interval[0]:{spec}} to {interval[1]:{spec}}"


def placements(fake: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each fake how many real scores lie below it, (m,), and of each real one how many fake scores lie
    above, (n,).

    A tie counts one half. Divided by n and m they are the structural components V10 and V01 of the paper, and
    either mean is the AUC.
    """
    ranks = rankdata(np.concatenate([fake, real]))  # of ties the mean
    return ranks[: len(fake)] - rankdata(fake), len(fake) - (ranks[len(fake) :] - rankdata(real))


def delong_variance(below: np.ndarray, above: np.ndarray) -> float | None:
    """DeLong's variance of the mean of placements, or of their difference between two scores, on the AUC's
    scale.

    None with fewer than two videos of a class.
    """
    m, n = len(below), len(above)
    return None if min(m, n) < 2 else float(np.var(below / n, ddof=1) / m + np.var(above / m, ddof=1) / n)


def wider(first: Interval, second: Interval) -> Interval:
    """The wider of two intervals."""
    return max(first, second, key=lambda interval: interval[1] - interval[0])


def logit_interval(auc: float, variance: float, quantile: float = Z) -> Interval:
    """The interval of an AUC that is neither 0 nor 1, `quantile` standard errors wide on the logit scale."""
    logit, spread = np.log(auc / (1 - auc)), quantile * np.sqrt(variance) / (auc * (1 - auc))
    low, high = 1 / (1 + np.exp(-(logit + spread * np.array([-1, 1]))))
    return float(low), float(high)


def binomial_interval(auc: float, n_pairs: int) -> Interval:
    """The interval (Clopper-Pearson) of an AUC of 0 or 1 that so many independent pairs agree on."""
    bound = float(((1 - LEVEL) / 2) ** (1 / n_pairs))
    return (bound, 1.0) if auc else (0.0, 1 - bound)


def delong_auc(is_fake: np.ndarray, score: np.ndarray) -> tuple[float, Interval | None]:
    """The AUC and its 95 % interval: DeLong's variance, on the logit scale, so that the interval stays within
    0..1.

    Where the score parts the classes without a mistake that variance is 0 and says nothing. Real and fake
    videos then make min(m, n) pairs, each independent of the others and each in order, and the interval is
    the binomial one of those (Clopper-Pearson). None where a class has one video or the score is the same for
    all.
    """
    fake, real = score[is_fake], score[~is_fake]
    below, above = placements(fake, real)
    auc = float(below.sum() / (len(fake) * len(real)))
    if auc in (0, 1):
        return auc, binomial_interval(auc, min(len(fake), len(real)))
    variance = delong_variance(below, above)
    return auc, logit_interval(auc, variance) if variance else None


def delong_test(is_fake: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Test whether two scores of the same videos have the same AUC.

    Scores that order all pairs alike have difference 0, z 0 and p 1.
    """
    below, above = placements(first[is_fake], first[~is_fake])
    below_2, above_2 = placements(second[is_fake], second[~is_fake])
    n_pairs = len(below) * len(above)
    auc, auc_2 = float(below.sum() / n_pairs), float(below_2.sum() / n_pairs)
    return paired_test(auc, auc_2, delong_variance(below - below_2, above - above_2), norm)


def paired_test(auc: float, auc_2: float, variance: float | None, errors: Any) -> PairedTest:
    """Test whether two AUCs are equal, by the variance of their difference.

    Args:
        errors: the distribution, one of SciPy's, of a difference over its standard error: normal or, where
            the variance is known by few clusters, Student's.
    """
    difference = auc - auc_2
    interval, z, p = None, None, None
    if variance:
        error = np.sqrt(variance)
        spread = errors.ppf((1 + LEVEL) / 2) * error
        low, high = np.clip([difference - spread, difference + spread], -1, 1)
        interval = float(low), float(high)
        z = float(difference / error)
        p = float(2 * errors.sf(abs(z)))
    elif variance == 0 and difference == 0:
        interval, z, p = (0.0, 0.0), 0.0, 1.0
    return {
        "auc": auc,
        "auc_versus": auc_2,
        "difference": difference,
        "difference_ci95": interval,
        "z": z,
        "p": p,
    }


def bootstrap_auc(is_fake: np.ndarray, score: np.ndarray, n_resamples: int = 2000, seed: int = 0) -> Interval:
    """95 % percentile interval of the AUC, resampling the videos of each class with replacement."""
    rng = np.random.default_rng(seed)
    levels, code = np.unique(score, return_inverse=True)
    fake, real = code[is_fake], code[~is_fake]
    aucs = np.empty(n_resamples)
    for i in range(n_resamples):
        fakes, reals = (
            np.bincount(rng.choice(codes, len(codes)), minlength=len(levels)) for codes in (fake, real)
        )
        aucs[i] = fakes @ (np.cumsum(reals) - reals / 2) / (len(fake) * len(real))
    low, high = np.percentile(aucs, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
