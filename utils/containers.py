"""Which files are opened as videos or sounds, and what is read of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, overload

import av

from utils.files import open_regular

# 8K of the cinema and what codecs round it up to; a frame takes 54 MB in 4:2:0, and up to some 50 are held
MAX_PIXELS = 8192 * 4352
# of a picture, of a packet of sound: FFmpeg refuses larger ones, declared or found in the coded pictures, at
# once or later
DECODER_LIMITS = {"max_pixels": str(MAX_PIXELS), "max_samples": str(2**21)}
# The containers that are read. Playlists, lists of pictures and descriptions of streams (hls, concat, dash,
# image2, sdp, ...) are not among them: they name other files, or addresses.
CONTAINERS = (
    "aac aiff amr asf av1 avi caf dhav dv flac flv gif gxf h263 h264 hevc ivf live_flv lxf m4v "
    "matroska mjpeg mov mp3 mpeg mpegts mpegvideo mxf nsv nut nuv obu ogg pva rm smjpeg swf ty vc1 "
    "wav wtv yuv4mpegpipe"
)
READING = {"format_whitelist": CONTAINERS.replace(" ", ","), "protocol_whitelist": "file"}


class VideoError(Exception):
    """One video can't be used: `stage` is where it failed (open, read, video, audio, length, face, track,
    chunk, write, and of a reader in a process of its own crash, time, killed), the text says why.
    """

    def __init__(self, stage: str, reason: str):
        super().__init__(stage, reason)  # both, so that it can be pickled
        self.stage = stage

    def __str__(self) -> str:
        return self.args[1]


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, on one line, without its number or our path."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


@overload
def pick_stream(
    container: av.container.InputContainer, kind: Literal["video"]
) -> tuple[av.VideoStream, str]: ...
@overload
def pick_stream(
    container: av.container.InputContainer, kind: Literal["audio"]
) -> tuple[av.AudioStream, str]: ...
def pick_stream(container: av.container.InputContainer, kind: Literal["video", "audio"]) -> tuple[Any, str]:
    """The best stream of a kind that can be decoded, and a warning if FFmpeg prefers one that can't.

    Raises:
        VideoError: there is none.
    """
    of_kind: Iterable[av.VideoStream | av.AudioStream] = getattr(container.streams, kind)
    streams = [s for s in of_kind if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:  # cover art is none
        raise VideoError(kind, {"video": "has no video stream", "audio": "has no sound"}[kind])
    usable = [stream for stream in streams if stream.codec_context is not None]
    word = {"video": "picture", "audio": "sound"}[kind]
    if not usable:
        expected = "expected a codec that FFmpeg decodes, so convert it first"
        raise VideoError("open", f"no decoder for its {word}; {expected}")
    best = container.streams.best(kind)
    if best in usable:
        return best, ""
    taken = max(usable, key=stream_rank)
    words = f"stream {taken.index} is taken"
    return taken, f"no decoder for the {word} in stream {best.index}, {words}" if best in streams else ""


def stream_rank(stream: av.VideoStream | av.AudioStream) -> tuple[bool, int, int, int]:
    """The higher, the better: the default one, then the largest picture or highest rate, then by bits."""
    codec = stream.codec_context
    size = codec.width * codec.height if isinstance(codec, av.VideoCodecContext) else codec.sample_rate
    is_default = bool(stream.disposition & av.stream.Disposition.default)
    return is_default, size, codec.bit_rate or 0, -stream.index


def open_container(path: Path) -> av.container.InputContainer:
    """Open a video, or a sound, for reading: a regular file in one of `CONTAINERS`, which makes FFmpeg read
    no other file.

    Raises:
        av.FFmpegError, OSError, ValueError: it can't be opened.
    """
    open_regular(path, 2**63).close()  # a pipe would be waited for, a device read for ever
    try:
        return av.open(f"file:{path}", metadata_errors="replace", options=DECODER_LIMITS | READING)
    except av.error.ArgumentError as error:
        raise ValueError(
            "in none of the containers that are read (a playlist is not: give the videos that it names)"
        ) from error
