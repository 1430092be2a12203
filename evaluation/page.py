"""The figures of a score table as a page."""

from pathlib import Path, PurePath

import pandas as pd

from evaluation.auc import interval_text
from evaluation.figures import FIGURES, FPRS
from evaluation.metrics import MIN_GROUP, Report
from evaluation.plots import panel_png, panels
from evaluation.report import (
    cluster_words,
    fpr_note,
    grouping_name,
    has_clusters,
    headline,
    how_intervals,
    main_interval,
    own_interval,
    video_counts,
)
from utils.calibration import calibration_words
from utils.cli import legible
from utils.constants import SCORE_NAMES
from utils.pages import data_uri, write_page

N_PARTS = {"scores": 2, "model": 3}  # of a path, from its end, that say which file it is


def short_path(path: PurePath, n_parts: int) -> str:
    """The end of a path: where it lies on this machine is nobody's concern."""
    return legible("/".join(path.parts[-n_parts:]))


def write_test_page(
    path: Path, report: Report, scores: pd.DataFrame, source: Path, checkpoint: str | None
) -> None:
    """Write the report on a score table as a page with its pictures in it.

    `source` is the file of `scores`, `checkpoint` the model that scored, if known.
    """
    pictures = panels(scores, report, report["calibration"])
    write_page(
        path,
        Path(__file__).parent / "templates" / "report.html",
        title=f"Test report: {legible(source.name)}",
        metrics=report,
        figures=FIGURES,
        fake_share=report["n_fake"] / report["n_videos"],
        source=short_path(source, N_PARTS["scores"]),
        checkpoint=checkpoint and short_path(PurePath(checkpoint), N_PARTS["model"]),
        plots={name: data_uri(panel_png(draw), "image/png") for name, draw in pictures.items()},
        usual_score=SCORE_NAMES["both"],
        interval_text=interval_text,
        fpr_notes={str(fpr): fpr_note(fpr, report["n_real"]) for fpr in FPRS},
        min_group=MIN_GROUP,
        main_interval=main_interval(report),
        cluster_words=cluster_words,
        calibration_words=calibration_words,
        grouping_name=grouping_name,
        own_interval=own_interval,
        how_intervals=how_intervals(report),
        has_clusters=has_clusters(report),
        legible=legible,
        headline=headline(report),
        counts=video_counts(report),
    )
