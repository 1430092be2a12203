"""What an MP4 or QuickTime file says of itself in its boxes, where FFmpeg keeps it: edit lists and times.

Sources: ISO/IEC 14496-12, 4.2 (boxes), 8.2.2 (mvhd), 8.4.2 (mdhd), 8.4.3 (hdlr), 8.6.6 (elst).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from utils.files import open_regular

MAX_MOVIE_BYTES = 2**26  # of the box that describes all: an hour of pictures takes some 2 MB
MAX_BOXES = 10_000  # on one level; a file in fragments has some per second
MAX_EDITS = 100  # of a track
EPOCH = datetime(1904, 1, 1, tzinfo=UTC)
HANDLERS = {b"vide": "video", b"soun": "audio"}  # by the handler's name


@dataclass(frozen=True)
class Edit:
    """A line of an edit list: what of a track is shown, one after the other."""

    duration_s: float  # 0 may mean: to the end
    media_start_s: float | None  # None: nothing is shown, a pause
    rate: float


@dataclass
class TrackBoxes:
    """What a file says of one track."""

    kind: str = "other"  # video or audio
    created: datetime | None = None
    modified: datetime | None = None
    edits: list[Edit] = field(default_factory=list)


@dataclass
class MovieBoxes:
    """What a file says of itself."""

    order: list[str]  # names of the boxes of the file itself
    created: datetime | None = None
    modified: datetime | None = None
    tracks: list[TrackBoxes] = field(default_factory=list)


def read_boxes(path: Path) -> MovieBoxes:
    """Read the boxes of a file; those of another kind of file have no meaning.

    Raises:
        OSError, ValueError: it can't be read. What is cut off is left out.
    """
    with open_regular(path, 2**63) as file:
        found = MovieBoxes([])
        for kind, size in file_boxes(file):
            found.order.append(kind.decode("ascii", "replace"))
            if kind == b"moov" and size <= MAX_MOVIE_BYTES and not found.tracks:
                read_movie(file.read(size), found)
    return found


def file_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Names and sizes of the boxes of a file, which stands at the first byte of each one's content."""
    at, end = 0, os.fstat(file.fileno()).st_size
    for _ in range(MAX_BOXES):
        file.seek(at)
        header = file.read(16)
        head, size = box_size(header, end - at)
        if size < head:
            return
        file.seek(at + head)
        yield header[4:8], size - head
        at += size


def box_size(header: bytes, rest: int) -> tuple[int, int]:
    """Bytes of a box's header, and of all of it; (1, 0) if there is none, or it does not fit."""
    if len(header) < 8:
        return 1, 0
    head, size = 8, int.from_bytes(header[:4])
    if size == 1:
        head, size = 16, int.from_bytes(header[8:16])
    size = rest if size == 0 else size
    return (head, size) if head <= size <= rest else (1, 0)


def inner_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the boxes in a box."""
    at = 0
    for _ in range(MAX_BOXES):
        head, size = box_size(data[at : at + 16], len(data) - at)
        if size < head:
            return
        yield data[at + 4 : at + 8], data[at + head : at + size]
        at += size


def read_movie(data: bytes, found: MovieBoxes) -> None:
    """Read the content of a moov."""
    parts = list(inner_boxes(data))
    movie = dict(parts).get(b"mvhd", b"")
    found.created, found.modified, movie_hz = read_header(movie)
    for kind, content in parts:
        if kind == b"trak":
            found.tracks.append(read_track(dict(inner_boxes(content)), movie_hz))


def read_track(parts: dict[bytes, bytes], movie_hz: int) -> TrackBoxes:
    """Read the contents of the boxes in a trak."""
    media = dict(inner_boxes(parts.get(b"mdia", b"")))
    created, modified, media_hz = read_header(media.get(b"mdhd", b""))
    kind = HANDLERS.get(media.get(b"hdlr", b"")[8:12], "other")
    edits = dict(inner_boxes(parts.get(b"edts", b""))).get(b"elst", b"")
    return TrackBoxes(kind, created, modified, read_edits(edits, movie_hz, media_hz))


def read_header(data: bytes) -> tuple[datetime | None, datetime | None, int]:
    """When it was created and modified, and ticks by second (0: unknown), of a mvhd or mdhd."""
    size = 8 if data[:1] == b"\1" else 4
    created, modified = data[4 : 4 + size], data[4 + size : 4 + 2 * size]
    ticks_hz = int.from_bytes(data[4 + 2 * size :][:4])
    return to_time(int.from_bytes(created)), to_time(int.from_bytes(modified)), ticks_hz


def to_time(seconds: int) -> datetime | None:
    """A time by its seconds since 1904, None if it is not set or no time."""
    try:
        return EPOCH + timedelta(seconds=seconds) if seconds else None
    except OverflowError:
        return None


def read_edits(data: bytes, movie_hz: int, media_hz: int) -> list[Edit]:
    """Read the content of an elst; none without clocks."""
    if not movie_hz or not media_hz:
        return []
    size = 8 if data[:1] == b"\1" else 4
    line = 2 * size + 4
    n_lines = min(int.from_bytes(data[4:8]), (len(data) - 8) // line, MAX_EDITS)
    edits = []
    for i in range(max(0, n_lines)):
        at = 8 + i * line
        duration = int.from_bytes(data[at : at + size])
        start = int.from_bytes(data[at + size : at + 2 * size], signed=True)
        rate = int.from_bytes(data[at + 2 * size : at + line], signed=True) / 2**16
        start_s = None if start < 0 else float(Fraction(start, media_hz))
        edits.append(Edit(float(Fraction(duration, movie_hz)), start_s, rate))
    return edits
