"""The curve of one video, second against score: as a picture (the paper's localization figure) and for its
page.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.cli import legible
from utils.files import replacing
from utils.pages import FAKE_COLOUR
from verdicts.curve import cells
from verdicts.schema import Findings
from verdicts.verdict import TrackScores
from verdicts.words import apart, gaps, in_capitals

# of the palette of Okabe and Ito, which the colour-blind can tell apart; with the dashes 30 looks
TRACK_COLOURS = ("#000000", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ((), (7, 3), (2, 2), (9, 3, 2, 3), (14, 4))  # lengths of line and gap; none: a line without gaps
GREY = "#8f8f8f"
LINE_WIDTH = 1.6  # in points, of the picture's lines; their dashes count in it
PLOT_WIDTH, PLOT_HEIGHT = 1000, 240  # of the page's curve, in its own units
TICK_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
MAX_TICKS = 10
MAX_NAME = 60  # letters of a file's name in a title, its end
MAX_NAMED = 6  # tracks in a legend

Spans = Sequence[Sequence[float]]  # (begin_s, end_s) each


def top_of(tracks: Sequence[TrackScores], threshold: float) -> float:
    """The upper end of the axis of scores: above every chunk, and so above the smoothed curve."""
    return 1.08 * max(threshold, *(track.scores[:, 0].max() for track in tracks if len(track.scores))) or 1.0


def colour_of_track(number: int) -> str:
    return TRACK_COLOURS[number % len(TRACK_COLOURS)]


def dashes_of_track(number: int) -> tuple[int, ...]:
    return DASHES[number % len(DASHES)]


def lines_of(track: TrackScores) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The line of each run of a track's chunks: the run, times and values; a chunk's score stands at its
    middle, the first and the last one's reach to the ends of the run.
    """
    begin, end, runs = cells(track.start_s, track.length.chunk_s)
    for run in runs:
        middle = track.start_s[run] + track.length.chunk_s / 2
        times = np.concatenate([begin[run][:1], middle, end[run][-1:]])
        yield run, times, np.pad(track.curve[run], 1, mode="edge")


# the picture


