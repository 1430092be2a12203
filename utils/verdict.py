"""What a model says of one video, in figures and in words: curves of scores in, verdict.json out."""

import itertools
from dataclasses import dataclass, field

import numpy as np

from utils.localization import best_proposals, cells, find_spans, propose, smooth
from utils.media import CHUNK_FRAMES, FPS

WHY = {  # why there is no opinion on a second, the first that holds
    "damaged": "damaged picture",
    "without_sound": "no sound",
    "short": "a face for less than a second at a time",
    "face": "no face that can be followed",
}
NARROW = 0.05  # of the threshold: an MDS that near to it is called so
UNDECIDED = 0.1  # a probability that near to 0.5
CAVEATS = (
    "The score is a distance, not a probability: how little the lips and the sound of a second agree, as the model that was used "
    "measures it. How often that model is right, a test on videos of the same kind must say (test.py), not this page.",
    "A high score can have innocent causes: dubbing, a voice from off screen, music, sound that lags behind the picture, a face "
    "turned away or badly lit, or a kind of video that the model was not trained on.",
    "A low score is no proof of authenticity. Manipulations that keep lips and sound together, or of a kind that the model has "
    "never seen, go unnoticed.",
    "The heat maps show what raised the score in this network. They need not be where a picture was changed.",
)


@dataclass
class Face:
    """One followed face: its boxes and the scores of its chunks.

    Args:
        number: 0 is the face that is there the longest.
        first_frame: at 30 fps.
        boxes: (n_frames, 4) x1 y1 x2 y2 in pixels.
        start_s: (n,) of its chunks of one second, which may overlap, rising.
        scores: (n, 3) of `engine.SCORES`.
        is_second: (n,) bool, the chunks that follow each other without overlap; the MDS is the mean of these.
        left_out: first frame and kind (a key of `WHY`) of chunks that can't be judged.
    """

    number: int
    first_frame: int
    boxes: np.ndarray
    start_s: np.ndarray
    scores: np.ndarray
    is_second: np.ndarray
    left_out: list[tuple[int, str]] = field(default_factory=list)
    smooth_s: float = 0.0

    @property
    def curve(self) -> np.ndarray:
        """(n,) dissimilarity, smoothed."""
        return smooth(self.start_s, self.scores[:, 0], self.smooth_s)

    @property
    def means(self) -> np.ndarray:
        """(3,) means of the scores over whole seconds, NaN without any; the first one is the MDS."""
        which = self.is_second if self.is_second.any() else np.ones(len(self.scores), bool)
        return self.scores[which].mean(0) if len(self.scores) else np.full(3, np.nan)


def runs(values: list) -> list[tuple[int, int, object]]:
    """Consecutive equal values as (start, stop, value)."""
    bounds = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1]), len(values)]
    return [(a, b, values[a]) for a, b in itertools.pairwise(bounds) if a < b]


def coverage(faces: list[Face], n_frames: int) -> dict:
    """Which seconds of a video were judged: duration_s, judged_s, and no_opinion, a list of start_s, end_s, why."""
    why = ["face"] * n_frames  # of each frame; "" if it is in a chunk that was judged
    for face in faces:
        stop = min(n_frames, face.first_frame + len(face.boxes))
        why[face.first_frame : stop] = ["short"] * (stop - face.first_frame)
    for kind in ("without_sound", "damaged"):
        for first in [first for face in faces for first, k in face.left_out if k == kind]:
            why[first : first + CHUNK_FRAMES] = [kind] * CHUNK_FRAMES
    for face in faces:
        for start in np.rint(face.start_s * FPS).astype(int).tolist():
            why[start : start + CHUNK_FRAMES] = [""] * CHUNK_FRAMES
    why = why[:n_frames]
    return {
        "duration_s": round(n_frames / FPS, 3),
        "judged_s": round(why.count("") / FPS, 3),
        "no_opinion": [{"start_s": round(a / FPS, 3), "end_s": round(b / FPS, 3), "why": WHY[k]} for a, b, k in runs(why) if k],
    }


def looks(score: float, threshold: float) -> str:
    return "fake" if score >= threshold else "real"


