"""A video with what was found in it: a box around each face coloured by its score, the curve running along,
and the sound.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from utils.constants import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from utils.media import Source
from utils.pages import FAKE_COLOUR, REAL_COLOUR
from utils.pictures import to_rgb
from utils.sound import Sound
from verdicts.timeline import top_of
from verdicts.verdict import TrackScores, score_at

RGB = tuple[int, int, int]

MAX_SIDE_PX = 960  # of the written picture; larger videos are scaled down
PANEL_PX = 96  # height of the curve below the picture


def to_colour(code: str) -> RGB:
    """The colour that a page writes as #rrggbb."""
    red, green, blue = bytes.fromhex(code[1:])
    return red, green, blue


REAL_RGB, FAKE_RGB = to_colour(REAL_COLOUR), to_colour(FAKE_COLOUR)
GREY_RGB, INK_RGB, PANEL_RGB, HIGH_RGB = (150, 150, 150), (40, 40, 40), (245, 245, 245), (250, 222, 214)
FONT = cv2.FONT_HERSHEY_SIMPLEX
CODEC_OPTIONS = {"crf": "24", "preset": "veryfast"}


def colour_of(score: float, threshold: float) -> RGB:
    """Grey without a score; else from blue, at half the threshold and below, to red, at one and a half and
    above.
    """
    if np.isnan(score):
        return GREY_RGB
    share = float(np.clip(score / threshold - 0.5, 0, 1)) if threshold > 0 else float(score >= threshold)
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(REAL_RGB, FAKE_RGB, strict=True))
    return red, green, blue


def write_annotated(
    source: Source, sound: Sound, tracks: Sequence[TrackScores], threshold: float, n_frames: int, path: Path
) -> None:
    """Write a video as MP4 (H.264, AAC, 30 fps) with boxes, scores and the running curve.

    Args:
        source: the video, opened anew. `sound`: its sound, complete.
        tracks: at least one of them with scores. `threshold`: the score that counts as fake.
        n_frames: of the video, at 30 fps.

    Raises:
        VideoError: it can't be read. OSError: the file can't be written.
    """
    painter = Painter(tracks, threshold, n_frames)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        pictures = PictureTrack(container)
        heard = SoundTrack(container, sound)
        k = 0  # the frame to be written, at 30 fps
        for frame, n in source.frames():
            if frame is None:  # the picture before stands on
                k += n
                heard.write(k, skips_silence=True)
                continue
            image, scale = shrunk(to_rgb(frame))
            for _ in range(n):
                pictures.write(painter.paint(image, scale, k), k)
                if k >= heard.n_frames:  # a second at a time: picture and sound lie side by side in the file
                    heard.write(min(k + FPS, n_frames))
                k += 1
        pictures.finish()
        heard.finish()


