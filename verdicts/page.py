"""The page of a verdict, report.html: all that is known of one video, in one file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np

from preprocessing.chunking import ChunkWriter
from utils.chunkfiles import decode_frame
from utils.cli import legible
from utils.files import replacing
from utils.pages import data_uri, write_page
from verdicts.offsets import offset_words, plot_offset
from verdicts.schema import ABOVE, BELOW, UNDECIDED, Looks, TrackVerdict, Verdict
from verdicts.scoring import ScoredVideo, Second
from verdicts.story_rows import story_rows
from verdicts.timeline import MAX_NAMED, DrawnCurve, DrawnLine, Spans, page_curve
from verdicts.verdict import TrackScores, looks
from verdicts.words import CAVEATS, apart, in_capitals, listed

TEMPLATE = Path(__file__).parent / "templates" / "verdict.html"
MAX_CARDS, MAX_PRINTED = 60, 6  # seconds shown with pictures and maps on a page, and in print
MAX_FACES = 24  # tracks shown with a picture
MAX_SPANS = 20  # shown at once; the others are folded away
MAX_PAGE_MB = 64  # of video inside a page
PAGE_FILE = "report.html"
FACE_FILE = "face.jpg"  # of the track that decides, for the overview over all videos
TILE_PX = 96
VIDEO_WORDS = "the video, with a box around each face coloured by its score, and the running curve below"
FRAMES_PER_STEP = 4  # of the maps: a chunk's 30 frames are 8 steps


class Card(TypedDict):
    """What the page shows of one second."""

    track: int
    start_s: float
    n_places: str  # of a map, height by width
    dissimilarity: float
    looks: Looks
    p_fake_video: float
    p_fake_audio: float
    picture: str  # crops and maps, a data URI
    is_printed: bool  # one of the few with the highest scores


@dataclass(frozen=True)
class Pictures:
    """What a page shows beside words and the curve."""

    cards: Sequence[Card]
    n_hidden: int  # seconds that have no card
    faces: Mapping[int, bytes]  # by track, JPEG


@dataclass(frozen=True)
class Faces:
    """The tracks of a video in the order in which a page shows them."""

    groups: list[tuple[str, list[TrackVerdict]]]  # those with pictures, under a title, "" for none
    rest: list[TrackVerdict]  # too many for pictures
    pictures: dict[int, str]  # by track, data URIs


def write_verdict_page(
    folder: Path,
    verdict: Verdict,
    tracks: Sequence[TrackScores],
    true_spans: Spans | None,
    pictures: Pictures,
    training: str,
) -> None:
    """Write report.html beside annotated.mp4, which it holds unless that is large, and a small picture of
    the face that decides.

    Args:
        training: what is known of the model's training, in words.
    """
    if face := pictures.faces.get(verdict["track"]):
        with replacing(folder / FACE_FILE) as partial:
            partial.write_bytes(face)
    video = folder / "annotated.mp4"
    is_inside = video.stat().st_size <= MAX_PAGE_MB * 10**6
    offset = verdict["offset"]
    name, (mds_text, threshold_text) = legible(verdict["file"]), apart(verdict["mds"], verdict["threshold"])
    curve, cards = page_curve(tracks, verdict, true_spans), pictures.cards
    write_page(
        folder / PAGE_FILE,
        TEMPLATE,
        ABOVE=ABOVE,
        BELOW=BELOW,
        UNDECIDED=UNDECIDED,
        title=f"{name}: {in_capitals(verdict)}",
        file_name=name.rpartition("/")[2],
        folder=name.rpartition("/")[0],
        mds_text=mds_text,
        threshold_text=threshold_text,
        verdict=verdict,
        curve=curve,
        curve_words=words_of_curve(verdict),
        legend=legend_of(curve, verdict["track"]),
        faces=arrange_faces(verdict, pictures.faces),
        max_spans=MAX_SPANS,
        offset_plot=plot_offset(offset, verdict["threshold"]) if offset else None,
        no_offset=offset_words(None),
        cards=cards,
        n_hidden=pictures.n_hidden,
        n_places=cards[0]["n_places"] if cards else "no",
        max_printed=MAX_PRINTED,
        caveats=CAVEATS,
        facts=facts_of(verdict, training),
        story=story_rows(verdict["file_facts"]),
        video_words=VIDEO_WORDS,
        video_file=None if is_inside else video.name,
        video_base64=base64.b64encode(video.read_bytes()).decode() if is_inside else "",
    )


def words_of_curve(verdict: Verdict) -> str:
    """What the curve shows, for those who do not see it."""
    where = [f"{span['start_s']:.1f} to {span['end_s']:.1f} s" for span in verdict["spans"]]
    found = f"at or above the threshold at {listed(where)}" if where else "nowhere at or above the threshold"
    seconds = f"{verdict['coverage']['duration_s']:.1f} s"
    return f"Dissimilarity over {seconds} of video, {found}; choose a moment"


def legend_of(curve: DrawnCurve, decisive: int) -> list[DrawnLine]:
    """A line of each of the first few tracks, and of the decisive one."""
    lines = {line["track"]: line for line in curve["lines"]}
    return [line for i, (track, line) in enumerate(lines.items()) if i < MAX_NAMED or track == decisive]


def arrange_faces(verdict: Verdict, faces: Mapping[int, bytes]) -> Faces:
    """Those who speak before those who do not, the most dissonant ones first."""
    tracks = sorted(verdict["tracks"], key=lambda track: (not track["speaks"], -track["mds"]))
    shown, rest = tracks[:MAX_FACES], tracks[MAX_FACES:]
    speaking, others = ([track for track in shown if track["speaks"] == is_so] for is_so in (True, False))
    groups = [("Speaking" if others else "", speaking), ("Not speaking, as far as can be seen", others)]
    uris = {track: data_uri(jpeg, "image/jpeg") for track, jpeg in faces.items()}
    return Faces([(title, group) for title, group in groups if group], rest, uris)


def facts_of(verdict: Verdict, training: str) -> dict[str, str]:
    """How a verdict was made: a table's rows."""
    model, asked = verdict["model"], verdict["identity"]
    chunk_s = model["chunk_s"]
    every = f"a chunk of {chunk_s:g} s every {asked['stride_s']:g} s, smoothed by {asked['smooth_s']:g} s"
    return {
        "file": legible(verdict["file"]),
        "network": f"{model['net']}, frames of {model['img_dim']} pixels",
        "checkpoint": f"SHA-256 {asked['model_sha256']}",
        "threshold": f"{verdict['threshold']:.6g}, {model['threshold_origin']}",
        "training": training,
        "curve": f"{every}; the MDS is the mean over chunks without overlap",
        "face detector": asked["pre_processing"]["detector"],
        "computed on": verdict["made_by"]["device"],
    }


