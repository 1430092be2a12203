"""From chunk scores to video scores (MDS), from video scores to figures.

The score is MDS, the mean dissimilarity of a track's chunks, and of a video the largest of its tracks: higher
is more fake. Figures take fake as the positive class. In the tables the label is the authors': fake 0, real
1.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, roc_curve

from evaluation.auc import bootstrap_auc, delong_auc, delong_test
from evaluation.tables import HEADS, read_scores
from utils.cli import UserError
from utils.constants import GROUP_COLUMNS, LABELS

AUTHORS_THRESHOLD = 0.6
FPRS = (0.01, 0.1)  # false positive rates at which the true positive rate is given
MIN_GROUP = 30  # with fewer fake or fewer real videos a group is marked as small


def equal_error_rate(is_fake: np.ndarray, score: np.ndarray) -> float:
    """The rate at which misses and false alarms are equal, interpolated linearly on the ROC curve, 0..1."""
    fpr, tpr, _ = roc_curve(is_fake, score, drop_intermediate=False)
    gap = fpr + tpr - 1  # rises from -1 to 1 along the curve
    i = int(np.argmax(gap >= 0))
    if gap[i] == 0:
        return float(fpr[i])
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(fpr[i - 1] + share * (fpr[i] - fpr[i - 1]))


def tpr_at_fpr(is_fake: np.ndarray, score: np.ndarray, fpr: float) -> float:
    """The largest share of fakes found by a threshold that calls at most the share `fpr` of the real videos
    fake, 0..1.

    Not interpolated: with fewer than 1/fpr real videos it is the share of fakes above every real one.
    """
    rates, found, _ = roc_curve(is_fake, score, drop_intermediate=False)
    return float(found[rates <= fpr * (1 + 1e-9)].max())


def calls_all_alike(mds: pd.Series, threshold: float) -> str:
    """What is wrong with a threshold that parts nothing, in words; empty if it parts the videos."""
    n_called = int((mds >= threshold).sum())
    if 0 < n_called < len(mds):
        return ""
    return f"calls {'every one' if n_called else 'none'} of the {len(mds)} videos fake"


def decisions(scores: pd.DataFrame, threshold: float, origin: str) -> dict:
    """What comes of calling the videos with MDS >= threshold fake: counts and rates (0..1), fake is positive.

    `parts_nothing` says that all or none are, else it is empty.
    """
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    is_called = scores.mds.to_numpy() >= threshold
    tp, fn = int((is_fake & is_called).sum()), int((is_fake & ~is_called).sum())
    fp, tn = int((~is_fake & is_called).sum()), int((~is_fake & ~is_called).sum())
    tpr, fpr = tp / (tp + fn), fp / (fp + tn)
    return {
        "origin": origin,
        "threshold": threshold,
        "accuracy": (tp + tn) / len(scores),
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "tpr": tpr,
        "fpr": fpr,
        "tp": tp,
        "fn": fn,
        "fp": fp,
        "tn": tn,
        "parts_nothing": calls_all_alike(scores.mds, threshold),
    }


def head_scores(scores: pd.DataFrame, chunks: pd.DataFrame) -> pd.DataFrame:
    """A score table with p_fake_video and p_fake_audio of each video: like MDS the mean of a track, and of
    those the largest.
    """
    means = chunks.groupby(["video", "track"])[list(HEADS.values())].mean().groupby("video").max()
    return scores.join(means, on="video")


def auc_figures(table: pd.DataFrame, column: str) -> dict:
    """auc and auc_ci95_delong (None: see `delong_auc`) of a column as the score; both None without both
    classes.
    """
    is_fake = (table.label == LABELS["fake"]).to_numpy()
    if is_fake.all() or not is_fake.any():
        return {"auc": None, "auc_ci95_delong": None}
    return dict(
        zip(("auc", "auc_ci95_delong"), delong_auc(is_fake, table[column].to_numpy(np.float64)), strict=True)
    )


def head_figures(table: pd.DataFrame) -> dict[str, dict]:
    """`auc_figures` of what each part of the network says: dissonance (the MDS), and the video and the audio
    head if known.
    """
    columns = {"dissonance": "mds"} | {name: column for name, column in HEADS.items() if column in table}
    return {name: auc_figures(table, column) for name, column in columns.items()}


def group_figures(table: pd.DataFrame) -> list[dict]:
    """The figures of each value that a column of `GROUP_COLUMNS` has among the fakes, the lowest AUC of a
    column first.

    The fakes of a value are held against the real videos of the same value (those of the same data set, say),
    or, where no real video has it (a manipulation), against all of them; this is also FakeAVCeleb's
    convention for its categories.

    Returns:
        Dicts: column, value, real ("same" or "all": which ones), n_fake, n_real, small (fewer than
        `MIN_GROUP` of either), auc, auc_ci95_delong, heads (as `head_figures`).
    """
    is_fake = table.label == LABELS["fake"]
    groups = []
    for column in GROUP_COLUMNS:
        if column not in table:
            continue
        of_column = []
        for value in sorted(set(table[column][is_fake]) - {""}):
            has_value = table[column] == value
            has_own = (has_value & ~is_fake).any()
            part = table[has_value | ~is_fake & ~has_own]
            n_fake = int((has_value & is_fake).sum())
            n_real = len(part) - n_fake
            heads = head_figures(part)
            of_column.append(
                {
                    "column": column,
                    "value": value,
                    "real": "same" if has_own else "all",
                    "n_fake": n_fake,
                    "n_real": n_real,
                    "small": min(n_fake, n_real) < MIN_GROUP,
                    **heads["dissonance"],
                    "heads": heads,
                }
            )
        groups += sorted(of_column, key=lambda group: group["auc"])
    return groups


def video_metrics(scores: pd.DataFrame, threshold: float | None, chunks: pd.DataFrame | None = None) -> dict:
    """Figures of a checked score table; rates are 0..1, fake is positive, and every number is finite.

    Args:
        scores: as `read_scores` gives it.
        threshold: MDS from which on a video is called fake; None leaves the accuracy out.
        chunks: as `read_chunk_scores` gives it; None leaves out chunk_auc and the heads.

    Returns:
        n_videos, n_real, n_fake, too_few (fewer than `MIN_GROUP` of either), auc, auc_ci95 (bootstrap over
        videos), auc_ci95_delong (`delong_auc`), auc_ci95_wider (the wider of the two; None: unknown),
        average_precision, eer, tpr_at_fpr (by the false positive rate as text), threshold, accuracy,
        authors_threshold, authors_auc (AUC of the decisions at the authors' fixed 0.6, which is the balanced
        accuracy there), heads (`head_figures`), groups (`group_figures`), n_chunks, chunk_auc (each chunk
        under its video's label; in a fake that is fake for a span, most chunks are not).
    """
    is_fake = (scores.label == LABELS["fake"]).to_numpy()
    mds = scores.mds.to_numpy(np.float64)
    by_bootstrap, (_, by_delong) = bootstrap_auc(is_fake, mds), delong_auc(is_fake, mds)
    n_fake = int(is_fake.sum())
    table = scores if chunks is None else head_scores(scores, chunks)
    return {
        "n_videos": len(scores),
        "n_real": len(scores) - n_fake,
        "n_fake": n_fake,
        "too_few": min(n_fake, len(scores) - n_fake) < MIN_GROUP,
        "auc": float(roc_auc_score(is_fake, mds)),  # DEVIATION: of the scores, not of thresholded decisions
        "auc_ci95": by_bootstrap,
        "auc_ci95_delong": by_delong,
        # None where DeLong's is: a class of one video, or scores that are all the same
        "auc_ci95_wider": by_delong
        and max(by_bootstrap, by_delong, key=lambda interval: interval[1] - interval[0]),
        "average_precision": float(average_precision_score(is_fake, mds)),
        "eer": equal_error_rate(is_fake, mds),
        "tpr_at_fpr": {str(fpr): tpr_at_fpr(is_fake, mds, fpr) for fpr in FPRS},
        "threshold": threshold,
        "accuracy": None if threshold is None else float(np.mean((mds >= threshold) == is_fake)),
        "authors_threshold": AUTHORS_THRESHOLD,
        "authors_auc": float(balanced_accuracy_score(is_fake, mds >= AUTHORS_THRESHOLD)),
        "heads": head_figures(table),
        "groups": group_figures(table),
        "n_chunks": None if chunks is None else len(chunks),
        "chunk_auc": None if chunks is None else auc_figures(chunks, "dissimilarity")["auc"],
    }


def compare_scores(first: Path, second: Path) -> dict:
    """Hold two score files against each other on the videos that both have.

    Returns:
        What `delong_test` gives; scores and versus, the two files; n_videos, n_real, n_fake that they share;
        only_scores and only_versus, the videos that are in one of them alone.

    Raises:
        UserError: a file can't be used, no real or no fake video is in both, or a video has two labels.
    """
    tables = read_scores(first), read_scores(second)
    both = tables[0].merge(tables[1], on="video", suffixes=("", "_2"))
    if not len(both):
        raise UserError(
            f"{first} and {second} share no video; theirs begin with {tables[0].video[0]} and {tables[1].video[0]}; "
            "both must score the same test split."
        )
    differ = both.video[both.label != both.label_2]
    if len(differ):
        raise UserError(
            f"{first} and {second} give {len(differ)} videos different labels, the first {differ.iloc[0]}; score "
            "both on the same test split."
        )
    if both.label.nunique() < 2:
        only = next(name for name, code in LABELS.items() if code == both.label[0])
        raise UserError(
            f"{first} and {second} share only {only} videos ({len(both)}); an AUC needs real and fake ones."
        )
    is_fake = (both.label == LABELS["fake"]).to_numpy()
    alone = [sorted(set(table.video) - set(both.video)) for table in tables]
    return {
        **delong_test(is_fake, both.mds.to_numpy(np.float64), both.mds_2.to_numpy(np.float64)),
        "scores": str(first),
        "versus": str(second),
        "n_videos": len(both),
        "n_real": int((~is_fake).sum()),
        "n_fake": int(is_fake.sum()),
        "only_scores": alone[0],
        "only_versus": alone[1],
    }
