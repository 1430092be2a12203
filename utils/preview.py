"""A contact sheet of one pre-processed video: what was found, second by second, to be looked at."""

from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from utils.files import replacing
from utils.media import CHUNK_FRAMES, FPS, SAMPLE_RATE_HZ, open_source, read_wav, to_rgb

MAX_CROPS = 12  # in a row
MAX_ROWS = 20
WAVE_POINTS = 1200  # in a row


def read_frame(path: Path, number: int) -> np.ndarray:
    """Frame `number` at 30 fps of a video as (H, W, 3) uint8 RGB."""
    n_frames = 0
    with open_source(path) as source:
        for frame, n in source.frames():
            n_frames += n
            if n_frames > number:
                return to_rgb(frame)
    raise ValueError(f"{path} has {n_frames} frames, expected more than {number}")


def draw_preview(source: Path, folder: Path, record: dict, path: Path) -> None:
    """Write a contact sheet as JPEG: the boxes on a frame; per track the first crop of every chunk with its time, and the
    sound under it.

    Args:
        source: the video. `folder`: its chunks. `record`: its `video.json`.

    Raises:
        VideoError, ValueError: the video can't be read. OSError: a chunk can't be read. UserError: the sheet can't be written.
    """
    tracks = []  # number of a track and chunks of it for a row; the chunks are in order of time
    for i in range(len(record["tracks"])):
        prefix = f"{i:02d}_" if record["settings"]["tracks"] == "all" else ""
        chunks = [c for c in record["chunks"] if c["chunk"].startswith(prefix)]
        tracks += [(i, chunks[k : k + MAX_CROPS]) for k in range(0, len(chunks), MAX_CROPS)]
    n_left_out = sum(len(chunks) for _, chunks in tracks[MAX_ROWS:])
    tracks = tracks[:MAX_ROWS]
    number = record["chunks"][0]["first_frame"]
    frame = read_frame(source, number)
    figure = Figure(figsize=(14, 3.4 + 2.1 * len(tracks)), layout="constrained")
    top, *rows = figure.subplots(1 + 2 * len(tracks), 1, height_ratios=[4, *[2, 1] * len(tracks)])
    top.imshow(frame)
    for i, track in enumerate(record["tracks"]):
        if track["first_frame"] <= number <= track["last_frame"]:
            x1, y1, x2, y2 = track["boxes"][number - track["first_frame"]]
            top.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=2, color=f"C{i}"))
            top.text(x1, y1, f"track {i}", color="white", va="bottom", fontsize=7, bbox={"color": f"C{i}", "pad": 1})
    name = record["source"].encode(errors="surrogateescape").decode(errors="replace")  # it need not be text
    hidden = f", the last {n_left_out} not shown" if n_left_out else ""
    top.set_title(
        f"{name}: {record['n_frames'] / FPS:.1f} s, {len(record['chunks'])} chunks{hidden}, frame at {number / FPS:.2f} s",
        fontsize=9, parse_math=False,
    )  # fmt: skip
    top.set(xticks=[], yticks=[])
    sounds = [[read_wav(folder / f"{c['chunk']}.wav") for c in chunks] for _, chunks in tracks]
    loudest = max(100, *(int(np.abs(samples.astype(int)).max()) for row in sounds for samples in row))
    for (i, chunks), sound, crops, wave in zip(tracks, sounds, rows[::2], rows[1::2], strict=True):
        files = [folder / c["chunk"] / f"{0:06d}.jpg" for c in chunks]
        pictures = [cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB) for file in files]
        blank = np.full_like(pictures[0], 255)
        crops.imshow(np.hstack([*pictures, *[blank] * (MAX_CROPS - len(pictures))]))
        size = pictures[0].shape[1]
        for k, chunk in enumerate(chunks):
            crops.text(k * size + 6, 8, f"{chunk['first_frame'] / FPS:.2f} s", fontsize=7, color="white", va="top",
                       bbox={"color": f"C{i}", "pad": 1})  # fmt: skip
        crops.set(xticks=[], yticks=[], ylabel=f"track {i}")
        sound = np.concatenate(sound)
        step = max(1, len(sound) // WAVE_POINTS)
        blocks = sound[: len(sound) // step * step].reshape(-1, step)
        at = np.arange(len(blocks)) * step / SAMPLE_RATE_HZ  # seconds of the chunks, which need not be consecutive
        wave.fill_between(at, blocks.min(1), blocks.max(1), lw=0, color="black")
        wave.set(xlim=(0, MAX_CROPS * CHUNK_FRAMES / FPS), ylim=(-loudest, loudest), xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=80, format="jpg")
