"""What train.py stores of a training: what it saw, and how well the model tells the held-out videos apart."""

import numpy as np
import pandas as pd

from evaluation.metrics import AucFigures, head_scores, video_metrics
from evaluation.tables import HEADS
from mds import mean_mds, video_scores
from utils.constants import LABELS
from utils.training_record import MAX_NAMES, HeadRecord, HeldOut, TrainingRecord

SCORED = ("video", "label", "track", "dissimilarity")  # columns of scored chunks


def training_record(
    index: pd.DataFrame, held_out: pd.DataFrame, scores: pd.DataFrame | None
) -> TrainingRecord:
    """The record of a training.

    Args:
        index: the chunks it was trained on. `held_out`: those it was not, as `read_index` or
            `with_foreign_sound` gives them.
        scores: of the held-out chunks, as `score_chunks` gives them; None if there are none.
    """
    videos = index.drop_duplicates("video")
    n_videos, n_chunks = (
        {of: int((rows.label == LABELS[of]).sum()) for of in LABELS} for rows in (videos, index)
    )
    names = sorted(set(index.source.fillna("").astype(str)) - {""}) if "source" in index else []
    return {
        "n_real": n_videos["real"],
        "n_fake": n_videos["fake"],
        "n_chunks_real": n_chunks["real"],
        "n_chunks_fake": n_chunks["fake"],
        "data_sets": names[:MAX_NAMES],
        "held_out": None if scores is None else held_out_figures(held_out, scores, real_alone(index)),
    }


def real_alone(index: pd.DataFrame) -> bool:
    """Whether an index to train on has no fakes."""
    return bool((index.label == LABELS["real"]).all())


def held_out_figures(held_out: pd.DataFrame, chunks: pd.DataFrame, is_foreign: bool) -> HeldOut:
    """How well the scores of chunks, which are finite, tell the held-out videos apart.

    `is_foreign`: the fakes among them are real pictures, as `with_foreign_sound` gives them.

    The AUC's interval is that of test.py, by originals where there are enough of them, else by videos; a real
    picture with a foreign sound belongs to the real video.
    """
    of_heads = chunks[list(HEADS.values())].dropna(axis=1, how="any").columns  # of the streams that are there
    chunks = chunks[[*SCORED, *of_heads]]
    scores = video_scores(chunks)
    scores = scores.assign(original=scores.video.map(originals_of(held_out, is_foreign)).fillna(""))
    metrics = video_metrics(scores, None, chunks)
    clusters, interval = metrics["clusters"], metrics["auc_ci95_wider"]
    if clusters and clusters["auc_ci95_wider"]:
        interval = clusters["auc_ci95_wider"]
    means = mean_mds(scores)
    of_real = head_scores(scores, chunks)
    of_real = of_real[of_real.label == LABELS["real"]]
    return {
        "n_real": metrics["n_real"],
        "n_fake": metrics["n_fake"],
        "is_foreign": is_foreign,
        "auc": metrics["auc"],
        "auc_ci95": interval,
        "mean_mds_real": means["mean_mds_real"],
        "mean_mds_fake": means["mean_mds_fake"],
        "mds_sd": pooled_sd(scores),
        "heads": {
            name: head_record(metrics["heads"][name], of_real[column].to_numpy())
            for name, column in HEADS.items()
            if column in of_heads
        },
    }


def head_record(figures: AucFigures, of_real: np.ndarray) -> HeadRecord:
    """The record of a classifier, with what it gives the real videos, (n,) float64."""
    return {
        "auc": figures["auc"],
        "auc_ci95": figures["auc_ci95_clustered"] or figures["auc_ci95_delong"],
        "real_p95": float(np.quantile(of_real, 0.95, method="higher")),
    }


def originals_of(index: pd.DataFrame, is_foreign: bool) -> dict[str, str]:
    """By video the real one that it was made from, empty if that is not known."""
    videos = index.drop_duplicates("video")
    if not is_foreign:
        return dict(zip(videos.video, videos.original, strict=True)) if "original" in videos else {}
    is_fake = videos.label == LABELS["fake"]  # with a foreign sound
    pictures = "real/" + videos.video.str.partition("/")[2]
    return dict(zip(videos.video, pictures.where(is_fake, ""), strict=True))


def pooled_sd(scores: pd.DataFrame) -> float | None:
    """The standard deviation of the MDS around the mean of its class; None with one video of each."""
    n_free = len(scores) - scores.label.nunique()
    if n_free < 1:
        return None
    rest = scores.mds - scores.groupby("label").mds.transform("mean")
    return float(np.sqrt((rest**2).sum() / n_free))
