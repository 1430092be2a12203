"""Picture and sound that lie apart, joined to one file as they are."""

import contextlib
import errno
from fractions import Fraction
from pathlib import Path

import av

from utils.chunkfiles import MAX_FRAME_BYTES
from utils.clocks import DisplayTimes
from utils.containers import open_container, reason
from utils.files import open_regular, read_bytes


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


def remux(pictures: Path, sound: Path, target: Path, fps: float) -> None:
    """Join pictures and a WAV file to a Matroska video; both streams are copied as they are, nothing is
    encoded again.

    Args:
        pictures: a video file, whose own sound is left out, or a folder of JPEGs whose names are numbers, at
            `fps`.

    Raises:
        ValueError: one of them can't be read. OSError: the target can't be written.
    """
    where = pictures
    try:
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(av.open(str(target), "w", format="matroska"))
            if pictures.is_dir():
                frames = sorted(
                    (p for p in pictures.iterdir() if p.stem.isdecimal()), key=lambda p: int(p.stem)
                )
                numbers = [int(p.stem) for p in frames]
                if not frames or numbers != list(range(numbers[0], numbers[0] + len(frames))):
                    raise ValueError("pictures are missing or there twice" if frames else "no pictures")
                where = frames[0]
                open_regular(frames[0]).close()
                with av.open(str(frames[0]), format="jpeg_pipe") as first:
                    size = first.streams.video[0].codec_context
                    video = out.add_stream("mjpeg", rate=Fraction(fps))
                    video.width, video.height, video.pix_fmt = size.width, size.height, size.pix_fmt
                packets = (av.Packet(read_bytes(frame, MAX_FRAME_BYTES)) for frame in frames)
                time_base = 1 / Fraction(fps)
            else:
                source = stack.enter_context(open_container(pictures))
                video = out.add_stream_from_template(source.streams.video[0])
                packets, time_base = source.demux(source.streams.video[0]), None
                shown, delay = display_times(pictures)
            where = sound
            heard = stack.enter_context(open_container(sound))
            audio = out.add_stream_from_template(heard.streams.audio[0])
            for packet in heard.demux(heard.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = audio
                    out.mux(packet)
            where = pictures
            for i, packet in enumerate(packets):
                if time_base is not None:
                    packet.pts = packet.dts = i
                    packet.duration, packet.time_base, packet.is_keyframe = 1, time_base, True
                elif packet.dts is None:
                    continue
                elif shown:
                    packet.pts, packet.dts = shown.get(i, packet.dts), packet.dts - delay
                packet.stream = video
                out.mux(packet)
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
        ):
            raise
        raise ValueError(f"{where} can't be read ({reason(error)})") from error