def draw_pictures(scored: ScoredVideo, threshold: float) -> Pictures:
    """The pictures of a video for its page."""
    cards = make_cards(scored.seconds, scored.writers, threshold)
    judged = [track for track in scored.tracks if len(track.scores)]
    shown = sorted(judged, key=lambda track: (not track.speaks, -track.means[0]))[:MAX_FACES]
    faces = {track.number: draw_face(scored.writers[track.number]) for track in shown}
    return Pictures(cards, len(scored.seconds) - len(cards), faces)


def draw_face(writer: ChunkWriter) -> bytes:
    """A track's face in the middle of its time, as a small JPEG."""
    crop = decode_frame(writer.jpeg(writer.track.n_frames // 2))
    assert crop is not None  # it was written a moment ago
    small = cv2.resize(crop, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def make_cards(seconds: Sequence[Second], writers: Sequence[ChunkWriter], threshold: float) -> list[Card]:
    """What the page shows of the seconds: of at most `MAX_CARDS` those with the highest scores, in order of
    time.
    """
    if not seconds:
        return []
    strongest = [max(float(second.maps[i].max()) for second in seconds) or 1.0 for i in (0, 1)]
    chosen = sorted(seconds, key=lambda second: -second.scores[0])[:MAX_CARDS]
    places = [second.place for second in chosen[:MAX_PRINTED]]
    cards: list[Card] = []
    for second in sorted(chosen, key=lambda second: (second.place.start_s, second.place.track)):
        dissimilarity, p_fake_video, p_fake_audio = second.scores.tolist()
        crops = crops_of(second, writers[second.place.track])
        cards.append(
            {
                "track": second.place.track,
                "start_s": round(second.place.start_s, 3),
                "n_places": "×".join(map(str, second.maps.shape[2:])),
                "dissimilarity": dissimilarity,
                "looks": looks(dissimilarity, threshold),
                "p_fake_video": p_fake_video,
                "p_fake_audio": p_fake_audio,
                "picture": data_uri(draw_strip(crops, second.maps.numpy(), strongest), "image/jpeg"),
                "is_printed": second.place in places,
            }
        )
    return cards


def crops_of(second: Second, writer: ChunkWriter) -> list[np.ndarray]:
    """The crops of a second, one for each step of its maps, (H, W, 3) uint8 BGR."""
    crops = []
    for step in range(second.maps.shape[1]):
        crop = decode_frame(writer.jpeg(second.place.start + FRAMES_PER_STEP * step))
        assert crop is not None  # it was written a moment ago
        crops.append(crop)
    return crops


def draw_strip(crops: Sequence[np.ndarray], maps: np.ndarray, strongest: Sequence[float]) -> bytes:
    """A second as a picture, JPEG: crops (H, W, 3) BGR; below them the same under each of the maps (2,
    8, h, w), whose colours reach to the strongest value of each.
    """
    size = (TILE_PX, TILE_PX)
    tiles = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops]
    rows = [np.hstack(tiles)]
    for steps, top in zip(maps, strongest, strict=True):
        heats = [cv2.resize(step / top, size, interpolation=cv2.INTER_CUBIC).clip(0, 1) for step in steps]
        colours = [cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO) for heat in heats]
        pairs = zip(tiles, colours, strict=True)
        rows.append(np.hstack([cv2.addWeighted(tile, 0.55, colour, 0.45, 0) for tile, colour in pairs]))
    return cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
