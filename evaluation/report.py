"""The figures of a score table as people read them: a picture, lines on the screen, a page."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from sklearn.metrics import roc_curve

from evaluation.auc import interval_text
from evaluation.figures import FIGURES, FPRS
from evaluation.metrics import MIN_GROUP, Decisions, GroupFigures, Metrics, Report, calls_all_alike
from utils.cli import legible
from utils.constants import LABELS
from utils.pages import FAKE_COLOUR, REAL_COLOUR, data_uri, write_page


def video_counts(metrics: Metrics) -> str:
    """How many videos the figures are of, and whether that is too few."""
    few = f"; too few to conclude (under {MIN_GROUP} of a class)" if metrics["too_few"] else ""
    return f"{metrics['n_videos']} videos: {metrics['n_real']} real, {metrics['n_fake']} fake{few}"


def headline(metrics: Metrics) -> str:
    """The AUC with the wider of its two intervals."""
    return f"AUC {metrics['auc']:.3f} (95 % interval {interval_text(metrics['auc_ci95_wider'], '.3f')})"


def fpr_note(fpr: float, n_real: int) -> str:
    """What a false positive rate means with that few real videos; nothing if it means what it says."""
    if n_real * fpr >= 1 - 1e-9:
        return ""
    return f"no false alarm at all: of {n_real} real videos {100 * fpr:.0f} % is less than one"


# the picture


def draw_roc(axes: Axes, scores: pd.DataFrame, metrics: Metrics) -> None:
    """Draw the ROC curve."""
    fpr, tpr, _ = roc_curve(scores.label == LABELS["fake"], scores.mds, drop_intermediate=False)
    axes.plot(fpr, tpr, color="black", label=headline(metrics))
    axes.plot([0, 1], [0, 1], ":", color="grey", label="chance")
    axes.set(xlabel="false positive rate (real called fake)", ylabel="true positive rate (fake called fake)")
    axes.set_title(video_counts(metrics), fontsize="medium")
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
    axes.set_title("Modality dissonance score")
    axes.legend()


def plot_roc(scores: pd.DataFrame, metrics: Metrics, path: Path) -> None:
    """Write the ROC curve beside the distribution of MDS of real and fake videos, as a PNG."""
    picture = Picture(figsize=(9, 4), layout="constrained")
    left, right = picture.subplots(1, 2)
    draw_roc(left, scores, metrics)
    draw_distributions(right, scores, metrics["threshold"])
    picture.savefig(path, dpi=120, format="png")


# the screen


def figure_line(name: str, value: float, note: str = "") -> str:
    """A figure as a line."""
    return f"{name:<33} {value:.4f}   {note}".rstrip()


def overall_lines(metrics: Metrics) -> Iterator[str]:
    """The figures over all thresholds."""
    wider, bootstrap, delong = (
        f"95 % interval {interval_text(interval)}"
        for interval in (metrics["auc_ci95_wider"], metrics["auc_ci95"], metrics["auc_ci95_delong"])
    )
    yield figure_line("AUC (video-wise)", metrics["auc"], f"{wider} (the wider of the next two)")
    yield " " * 43 + f"{bootstrap} (bootstrap over videos)"
    yield " " * 43 + f"{delong} (DeLong)"
    fake_share = metrics["n_fake"] / metrics["n_videos"]
    for figure in FIGURES:
        remark = figure.remark.format(fake_share=fake_share)
        yield figure_line(figure.name, metrics["figures"][figure.key], remark)
    for fpr in FPRS:
        note = fpr_note(fpr, metrics["n_real"])
        yield figure_line(f"TPR at {100 * fpr:.0f} % FPR", metrics["tpr_at_fpr"][str(fpr)], note)


def decision_lines(row: Decisions) -> Iterator[str]:
    """What comes of a threshold."""
    name = f"accuracy at MDS >= {row['threshold']:<8.4f}"
    yield figure_line(name, row["accuracy"], f"threshold: {row['origin']}")
    called_fake = (
        f"of {row['tp'] + row['fn']} fake {row['tp']} called fake (TPR {row['tpr']:.4f}), "
        f"of {row['fp'] + row['tn']} real {row['fp']} (FPR {row['fpr']:.4f})"
    )
    yield figure_line("  balanced accuracy", row["balanced_accuracy"], called_fake)
    if row["parts_nothing"]:
        yield f"  this threshold {row['parts_nothing']}: it says nothing here"


def threshold_lines(report: Report) -> Iterator[str]:
    """What comes of each threshold, and the authors' figure."""
    if report["threshold"] is None:
        why = report["threshold_origin"]
        yield f"accuracy                          no threshold ({why}); give one with --threshold"
    for row in report["thresholds"]:
        yield from decision_lines(row)
    note = "decisions at their fixed MDS >= 0.6: balanced accuracy there"
    yield figure_line("authors' thresholded AUC", report["authors_auc"], note)


