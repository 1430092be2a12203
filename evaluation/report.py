"""The figures of a score table as lines on the screen."""

from collections.abc import Iterator

from evaluation.auc import Interval, interval_text
from evaluation.clusters import MIN_CLUSTERS, ClusterFigures
from evaluation.figures import FIGURES, FPRS
from evaluation.metrics import MIN_GROUP, AucFigures, Decisions, GroupFigures, Metrics, Report
from utils.calibration import calibration_words
from utils.cli import legible


def video_counts(metrics: Metrics) -> str:
    """How many videos the figures are of, and whether that is too few."""
    few = f"; too few to conclude (under {MIN_GROUP} of a class)" if metrics["too_few"] else ""
    return f"{metrics['n_videos']} videos: {metrics['n_real']} real, {metrics['n_fake']} fake{few}"


def main_interval(metrics: Metrics) -> Interval | None:
    """The interval of the AUC to go by: that by clusters, if there is one, else the one over videos."""
    clusters = metrics["clusters"]
    return (clusters and clusters["auc_ci95_wider"]) or metrics["auc_ci95_wider"]


def headline(metrics: Metrics) -> str:
    """The AUC with the interval to go by, of which each is the wider of two."""
    return f"AUC {metrics['auc']:.3f} (95 % interval {interval_text(main_interval(metrics), '.3f')})"


def cluster_words(clusters: ClusterFigures) -> str:
    """What the clusters are."""
    return f"{clusters['n_clusters']} clusters by {legible(clusters['by'])}"


def has_clusters(metrics: Metrics) -> bool:
    """Whether there are intervals by clusters."""
    return metrics["clusters"] is not None and not metrics["clusters"]["why_none"]


def own_interval(figures: AucFigures, metrics: Metrics) -> str:
    """The interval of a head or group to go by, with a * where clusters, though there are some, give none."""
    clustered = figures["auc_ci95_clustered"]
    mark = " *" if has_clusters(metrics) and not clustered else ""
    return interval_text(clustered or figures["auc_ci95_delong"]) + mark


def how_intervals(metrics: Metrics) -> str:
    """What the intervals of heads and groups are, in words; empty if there are none."""
    shown = [*metrics["heads"].values()] if metrics["chunk_auc"] is not None else []
    shown += [group for group in metrics["groups"] if group["column"] in metrics["groupings"]]
    if not shown or not has_clusters(metrics):
        return "as if videos were independent" if shown and metrics["clusters"] else ""
    has_few = any(own_interval(figures, metrics).endswith("*") for figures in shown)
    return "by clusters" + (
        f"; *: under {MIN_CLUSTERS} clusters, as if videos were independent" if has_few else ""
    )


def fpr_note(fpr: float, n_real: int) -> str:
    """What a false positive rate means with that few real videos; nothing if it means what it says."""
    if n_real * fpr >= 1 - 1e-9:
        return ""
    return f"no false alarm at all: of {n_real} real videos {100 * fpr:.0f} % is less than one"


def figure_line(name: str, value: float, note: str = "") -> str:
    """A figure as a line."""
    return f"{name:<33} {value:.4f}   {note}".rstrip()


def interval_lines(metrics: Metrics) -> Iterator[str]:
    """The AUC with all its intervals, the one to go by first."""
    name, clusters = "AUC (video-wise)", metrics["clusters"]
    over_videos = [
        (metrics["auc_ci95_wider"], "the wider of the next two"),
        (metrics["auc_ci95"], "bootstrap over videos"),
        (metrics["auc_ci95_delong"], "DeLong"),
    ]
    if clusters and not clusters["why_none"]:
        over_videos[0] = over_videos[0][0], "as if videos were independent: the wider of the next two"
        over_videos = [
            (clusters["auc_ci95_wider"], f"{cluster_words(clusters)}: the wider of the next two"),
            (clusters["auc_ci95_bootstrap"], "bootstrap over clusters"),
            (clusters["auc_ci95_delong"], "DeLong by clusters"),
            *over_videos,
        ]
    notes = [f"95 % interval {interval_text(interval)} ({how})" for interval, how in over_videos]
    yield figure_line(name, metrics["auc"], notes[0])
    yield from (" " * 43 + note for note in notes[1:])
    if clusters and clusters["why_none"]:
        yield f"  no interval by clusters of {legible(clusters['by'])}: {clusters['why_none']}"


def overall_lines(metrics: Metrics) -> Iterator[str]:
    """The figures over all thresholds."""
    yield from interval_lines(metrics)
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
    if report["authors_scale"]:
        note = "decisions at their fixed MDS >= 0.6: balanced accuracy there"
        yield figure_line("authors' thresholded AUC", report["authors_auc"], note)


def calibration_lines(report: Report) -> Iterator[str]:
    """How right the probabilities are, or why there are none."""
    figures = report["calibration"]
    if figures is None:
        if report["calibration_origin"]:
            yield f"{'probability of fake':<33} {legible(report['calibration_origin'])}"
        return
    remark = f"0 is best; {figures['brier_of_share']:.4f} for calling each {figures['fake_share']:.2f}"
    yield figure_line("Brier score (probability of fake)", figures["brier"], remark)
    yield figure_line("  mean probability", figures["p_fake"], f"{figures['fake_share']:.4f} are fake")
    yield f"  the probability was {calibration_words(figures)}"


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
        yield figure_line(name, figures["auc"], f"{own_interval(figures, metrics)} (DeLong)")


def grouping_name(metrics: Metrics, column: str) -> str:
    """A grouping, with the columns that say the same."""
    same = metrics["groupings"][column]
    return f"{column} (the same by {' and '.join(same)})" if same else column


def group_line(group: GroupFigures, width: int, metrics: Metrics) -> str:
    """A group with a name of `width` characters; the AUC of the heads too."""
    heads = [name for name in metrics["heads"] if name != "dissonance"]
    head_aucs = "".join(f"  {group['heads'][name]['auc']:<10.4f}" for name in heads)
    figures = f"{group['auc']:.4f}  {own_interval(group, metrics):<18}{head_aucs}"
    counts = f"{group['n_fake']:>7}{group['n_real']:>7}"
    against = "(all)" if group["real"] == "all" else " " * 5
    note = "  few: read with care" if group["small"] else ""
    return f"  {legible(group['value']):<{width}}  {figures}{counts} {against}{note}".rstrip()


def group_lines(metrics: Metrics) -> Iterator[str]:
    """The groups, a table per column."""
    heads = [name for name in metrics["heads"] if name != "dissonance"]
    names = "".join(f"  {name + ' head':<10}" for name in heads)
    for column in metrics["groupings"]:
        groups = [group for group in metrics["groups"] if group["column"] == column]
        title = f"by {grouping_name(metrics, column)}"
        width = max(30, len(title) - 2, *(len(legible(group["value"])) for group in groups))
        yield ""
        yield f"{title:<{width + 2}}  AUC     95 % (DeLong)     {names}   fake   real"
        for group in groups:
            yield group_line(group, width, metrics)


def metric_lines(report: Report) -> Iterator[str]:
    """The whole report."""
    yield video_counts(report)
    yield from overall_lines(report)
    yield from threshold_lines(report)
    yield from calibration_lines(report)
    yield from chunk_lines(report)
    yield from group_lines(report)
    if how := how_intervals(report):
        yield f"intervals of {'heads and ' if report['chunk_auc'] is not None else ''}groups: {how}"
