"""The modality dissonance score, MDS: from the dissimilarity of chunks to the score of a track and of a
video.

Higher is more fake. In the tables the label is the authors': fake 0, real 1.
"""

import pandas as pd

from utils.constants import LABELS

SCORE_COLUMNS = ("video", "label", "track", "n_chunks", "dissimilarity_sum", "mds")


def track_scores(chunk_scores: pd.DataFrame) -> pd.DataFrame:
    """Sum a table with a row per chunk (video, track, label, dissimilarity) into one with a row per track
    (`SCORE_COLUMNS`).
    """
    # DEVIATION: by path below the split, so that equal file names in two folders stay two videos
    groups = chunk_scores.groupby(["video", "track"], sort=True)
    scores = groups.agg(
        label=("label", "first"),
        n_chunks=("dissimilarity", "size"),
        dissimilarity_sum=("dissimilarity", "sum"),
    )
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
