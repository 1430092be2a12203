"""Whose voice it is: the mouth's motion in a track's crops against the loudness of the sound, and faces that
never move.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.faces import Track
from utils.constants import FPS, SAMPLES_PER_FRAME
from utils.sound import Sound

GRID = 32  # a crop is looked at as so many cells a side
MIN_CONTRAST = 1.0  # grey levels
SMOOTH_FRAMES = 5  # of motion and loudness: about a syllable, so that of n values some n / 5 are independent
MAX_LAG_FRAMES = 4  # of the sound behind the picture or before it
MIN_MARGIN = 0.1  # between the evidence of two mouths, for one to be called the speaker's
MIN_SHARED = FPS  # tracks that share less than a second do not overlap
STILL_FRAMES = FPS // 2  # apart: two pictures that are compared to see whether a face moves at all
# real talking faces: 0.03 and more, also in strongly compressed video; photographs, also in noisy video:
# 0.014 and less
MAX_STILL = 0.016  # of the contrast, the upper quartile of what changes
# of the mouth, its upper decile, smoothed, and the evidence below which a face alone does not speak; real
# people who speak: 0.0135 and more, shut mouths of generated heads: 0.0099 and less
SHUT_MOUTH, NO_EVIDENCE = 0.01, 0.2
LIVELY = 0.5  # of the motion of the mouth that speaks: one that moves as much may be meant to speak, too
BLOCK_SAMPLES = 60 * FPS * SAMPLES_PER_FRAME

# where in a crop, in shares of its side (the box of the face reaches from 0.14 to 0.86 across and from 0 to
# 0.71 down)
_y, _x = np.mgrid[:GRID, :GRID] / GRID
MOUTH = (0.45 <= _y) & (_y < 0.75) & (0.3 <= _x) & (_x < 0.7)
UPPER = (0.12 <= _y) & (_y < 0.42) & (0.25 <= _x) & (_x < 0.75)
FACE = (0.08 <= _y) & (_y < 0.72) & (0.22 <= _x) & (_x < 0.78)


def unexplained(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What changes between two pictures and is no motion of the whole face (shift, turn, zoom, shear) nor of
    the light.

    Args:
        before, after: (GRID, GRID) float32 grey levels.

    Returns:
        (GRID, GRID) float32 absolute grey levels: what is left of the difference after a least-squares fit
        over the face.
    """
    down, right = np.gradient((before + after) / 2)
    ones = np.ones_like(before)
    causes = np.stack([right, right * _x, right * _y, down, down * _x, down * _y, before, ones], -1)
    causes = causes.astype(np.float64)  # (GRID, GRID, 8)
    change = (after - before).astype(np.float64)
    inside = causes[FACE]
    normal = inside.T @ inside + 1e-3 * np.eye(causes.shape[-1])  # a flat picture has no unique fit
    fit = np.linalg.solve(normal, inside.T @ change[FACE])
    return np.abs(change - causes @ fit)


