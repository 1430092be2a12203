"""One video in, its 1-second chunks of face crops and sound out (spec: `<video>/<chunk:05d>/<frame:06d>.jpg`
and .wav).

The file is read once. A crop is cut out as soon as its window is final, so that only the frames that some
track still waits for are held: 7 where every frame shows the face, at most 47, and those in the detector's
batches.
"""

import dataclasses
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np

from detectors import Detector
from preprocessing.faces import MIN_DETECTIONS, MIN_SIZE_PX, Track, Tracker, crop_face
from preprocessing.settings import Settings
from preprocessing.speech import FaceMotion, choose_speaker, faces_at_once, overlap
from utils.constants import CHUNK_FRAMES, CHUNK_SAMPLES, FPS, SAMPLES_PER_FRAME
from utils.containers import VideoError
from utils.media import Source
from utils.pictures import rgb_patch, to_rgb
from utils.sound import Sound
from utils.timing import Stopwatch

MAX_MISSING_SAMPLES = CHUNK_SAMPLES // 10  # of a chunk's sound that may be filled with silence
MAX_BATCH_BYTES = 128 * 2**20  # of decoded frames in a batch for the detector; up to three batches wait


@dataclasses.dataclass
class Picture:
    """One frame at 30 fps, with the faces found in it: (n, 4) x1 y1 x2 y2 in pixels of the upright video, or
    None if nobody looked.
    """

    number: int
    frame: av.VideoFrame
    is_looked_at: bool
    boxes: np.ndarray | None = None
    begins_shot: bool = False


