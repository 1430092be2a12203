"""What a verdict holds.  verdict.json has these fields in this order.  Times are seconds of the video.

A dissimilarity is at least 0; an MDS is a mean of them.  At the threshold counts as above it.
"""

from typing import Final, Literal, NotRequired, TypedDict

VERSION = 2  # of verdict.json; docs/verdict.schema.json describes it
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
    turned: float | None  # away from the camera, in degrees; None: no landmarks were found
    sharpness: float  # variance of the Laplacian of the face, at a fixed size
    brightness: float  # mean of its grey levels, 0..255
    contrast: float  # their standard deviation


class Span(TypedDict):
    """A stretch of time in which the smoothed curve of a track is above the threshold."""

    start_s: float
    end_s: float
    score: float  # mean of the curve over the span
    track: int


class Offset(TypedDict):
    """By how much the sound lies beside the picture (`offsets.find_offset`).

    Positive: the sound lags behind the picture by so many milliseconds.
    """

    offset_ms: float  # where the curve is lowest
    confidence: float  # SyncNet's: the median of the curve minus its minimum
    confidence_floor: float  # from which on a shift stands out
    distance: float  # the minimum
    distance_unmoved: float  # of the curve at 0
    curve_ms: list[float]  # how much later than the picture the sound is taken
    curve: list[float]  # the mean dissimilarity there
    judged_s: float  # of the video, over which the mean is taken
    stands_out: bool  # whether the confidence is high enough for the offset to mean something
    agrees_if_moved: bool  # below the threshold there, and not at 0


class TrackVerdict(TypedDict):
    """What holds for one track, a face through one shot."""

    track: int  # 0 is the longest one
    start_s: float
    end_s: float
    side: Side
    mds: float
    p_fake_video: float  # probability of fake, 0..1, by the classifier that sees the picture alone; a mean
    p_fake_audio: float  # the same by the one that hears the sound alone
    n_seconds: int  # chunks over which the means are taken
    judged_s: float  # of which there is an opinion
    face: FaceFigures | None  # None: not measured
    speech: float  # evidence that this face speaks, see `preprocessing.speech.who_speaks`
    speaks: bool
    offset: Offset | None


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


class Head(TypedDict):
    """What one stream alone looks like to its classifier."""

    p_fake: float
    threshold: float
    looks: Looks


class Modalities(TypedDict):
    """What the track that decides looks like, by what is looked at."""

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
    side: Side  # of the threshold, by the MDS of the track that decides; also of what is undecided
    mds: float
    threshold: float
    polarity: str  # which way the scores run, in words
    track: int  # that decides: the most dissonant one of those that speak, or of all if none does
    spans: list[Span]
    modalities: Modalities
    tracks: list[TrackVerdict]
    coverage: Coverage
    offset: Offset | None  # of the tracks that decide, together
    proposals: list[Proposal]  # for test.py --proposals, the best first
    curves: list[Curve]


class Tag(TypedDict):
    """Something that a file says of itself or of a stream, under a name."""

    name: str
    value: str


class StreamFacts(TypedDict):
    """What a file says of one stream, and what its packets say. None: not said."""

    codec: str | None
    profile: str | None
    tags: list[Tag]
    encoder_words: str | None  # what the encoder wrote into the coded data
    declared_s: float | None  # its length
    found_s: float | None  # from the first packet's begin to the last one's end
    start_s: float | None  # of the first packet, on the file's clock
    declared_packets: int | None  # frames of pictures, blocks of sound
    found_packets: int
    declared_kbps: float | None
    found_kbps: float | None
    hidden_packets: int  # marked as not to be shown, by an edit list
    backward_packets: int  # whose decoding time is before that of the packet before


class PictureFacts(StreamFacts):
    """What is said of the pictures."""

    width_px: int | None
    height_px: int | None
    pixel_format: str | None
    declared_fps: float | None
    found_fps: float | None
    shortest_ms: float | None  # from one picture to the next
    longest_ms: float | None
    bits_per_pixel: float | None


