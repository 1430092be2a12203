"""From chunk scores to video scores (MDS), from video scores to figures.

The score is MDS, the mean dissimilarity of a track's chunks, and of a video the largest of its tracks: higher
is more fake. Figures take fake as the positive class; rates are 0..1. In the tables the label is the
authors': fake 0, real 1.
"""

from typing import TypedDict

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from evaluation.auc import Interval, bootstrap_auc, delong_auc, wider
from evaluation.calibration import CalibrationFigures, calibration_figures
from evaluation.clusters import (
    CODE,
    ClusterFigures,
    cluster_column,
    cluster_figures,
    clustered_delong,
    with_clusters,
)
from evaluation.figures import FIGURES, FPRS, tpr_at_fpr
from evaluation.tables import HEADS, Summary
from utils.constants import GROUP_COLUMNS, LABELS

AUTHORS_THRESHOLD = 0.6
MIN_GROUP = 30  # with fewer fake or fewer real videos a group is marked as small


class Decisions(TypedDict):
    """What comes of calling the videos with MDS >= threshold fake."""

    origin: str  # where the threshold is from, in words
    threshold: float
    accuracy: float
    balanced_accuracy: float
    tpr: float  # share of the fakes that are called fake
    fpr: float  # share of the real videos that are called fake
    tp: int  # fakes called fake
    fn: int  # fakes called real
    fp: int  # real videos called fake
    tn: int  # real videos called real
    parts_nothing: str  # `calls_all_alike`


class AucFigures(TypedDict):
    """How well a score parts fake from real videos."""

    auc: float
    auc_ci95_delong: Interval | None  # `delong_auc`
    auc_ci95_clustered: Interval | None  # `clustered_delong`; None: no clusters, or too few


class GroupFigures(AucFigures):
    """The fakes of a group against real videos."""

    column: str  # one of `GROUP_COLUMNS`
    value: str  # what the group's videos have in that column
    real: str  # against which real videos: "same", those of the group, or "all"
    n_fake: int
    n_real: int
    small: bool  # fewer than `MIN_GROUP` of either
    heads: dict[str, AucFigures]  # `head_figures`


class Metrics(TypedDict):
    """The figures of a score table. Every number is finite."""

    n_videos: int
    n_real: int
    n_fake: int
    too_few: bool  # fewer than `MIN_GROUP` of either
    auc: float  # over videos
    auc_ci95: Interval  # by bootstrap over the videos
    auc_ci95_delong: Interval | None  # `delong_auc`
    auc_ci95_wider: Interval | None  # the wider of the two; None where DeLong's is
    clusters: ClusterFigures | None  # None: nothing says which videos belong together
    figures: dict[str, float]  # those of `FIGURES`, by key; metrics.json has them without a name for them all
    tpr_at_fpr: dict[str, float]  # by the false positive rate as text
    threshold: float | None  # the MDS from which on `accuracy` calls a video fake
    accuracy: float | None
    authors_threshold: float
    authors_auc: float  # AUC of the decisions at that threshold, which is the balanced accuracy there
    heads: dict[str, AucFigures]  # `head_figures`
    groups: list[GroupFigures]  # `group_figures`
    groupings: dict[str, list[str]]  # `telling_columns`
    n_chunks: int | None  # None, as the next: the chunks' scores are not known
    chunk_auc: float | None  # each chunk under its video's label, though parts of a fake may be real


class Report(Metrics):
    """What test.py says of a score table."""

    threshold_origin: str  # where `threshold` is from, or why there is none, in words
    # the one of the command line, the model's and, if the distances are theirs, the authors', as far as known
    thresholds: list[Decisions]
    score: str  # what the score of a chunk is, in words
    authors_scale: bool  # whether the distances can be the authors', so that their threshold means something
    calibration: CalibrationFigures | None  # None: the model gives no probabilities
    calibration_origin: str  # for which videos they hold, or why there are none; empty if nothing is known


def calls_all_alike(mds: pd.Series, threshold: float) -> str:
    """What is wrong with a threshold that parts nothing, in words; empty if it parts the videos."""
    n_called = int((mds >= threshold).sum())
    if 0 < n_called < len(mds):
        return ""
    return f"calls {'every one' if n_called else 'none'} of the {len(mds)} videos fake"


