"""Two models against each other, by their scores of the same videos."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.auc import PairedTest, delong_test, interval_text
from evaluation.clusters import CODE, cluster_column, clustered_test, why_no_clusters, with_clusters
from evaluation.tables import read_scores
from utils.cli import UserError
from utils.constants import LABEL_NAMES, LABELS


class ClusteredTest(PairedTest):
    """The test if clusters, not videos, are independent."""

    by: str  # the column that says which videos belong together
    n_clusters: int
    why_none: str  # why there is no test; empty if there is one


class Versus(PairedTest):
    """What versus.json holds."""

    scores: str  # the file of the first model's scores
    versus: str  # and of the second's
    n_videos: int  # in both files, as all counts
    n_real: int
    n_fake: int
    only_scores: list[str]  # videos of the first file alone, left out
    only_versus: list[str]  # and of the second
    clustered: ClusteredTest | None  # None: nothing says which videos belong together


def shared_videos(first: Path, second: Path, tables: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    """The videos that two score tables, of these files, have in common; the second's columns end in _2.

    Raises:
        UserError: none is, none of one class is, or one has two labels.
    """
    files = f"{first} and {second}"
    both = tables[0].merge(tables[1], on="video", suffixes=("", "_2"))
    if not len(both):
        begin = f"theirs begin with {tables[0].video[0]} and {tables[1].video[0]}"
        raise UserError(f"{files} share no video; {begin}; both must score the same test split.")
    differ = both.video[both.label != both.label_2]
    if len(differ):
        what = f"give {len(differ)} videos different labels, the first {differ.iloc[0]}"
        raise UserError(f"{files} {what}; score both on the same test split.")
    if both.label.nunique() < 2:
        only = LABEL_NAMES[both.label[0]]
        raise UserError(f"{files} share only {only} videos ({len(both)}); an AUC needs real and fake ones.")
    return both


def paired_by_clusters(both: pd.DataFrame, is_fake: np.ndarray, by: str | None) -> ClusteredTest | None:
    """The paired test of mds and mds_2 by clusters, see `cluster_column`."""
    column = cluster_column(both, by)
    if column is None:
        return None
    code = with_clusters(both, by)[CODE].to_numpy()
    first, second = both.mds.to_numpy(np.float64), both.mds_2.to_numpy(np.float64)
    result, why_none = clustered_test(is_fake, first, second, code), why_no_clusters(is_fake, code)
    if why_none:
        result |= {"difference_ci95": None, "z": None, "p": None}
    return {**result, "by": column, "n_clusters": len(np.unique(code)), "why_none": why_none}


def compare_scores(first: Path, second: Path, by: str | None = None) -> Versus:
    """Hold two score files against each other on the videos that both have.

    Args:
        by: what makes a cluster, see `cluster_column`.

    Raises:
        UserError: they can't be compared, or have no column `by`.
    """
    tables = read_scores(first), read_scores(second)
    both = shared_videos(first, second, tables)
    is_fake = (both.label == LABELS["fake"]).to_numpy()
    only_first, only_second = (sorted(set(table.video) - set(both.video)) for table in tables)
    return {
        **delong_test(is_fake, both.mds.to_numpy(np.float64), both.mds_2.to_numpy(np.float64)),
        "scores": str(first),
        "versus": str(second),
        "n_videos": len(both),
        "n_real": int((~is_fake).sum()),
        "n_fake": int(is_fake.sum()),
        "only_scores": only_first,
        "only_versus": only_second,
        "clustered": paired_by_clusters(both, is_fake, by),
    }


def versus_lines(result: Versus) -> Iterator[str]:
    """Lines for the screen."""
    yield f"{result['n_videos']} videos in both: {result['n_real']} real, {result['n_fake']} fake"
    for file, names in ((result["scores"], result["only_scores"]), (result["versus"], result["only_versus"])):
        if names:
            more = ", ..." if len(names) > 5 else ""
            yield f"{len(names)} only in {file}, left out: {', '.join(names[:5])}{more}"
    yield f"AUC (video-wise)                  {result['auc']:.4f}   {result['scores']}"
    yield f"AUC (video-wise)                  {result['auc_versus']:.4f}   {result['versus']}"
    clustered = result["clustered"]
    if clustered and not clustered["why_none"]:
        yield from paired_lines(clustered, f"{clustered['n_clusters']} clusters by {clustered['by']}, paired")
        yield "as if all videos were independent:"
    elif clustered:
        yield f"no test by clusters of {clustered['by']}: {clustered['why_none']}"
    yield from paired_lines(result, "DeLong, paired")


def paired_lines(result: PairedTest, how: str) -> Iterator[str]:
    """The lines of a test."""
    interval = f"95 % interval {interval_text(result['difference_ci95'], '+.4f')} ({how})"
    yield f"difference                        {result['difference']:+.4f}  {interval}"
    if result["p"] is None:
        yield "no test: the difference does not vary from video to video, or a class has one video"
    else:
        yield f"z                                 {result['z']:+.4f}"
        yield f"p (two-sided, of equal AUCs)      {result['p']:.4g}"
