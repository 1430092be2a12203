"""One video written again with a perturbation: an MP4 file of H.264 and FLAC, or of streams as they were."""

import contextlib
import itertools
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer, OutputContainer

from perturbations.kinds import Kind, generator
from perturbations.pictures import keep_picture
from perturbations.sounds import keep_sound
from utils.claims import NO_ROOM, claimed, raise_if_no_room
from utils.clocks import Clock, round_half_up, tick_of
from utils.constants import FPS, SAMPLE_RATE_HZ
from utils.containers import VideoError, open_container, pick_stream, reason
from utils.media import Source, open_source
from utils.pictures import to_rgb
from utils.sound import Sound
from utils.timing import killed_if_stalled

# MP4 and QuickTime say to the millisecond when their streams begin, unless they are told to: whole ticks of
# 90 and 48 kHz
MP4 = {"movie_timescale": "720000"}
# x264's macroblock tree reads memory that was never written (as MALLOC_PERTURB_ shows), so that with it the
# same pictures give other bits from run to run
STEADY = {"x264-params": "mbtree=0"}
BLOCK = 4096  # samples that are encoded at a time
FULL_SCALE = 2**15  # of 16 bits
MOV = "mov"  # FFmpeg's name of QuickTime
COPY = Kind("copied", {})  # changes nothing

# pictures, and for how many output frames, see `Source.frames`
Shown = Iterator[tuple[np.ndarray | None, int]]


class Task(NamedTuple):
    """A video that is to be written again."""

    source: Path  # the video
    target: Path  # what it becomes, an MP4 file
    name: str  # of the kind; the randomness hangs on it
    kind: Kind
    level: int


@dataclass
class RewriteOutcome:
    """What became of a task. `status` is done, complete (before), busy (another run has it), failed (stage
    and reason say why), or stop (reason says why no video can be written).
    """

    status: str
    stage: str = ""
    reason: str = ""
    warnings: list[str] = field(default_factory=list)


class Written(NamedTuple):
    """What was read of a source while it was written again."""

    warnings: list[str]  # what was wrong with it
    first: int  # where its sound begins, in samples from its first picture on
    sound: np.ndarray  # (n,) int16, all of it from there
    n_missing: int  # samples of it that are silence because the source has none
    digest: int | None  # of all pictures and their times, if they are copied


def is_complete(task: Task) -> bool:
    """Whether a video was written again since it changed."""
    if not task.target.is_file() or not task.source.is_file():
        return False
    # of a link, which may point to another file now, and of the file itself
    changed = max(task.source.stat().st_ctime, task.source.lstat().st_ctime)
    return task.target.stat().st_mtime >= changed


def use_one_thread() -> None:
    cv2.setNumThreads(1)  # processes are the parallel part


def rewrite_video(task: Task) -> RewriteOutcome:
    """Write a video again, whole or not at all, unless another process is at it."""
    try:
        with claimed(task.target) as work:
            if work is None:
                return RewriteOutcome("busy")
            return RewriteOutcome("complete") if is_complete(task) else rewrite_claimed(task, work)
    except OSError as error:
        words = f"can't write to {task.target}: {error.strerror}; mend it, then run this again."
        return RewriteOutcome("stop", reason=words)


def rewrite_in_worker(*task) -> RewriteOutcome:
    with killed_if_stalled():
        return rewrite_video(Task(*task))


def rewrite_claimed(task: Task, work: Path) -> RewriteOutcome:
    """`rewrite_video`, where no other process is at it, in the folder `work`; OSError if there is no room."""
    work.mkdir(parents=True)
    partial = work / "video.mp4"
    try:
        warnings = write_changed(task, partial)
    except Exception as error:  # whatever one odd video does, the others go on
        raise_if_no_room(error)
        task.target.unlink(missing_ok=True)  # of an earlier file of this name
        if isinstance(error, VideoError):
            return RewriteOutcome("failed", error.stage, str(error))
        return RewriteOutcome("failed", "unexpected", f"{type(error).__name__}: {reason(error)}")
    os.replace(partial, task.target)
    return RewriteOutcome("done", warnings=warnings)


