"""The file's own story: what a video file says of itself and what its packets say, no conclusions.

Nothing is decoded. Each fact may be missing alone, whatever an odd file does to the others.
"""

import platform
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from statistics import median
from typing import Any, TypeVar, cast

import av
import numpy as np
import torch

from utils.boxes import MovieBoxes, read_boxes
from utils.cli import legible
from utils.clocks import tick_of
from utils.containers import VideoError, open_container, pick_stream, reason
from utils.environment import git_commit
from utils.files import file_digest
from utils.sound import keep_layout
from verdicts.schema import (
    EditFacts,
    FileFacts,
    KeyFrames,
    PictureFacts,
    SoundFacts,
    StreamFacts,
    Tag,
    TimeFacts,
)

Value = TypeVar("Value")

MAX_TAGS, MAX_LETTERS = 40, 200  # of a file or a stream; of a tag's value
MAX_LISTED = 40  # boxes
N_SEARCHED, MAX_SEARCHED_BYTES = 3, 2**16  # the first packets in which encoders leave words, and of each
ENCODER_WORDS = re.compile(rb"(?:x264 - core |x265 \(build |Lavc\d|XviD\d|DivX\d)[ -~]{0,2000}")
KEY_INTERVAL = re.compile(r"\bkeyint=(\d{1,9})\b")
# what reading a single property of an odd file may raise
ODD = (
    *(av.FFmpegError, OSError, ValueError, TypeError, AttributeError, LookupError),
    *(ArithmeticError, RuntimeError),
)


@dataclass
class Packets:
    """What the packets of one stream say, in the order of the file."""

    start_s: list[float] = field(default_factory=list)  # of those that say it
    end_s: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    n_hidden: int = 0
    n_backward: int = 0
    words: str | None = None  # of the encoder
    last_dts: int | None = None

    def note(self, packet: av.Packet) -> None:
        if packet.dts is None and packet.size == 0:  # the end
            return
        if self.words is None and len(self.sizes) < N_SEARCHED:
            found = ENCODER_WORDS.search(bytes(packet)[:MAX_SEARCHED_BYTES])
            self.words = found[0].decode("ascii") if found else None
        self.sizes.append(packet.size)
        self.is_key.append(packet.is_keyframe)
        self.n_hidden += packet.is_discard
        if packet.dts is not None:
            self.n_backward += self.last_dts is not None and packet.dts < self.last_dts
            self.last_dts = packet.dts
        ticks = packet.dts if packet.pts is None else packet.pts  # AVI has decoding times alone
        if ticks is not None:
            tick = tick_of(packet)
            self.start_s.append(float(ticks * tick))
            self.end_s.append(float((ticks + (packet.duration or 0)) * tick))

    @property
    def length_s(self) -> float | None:
        return max(self.end_s) - min(self.start_s) if self.start_s else None


def tell_story(path: Path, size_bytes: int, command: str | None = None) -> FileFacts:
    """All facts of a video that was read to its end before (`probe`).

    Args:
        size_bytes: of the file, as it is known.
        command: the command line that asked, see `command_words`.
    """
    facts: FileFacts = {
        "sha256": said(lambda: file_digest(path)),
        "size_bytes": size_bytes,
        "container": None,
        "tags": [],
        "declared_s": None,
        "declared_kbps": None,
        "video": None,
        "audio": None,
        "other_streams": [],
        "key_frames": None,
        "boxes": None,
        "edits": None,
        "times": None,
        "read_error": None,
        "versions": dict(versions()),
        "date_utc": as_text(datetime.now(UTC)),
        "command": command,
    }
    try:
        with open_container(path) as container:
            tell_container(container, path, facts)
            tell_streams(container, facts)
    except (*ODD, VideoError) as error:
        facts["read_error"] = legible(reason(error))
    return facts


def said(get: Callable[[], Value]) -> Value | None:
    """What a file says, None if it does not, or nothing that could be used."""
    try:
        value: Any = get()
        if isinstance(value, str):
            return cast(Value, legible(value)[:MAX_LETTERS].strip("\0 ")) or None
        return None if isinstance(value, float) and not np.isfinite(value) else value
    except ODD:
        return None


def rounded(get: Callable[[], Any], digits: int = 3) -> float | None:
    """A number that a file says, by its quantity; None as `said`."""
    return said(lambda: round(float(get()), digits))


def tags_of(metadata: Mapping[str, str]) -> list[Tag]:
    """The tags of a file or a stream, of which neither number nor length is trusted."""
    pairs = sorted(metadata.items())[:MAX_TAGS]
    texts = [[legible(text)[:MAX_LETTERS] for text in pair] for pair in pairs]
    return [{"name": name, "value": value} for name, value in texts]


def tell_container(container: av.container.InputContainer, path: Path, facts: FileFacts) -> None:
    """Note what the file as a whole says."""
    facts["container"] = said(lambda: container.format.name)
    facts["tags"] = said(lambda: tags_of(container.metadata)) or []
    facts["declared_s"] = rounded(lambda: container.duration / av.time_base)  # type: ignore[operator]
    facts["declared_kbps"] = rounded(lambda: (container.bit_rate or None) / 1000)  # type: ignore[operator]
    if "mp4" in (facts["container"] or ""):
        boxes = said(lambda: read_boxes(path))
        if boxes is not None:
            facts["boxes"] = [legible(name) for name in boxes.order[:MAX_LISTED]]
            facts["edits"], facts["times"] = edits_of(boxes), times_of(boxes)


def edits_of(boxes: MovieBoxes) -> list[EditFacts]:
    return [
        {
            "stream": name,
            "duration_s": round(edit.duration_s, 3),
            "media_start_s": None if edit.media_start_s is None else round(edit.media_start_s, 3),
            "rate": round(edit.rate, 3),
        }
        for name, track in named_tracks(boxes)
        for edit in track.edits
    ]