class FaceMotion:
    """How the face of a track moves, crop by crop."""

    def __init__(self):
        self._mouth: list[float] = []
        self._last: np.ndarray | None = None
        self._still: np.ndarray | None = None  # to compare with the picture `STILL_FRAMES` later
        self._changes: list[float] = []

    def add(self, crop: np.ndarray) -> None:
        """Look at the track's next crop, (224, 224, 3) uint8 RGB."""
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        cells = cv2.resize(grey, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
        moved = 0.0
        if self._last is not None:
            change = unexplained(self._last, cells)
            contrast = max(float(cells[FACE].std()), MIN_CONTRAST)
            moved = max(0.0, float(change[MOUTH].mean() - change[UPPER].mean())) / contrast
        if len(self._mouth) % STILL_FRAMES == 0:
            # so that a window that is cut out a pixel aside looks the same
            smooth = cv2.GaussianBlur(cells, (0, 0), 0.8)
            if self._still is not None:
                contrast = max(float(smooth[FACE].std()), MIN_CONTRAST)
                self._changes.append(float(unexplained(self._still, smooth)[FACE].mean()) / contrast)
            self._still = smooth
        self._mouth.append(moved)
        self._last = cells

    @property
    def mouth(self) -> np.ndarray:
        """(n,) float64: how much more the mouth changed since the frame before than the upper face, by the
        face's contrast.
        """
        return np.array(self._mouth)

    @property
    def is_still(self) -> bool:
        """Whether it is a photograph, a poster or a frozen picture: in the upper quartile of its half seconds
        nothing moves.
        """
        return len(self._changes) > 0 and float(np.percentile(self._changes, 75)) < MAX_STILL


def frame_loudness(sound: Sound, first_frame: int, n_frames: int) -> np.ndarray:
    """(n_frames,) float64, the root mean square of the sound under each frame, 0 to 32768."""
    values = []
    start, stop = first_frame * SAMPLES_PER_FRAME, (first_frame + n_frames) * SAMPLES_PER_FRAME
    for begin in range(start, stop, BLOCK_SAMPLES):
        samples, _ = sound.read(begin, min(BLOCK_SAMPLES, stop - begin))
        values.append(np.sqrt((samples.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64) ** 2).mean(1)))
    return np.concatenate(values)