def write_changed(task: Task, partial: Path) -> list[str]:
    """Write a video with its perturbation to `partial`; what was odd about that, in words.

    What the kind does not touch is copied and read back. If that does not give what the source gives, it is
    encoded again, so finely that it does not matter.

    Raises:
        VideoError: the source can't be used, see `open_source`.
    """
    kind = task.kind
    try:
        written = write_streams(task, partial)
        if is_as_read(partial, kind, written):
            return written.warnings
    except av.FFmpegError as error:  # MP4 takes no such stream
        if error.errno in NO_ROOM or (kind.picture and kind.sound):
            raise
    word = "sound" if kind.picture else "picture"
    finely = replace(kind, picture=kind.picture or keep_picture, sound=kind.sound or keep_sound)
    written = write_streams(task._replace(kind=finely), partial)
    return [*written.warnings, f"its {word} can't be copied as it is and is encoded again"]


def write_streams(task: Task, partial: Path) -> Written:
    """Write picture and sound, each with its change or as a copy.

    A stream that the container does not know is left out: reading back finds it missing.
    """
    kind = task.kind
    strength, rng = kind.strengths[task.level], generator(task.target.stem, task.name, task.level)
    with (
        open_source(task.source, partial.parent) as film,
        open_container(task.source) as packets,
        av.open(str(partial), "w", format="mp4", options=MP4) as out,
    ):
        copies = copied_streams(out, packets, kind)
        heard = add_sound(out, kind.bit_rate(task.level)) if kind.sound else None
        shown, digest = upright(film), None
        if change := kind.picture:
            changed = ((p if p is None else change(p, strength, rng), n) for p, n in shown)
            preset = "medium" if kind.is_crf else "veryfast"
            encode_pictures(out, changed, {"crf": str(kind.crf(task.level)), "preset": preset})
        else:
            digest = digest_of(shown)
        first, sound, n_missing = read_whole(film.sound)
        if kind.sound and heard is not None:
            encode_sound(out, heard, to_samples(kind.sound(sound / FULL_SCALE, strength, rng)), first)
        copy_packets(out, packets, copies, film.sound.origin)
        return Written([*film.warnings, *damage_words(film)], first, sound, n_missing, digest)


def write_copy(source: Path, partial: Path, container: str) -> None:
    """Write picture and sound as they are into a container, by FFmpeg's name.

    A stream that the container does not know is left out.

    Raises:
        VideoError: the source can't be used, see `open_source`.
    """
    with (
        open_source(source, partial.parent) as film,
        open_container(source) as packets,
        av.open(str(partial), "w", format=container, options=MP4 if container == MOV else {}) as out,
    ):
        next(film.frames())  # the time of the first picture is known by then
        copy_packets(out, packets, copied_streams(out, packets, COPY), film.sound.origin)


def damage_words(film: Source) -> list[str]:
    n_damaged = sum(stop - start for start, stop in film.damaged())
    return [f"{n_damaged} damaged frames, which may count as whole in what is written"] if n_damaged else []


def is_as_read(partial: Path, kind: Kind, written: Written) -> bool:
    """Whether the stream that was copied, if one was, gives what the source gives."""
    if kind.picture and kind.sound:
        return True
    try:
        with open_source(partial, partial.parent) as copy:
            digest = digest_of(upright(copy))
            if kind.picture is None:
                return digest == written.digest
            samples, n_missing = copy.sound.read(written.first, len(written.sound))
            return n_missing == written.n_missing and np.array_equal(samples, written.sound)
    except VideoError:
        return False


def upright(film: Source) -> Shown:
    """`Source.frames`, upright, (H, W, 3) uint8 RGB."""
    for frame, n in film.frames():
        yield None if frame is None else to_rgb(frame), n


