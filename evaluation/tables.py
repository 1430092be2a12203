"""Tables of scores as `train.py --test` writes them, read and checked."""

from pathlib import Path

import numpy as np
import pandas as pd

from mds import video_scores
from utils.cli import UserError
from utils.constants import GROUP_COLUMNS, LABELS
from utils.files import MAX_RECORD_BYTES
from utils.jsonfiles import load_json
from utils.tables import checked_labels, read_frame


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
        UserError: missing, not CSV, empty, a column or a value missing, a label other than 0 and 1, one class
            only, a video twice.
    """
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; make it with: python train.py --test --out_dir . --scores_dir {path.parent}"
        )
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
    """Read chunk_scores.csv for the videos of a score table that was made of it; None if there is no such
    file.

    Raises:
        UserError: not CSV, empty, a column missing, a value that is no finite number, or other scores than in
            `scores`.
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
        raise UserError(
            f"{path}: {len(bad)} rows hold no finite number, the first of {bad.iloc[0]}; {remedy}."
        )
    made = scores.merge(video_scores(chunks), on="video", how="left", suffixes=("", "_made"))
    differs = ~np.isclose(made.mds, made.mds_made, rtol=1e-4, atol=1e-6) | (made.label != made.label_made)
    if differs.any():
        raise UserError(
            f"{path} is of another scoring than the videos' scores: {made.video[differs].iloc[0]} differs; {remedy}."
        )
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
        raise UserError(
            f"{path} is not what train.py --test writes ({error}); score again or delete it."
        ) from error


HEADS = {
    "video": "p_fake_video",
    "audio": "p_fake_audio",
}  # the classifiers of the two streams, columns of chunk_scores.csv
