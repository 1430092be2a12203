"""Decoding: pictures at a constant 30 fps, sound at 48 kHz mono on the same clock, whatever the source is.

Time 0 is the first picture of the video. Everything is read by PyAV; no ffmpeg program is needed.
"""

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = 30
SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
CHUNK_FRAMES = 30  # 1 s
CHUNK_SAMPLES = CHUNK_FRAMES * SAMPLES_PER_FRAME

MAX_DURATION_S = 24 * 3600  # more than this is a broken time stamp
MAX_SOUND_JUMP_S = 0.04  # smaller jumps between audio packets are rounding of their time stamps
MAX_CORRUPT_PACKETS = 1000


class VideoError(Exception):
    """One video can't be used: `stage` is where it failed (open, video, audio, length, face, track, chunk), the text says why."""

    def __init__(self, stage: str, reason: str):
        super().__init__(reason)
        self.stage = stage


@dataclass
class Sound:
    """Mono 16-bit sound at 48 kHz from time 0 on.

    `samples` is (n,) int16, zero where the source has none; `present` is a list of (start, stop) sample indices
    that the source does cover, in order of time.
    """

    samples: np.ndarray
    present: list[tuple[int, int]]

    def n_missing(self, start: int, stop: int) -> int:
        """How many of the samples start .. stop-1 the source has no sound for."""
        return (stop - start) - sum(max(0, min(stop, b) - max(start, a)) for a, b in self.present)


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, on one line, without its number or our path."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def open_container(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a media file for reading; VideoError if it is none."""
    if path.is_dir():
        raise VideoError("open", "is a folder, not a video; move its videos up")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError("open", f"can't be opened as a video: {reason(error)}") from error
    with container:
        yield container


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first moving picture (cover art does not count)."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    raise VideoError("video", "has no video stream")


def decode(container: av.container.InputContainer, stream: av.stream.Stream) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Decode one stream, stepping over corrupt packets; VideoError where the file can't be read on or is mostly broken."""
    n_corrupt = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            raise VideoError(stream.type, f"can't be read to its end: {reason(error)}") from error
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            n_corrupt += 1
            if n_corrupt > MAX_CORRUPT_PACKETS:
                raise VideoError(stream.type, f"more than {MAX_CORRUPT_PACKETS} corrupt packets: {reason(error)}") from error
            continue
        yield from frames


def start_time(path: Path) -> Fraction:
    """Check that a file has picture and sound, and say when the first picture is shown.

    Returns seconds on the container's clock: time 0 of `read_frames` and `read_sound`.

    Raises:
        VideoError: not a video, no video stream, no audio stream, or no picture that can be decoded.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        if not container.streams.audio:
            raise VideoError("audio", "has no sound")
        for frame in decode(container, stream):
            return frame.pts * frame.time_base if frame.pts is not None else Fraction(0)
    raise VideoError("video", "has no picture that can be decoded")


def read_frames(path: Path) -> Iterator[tuple[av.VideoFrame, int]]:
    """Decode a video at a constant 30 fps.

    Yields (frame, n): a source frame and for how many consecutive output frames it stands (n >= 1). Output frame k is
    the last source frame whose time, rounded to the nearest 1/30 s, is at most k/30 s; source frames that no output
    frame shows are left out.

    Raises:
        VideoError: not a video, no video stream, or time stamps beyond `MAX_DURATION_S`.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        step = 1 / Fraction(stream.average_rate or stream.guessed_rate or FPS)  # of a frame without time or duration
        held, held_index, origin, end = None, 0, None, Fraction(0)
        for frame in decode(container, stream):
            time = end if frame.pts is None else frame.pts * frame.time_base
            if origin is None:
                origin = time
            index = round_half_up((time - origin) * FPS)
            end = time + (frame.duration * frame.time_base if frame.duration else step)
            if max(time, end) - origin > MAX_DURATION_S:
                raise VideoError("video", f"a picture claims to come {float(end - origin):.0f} s after the first one")
            if held is not None and index > held_index:
                yield held, index - held_index
                held_index = index
            held = frame if index >= held_index else held  # a picture that comes late (time runs back) is left out
        if held is None:
            raise VideoError("video", "has no picture that can be decoded")
        yield held, max(1, round_half_up((end - origin) * FPS) - held_index)


def round_half_up(x: Fraction) -> int:
    return int((x + Fraction(1, 2)) // 1)


def to_rgb(frame: av.VideoFrame, width: int | None = None, height: int | None = None) -> np.ndarray:
    """A decoded frame as (H, W, 3) uint8 RGB, turned upright as its metadata say.

    `width` and `height` in pixels, of the picture as stored, shrink it (bilinear) in the same step.
    """
    rgb = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BILINEAR")
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns else rgb


def read_sound(path: Path, origin: Fraction, n_samples: int) -> Sound:
    """Decode a video's first sound track to 48 kHz mono.

    Sound that begins late or has holes leaves zeros there; sound before time 0 or after `n_samples` is cut off.

    Args:
        origin: time 0 in seconds on the container's clock (`start_time`).
        n_samples: how many samples to return.

    Raises:
        VideoError: nothing in the audio stream can be decoded.
    """
    samples = np.zeros(n_samples, np.int16)
    present: list[tuple[int, int]] = []
    with open_container(path) as container:
        resampler, position, expected = None, None, None

        def place(frames) -> None:
            """Put resampled frames at `position`, the sample that comes next."""
            nonlocal position
            for frame in frames:
                block = frame.to_ndarray()[0]
                # sound that comes late (time runs back) is left out, as late pictures are
                start, stop = max(present[-1][1] if present else 0, position), min(n_samples, position + len(block))
                if start < stop:
                    samples[start:stop] = block[start - position : stop - position]
                    if present and present[-1][1] >= start:
                        present[-1] = (present[-1][0], stop)
                    else:
                        present.append((start, stop))
                position += len(block)

        for frame in decode(container, container.streams.audio[0]):
            time = expected if frame.pts is None else frame.pts * frame.time_base
            if time is None:
                time = origin
            if resampler is None or abs(time - expected) > MAX_SOUND_JUMP_S:
                if resampler is not None:
                    place(resampler.resample(None))
                resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
                position = round_half_up((time - origin) * SAMPLE_RATE_HZ)
                expected = time
            expected += Fraction(frame.samples, frame.sample_rate)
            frame.pts = None  # the time is kept here; the resampler only sees consecutive sound
            place(resampler.resample(frame))
        if resampler is not None:
            place(resampler.resample(None))
    if not present:
        raise VideoError("audio", "has no sound that can be decoded")
    return Sound(samples, present)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write (n,) int16 mono samples at 48 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def read_wav(path: Path) -> np.ndarray:
    """Read a chunk's sound, (48000,) int16; ValueError or OSError if it is anything else."""
    try:
        with wave.open(str(path)) as file:
            kind = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate())
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path.name} is no WAV file ({error or 'cut'})") from error
    n_samples = len(data) * 8 // (kind[0] * kind[1])
    if kind != (1, 16, SAMPLE_RATE_HZ) or n_samples != CHUNK_SAMPLES or len(data) % 2:
        got = f"{n_samples} samples, {kind[0]} channel(s), {kind[1]} bits, {kind[2]} Hz"
        raise ValueError(f"{path.name} has {got}, expected {CHUNK_SAMPLES} samples, 1 channel, 16 bits, {SAMPLE_RATE_HZ} Hz")
    return np.frombuffer(data, "<i2")
