"""Pictures of results."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from utils.labels import LABELS

REAL_COLOUR, FAKE_COLOUR = "#3b7dd8", "#d8513b"


def plot_roc(scores: pd.DataFrame, metrics: dict, path: Path) -> None:
    """Write the ROC curve beside the distribution of MDS of real and fake videos, as a PNG."""
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    fpr, tpr, _ = roc_curve(is_fake, scores.mds, drop_intermediate=False)
    low, high = metrics["auc_ci95"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(fpr, tpr, color="black", label=f"AUC {metrics['auc']:.3f} (95 % {low:.3f} to {high:.3f})")
    left.plot([0, 1], [0, 1], ":", color="grey", label="chance")
    left.set(xlabel="false positive rate (real called fake)", ylabel="true positive rate (fake called fake)")
    left.set_title(f"{metrics['n_videos']} videos: {metrics['n_real']} real, {metrics['n_fake']} fake")
    left.set_aspect("equal")
    left.legend(loc="lower right")
    bins = np.histogram_bin_edges(scores.mds, bins=min(30, max(8, len(scores) // 3)))
    for mask, name, colour in ((~is_fake, "real", REAL_COLOUR), (is_fake, "fake", FAKE_COLOUR)):
        right.hist(scores.mds[mask], bins, color=colour, alpha=0.6, label=name)
    if metrics["threshold"] is not None:
        right.axvline(metrics["threshold"], color="black", ls="--", label=f"threshold {metrics['threshold']:.3f}")
    right.set(xlabel="MDS (higher: more fake)", ylabel="videos", title="Modality dissonance score")
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend()
    figure.savefig(path, dpi=120, format="png")
