"""The format of a chunk on disk, the one place that writes and reads it: <video>/<chunk>/<frame>.jpg,
<chunk>.wav, video.json.
"""

import json
import re
import struct
import wave
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import cv2
import numpy as np

from utils.constants import CHUNKS_S, CROP_SIZE_PX, FPS, MAX_DURATION_S, SAMPLE_RATE_HZ, SECOND, ChunkLength
from utils.files import MAX_RECORD_BYTES, open_regular, read_bytes
from utils.jsonfiles import load_json

RECORD = "video.json"  # in a video's folder; its presence says that the folder is complete
CHUNK_NAME = re.compile(r"([0-9]+_)?[0-9]+")
MAX_FRAME_PIXELS = 1920 * 1080  # of a chunk of a second, whose 30 take 187 MB; ours have 224 x 224
MAX_FRAME_BYTES = 3 * MAX_FRAME_PIXELS
JPEG_END = b"\xff\xd9"
# of a JPEG: 0xFF, marker, length; in the frame's header bits, height, width
SEGMENT = struct.Struct(">xBHBHH")
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# the decoder can halve as it goes: frames 1/n as large
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


class IndexRow(NamedTuple):
    """One chunk in train_split.csv or test_split.csv, the columns that each of these has."""

    video: str  # <label>/<folder of the video>
    label: int  # see `LABELS`
    track: int
    chunk: str  # see `chunk_name`
    path: str  # of the folder with its frames, below the folder of the index
    start_s: float  # from the video's first picture on


INDEX_COLUMNS = IndexRow._fields


class ChunkRecord(TypedDict):
    """One chunk of a face track."""

    chunk: str  # its name, see `chunk_name`
    first_frame: int  # at 30 fps, from the video's first picture on


class TrackRecord(TypedDict):
    """One face through one shot."""

    first_frame: int
    last_frame: int
    boxes: list[list[float]]  # of each frame: x1 y1 x2 y2 in pixels of the upright video
    still: NotRequired[bool]  # True where the face never moves, else it is not there


class ChunksByKind(TypedDict):
    """The chunks of a video, and those that were left out, by the reason."""

    chunks: list[ChunkRecord]  # which are on disk
    without_sound: list[ChunkRecord]
    damaged: list[ChunkRecord]  # in the video file
    still: NotRequired[list[ChunkRecord]]  # of a face that never moves beside one that does


class VideoRecord(ChunksByKind):
    """What `video.json` says of a video. Files of earlier versions may lack fields, see `is_record`."""

    source: str  # name of the video file
    source_bytes: int
    settings_hash: str
    settings: dict[str, Any]  # see `preprocessing.settings.Settings`
    n_frames: int  # at 30 fps, up to the last picture
    shots: list[int]  # their first frames
    n_tracks_found: int  # of which `tracks` are kept
    tracks: list[TrackRecord]
    warnings: list[str]  # what was wrong with the file or with the choice of the face
    timings: dict[str, float]  # when picture and sound begin and end, in seconds on the file's clock


def chunk_name(number: int, track: int | None = None) -> str:
    """The name of a track's chunk; with the track's number where all tracks of a video are kept."""
    return f"{number:05d}" if track is None else f"{track:02d}_{number:05d}"


def track_of(name: str) -> int:
    """The number of the track that a chunk belongs to, by the chunk's name."""
    track = name.rpartition("_")[0]
    return int(track) if track.isdecimal() else 0


def frame_path(chunk: Path, number: int) -> Path:
    return chunk / f"{number:06d}.jpg"


def sound_path(chunk: Path) -> Path:
    """The sound of the chunk whose frames lie in the folder `chunk`."""
    return chunk.with_name(f"{chunk.name}.wav")


def index_path(out_dir: Path, split: str) -> Path:
    return out_dir / f"{split}_split.csv"


def write_frames(chunk: Path, jpegs: Sequence[bytes]) -> None:
    """Write a chunk's frames, which are JPEG files already."""
    chunk.mkdir(parents=True)
    for number, jpeg in enumerate(jpegs):
        frame_path(chunk, number).write_bytes(jpeg)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write (n,) int16 mono samples at 48 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def jpeg_pixels(data: bytes) -> int:
    """How many pixels a JPEG file claims to have; 0 if it is none. PIL takes twenty times as long to tell."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length, _, height, width = SEGMENT.unpack_from(data, at)
        if marker in FRAME_HEADERS:
            return height * width
        at += 2 + length
    return 0


def read_wav(path: Path, length: ChunkLength = SECOND) -> np.ndarray:
    """Read a chunk's sound, (n_samples,) int16; ValueError or OSError if it is anything else."""
    n_expected = length.n_samples
    try:
        with open_regular(path) as raw, wave.open(raw) as file:
            kind = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate())
            n_samples = file.getnframes()
            is_right = kind == (1, 16, SAMPLE_RATE_HZ) and n_samples == n_expected  # as it claims
            data = file.readframes(n_expected) if is_right else b""
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path.name} is no WAV file ({error or 'cut'})") from error
    if len(data) != 2 * n_expected:
        n_samples = len(data) // 2 if is_right else n_samples
        got = f"{n_samples} samples, {kind[0]} channel(s), {kind[1]} bits, {kind[2]} Hz"
        expected = f"{n_expected} samples, 1 channel, 16 bits, {SAMPLE_RATE_HZ} Hz"
        raise ValueError(f"{path.name} has {got}, expected {expected}")
    return np.frombuffer(data, "<i2")


