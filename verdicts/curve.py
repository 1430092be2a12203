"""The curve of a track: smoothed over time, cut into spans, proposals made of it."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from evaluation.spans import EPS, span_iou
from utils.constants import CHUNK_S

SMOOTH_S, FILL_S, MIN_SPAN_S = 0.4, 0.3, 0.2
REACH = 4  # standard deviations, beyond which a Gaussian is nothing
N_LEVELS = 40  # of the curve, at which spans are proposed
MIN_NEARNESS = 0.05  # IoU that counts for a span far from all at the threshold
BLOCK = 256  # spans whose IoU with others is computed at a time: an hour of video has thousands
MAX_PROPOSALS = 100  # of a file
SAME_IOU = 0.9  # of two proposals with a larger IoU the better one stays


def cells(start_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """Which time the score of each chunk stands for: from half-way to the chunk before to half-way to the
    next.

    Args:
        start_s: (n,) first seconds of overlapping or consecutive chunks, rising.

    Returns:
        Begin and end of each cell in seconds, (n,) each, and the runs of chunks without a hole between them.
        A run begins with its first chunk and ends with its last one.
    """
    if not len(start_s):
        return start_s, start_s, []
    is_hole = np.diff(start_s) > CHUNK_S + 1e-6
    between = (start_s[:-1] + start_s[1:] + CHUNK_S) / 2
    begin = np.concatenate([start_s[:1], np.where(is_hole, start_s[1:], between)])
    end = np.concatenate([np.where(is_hole, start_s[:-1] + CHUNK_S, between), start_s[-1:] + CHUNK_S])
    bounds = [0, *(np.flatnonzero(is_hole) + 1).tolist(), len(start_s)]
    return begin, end, [slice(*pair) for pair in itertools.pairwise(bounds)]


def smooth(start_s: np.ndarray, scores: np.ndarray, smooth_s: float = SMOOTH_S) -> np.ndarray:
    """The scores (n,) of chunks, each run smoothed over time by a Gaussian with a standard deviation of
    `smooth_s` seconds.

    A chunk weighs as much as the time that it stands for, so that chunks need not be evenly spaced.
    """
    smoothed = np.array(scores, np.float64)
    begin, end, runs = cells(start_s)
    for run in runs if smooth_s > 0 else ():
        times, widths, values = start_s[run], (end - begin)[run], scores[run]
        near = (
            np.searchsorted(times, times - REACH * smooth_s),
            np.searchsorted(times, times + REACH * smooth_s, "right"),
        )
        for i, (first, stop) in enumerate(zip(*near, strict=True)):
            weights = widths[first:stop] * np.exp(-(((times[first:stop] - times[i]) / smooth_s) ** 2) / 2)
            smoothed[run.start + i] = np.average(values[first:stop], weights=weights)
    return smoothed


def find_spans(
    start_s: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    fill_s: float = FILL_S,
    min_s: float = MIN_SPAN_S,
) -> list[tuple[float, float, float]]:
    """The spans in which a curve is at least `threshold`; a hole in it ends a span.

    Gaps of at most `fill_s` seconds are filled, then spans shorter than `min_s` dropped.

    Args:
        start_s, scores: (n,) of chunks in order of time.

    Returns:
        (score, begin_s, end_s) in order of time; the score is the mean of the curve over the span.
    """
    begin, end, runs = cells(start_s)
    spans = []
    for run in runs:
        merged: list[list[int]] = []  # first and last chunk
        for i in range(run.start, run.stop):
            if scores[i] < threshold:
                continue
            if merged and begin[i] - end[merged[-1][1]] <= fill_s + EPS:
                merged[-1][1] = i
            else:
                merged.append([i, i])
        for first, last in merged:
            if end[last] - begin[first] >= min_s - EPS:
                inside = slice(first, last + 1)
                score = np.average(scores[inside], weights=end[inside] - begin[inside])
                spans.append((float(score), float(begin[first]), float(end[last])))
    return spans


def propose(start_s: np.ndarray, scores: np.ndarray, threshold: float) -> list[list[float]]:
    """Proposals for the fake spans of a track: the spans at the threshold and, since their ends are
    uncertain, at other levels.

    A span's score is its mean, times the square of its IoU with the nearest span at the threshold: on the
    curves of training videos this ranks better than the mean alone, or than its contrast with what is beside
    the span.

    Args:
        start_s, scores: (n,) of chunks in order of time.

    Returns:
        [score, begin_s, end_s] of each, the best first.
    """
    if not len(scores):
        return []
    found = find_spans(start_s, scores, threshold)
    levels = np.quantile(scores, np.linspace(0, 1, N_LEVELS)).tolist()
    spans = {span[1:]: span[0] for level in levels for span in find_spans(start_s, scores, level)}
    spans |= {span[1:]: span[0] for span in found}
    blocks = [list(spans)[i : i + BLOCK] for i in range(0, len(spans), BLOCK)]
    nearest = np.concatenate([span_iou(block, found).max(1, initial=MIN_NEARNESS) for block in blocks])
    rounded = [(round(begin_s, 3), round(end_s, 3)) for begin_s, end_s in spans]
    scored = zip(spans.values(), nearest.tolist(), rounded, strict=True)
    return best_proposals([mean * near**2, *span] for mean, near, span in scored)


def best_proposals(proposals: Iterable[Sequence[float]]) -> list[list[float]]:
    """Of proposals that are nearly the same the best; at most `MAX_PROPOSALS`, the best first."""
    kept: list[list[float]] = []
    for proposal in sorted(proposals, key=lambda p: (-p[0], *p[1:])):
        if len(kept) < MAX_PROPOSALS and not (kept and span_iou([proposal], kept).max() > SAME_IOU):
            kept.append(list(proposal))
    return kept