def shrunk(image: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture (H, W, 3) made small enough, its sides even numbers, and the scale."""
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


class Painter:
    """Draws the scores of a video's tracks, of which at least one has some, into its pictures."""

    def __init__(self, tracks: Sequence[TrackScores], threshold: float, n_frames: int):
        self._tracks = [track for track in tracks if len(track.scores)]
        self._curves = [score_at(track, n_frames) for track in self._tracks]
        self._top = top_of(self._tracks, threshold)
        self._threshold, self._n_frames = threshold, n_frames
        self._panel: np.ndarray | None = None  # (PANEL_PX, width, 3), once a picture has shown the width

    def paint(self, image: np.ndarray, scale: float, k: int) -> np.ndarray:
        """Frame k with boxes, and the curve below it; `image` is (H, W, 3) RGB, `scale` times its size."""
        height, width = image.shape[:2]
        if self._panel is None:
            self._panel = draw_panel(self._curves, self._threshold, self._top, width)
        picture = np.concatenate([image, self._panel])
        for track, curve in zip(self._tracks, self._curves, strict=True):
            i = k - track.first_frame
            if 0 <= i < len(track.boxes):
                score = float(curve[min(k, self._n_frames - 1)])
                draw_box(picture[:height], track.boxes[i] * scale, score, self._threshold)
        x = round(k / max(1, self._n_frames - 1) * (width - 1))
        cv2.line(picture, (x, height), (x, height + PANEL_PX - 1), INK_RGB, 1)
        return picture


def draw_panel(curves: Sequence[np.ndarray], threshold: float, top: float, width: int) -> np.ndarray:
    """The curves over the whole video, (PANEL_PX, width, 3) uint8 RGB, without the cursor."""
    panel = np.full((PANEL_PX, width, 3), PANEL_RGB, np.uint8)
    for curve in curves:
        at = (np.arange(width) * len(curve) / width).astype(int)
        draw_strip_curve(panel, curve[at], threshold, top)
    y = panel_y(threshold, top)
    for x in range(0, width, 12):
        cv2.line(panel, (x, y), (x + 5, y), INK_RGB, 1)
    return panel


def draw_strip_curve(panel: np.ndarray, scores: np.ndarray, threshold: float, top: float) -> None:
    """Draw a curve, a score per column, on what is above the threshold."""
    panel[:, scores >= threshold] = HIGH_RGB
    for x in range(1, len(scores)):
        before, score = scores[x - 1], scores[x]
        if not np.isnan(before) and not np.isnan(score):
            points = (x - 1, panel_y(before, top)), (x, panel_y(score, top))
            cv2.line(panel, *points, colour_of(score, threshold), 2, cv2.LINE_AA)


def panel_y(score: float, top: float) -> int:
    """The row of the panel in which a score lies."""
    return round((PANEL_PX - 1) * (1 - score / top))


def draw_box(picture: np.ndarray, box: np.ndarray, score: float, threshold: float) -> None:
    """Draw a box, x1 y1 x2 y2 in pixels, with its score into an RGB picture."""
    colour, width = colour_of(score, threshold), picture.shape[1]
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, max(2, round(width / 320)))
    text = "?" if np.isnan(score) else f"{score:.2f}"
    size = max(0.4, width / 1100)
    (w, h), _ = cv2.getTextSize(text, FONT, size, 1)
    x, y = max(0, min(x1, width - w - 8)), max(h + 8, y1)
    cv2.rectangle(picture, (x, y - h - 8), (x + w + 8, y), colour, -1)
    cv2.putText(picture, text, (x + 4, y - 4), FONT, size, (255, 255, 255), 1, cv2.LINE_AA)


class PictureTrack:
    """Writes pictures to a container."""

    def __init__(self, container: av.container.OutputContainer):
        self._container = container
        self._stream = container.add_stream("libx264", rate=FPS, options=CODEC_OPTIONS)
        self._stream.pix_fmt = "yuv420p"
        self._has_size = False

    def write(self, picture: np.ndarray, k: int) -> None:
        """Encode a picture (H, W, 3) uint8 RGB as frame k; the first one decides the size."""
        if not self._has_size:
            self._stream.height, self._stream.width = picture.shape[:2]
            self._has_size = True
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = k, Fraction(1, FPS)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))


class SoundTrack:
    """Writes the sound of a video to a container, piece by piece."""

    def __init__(self, container: av.container.OutputContainer, sound: Sound):
        self.n_frames = 0  # up to here it is written, at 30 fps
        self._n_skipped = 0
        self._container, self._sound = container, sound
        self._stream = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")

    def write(self, stop: int, skips_silence: bool = False) -> None:
        """Encode the sound up to frame `stop`; with `skips_silence` only those seconds in which there is
        some.
        """
        while self.n_frames < stop:
            n = min(FPS, stop - self.n_frames)
            samples, n_missing = self._sound.read(self.n_frames * SAMPLES_PER_FRAME, n * SAMPLES_PER_FRAME)
            self.n_frames += n
            if skips_silence and n_missing == len(samples):
                self._n_skipped += n
                continue
            block = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            block.sample_rate, block.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
            # the encoder takes unbroken sound alone
            block.pts = (self.n_frames - n - self._n_skipped) * SAMPLES_PER_FRAME
            self._mux(self._stream.encode(block))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._mux(self._stream.encode(None))

    def _mux(self, packets: list[av.Packet]) -> None:
        """Write packets, later by what was skipped."""
        skipped = round(Fraction(self._n_skipped, FPS) / self._stream.codec_context.time_base)
        for packet in packets:
            packet.pts, packet.dts = (packet.pts or 0) + skipped, (packet.dts or 0) + skipped
            self._container.mux(packet)