def write_record(folder: Path, record: VideoRecord) -> None:
    (folder / RECORD).write_text(json.dumps(record))


def read_record(folder: Path) -> VideoRecord | None:
    """The record of a complete video folder; None if it has none, or something that is no record."""
    try:
        record: Any = load_json(folder / RECORD, MAX_RECORD_BYTES)
        return cast(VideoRecord, record) if is_record(record) else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def length_of(record: VideoRecord | None) -> ChunkLength:
    """How long the chunks of a video are, by its record; a second if that does not say."""
    return ChunkLength.of(record["settings"].get("chunk_s", SECOND.chunk_s)) if record else SECOND


def is_record(record: Any) -> bool:
    """Whether a JSON value is a record; also ones of earlier versions, which lack fields.

    Names in it become paths, so that they are checked well. Any error says that it is none, too.
    """
    kinds = {"source": str, "source_bytes": int, "settings": dict, "chunks": list}
    if not all(isinstance(record[name], kind) for name, kind in kinds.items()):
        return False
    if record["settings"].get("chunk_s", SECOND.chunk_s) not in CHUNKS_S:
        return False
    is_name = Path(record["source"]).name == record["source"] != ".."
    if not is_name or not isinstance(record.get("settings_hash", ""), str):
        return False
    for kind in ChunksByKind.__annotations__:
        for chunk in record.get(kind, ()):
            is_in_time = 0 <= chunk["first_frame"] <= MAX_DURATION_S * FPS
            if not is_in_time or not CHUNK_NAME.fullmatch(chunk["chunk"]):
                return False
    return all(isinstance(warning, str) for warning in record.get("warnings", ()))


def chunk_frames(folder: Path, length: ChunkLength = SECOND) -> list[Path]:
    """The frame files of a chunk in order of their numbers; ValueError unless there are as many as needed."""
    frames = [p for p in folder.iterdir() if p.suffix == ".jpg"]
    odd = [p.name for p in frames if not p.stem.isdecimal()]
    if odd:
        raise ValueError(f"frame {odd[0]} has no number")
    # DEVIATION: sorted by number; the authors read a folder in the order the file system lists it
    frames.sort(key=lambda p: int(p.stem))
    if len(frames) != length.n_frames:
        raise ValueError(f"{len(frames)} frames, expected {length.n_frames}")
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


def read_video(folder: Path, img_dim: int | None = None, length: ChunkLength = SECOND) -> np.ndarray:
    """Read a chunk's frames, as `decode_video` does.

    Raises:
        OSError: the folder or a file can't be read.
        ValueError: not as many frames as it takes, or what `decode_video` raises.
    """
    jpegs = ((path.name, frame_bytes(path)) for path in chunk_frames(folder, length))
    return decode_video(jpegs, img_dim, length)


def read_crop(path: Path) -> np.ndarray:
    """One frame as (H, W, 3) uint8 RGB, see `decode_frame`; OSError or ValueError if it can't be read."""
    frame = decode_frame(frame_bytes(path))
    if frame is None:
        raise ValueError(f"frame {path.name} is damaged")
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def decode_video(
    jpegs: Iterable[tuple[str, bytes]], img_dim: int | None = None, length: ChunkLength = SECOND
) -> np.ndarray:
    """Decode a chunk's frames: (T=30, H, W, 3) uint8 RGB, resized to `img_dim` pixels square if given.

    Args:
        jpegs: their names and contents, in order.

    Raises:
        ValueError: a frame that is cut off, too large or no JPEG, frames of several sizes, no frame.
    """
    # a crop of 224 pixels is never decoded whole for frames of 112 or less
    scale = next((scale for scale in REDUCED if img_dim and img_dim * scale <= CROP_SIZE_PX), 1)
    video: np.ndarray | None = None  # made for the size of the first frame
    size: tuple[int, ...] | None = None
    for i, (name, data) in enumerate(jpegs):
        frame = decode_frame(data, scale)
        if img_dim and scale > 1 and frame is not None and min(frame.shape[:2]) < img_dim:
            scale = 1  # a smaller crop than ours
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
            video = np.empty((length.n_frames, *frame.shape), np.uint8)
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=video[i])
    if video is None:
        raise ValueError(f"no frames, expected {length.n_frames}")
    return video


def check_chunk(chunk: Path, length: ChunkLength = SECOND) -> str | None:
    """Why a chunk can't be used, or None: 30 readable frames of one size and 48,000 samples of sound, or what
    another length asks for.
    """
    try:
        read_video(chunk, length=length)
        read_wav(sound_path(chunk), length)
    except FileNotFoundError as error:
        return f"no {Path(error.filename).name}"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def list_chunks(video: Path, record: VideoRecord | None) -> list[tuple[str, float]]:
    """Name and start in seconds of each chunk of a video, by its folder and its record, in order of names.

    Without a record (chunks made by the authors' code) a chunk's number is its second in the track.
    """
    chunk_s = length_of(record).chunk_s
    names = {p.name for p in video.iterdir() if p.is_dir()} | {p.stem for p in video.glob("*.wav")}
    starts = {chunk["chunk"]: chunk["first_frame"] / FPS for chunk in record["chunks"]} if record else {}
    chunks = []
    for name in sorted(names | set(starts)):
        number = name.rpartition("_")[2]
        by_name_s = float(number) * chunk_s if number.isdecimal() else 0.0
        chunks.append((name, starts.get(name, by_name_s)))
    return chunks
