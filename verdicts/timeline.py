"""The curve of one video, second against score: as a picture (the paper's localization figure) and for its
page.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from utils.cli import legible
from utils.constants import CHUNK_S
from utils.files import replacing
from utils.pages import FAKE_COLOUR
from verdicts.curve import cells
from verdicts.verdict import TrackScores, apart, gaps, in_capitals

TRACK_COLOURS = ("#222222", "#8a5cc2", "#2f8f6b", "#c07a1e", "#b0476f", "#4a7fa5")
GREY = "#8f8f8f"
PLOT_WIDTH, PLOT_HEIGHT = 1000, 240  # of the page's curve, in its own units
MAX_NAME = 80  # letters of a file's name in a title, its end
MAX_NAMED = 6  # tracks in a legend


def top_of(tracks: Sequence[TrackScores], threshold: float) -> float:
    """The upper end of the axis of scores."""
    return 1.08 * max(threshold, *(track.curve.max() for track in tracks if len(track.scores))) or 1.0


def plot_timeline(
    name: str, tracks: Sequence[TrackScores], verdict: dict, true_spans: Sequence | None, path: Path
) -> None:
    """Write dissimilarity against time as a PNG: the threshold, the spans found, the true ones if known, and
    holes.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots()
    top = top_of(tracks, verdict["threshold"])
    for i, (begin_s, end_s) in enumerate(true_spans or []):
        axes.axvspan(
            begin_s, end_s, color=FAKE_COLOUR, alpha=0.22, lw=0, label="fake in truth" if i == 0 else None
        )
    # hundreds of spans and holes in one call each: with one per call an hour of video takes minutes
    if holes := [(gap["start_s"], gap["end_s"] - gap["start_s"]) for gap in gaps(verdict)]:
        look = {"facecolor": "white", "edgecolor": GREY, "hatch": "///", "lw": 0, "alpha": 0.5}
        axes.broken_barh(holes, (0, top), label="no opinion", **look)
    if spans := [(span["start_s"], span["end_s"]) for span in verdict["spans"]]:
        label = "found: at or above the threshold"
        axes.hlines(
            [0.985 * top] * len(spans), *zip(*spans, strict=True), color=FAKE_COLOUR, lw=5, label=label
        )
    n_named = 0
    for track in [track for track in tracks if len(track.scores)]:
        colour = TRACK_COLOURS[track.number % len(TRACK_COLOURS)]
        begin, end, runs = cells(track.start_s)
        middle, curve = track.start_s + CHUNK_S / 2, track.curve
        for k, run in enumerate(runs):
            is_named = k == 0 and (n_named < MAX_NAMED or track.number == verdict["track"])
            n_named += is_named
            label = (
                f"track {track.number}, MDS {apart(float(track.means[0]), verdict['threshold'])[0]}"
                if is_named
                else None
            )
            times = np.concatenate([begin[run][:1], middle[run], end[run][-1:]])
            axes.plot(times, np.pad(curve[run], 1, mode="edge"), color=colour, lw=1.6, label=label)
            axes.plot(middle[run], track.scores[run, 0], ".", color=colour, ms=4, alpha=0.6)
    mds_text, threshold_text = apart(verdict["mds"], verdict["threshold"])
    axes.axhline(verdict["threshold"], color="black", ls="--", lw=1.2, label=f"threshold {threshold_text}")
    duration_s = verdict["coverage"]["duration_s"]
    axes.set(
        xlim=(0, duration_s), ylim=(0, top), xlabel="time in s", ylabel="dissimilarity (higher: more fake)"
    )
    shown = legible(name)
    shown = shown if len(shown) <= MAX_NAME else f"…{shown[-MAX_NAME:]}"
    axes.set_title(f"{shown}: {in_capitals(verdict)}, MDS {mds_text}", fontsize=10, parse_math=False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    with replacing(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a letter of the name that the font lacks
        figure.savefig(partial, dpi=120, format="png")


def page_curve(tracks: Sequence[TrackScores], verdict: dict, true_spans: Sequence | None) -> dict:
    """What the page draws, in units of `PLOT_WIDTH` by `PLOT_HEIGHT`, the origin in the upper left corner."""
    duration_s, threshold = verdict["coverage"]["duration_s"], verdict["threshold"]
    top = top_of(tracks, threshold)

    def x(time_s: float) -> float:
        return round(PLOT_WIDTH * time_s / duration_s, 2)

    def y(score: float) -> float:
        return round(PLOT_HEIGHT * (1 - score / top), 2)

    def bands(spans: Sequence[tuple[float, float]]) -> list[dict]:
        return [{"x": x(a), "width": round(max(1.0, x(b) - x(a)), 2)} for a, b in spans]

    lines = []
    for track in [track for track in tracks if len(track.scores)]:
        begin, end, runs = cells(track.start_s)
        curve = track.curve
        for run in runs:
            times = [begin[run.start], *(track.start_s[run] + CHUNK_S / 2), end[run.stop - 1]]
            points = zip(times, np.pad(curve[run], 1, mode="edge"), strict=True)
            colour = TRACK_COLOURS[track.number % len(TRACK_COLOURS)]
            lines.append(
                {
                    "track": track.number,
                    "colour": colour,
                    "points": " ".join(f"{x(t)},{y(v)}" for t, v in points),
                }
            )
    n_ticks = 10
    step = next(
        s
        for s in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
        if duration_s / s <= n_ticks
    )
    return {
        "width": PLOT_WIDTH,
        "height": PLOT_HEIGHT,
        "lines": lines,
        "threshold": y(verdict["threshold"]),
        "found": bands([(span["start_s"], span["end_s"]) for span in verdict["spans"]]),
        "true": bands(true_spans or []),
        "holes": bands([(gap["start_s"], gap["end_s"]) for gap in gaps(verdict)]),
        "ticks": [{"x": x(t), "text": f"{t:g}"} for t in np.arange(0, duration_s, step).tolist()],
        "scores": [
            {"y": y(0), "text": "0"},
            {"y": y(threshold), "text": apart(verdict["mds"], threshold)[1]},
        ],
    }
