"""What a model says of one video, in figures and in words: curves of scores in, verdict.json out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from utils.constants import CHUNK_FRAMES, FPS
from verdicts.curve import MIN_SPAN_S, best_proposals, cells, find_spans, propose, smooth

WHY = {  # why there is no opinion on a moment
    "damaged": "damaged picture",
    "without_sound": "no sound",
    "silent": "silence",
    "still": "a face that never moves",
    "short": "a face for less than a second at a time",
    "face": "no face that can be followed",
}
NARROW = 0.05  # of the threshold: an MDS that near to it is called so
UNDECIDED = 10  # a probability less than so many percent, as they are shown, from 50 %
MIN_DIGITS = 4  # of scores in words; more where it takes more to tell them from the threshold
MIN_GAP_S = 0.1  # shorter gaps are not worth a word
MAX_LISTED = 5
DECISION = "higher is more fake; fake from the threshold on"
CAVEATS = (
    "The score is a distance, not a probability: how little the lips and the sound of a second agree, as the model that was used "
    "measures it. How often that model is right, a test on videos of the same kind must say (test.py), not this page.",
    "A high score can have innocent causes: dubbing, a voice from off screen, music, sound that lags behind the picture, a face "
    "turned away or badly lit, or a kind of video that the model was not trained on.",
    "Of several tracks (a face through one shot) the most dissonant decides, so many cuts or faces make a high score likelier.",
    "A low score is no proof of authenticity. Manipulations that keep lips and sound together, or of a kind that the model has "
    "never seen, go unnoticed.",
    "The heat maps show what raised the score in this network. They need not be where a picture was changed.",
)


@dataclass
class TrackScores:
    """One track, a face through one shot, with the scores of its chunks.

    Args:
        number: 0 is the longest track.
        first_frame: at 30 fps.
        boxes: (n_frames, 4) float64 x1 y1 x2 y2 in pixels.
        start_s: (n,) float64, of its chunks of one second, which may overlap, rising.
        scores: (n, 3) float64, `engine.SCORES` of each.
        is_second: (n,) bool, the chunks that follow each other without overlap; the MDS is the mean of these.
        left_out: first frame and kind (a key of `WHY`) of chunks that can't be judged.
        smooth_s: of the curve, see `localization.smooth`.
    """

    number: int
    first_frame: int
    boxes: np.ndarray
    start_s: np.ndarray
    scores: np.ndarray
    is_second: np.ndarray
    left_out: list[tuple[int, str]] = field(default_factory=list)
    smooth_s: float = 0.0

    @cached_property
    def curve(self) -> np.ndarray:
        """(n,) float64, the smoothed dissimilarity."""
        return smooth(self.start_s, self.scores[:, 0], self.smooth_s)

    @property
    def means(self) -> np.ndarray:
        """(3,) means of the scores, the first one the MDS: over the chunks that do not overlap, over all if
        none of these can be judged.
        """
        which = self.is_second if self.is_second.any() else np.ones(len(self.scores), bool)
        return self.scores[which].mean(0)


def runs(values: Sequence[str]) -> list[tuple[int, int, str]]:
    """Consecutive equal values as (start, stop, value)."""
    bounds = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1]), len(values)]
    return [(a, b, values[a]) for a, b in itertools.pairwise(bounds) if a < b]


def coverage(tracks: Sequence[TrackScores], n_frames: int) -> dict:
    """Which part of a video was judged: duration_s, judged_s, and no_opinion, a list of start_s, end_s, why."""
    why = ["face"] * n_frames  # of each frame; "" if it is in a chunk that was judged

    def mark(first: int, n: int, what: str) -> None:
        stop = min(n_frames, first + n)
        why[first:stop] = [what] * (stop - first)

    for track in tracks:
        mark(track.first_frame, len(track.boxes), "short")
    for kind in ("still", "silent", "without_sound", "damaged"):
        for first in [first for track in tracks for first, k in track.left_out if k == kind]:
            mark(first, CHUNK_FRAMES, kind)
    for track in tracks:
        for start in np.rint(track.start_s * FPS).astype(int).tolist():
            mark(start, CHUNK_FRAMES, "")
    return {
        "duration_s": round(n_frames / FPS, 3),
        "judged_s": round(why.count("") / FPS, 3),
        "no_opinion": [
            {"start_s": round(a / FPS, 3), "end_s": round(b / FPS, 3), "why": WHY[k]}
            for a, b, k in runs(why)
            if k
        ],
    }


def looks(score: float, threshold: float) -> str:
    """What a score stands for: fake from the threshold on, else real."""
    return "fake" if score >= threshold else "real"


def give_verdict(tracks: Sequence[TrackScores], n_frames: int, threshold: float) -> dict:
    """The verdict on a video.

    Args:
        tracks: at least one of them with scores.
        n_frames: of the video, at 30 fps.
        threshold: dissimilarity from which on a video, or a moment, counts as fake.

    Returns:
        verdict ("fake" or "real", by the MDS of the most dissonant track), mds, threshold, polarity, track
        (that one's number), spans (fake ones of all tracks), modalities (of that track), tracks, coverage,
        proposals (for `localization_metrics`), curves.
    """
    spans, of_tracks, proposals, curves = [], [], [], []
    for track in tracks:
        if not len(track.scores):
            continue
        mds, p_video, p_audio = track.means.tolist()
        curve = track.curve
        for score, start_s, end_s in find_spans(track.start_s, curve, threshold):
            spans.append(
                {
                    "start_s": round(start_s, 3),
                    "end_s": round(end_s, 3),
                    "score": score,
                    "track": track.number,
                }
            )
        proposals += propose(track.start_s, curve, threshold)
        of_tracks.append(
            {
                "track": track.number,
                "start_s": round(track.first_frame / FPS, 3),
                "end_s": round((track.first_frame + len(track.boxes)) / FPS, 3),
                "verdict": looks(mds, threshold),
                "mds": mds,
                "p_fake_video": p_video,
                "p_fake_audio": p_audio,
                "n_seconds": int(track.is_second.sum()),
            }
        )
        columns = ("dissimilarity", "p_fake_video", "p_fake_audio")
        scores = dict(zip(columns, track.scores.T.round(6).tolist(), strict=True))
        curves.append({"track": track.number, "start_s": track.start_s.round(3).tolist(), **scores})
    worst = max(of_tracks, key=lambda track: track["mds"])
    heads = {name: worst[f"p_fake_{name}"] for name in ("video", "audio")}
    return {
        "verdict": worst["verdict"],
        "mds": worst["mds"],
        "threshold": threshold,
        "polarity": DECISION,
        "track": worst["track"],
        "spans": sorted(spans, key=lambda span: (span["start_s"], span["track"])),
        "modalities": {
            "dissonance": {"score": worst["mds"], "threshold": threshold, "looks": worst["verdict"]},
            **{
                name: {"p_fake": p_fake, "threshold": 0.5, "looks": looks(p_fake, 0.5)}
                for name, p_fake in heads.items()
            },
        },
        "tracks": of_tracks,
        "coverage": coverage(tracks, n_frames),
        "proposals": best_proposals(proposals),
        "curves": curves,
    }


def listed(texts: Sequence[str]) -> str:
    """The first few of many, joined."""
    more = f"; and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return "; ".join(texts[:MAX_LISTED]) + more


def apart(score: float, threshold: float) -> tuple[str, str]:
    """A score and the threshold in as many digits as it takes to see which of them is higher."""
    for digits in range(MIN_DIGITS, 18):
        texts = f"{score:.{digits}g}", f"{threshold:.{digits}g}"
        if texts[0] != texts[1] or score == threshold:
            break
    return texts


def gaps(verdict: dict) -> list[dict]:
    """The parts of a video without an opinion that are long enough for a word."""
    return [gap for gap in verdict["coverage"]["no_opinion"] if gap["end_s"] - gap["start_s"] >= MIN_GAP_S]


def in_capitals(verdict: dict) -> str:
    """The verdict in a word or two, the same wherever it is shown."""
    return verdict["verdict"].upper() + (", with suspicious parts" if is_mixed(verdict) else "")


def is_mixed(verdict: dict) -> bool:
    """Whether a video passes as a whole and has parts that do not."""
    return verdict["verdict"] == "real" and bool(verdict["spans"])


def in_words(verdict: dict) -> list[str]:
    """What `give_verdict` gives, as sentences for a person."""
    mds, threshold, covered = verdict["mds"], verdict["threshold"], verdict["coverage"]
    n_tracks, spans = len(verdict["tracks"]), verdict["spans"]
    mds_text, threshold_text = apart(mds, threshold)
    whole = " as a whole" if is_mixed(verdict) else ""
    side = "at or above" if verdict["verdict"] == "fake" else "below"
    if abs(mds - threshold) < NARROW * threshold:
        side = f"narrowly {side}"
    whose = ""
    if n_tracks > 1:
        whose = f" of track {verdict['track']}, the most dissonant of {n_tracks} (a track is a face through one shot),"
    lines = [
        f"The modality dissonance score{whose} is {mds_text}, {side} the threshold of {threshold_text}; higher means that lips "
        f"and sound agree less. So the model takes this video{whole} for {verdict['verdict'].upper()}."
    ]
    if spans:
        texts = []
        for span in sorted(spans, key=lambda span: -span["score"]):
            whose = f", track {span['track']}" if n_tracks > 1 else ""
            texts.append(f"{span['start_s']:.1f} to {span['end_s']:.1f} s (score {span['score']:.4g}{whose})")
        contrast = (
            "But parts of it are at or above the threshold: "
            if is_mixed(verdict)
            else "It is at or above the threshold at "
        )
        lines.append(f"{contrast}{listed(texts)}.")
    elif verdict["verdict"] == "real":
        lines.append(f"Nowhere is the smoothed curve at or above the threshold for {MIN_SPAN_S:g} s or more.")
    opinions = []
    for name, what in (("video", "picture"), ("audio", "sound")):
        part = verdict["modalities"][name]
        percent = round(100 * part["p_fake"])  # what is shown decides, so that 60 % has one meaning
        opinion = "is undecided" if abs(percent - 50) < UNDECIDED else f"takes it for {part['looks']}"
        opinions.append(f"the one of the {what} alone {opinion} ({percent} % fake)")
    lines.append(f"Of the two classifiers that see one stream each, {' and '.join(opinions)}.")
    if holes := gaps(verdict):
        texts = [f"{gap['start_s']:.1f} to {gap['end_s']:.1f} s: {gap['why']}" for gap in holes]
        lines.append(
            f"Judged {covered['judged_s']:.1f} of {covered['duration_s']:.1f} s; no opinion on {listed(texts)}."
        )
    else:
        lines.append(f"All of its {covered['duration_s']:.1f} s were judged.")
    return lines


def chunk_starts(n_frames: int, stride: int) -> tuple[list[int], list[bool]]:
    """Where the chunks of a track of `n_frames` begin, in frames from its first one, and which of them do not
    overlap.

    They come every `stride` frames, every whole second (the chunks that pre-process.py cuts), and at the last
    full second.
    """
    last = n_frames - CHUNK_FRAMES
    if last < 0:
        return [], []
    starts = sorted({*range(0, last + 1, stride), *range(0, last + 1, CHUNK_FRAMES), last})
    return starts, [start % CHUNK_FRAMES == 0 for start in starts]


def score_at(track: TrackScores, n_frames: int) -> np.ndarray:
    """The curve of a track at each frame of the video: (n_frames,) float64, NaN where there is no opinion."""
    values = np.full(n_frames, np.nan)
    begin, end, _ = cells(track.start_s)
    for a, b, value in zip(
        np.rint(begin * FPS).astype(int), np.rint(end * FPS).astype(int), track.curve, strict=True
    ):
        values[a:b] = value
    return values
