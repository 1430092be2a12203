"""A picture of how a training run went."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.pages import FAKE_COLOUR, REAL_COLOUR


def draw_curve(axes: Axes, records: Sequence[dict], key: str, label: str, colour: str | None) -> None:
    """Draw a figure of each epoch, with holes where a log, perhaps from elsewhere, lacks it."""
    epochs = [record.get("epoch", i) for i, record in enumerate(records, 1)]
    axes.plot(epochs, [record.get(key, np.nan) for record in records], ".-", color=colour, label=label)


def plot_curves(records: Sequence[dict], path: Path, terms: Sequence[str]) -> None:
    """Write the loss and its terms, the scores of real and fake videos and the AUC over the epochs of a run's
    log, as a PNG.
    """
    picture = Figure(figsize=(13, 4), layout="constrained")
    losses, scores, aucs = picture.subplots(1, 3)
    draw_curve(losses, records, "loss", "loss", "black")
    for term in terms:
        draw_curve(losses, records, term, term, None)
    losses.set(title="Loss (mean of the epoch)", yscale="log")
    for name, colour in (("real", REAL_COLOUR), ("fake", FAKE_COLOUR)):
        draw_curve(scores, records, f"mean_mds_{name}", name, colour)
    scores.set(title="Mean MDS of training videos, as trained")
    aucs.axhline(0.5, ls=":", color="grey", label="chance")
    draw_curve(aucs, records, "train_auc", "training videos, as trained", "black")
    if any("val_auc" in record for record in records):
        draw_curve(aucs, records, "val_auc", "held-out videos", FAKE_COLOUR)
    aucs.set(title="AUC (video-wise)", ylim=(0, 1.02))
    for axes in (losses, scores, aucs):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    picture.savefig(path, dpi=120, format="png")