def digest_of(shown: Shown) -> int:
    digest = 0
    for picture, n in shown:
        digest = zlib.crc32(n.to_bytes(8), digest)
        digest = digest if picture is None else zlib.crc32(picture.tobytes(), digest)
    return digest


def read_whole(sound: Sound) -> tuple[int, np.ndarray, int]:
    """Where the sound of a source begins, in samples from its first picture on, all of it from there, (n,)
    int16, and how many samples are missing, which are silence.

    Raises:
        VideoError: there is none.
    """
    first = max(0, round_half_up(sound.start * SAMPLE_RATE_HZ))
    stop = round_half_up(sound.end * SAMPLE_RATE_HZ)
    if stop <= first:
        raise VideoError("audio", "has no sound that can be decoded beside its pictures")
    return first, *sound.read(first, stop - first)


def to_samples(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def encode_pictures(out: OutputContainer, shown: Shown, options: dict[str, str]) -> None:
    """Encode pictures in H.264 by x264's options, each at the output frame that shows it first, with square
    pixels.

    4:2:0, or 4:4:4 where width or height is odd.
    """
    first = next(shown)
    assert first[0] is not None  # a video begins with a picture, see `Source.frames`
    height, width = first[0].shape[:2]
    stream = out.add_stream("libx264", rate=FPS, options=options | STEADY)
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    codec = stream.codec_context
    codec.time_base, codec.thread_count = Fraction(1, FPS), 1
    index = 0
    for picture, n in itertools.chain([first], shown):
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt, threads=1)
            frame.pts, frame.duration, frame.time_base = index, n, codec.time_base
            out.mux(stream.encode(frame))
        index += n
    out.mux(stream.encode(None))


def add_sound(out: OutputContainer, bit_rate: int | None) -> av.AudioStream:
    """A stream for mono sound: AAC at so many bits by second, or without loss."""
    stream = out.add_stream("aac" if bit_rate else "flac", rate=SAMPLE_RATE_HZ, layout="mono")
    if bit_rate:
        stream.bit_rate = bit_rate
    else:
        stream.codec_context.format = av.AudioFormat("s16")
    return stream


def encode_sound(out: OutputContainer, stream: av.AudioStream, samples: np.ndarray, first: int) -> None:
    """Encode (n,) int16 samples, of which the first comes `first` samples after the first picture."""
    for start in range(0, len(samples), BLOCK):
        block = np.ascontiguousarray(samples[None, start : start + BLOCK])  # (1, n)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
        frame.pts = first + start
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def copied_streams(out: OutputContainer, packets: InputContainer, kind: Kind) -> dict[int, av.stream.Stream]:
    """The streams that a kind does not touch, by their index in the source, if the container knows their
    codecs.
    """
    pairs = ((pick_stream(packets, "video")[0], kind.picture), (pick_stream(packets, "audio")[0], kind.sound))
    copies: dict[int, av.stream.Stream] = {}
    for stream, change in pairs:
        if change is None:
            with contextlib.suppress(ValueError):
                copies[stream.index] = out.add_stream_from_template(stream)
    return copies


def copy_packets(
    out: OutputContainer, packets: InputContainer, copies: dict[int, av.stream.Stream], origin: Fraction
) -> None:
    """Copy streams as they are, on a clock that is 0 at `origin`, the time of the first picture."""
    # with the packets of both: where a file's clock starts again, shows in both
    streams = (pick_stream(packets, "video")[0], pick_stream(packets, "audio")[0])
    with contextlib.suppress(av.error.InvalidDataError, av.error.EOFError):  # damaged from here on
        for packet in Clock().mended(packets.demux(streams)):
            if packet.dts is None or packet.stream_index not in copies:
                continue
            shift = round_half_up(origin / tick_of(packet))
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = copies[packet.stream_index]
            out.mux(packet)
