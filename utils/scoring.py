"""From chunk scores to video scores (MDS), from video scores to figures.

The score is MDS, the mean dissimilarity of a track's chunks, and of a video the largest of its tracks: higher is more fake.
Figures take fake as the positive class. In the tables the label is the authors': fake 0, real 1.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, roc_curve

from utils.cli import UserError
from utils.labels import LABELS

AUTHORS_THRESHOLD = 0.6
SCORE_COLUMNS = ("video", "label", "track", "n_chunks", "dissimilarity_sum", "mds")


def track_scores(chunk_scores: pd.DataFrame) -> pd.DataFrame:
    """Sum a table with a row per chunk (video, track, label, dissimilarity) into one with a row per track (`SCORE_COLUMNS`)."""
    # DEVIATION: by path below the split, so that equal file names in two folders stay two videos
    groups = chunk_scores.groupby(["video", "track"], sort=True)
    scores = groups.agg(label=("label", "first"), n_chunks=("dissimilarity", "size"), dissimilarity_sum=("dissimilarity", "sum"))
    scores["mds"] = scores.dissimilarity_sum / scores.n_chunks
    return scores.reset_index()[list(SCORE_COLUMNS)]


def video_scores(chunk_scores: pd.DataFrame) -> pd.DataFrame:
    """Of each video its most dissonant track, as in `track_scores`: a video is fake if one face in it is."""
    tracks = track_scores(chunk_scores).sort_values(["video", "mds", "track"], ascending=[True, False, True])
    return tracks.drop_duplicates("video").reset_index(drop=True)


def mean_mds(scores: pd.DataFrame) -> dict[str, float]:
    """The mean MDS of the real and of the fake videos, and the paper's threshold, their midpoint.

    NaN where a class has no video.
    """
    real, fake = (float(scores.mds[scores.label == LABELS[label]].mean()) for label in ("real", "fake"))
    return {"mean_mds_real": real, "mean_mds_fake": fake, "threshold": (real + fake) / 2}


def read_scores(path: Path) -> pd.DataFrame:
    """Read and check scores.csv.

    Raises:
        UserError: missing, not CSV, empty, a column or a value missing, a label other than 0 and 1, one class only, a
            video twice.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; make it with: python train.py --test --out_dir . --scores_dir {path.parent}")
    try:
        scores = pd.read_csv(path, dtype={"video": str}, encoding_errors="surrogateescape")
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty; expected a header and a row per video.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} can't be read as CSV: {' '.join(str(error).split())}") from error
    missing = [column for column in ("video", "label", "mds") if column not in scores]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; expected {', '.join(SCORE_COLUMNS)}.")
    if scores.empty:
        raise UserError(f"{path} lists no video; was the test split empty?")
    scores["mds"] = pd.to_numeric(scores.mds, errors="coerce")
    bad = scores.video[~np.isfinite(scores.mds)]
    if len(bad):
        raise UserError(
            f"{path}: the score of {len(bad)} of {len(scores)} videos is not a finite number, the first {bad.iloc[0]}; "
            "a diverged model gives NaN: look at its training loss."
        )
    if not scores.label.isin(LABELS.values()).all():
        raise UserError(f"{path} has labels {sorted(set(scores.label.astype(str)))}, expected 0 (fake) and 1 (real).")
    if scores.video.duplicated().any():
        raise UserError(f"{path} lists {scores.video[scores.video.duplicated()].iloc[0]} twice.")
    if scores.label.nunique() < 2:
        only = next(name for name, code in LABELS.items() if code == scores.label.iloc[0])
        raise UserError(f"{path} has only {only} videos ({len(scores)}); an AUC needs real and fake ones.")
    return scores


def equal_error_rate(is_fake: np.ndarray, score: np.ndarray) -> float:
    """The rate at which misses and false alarms are equal, interpolated linearly on the ROC curve, 0..1."""
    fpr, tpr, _ = roc_curve(is_fake, score, drop_intermediate=False)
    gap = fpr + tpr - 1  # rises from -1 to 1 along the curve
    i = int(np.argmax(gap >= 0))
    if gap[i] == 0:
        return float(fpr[i])
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(fpr[i - 1] + share * (fpr[i] - fpr[i - 1]))


def bootstrap_auc(is_fake: np.ndarray, score: np.ndarray, n_resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the AUC, resampling the videos of each class with replacement."""
    rng = np.random.default_rng(seed)
    fake, real = score[is_fake], score[~is_fake]
    pairs = [(rng.choice(fake, len(fake)), rng.choice(real, len(real))) for _ in range(n_resamples)]
    fakes, reals = map(np.stack, zip(*pairs, strict=True))
    aucs = mannwhitneyu(fakes, reals, axis=1, method="asymptotic").statistic / (len(fake) * len(real))  # U is the AUC, unscaled
    low, high = np.percentile(aucs, [2.5, 97.5])
    return float(low), float(high)


def video_metrics(scores: pd.DataFrame, threshold: float | None) -> dict:
    """Figures of a checked score table; rates are 0..1, fake is positive.

    Args:
        scores: as `read_scores` gives it.
        threshold: MDS from which on a video is called fake; None leaves the accuracy out.

    Returns:
        n_videos, n_real, n_fake, auc, auc_ci95, average_precision, eer, threshold, accuracy, authors_threshold,
        authors_auc (AUC of the decisions at the authors' fixed 0.6, which is the balanced accuracy there).
    """
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    mds = scores.mds.to_numpy(np.float64)
    return {
        "n_videos": len(scores),
        "n_real": int((~is_fake).sum()),
        "n_fake": int(is_fake.sum()),
        "auc": float(roc_auc_score(is_fake, mds)),  # DEVIATION: of the scores, not of thresholded decisions
        "auc_ci95": bootstrap_auc(is_fake, mds),
        "average_precision": float(average_precision_score(is_fake, mds)),
        "eer": equal_error_rate(is_fake, mds),
        "threshold": threshold,
        "accuracy": None if threshold is None else float(np.mean((mds >= threshold) == is_fake)),
        "authors_threshold": AUTHORS_THRESHOLD,
        "authors_auc": float(balanced_accuracy_score(is_fake, mds >= AUTHORS_THRESHOLD)),
    }
