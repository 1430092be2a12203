"""Picture and sound that lie apart, joined to one file as they are."""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av import Packet, VideoStream
from av.container import InputContainer, OutputContainer

from corpora.base import SOURCE_FPS
from utils.chunkfiles import MAX_FRAME_BYTES
from utils.clocks import DisplayTimes
from utils.containers import open_container, reason
from utils.files import open_regular, read_bytes

TARGET_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def display_times(path: Path) -> tuple[dict[int, int], int]:
    """By number of a packet when its picture is shown, in ticks of the first video stream, and by how many
    ticks at most that is before its decode time; empty if the container itself says when pictures are shown.
    """
    shown, delay = {}, 0
    with open_container(path) as container:
        stream = container.streams.video[0]
        times = DisplayTimes(stream) if stream.codec_context is not None else None
        if times is None or not times.is_guess:
            return {}, 0
        stream.codec_context.thread_count = 1
        decoded: dict[int, int] = {}
        for packet in container.demux(stream):
            if packet.dts is not None:
                decoded[times.note(packet)] = packet.dts
            with contextlib.suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    number, time = times.number_of(frame), times.of(frame)
                    if number is not None and time is not None:
                        shown[number] = time
                        delay = max(delay, decoded[number] - time)
            if not times.is_guess:
                return {}, 0
    return shown, delay


class Unreadable(ValueError):
    """A file can't be read; the text says which, and why."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of an error in reading which file it is about, unless that is said.

    Raises:
        Unreadable: a file can't be read. OSError: the target can't be written.
    """
    try:
        yield
    except Unreadable:
        raise
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in TARGET_FAILS:
            raise
        raise Unreadable(f"{path} can't be read ({reason(error)})") from error


def remux(pictures: Path, sound: Path, target: Path, fps: float | None) -> None:
    """Join pictures and a WAV file to a Matroska video; both streams are copied as they are, nothing is
    encoded again.

    Args:
        pictures: a video file, whose own sound is left out, or a folder of JPEGs whose names are numbers.
        fps: of a folder of JPEGs.

    Raises:
        ValueError: one of them can't be read. OSError: the target can't be written.
    """
    with naming(pictures), contextlib.ExitStack() as stack:
        out = stack.enter_context(av.open(str(target), "w", format="matroska"))
        rate = Fraction(fps or SOURCE_FPS)
        if pictures.is_dir():
            files = numbered(pictures)
            with naming(files[0]):
                video = add_jpeg_stream(files[0], rate, out)
            packets = jpeg_packets(files, rate)
        else:
            film = stack.enter_context(open_container(pictures))
            video = out.add_stream_from_template(film.streams.video[0])
            packets = video_packets(film, *display_times(pictures))
        with naming(sound):
            copy_sound(stack.enter_context(open_container(sound)), out)
        for packet in packets:
            packet.stream = video
            out.mux(packet)


def copy_sound(heard: InputContainer, out: OutputContainer) -> None:
    stream = out.add_stream_from_template(heard.streams.audio[0])
    for packet in heard.demux(heard.streams.audio[0]):
        if packet.dts is not None:
            packet.stream = stream
            out.mux(packet)


def numbered(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers; ValueError if one is missing or there twice."""
    files = sorted((p for p in folder.iterdir() if p.stem.isdecimal()), key=lambda p: int(p.stem))
    numbers = [int(path.stem) for path in files]
    if not files:
        raise ValueError("no pictures")
    if numbers != list(range(numbers[0], numbers[0] + len(files))):
        raise ValueError("pictures are missing or there twice")
    return files


def add_jpeg_stream(first: Path, fps: Fraction, out: OutputContainer) -> VideoStream:
    """Add a stream for pictures that are as large as the first."""
    open_regular(first).close()
    with av.open(str(first), format="jpeg_pipe") as container:
        size = container.streams.video[0].codec_context
        if not size or not size.pix_fmt:
            raise ValueError("it holds no picture")
        stream = out.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, size.pix_fmt
    return stream


def jpeg_packets(files: Iterable[Path], fps: Fraction) -> Iterator[Packet]:
    """A packet for each picture, all shown for the same time."""
    for i, file in enumerate(files):
        packet: Packet = Packet(read_bytes(file, MAX_FRAME_BYTES))
        packet.pts = packet.dts = i
        packet.duration, packet.time_base, packet.is_keyframe = 1, 1 / fps, True
        yield packet


def video_packets(film: InputContainer, shown: dict[int, int], delay: int) -> Iterator[Packet]:
    """The packets of the first video stream, shown at the times of `display_times`."""
    for i, packet in enumerate(film.demux(film.streams.video[0])):
        if packet.dts is not None:
            if shown:
                packet.pts, packet.dts = shown.get(i, packet.dts), packet.dts - delay
            yield packet