def give_verdict(faces: list[Face], n_frames: int, threshold: float) -> dict:
    """The verdict on a video whose faces have scores.

    Args:
        faces: at least one of them with scores.
        n_frames: of the video, at 30 fps.
        threshold: dissimilarity from which on a video, or a moment, counts as fake.

    Returns:
        verdict ("fake" or "real", by the MDS of the most dissonant face), mds, threshold, face (its number), spans (fake
        ones of all faces), modalities (of that face), faces, coverage, proposals (for `localization_metrics`), curves.
    """
    judged = [face for face in faces if len(face.scores)]
    spans, of_faces, proposals, curves = [], [], [], []
    for face in judged:
        mds, p_video, p_audio = face.means.tolist()
        own = [
            {"start_s": round(a, 3), "end_s": round(b, 3), "score": score, "face": face.number}
            for score, a, b in find_spans(face.start_s, face.curve, threshold)
        ]
        spans += own
        proposals += propose(face.start_s, face.curve, threshold)
        stop = face.first_frame + len(face.boxes)
        of_faces.append(
            {
                "face": face.number,
                "start_s": round(face.first_frame / FPS, 3),
                "end_s": round(stop / FPS, 3),
                "verdict": looks(mds, threshold),
                "mds": mds,
                "p_fake_video": p_video,
                "p_fake_audio": p_audio,
                "n_seconds": int(face.is_second.sum()),
            }
        )
        columns = ("dissimilarity", "p_fake_video", "p_fake_audio")
        scores = dict(zip(columns, face.scores.T.round(6).tolist(), strict=True))
        curves.append({"face": face.number, "start_s": face.start_s.round(3).tolist(), **scores})
    worst = max(of_faces, key=lambda face: face["mds"])
    return {
        "verdict": worst["verdict"],
        "mds": worst["mds"],
        "threshold": threshold,
        "polarity": "higher is more fake; fake from the threshold on",
        "face": worst["face"],
        "spans": sorted(spans, key=lambda span: (span["start_s"], span["face"])),
        "modalities": {
            "dissonance": {"score": worst["mds"], "threshold": threshold, "looks": worst["verdict"]},
            **{
                name: {"p_fake": worst[f"p_fake_{name}"], "threshold": 0.5, "looks": looks(worst[f"p_fake_{name}"], 0.5)}
                for name in ("video", "audio")
            },
        },
        "faces": of_faces,
        "coverage": coverage(faces, n_frames),
        "proposals": best_proposals(proposals),
        "curves": curves,
    }


def seconds(start_s: float, end_s: float) -> str:
    return f"{start_s:.1f} to {end_s:.1f} s"


def in_words(verdict: dict) -> list[str]:
    """A verdict as sentences for a person."""
    mds, threshold, covered = verdict["mds"], verdict["threshold"], verdict["coverage"]
    n_faces, spans = len(verdict["faces"]), verdict["spans"]
    is_mixed = bool(spans) and verdict["verdict"] == "real"
    side = "at or above" if verdict["verdict"] == "fake" else "below"
    if abs(mds - threshold) < NARROW * threshold:
        side = f"narrowly {side}"
    whose = f" of face {verdict['face']}, the most dissonant of {n_faces}," if n_faces > 1 else ""
    lines = [
        f"The modality dissonance score{whose} is {mds:.4g}, {side} the threshold of {threshold:.4g}; higher means that lips and "
        f"sound agree less. So the model takes this video{' as a whole' if is_mixed else ''} for {verdict['verdict'].upper()}."
    ]
    if spans:
        listed = "; ".join(
            f"{seconds(span['start_s'], span['end_s'])} (score {span['score']:.4g}"
            + (f", face {span['face']})" if n_faces > 1 else ")")
            for span in sorted(spans, key=lambda span: -span["score"])[:5]
        )
        more = f"; and {len(spans) - 5} more" if len(spans) > 5 else ""
        contrast = "But parts of it are at or above the threshold: " if is_mixed else "It is at or above the threshold at "
        lines.append(f"{contrast}{listed}{more}.")
    elif verdict["verdict"] == "real":
        lines.append("No part of it reaches the threshold.")
    parts = verdict["modalities"]
    opinions = []
    for name, what in (("video", "picture"), ("audio", "sound")):
        p_fake = parts[name]["p_fake"]
        opinion = "is undecided" if abs(p_fake - 0.5) < UNDECIDED else f"takes it for {parts[name]['looks']}"
        opinions.append(f"the one of the {what} alone {opinion} ({100 * p_fake:.0f} % fake)")
    lines.append(f"Of the two classifiers that see one stream each, {' and '.join(opinions)}.")
    gaps = covered["no_opinion"]
    if gaps:
        listed = "; ".join(f"{seconds(gap['start_s'], gap['end_s'])}: {gap['why']}" for gap in gaps[:5])
        more = f"; and {len(gaps) - 5} more" if len(gaps) > 5 else ""
        lines.append(f"Judged {covered['judged_s']:.1f} of {covered['duration_s']:.1f} s; no opinion on {listed}{more}.")
    else:
        lines.append(f"All of its {covered['duration_s']:.1f} s were judged.")
    return lines


def chunk_starts(n_frames: int, stride: int) -> tuple[list[int], list[bool]]:
    """Where the chunks of a track of `n_frames` begin, in frames from its first one, and which of them do not overlap.

    They come every `stride` frames, every whole second (the chunks that pre-process.py cuts), and at the last full second.
    """
    last = n_frames - CHUNK_FRAMES
    if last < 0:
        return [], []
    starts = sorted({*range(0, last + 1, stride), *range(0, last + 1, CHUNK_FRAMES), last})
    return starts, [start % CHUNK_FRAMES == 0 for start in starts]


def score_at(face: Face, n_frames: int) -> np.ndarray:
    """The curve of a face at each frame of the video: (n_frames,), NaN where there is no opinion."""

    values = np.full(n_frames, np.nan)
    begin, end, _ = cells(face.start_s)
    for a, b, value in zip(np.rint(begin * FPS).astype(int), np.rint(end * FPS).astype(int), face.curve, strict=True):
        values[a:b] = value
    return values