class SoundFacts(StreamFacts):
    """What is said of the sound."""

    rate_hz: int | None
    channels: str | None  # their order


class KeyFrames(TypedDict):
    """Where pictures stand that are coded without others; intervals are in packets."""

    n: int
    declared_interval: int | None  # the longest, if the encoder wrote it down
    shortest: int | None
    longest: int | None
    usual: int | None  # the most frequent one
    n_unusual: int | None  # that differ from the usual one; the last one, cut off by the end, is no interval
    median_bytes: int | None
    others_median_bytes: int | None  # of the pictures between


class EditFacts(TypedDict):
    """A line of an edit list."""

    stream: str
    duration_s: float
    media_start_s: float | None  # None: a pause
    rate: float


class TimeFacts(TypedDict):
    """When the file, or a track of it, says that it was made."""

    of: str
    created_utc: str | None
    modified_utc: str | None


class FileFacts(TypedDict):
    """The file's own story: facts without conclusions.  None: not said."""

    sha256: str | None
    size_bytes: int
    container: str | None
    tags: list[Tag]
    declared_s: float | None
    declared_kbps: float | None
    video: PictureFacts | None
    audio: SoundFacts | None
    other_streams: list[str]  # what they are and their codecs
    key_frames: KeyFrames | None
    boxes: list[str] | None  # of an MP4 or QuickTime file, in order; here and below None for other containers
    edits: list[EditFacts] | None
    times: list[TimeFacts] | None
    read_error: str | None  # why it could not be read to its end
    versions: dict[str, str | None]  # of what judged it
    date_utc: str  # when it was judged
    command: str | None  # paths reduced to names; None where another program judged


class StressWay(TypedDict):
    """A video judged again, written in another way."""

    way: str
    mds: float | None  # None if it could not be judged
    side: Side | None
    reason: str | None  # why it could not be judged


class Stress(TypedDict):
    """What became of the MDS in other versions of the video."""

    mds_low: float | None  # of those that could be judged
    mds_high: float | None
    n_held: int  # ways whose MDS is on the same side of the threshold
    ways: list[StressWay]


class MadeBy(TypedDict):
    """What computed a verdict."""

    git_commit: str | None
    device: str


class JudgeIdentity(TypedDict):
    """All that decides the verdicts of a judge."""

    model_sha256: str
    weights_sha256: str | None  # of the detector's file, if it was named
    landmarks: str | None  # what finds eyes and mouth
    threshold: float
    stride_s: float
    smooth_s: float
    amp: str
    pre_processing: dict  # the fields of `Settings`
    brief: bool
    check_maps: bool
    min_judged_s: float
    min_share: float
    stress: bool


class Identity(JudgeIdentity):
    """All that decides a verdict: where it is the same, nothing needs to be judged again."""

    source: list[int]  # bytes of the video file, and when it was last written, in ns
    true_spans: list | None  # (begin_s, end_s) each


class Verdict(Findings):
    """All of verdict.json: version, file and words before what was found, the rest behind it."""

    version: int
    file: str
    words: list[str]  # what was found, in sentences
    grounds: list[str]  # what the model was trained on and how well it told its held-out videos apart
    p_fake_calibrated: float | None  # by the model's calibration, for videos like its held-out ones alone
    file_facts: FileFacts
    seconds_spent: dict[str, float]  # on faces, the network, files, and the other versions of --stress
    # where the threshold comes from, arguments of `TwoStreamNet`, what is known of the training, `record`
    model: dict
    made_by: MadeBy
    identity: Identity
    map_check: NotRequired[dict[str, float | None]]  # see `check_maps`; None where it is not defined
    stress: NotRequired[Stress]


class Failure(TypedDict):
    """Why a video could not be judged; in verdict.json if it would fail again."""

    version: int
    file: str
    verdict: None
    stage: str  # of `VideoError`, or "unexpected"
    reason: str
    identity: NotRequired[Identity]