def decisions(scores: pd.DataFrame, threshold: float, origin: str) -> Decisions:
    """Call the videos with MDS >= threshold fake."""
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    is_called = scores.mds.to_numpy() >= threshold
    tp, fn = int((is_fake & is_called).sum()), int((is_fake & ~is_called).sum())
    fp, tn = int((~is_fake & is_called).sum()), int((~is_fake & ~is_called).sum())
    tpr, fpr = tp / (tp + fn), fp / (fp + tn)
    return {
        "origin": origin,
        "threshold": threshold,
        "accuracy": (tp + tn) / len(scores),
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "tpr": tpr,
        "fpr": fpr,
        "tp": tp,
        "fn": fn,
        "fp": fp,
        "tn": tn,
        "parts_nothing": calls_all_alike(scores.mds, threshold),
    }


def head_scores(scores: pd.DataFrame, chunks: pd.DataFrame) -> pd.DataFrame:
    """A score table with p_fake_video and p_fake_audio of each video: like MDS the mean of a track, and of
    those the largest.
    """
    known = [column for column in HEADS.values() if column in chunks]
    means = chunks.groupby(["video", "track"])[known].mean().groupby("video").max()
    return scores.join(means, on="video")


def auc_figures(table: pd.DataFrame, column: str) -> AucFigures:
    """How well a column of a table with real and fake rows parts them."""
    is_fake = (table.label == LABELS["fake"]).to_numpy()
    score = table[column].to_numpy(np.float64)
    auc, interval = delong_auc(is_fake, score)
    clustered = clustered_delong(is_fake, score, table[CODE].to_numpy())[1] if CODE in table else None
    return {"auc": auc, "auc_ci95_delong": interval, "auc_ci95_clustered": clustered}


def head_figures(table: pd.DataFrame) -> dict[str, AucFigures]:
    """What each part of the network says: dissonance (the MDS), and the video and the audio head if known."""
    columns = {"dissonance": "mds"} | {name: column for name, column in HEADS.items() if column in table}
    return {name: auc_figures(table, column) for name, column in columns.items()}


def in_group(table: pd.DataFrame, column: str, value: str) -> tuple[pd.Series, bool]:
    """Which videos a group's figures are of, and whether it has real ones of its own.

    They are the fakes with a value in a column against the real videos with the same value (those of the same
    data set, say) or, where no real video has it (a manipulation), against all of them.

    This is also FakeAVCeleb's convention for its categories.
    """
    is_fake, has_value = table.label == LABELS["fake"], table[column] == value
    has_own = bool((has_value & ~is_fake).any())
    return has_value | ~is_fake & ~has_own, has_own


def group_values(table: pd.DataFrame, column: str) -> list[str]:
    """What a column says of the fakes."""
    return sorted(set(table[column][table.label == LABELS["fake"]]) - {""})


def figures_of_group(table: pd.DataFrame, column: str, value: str) -> GroupFigures:
    """The figures of a group, see `in_group`."""
    is_in, has_own = in_group(table, column, value)
    part = table[is_in]
    n_fake = int((part.label == LABELS["fake"]).sum())
    n_real = len(part) - n_fake
    heads = head_figures(part)
    return {
        "column": column,
        "value": value,
        "real": "same" if has_own else "all",
        "n_fake": n_fake,
        "n_real": n_real,
        "small": min(n_fake, n_real) < MIN_GROUP,
        **heads["dissonance"],
        "heads": heads,
    }


def group_figures(table: pd.DataFrame) -> list[GroupFigures]:
    """The figures of each value that a column of `GROUP_COLUMNS` has among the fakes, the lowest AUC of a
    column first.
    """
    groups = []
    for column in GROUP_COLUMNS:
        if column in table:
            of_column = [figures_of_group(table, column, value) for value in group_values(table, column)]
            groups += sorted(of_column, key=lambda group: group["auc"])
    return groups


