"""Results as people read them: pictures, lines on the screen, a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from evaluation.metrics import FPRS, MIN_GROUP, calls_all_alike
from utils.cli import legible
from utils.constants import LABELS
from utils.pages import FAKE_COLOUR, REAL_COLOUR, data_uri, write_page


def plot_roc(scores: pd.DataFrame, metrics: dict, path: Path) -> None:
    """Write the ROC curve beside the distribution of MDS of real and fake videos, as a PNG."""
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    fpr, tpr, _ = roc_curve(is_fake, scores.mds, drop_intermediate=False)
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(fpr, tpr, color="black", label=headline(metrics))
    left.plot([0, 1], [0, 1], ":", color="grey", label="chance")
    left.set(xlabel="false positive rate (real called fake)", ylabel="true positive rate (fake called fake)")
    left.set_title(video_counts(metrics), fontsize="medium")
    left.set_aspect("equal")
    left.legend(loc="lower right")
    bins = np.histogram_bin_edges(scores.mds, bins=min(30, max(8, len(scores) // 3)))
    for mask, name, colour in ((~is_fake, "real", REAL_COLOUR), (is_fake, "fake", FAKE_COLOUR)):
        # of its class, else a few real videos vanish beside many fake ones
        share = np.full(mask.sum(), 1 / mask.sum())
        right.hist(scores.mds[mask], bins, weights=share, color=colour, alpha=0.6, label=name)
    if metrics["threshold"] is not None:
        words = calls_all_alike(scores.mds, metrics["threshold"]).split(" of ")[0]
        label = f"threshold {metrics['threshold']:.3f}" + (f": {words} fake" if words else "")
        right.axvline(metrics["threshold"], color="black", ls="--", label=label)
    right.set(
        xlabel="MDS (higher: more fake)",
        ylabel="share of the class's videos",
        title="Modality dissonance score",
    )
    right.legend()
    figure.savefig(path, dpi=120, format="png")


def plot_curves(records: Sequence[dict], path: Path, terms: Sequence[str]) -> None:
    """Write the losses, the scores of real and fake videos and the AUC over the epochs of a run's log, as a
    PNG.
    """
    epochs = [record.get("epoch", i) for i, record in enumerate(records, 1)]
    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, scores, aucs = figure.subplots(1, 3)
    for name in ("loss", *terms):
        values = [record.get(name, np.nan) for record in records]  # a log from elsewhere may lack some
        losses.plot(epochs, values, ".-", label=name, color="black" if name == "loss" else None)
    losses.set(title="Loss (mean of the epoch)", yscale="log")
    for name, colour in (("real", REAL_COLOUR), ("fake", FAKE_COLOUR)):
        scores.plot(
            epochs,
            [record.get(f"mean_mds_{name}", np.nan) for record in records],
            ".-",
            color=colour,
            label=name,
        )
    scores.set(title="Mean MDS of training videos, as trained")
    aucs.axhline(0.5, ls=":", color="grey", label="chance")
    values = [record.get("train_auc", np.nan) for record in records]
    aucs.plot(epochs, values, ".-", color="black", label="training videos, as trained")
    if any("val_auc" in record for record in records):
        aucs.plot(
            epochs,
            [record.get("val_auc", np.nan) for record in records],
            ".-",
            color=FAKE_COLOUR,
            label="held-out videos",
        )
    aucs.set(title="AUC (video-wise)", ylim=(0, 1.02))
    for axes in (losses, scores, aucs):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    figure.savefig(path, dpi=120, format="png")


def span(interval: Sequence[float] | None) -> str:
    """An interval in words."""
    return "unknown" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def video_counts(metrics: dict) -> str:
    """How many videos the figures are of, and whether that is too few."""
    few = f"; too few to conclude (under {MIN_GROUP} of a class)" if metrics["too_few"] else ""
    return f"{metrics['n_videos']} videos: {metrics['n_real']} real, {metrics['n_fake']} fake{few}"


def headline(metrics: dict) -> str:
    """The AUC with the wider of its two intervals."""
    interval = metrics["auc_ci95_wider"]
    words = "unknown" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
    return f"AUC {metrics['auc']:.3f} (95 % interval {words})"


def fpr_note(fpr: float, n_real: int) -> str:
    """What a false positive rate means with that few real videos; nothing if it means what it says."""
    if n_real * fpr >= 1 - 1e-9:
        return ""
    return f"no false alarm at all: of {n_real} real videos {100 * fpr:.0f} % is less than one"


def metric_lines(metrics: dict) -> Iterator[str]:
    """The figures of `video_metrics`, with thresholds (a list of `decisions`) and threshold_origin, as lines
    for the screen.
    """

    def line(name: str, value: float, note: str = "") -> str:
        return f"{name:<33} {value:.4f}   {note}".rstrip()

    yield video_counts(metrics)
    yield line(
        "AUC (video-wise)",
        metrics["auc"],
        f"95 % interval {span(metrics['auc_ci95_wider'])} (the wider of the next two)",
    )
    yield " " * 43 + f"95 % interval {span(metrics['auc_ci95'])} (bootstrap over videos)"
    yield " " * 43 + f"95 % interval {span(metrics['auc_ci95_delong'])} (DeLong)"
    yield line(
        "average precision",
        metrics["average_precision"],
        f"precision of a random ranking: {metrics['n_fake'] / metrics['n_videos']:.4f}, the share of fakes",
    )
    yield line("equal error rate", metrics["eer"])
    for fpr in FPRS:
        yield line(
            f"TPR at {100 * fpr:.0f} % FPR", metrics["tpr_at_fpr"][str(fpr)], fpr_note(fpr, metrics["n_real"])
        )
    if metrics["threshold"] is None:
        yield f"accuracy                          no threshold ({metrics['threshold_origin']}); give one with --threshold"
    for row in metrics["thresholds"]:
        yield line(
            f"accuracy at MDS >= {row['threshold']:<8.4f}", row["accuracy"], f"threshold: {row['origin']}"
        )
        yield line(
            "  balanced accuracy",
            row["balanced_accuracy"],
            f"of {row['tp'] + row['fn']} fake {row['tp']} called fake (TPR {row['tpr']:.4f}), "
            f"of {row['fp'] + row['tn']} real {row['fp']} (FPR {row['fpr']:.4f})",
        )
        if row["parts_nothing"]:
            yield f"  this threshold {row['parts_nothing']}: it says nothing here"
    yield line(
        "authors' thresholded AUC",
        metrics["authors_auc"],
        "decisions at their fixed MDS >= 0.6: balanced accuracy there",
    )
    if metrics["chunk_auc"] is not None:
        yield line(
            "AUC (chunk-wise)",
            metrics["chunk_auc"],
            f"{metrics['n_chunks']} chunks, each under its video's label",
        )
        yield ""
        yield "which part of the network sees it (AUC over videos, higher score: more fake)"
        for name, figures in metrics["heads"].items():
            name += "" if name == "dissonance" else " head"
            yield line(f"  {name}", figures["auc"], span(figures["auc_ci95_delong"]) + " (DeLong)")
    heads = [name for name in metrics["heads"] if name != "dissonance"]
    for column in dict.fromkeys(group["column"] for group in metrics["groups"]):
        groups = [group for group in metrics["groups"] if group["column"] == column]
        width = max(30, *(len(legible(group["value"])) for group in groups))
        yield ""
        names = "".join(f"  {name + ' head':<10}" for name in heads)
        yield f"{'by ' + column:<{width + 2}}  AUC     95 % (DeLong)     {names}   fake   real"
        for group in groups:
            head_aucs = "".join(f"  {group['heads'][name]['auc']:<10.4f}" for name in heads)
            against = "(all)" if group["real"] == "all" else " " * 5
            note = "  few: read with care" if group["small"] else ""
            figures = f"{group['auc']:.4f}  {span(group['auc_ci95_delong']):<16}  {head_aucs}"
            counts = f"{group['n_fake']:>7}{group['n_real']:>7}"
            yield f"  {legible(group['value']):<{width}}  {figures}{counts} {against}{note}".rstrip()


def write_report(path: Path, metrics: dict, plot: Path, source: str, checkpoint: str | None) -> None:
    """Write the page of what `metric_lines` takes, with a PNG of `plot_roc` in it.

    `source` is the score file, `checkpoint` the model that scored, if known.
    """
    write_page(
        path,
        Path(__file__).parent / "templates" / "report.html",
        title=f"Test report: {legible(source)}",
        metrics=metrics,
        source=legible(source),
        checkpoint=checkpoint and legible(checkpoint),
        plot=data_uri(plot.read_bytes(), "image/png"),
        span=span,
        fpr_notes={str(fpr): fpr_note(fpr, metrics["n_real"]) for fpr in FPRS},
        min_group=MIN_GROUP,
        columns=list(dict.fromkeys(group["column"] for group in metrics["groups"])),
        legible=legible,
        headline=headline(metrics),
        counts=video_counts(metrics),
    )


def versus_lines(result: dict) -> Iterator[str]:
    """What `compare_scores` gives as lines for the screen."""
    yield f"{result['n_videos']} videos in both: {result['n_real']} real, {result['n_fake']} fake"
    for which, key in (("scores", "only_scores"), ("versus", "only_versus")):
        if names := result[key]:
            yield f"{len(names)} only in {result[which]}, left out: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
    yield f"AUC (video-wise)                  {result['auc']:.4f}   {result['scores']}"
    yield f"AUC (video-wise)                  {result['auc_versus']:.4f}   {result['versus']}"
    interval = result["difference_ci95"]
    interval = "unknown" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
    yield f"difference                        {result['difference']:+.4f}  95 % interval {interval} (DeLong, paired)"
    if result["p"] is None:
        yield "no test: the difference does not vary from video to video, or a class has one video"
    else:
        yield f"z                                 {result['z']:+.4f}"
        yield f"p (two-sided, of equal AUCs)      {result['p']:.4g}"
