"""What a model says of one video, in figures: scores of chunks in, what verdict.json holds of them out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from utils.constants import DECISION, FPS, SECOND, ChunkLength
from utils.training_record import TrainingRecord
from verdicts.answer import USUAL, Evidence, Rules, answer, side_of
from verdicts.curve import best_proposals, cells, find_spans, propose, smooth
from verdicts.offsets import SHIFTS, find_offset
from verdicts.schema import (
    Coverage,
    Curve,
    FaceFigures,
    Findings,
    Gap,
    Head,
    Looks,
    Modalities,
    Offset,
    Span,
    TrackVerdict,
)

WHY = {  # why there is no opinion on a moment; the upper ones prevail
    "damaged": "damaged picture",
    "without_sound": "no sound",
    "silent": "silence",
    "still": "a face that never moves",
    "short": "a face for less than a chunk at a time",  # see `too_short`
    "face": "no face that can be followed",
}


@dataclass
class TrackScores:
    """One track, a face through one shot, with the scores of its chunks.

    Args:
        number: 0 is the longest track.
        first_frame: at 30 fps.
        boxes: (n_frames, 4) float64 x1 y1 x2 y2 in pixels.
        start_s: (n,) float64, of its chunks, which may overlap, rising.
        scores: (n, 3) float64, `CHUNK_SCORES` of each.
        is_second: (n,) bool, the chunks that follow each other without overlap; the MDS is the mean of these.
        left_out: first frame and kind (a key of `WHY`) of chunks that can't be judged.
        smooth_s: of the curve, see `curve.smooth`.
        length: of each chunk.
        face: how well it is seen; None: not measured.
        speech: evidence that the face speaks, see `who_speaks`. `speaks`: whether it does.
        moved: (31, n) float64, dissimilarity with the sound moved, see `offsets.mean_curve`.
    """

    number: int
    first_frame: int
    boxes: np.ndarray
    start_s: np.ndarray
    scores: np.ndarray
    is_second: np.ndarray
    left_out: list[tuple[int, str]] = field(default_factory=list)
    smooth_s: float = 0.0
    length: ChunkLength = SECOND
    face: FaceFigures | None = None
    speech: float = 1.0
    speaks: bool = True
    moved: np.ndarray = field(default_factory=lambda: np.empty((len(SHIFTS), 0)))

    @cached_property
    def curve(self) -> np.ndarray:
        """(n,) float64, the smoothed dissimilarity."""
        return smooth(self.start_s, self.scores[:, 0], self.smooth_s, self.length.chunk_s)

    @property
    def n_seconds(self) -> int:
        """How many of its chunks do not overlap."""
        return int(self.is_second.sum())

    @property
    def means(self) -> np.ndarray:
        """(3,) means of the scores, the first one the MDS: over the chunks that do not overlap, over all if
        none of these can be judged.
        """
        which = self.is_second if self.is_second.any() else np.ones(len(self.scores), bool)
        return self.scores[which].mean(0)

    @property
    def judged_s(self) -> float:
        """Seconds that lie in a chunk with scores."""
        if not len(self.start_s):
            return 0.0
        return float(np.minimum(np.diff(self.start_s), self.length.chunk_s).sum() + self.length.chunk_s)


def chunk_starts(n_frames: int, stride: int, length: ChunkLength = SECOND) -> tuple[list[int], list[bool]]:
    """Where the chunks of a track of `n_frames` begin, in frames from its first one, and which of them do not
    overlap.

    They come every `stride` frames, at the end of one another (the chunks that pre-process.py cuts), and as
    late as one fits.
    """
    last = n_frames - length.n_frames
    if last < 0:
        return [], []
    starts = sorted({*range(0, last + 1, stride), *range(0, last + 1, length.n_frames), last})
    return starts, [start % length.n_frames == 0 for start in starts]


def score_at(track: TrackScores, n_frames: int) -> np.ndarray:
    """The curve of a track at each frame of the video: (n_frames,) float64, NaN where there is no opinion."""
    values = np.full(n_frames, np.nan)
    of_track = cells(track.start_s, track.length.chunk_s)
    first, stop = (np.rint(time_s * FPS).astype(int) for time_s in (of_track.begin_s, of_track.end_s))
    for a, b, value in zip(first, stop, track.curve, strict=True):
        values[a:b] = value
    return values


def give_verdict(
    tracks: Sequence[TrackScores],
    n_frames: int,
    threshold: float,
    record: TrainingRecord | None = None,
    rules: Rules = USUAL,
    own_threshold: float | None = None,
) -> Findings:
    """The verdict on a video.

    Args:
        tracks: at least one of them with scores.
        n_frames: of the video, at 30 fps.
        threshold: dissimilarity from which on a video, or a moment, is above it.
        record: of the model; without one the verdict is undecided.
        rules: what it takes for an answer.
        own_threshold: the model's, if another one was given; see `find_offset`.
    """
    judged = [track for track in tracks if len(track.scores)]
    of_tracks = [judge_track(track, threshold, own_threshold) for track in judged]
    decisive = [track for track in judged if track.speaks] or judged
    spans = [span for track in decisive for span in fake_spans(track, threshold)]
    proposals = [best for track in decisive for best in proposals_of(track, threshold)]
    numbers = {track.number for track in decisive}
    worst = max((track for track in of_tracks if track["track"] in numbers), key=lambda track: track["mds"])
    covered = coverage(tracks, n_frames)
    offset = offset_of(decisive, threshold, own_threshold)
    evidence = Evidence(
        decisive=worst,
        threshold=threshold,
        judged_s=coverage(decisive, n_frames)["judged_s"],
        duration_s=covered["duration_s"],
        offset=offset,
        someone_speaks=any(track.speaks for track in decisive),
    )
    verdict, reasons = answer(evidence, record, rules)
    return {
        "verdict": verdict,
        "reasons": reasons,
        "side": worst["side"],
        "mds": worst["mds"],
        "threshold": threshold,
        "polarity": DECISION,
        "track": worst["track"],
        "spans": sorted(spans, key=lambda span: (span["start_s"], span["track"])),
        "modalities": modalities(worst, threshold),
        "tracks": of_tracks,
        "coverage": covered,
        "offset": offset,
        "proposals": best_proposals(proposals),
        "curves": [written_curve(track) for track in judged],
    }


def looks(score: float, threshold: float) -> Looks:
    """What a score is drawn as: as fake from the threshold on, else as real."""
    return "fake" if score >= threshold else "real"


def judge_track(track: TrackScores, threshold: float, own_threshold: float | None) -> TrackVerdict:
    """The verdict on one track, which has scores."""
    mds, p_video, p_audio = track.means.tolist()
    return {
        "track": track.number,
        "start_s": round(track.first_frame / FPS, 3),
        "end_s": round((track.first_frame + len(track.boxes)) / FPS, 3),
        "side": side_of(mds, threshold),
        "mds": mds,
        "p_fake_video": p_video,
        "p_fake_audio": p_audio,
        "n_seconds": track.n_seconds,
        "judged_s": round(track.judged_s, 3),
        "face": track.face,
        "speech": round(track.speech, 3),
        "speaks": track.speaks,
        "offset": offset_of([track], threshold, own_threshold),
    }


def offset_of(tracks: Sequence[TrackScores], threshold: float, own_threshold: float | None) -> Offset | None:
    """See `find_offset`."""
    moved = [track.moved for track in tracks]
    return find_offset(moved, heard_s(tracks), threshold, own_threshold)


def heard_s(tracks: Sequence[TrackScores]) -> float:
    """Seconds of the video that lie in one of the tracks' chunks that do not overlap."""
    firsts = np.rint(FPS * np.concatenate([track.start_s[track.is_second] for track in tracks]))
    n_frames = tracks[0].length.n_frames
    return len(np.unique(firsts[:, None] + np.arange(n_frames))) / FPS