def smoothed(values: np.ndarray) -> np.ndarray:
    """(n,) float64, the running mean."""
    kernel = np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES)
    return np.convolve(np.pad(values, SMOOTH_FRAMES // 2, "edge"), kernel, "valid")


def best_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The highest correlation of two curves, (n,) each, over small lags: -1..1, 0 where one is constant."""
    n, best = len(a), -1.0
    for lag in range(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1):
        own, other = a[max(0, lag) : n + min(0, lag)], b[max(0, -lag) : n - max(0, lag)]
        own, other = own - own.mean(), other - other.mean()
        size = np.sqrt((own @ own) * (other @ other))
        best = max(best, float(own @ other / size) if size > 1e-6 else 0.0)
    return best


def speech_evidence(mouths: Sequence[np.ndarray], loud: np.ndarray) -> list[float]:
    """How well the motion of each mouth follows the sound, -1..1.

    It is the correlation at the best lag, times the square root of how much that mouth moves, that of the
    liveliest one taken for 1: a shut mouth may tremble a little with the sound, since whatever moves in a
    file shares its bits.

    Args:
        mouths, loud: (n,) each, of the same frames, see `FaceMotion.mouth` and `loudness`.
    """
    curves = [smoothed(mouth) for mouth in mouths]
    most = max(float(curve.std()) for curve in curves) or 1.0
    return [best_correlation(curve, smoothed(loud)) * float(curve.std() / most) ** 0.5 for curve in curves]


def shared_frames(a: Track, b: Track) -> tuple[int, int]:
    """The frames that two tracks share, first and stop."""
    return max(a.first_frame, b.first_frame), min(a.last_frame, b.last_frame) + 1


def overlap(a: Track, b: Track) -> bool:
    """Whether two tracks are seen at the same time, for a second at least."""
    first, stop = shared_frames(a, b)
    return stop - first >= MIN_SHARED


def faces_at_once(tracks: Sequence[Track]) -> tuple[int, int]:
    """How many tracks overlap at most, and the first frame that two of them share; (1, 0) where none do."""
    n_most, first_frame = 1, None
    seen: list[Track] = []  # which have not ended yet
    for track in sorted(tracks, key=lambda track: track.first_frame):
        seen = [other for other in seen if other.last_frame >= track.first_frame]
        others = [other for other in seen if overlap(other, track)]
        if others:
            n_most = max(n_most, 1 + len(others))
            first_frame = track.first_frame if first_frame is None else first_frame
        seen.append(track)
    return n_most, first_frame or 0


@dataclass(frozen=True)
class Speaking:
    """Whether a face is one of those that are heard."""

    evidence: float  # -1..1, see `speech_evidence`; the least beside any other face
    speaks: bool


def who_speaks(tracks: Sequence[Track], motions: Sequence[FaceMotion], sound: Sound) -> list[Speaking]:
    """Which of a video's faces speak.

    A face does not if it never moves, if its mouth stays shut and does not follow the sound, or if for at
    least half of its time another one is there whose mouth follows the sound clearly better and moves at
    least twice as much. A mouth that moves as one that speaks, but not with the sound, counts as speaking:
    that is what a forged one does.
    """
    mouths = [motion.mouth for motion in motions]
    found = []
    for i, (track, motion) in enumerate(zip(tracks, motions, strict=True)):
        loud = frame_loudness(sound, track.first_frame, len(mouths[i]))
        evidence = speech_evidence([mouths[i]], loud)[0]
        moved = float(np.percentile(smoothed(mouths[i]), 90))
        speaks = not motion.is_still and not (moved < SHUT_MOUTH and evidence < NO_EVIDENCE)
        for k, other in enumerate(tracks):
            first, stop = shared_frames(track, other)
            if (
                k == i
                or motions[k].is_still
                or not overlap(track, other)
                or 2 * (stop - first) < track.n_frames
            ):
                continue
            ours = mouths[i][first - track.first_frame : stop - track.first_frame]
            theirs = mouths[k][first - other.first_frame : stop - other.first_frame]
            of_us, of_them = speech_evidence([ours, theirs], frame_loudness(sound, first, stop - first))
            is_lively = bool(smoothed(ours).std() > LIVELY * smoothed(theirs).std())
            evidence = min(evidence, of_us)
            speaks = speaks and (is_lively or of_them - of_us < MIN_MARGIN)
        found.append(Speaking(evidence, speaks))
    return found


def choose_speaker(tracks: Sequence[Track], motions: Sequence[FaceMotion], sound: Sound) -> tuple[int, str]:
    """The one of several tracks that is kept of a video, and why it and none of those that overlap with it;
    "" if none does.

    It is the longest, unless one that overlaps with it moves its mouth with the sound, in the frames that
    they share, and the longest does so less. Where that does not tell them apart, the one that takes more of
    the picture is kept, all its frames together. A face that never moves is kept only where no other is.

    Args:
        tracks: the longest first.
    """
    moving = [i for i, motion in enumerate(motions) if not motion.is_still] or list(range(len(tracks)))
    best, *others = moving
    why = "the one that moves was kept" if len(moving) < len(tracks) else ""
    for i in others:
        if not overlap(tracks[best], tracks[i]):
            continue
        first, stop = shared_frames(tracks[best], tracks[i])
        loud = frame_loudness(sound, first, stop - first)
        starts = {k: tracks[k].first_frame for k in (best, i)}
        mouths = [motions[k].mouth[first - start : stop - start] for k, start in starts.items()]
        own, other = speech_evidence(mouths, loud)
        # one that is there for a small part of the time must speak clearly: by two standard errors of its
        # correlation
        is_part = 2 * (stop - first) < tracks[best].n_frames
        margin = max(MIN_MARGIN, 2 / np.sqrt((stop - first) / SMOOTH_FRAMES)) if is_part else MIN_MARGIN
        if abs(own - other) >= margin:
            is_better = other > own
            figures = f"{max(own, other):.2f} against {min(own, other):.2f}"
            why = f"the one that moves with the sound was kept ({figures})"
        else:
            is_better = area(tracks[i]) > area(tracks[best])
            why = "the larger one was kept, since neither moves clearly more with the sound"
        best = i if is_better else best
    is_alone = not any(overlap(tracks[best], tracks[i]) for i in range(len(tracks)) if i != best)
    return best, "" if is_alone else why


def area(track: Track) -> float:
    """The area of a track's boxes, all frames together, in pixels."""
    x1, y1, x2, y2 = track.boxes.T
    return float(((x2 - x1) * (y2 - y1)).sum())