def detection_size(width: int, height: int, settings: Settings) -> tuple[int, int]:
    """Size in pixels at which the detector sees a video: scaled by `detect_scale`, the shorter side at least
    `detect_min_px` (or as it is, where that is less)."""
    # DEVIATION: small videos are scaled less; at 0.25 the detector would see a 224-px video at 56 px
    scale = min(1.0, max(settings.detect_scale, settings.detect_min_px / min(width, height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def find_faces(source: Source, detector: Detector, settings: Settings, clock: Stopwatch) -> Iterator[Picture]:
    """Give every frame of a video in order, when its faces and the cuts up to it are known.

    The detector works in a thread of its own, at most two batches behind the decoder. A caller that may stop
    early closes the generator (`contextlib.closing`), so that the detector is free for the next video.
    """
    from preprocessing.shots import (
        ShotDetector,  # here, so that a process that only hands videos to others starts at once
    )

    shots = ShotDetector()
    cut_frames: set[int] = set()
    known: deque[Picture] = deque()  # not given away yet
    batch: list[
        tuple[np.ndarray, np.ndarray, list[Picture]]
    ] = []  # image, its pixels -> the video's, where it is shown
    in_flight: deque[tuple[Future, list[tuple]]] = deque()
    n_frames = 0
    size: tuple[int, int] | None = None  # of the pictures, once there is one
    has_jumped = False

    def detect(images: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
        start = time.perf_counter()
        return detector.detect(images), time.perf_counter() - start

    def settle() -> None:
        future, shown = in_flight.popleft()
        found, seconds = future.result()
        clock.seconds["detect"] += seconds
        for boxes, (_, factor, pictures) in zip(found, shown, strict=True):
            boxes = boxes[:, :4].astype(np.float64) * factor
            boxes = boxes[
                (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) <= 2 * max(size)
            ]  # else no face: a detector gone wrong
            for picture in pictures:
                picture.boxes = boxes
        clock.lap("wait for the detector")

    def ready(n_decided: int) -> Iterator[Picture]:
        while (
            known
            and known[0].number < n_decided
            and (known[0].boxes is not None or not known[0].is_looked_at)
        ):
            known[0].begins_shot = known[0].number in cut_frames
            yield known.popleft()

    def submit() -> None:
        in_flight.append((thread.submit(detect, [image for image, _, _ in batch]), batch.copy()))
        batch.clear()

    thread = ThreadPoolExecutor(1)
    try:
        for frame, n in source.frames():
            if frame is None:  # nothing to look at
                n_frames += n
                has_jumped = True
                continue
            image = to_rgb(frame)
            if size is None:
                size = (image.shape[1], image.shape[0])
                if max(size) <= MIN_SIZE_PX:
                    raise VideoError(
                        "face", f"{size[0]}x{size[1]} pixels; a face must be larger than {MIN_SIZE_PX} px"
                    )
                small_size = detection_size(*size, settings)
                fitting = MAX_BATCH_BYTES // sum(plane.buffer_size for plane in frame.planes)
                batch_size = max(
                    1, min(detector.batch_size, fitting) // settings.detect_every
                )  # frames between are held too
            image = cv2.resize(image, small_size, interpolation=cv2.INTER_LINEAR)
            clock.lap("shrink")
            # DEVIATION: tracks end where the shot ends; the authors' code overwrites its shot list by one
            # shot
            cut_frames.update(shots.cuts(n_frames, image))
            # DEVIATION: tracks end where the time jumps, or a picture stands still, by more than a second; no
            # crops there
            if has_jumped:
                cut_frames.add(n_frames)
                has_jumped = False
            clock.lap("shots")
            pictures = [
                Picture(number, frame, number % settings.detect_every == 0 or number in cut_frames)
                for number in range(n_frames, n_frames + n)
            ]
            known.extend(pictures)
            n_frames += n
            looked_at = [picture for picture in pictures if picture.is_looked_at]
            if looked_at:
                batch.append((image, np.tile(np.divide(size, small_size), 2), looked_at))
            if len(batch) == batch_size:
                submit()
            while in_flight and (len(in_flight) > 1 or in_flight[0][0].done()):
                settle()
            yield from ready(
                n_frames - n + 1 - shots.event_buffer_length
            )  # a cut may be told that much later
        if batch:
            submit()
        while in_flight:
            settle()
        yield from ready(n_frames)
    finally:
        thread.shutdown(
            cancel_futures=True
        )  # waits for the batch at work: the next video's would run beside it


class ChunkWriter:
    """Cuts out the face of one track and writes it chunk by chunk: <folder>/<chunk:05d>/<frame:06d>.jpg."""

    def __init__(self, track: Track, folder: Path, quality: int, clock: Stopwatch):
        self.track = track
        self.folder = folder
        self._quality = quality
        self._clock = clock
        self.motion = FaceMotion()
        self._n_cropped = self._n_written = 0
        self._jpegs: list[bytes] = []

    @property
    def next_frame(self) -> int:
        """The frame that is needed next."""
        return self.track.first_frame + self._n_cropped

    def jpeg(self, i: int) -> bytes:
        """Crop i, counted from the track's first frame, of a track that has ended; also of the tail that
        fills no chunk.
        """
        c, k = divmod(i, CHUNK_FRAMES)
        return (
            self._jpegs[k]
            if c == self._n_written
            else (self.folder / f"{c:05d}" / f"{k:06d}.jpg").read_bytes()
        )

    def crop(self, frames: dict[int, av.VideoFrame]) -> None:
        """Cut out the face in the frames whose windows are final."""
        stop = self.track.n_final_windows()
        if stop == self._n_cropped:
            return
        for window in self.track.windows(self._n_cropped, stop):
            patch, top, left = rgb_patch(frames[self.next_frame], window)
            crop = crop_face(patch, window - (top, top, left, left))
            self._n_cropped += 1
            self._clock.lap("crop")
            self.motion.add(crop)
            self._clock.lap("motion")
            # DEVIATION: each crop is encoded once, from the decoded source; the authors re-encode four times
            # on the way
            bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
            self._jpegs.append(
                cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].tobytes()
            )
            self._clock.lap("encode")

    def write(self) -> None:
        """Write the chunks that are complete; a tail of less than 30 frames is never written."""
        while len(self._jpegs) >= CHUNK_FRAMES:
            chunk = self.folder / f"{self._n_written:05d}"
            chunk.mkdir(parents=True)
            for i, jpeg in enumerate(self._jpegs[:CHUNK_FRAMES]):
                (chunk / f"{i:06d}.jpg").write_bytes(jpeg)
            del self._jpegs[:CHUNK_FRAMES]
            self._n_written += 1
        self._clock.lap("write")


@dataclasses.dataclass
class Found:
    """What reading a video gave: the tracks, the longest first, and figures on the whole.

    Where one track is to be kept of a video (`Settings.tracks`), they are those among which `keep_speaker`
    chooses.
    """

    tracks: list[ChunkWriter] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)  # of faces that are seen at the same time
    shots: list[int] = dataclasses.field(default_factory=lambda: [0])
    n_tracks: int = 0
    n_frames: int = 0  # up to the last picture, with those that time jumps over
    n_pictures: int = 0
    n_with_face: int = 0


def track_and_crop(pictures: Iterator[Picture], folder: Path, settings: Settings, clock: Stopwatch) -> Found:
    """Follow the faces through a video and write their crops to `folder`, a folder per track."""
    found = Found()
    tracker = Tracker(settings.detect_every)
    frames: dict[int, av.VideoFrame] = {}  # those that a track may still need
    writers: dict[Track, ChunkWriter] = {}

    def finish(tracks: list[Track]) -> None:
        """Write the rest of tracks that have ended; delete those that are no face or not kept."""
        for track in tracks:
            writer = writers.pop(track)
            found.tracks.append(writer)
            if tracker.is_face(track):
                found.n_tracks += 1
                writer.crop(frames)
                writer.write()
            else:
                drop(writer)
        found.tracks.sort(key=lambda writer: (-writer.track.n_frames, writer.track.number))
        if settings.tracks == "longest" and len(found.tracks) > 1:
            best = next((writer for writer in found.tracks if not writer.motion.is_still), found.tracks[0])
            for writer in found.tracks.copy():
                rivals = (best.track, *tracker.live)  # one of these may become the longest
                if writer is not best and not any(overlap(writer.track, rival) for rival in rivals):
                    drop(writer)

    def drop(writer: ChunkWriter) -> None:
        found.tracks.remove(writer)
        shutil.rmtree(writer.folder, ignore_errors=True)

    for picture in pictures:
        frames[picture.number] = picture.frame
        found.n_pictures += 1
        found.n_with_face += picture.boxes is not None and len(picture.boxes) > 0
        if picture.begins_shot:
            found.shots.append(picture.number)
            finish(tracker.end_shot(found.n_frames))
        found.n_frames = picture.number + 1
        ended = tracker.update(picture.number, picture.boxes)
        for track in tracker.live:
            if track not in writers:
                writers[track] = ChunkWriter(track, folder / str(track.number), settings.jpeg_quality, clock)
        clock.lap("track")
        finish(ended)
        for track in tracker.live:
            writers[track].crop(frames)
            if tracker.is_long_enough(track):
                writers[track].write()
        needed = min((writers[track].next_frame for track in tracker.live), default=picture.number + 1)
        for number in [number for number in frames if number < needed]:
            del frames[number]
    finish(tracker.end_shot(found.n_frames))
    if settings.tracks == "all":
        n_faces, first_frame = faces_at_once([writer.track for writer in found.tracks])
        if n_faces > 1:
            found.warnings.append(
                f"{n_faces} faces at the same time from {first_frame / FPS:.1f} s; all have the same sound"
            )
    return found


def keep_speaker(found: Found, sound: Sound) -> None:
    """Leave in `found` the one track that is kept of a video, once its sound is read."""
    # DEVIATION: the longest track, of several at a time the one that speaks, or all; the authors keep the
    # last in a listing
    tracks = [writer.track for writer in found.tracks]
    chosen, why = choose_speaker(tracks, [writer.motion for writer in found.tracks], sound)
    if why:
        own = [track for track in tracks if track is tracks[chosen] or overlap(track, tracks[chosen])]
        n_faces, first_frame = faces_at_once(own)
        found.warnings.append(f"{n_faces} faces at the same time from {first_frame / FPS:.1f} s; {why}")
    found.tracks = [found.tracks[chosen]]


def cut_sound(source: Source, first_frame: int, damaged: Sequence[tuple[int, int]]) -> tuple[np.ndarray, str]:
    """The sound of the chunk from `first_frame` on, and whether the chunk is of use, once the source is read.

    Args:
        damaged: as `Source.damaged` gives it.

    Returns:
        (48000,) int16, and "chunks" if it is, else what it is: "without_sound" or "damaged".
    """
    samples, n_missing = source.sound.read(first_frame * SAMPLES_PER_FRAME, CHUNK_SAMPLES)
    # DEVIATION: up to 0.1 s of missing sound becomes silence; a chunk that lacks more is left out and counted
    if n_missing > MAX_MISSING_SAMPLES:
        return samples, "without_sound"
    # DEVIATION: seconds with damaged frames are left out and named
    is_damaged = any(begin < first_frame + CHUNK_FRAMES and first_frame < stop for begin, stop in damaged)
    return samples, "damaged" if is_damaged else "chunks"


def check_tracks(found: Found) -> None:
    """VideoError, with the reason, if a video has no track."""
    if found.n_pictures < MIN_DETECTIONS:
        raise VideoError(
            "length",
            f"too short: {found.n_pictures / FPS:.2f} s, a track needs at least {MIN_DETECTIONS} frames at {FPS} fps",
        )
    if found.n_with_face == 0:
        raise VideoError("face", f"no face found in {found.n_pictures} frames")
    if not found.tracks:
        raise VideoError(
            "track",
            f"faces in {found.n_with_face} of {found.n_pictures} frames, but none seen {MIN_DETECTIONS} times in one shot at "
            f"more than {MIN_SIZE_PX} px",
        )
