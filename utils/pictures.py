"""Decoded pictures as arrays: turned upright, whole or in part."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideData

MAX_TILT_DEGREES = 2  # from a quarter turn, for rounding
# 8 bits, a plane per component
PATCH_FORMATS = {f"yuv{j}{sampling}p" for j in ("", "j") for sampling in (420, 422, 444)}


def is_like(frame: av.VideoFrame, other: av.VideoFrame) -> bool:
    return (frame.width, frame.height) == (other.width, other.height)


class Orientation(NamedTuple):
    """How a frame is to be shown by its metadata."""

    is_turned: bool  # rows and columns change places, and then:
    is_mirrored: bool  # from left to right
    is_upside_down: bool
    degrees: float  # by which the metadata go beyond these eight ways


def orientation(frame: av.VideoFrame) -> Orientation:
    """How a frame is to be shown; `Source` has noted it on its frames.

    What PyAV gives of a frame's metadata and the frame hold each other, so that its memory is kept for long:
    they are read as seldom as can be.
    """
    if isinstance(frame.opaque, Orientation):
        return frame.opaque
    data: Any = cast(Mapping[SideData, Any], frame.side_data).get(SideData.DISPLAYMATRIX)
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist() if data is not None else (1, 0, 0, 0, 1)
    is_turned = abs(b) + abs(c) > abs(a) + abs(d)  # a point goes to column a x + c y, row b x + d y
    degrees = math.degrees(math.atan2(b, a))
    to_right, to_bottom = (c, b) if is_turned else (a, d)
    return Orientation(is_turned, to_right < 0, to_bottom < 0, (degrees + 45) % 90 - 45)


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as (H, W, 3) uint8 RGB, turned upright and mirrored as its metadata say."""
    # by default swscale starts threads for every frame
    rgb: np.ndarray = frame.to_ndarray(format="rgb24", threads=1)
    is_turned, is_mirrored, is_upside_down, _ = orientation(frame)
    if is_turned:
        rgb = cv2.transpose(rgb)  # ten times as fast as NumPy
    if is_mirrored or is_upside_down:
        rgb = cv2.flip(rgb, 0 if not is_mirrored else -1 if is_upside_down else 1)
    return rgb


def even_span(start: int, stop: int, size: int) -> tuple[int, int]:
    """The part of start .. stop-1 that lies in 0 .. size-1 (or its nearest pixels), widened to whole chroma
    samples.
    """
    first = min(max(start, 0), size - 2) // 2 * 2
    return first, max(first + 2, min((stop + 1) // 2 * 2, size))


def rgb_patch(frame: av.VideoFrame, window: Sequence[int]) -> tuple[np.ndarray, int, int]:
    """What a window (top, bottom, left, right; in pixels of the upright frame) covers of a decoded frame, and
    some more.

    Returns:
        (h, w, 3) uint8 RGB, and the row and column of its upper left corner in the frame. The pixels equal
        those of `to_rgb`; only frames that are stored turned or mirrored or come in a rare pixel format are
        converted whole.
    """
    is_plain = frame.format.name in PATCH_FORMATS and not any(orientation(frame)[:3])
    if not is_plain or frame.width % 2 or frame.height % 2:
        return to_rgb(frame), 0, 0
    top, bottom = even_span(window[0], window[1], frame.height)
    left, right = even_span(window[2], window[3], frame.width)
    patch = av.VideoFrame(right - left, bottom - top, frame.format.name)
    patch.colorspace, patch.color_range = frame.colorspace, frame.color_range
    for source, copy in zip(frame.planes, patch.planes, strict=True):
        y, x = top * source.height // frame.height, left * source.width // frame.width  # chroma may be halved
        rows = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)
        pixels = np.frombuffer(memoryview(copy), np.uint8).reshape(-1, copy.line_size)
        pixels[: copy.height, : copy.width] = rows[y : y + copy.height, x : x + copy.width]
    return patch.to_ndarray(format="rgb24", threads=1), top, left