def plot_timeline(
    name: str, tracks: Sequence[TrackScores], verdict: Findings, true_spans: Spans | None, path: Path
) -> None:
    """Write dissimilarity against time as a PNG: the threshold, the spans found, the true ones if known, and
    holes.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes, top = figure.subplots(), top_of(tracks, verdict["threshold"])
    draw_spans(axes, top, verdict, true_spans or [])
    draw_tracks(axes, tracks, verdict)
    mds_text, threshold_text = apart(verdict["mds"], verdict["threshold"])
    axes.axhline(verdict["threshold"], color="black", lw=0.9, label=f"threshold {threshold_text}")
    axes.set(xlim=(0, verdict["coverage"]["duration_s"]), ylim=(0, top))
    axes.set(xlabel="time in s", ylabel="dissimilarity (higher: more fake)")
    shown = legible(name)
    shown = shown if len(shown) <= MAX_NAME else f"…{shown[-MAX_NAME:]}"
    axes.set_title(f"{shown}: {in_capitals(verdict)}, MDS {mds_text}", fontsize=10, parse_math=False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, handlelength=3.5)
    with replacing(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a letter of the name that the font lacks
        figure.savefig(partial, dpi=120, format="png")


def draw_spans(axes: Axes, top: float, verdict: Findings, true_spans: Spans) -> None:
    """Draw what is fake in truth, what could not be judged, and what was found."""
    for i, (begin_s, end_s) in enumerate(true_spans):
        label = "fake by its labels" if i == 0 else None
        axes.axvspan(begin_s, end_s, color=FAKE_COLOUR, alpha=0.22, lw=0, label=label)
    # hundreds of spans and holes in one call each: with one per call an hour of video takes minutes
    if holes := [(gap["start_s"], gap["end_s"] - gap["start_s"]) for gap in gaps(verdict)]:
        look: dict[str, Any] = {
            "facecolor": "white",
            "edgecolor": GREY,
            "hatch": "///",
            "lw": 0,
            "alpha": 0.5,
        }
        axes.broken_barh(holes, (0, top), label="no opinion", **look)
    if spans := verdict["spans"]:
        starts, ends = ([span["start_s"] for span in spans], [span["end_s"] for span in spans])
        label = "found: at or above the threshold"
        axes.hlines([0.985 * top] * len(spans), starts, ends, color=FAKE_COLOUR, lw=5, label=label)


def draw_tracks(axes: Axes, tracks: Sequence[TrackScores], verdict: Findings) -> None:
    """Draw the curves of the tracks over their scores; the first few and the decisive one get a name."""
    axes.plot([], [], ".", color=GREY, ms=4, label="dots: each chunk; lines: smoothed")
    n_named = 0
    for track in [track for track in tracks if len(track.scores)]:
        colour, label = colour_of_track(track.number), None
        if n_named < MAX_NAMED or track.number == verdict["track"]:
            n_named += 1
            mds_text, _ = apart(float(track.means[0]), verdict["threshold"])
            label = f"track {track.number}, MDS {mds_text}"
        for run, times, values in lines_of(track):
            (line,) = axes.plot(times, values, color=colour, lw=LINE_WIDTH, label=label)
            if dashes := dashes_of_track(track.number):
                line.set_dashes([length / LINE_WIDTH for length in dashes])
            axes.plot(times[1:-1], track.scores[run, 0], ".", color=colour, ms=4, alpha=0.6)
            label = None  # the name once


# for the page


class Band(TypedDict):
    """A span of time, drawn."""

    x: float
    width: float


class DrawnLine(TypedDict):
    """A run of chunks of a track, drawn."""

    track: int
    colour: str
    dashes: str  # as SVG has it; nothing for a line without gaps
    points: str  # x,y x,y ... as SVG has it
    dots: str  # a path with a dot for each chunk, not smoothed


class Tick(TypedDict):
    """A mark on the axis of time."""

    x: float
    text: str


class ScoreMark(TypedDict):
    """A mark on the axis of scores."""

    y: float
    text: str


class DrawnCurve(TypedDict):
    """The curve that the page draws, in units of its own, the origin in the upper left corner."""

    width: int
    height: int
    lines: list[DrawnLine]
    threshold: float  # y
    found: list[Band]
    true: list[Band]
    holes: list[Band]  # without an opinion
    ticks: list[Tick]
    scores: list[ScoreMark]


@dataclass(frozen=True)
class Plane:
    """Where times and scores lie on the page's curve."""

    duration_s: float
    top: float  # the highest score

    def x(self, time_s: float) -> float:
        return round(PLOT_WIDTH * time_s / self.duration_s, 2)

    def y(self, score: float) -> float:
        return round(PLOT_HEIGHT * (1 - score / self.top), 2)

    def bands(self, spans: Spans) -> list[Band]:
        """Spans (begin_s, end_s), each wide enough to be seen."""
        return [{"x": self.x(a), "width": round(max(1.0, self.x(b) - self.x(a)), 2)} for a, b in spans]

    def line(self, track: TrackScores, run: slice, times: np.ndarray, values: np.ndarray) -> DrawnLine:
        """A run of chunks, see `lines_of`."""
        raw = zip(times[1:-1], track.scores[run, 0], strict=True)
        return {
            "track": track.number,
            "colour": colour_of_track(track.number),
            "dashes": " ".join(map(str, dashes_of_track(track.number))),
            "points": " ".join(
                f"{self.x(t)},{self.y(value)}" for t, value in zip(times, values, strict=True)
            ),
            "dots": "".join(f"M{self.x(t)} {self.y(value)}h0" for t, value in raw),
        }

    def ticks(self) -> list[Tick]:
        """Marks at round times, a handful."""
        step_s = next(step_s for step_s in TICK_STEPS_S if self.duration_s / step_s <= MAX_TICKS)
        return [{"x": self.x(t), "text": f"{t:g}"} for t in np.arange(0, self.duration_s, step_s).tolist()]


def page_curve(tracks: Sequence[TrackScores], verdict: Findings, true_spans: Spans | None) -> DrawnCurve:
    """What the page draws."""
    threshold = verdict["threshold"]
    plane = Plane(verdict["coverage"]["duration_s"], top_of(tracks, threshold))
    judged = [track for track in tracks if len(track.scores)]
    _, threshold_text = apart(verdict["mds"], threshold)
    return {
        "width": PLOT_WIDTH,
        "height": PLOT_HEIGHT,
        "lines": [plane.line(track, *line) for track in judged for line in lines_of(track)],
        "threshold": plane.y(threshold),
        "found": plane.bands([(span["start_s"], span["end_s"]) for span in verdict["spans"]]),
        "true": plane.bands(true_spans or []),
        "holes": plane.bands([(gap["start_s"], gap["end_s"]) for gap in gaps(verdict)]),
        "ticks": plane.ticks(),
        "scores": [
            {"y": plane.y(0), "text": "0"},
            {"y": plane.y(threshold), "text": f"threshold {threshold_text}"},
        ],
    }
