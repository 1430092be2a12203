"""Pictures of a score table: ROC curve, distribution of the scores, reliability of the probabilities."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from sklearn.metrics import roc_curve

from evaluation.calibration import CalibrationFigures
from evaluation.metrics import Metrics, calls_all_alike
from evaluation.report import headline, video_counts
from utils.constants import LABELS
from utils.pages import FAKE_COLOUR, REAL_COLOUR

PANEL_INCHES = (4.5, 4.0)


def draw_roc(axes: Axes, scores: pd.DataFrame, metrics: Metrics) -> None:
    """Draw the ROC curve."""
    fpr, tpr, _ = roc_curve(scores.label == LABELS["fake"], scores.mds, drop_intermediate=False)
    axes.plot(fpr, tpr, color="black", label=headline(metrics).replace(" (", "\n("))
    axes.plot([0, 1], [0, 1], ":", color="grey", label="chance")
    axes.set(xlabel="false positive rate (real called fake)", ylabel="true positive rate (fake called fake)")
    axes.set_title(video_counts(metrics).replace("; ", "\n"), fontsize="medium")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")


def draw_distributions(axes: Axes, scores: pd.DataFrame, threshold: float | None) -> None:
    """Draw how the MDS of real and of fake videos are distributed, and the threshold, if there is one."""
    bins = np.histogram_bin_edges(scores.mds, bins=min(30, max(8, len(scores) // 3))).tolist()
    for name, colour in (("real", REAL_COLOUR), ("fake", FAKE_COLOUR)):
        mds = scores.mds[scores.label == LABELS[name]]
        # of its class, else a few real videos vanish beside many fake ones
        weights = np.full(len(mds), 1 / len(mds))
        axes.hist(mds, bins, weights=weights, color=colour, alpha=0.6, label=name)
    if threshold is not None:
        words = calls_all_alike(scores.mds, threshold).split(" of ")[0]
        label = f"threshold {threshold:.3f}" + (f": {words} fake" if words else "")
        axes.axvline(threshold, color="black", ls="--", label=label)
    axes.set_xlabel("MDS (higher: more fake)")
    axes.set_ylabel("share of the class's videos")
    axes.set_title("Modality dissonance score", fontsize="medium")
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])  # the legend shall lie on no bar
    axes.legend(loc="upper right")


def draw_reliability(axes: Axes, calibration: CalibrationFigures) -> None:
    """Draw the share of fakes over the probability that they were given; on the diagonal they are equal."""
    bins = calibration["bins"]
    shares = np.array([of_bin["fake_share"] for of_bin in bins])
    ends = np.array([of_bin["fake_share_ci95"] for of_bin in bins])
    around = np.abs(ends - shares[:, None]).T
    label = f"about {bins[0]['n']} videos each, 95 %"
    axes.plot([0, 1], [0, 1], ":", color="grey", label="as it should be")
    means = [of_bin["p_fake"] for of_bin in bins]
    axes.errorbar(means, shares, around, fmt="o-", color="black", capsize=3, label=label)
    axes.set(xlabel="probability of fake, by the model", ylabel="share of fakes", ylim=(-0.02, 1.02))
    axes.set_title(f"Probabilities: Brier score {calibration['brier']:.3f}", fontsize="medium")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")


def panels(
    scores: pd.DataFrame, metrics: Metrics, calibration: CalibrationFigures | None
) -> dict[str, Callable[[Axes], None]]:
    """What draws each picture, by what it shows."""
    drawn: dict[str, Callable[[Axes], None]] = {
        "ROC curve": lambda axes: draw_roc(axes, scores, metrics),
        "distribution of the scores": lambda axes: draw_distributions(axes, scores, metrics["threshold"]),
    }
    if calibration and calibration["bins"]:
        drawn["reliability of the probabilities"] = lambda axes: draw_reliability(axes, calibration)
    return drawn


def plot_roc(
    scores: pd.DataFrame, metrics: Metrics, path: Path, calibration: CalibrationFigures | None = None
) -> None:
    """Write all pictures side by side, as a PNG."""
    drawn = panels(scores, metrics, calibration)
    width, height = PANEL_INCHES
    picture = Picture(figsize=(len(drawn) * width, height), layout="constrained")
    for axes, draw in zip(picture.subplots(1, len(drawn)), drawn.values(), strict=True):
        draw(axes)
    picture.savefig(path, dpi=120, format="png")


def panel_png(draw: Callable[[Axes], None]) -> bytes:
    """One picture alone, as a PNG, fine enough for a page as wide as a hand or a screen."""
    picture, file = Picture(figsize=PANEL_INCHES, layout="constrained"), BytesIO()
    draw(picture.subplots())
    picture.savefig(file, dpi=200, format="png")
    return file.getvalue()