def proposals_of(track: TrackScores, threshold: float) -> list[list[float]]:
    """See `propose`."""
    return propose(track.start_s, track.curve, threshold, track.length.chunk_s)


def fake_spans(track: TrackScores, threshold: float) -> list[Span]:
    """Where the curve of a track is at or above the threshold."""
    return [
        {"start_s": round(start_s, 3), "end_s": round(end_s, 3), "score": score, "track": track.number}
        for score, start_s, end_s in find_spans(
            track.start_s, track.curve, threshold, chunk_s=track.length.chunk_s
        )
    ]


def modalities(worst: TrackVerdict, threshold: float) -> Modalities:
    """What a track looks like by lips and sound together, by the picture and by the sound alone."""

    def head(p_fake: float) -> Head:
        return {"p_fake": p_fake, "threshold": 0.5, "looks": looks(p_fake, 0.5)}

    return {
        "dissonance": {"score": worst["mds"], "threshold": threshold},
        "video": head(worst["p_fake_video"]),
        "audio": head(worst["p_fake_audio"]),
    }


def written_curve(track: TrackScores) -> Curve:
    """The scores of a track's chunks as they are written."""
    dissimilarity, p_fake_video, p_fake_audio = track.scores.T.round(6).tolist()
    return {
        "track": track.number,
        "start_s": track.start_s.round(3).tolist(),
        "dissimilarity": dissimilarity,
        "p_fake_video": p_fake_video,
        "p_fake_audio": p_fake_audio,
    }


def coverage(tracks: Sequence[TrackScores], n_frames: int) -> Coverage:
    """Which part of a video was judged."""
    why = ["face"] * n_frames  # of each frame; "" if it is in a chunk that was judged
    words = WHY | {"short": too_short(tracks)}
    for first, n, kind in marks(tracks):
        stop = min(n_frames, first + n)
        why[first:stop] = [kind] * (stop - first)
    gaps: list[Gap] = [
        {"start_s": round(first / FPS, 3), "end_s": round(stop / FPS, 3), "why": words[kind]}
        for first, stop, kind in stretches(why)
        if kind
    ]
    return {
        "duration_s": round(n_frames / FPS, 3),
        "judged_s": round(why.count("") / FPS, 3),
        "no_opinion": gaps,
    }


def too_short(tracks: Sequence[TrackScores]) -> str:
    """That a face was not there for as long as a chunk takes."""
    length = tracks[0].length
    least = "a second" if length == SECOND else f"{length.chunk_s:g} s"
    return f"a face for less than {least} at a time"


def marks(tracks: Sequence[TrackScores]) -> list[tuple[int, int, str]]:
    """What is known of frames: the first one, how many, and a kind; later ones prevail over those before."""
    known = [(track.first_frame, len(track.boxes), "short") for track in tracks]
    left_out = [chunk for track in tracks for chunk in track.left_out]
    n_chunk = tracks[0].length.n_frames
    for kind in ("still", "silent", "without_sound", "damaged"):
        known += [(first, n_chunk, kind) for first, of_kind in left_out if of_kind == kind]
    for track in tracks:
        known += [(first, n_chunk, "") for first in np.rint(track.start_s * FPS).astype(int).tolist()]
    return known


def stretches(values: Sequence[str]) -> list[tuple[int, int, str]]:
    """Consecutive equal values as (start, stop, value)."""
    bounds = [0, *(i for i in range(1, len(values)) if values[i] != values[i - 1]), len(values)]
    return [(a, b, values[a]) for a, b in itertools.pairwise(bounds) if a < b]
