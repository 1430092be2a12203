"""The page of a verdict, report.html: all that is known of one video, in one file."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np

from preprocessing.chunking import ChunkWriter
from utils.chunkfiles import decode_frame
from utils.cli import legible
from utils.pages import data_uri, write_page
from verdicts.schema import Looks, Verdict
from verdicts.scoring import Second
from verdicts.timeline import MAX_NAMED, TRACK_COLOURS, Spans, page_curve
from verdicts.verdict import TrackScores, looks
from verdicts.words import CAVEATS, apart, in_capitals

TEMPLATE = Path(__file__).parent / "templates" / "verdict.html"
MAX_CARDS = 60  # seconds shown with pictures and maps on a page
MAX_PAGE_MB = 64  # of video inside a page
TILE_PX = 96
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


def write_verdict_page(
    folder: Path,
    verdict: Verdict,
    tracks: Sequence[TrackScores],
    true_spans: Spans | None,
    cards: Sequence[Card],
    n_hidden: int,
    training: str,
) -> None:
    """Write report.html beside annotated.mp4, which it holds unless that is large.

    Args:
        cards: of the seconds that are shown. `n_hidden`: how many are not.
        training: what is known of the model's training, in words.
    """
    video = folder / "annotated.mp4"
    is_inside = video.stat().st_size <= MAX_PAGE_MB * 10**6
    name, (mds_text, threshold_text) = legible(verdict["file"]), apart(verdict["mds"], verdict["threshold"])
    write_page(
        folder / "report.html",
        TEMPLATE,
        title=f"{name}: {in_capitals(verdict)}",
        name=name,
        mds_text=mds_text,
        threshold_text=threshold_text,
        verdict=verdict,
        curve=page_curve(tracks, verdict, true_spans),
        max_named=MAX_NAMED,
        colours=TRACK_COLOURS,
        cards=cards,
        n_hidden=n_hidden,
        n_places=cards[0]["n_places"] if cards else "no",
        caveats=CAVEATS,
        facts=facts_of(verdict, training),
        video_file=None if is_inside else video.name,
        video_base64=base64.b64encode(video.read_bytes()).decode() if is_inside else "",
    )


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


def make_cards(seconds: Sequence[Second], writers: Sequence[ChunkWriter], threshold: float) -> list[Card]:
    """What the page shows of the seconds: of at most `MAX_CARDS` those with the highest scores, in order of
    time.
    """
    if not seconds:
        return []
    strongest = [max(float(second.maps[i].max()) for second in seconds) or 1.0 for i in (0, 1)]
    chosen = sorted(seconds, key=lambda second: -second.scores[0])[:MAX_CARDS]
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
