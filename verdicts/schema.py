"""What a verdict holds.  verdict.json has these fields in this order.  Times are seconds of the video.

A dissimilarity is at least 0; an MDS is a mean of them.  At the threshold counts as above it.
"""

from typing import Final, Literal, NotRequired, TypedDict

Looks = Literal["fake", "real"]  # how a score is drawn, and what a classifier of one stream says
Side = Literal["above the threshold", "below the threshold"]
VerdictWord = Literal["above the threshold", "below the threshold", "undecided"]
ABOVE: Final = "above the threshold"
BELOW: Final = "below the threshold"
UNDECIDED: Final = "undecided"
VERDICT_WORDS = (ABOVE, BELOW, UNDECIDED)
VERDICT_FILE = "verdict.json"
Proposal = list[float]  # score, begin_s, end_s


class Reason(TypedDict):
    """A reason for an answer, or why there is none."""

    code: str  # one of `answer.CODES`
    text: str  # a sentence


class FaceFigures(TypedDict):
    """How well the face of a track is seen: medians over judged frames."""

    size_px: float  # the longer side of its box, in the video's own pixels
    turned: float | None  # away from the camera, in degrees; None: the detector gives no landmarks
    sharpness: float  # variance of the Laplacian of the face, at a fixed size
    brightness: float  # mean of its grey levels, 0..255
    contrast: float  # their standard deviation


class Span(TypedDict):
    """A stretch of time in which the smoothed curve of a track is above the threshold."""

    start_s: float
    end_s: float
    score: float  # mean of the curve over the span
    track: int


class TrackVerdict(TypedDict):
    """What holds for one track, a face through one shot."""

    track: int  # 0 is the longest one
    start_s: float
    end_s: float
    verdict: Side
    mds: float
    p_fake_video: float  # probability of fake, 0..1, by the classifier that sees the picture alone; a mean
    p_fake_audio: float  # the same by the one that hears the sound alone
    n_seconds: int  # over which the means are taken
    judged_s: float  # of which there is an opinion
    face: FaceFigures | None  # None: not measured


class Gap(TypedDict):
    """A stretch of time on which there is no opinion."""

    start_s: float
    end_s: float
    why: str  # a value of `verdict.WHY`


class Coverage(TypedDict):
    """Which part of a video was judged."""

    duration_s: float
    judged_s: float
    no_opinion: list[Gap]
    warnings: NotRequired[list[str]]  # what is odd about the file


class Dissonance(TypedDict):
    """What lips and sound together say."""

    score: float  # the MDS
    threshold: float
    side: Side


class Head(TypedDict):
    """What one stream alone looks like to its classifier."""

    p_fake: float
    threshold: float
    looks: Looks


class Modalities(TypedDict):
    """What the most dissonant track looks like, by what is looked at."""

    dissonance: Dissonance
    video: Head
    audio: Head


class Curve(TypedDict):
    """The scores of one track's chunks, one number per chunk in each list."""

    track: int
    start_s: list[float]
    dissimilarity: list[float]
    p_fake_video: list[float]
    p_fake_audio: list[float]


class Findings(TypedDict):
    """What the scores of a video say (`give_verdict`)."""

    verdict: VerdictWord
    reasons: list[Reason]  # at least one
    side: Side  # of the threshold, by the MDS of the most dissonant track; also of what is undecided
    mds: float
    threshold: float
    polarity: str  # which way the scores run, in words
    track: int  # the most dissonant one
    spans: list[Span]
    modalities: Modalities
    tracks: list[TrackVerdict]
    coverage: Coverage
    proposals: list[Proposal]  # for test.py --proposals, the best first
    curves: list[Curve]


class MadeBy(TypedDict):
    """What computed a verdict."""

    git_commit: str | None
    device: str


class JudgeIdentity(TypedDict):
    """All that decides the verdicts of a judge."""

    model_sha256: str
    weights_sha256: str | None  # of the detector's file, if it was named
    threshold: float
    stride_s: float
    smooth_s: float
    amp: str
    pre_processing: dict  # the fields of `Settings`
    brief: bool
    check_maps: bool
    min_judged_s: float
    min_share: float


class Identity(JudgeIdentity):
    """All that decides a verdict: where it is the same, nothing needs to be judged again."""

    source: list[int]  # bytes of the video file, and when it was last written, in ns
    true_spans: list | None  # (begin_s, end_s) each


class MapCheck(TypedDict, total=False):
    """Whether the heat maps show what the network has learnt; where that was asked for."""

    map_check: dict[str, float | None]  # see `check_maps`; None where it is not defined


class Verdict(Findings, MapCheck):
    """All of verdict.json: file and words before what was found, the rest behind it."""

    file: str
    words: list[str]  # what was found, in sentences
    grounds: list[str]  # what the model was trained on and how well it told its held-out videos apart
    p_fake_calibrated: float | None  # by the model's calibration, for videos like its held-out ones alone
    seconds_spent: dict[str, float]  # on faces, the network, files
    # where the threshold comes from, arguments of `TwoStreamNet`, what is known of the training, `record`
    model: dict
    made_by: MadeBy
    identity: Identity


class Failure(TypedDict):
    """Why a video could not be judged; in verdict.json if it would fail again."""

    file: str
    verdict: None
    stage: str  # of `VideoError`, or "unexpected"
    reason: str
    identity: NotRequired[Identity]
