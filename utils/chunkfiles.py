"""The format of a chunk on disk, the one place that writes and reads it: <video>/<chunk>/<frame>.jpg,
<chunk>.wav, video.json.
"""

import re
import struct
import wave
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from utils.constants import CHUNK_FRAMES, CHUNK_SAMPLES, CROP_SIZE_PX, FPS, MAX_DURATION_S, SAMPLE_RATE_HZ
from utils.files import MAX_RECORD_BYTES, open_regular, read_bytes
from utils.jsonfiles import load_json

MAX_FRAME_PIXELS = 1920 * 1080  # of a chunk, whose 30 take 187 MB; ours have 224 x 224
MAX_FRAME_BYTES = 3 * MAX_FRAME_PIXELS
SEGMENT = struct.Struct(
    ">xBHBHH"
)  # of a JPEG: 0xFF, marker, length; in the frame's header bits, height, width
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write (n,) int16 mono samples at 48 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def jpeg_pixels(data: bytes) -> int:
    """How many pixels a JPEG file claims to have; 0 if it is none."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length, _, height, width = SEGMENT.unpack_from(data, at)
        if marker in FRAME_HEADERS:
            return height * width
        at += 2 + length
    return 0


def read_wav(path: Path) -> np.ndarray:
    """Read a chunk's sound, (48000,) int16; ValueError or OSError if it is anything else."""
    try:
        with open_regular(path) as raw, wave.open(raw) as file:
            kind, n_samples = (
                (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()),
                file.getnframes(),
            )
            is_right = kind == (1, 16, SAMPLE_RATE_HZ) and n_samples == CHUNK_SAMPLES  # as it claims
            data = file.readframes(CHUNK_SAMPLES) if is_right else b""
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path.name} is no WAV file ({error or 'cut'})") from error
    if len(data) != 2 * CHUNK_SAMPLES:
        n_samples = len(data) // 2 if is_right else n_samples
        got = f"{n_samples} samples, {kind[0]} channel(s), {kind[1]} bits, {kind[2]} Hz"
        raise ValueError(
            f"{path.name} has {got}, expected {CHUNK_SAMPLES} samples, 1 channel, 16 bits, {SAMPLE_RATE_HZ} Hz"
        )
    return np.frombuffer(data, "<i2")


RECORD = "video.json"  # in a video's folder; its presence says that the folder is complete
CHUNK_NAME = re.compile(r"([0-9]+_)?[0-9]+")


def read_record(folder: Path) -> dict | None:
    """The record of a complete video folder; None if it has none, or none that `process_video` can have
    written.
    """
    try:
        record = load_json(folder / RECORD, MAX_RECORD_BYTES)
        kinds = {"source": str, "source_bytes": int, "settings": dict, "chunks": list}
        is_ours = all(isinstance(record[name], kind) for name, kind in kinds.items())
        is_ours &= (
            isinstance(record.get("settings_hash", ""), str)
            and Path(record["source"]).name == record["source"] != ".."
        )
        for chunk in (
            chunk
            for kind in ("chunks", "without_sound", "damaged", "still")
            for chunk in record.get(kind, ())
        ):
            # names become paths
            is_ours &= (
                CHUNK_NAME.fullmatch(chunk["chunk"]) is not None
                and 0 <= chunk["first_frame"] <= MAX_DURATION_S * FPS
            )
        is_ours &= all(isinstance(warning, str) for warning in record.get("warnings", ()))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return record if is_ours else None


JPEG_END = b"\xff\xd9"
REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}  # decoded 1/n as large


def chunk_frames(folder: Path) -> list[Path]:
    """The frame files of a chunk in order of their numbers; ValueError unless there are 30."""
    frames = [p for p in folder.iterdir() if p.suffix == ".jpg"]
    odd = [p.name for p in frames if not p.stem.isdecimal()]
    if odd:
        raise ValueError(f"frame {odd[0]} has no number")
    # DEVIATION: sorted by number; the authors read a folder in the order the file system lists it
    frames.sort(key=lambda p: int(p.stem))
    if len(frames) != CHUNK_FRAMES:
        raise ValueError(f"{len(frames)} frames, expected {CHUNK_FRAMES}")
    return frames


def frame_bytes(path: Path) -> bytes:
    """The content of a frame's file; ValueError if it is no file, or too large for one, as a file with holes
    may claim to be.
    """
    try:
        return read_bytes(path, MAX_FRAME_BYTES)
    except ValueError as error:
        raise ValueError(f"frame {error}") from error


def decode_frame(data: bytes, scale: int = 1) -> np.ndarray | None:
    """A JPEG as (H, W, 3) uint8 BGR, 1/scale as large; None if it can't be decoded, ValueError if it is too
    large.
    """
    if not data.endswith(JPEG_END):  # decoders fill the rest of a cut picture with grey
        return None
    n_pixels = jpeg_pixels(data)
    if n_pixels > MAX_FRAME_PIXELS:  # before memory is taken for them
        raise ValueError(f"a frame claims {n_pixels:,} pixels, expected at most {MAX_FRAME_PIXELS:,}")
    if not n_pixels:
        return None
    return cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED.get(scale, cv2.IMREAD_COLOR))


def read_video(folder: Path, img_dim: int | None = None) -> np.ndarray:
    """Read a chunk's frames, as `decode_video` does.

    Raises:
        OSError: the folder or a file can't be read.
        ValueError: not 30 frames, or what `decode_video` raises.
    """
    return decode_video(((path.name, frame_bytes(path)) for path in chunk_frames(folder)), img_dim)


def decode_video(jpegs: Iterable[tuple[str, bytes]], img_dim: int | None = None) -> np.ndarray:
    """Decode a chunk's 30 frames: (T=30, H, W, 3) uint8 RGB, resized to `img_dim` pixels square if given.

    Args:
        jpegs: their names and contents, in order.

    Raises:
        ValueError: a frame that is cut off, too large or no JPEG, frames of several sizes.
    """
    # the decoder can halve as it goes: a crop of 224 pixels is never decoded whole for frames of 112 or less
    scale = next((scale for scale in REDUCED if img_dim and img_dim * scale <= CROP_SIZE_PX), 1)
    video = size = None
    for i, (name, data) in enumerate(jpegs):
        frame = decode_frame(data, scale)
        if scale > 1 and frame is not None and min(frame.shape[:2]) < img_dim:  # a smaller crop than ours
            scale = 1
            frame = decode_frame(data)
        if frame is None:
            raise ValueError(f"frame {name} is damaged")
        size = size or frame.shape
        if frame.shape != size:
            raise ValueError("frames of several sizes")
        if img_dim and size[:2] != (img_dim, img_dim):
            how = cv2.INTER_AREA if min(size[:2]) > img_dim else cv2.INTER_LINEAR
            frame = cv2.resize(frame, (img_dim, img_dim), interpolation=how)
        if video is None:
            video = np.empty((CHUNK_FRAMES, *frame.shape), np.uint8)
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=video[i])
    return video


INDEX_COLUMNS = ("video", "label", "track", "chunk", "path", "start_s")


def index_path(out_dir: Path, split: str) -> Path:
    return out_dir / f"{split}_split.csv"
