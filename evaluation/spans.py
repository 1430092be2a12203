"""Temporal localization: from a curve of dissimilarity to spans of time, and how well proposed spans meet the
true ones.

Two ways to score.  The correct one: proposals in order of their scores, a hit at an IoU of at least the
threshold, each true span hit once, and the curve of precision closed at recall 0, so that perfect proposals
have AP 1.  The official one gives the figures of LAV-DF's and AV-Deepfake1M's published evaluators: an IoU
above the threshold, the order in the file decides who hits, and the curve is open at recall 0, so that n true
spans allow an AP of 1 - 1/n.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np

from evaluation.span_files import name_as_labelled
from utils.cli import UserError

AP_IOUS = (0.5, 0.75, 0.9, 0.95)
AR_IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
AR_COUNTS = (100, 50, 30, 20, 10, 5)  # proposals of a file that count
EPS = 1e-9  # spans are decimal numbers: 0.75 may come out as 0.7499999999999999

Spans = Sequence[Sequence[float]]
FileSpans = Mapping[str, Spans]  # by file


class Localization(TypedDict):
    """How well proposed spans meet the true ones; rates are 0..1."""

    ap: dict[str, float]  # average precision, by IoU of a hit
    ar: dict[str, float]  # average recall, by number of proposals of a file that count
    official: bool  # as the published evaluators compute them
    n_files: int  # with labels
    n_spans: int  # true ones
    n_proposals: int  # for these files
    n_without_proposals: int  # files with true spans for which nothing was proposed
    n_unlabelled: int  # files with proposals and without labels, left out


def span_iou(a: Spans, b: Spans) -> np.ndarray:
    """Intersection over union of spans; the last two numbers of each are begin and end: (len(a), len(b)),
    0..1.
    """
    begin_a, end_a = np.array([span[-2:] for span in a], np.float64).reshape(-1, 2).T[..., None]
    begin_b, end_b = np.array([span[-2:] for span in b], np.float64).reshape(-1, 2).T
    shared = np.minimum(end_a, end_b) - np.maximum(begin_a, begin_b)
    hull = np.maximum(end_a, end_b) - np.minimum(begin_a, begin_b)  # their union, if they meet
    return np.clip(shared, 0, None) / np.maximum(hull, EPS)


def hits(proposals: Spans, labels: Spans, threshold: float, official: bool) -> np.ndarray:
    """Which proposals of a file, in their order, hit a true span that none before has hit: (n,) bool."""
    is_hit = np.zeros(len(proposals), bool)
    overlap = span_iou(proposals, labels)
    if official:  # each true span in turn takes the first proposal that is left
        for j in range(len(labels)):
            free = np.flatnonzero((overlap[:, j] > threshold) & ~is_hit)
            is_hit[free[:1]] = True
        return is_hit
    left = np.ones(len(labels), bool)
    for i in range(len(proposals)):  # each proposal in turn takes the nearest true span that is left
        nearest = np.where(left, overlap[i], -1.0)
        if len(labels) and nearest.max() >= threshold - EPS:
            left[nearest.argmax()] = False
            is_hit[i] = True
    return is_hit


def average_precision(labels: FileSpans, proposals: FileSpans, threshold: float, official: bool) -> float:
    """The area under the curve of precision against recall, interpolated, over the proposals of all files;
    0..1.

    Args:
        labels: the true spans (begin, end) of each file.
        proposals: (score, begin, end) of each of these files, in the order that counts.
        threshold: IoU of a hit.
    """
    found = [hits(proposals[file], labels[file], threshold, official) for file in labels]
    scores = np.array([p[0] for file in labels for p in proposals[file]], np.float64)
    order = np.argsort(-scores, kind="stable")
    n_hits = np.concatenate([np.zeros(0, bool), *found])[order].cumsum()
    precision, recall = n_hits / np.arange(1, len(order) + 1), n_hits / sum(map(len, labels.values()))
    if official:
        recall, precision = np.append(recall, 1.0)[::-1], np.append(precision, 0.0)[::-1]
        return float(np.abs(np.diff(recall)) @ np.maximum.accumulate(precision)[:-1])
    # proposals of equal score come together
    is_last = np.append(np.diff(scores[order]) < 0, True)[: len(order)]
    recall, precision = recall[is_last], precision[is_last]
    return float(np.diff(recall, prepend=0.0) @ np.maximum.accumulate(precision[::-1])[::-1])


def average_recall(labels: FileSpans, proposals: FileSpans, n: int, official: bool) -> float:
    """The share of true spans that one of the first n proposals of their file meets, averaged over `AR_IOUS`;
    0..1.
    """
    n_met = np.zeros(len(AR_IOUS))
    for file, spans in labels.items():
        proposed = proposals[file][:n]
        if len(spans) and len(proposed):
            best = span_iou(proposed, spans).max(0)[:, None]  # (len(spans), 1)
            n_met += (best > AR_IOUS if official else best >= np.subtract(AR_IOUS, EPS)).sum(0)
    return float(n_met.mean() / sum(map(len, labels.values())))


def localization_metrics(labels: FileSpans, proposals: FileSpans, official: bool = False) -> Localization:
    """AP and AR of proposals.

    Args:
        labels: the true fake spans (begin, end) of each file, none of a real one.
        proposals: (score, begin, end) by file; those of other files do not count, files without any have
            none.
        official: as the published evaluators compute them.

    Raises:
        UserError: no true span.
    """
    n_spans = sum(map(len, labels.values()))
    if not n_spans:
        raise UserError(f"the labels of {len(labels)} files hold no fake span; AP and AR need at least one.")
    own: dict[str, Spans] = {file: proposals.get(file, []) for file in labels}
    if not official:
        own = {file: sorted(spans, key=lambda p: -p[0]) for file, spans in own.items()}
    return {
        "ap": {str(t): average_precision(labels, own, t, official) for t in AP_IOUS},
        "ar": {str(n): average_recall(labels, own, n, official) for n in AR_COUNTS},
        "official": official,
        "n_files": len(labels),
        "n_spans": n_spans,
        "n_proposals": sum(map(len, own.values())),
        "n_without_proposals": sum(1 for file, spans in labels.items() if len(spans) and not own[file]),
        "n_unlabelled": len(proposals.keys() - labels.keys()),
    }


def score_proposals(proposals: FileSpans, labels: FileSpans, official: bool) -> Localization:
    """`localization_metrics` of proposals whose files are named as `name_as_labelled` allows; UserError if
    none has a label.
    """
    names = name_as_labelled(proposals, labels)
    if proposals and not names:
        proposed = f"{len(proposals)} files with proposals, the first {next(iter(proposals))}"
        labelled = f"{len(labels)} labels, the first {next(iter(labels))}"
        raise UserError(f"none of the {proposed}, is among the {labelled}; name them alike.")
    named = {names.get(file, file): spans for file, spans in proposals.items()}
    return localization_metrics(labels, named, official)


def localization_lines(metrics: Localization) -> Iterator[str]:
    """Lines for the screen."""
    counts = (
        f"{metrics['n_files']} files with {metrics['n_spans']} fake spans, {metrics['n_proposals']} proposals"
    )
    official = "; as the published evaluators compute it: AP is open at recall 0, so below 1"
    yield counts + (official if metrics["official"] else "")
    if metrics["n_without_proposals"]:
        yield f"{metrics['n_without_proposals']} files with fake spans have no proposal: they count as missed"
    if metrics["n_unlabelled"]:
        yield f"{metrics['n_unlabelled']} files with proposals have no label: they are left out"
    for threshold, value in metrics["ap"].items():
        yield f"AP at IoU {threshold:<23}  {value:.4f}"
    for n, value in metrics["ar"].items():
        proposals = f"{n} proposals"
        yield f"AR of the best {proposals:<19} {value:.4f}   mean over IoU {AR_IOUS[0]} to {AR_IOUS[-1]}"
