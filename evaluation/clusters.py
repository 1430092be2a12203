"""Intervals and tests of the AUC where videos are not independent: fakes share their originals, people appear
in many videos.

A cluster is all videos that belong together: a real one with every fake made from it, or all of a person.
Clusters are taken for independent, videos within one are not.  The analytic variance is that of Obuchowski,
Biometrics 53 (1997) 567-578, which is DeLong's where every video is a cluster of its own.
"""

from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import t

from evaluation.auc import (
    LEVEL,
    Interval,
    PairedTest,
    binomial_interval,
    logit_interval,
    paired_test,
    placements,
    wider,
)
from utils.cli import UserError

BY_DEFAULT, NOT_AT_ALL = "original", "none"  # what makes a cluster
CODE = "cluster_code"  # column with the number of a video's cluster
MIN_CLUSTERS = 10  # with real and with fake videos, for an interval
N_RESAMPLES = 2000
BLOCK = 2_000_000  # numbers at once, of a bootstrap


class ClusterFigures(TypedDict):
    """The uncertainty of an AUC if clusters, not videos, are independent."""

    by: str  # the column that says which videos belong together
    n_clusters: int
    n_with_real: int  # clusters with a real video
    n_with_fake: int  # clusters with a fake one
    largest: int  # videos of the largest cluster
    auc_se: float | None  # standard error, Obuchowski's
    auc_ci95_bootstrap: Interval | None  # clusters resampled
    auc_ci95_delong: Interval | None  # by `auc_se`, on the logit scale
    auc_ci95_wider: Interval | None  # the wider of the two
    why_none: str  # why there is no interval; empty if there is one


def cluster_column(table: pd.DataFrame, by: str | None) -> str | None:
    """The column that makes clusters: `by` or, of None, `original` where it says something; None: none does.

    Raises:
        UserError: the table lacks the column that is asked for.
    """
    if by == NOT_AT_ALL:
        return None
    if by is None:
        return BY_DEFAULT if BY_DEFAULT in table and (table[BY_DEFAULT] != "").any() else None
    if by not in table:
        has = ", ".join(name for name in table if name != CODE)
        remedy = "write_csv.py takes original and identity over from index.csv; score again then"
        raise UserError(f"--clusters {by}: the scores have no such column, only {has}; {remedy}.")
    return by


def with_clusters(table: pd.DataFrame, by: str | None) -> pd.DataFrame:
    """The table with the number of each video's cluster in a column `CODE`, if `cluster_column` finds one.

    Videos with the same text in the column are one cluster, and a real video with the fakes that name it.
    Texts of `identity` name several people, parted by `;`: videos that share one are together, also by way
    of others.  A video of which nothing is said is alone.
    """
    column = cluster_column(table, by)
    if column is None:
        return table
    known = table[column].fillna("").astype(str)  # a column of numbers has NaN for an empty cell
    names = known.where(known != "", table.video)
    # an identity is no name of a video, but a video that says nothing of people must not meet one
    parts = [people(text) if column == "identity" else [text] for text in names]
    rows = np.repeat(np.arange(len(table)), [len(of_video) for of_video in parts])
    ids, _ = pd.factorize(np.array([part for of_video in parts for part in of_video], object))
    n = len(table) + int(ids.max()) + 1  # videos and names are the nodes of a graph
    edges = coo_array((np.ones(len(ids), np.int8), (rows, len(table) + ids)), shape=(n, n))
    _, node_codes = connected_components(edges, directed=False)
    return table.assign(**{CODE: node_codes[: len(table)]})


def people(identity: str) -> list[str]:
    """The people that a text of `identity` names; a text of nothing but separators is itself one."""
    return [name for name in map(str.strip, identity.split(";")) if name] or [identity]


def sums_by_cluster(values: np.ndarray, code: np.ndarray, n_clusters: int) -> np.ndarray:
    """(n_clusters,) float64, of values (n,) and the numbers of their clusters, (n,)."""
    return np.bincount(code, values, minlength=n_clusters)


def clustered_variance(below: np.ndarray, above: np.ndarray, code: np.ndarray) -> float | None:
    """Obuchowski's variance of the mean of placements, or of their difference between two scores, on the
    scale of the AUC (her S10, S01 and S11).

    Args:
        below, above: as `placements` gives them, (m,) of the fake and (n,) of the real videos.
        code: (m + n,) whole numbers, the clusters of the fake and then of the real videos.

    Returns:
        None where all fake or all real videos are in one cluster.
    """
    m, n = len(below), len(above)
    names, code = np.unique(code, return_inverse=True)
    of_fake, of_real, n_all = code[:m], code[m:], len(names)
    n_with_fake, n_with_real = len(np.unique(of_fake)), len(np.unique(of_real))
    if min(n_with_fake, n_with_real) < 2:
        return None
    v10, v01 = below / n, above / m  # the structural components
    fakes = sums_by_cluster(v10 - v10.mean(), of_fake, n_all)  # less their number times the AUC
    reals = sums_by_cluster(v01 - v01.mean(), of_real, n_all)
    s10 = n_with_fake / ((n_with_fake - 1) * m) * (fakes @ fakes)
    s01 = n_with_real / ((n_with_real - 1) * n) * (reals @ reals)
    s11 = n_all / (n_all - 1) * (fakes @ reals)
    return max(0.0, float(s10 / m + s01 / n + 2 * s11 / (m * n)))


