"""Late is not foreign: by how much a video's sound lies beside its picture, and whether moving it mends the
dissonance.

The picture of a chunk is held against the sound that is heard up to half a second earlier and later (Chung
and Zisserman, "Out of time: automated lip sync in the wild", ACCV Workshops 2016).
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from utils.constants import FPS
from verdicts.schema import Offset

MAX_SHIFT = 15  # frames that the sound is moved at most
# frames from where in the video the sound is taken, less where the picture is: a sound that belongs to the
# picture and is found later lags behind it
SHIFTS = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
MS_PER_FRAME = 1000 / FPS
MIN_CHUNKS = 2  # that a point of the curve needs
MIN_HEARD = 0.5  # share of the chunks of the point that has most
# SyncNet's confidence, in thresholds, above which a shift stands out; see docs/verdicts.md for its measure
MIN_CONFIDENCE = 0.65
MIN_SECONDS = 4  # in fewer, a foreign sound fits too well at some shift by chance
TOLERANCE = 1  # frames: a smaller offset can't be told from none
N_FILLS = 30  # rounds, after which the curve stands still


def mean_curve(distances: np.ndarray) -> np.ndarray:
    """The mean distance at each shift, as if every chunk had been heard at every shift.

    A chunk whose sound can't be heard at a shift (beyond an end of the sound, or in silence) is left out
    there. Chunks differ in their level, so the plain mean over those that are left would dent the curve where
    one is missing: what is missing is taken for curve plus level of the chunk, again and again until that
    stands still (the least-squares fit of both).

    Args:
        distances: (31, n) float64, of n chunks at `SHIFTS`, NaN where there is no sound.

    Returns:
        (31,) float64, NaN where fewer than `MIN_CHUNKS` chunks, or `MIN_HEARD` of those of the best point,
        can be heard.
    """
    is_heard = np.isfinite(distances)
    n_heard = is_heard.sum(1)
    is_point = n_heard >= max(MIN_CHUNKS, MIN_HEARD * n_heard.max(initial=0))
    curve = np.full(len(distances), np.nan)
    is_used = is_heard[is_point].any(0)
    if not is_used.any():
        return curve
    values, known = distances[np.ix_(is_point, is_used)], is_heard[np.ix_(is_point, is_used)]
    filled = np.where(known, values, values[known].mean())
    for _ in range(N_FILLS):
        fit = filled.mean(1, keepdims=True) + filled.mean(0) - filled.mean()
        filled = np.where(known, values, fit)
    curve[is_point] = filled.mean(1)
    return curve


def find_offset(
    distances: Sequence[np.ndarray], judged_s: float, threshold: float, own_threshold: float | None = None
) -> Offset | None:
    """By how much the sound of a video lies beside its picture.

    Args:
        distances: of each of at least one track, see `mean_curve`.
        judged_s: seconds of the video that they are of.
        threshold: dissimilarity from which on lips and sound do not agree.
        own_threshold: the model's, in which the confidence is measured; None: `threshold`, it has none.

    Returns:
        None if the sound can't be heard at every shift, as in a video of hardly more than a second.
    """
    together = np.concatenate(distances, 1)
    curve = mean_curve(together)
    if np.isnan(curve).any():
        return None
    best, unmoved = int(curve.argmin()), float(curve[MAX_SHIFT])
    shift, lowest = int(SHIFTS[best]), float(curve[best])
    confidence = float(np.median(curve)) - lowest
    is_moved = TOLERANCE < abs(shift) < MAX_SHIFT  # at an end the true minimum may lie beyond it
    floor = MIN_CONFIDENCE * (threshold if own_threshold is None else own_threshold)
    is_clear = judged_s >= MIN_SECONDS and confidence >= floor
    return {
        "offset_ms": round(shift * MS_PER_FRAME, 1),
        "confidence": round(confidence, 6),
        "confidence_floor": round(floor, 6),
        "distance": round(lowest, 6),
        "distance_unmoved": round(unmoved, 6),
        "curve_ms": (SHIFTS * MS_PER_FRAME).round(1).tolist(),
        "curve": curve.round(6).tolist(),
        "judged_s": round(judged_s, 3),
        "stands_out": is_clear,
        "agrees_if_moved": is_moved and is_clear and lowest < threshold <= unmoved,
    }


def offset_words(offset: Offset | None) -> str:
    """What an offset says, in a sentence."""
    if offset is None:
        return "Whether the sound is late or early can't be said: too little of it can be heard moved."
    ms, agrees = offset["offset_ms"], offset["agrees_if_moved"]
    if offset["judged_s"] < MIN_SECONDS:
        return (
            f"Whether the sound is late or early can't be said: to move it takes {MIN_SECONDS} seconds, and "
            f"there are {offset['judged_s']:.3g}."
        )
    if not offset["stands_out"]:
        return (
            "Moved by up to half a second either way, the sound fits at no shift clearly better than at "
            "others: no shift stands out, so it can't be said whether the sound is late or early."
        )
    if abs(ms) <= TOLERANCE * MS_PER_FRAME + 0.1:
        return f"Sound and picture lie together: of all shifts of the sound the best one is {ms:+.0f} ms."
    lags = f"The sound {'lags behind' if ms > 0 else 'runs ahead of'} the picture by {abs(ms):.0f} ms"
    if abs(ms) >= MAX_SHIFT * MS_PER_FRAME - 0.1:
        return f"{lags} or more, which is as far as it was moved."
    distances = f"{offset['distance']:.4g} in place of {offset['distance_unmoved']:.4g}"
    if agrees:
        return f"{lags}; so moved, lips and sound agree (dissimilarity {distances})."
    return f"{lags}, where they agree best (dissimilarity {distances})."


class OffsetPlot(TypedDict):
    """The curve as the page draws it, in the drawing's own units."""

    words: str
    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    zero_x: float
    threshold_y: float
    points: str
    best_x: float
    best_y: float
    best: str
    anchor: str  # of the text at the lowest point: it must not leave the drawing
    judged_s: str
    confidence: str
    floor: str


def plot_offset(offset: Offset, threshold: float) -> OffsetPlot:
    """The figures of the page's curve, distance against shift."""
    width, height, left, right, top, bottom = 360, 200, 8.0, 352.0, 8.0, 160.0
    highest = 1.1 * max(threshold, *offset["curve"]) or 1.0
    x = np.interp(SHIFTS, (-MAX_SHIFT, MAX_SHIFT), (left, right)).round(1)
    y = np.interp(offset["curve"], (0, highest), (bottom, top)).round(1)
    best = int(np.argmin(offset["curve"]))
    share = best / (len(SHIFTS) - 1)
    return {
        "words": offset_words(offset),
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "top": top,
        "bottom": bottom,
        "zero_x": float(x[MAX_SHIFT]),
        "threshold_y": round(float(np.interp(threshold, (0, highest), (bottom, top))), 1),
        "points": " ".join(f"{a:g},{b:g}" for a, b in zip(x, y, strict=True)),
        "best_x": float(x[best]),
        "best_y": float(y[best]),
        "best": f"best {offset['offset_ms']:+.0f} ms" if offset["stands_out"] else "lowest",
        "anchor": "start" if share < 0.2 else "end" if share > 0.8 else "middle",
        "judged_s": f"{offset['judged_s']:.3g}",
        "confidence": f"{offset['confidence']:.3g}",
        "floor": f"{offset['confidence_floor']:.3g}",
    }
