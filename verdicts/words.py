"""A verdict in words, the same ones on the screen, in verdict.json, in pictures and on the page."""

from collections.abc import Sequence

from verdicts.answer import SOUND_MOVED
from verdicts.curve import MIN_SPAN_S
from verdicts.offsets import offset_words
from verdicts.schema import BELOW, UNDECIDED, Findings, Gap, Stress

MIN_DIGITS = 4  # of scores in words; more where it takes more to tell them from the threshold
MIN_GAP_S = 0.1  # shorter gaps are not worth a word
MAX_LISTED = 5
CAVEATS = (
    "Above the threshold does not mean fake, and below it does not mean real: the score is a distance, how "
    "little the lips and the sound of a second agree, as the model that was used measures it. How often that "
    "model is right on videos of this kind, only a test on such videos can say (test.py); the figures of its "
    "own test hold for videos like those alone.",
    "A high score can have innocent causes: dubbing, a voice from off screen, music, sound that lags behind "
    "the picture, a face turned away or badly lit, or a kind of video that the model was not trained on.",
    "Of several tracks (a face through one shot) that speak the most dissonant decides, so many cuts or "
    "faces make a high score likelier.",
    "A low score is no proof of authenticity. Manipulations that keep lips and sound together, or of a kind "
    "that the model has never seen, go unnoticed.",
    "The heat maps show what raised the score in this network. They need not be where a picture was changed.",
)


def in_words(verdict: Findings) -> list[str]:
    """A verdict as sentences for a person."""
    codes = [reason["code"] for reason in verdict["reasons"]]
    return [
        score_words(verdict),
        *span_words(verdict),
        *speech_words(verdict),
        *([] if SOUND_MOVED in codes else [offset_words(verdict["offset"])]),  # else it is a reason already
        head_words(verdict),
        coverage_words(verdict),
    ]


def in_capitals(verdict: Findings) -> str:
    """The verdict in a few words."""
    if verdict["verdict"] == UNDECIDED:
        side = "below, with parts above the threshold" if is_mixed(verdict) else verdict["side"]
        return f"{UNDECIDED.upper()} (score {side})"
    return verdict["verdict"].upper() + (", with parts above it" if is_mixed(verdict) else "")


def is_mixed(verdict: Findings) -> bool:
    """Whether a video lies below the threshold as a whole and has parts that do not."""
    return verdict["side"] == BELOW and bool(verdict["spans"])


def reason_words(verdict: Findings) -> list[str]:
    """Why the verdict is what it is, in sentences."""
    return [reason["text"] for reason in verdict["reasons"]]


def score_words(verdict: Findings) -> str:
    """How the score lies to the threshold."""
    mds_text, threshold_text = apart(verdict["mds"], verdict["threshold"])
    n_tracks = len(verdict["tracks"])
    side = "below" if verdict["side"] == BELOW else "at or above"
    whole = "as a whole " if is_mixed(verdict) else ""
    whose = ""
    if n_tracks > 1:
        n_speak = sum(track["speaks"] for track in verdict["tracks"])
        among = f"the most dissonant of {n_tracks}"
        if 0 < n_speak < n_tracks:
            among = (
                f"the most dissonant of {n_speak} that speak" if n_speak > 1 else "the only one that speaks"
            )
        track = f"track {verdict['track']}, {among}"
        whose = f" of {track} (a track is a face through one shot),"
    return (
        f"The modality dissonance score (MDS){whose} is {mds_text}, {whole}{side} the threshold of "
        f"{threshold_text}; higher means that lips and sound agree less."
    )


def span_words(verdict: Findings) -> list[str]:
    """Where the curve is at or above the threshold; nothing if it never is, but the whole score is."""
    texts = []
    for span in sorted(verdict["spans"], key=lambda span: -span["score"]):
        whose = f", track {span['track']}" if len(verdict["tracks"]) > 1 else ""
        texts.append(
            f"{span['start_s']:.1f} to {span['end_s']:.1f} s (mean of the curve {span['score']:.4g}{whose})"
        )
    if is_mixed(verdict):
        return [f"But parts of its smoothed curve are at or above the threshold: {listed(texts)}."]
    if texts:
        return [f"The smoothed curve is at or above the threshold at {listed(texts)}."]
    if verdict["side"] == BELOW:
        return [f"Nowhere is the smoothed curve at or above the threshold for {MIN_SPAN_S:g} s or more."]
    return []


def speech_words(verdict: Findings) -> list[str]:
    """Which faces do not speak; nothing if all do."""
    silent = [track for track in verdict["tracks"] if not track["speaks"]]
    if len(silent) == len(verdict["tracks"]):
        return ["No judged face shows evidence of speech, such as a mouth that moves with the sound."]
    scores = listed([f"track {track['track']} (score {track['mds']:.4g})" for track in silent])
    return [f"Faces that do not speak, and so do not decide: {scores}."] if silent else []


def head_words(verdict: Findings) -> str:
    """What the classifiers of picture and sound alone say."""
    of_picture, of_sound = (100 * verdict["modalities"][name]["p_fake"] for name in ("video", "audio"))
    return (
        f"The model's classifier of the picture alone gives {of_picture:.0f} % for fake, that of the sound "
        f"alone {of_sound:.0f} %."
    )


def coverage_words(verdict: Findings) -> str:
    """How much was judged, and why the rest was not."""
    covered = verdict["coverage"]
    texts = [f"{gap['start_s']:.1f} to {gap['end_s']:.1f} s: {gap['why']}" for gap in gaps(verdict)]
    if not texts:
        return f"All of its {covered['duration_s']:.1f} s were scored."
    part = f"Scored {covered['judged_s']:.1f} of {covered['duration_s']:.1f} s"
    return f"{part}; no opinion on {listed(texts)}."


def gaps(verdict: Findings) -> list[Gap]:
    """The parts of a video without an opinion that are long enough for a word."""
    return [gap for gap in verdict["coverage"]["no_opinion"] if gap["end_s"] - gap["start_s"] >= MIN_GAP_S]


def stress_words(stress: Stress) -> str:
    """What became of the MDS when the video was written again."""
    judged = [way for way in stress["ways"] if way["mds"] is not None]
    left_out = [f"{way['way']}: {way['reason']}" for way in stress["ways"] if way["mds"] is None]
    missing = f" Not judged: {listed(left_out)}." if left_out else ""
    if not judged:
        return f"Written again in {len(stress['ways'])} ways, it could be judged in none.{missing}"
    held = "all" if stress["n_held"] == len(judged) else f"{stress['n_held']} of them"
    spread = f"MDS {stress['mds_low']:.4g} to {stress['mds_high']:.4g}"
    ways = f"{len(judged)} way{'s' if len(judged) > 1 else ''}"
    return f"Written and judged again in {ways}: {spread}, its side of the threshold held in {held}.{missing}"


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
