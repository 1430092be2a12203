"""A contact sheet of one pre-processed video: what was found, second by second, to be looked at."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from utils.chunkfiles import VideoRecord, frame_path, length_of, read_crop, read_wav, sound_path, track_of
from utils.cli import legible
from utils.constants import CROP_SIZE_PX, FPS, SAMPLE_RATE_HZ, ChunkLength
from utils.files import replacing
from utils.media import open_source
from utils.pictures import to_rgb

MAX_CROPS = 12  # in a row
MAX_ROWS = 20
WAVE_POINTS = 1200  # in a row
LETTERS_PER_IN = 10  # of a title: what fits even if they are wide
LEAST_LOUD = 100  # of 32768: quieter sound is not drawn larger
BLANK = np.full((CROP_SIZE_PX, CROP_SIZE_PX, 3), 225, np.uint8)  # in the place of a chunk that is left out
WHITE = np.full_like(BLANK, 255)  # after the last chunk of a row


def frame_at(path: Path, number: int) -> np.ndarray:
    """Frame `number` at 30 fps of a video as (H, W, 3) uint8 RGB."""
    n_frames = 0
    with open_source(path) as source:
        for frame, n in source.frames():
            n_frames += n
            if n_frames > number and frame is not None:
                return to_rgb(frame)
    raise ValueError(f"{path} has {n_frames} frames, expected more than {number}")


@dataclass
class Cell:
    """One chunk of a track on the sheet."""

    first_frame: int  # in the video
    chunk: str  # its name
    why: str  # it is left out; empty if it is not
    length: ChunkLength

    def picture(self, folder: Path) -> np.ndarray:
        return BLANK if self.why else read_crop(frame_path(folder / self.chunk, 0))

    def sound(self, folder: Path) -> np.ndarray:
        if self.why:
            return np.zeros(self.length.n_samples, np.int16)
        return read_wav(sound_path(folder / self.chunk), self.length)


Row = tuple[int, list[Cell]]  # the number of a track and some of its chunks


def arrange(record: VideoRecord) -> list[Row]:
    """All chunks of all tracks, kept or left out, in rows."""
    kinds = {
        "": record["chunks"],
        "no sound": record.get("without_sound", ()),
        "damaged": record.get("damaged", ()),
        "never moves": record.get("still", ()),
    }
    length = length_of(record)
    cells = [Cell(c["first_frame"], c["chunk"], why, length) for why, chunks in kinds.items() for c in chunks]
    cells.sort(key=lambda cell: (cell.first_frame, cell.chunk))
    rows: list[Row] = []
    for i in range(len(record["tracks"])):
        own = [cell for cell in cells if track_of(cell.chunk) == i]
        rows += [(i, own[k : k + MAX_CROPS]) for k in range(0, len(own), MAX_CROPS)]
    return rows


def draw_frame(axes: Axes, frame: np.ndarray, number: int, record: VideoRecord) -> None:
    """Draw frame `number` of the video and the boxes of its tracks."""
    axes.imshow(frame)
    for i, track in enumerate(record["tracks"]):
        if track["first_frame"] <= number <= track["last_frame"]:
            x1, y1, x2, y2 = track["boxes"][number - track["first_frame"]]
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=2, color=f"C{i}"))
            write_on(axes, max(x1, 0), max(y1, 0), f"track {i}", i)
    axes.set(xticks=[], yticks=[])


def write_on(axes: Axes, x: float, y: float, words: str, track: int) -> None:
    """Write words on a picture, on the colour of a track."""
    box = {"color": f"C{track}", "pad": 1}
    axes.text(x, y, words, color="white", va="top", fontsize=7, bbox=box)


def draw_crops(axes: Axes, row: Row, folder: Path, n_columns: int) -> None:
    """Draw the first crop of each chunk of a row, side by side, with its time."""
    track, cells = row
    pictures = [cell.picture(folder) for cell in cells]
    axes.imshow(np.hstack(pictures + [WHITE] * (n_columns - len(pictures))))
    for k, cell in enumerate(cells):
        words = f"{cell.first_frame / FPS:.2f} s {cell.why}"
        write_on(axes, k * CROP_SIZE_PX + 6, 8, words, track)
    axes.set(xticks=[], yticks=[], ylabel=f"track {track}")


def draw_wave(axes: Axes, samples: np.ndarray, loudest: int, row_s: float) -> None:
    """Draw the sound of a row, (n,) int16, which takes at most `row_s` seconds."""
    step = max(1, len(samples) // WAVE_POINTS)
    blocks = samples[: len(samples) // step * step].reshape(-1, step)
    at_s = np.arange(len(blocks)) * step / SAMPLE_RATE_HZ  # from the row's first second on
    axes.fill_between(at_s, blocks.min(1), blocks.max(1), lw=0, color="black")
    axes.set(xlim=(0, row_s), ylim=(-loudest, loudest), xticks=[], yticks=[])


def sheet_title(record: VideoRecord, number: int, rows: Sequence[Row]) -> str:
    """The title of a sheet that shows frame `number` and the first `MAX_ROWS` of the rows."""
    n_chunks = len(record["chunks"])
    n_left_out = sum(cell.why != "" for _, cells in rows for cell in cells)
    left_out = f", {n_left_out} left out" if n_left_out else ""
    n_hidden = sum(len(cells) for _, cells in rows[MAX_ROWS:])
    not_shown = f", the last {n_hidden} not shown" if n_hidden else ""
    what = f"{record['n_frames'] / FPS:.1f} s, {n_chunks} chunks{left_out}{not_shown}"
    return f"{legible(record['source'])}: {what}, frame at {number / FPS:.2f} s"


def draw_preview(source: Path, folder: Path, record: VideoRecord, path: Path) -> None:
    """Write a contact sheet as JPEG: the boxes on a frame; per track the first crop of every chunk with its
    time, and the sound under it.

    Args:
        source: the video. `folder`: its chunks. `record`: its `video.json`.

    Raises:
        VideoError, ValueError: the video can't be read. OSError: a chunk can't be read. UserError: the sheet
            can't be written.
    """
    every_row = arrange(record)
    rows = every_row[:MAX_ROWS]
    n_columns = max(len(cells) for _, cells in rows)
    number = record["chunks"][0]["first_frame"]
    frame = frame_at(source, number)
    width_in = max(6, 1.17 * n_columns)
    figure = Figure(figsize=(width_in, 3.4 + 2.1 * len(rows)), layout="constrained")
    title = textwrap.fill(sheet_title(record, number, every_row), int(width_in * LETTERS_PER_IN))
    figure.suptitle(title, fontsize=9, parse_math=False)
    ratios = [4, *[2, 1] * len(rows)]
    top, *others = figure.subplots(1 + 2 * len(rows), 1, height_ratios=ratios)
    draw_frame(top, frame, number, record)
    sounds = [np.concatenate([cell.sound(folder) for cell in cells]) for _, cells in rows]
    loudest = max(LEAST_LOUD, *(int(np.abs(samples.astype(int)).max()) for samples in sounds))
    for row, samples, crops, wave in zip(rows, sounds, others[::2], others[1::2], strict=True):
        draw_crops(crops, row, folder, n_columns)
        draw_wave(wave, samples, loudest, n_columns * length_of(record).chunk_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=80, format="jpg")