def chunk_lines(metrics: Metrics) -> Iterator[str]:
    """What the scores of the chunks tell, if they are known."""
    if metrics["chunk_auc"] is None:
        return
    note = f"{metrics['n_chunks']} chunks, each under its video's label"
    yield figure_line("AUC (chunk-wise)", metrics["chunk_auc"], note)
    if len(metrics["heads"]) == 1:
        return
    yield ""
    yield "which part of the network sees it (AUC over videos, higher score: more fake)"
    for name, figures in metrics["heads"].items():
        name = f"  {name}" if name == "dissonance" else f"  {name} head"
        yield figure_line(name, figures["auc"], f"{interval_text(figures['auc_ci95_delong'])} (DeLong)")


def group_columns(metrics: Metrics) -> list[str]:
    """The columns by which there are groups."""
    return list(dict.fromkeys(group["column"] for group in metrics["groups"]))


def group_line(group: GroupFigures, width: int, heads: list[str]) -> str:
    """A group with a name of `width` characters; the AUC of these heads too."""
    head_aucs = "".join(f"  {group['heads'][name]['auc']:<10.4f}" for name in heads)
    figures = f"{group['auc']:.4f}  {interval_text(group['auc_ci95_delong']):<16}  {head_aucs}"
    counts = f"{group['n_fake']:>7}{group['n_real']:>7}"
    against = "(all)" if group["real"] == "all" else " " * 5
    note = "  few: read with care" if group["small"] else ""
    return f"  {legible(group['value']):<{width}}  {figures}{counts} {against}{note}".rstrip()


def group_lines(metrics: Metrics) -> Iterator[str]:
    """The groups, a table per column."""
    heads = [name for name in metrics["heads"] if name != "dissonance"]
    names = "".join(f"  {name + ' head':<10}" for name in heads)
    for column in group_columns(metrics):
        groups = [group for group in metrics["groups"] if group["column"] == column]
        width = max(30, *(len(legible(group["value"])) for group in groups))
        yield ""
        yield f"{'by ' + column:<{width + 2}}  AUC     95 % (DeLong)     {names}   fake   real"
        for group in groups:
            yield group_line(group, width, heads)


def metric_lines(report: Report) -> Iterator[str]:
    """The whole report."""
    yield video_counts(report)
    yield from overall_lines(report)
    yield from threshold_lines(report)
    yield from chunk_lines(report)
    yield from group_lines(report)


# the page


def write_test_page(path: Path, report: Report, plot: Path, source: str, checkpoint: str | None) -> None:
    """Write the report as a page with a PNG of `plot_roc` in it.

    `source` is the score file, `checkpoint` the model that scored, if known.
    """
    write_page(
        path,
        Path(__file__).parent / "templates" / "report.html",
        title=f"Test report: {legible(source)}",
        metrics=report,
        figures=FIGURES,
        fake_share=report["n_fake"] / report["n_videos"],
        source=legible(source),
        checkpoint=checkpoint and legible(checkpoint),
        plot=data_uri(plot.read_bytes(), "image/png"),
        interval_text=interval_text,
        fpr_notes={str(fpr): fpr_note(fpr, report["n_real"]) for fpr in FPRS},
        min_group=MIN_GROUP,
        columns=group_columns(report),
        legible=legible,
        headline=headline(report),
        counts=video_counts(report),
    )
