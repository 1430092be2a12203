"""A contact sheet of one pre-processed video: what was found, second by second, to be looked at."""

import textwrap
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from utils.chunkfiles import MAX_FRAME_BYTES, MAX_FRAME_PIXELS, jpeg_pixels, read_wav
from utils.cli import legible
from utils.constants import CHUNK_FRAMES, CHUNK_SAMPLES, CROP_SIZE_PX, FPS, SAMPLE_RATE_HZ
from utils.files import read_bytes, replacing
from utils.media import open_source
from utils.pictures import to_rgb

MAX_CROPS = 12  # in a row
MAX_ROWS = 20
WAVE_POINTS = 1200  # in a row
LETTERS_PER_IN = 10  # of a title: what fits even if they are wide


def frame_at(path: Path, number: int) -> np.ndarray:
    """Frame `number` at 30 fps of a video as (H, W, 3) uint8 RGB."""
    n_frames = 0
    with open_source(path) as source:
        for frame, n in source.frames():
            n_frames += n
            if n_frames > number and frame is not None:
                return to_rgb(frame)
    raise ValueError(f"{path} has {n_frames} frames, expected more than {number}")


def read_jpeg(path: Path) -> np.ndarray:
    """A crop as (H, W, 3) uint8 RGB. OpenCV's own reading fails on names that are not text."""
    data = read_bytes(path, MAX_FRAME_BYTES)
    if not 0 < jpeg_pixels(data) <= MAX_FRAME_PIXELS:
        raise ValueError(f"{path} is no crop")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{path} is damaged")
    return image


def draw_preview(source: Path, folder: Path, record: dict, path: Path) -> None:
    """Write a contact sheet as JPEG: the boxes on a frame; per track the first crop of every chunk with its
    time, and the sound under it.

    Args:
        source: the video. `folder`: its chunks. `record`: its `video.json`.

    Raises:
        VideoError, ValueError: the video can't be read. OSError: a chunk can't be read. UserError: the sheet
            can't be written.
    """
    kinds = (("chunks", ""), ("without_sound", "no sound"), ("damaged", "damaged"), ("still", "never moves"))
    seconds = [(c["first_frame"], c["chunk"], why) for kind, why in kinds for c in record.get(kind, ())]
    # number of a track and seconds of it for a row; seconds are (first frame, chunk, why it is left out)
    tracks = []
    for i in range(len(record["tracks"])):
        prefix = f"{i:02d}_" if record["settings"]["tracks"] == "all" else ""
        own = sorted(second for second in seconds if second[1].startswith(prefix))
        tracks += [(i, own[k : k + MAX_CROPS]) for k in range(0, len(own), MAX_CROPS)]
    n_hidden = sum(len(own) for _, own in tracks[MAX_ROWS:])
    tracks = tracks[:MAX_ROWS]
    n_columns = max(len(own) for _, own in tracks)
    number = record["chunks"][0]["first_frame"]
    frame = frame_at(source, number)
    width_in = max(6, 1.17 * n_columns)
    figure = Figure(figsize=(width_in, 3.4 + 2.1 * len(tracks)), layout="constrained")
    top, *rows = figure.subplots(1 + 2 * len(tracks), 1, height_ratios=[4, *[2, 1] * len(tracks)])
    top.imshow(frame)
    for i, track in enumerate(record["tracks"]):
        if track["first_frame"] <= number <= track["last_frame"]:
            x1, y1, x2, y2 = track["boxes"][number - track["first_frame"]]
            top.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=2, color=f"C{i}"))
            top.text(
                max(x1, 0),
                max(y1, 0),
                f"track {i}",
                color="white",
                va="top",
                fontsize=7,
                bbox={"color": f"C{i}", "pad": 1},
            )
    name = legible(record["source"])
    left_out = (
        f", {len(seconds) - len(record['chunks'])} left out" if len(seconds) > len(record["chunks"]) else ""
    )
    hidden = f", the last {n_hidden} not shown" if n_hidden else ""
    what = f"{record['n_frames'] / FPS:.1f} s, {len(record['chunks'])} chunks{left_out}{hidden}"
    title = f"{name}: {what}, frame at {number / FPS:.2f} s"
    figure.suptitle(textwrap.fill(title, int(width_in * LETTERS_PER_IN)), fontsize=9, parse_math=False)
    top.set(xticks=[], yticks=[])
    silence, blank = (
        np.zeros(CHUNK_SAMPLES, np.int16),
        np.full((CROP_SIZE_PX, CROP_SIZE_PX, 3), 225, np.uint8),
    )
    sounds = [
        [silence if why else read_wav(folder / f"{chunk}.wav") for _, chunk, why in own] for _, own in tracks
    ]
    loudest = max(100, *(int(np.abs(samples.astype(int)).max()) for row in sounds for samples in row))
    for (i, own), sound, crops, wave in zip(tracks, sounds, rows[::2], rows[1::2], strict=True):
        pictures = [blank if why else read_jpeg(folder / chunk / f"{0:06d}.jpg") for _, chunk, why in own]
        crops.imshow(np.hstack([*pictures, *[np.full_like(blank, 255)] * (n_columns - len(pictures))]))
        for k, (first, _, why) in enumerate(own):
            crops.text(
                k * CROP_SIZE_PX + 6,
                8,
                f"{first / FPS:.2f} s {why}",
                fontsize=7,
                color="white",
                va="top",
                bbox={"color": f"C{i}", "pad": 1},
            )
        crops.set(xticks=[], yticks=[], ylabel=f"track {i}")
        sound = np.concatenate(sound)
        step = max(1, len(sound) // WAVE_POINTS)
        blocks = sound[: len(sound) // step * step].reshape(-1, step)
        at = np.arange(len(blocks)) * step / SAMPLE_RATE_HZ  # from the row's first second on
        wave.fill_between(at, blocks.min(1), blocks.max(1), lw=0, color="black")
        wave.set(xlim=(0, n_columns * CHUNK_FRAMES / FPS), ylim=(-loudest, loudest), xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=80, format="jpg")