def cluster_counts(is_fake: np.ndarray, code: np.ndarray) -> tuple[int, int, int]:
    """The number of clusters, of those with a real and of those with a fake video."""
    return len(np.unique(code)), len(np.unique(code[~is_fake])), len(np.unique(code[is_fake]))


def why_no_clusters(is_fake: np.ndarray, code: np.ndarray) -> str:
    """Why an interval by clusters would say nothing, in words; empty if it says something."""
    n_clusters, n_with_real, n_with_fake = cluster_counts(is_fake, code)
    if n_clusters == len(code):
        return "no two of the videos belong together"
    if min(n_with_real, n_with_fake) < MIN_CLUSTERS:
        counts = f"of {n_clusters} clusters {n_with_real} have a real video and {n_with_fake} a fake one"
        return f"{counts}; it takes {MIN_CLUSTERS} of both"
    return ""


def quantile_of(is_fake: np.ndarray, code: np.ndarray) -> float:
    """How many standard errors an interval reaches: Student's t, for a variance that so few clusters give."""
    _, *counts = cluster_counts(is_fake, code)
    return float(t.ppf((1 + LEVEL) / 2, min(counts) - 1))


def clustered_delong(
    is_fake: np.ndarray, score: np.ndarray, code: np.ndarray
) -> tuple[float | None, Interval | None]:
    """The clustered standard error of the AUC and the 95 % interval from it, on the logit scale.

    Where the score parts the classes without a mistake, the interval is the binomial one of as many pairs of
    a real and a fake video as can be made of different clusters. None with too few clusters, and where the
    score is the same for all.
    """
    if why_no_clusters(is_fake, code):
        return None, None
    below, above = placements(score[is_fake], score[~is_fake])
    auc = float(below.sum() / (len(below) * len(above)))
    if auc in (0, 1):
        n_clusters, *counts = cluster_counts(is_fake, code)
        return None, binomial_interval(auc, min(*counts, n_clusters // 2))
    variance = clustered_variance(below, above, np.concatenate([code[is_fake], code[~is_fake]]))
    if not variance:
        return None, None
    return float(np.sqrt(variance)), logit_interval(auc, variance, quantile_of(is_fake, code))


def bootstrap_clusters(
    is_fake: np.ndarray, score: np.ndarray, code: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Interval:
    """95 % percentile interval of the AUC, resampling clusters with replacement, all their videos with them.

    Resamples without a real or without a fake video are left out.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(score, kind="stable")
    names, code = np.unique(code[order], return_inverse=True)
    is_fake = is_fake[order]
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # of videos of one score
    shares, aucs = np.full(len(names), 1 / len(names)), []
    for size in np.diff([*range(0, n_resamples, max(1, BLOCK // len(code))), n_resamples]):
        times = rng.multinomial(len(names), shares, size)[:, code].astype(np.float64)  # (size, n_videos)
        fakes = np.add.reduceat(times * is_fake, starts, axis=1)  # (size, n_scores)
        reals = np.add.reduceat(times * ~is_fake, starts, axis=1)
        n_pairs = fakes.sum(1) * reals.sum(1)
        n_right = (fakes * (reals.cumsum(1) - reals / 2)).sum(1)
        aucs.append(n_right[n_pairs > 0] / n_pairs[n_pairs > 0])
    low, high = np.percentile(np.concatenate(aucs), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def cluster_figures(is_fake: np.ndarray, score: np.ndarray, code: np.ndarray, by: str) -> ClusterFigures:
    """The uncertainty of an AUC by clusters.

    Args:
        is_fake: (n,) bool. `score`: (n,) float64. `code`: (n,) whole numbers, the clusters.
        by: what makes a cluster, in a word.
    """
    n_clusters, n_with_real, n_with_fake = cluster_counts(is_fake, code)
    error, by_delong = clustered_delong(is_fake, score, code)
    why_none = why_no_clusters(is_fake, code)
    by_bootstrap = None if why_none else bootstrap_clusters(is_fake, score, code)
    return {
        "by": by,
        "n_clusters": n_clusters,
        "n_with_real": n_with_real,
        "n_with_fake": n_with_fake,
        "largest": int(np.unique(code, return_counts=True)[1].max()),
        "auc_se": error,
        "auc_ci95_bootstrap": by_bootstrap,
        "auc_ci95_delong": by_delong,
        "auc_ci95_wider": wider(by_bootstrap, by_delong) if by_bootstrap and by_delong else None,
        "why_none": why_none or ("" if by_delong else "the score is the same for all"),
    }


def clustered_test(
    is_fake: np.ndarray, first: np.ndarray, second: np.ndarray, code: np.ndarray
) -> PairedTest:
    """DeLong's paired test with the clustered variance; see `delong_test`."""
    of_first, of_second = (placements(score[is_fake], score[~is_fake]) for score in (first, second))
    below, above = (a - b for a, b in zip(of_first, of_second, strict=True))
    variance = clustered_variance(below, above, np.concatenate([code[is_fake], code[~is_fake]]))
    aucs = [float(below.mean() / len(above)) for below, above in (of_first, of_second)]
    _, *counts = cluster_counts(is_fake, code)
    return paired_test(aucs[0], aucs[1], variance, t(min(counts) - 1))
