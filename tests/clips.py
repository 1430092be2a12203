"""Small videos for tests, written by PyAV with every property under control."""

import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from demo.faces import PORTRAITS, Face

CLOCK = Fraction(1, 90_000)


def face_pictures(n: int, size: int = 160) -> list[np.ndarray]:
    """n RGB pictures of a speaking face."""
    face = Face(PORTRAITS[0], 224, eye_distance=62 / 224)
    pictures = [face.draw((0.5 + 0.5 * np.sin(i / 3), 1.0, 0.0)) for i in range(n)]
    step = 224 // size or 1
    return [np.ascontiguousarray(p[::step, ::step, ::-1]) for p in pictures]


def tone(seconds: float, rate_hz: int = 44_100, channels: int = 1) -> np.ndarray:
    """(channels, n) float32, a 440 Hz sine at half scale."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * t), (channels, 1)).astype(np.float32)


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    fps: Fraction | float = 25,
    times_s: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    rate_hz: int = 44_100,
    sound_start_s: float = 0.0,
    codecs: tuple[str, str] = ("libx264", "aac"),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    key_every: int = 250,
    codec_options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write RGB pictures (at `times_s`, else at constant `fps`) and sound ((1 or 2, n) float32, None for no
    sound).

    `options` are the container's, `codec_options` the video encoder's; every `key_every`th picture is a key
    frame.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [float(i / Fraction(fps)) for i in range(len(pictures))] if times_s is None else times_s
    with av.open(str(path), "w", options=options or {}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        speed = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12"}
        quality = {"crf": "18", "preset": speed[codecs[0]]} if codecs[0] in speed else {"q:v": "2"}
        video = container.add_stream(codecs[0], rate=rate, options=quality | (codec_options or {}))
        video.gop_size = key_every
        if pixel_aspect is not None:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = CLOCK if times_s is not None else 1 / rate
        layout = "mono" if sound is None or len(sound) == 1 else "stereo"
        audio = None if sound is None else container.add_stream(codecs[1], rate=rate_hz, layout=layout)
        for i, (picture, time) in enumerate(zip(pictures, times, strict=True)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = video.codec_context.time_base
            frame.pts = i if times_s is None else round(time / CLOCK)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            write_sound(container, audio, sound, rate_hz, sound_start_s)
    return path


def write_sound(container, stream, sound: np.ndarray, rate_hz: int, start_s: float = 0.0) -> None:
    kind = {"aac": "fltp", "libmp3lame": "fltp"}.get(stream.codec_context.name, "s16")
    for start in range(0, sound.shape[1], 1024):
        part = np.ascontiguousarray(sound[:, start : start + 1024])
        if kind == "s16":
            part = np.rint(part * 32767).astype(np.int16).T.reshape(1, -1)
        block = av.AudioFrame.from_ndarray(part, format=kind, layout="mono" if len(sound) == 1 else "stereo")
        block.sample_rate, block.time_base = rate_hz, Fraction(1, rate_hz)
        block.pts = start + round(start_s * rate_hz)
        container.mux(stream.encode(block))
    container.mux(stream.encode(None))


def add_cover_art(path: Path, pictures: Sequence[np.ndarray], sound: np.ndarray, fps: int = 25) -> Path:
    """Write a file whose first video stream is one picture (in MP4 marked as cover art), with sound and any
    moving pictures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 96
        cover.pix_fmt, cover.disposition = "yuvj420p", av.stream.Disposition.attached_pic
        audio = container.add_stream("aac", rate=44_100, layout="mono")
        video = container.add_stream("libx264", rate=fps) if len(pictures) else None
        if video is not None:
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = "yuv420p"
        for stream, images in ((cover, [np.full((96, 96, 3), 200, np.uint8)]), (video, pictures)):
            for i, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = i, 1 / stream.codec_context.framerate
                container.mux(stream.encode(frame))
            if stream is not None:
                container.mux(stream.encode(None))
        write_sound(container, audio, sound, 44_100)
    return path


def set_rotation(path: Path, degrees: int) -> None:
    """Write a rotation (90, 180 or 270 clockwise) into the video track's header of an MP4 file."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    set_matrix(path, cos, sin, -sin, cos)


def set_matrix(path: Path, a: float, b: float, c: float, d: float) -> None:
    """Write a display matrix into the video track's header of an MP4 file: a point goes to column a x + c y,
    row b x + d y.
    """
    matrix = struct.pack(
        ">9i", round(a * 2**16), round(b * 2**16), 0, round(c * 2**16), round(d * 2**16), 0, 0, 0, 1 << 30
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: flags, times, id, duration, layer, group, volume
    data[at : at + 36] = matrix
    path.write_bytes(data)


def retime(path: Path, target: Path, new_time: Callable[[str, int, float], float]) -> Path:
    """Copy the packets of a file, without their pictures and sound being coded again, with other time stamps.

    `new_time` gets the kind of stream, a packet's number in it and its time in seconds.
    """
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        counts: dict[int, int] = defaultdict(int)
        last: dict[int, int] = {}
        for packet in [packet for packet in source.demux() if packet.dts is not None]:
            i, kind = packet.stream_index, packet.stream.type
            move = (
                new_time(kind, counts[i], float(packet.pts * packet.time_base)) / packet.time_base
                - packet.pts
            )
            packet.pts, packet.dts = packet.pts + round(move), packet.dts + round(move)
            if kind == "audio":
                packet.pts = packet.dts = max(
                    packet.dts, last.get(i, packet.dts - 1) + 1
                )  # as every container asks
            last[i] = packet.dts
            counts[i] += 1
            packet.stream = streams[i]
            out.mux(packet)
    return target
