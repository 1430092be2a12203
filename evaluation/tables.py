"""Tables of scores as `train.py --test` writes them, read and checked."""

from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from mds import video_scores
from utils.calibration import Calibration, checked_calibration
from utils.cli import UserError
from utils.constants import AUTHORS_DISTANCE, AUTHORS_MARGIN, CHUNK_SCORES, LABEL_NAMES, SCORE_NAMES
from utils.files import MAX_RECORD_BYTES
from utils.jsonfiles import load_json
from utils.tables import Schema, read_frame

# the classifiers of the two streams, columns of chunk_scores.csv
HEADS = {"video": "p_fake_video", "audio": "p_fake_audio"}
VIDEOS = Schema(
    "video",
    ("video", "label", "mds"),
    remedy="score again with train.py --test",
    if_none="was the test split empty?",
    numbers=("mds",),
)
CHUNKS = Schema(
    "chunk",
    ("video", "label", "track", *CHUNK_SCORES),
    remedy="score again with train.py --test, or delete chunk_scores.csv to do without",
    if_none="was the test split empty?",
    numbers=CHUNK_SCORES,
)


class Summary(TypedDict):
    """What is known of the model that scored."""

    threshold: float | None  # None: it has none
    threshold_origin: str  # where it is from, or why there is none, in words
    checkpoint: str | None  # its file
    score: str  # what the score of a chunk is, in words
    authors_scale: bool  # whether its distances can be on the authors' scale
    calibration: Calibration | None  # None: it gives no probabilities
    calibration_origin: str  # for which videos they hold, or why there are none; empty if nothing is known


def unknown_summary(why: str) -> Summary:
    """What is said where there is no scores.json."""
    return {
        "threshold": None,
        "threshold_origin": f"none: {why}",
        "checkpoint": None,
        "score": SCORE_NAMES["both"],
        "authors_scale": True,
        "calibration": None,
        "calibration_origin": "",
    }


def read_scores(path: Path, needs_both: bool = True) -> pd.DataFrame:
    """Read and check scores.csv.

    Raises:
        UserError: missing, not CSV, empty, a column or a value missing, a label other than 0 and 1, a video
            twice, or one class only where it `needs_both`.
    """
    if not path.is_file():
        command = f"python train.py --test --out_dir . --scores_dir {path.parent}"
        raise UserError(f"{path} does not exist; make it with: {command}")
    scores = read_frame(path, VIDEOS)
    bad = scores.video[~np.isfinite(scores.mds)]
    if len(bad):
        which = f"the score of {len(bad)} of {len(scores)} videos"
        wrong = f"{which} is not a finite number, the first {bad.iloc[0]}"
        raise UserError(f"{path}: {wrong}; a diverged model gives NaN: look at its training loss.")
    if scores.video.duplicated().any():
        raise UserError(f"{path} lists {scores.video[scores.video.duplicated()].iloc[0]} twice.")
    if needs_both and scores.label.nunique() < 2:
        only = LABEL_NAMES[scores.label.iloc[0]]
        raise UserError(f"{path} has only {only} videos ({len(scores)}); an AUC needs real and fake ones.")
    return scores


def read_chunk_scores(path: Path, scores: pd.DataFrame) -> pd.DataFrame | None:
    """Read chunk_scores.csv for the videos of a score table that was made of it; None if there is no such
    file.  Where one head's column is empty and the other's is the score, the network has one stream, and both
    columns are left out.

    Raises:
        UserError: not CSV, empty, a column missing, a value that is no finite number, or other scores than in
            `scores`.
    """
    if not path.is_file():
        return None
    chunks = read_frame(path, CHUNKS)
    chunks = chunks[chunks.video.isin(scores.video)].reset_index(drop=True)
    heads = chunks[list(HEADS.values())].dropna(axis=1, how="all")
    if heads.shape[1] == 1 and heads.iloc[:, 0].equals(chunks.dissimilarity.rename(heads.columns[0])):
        chunks = chunks.drop(columns=list(HEADS.values()))
    known = [column for column in CHUNK_SCORES if column in chunks]
    bad = chunks.video[~np.isfinite(chunks[known]).all(axis=1)]
    if len(bad):
        wrong = f"{len(bad)} rows hold no finite number, the first of {bad.iloc[0]}"
        raise UserError(f"{path}: {wrong}; {CHUNKS.remedy}.")
    made = scores.merge(video_scores(chunks), on="video", how="left", suffixes=("", "_made"))
    differs = ~np.isclose(made.mds, made.mds_made, rtol=1e-4, atol=1e-6) | (made.label != made.label_made)
    if differs.any():
        wrong = f"is of another scoring than the videos' scores: {made.video[differs].iloc[0]} differs"
        raise UserError(f"{path} {wrong}; {CHUNKS.remedy}.")
    return chunks


def read_summary(path: Path) -> Summary:
    """Read scores.json. Where there is no such file, nothing is known of the model, and the summary says so.

    A file of an older version does not tell of margin, distance and calibration.

    Raises:
        UserError: it is something else.
    """
    if not path.is_file():
        return unknown_summary(f"{path} does not exist")
    try:
        stored = load_json(path, MAX_RECORD_BYTES)
        threshold = None if stored["threshold"] is None else float(stored["threshold"])
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold {threshold}")
        calibration, checkpoint = stored.get("calibration"), stored.get("checkpoint")
        distance, margin = stored.get("distance"), stored.get("margin")
        score = str(stored.get("score", SCORE_NAMES["both"]))
        return {
            "threshold": threshold,
            "threshold_origin": str(stored["threshold_origin"]),
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "score": score,
            "authors_scale": score == SCORE_NAMES["both"]
            and distance in (None, AUTHORS_DISTANCE)
            and margin in (None, AUTHORS_MARGIN),
            "calibration": None if calibration is None else checked_calibration(calibration),
            "calibration_origin": str(stored.get("calibration_origin", "")),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        wrong = f"is not what train.py --test writes ({error})"
        raise UserError(f"{path} {wrong}; score again or delete it.") from error
