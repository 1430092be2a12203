"""A verdict in words, the same ones on the screen, in verdict.json, in pictures and on the page."""

from collections.abc import Sequence

from verdicts.curve import MIN_SPAN_S
from verdicts.schema import Findings, Gap, Head, Stress

NARROW = 0.05  # of the threshold: an MDS that near to it is called so
UNDECIDED = 10  # a probability less than so many percent, as they are shown, from 50 %
MIN_DIGITS = 4  # of scores in words; more where it takes more to tell them from the threshold
MIN_GAP_S = 0.1  # shorter gaps are not worth a word
MAX_LISTED = 5
CAVEATS = (
    "The score is a distance, not a probability: how little the lips and the sound of a second agree, as the "
    "model that was used measures it. How often that model is right, a test on videos of the same kind must "
    "say (test.py), not this page.",
    "A high score can have innocent causes: dubbing, a voice from off screen, music, sound that lags behind "
    "the picture, a face turned away or badly lit, or a kind of video that the model was not trained on.",
    "Of several tracks (a face through one shot) the most dissonant decides, so many cuts or faces make a "
    "high score likelier.",
    "A low score is no proof of authenticity. Manipulations that keep lips and sound together, or of a kind "
    "that the model has never seen, go unnoticed.",
    "The heat maps show what raised the score in this network. They need not be where a picture was changed.",
)


def in_words(verdict: Findings) -> list[str]:
    """A verdict as sentences for a person."""
    return [score_words(verdict), *span_words(verdict), head_words(verdict), coverage_words(verdict)]


def in_capitals(verdict: Findings) -> str:
    """The verdict in a word or two."""
    return verdict["verdict"].upper() + (", with suspicious parts" if is_mixed(verdict) else "")


def is_mixed(verdict: Findings) -> bool:
    """Whether a video passes as a whole and has parts that do not."""
    return verdict["verdict"] == "real" and bool(verdict["spans"])


def score_words(verdict: Findings) -> str:
    """How the score lies to the threshold, and what follows."""
    mds, threshold, n_tracks = verdict["mds"], verdict["threshold"], len(verdict["tracks"])
    mds_text, threshold_text = apart(mds, threshold)
    whole = " as a whole" if is_mixed(verdict) else ""
    side = "at or above" if verdict["verdict"] == "fake" else "below"
    if abs(mds - threshold) < NARROW * threshold:
        side = f"narrowly {side}"
    whose = ""
    if n_tracks > 1:
        track = f"track {verdict['track']}, the most dissonant of {n_tracks}"
        whose = f" of {track} (a track is a face through one shot),"
    return (
        f"The modality dissonance score{whose} is {mds_text}, {side} the threshold of {threshold_text}; "
        "higher means that lips and sound agree less. "
        f"So the model takes this video{whole} for {verdict['verdict'].upper()}."
    )


def span_words(verdict: Findings) -> list[str]:
    """Where the curve is at or above the threshold; nothing if it never is, but the video is fake."""
    texts = []
    for span in sorted(verdict["spans"], key=lambda span: -span["score"]):
        whose = f", track {span['track']}" if len(verdict["tracks"]) > 1 else ""
        texts.append(f"{span['start_s']:.1f} to {span['end_s']:.1f} s (score {span['score']:.4g}{whose})")
    if is_mixed(verdict):
        return [f"But parts of it are at or above the threshold: {listed(texts)}."]
    if texts:
        return [f"It is at or above the threshold at {listed(texts)}."]
    if verdict["verdict"] == "real":
        return [f"Nowhere is the smoothed curve at or above the threshold for {MIN_SPAN_S:g} s or more."]
    return []


def head_words(verdict: Findings) -> str:
    """What the classifiers of picture and sound alone say."""
    of_picture, of_sound = (opinion(verdict["modalities"][name]) for name in ("video", "audio"))
    return (
        "Of the two classifiers that see one stream each, "
        f"the one of the picture alone {of_picture} and the one of the sound alone {of_sound}."
    )


def opinion(head: Head) -> str:
    """What a classifier says."""
    percent = round(100 * head["p_fake"])  # what is shown decides, so that 60 % has one meaning
    said = "is undecided" if abs(percent - 50) < UNDECIDED else f"takes it for {head['looks']}"
    return f"{said} ({percent} % fake)"


def coverage_words(verdict: Findings) -> str:
    """How much was judged, and why the rest was not."""
    covered = verdict["coverage"]
    texts = [f"{gap['start_s']:.1f} to {gap['end_s']:.1f} s: {gap['why']}" for gap in gaps(verdict)]
    if not texts:
        return f"All of its {covered['duration_s']:.1f} s were judged."
    part = f"Judged {covered['judged_s']:.1f} of {covered['duration_s']:.1f} s"
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
