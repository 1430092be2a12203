"""From chunk scores to video scores (MDS), from video scores to figures.

The score is MDS, the mean dissimilarity of a track's chunks, and of a video the largest of its tracks: higher is more fake.
Figures take fake as the positive class. In the tables the label is the authors': fake 0, real 1.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, roc_curve

from evaluation.auc import bootstrap_auc, delong_auc, delong_test
from utils.cli import UserError
from utils.constants import LABELS
from utils.files import MAX_RECORD_BYTES, load_json, read_frame

AUTHORS_THRESHOLD = 0.6
SCORE_COLUMNS = ("video", "label", "track", "n_chunks", "dissimilarity_sum", "mds")
GROUP_COLUMNS = ("manipulation", "method", "category", "source")  # what an index may say of a video, and a report goes by
HEADS = {"video": "p_fake_video", "audio": "p_fake_audio"}  # the classifiers of the two streams, columns of chunk_scores.csv
FPRS = (0.01, 0.1)  # false positive rates at which the true positive rate is given
MIN_GROUP = 30  # with fewer fake or fewer real videos a group is marked as small


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


def checked_labels(labels: pd.Series, path: Path) -> pd.Series:
    """The labels of a table as whole numbers; UserError if one is something else than 0 or 1."""
    numbers = pd.to_numeric(labels.astype(str), errors="coerce")  # as text first: true and false are no labels
    wrong = sorted(set(labels[~numbers.isin(LABELS.values())].astype(str)))
    if wrong:
        shown = str if pd.api.types.is_numeric_dtype(labels) else repr
        listed = ", ".join(shown(label[:40]) for label in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise UserError(f"{path} has labels [{listed}], expected 0 (fake) and 1 (real).")
    return numbers.astype(np.int64)


def read_csv(path: Path, what: str, needed: tuple[str, ...], remedy: str) -> pd.DataFrame:
    """Read a table of scores as `train.py --test` writes them, a row per `what`; names and groups are text.

    Raises:
        UserError: not CSV, empty, a column missing, a label other than 0 and 1.
    """
    try:
        text = dict.fromkeys(("video", "chunk", *GROUP_COLUMNS), str)
        scores = read_frame(path, dtype=text, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty; expected a header and a row per {what}; {remedy}.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} can't be read as CSV: {' '.join(str(error).split())}") from error
    missing = [column for column in needed if column not in scores]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; expected {', '.join(needed)}; {remedy}.")
    if scores.empty:
        raise UserError(f"{path} lists no {what}; was the test split empty?")
    return scores.assign(label=checked_labels(scores.label, path))


def read_scores(path: Path) -> pd.DataFrame:
    """Read and check scores.csv.

    Raises:
        UserError: missing, not CSV, empty, a column or a value missing, a label other than 0 and 1, one class only, a
            video twice.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; make it with: python train.py --test --out_dir . --scores_dir {path.parent}")
    scores = read_csv(path, "video", ("video", "label", "mds"), "score again with train.py --test")
    scores["mds"] = pd.to_numeric(scores.mds, errors="coerce")
    bad = scores.video[~np.isfinite(scores.mds)]
    if len(bad):
        raise UserError(
            f"{path}: the score of {len(bad)} of {len(scores)} videos is not a finite number, the first {bad.iloc[0]}; "
            "a diverged model gives NaN: look at its training loss."
        )
    if scores.video.duplicated().any():
        raise UserError(f"{path} lists {scores.video[scores.video.duplicated()].iloc[0]} twice.")
    if scores.label.nunique() < 2:
        only = next(name for name, code in LABELS.items() if code == scores.label.iloc[0])
        raise UserError(f"{path} has only {only} videos ({len(scores)}); an AUC needs real and fake ones.")
    return scores


def read_chunk_scores(path: Path, scores: pd.DataFrame) -> pd.DataFrame | None:
    """Read chunk_scores.csv for the videos of a score table that was made of it; None if there is no such file.

    Raises:
        UserError: not CSV, empty, a column missing, a value that is no finite number, or other scores than in `scores`.
    """
    if not path.is_file():
        return None
    remedy = f"score again with train.py --test, or delete {path.name} to do without"
    values = ("dissimilarity", *HEADS.values())
    chunks = read_csv(path, "chunk", ("video", "label", "track", *values), remedy)
    chunks = chunks[chunks.video.isin(scores.video)].reset_index(drop=True)
    chunks[list(values)] = chunks[list(values)].apply(pd.to_numeric, errors="coerce")
    bad = chunks.video[~np.isfinite(chunks[list(values)]).all(axis=1)]
    if len(bad):
        raise UserError(f"{path}: {len(bad)} rows hold no finite number, the first of {bad.iloc[0]}; {remedy}.")
    made = scores.merge(video_scores(chunks), on="video", how="left", suffixes=("", "_made"))
    differs = ~np.isclose(made.mds, made.mds_made, rtol=1e-4, atol=1e-6) | (made.label != made.label_made)
    if differs.any():
        raise UserError(f"{path} is of another scoring than the videos' scores: {made.video[differs].iloc[0]} differs; {remedy}.")
    return chunks


