"""The curve of a track: smoothed over time, cut into spans, proposals made of it."""

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from evaluation.spans import EPS, span_iou
from utils.constants import SECOND

CHUNK_S = SECOND.chunk_s  # of the chunks, unless said otherwise
SMOOTH_S, FILL_S, MIN_SPAN_S = 0.4, 0.3, 0.2
REACH = 4  # standard deviations, beyond which a Gaussian is nothing
N_LEVELS = 40  # of the curve, at which spans are proposed
MIN_NEARNESS = 0.05  # IoU that counts for a span far from all at the threshold
BLOCK = 256  # spans whose IoU with others is computed at a time: an hour of video has thousands
MAX_PROPOSALS = 100  # of a file
SAME_IOU = 0.9  # of two proposals with a larger IoU the better one stays


class Cells(NamedTuple):
    """Which time the score of each chunk stands for."""

    begin_s: np.ndarray  # (n,), half-way to the chunk before
    end_s: np.ndarray  # (n,), half-way to the next one
    runs: list[slice]  # of chunks without a hole between them; a run reaches to the ends of its outer chunks


def cells(start_s: np.ndarray, chunk_s: float = CHUNK_S) -> Cells:
    """The cells of chunks that begin at `start_s`, (n,), rising, and take `chunk_s` seconds each; chunks may
    overlap, follow each other, or leave holes.
    """
    if not len(start_s):
        return Cells(start_s, start_s, [])
    is_hole = np.diff(start_s) > chunk_s + 1e-6
    between = (start_s[:-1] + start_s[1:] + chunk_s) / 2
    begin = np.concatenate([start_s[:1], np.where(is_hole, start_s[1:], between)])
    end = np.concatenate([np.where(is_hole, start_s[:-1] + chunk_s, between), start_s[-1:] + chunk_s])
    bounds = [0, *(np.flatnonzero(is_hole) + 1).tolist(), len(start_s)]
    return Cells(begin, end, [slice(*pair) for pair in itertools.pairwise(bounds)])


def smooth(
    start_s: np.ndarray, scores: np.ndarray, smooth_s: float = SMOOTH_S, chunk_s: float = CHUNK_S
) -> np.ndarray:
    """The scores (n,) of chunks, each run smoothed over time by a Gaussian with a standard deviation of
    `smooth_s` seconds.

    A chunk weighs as much as the time that it stands for, so that chunks need not be evenly spaced.
    """
    smoothed = np.array(scores, np.float64)
    if smooth_s <= 0:
        return smoothed
    begin, end, runs = cells(start_s, chunk_s)
    for run in runs:
        times, widths, values = start_s[run], (end - begin)[run], scores[run]
        first = np.searchsorted(times, times - REACH * smooth_s)
        stop = np.searchsorted(times, times + REACH * smooth_s, "right")
        for i, near in enumerate(map(slice, first, stop)):
            weights = widths[near] * np.exp(-(((times[near] - times[i]) / smooth_s) ** 2) / 2)
            smoothed[run.start + i] = np.average(values[near], weights=weights)
    return smoothed


def find_spans(
    start_s: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    fill_s: float = FILL_S,
    min_s: float = MIN_SPAN_S,
    chunk_s: float = CHUNK_S,
) -> list[tuple[float, float, float]]:
    """The spans in which a curve is at least `threshold`; a hole in it ends a span.

    Gaps of at most `fill_s` seconds are filled, then spans shorter than `min_s` dropped.

    Args:
        start_s, scores: (n,) of chunks in order of time.
        chunk_s: what each takes.

    Returns:
        (score, begin_s, end_s) in order of time; the score is the mean of the curve over the span.
    """
    begin, end, runs = cells(start_s, chunk_s)
    spans = []
    for run in runs:
        merged: list[slice] = []  # chunks
        for i in run.start + np.flatnonzero(scores[run] >= threshold):
            if merged and begin[i] - end[merged[-1].stop - 1] <= fill_s + EPS:
                merged[-1] = slice(merged[-1].start, i + 1)
            else:
                merged.append(slice(i, i + 1))
        for inside in merged:
            begin_s, end_s = float(begin[inside.start]), float(end[inside.stop - 1])
            if end_s - begin_s >= min_s - EPS:
                score = np.average(scores[inside], weights=end[inside] - begin[inside])
                spans.append((float(score), begin_s, end_s))
    return spans


def propose(
    start_s: np.ndarray, scores: np.ndarray, threshold: float, chunk_s: float = CHUNK_S
) -> list[list[float]]:
    """Proposals for the fake spans of a track: the spans at the threshold and, since their ends are
    uncertain, at other levels.

    A span's score is its mean, times the square of its IoU with the nearest span at the threshold: on the
    curves of training videos this ranks better than the mean alone, or than its contrast with what is beside
    the span.

    Args:
        start_s, scores: (n,) of chunks in order of time.
        chunk_s: what each takes.

    Returns:
        [score, begin_s, end_s] of each, the best first.
    """
    if not len(scores):
        return []
    spans_at = partial(find_spans, start_s, scores, chunk_s=chunk_s)
    found = spans_at(threshold)
    levels = np.quantile(scores, np.linspace(0, 1, N_LEVELS)).tolist()
    at_levels = [span for level in levels for span in spans_at(level)]
    means = {span[1:]: span[0] for span in at_levels + found}  # by begin and end: each span once
    spans = list(means)
    blocks = [spans[i : i + BLOCK] for i in range(0, len(spans), BLOCK)]
    nearness = np.concatenate([span_iou(block, found).max(1, initial=MIN_NEARNESS) for block in blocks])
    return best_proposals(
        [means[span] * near**2, round(span[0], 3), round(span[1], 3)]
        for span, near in zip(spans, nearness.tolist(), strict=True)
    )


def best_proposals(proposals: Iterable[Sequence[float]]) -> list[list[float]]:
    """Of proposals that are nearly the same the best; at most `MAX_PROPOSALS`, the best first."""
    kept: list[list[float]] = []
    for proposal in sorted(proposals, key=lambda p: (-p[0], *p[1:])):
        if len(kept) < MAX_PROPOSALS and not (kept and span_iou([proposal], kept).max() > SAME_IOU):
            kept.append(list(proposal))
    return kept
