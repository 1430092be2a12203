"""Pictures of results."""

from collections.abc import Sequence
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


def plot_curves(records: Sequence[dict], path: Path) -> None:
    """Write the losses, the scores of real and fake videos and the AUC over the epochs of a run's log, as a PNG."""
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, scores, aucs = figure.subplots(1, 3)
    for name in ("loss", "contrastive", "video_ce", "audio_ce"):
        losses.plot(epochs, [record[name] for record in records], ".-", label=name, color="black" if name == "loss" else None)
    losses.set(title="Loss (mean of the epoch)", yscale="log")
    for name, colour in (("real", REAL_COLOUR), ("fake", FAKE_COLOUR)):
        scores.plot(epochs, [record[f"mean_mds_{name}"] for record in records], ".-", color=colour, label=name)
    scores.set(title="Mean MDS of training videos, as trained")
    aucs.axhline(0.5, ls=":", color="grey", label="chance")
    aucs.plot(epochs, [record["train_auc"] for record in records], ".-", color="black", label="training videos, as trained")
    if any("val_auc" in record for record in records):
        aucs.plot(epochs, [record.get("val_auc", np.nan) for record in records], ".-", color=FAKE_COLOUR, label="held-out videos")
    aucs.set(title="AUC (video-wise)", ylim=(0, 1.02))
    for axes in (losses, scores, aucs):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    figure.savefig(path, dpi=120, format="png")