def read_summary(path: Path) -> dict:
    """Read scores.json: threshold (None: the model has none), threshold_origin, perhaps checkpoint.

    Where there is no such file, the threshold is None and its origin says so.

    Raises:
        UserError: it is something else.
    """
    if not path.is_file():
        return {"threshold": None, "threshold_origin": f"none: {path} does not exist"}
    try:
        stored = load_json(path, MAX_RECORD_BYTES)
        threshold = None if stored["threshold"] is None else float(stored["threshold"])
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold {threshold}")
        return stored | {"threshold": threshold, "threshold_origin": str(stored["threshold_origin"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what train.py --test writes ({error}); score again or delete it.") from error


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
    """The largest share of fakes found by a threshold that calls at most the share `fpr` of the real videos fake, 0..1.

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
    return {"origin": origin, "threshold": threshold, "accuracy": (tp + tn) / len(scores),
            "balanced_accuracy": (tpr + 1 - fpr) / 2, "tpr": tpr, "fpr": fpr, "tp": tp, "fn": fn, "fp": fp, "tn": tn,
            "parts_nothing": calls_all_alike(scores.mds, threshold)}  # fmt: skip


def head_scores(scores: pd.DataFrame, chunks: pd.DataFrame) -> pd.DataFrame:
    """A score table with p_fake_video and p_fake_audio of each video: like MDS the mean of a track, and of those the largest."""
    means = chunks.groupby(["video", "track"])[list(HEADS.values())].mean().groupby("video").max()
    return scores.join(means, on="video")


def auc_figures(table: pd.DataFrame, column: str) -> dict:
    """auc and auc_ci95_delong (None: see `delong_auc`) of a column as the score; both None without both classes."""
    is_fake = (table.label == LABELS["fake"]).to_numpy()
    if is_fake.all() or not is_fake.any():
        return {"auc": None, "auc_ci95_delong": None}
    return dict(zip(("auc", "auc_ci95_delong"), delong_auc(is_fake, table[column].to_numpy(np.float64)), strict=True))


def head_figures(table: pd.DataFrame) -> dict[str, dict]:
    """`auc_figures` of what each part of the network says: dissonance (the MDS), and the video and the audio head if known."""
    columns = {"dissonance": "mds"} | {name: column for name, column in HEADS.items() if column in table}
    return {name: auc_figures(table, column) for name, column in columns.items()}


def group_figures(table: pd.DataFrame) -> list[dict]:
    """The figures of each value that a column of `GROUP_COLUMNS` has among the fakes, the lowest AUC of a column first.

    The fakes of a value are held against the real videos of the same value (those of the same data set, say), or, where no
    real video has it (a manipulation), against all of them; this is also FakeAVCeleb's convention for its categories.

    Returns:
        Dicts: column, value, real ("same" or "all": which ones), n_fake, n_real, small (fewer than `MIN_GROUP` of either),
        auc, auc_ci95_delong, heads (as `head_figures`).
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
            of_column.append({"column": column, "value": value, "real": "same" if has_own else "all", "n_fake": n_fake,
                              "n_real": n_real, "small": min(n_fake, n_real) < MIN_GROUP, **heads["dissonance"],
                              "heads": heads})  # fmt: skip
        groups += sorted(of_column, key=lambda group: group["auc"])
    return groups


def video_metrics(scores: pd.DataFrame, threshold: float | None, chunks: pd.DataFrame | None = None) -> dict:
    """Figures of a checked score table; rates are 0..1, fake is positive, and every number is finite.

    Args:
        scores: as `read_scores` gives it.
        threshold: MDS from which on a video is called fake; None leaves the accuracy out.
        chunks: as `read_chunk_scores` gives it; None leaves out chunk_auc and the heads.

    Returns:
        n_videos, n_real, n_fake, too_few (fewer than `MIN_GROUP` of either), auc, auc_ci95 (bootstrap over videos),
        auc_ci95_delong (`delong_auc`), auc_ci95_wider (the wider of the two; None: unknown), average_precision, eer,
        tpr_at_fpr (by the false positive rate as text), threshold, accuracy, authors_threshold, authors_auc (AUC of the
        decisions at the authors' fixed 0.6, which is the balanced accuracy there), heads (`head_figures`), groups
        (`group_figures`), n_chunks, chunk_auc (each chunk under its video's label; in a fake that is fake for a span, most
        chunks are not).
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
        "auc_ci95_wider": by_delong and max(by_bootstrap, by_delong, key=lambda interval: interval[1] - interval[0]),
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
        What `delong_test` gives; scores and versus, the two files; n_videos, n_real, n_fake that they share; only_scores and
        only_versus, the videos that are in one of them alone.

    Raises:
        UserError: a file can't be used, no real or no fake video is in both, or a video has two labels.
    """
    tables = read_scores(first), read_scores(second)
    both = tables[0].merge(tables[1], on="video", suffixes=("", "_2"))
    if not len(both):
        raise UserError(f"{first} and {second} share no video; theirs begin with {tables[0].video[0]} and {tables[1].video[0]}; "
                        "both must score the same test split.")  # fmt: skip
    differ = both.video[both.label != both.label_2]
    if len(differ):
        raise UserError(f"{first} and {second} give {len(differ)} videos different labels, the first {differ.iloc[0]}; score "
                        "both on the same test split.")  # fmt: skip
    if both.label.nunique() < 2:
        only = next(name for name, code in LABELS.items() if code == both.label[0])
        raise UserError(f"{first} and {second} share only {only} videos ({len(both)}); an AUC needs real and fake ones.")
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
