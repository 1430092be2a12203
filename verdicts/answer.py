"""Above the threshold, below it, or undecided: the answer for a video, and why.

Pure functions of figures. The codes of the reasons stand in docs/verdicts.md.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from utils.training_record import HeldOut, TrainingRecord, right_words
from verdicts.offsets import offset_words
from verdicts.schema import (
    ABOVE,
    BELOW,
    UNDECIDED,
    FaceFigures,
    Offset,
    Reason,
    Side,
    Stress,
    TrackVerdict,
    VerdictWord,
)

# codes of reasons: of an answer,
IS_ABOVE, IS_BELOW = "above", "below"
# and of there being none
NO_HELD_OUT, AT_CHANCE = "no_held_out", "at_chance"
NEAR_THRESHOLD, HEADS_CONTRADICT = "near_threshold", "heads_contradict"
FEW_SECONDS, SMALL_SHARE = "few_seconds", "small_share"
SOUND_MOVED, NOBODY_SPEAKS = "sound_moved", "nobody_speaks"
SMALL_FACE, TURNED_FACE, BLURRED_FACE, BADLY_LIT_FACE = (
    "small_face",
    "turned_face",
    "blurred_face",
    "badly_lit_face",
)
STRESS = "stress"
CODES = (
    *(IS_ABOVE, IS_BELOW, NO_HELD_OUT, AT_CHANCE, NEAR_THRESHOLD, HEADS_CONTRADICT, FEW_SECONDS, SMALL_SHARE),
    *(SOUND_MOVED, NOBODY_SPEAKS),
    *(SMALL_FACE, TURNED_FACE, BLURRED_FACE, BADLY_LIT_FACE, STRESS),
)

CHANCE = 0.5  # AUC of a score that knows nothing
NARROW = 0.05  # of the threshold: a score that near to it is near, whatever is known of others
NEAR_ODDS = 9.0  # to one, of the nearer class against the other; less is near the threshold
# A model that put none of 62 generated test videos of 5 s on the wrong side did so with 13 % of their first
# seconds, with 6 % of the means of two, with 3 % of three, with 2 % of four.
MIN_JUDGED_S = 3.0
MIN_SHARE = 0.25  # of a video
MIN_FACE_PX = 80  # in the video: its mouth is then some 25 pixels wide
# From here on only one eye and half a mouth are seen: profiles of real clips have 57 to 65, views in which
# both eyes are whole 0 to 54.
MAX_TURNED_DEG = 55.0
# Of 59 real clips the least sharp has 39; blurred by 1.5 px of a crop of 112 px, so that lips run into one
# another, the median has 22, and generated faces 158 and more.
MIN_SHARPNESS = 30.0
# Real clips have 42 to 165 of 255, and a contrast of 16 and more; in a tenth of the light 4 to 17 and 2 to 7.
MIN_BRIGHTNESS, MAX_BRIGHTNESS, MIN_FACE_CONTRAST = 25.0, 225.0, 8.0


@dataclass(frozen=True)
class Rules:
    """What it takes for an answer, of what a user may change."""

    min_judged_s: float = MIN_JUDGED_S  # seconds
    min_share: float = MIN_SHARE  # of the video, 0..1


USUAL = Rules()


@dataclass(frozen=True)
class Evidence:
    """What an answer is decided by."""

    decisive: TrackVerdict  # the most dissonant track of those that speak, or of all if none does
    threshold: float
    judged_s: float  # of the video, all such tracks together
    duration_s: float
    offset: Offset | None = None  # of the sound, all tracks that speak together
    someone_speaks: bool = True

    @property
    def side(self) -> Side:
        return self.decisive["side"]

    @property
    def faces(self) -> str:
        """Whose seconds `judged_s` are, in words."""
        return "a judged face that speaks" if self.someone_speaks else "a judged face"

    @property
    def decisive_s(self) -> float:
        """The seconds that speak for this side: of a score below the threshold those of all tracks, since
        none of them is above.
        """
        return self.decisive["judged_s"] if self.side == ABOVE else self.judged_s


def side_of(score: float, threshold: float) -> Side:
    """On which side of the threshold a score lies; at it counts as above."""
    return ABOVE if score >= threshold else BELOW


def answer(
    evidence: Evidence, record: TrainingRecord | None, rules: Rules
) -> tuple[VerdictWord, list[Reason]]:
    """The answer, and the reasons for it: all that keep it from being decided or, if none does, why it is.

    Args:
        record: of the model; None if it has none.
    """
    held_out = record["held_out"] if record else None
    against = [
        *model_reasons(held_out),
        *near_reasons(evidence, held_out),
        *head_reasons(evidence, held_out),
        *coverage_reasons(evidence, rules),
        *sound_reasons(evidence),
        *face_reasons(evidence.decisive["face"]),
    ]
    return (UNDECIDED, against) if against else (evidence.side, [why_decided(evidence, held_out)])


def shaken(verdict: VerdictWord, reasons: list[Reason], stress: Stress) -> tuple[VerdictWord, list[Reason]]:
    """An answer and its reasons after --stress: undecided if the score lies on the other side of the
    threshold in another version of the video.
    """
    n_judged = sum(way["mds"] is not None for way in stress["ways"])
    n_other = n_judged - stress["n_held"]
    if n_other == 0:
        return verdict, reasons
    text = (
        f"Written and judged again in {n_judged} ways, the score lies on the other side of the threshold in "
        f"{n_other} of them."
    )
    against = reasons if verdict == UNDECIDED else []
    return UNDECIDED, [*against, {"code": STRESS, "text": text}]


def why_decided(evidence: Evidence, held_out: HeldOut | None) -> Reason:
    """The reason of an answer that is one."""
    code = IS_ABOVE if evidence.side == ABOVE else IS_BELOW
    mds, near, centre = evidence.decisive["mds"], margin(evidence.threshold, held_out), middle(held_out)
    of_middle = ""
    if centre is not None and f"{centre:.3g}" != f"{evidence.threshold:.3g}":
        of_middle = f" and of {centre:.3g}, the middle of the held-out scores"
    text = (
        f"The score is {abs(mds - evidence.threshold):.2g} {code} the threshold, outside of the {near:.2g} "
        f"around it{of_middle} that count as too near. "
        f"{evidence.decisive_s:.1f} s were judged{seen_words(evidence.decisive['face'])}."
    )
    return {"code": code, "text": text}


def seen_words(face: FaceFigures | None) -> str:
    """How well a face that has no flaw is seen."""
    if face is None:
        return ""
    words = f"; the face that decides is {face['size_px']:.0f} pixels large, sharp and lit well enough"
    if face["turned"] is None:
        return f"{words}; whether it is turned away is not known, as no eyes and mouth were found"
    return f"{words}, and not turned away"


def model_reasons(held_out: HeldOut | None) -> Iterator[Reason]:
    """A model of which nothing is known, or that is not shown to be better than chance."""
    if held_out is None:
        text = (
            "No test of the model on videos that were held out of its training is recorded, so it is not "
            "known how often it is right."
        )
        yield {"code": NO_HELD_OUT, "text": text}
    elif not beats_chance(held_out["auc_ci95"]):
        right = right_words(held_out["auc"], held_out["auc_ci95"])
        text = (
            "On its held-out videos the model was not shown to be better than guessing: of pairs it puts "
            f"{right} in the right order; guessing puts {100 * CHANCE:g} %."
        )
        yield {"code": AT_CHANCE, "text": text}


def beats_chance(interval: Sequence[float] | None) -> bool:
    """Whether the interval of an AUC lies above that of guessing."""
    return interval is not None and interval[0] > CHANCE


def margin(threshold: float, held_out: HeldOut | None) -> float:
    """How near to the threshold, or to the middle of the held-out scores, a score says too little.

    If the scores of real and of fake videos are bell-shaped around their means m and n, as wide as each other
    (standard deviation s), a score that is x away from the middle of m and n is exp(x (n - m) / s²) times
    likelier on its own side than on the other. The margin is the x where that is `NEAR_ODDS`, and at least
    `NARROW` of the threshold.
    """
    narrow = NARROW * abs(threshold)
    if held_out is None or held_out["mds_sd"] is None or middle(held_out) is None:
        return narrow
    apart = held_out["mean_mds_fake"] - held_out["mean_mds_real"]
    return max(narrow, held_out["mds_sd"] ** 2 * math.log(NEAR_ODDS) / apart)


def middle(held_out: HeldOut | None) -> float | None:
    """The score around which held-out real and fake videos are hard to tell apart; None: not known."""
    if held_out is None or held_out["mds_sd"] is None:
        return None
    real, fake = held_out["mean_mds_real"], held_out["mean_mds_fake"]
    return (real + fake) / 2 if fake > real else None


def near_reasons(evidence: Evidence, held_out: HeldOut | None) -> Iterator[Reason]:
    """A score near the threshold, or near the middle of the held-out scores, wherever the threshold lies."""
    mds, near, centre = evidence.decisive["mds"], margin(evidence.threshold, held_out), middle(held_out)
    of_threshold = abs(mds - evidence.threshold) < near
    of_middle = centre is not None and abs(mds - centre) < near
    if of_threshold or of_middle:
        where = "the threshold" if of_threshold else f"{centre:.3g}, the middle of the held-out scores"
        text = f"The score lies within {near:.2g} of {where}, too near to it to tell the sides apart."
        yield {"code": NEAR_THRESHOLD, "text": text}


def head_reasons(evidence: Evidence, held_out: HeldOut | None) -> Iterator[Reason]:
    """A classifier of one stream that takes for fake what the score does not.

    Only one that was better than chance on held-out videos, and only where it is as sure as with fewer than
    one in twenty real ones of these. The other way round nothing contradicts: a real picture with real,
    foreign sound is what the score is for.
    """
    if evidence.side == ABOVE or held_out is None or held_out["is_foreign"]:
        return
    said = {"video": evidence.decisive["p_fake_video"], "audio": evidence.decisive["p_fake_audio"]}
    for name, what in (("video", "picture"), ("audio", "sound")):
        head, p_fake = held_out["heads"].get(name), said[name]
        if head and beats_chance(head["auc_ci95"]) and p_fake > max(CHANCE, head["real_p95"]):
            text = (
                f"The score of lips and sound together lies below the threshold, but the classifier of the "
                f"{what} alone gives {100 * p_fake:.0f} % for fake, more than it gave 19 of 20 real held-out "
                "videos."
            )
            yield {"code": HEADS_CONTRADICT, "text": text}


def sound_reasons(evidence: Evidence) -> Iterator[Reason]:
    """Sound that is late or early, and not foreign; a voice that is of none of the faces."""
    if evidence.side == ABOVE and evidence.offset is not None and evidence.offset["agrees_if_moved"]:
        yield {"code": SOUND_MOVED, "text": offset_words(evidence.offset)}
    if not evidence.someone_speaks:
        text = (
            "No judged face shows evidence of speech, so lips and sound need not agree: the voice may be "
            "another's."
        )
        yield {"code": NOBODY_SPEAKS, "text": text}


def coverage_reasons(evidence: Evidence, rules: Rules) -> Iterator[Reason]:
    """Too little of the video, or of the face that decides."""
    if evidence.decisive_s < rules.min_judged_s:
        whose = "the face that decides" if evidence.side == ABOVE else evidence.faces
        text = (
            f"Only {evidence.decisive_s:.1f} s show {whose}, expected at least {rules.min_judged_s:g} s "
            "(--min_judged_s)."
        )
        yield {"code": FEW_SECONDS, "text": text}
    if evidence.judged_s < rules.min_share * evidence.duration_s:
        share = evidence.judged_s / evidence.duration_s
        text = (
            f"Only {100 * share:.0f} % of the video shows {evidence.faces}, "
            f"expected at least {100 * rules.min_share:g} % (--min_share)."
        )
        yield {"code": SMALL_SHARE, "text": text}


def face_reasons(face: FaceFigures | None) -> Iterator[Reason]:
    """A face that shows too little of its lips."""
    if face is None:
        return
    if face["size_px"] < MIN_FACE_PX:
        text = (
            f"The face is small: {face['size_px']:.0f} pixels in the video, expected at least {MIN_FACE_PX}."
        )
        yield {"code": SMALL_FACE, "text": text}
    if face["turned"] is not None and face["turned"] > MAX_TURNED_DEG:
        text = f"The face is turned away from the camera, by about {face['turned']:.0f} degrees."
        yield {"code": TURNED_FACE, "text": text}
    if face["sharpness"] < MIN_SHARPNESS:
        text = f"The face is blurred: sharpness {face['sharpness']:.0f}, expected at least {MIN_SHARPNESS:g}."
        yield {"code": BLURRED_FACE, "text": text}
    if not MIN_BRIGHTNESS <= face["brightness"] <= MAX_BRIGHTNESS or face["contrast"] < MIN_FACE_CONTRAST:
        text = (
            f"The face is badly lit: brightness {face['brightness']:.0f} of 255, contrast "
            f"{face['contrast']:.0f}; expected {MIN_BRIGHTNESS:g} to {MAX_BRIGHTNESS:g}, and at least "
            f"{MIN_FACE_CONTRAST:g}."
        )
        yield {"code": BADLY_LIT_FACE, "text": text}