def telling_columns(table: pd.DataFrame) -> dict[str, list[str]]:
    """The columns whose groups say something of their own, each with those that part the videos just as it
    does.

    A column whose only group is all videos tells nothing.
    """
    same: dict[str, list[str]] = {}
    first_of: dict[frozenset[bytes], str] = {}  # by which videos the groups are
    for column in GROUP_COLUMNS:
        if column in table:
            groups = [in_group(table, column, value)[0] for value in group_values(table, column)]
            parts = frozenset(is_in.to_numpy().tobytes() for is_in in groups)
            if all(is_in.all() for is_in in groups):
                continue
            first = first_of.setdefault(parts, column)
            same.setdefault(first, [])
            same[first] += [column] if column != first else []
    return same


def video_metrics(
    scores: pd.DataFrame, threshold: float | None, chunks: pd.DataFrame | None = None, by: str | None = None
) -> Metrics:
    """The figures of a checked score table.

    Args:
        scores: as `read_scores` gives it.
        threshold: MDS from which on a video is called fake; None leaves the accuracy out.
        chunks: as `read_chunk_scores` gives it; None leaves out chunk_auc and the heads.
        by: what makes a cluster, see `cluster_column`.
    """
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    mds = scores.mds.to_numpy(np.float64)
    by_bootstrap, (_, by_delong) = bootstrap_auc(is_fake, mds), delong_auc(is_fake, mds)
    n_fake = int(is_fake.sum())
    n_real = len(scores) - n_fake
    column, table = cluster_column(scores, by), with_clusters(scores, by)
    clusters = cluster_figures(is_fake, mds, table[CODE].to_numpy(), column) if column else None
    table = table if chunks is None else head_scores(table, chunks)
    return {
        "n_videos": len(scores),
        "n_real": n_real,
        "n_fake": n_fake,
        "too_few": min(n_fake, n_real) < MIN_GROUP,
        "auc": float(roc_auc_score(is_fake, mds)),  # DEVIATION: of the scores, not of thresholded decisions
        "auc_ci95": by_bootstrap,
        "auc_ci95_delong": by_delong,
        "auc_ci95_wider": by_delong and wider(by_bootstrap, by_delong),
        "clusters": clusters,
        "figures": {figure.key: float(figure.compute(is_fake, mds)) for figure in FIGURES},
        "tpr_at_fpr": {str(fpr): tpr_at_fpr(is_fake, mds, fpr) for fpr in FPRS},
        "threshold": threshold,
        "accuracy": None if threshold is None else float(np.mean((mds >= threshold) == is_fake)),
        "authors_threshold": AUTHORS_THRESHOLD,
        "authors_auc": float(balanced_accuracy_score(is_fake, mds >= AUTHORS_THRESHOLD)),
        "heads": head_figures(table),
        "groups": group_figures(table),
        "groupings": telling_columns(table),
        "n_chunks": None if chunks is None else len(chunks),
        "chunk_auc": None if chunks is None else auc_figures(chunks, "dissimilarity")["auc"],
    }


def report_figures(
    scores: pd.DataFrame,
    chunks: pd.DataFrame | None,
    thresholds: dict[str, float],
    summary: Summary,
    by: str | None = None,
) -> Report:
    """`video_metrics` with the first threshold, the decisions at each and, if the distances can be theirs, at
    the authors', and how right the probabilities are, if the model gives any.

    Args:
        thresholds: by where they are from, in words.
        summary: of the model, which says why there is no threshold, for when there is none.
        by: what makes a cluster, see `cluster_column`.
    """
    origin, threshold = next(iter(thresholds.items()), (summary["threshold_origin"], None))
    is_theirs, calibration = summary["authors_scale"], summary["calibration"]
    tried = thresholds | ({"the authors', fixed": AUTHORS_THRESHOLD} if is_theirs else {})
    return {
        **video_metrics(scores, threshold, chunks, by),
        "threshold_origin": origin,
        "thresholds": [decisions(scores, value, name) for name, value in tried.items()],
        "score": summary["score"],
        "authors_scale": is_theirs,
        "calibration": calibration_figures(scores, calibration) if calibration else None,
        "calibration_origin": summary["calibration_origin"],
    }


def as_json(report: Report) -> dict[str, object]:
    """What metrics.json holds: the report, its `figures` among the others."""
    content: dict[str, object] = {}
    for key, value in report.items():
        content |= value if key == "figures" and isinstance(value, dict) else {key: value}
    return content
