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

MAX_SIDE_PX = 960  # of the written picture; larger videos are scaled down
PANEL_PX = 96  # height of the curve below the picture
REAL_RGB, FAKE_RGB = (tuple(bytes.fromhex(colour[1:])) for colour in (REAL_COLOUR, FAKE_COLOUR))
GREY_RGB, INK_RGB = (150, 150, 150), (40, 40, 40)
FONT = cv2.FONT_HERSHEY_SIMPLEX
CODEC_OPTIONS = {"crf": "24", "preset": "veryfast"}


def colour_of(score: float, threshold: float) -> tuple[int, int, int]:
    """Grey without a score; else from blue, at half the threshold and below, to red, at one and a half and
    above.
    """
    if np.isnan(score):
        return GREY_RGB
    share = float(np.clip(score / threshold - 0.5, 0, 1)) if threshold > 0 else float(score >= threshold)
    return tuple(round(a + share * (b - a)) for a, b in zip(REAL_RGB, FAKE_RGB, strict=True))


def draw_panel(curves: Sequence[np.ndarray], threshold: float, top: float, width: int) -> np.ndarray:
    """The curves over the whole video, (PANEL_PX, width, 3) uint8 RGB, without the cursor."""
    panel = np.full((PANEL_PX, width, 3), 245, np.uint8)

    def y(score: float) -> int:
        return round((PANEL_PX - 1) * (1 - score / top))

    for curve in curves:
        at = (np.arange(width) * len(curve) / width).astype(int)
        for x, score in enumerate(curve[at]):
            if score >= threshold:
                panel[:, x] = (250, 222, 214)
        previous = None
        for x, score in enumerate(curve[at]):
            point = None if np.isnan(score) else (x, y(score))
            if point and previous:
                cv2.line(panel, previous, point, colour_of(score, threshold), 2, cv2.LINE_AA)
            previous = point
    for x in range(0, width, 12):
        cv2.line(panel, (x, y(threshold)), (x + 5, y(threshold)), INK_RGB, 1)
    return panel


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
    judged = [track for track in tracks if len(track.scores)]
    curves = [score_at(track, n_frames) for track in judged]
    top = top_of(judged, threshold)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options=CODEC_OPTIONS)
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        k, heard, panel = 0, SoundTrack(container, audio, sound), None
        for frame, n in source.frames():
            if frame is None:  # the picture before stands on
                k += n
                heard.write(k, skips_silence=True)
                continue
            image = to_rgb(frame)
            height, width = image.shape[:2]
            scale = min(1.0, MAX_SIDE_PX / max(height, width))
            size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            if panel is None:
                video.width, video.height, video.pix_fmt = size[0], size[1] + PANEL_PX, "yuv420p"
                panel = draw_panel(curves, threshold, top, size[0])
            for _ in range(n):
                picture = np.concatenate([image, panel])
                for track, curve in zip(judged, curves, strict=True):
                    i = k - track.first_frame
                    if 0 <= i < len(track.boxes):
                        draw_box(
                            picture[: size[1]], track, i, scale, float(curve[min(k, n_frames - 1)]), threshold
                        )
                x = round(k / max(1, n_frames - 1) * (size[0] - 1))
                cv2.line(picture, (x, size[1]), (x, size[1] + PANEL_PX - 1), INK_RGB, 1)
                encoded = av.VideoFrame.from_ndarray(picture, format="rgb24")
                encoded.pts, encoded.time_base = k, Fraction(1, FPS)
                container.mux(video.encode(encoded))
                if (
                    k >= heard.n_frames
                ):  # a second of sound at a time, so that both lie side by side in the file
                    heard.write(min(k + FPS, n_frames))
                k += 1
        container.mux(video.encode(None))
        heard.finish()


def draw_box(
    picture: np.ndarray, track: TrackScores, i: int, scale: float, score: float, threshold: float
) -> None:
    """Draw the box of a track at its frame i, with its score, into an RGB picture."""
    colour = colour_of(score, threshold)
    x1, y1, x2, y2 = np.rint(track.boxes[i] * scale).astype(int).tolist()
    thickness = max(2, round(picture.shape[1] / 320))
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thickness)
    text = "?" if np.isnan(score) else f"{score:.2f}"
    size = max(0.4, picture.shape[1] / 1100)
    (w, h), _ = cv2.getTextSize(text, FONT, size, 1)
    x, y = max(0, min(x1, picture.shape[1] - w - 8)), max(h + 8, y1)
    cv2.rectangle(picture, (x, y - h - 8), (x + w + 8, y), colour, -1)
    cv2.putText(picture, text, (x + 4, y - 4), FONT, size, (255, 255, 255), 1, cv2.LINE_AA)


class SoundTrack:
    """Writes the sound of a video to a container, piece by piece."""

    def __init__(self, container: av.container.OutputContainer, stream: av.AudioStream, sound: Sound):
        self.n_frames = 0  # up to here it is written, at 30 fps
        self._n_skipped = 0
        self._container, self._stream, self._sound = container, stream, sound

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
            block.pts = (
                self.n_frames - n - self._n_skipped
            ) * SAMPLES_PER_FRAME  # the encoder takes unbroken sound alone
            self._mux(self._stream.encode(block))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._mux(self._stream.encode(None))

    def _mux(self, packets: list[av.Packet]) -> None:
        skipped = round(Fraction(self._n_skipped, FPS) / self._stream.codec_context.time_base)
        for packet in packets:
            packet.pts, packet.dts = packet.pts + skipped, packet.dts + skipped
            self._container.mux(packet)