def times_of(boxes: MovieBoxes) -> list[TimeFacts]:
    return [
        {"of": name, "created_utc": as_text(part.created), "modified_utc": as_text(part.modified)}
        for name, part in [("file", boxes), *named_tracks(boxes)]
    ]


def named_tracks(boxes: MovieBoxes) -> list[tuple[str, Any]]:
    return [(f"track {i}, {track.kind}", track) for i, track in enumerate(boxes.tracks[:MAX_LISTED])]


def as_text(time: datetime | None) -> Any:
    """A time as it is written."""
    return time and time.isoformat(timespec="seconds").replace("+00:00", "Z")


def tell_streams(container: av.container.InputContainer, facts: FileFacts) -> None:
    """Note what the streams say that are looked at and listened to, and read their packets."""
    video, audio = pick_stream(container, "video")[0], pick_stream(container, "audio")[0]
    others = [stream for stream in container.streams if stream not in (video, audio)][:MAX_LISTED]
    facts["other_streams"] = [said(partial(name_stream, stream)) or stream.type for stream in others]
    of_video, of_audio = Packets(), Packets()
    try:
        for packet in container.demux((video, audio)):
            (of_video if packet.stream.type == "video" else of_audio).note(packet)
    except ODD as error:
        facts["read_error"] = legible(reason(error))
    facts["video"], facts["audio"] = tell_pictures(video, of_video), tell_sound(audio, of_audio)
    facts["key_frames"] = said(lambda: key_frames(of_video))


def name_stream(stream: Any) -> str:
    codec = stream.codec_context
    return f"{stream.type}: {codec.name if codec else 'unknown'}"


def tell_stream(stream: Any, packets: Packets) -> StreamFacts:
    """What holds for pictures and sound alike."""
    codec, length_s = stream.codec_context, said(lambda: packets.length_s)
    return {
        "codec": said(lambda: codec.name),
        "profile": said(lambda: codec.profile),
        "tags": said(lambda: tags_of(stream.metadata)) or [],
        "encoder_words": packets.words,
        "declared_s": rounded(lambda: stream.duration * tick_of(stream)),
        "found_s": rounded(lambda: length_s),
        "start_s": rounded(lambda: min(packets.start_s)),
        "declared_packets": said(lambda: stream.frames or None),
        "found_packets": len(packets.sizes),
        "declared_kbps": rounded(lambda: (codec.bit_rate or None) / 1000),  # type: ignore[operator]
        "found_kbps": rounded(lambda: 8 * sum(packets.sizes) / length_s / 1000),  # type: ignore[operator]
        "hidden_packets": packets.n_hidden,
        "backward_packets": packets.n_backward,
    }


def tell_pictures(stream: av.VideoStream, packets: Packets) -> PictureFacts:
    """What is said of the pictures."""
    codec = stream.codec_context
    times = np.sort(packets.start_s)
    steps_ms = 1000 * np.diff(times)
    n_pixels = said(lambda: codec.width * codec.height * len(packets.sizes))
    return {
        **tell_stream(stream, packets),
        "width_px": said(lambda: codec.width or None),
        "height_px": said(lambda: codec.height or None),
        "pixel_format": said(lambda: codec.pix_fmt),
        "declared_fps": rounded(lambda: stream.average_rate),
        "found_fps": rounded(lambda: len(steps_ms) / float(times[-1] - times[0])),
        "shortest_ms": rounded(lambda: steps_ms.min()),
        "longest_ms": rounded(lambda: steps_ms.max()),
        "bits_per_pixel": rounded(lambda: 8 * sum(packets.sizes) / n_pixels, 5),  # type: ignore[operator]
    }


def tell_sound(stream: av.AudioStream, packets: Packets) -> SoundFacts:
    """What is said of the sound."""
    codec = stream.codec_context
    return {
        **tell_stream(stream, packets),
        "rate_hz": said(lambda: codec.sample_rate or None),
        "channels": said(lambda: keep_layout(codec).name),
    }


def key_frames(packets: Packets) -> KeyFrames:
    """Where the key frames stand, and how large they are beside the others."""
    is_key, sizes = np.array(packets.is_key, bool), np.array(packets.sizes)
    intervals = np.diff(np.flatnonzero(is_key)).tolist()
    usual, n_usual = Counter(intervals).most_common(1)[0] if intervals else (None, 0)
    declared = KEY_INTERVAL.search(packets.words or "")
    return {
        "n": int(is_key.sum()),
        "declared_interval": int(declared[1]) if declared else None,
        "shortest": min(intervals, default=None),
        "longest": max(intervals, default=None),
        "usual": usual,
        "n_unusual": len(intervals) - n_usual if intervals else None,
        "median_bytes": said(lambda: round(median(sizes[is_key]))),
        "others_median_bytes": said(lambda: round(median(sizes[~is_key]))),
    }


@cache
def versions() -> dict[str, str | None]:
    """What judges."""
    return {
        "project": git_commit(),
        "python": platform.python_version(),
        "pytorch": str(torch.__version__),
        "pyav": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
    }


def command_words(words: Sequence[str]) -> str:
    """A command line in which all paths are reduced to names: it is shown to others."""
    return legible(shlex.join(name_alone(word) for word in words))


def name_alone(word: str) -> str:
    """An argument, its path, if it holds one, without the folders."""
    flag, sign, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if "/" in value or "\\" in value:
        name = PurePosixPath(value).name
        value = (PureWindowsPath(name).name if "\\" in name else name) or "folder"
    return f"{flag}{sign}{value}"
