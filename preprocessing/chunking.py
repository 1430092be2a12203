"""One video in, its chunks of face crops and sound out (spec: `<video>/<chunk:05d>/<frame:06d>.jpg`
and .wav).

The file is read once. A crop is cut out as soon as its window is final, so that only the frames that some
track still waits for are held: 7 where every frame shows the face, at most 47, and those in the detector's
batches.
"""

import dataclasses
import shutil
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np

from detectors import Detector
from preprocessing.faces import MIN_SIZE_PX, Track, Tracker, crop_face
from preprocessing.settings import Settings
from preprocessing.speech import FaceMotion, choose_speaker, faces_at_once, overlap
from utils.chunkfiles import chunk_name, frame_path, write_frames
from utils.constants import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, SECOND, ChunkLength
from utils.containers import VideoError
from utils.media import Source
from utils.pictures import rgb_patch, to_rgb
from utils.sound import Sound
from utils.timing import Stopwatch

MAX_MISSING_SAMPLES = SAMPLE_RATE_HZ // 10  # of a chunk's sound that may be filled with silence
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


@dataclasses.dataclass
class Look:
    """What the detector looks at: a picture, (h, w, 3) uint8 RGB, and the frames that it stands for."""

    image: np.ndarray
    pictures: list[Picture]


def detection_size(width: int, height: int, settings: Settings) -> tuple[int, int]:
    """Size in pixels at which the detector sees a video: scaled by `detect_scale`, the shorter side at least
    `detect_min_px` (or as it is, where that is less)."""
    # DEVIATION: small videos are scaled less; at 0.25 the detector would see a 224-px video at 56 px
    scale = min(1.0, max(settings.detect_scale, settings.detect_min_px / min(width, height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


class FaceFinder:
    """The work of `find_faces` on one video: numbers its pictures, notes its cuts, has the detector look."""

    def __init__(self, detector: Detector, settings: Settings, clock: Stopwatch):
        # here, so that a process that only hands videos to others starts at once
        from preprocessing.shots import ShotDetector

        self._detector = detector
        self._settings = settings
        self._clock = clock
        self._shots = ShotDetector()
        self._cut_frames: set[int] = set()
        self._waiting: deque[Picture] = deque()  # not given away yet
        self._n_frames = 0
        self._n_decided = 0  # of so many frames it is known whether they begin a shot
        self._has_jumped = False
        # known with the first picture: width and height of the video's and of the detector's
        self._video_px = self._seen_px = (0, 0)
        self._batch_size = 0  # in pictures
        self._batch: list[Look] = []
        self._in_flight: deque[tuple[Future, list[Look]]] = deque()
        self._thread = ThreadPoolExecutor(1)

    def skip(self, n: int) -> None:
        """For n frames there is no picture."""
        self._n_frames += n
        self._has_jumped = True

    def shrink(self, frame: av.VideoFrame) -> np.ndarray:
        """A decoded frame upright, and as small as the detector sees it; VideoError if no face fits in it."""
        image = to_rgb(frame)
        if not self._batch_size:
            self._measure(frame, image)
        image = cv2.resize(image, self._seen_px, interpolation=cv2.INTER_LINEAR)
        self._clock.lap("shrink")
        return image

    def _measure(self, frame: av.VideoFrame, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        if max(width, height) <= MIN_SIZE_PX:
            words = f"{width}x{height} pixels; a face must be larger than {MIN_SIZE_PX} px"
            raise VideoError("face", words)
        self._video_px = (width, height)
        self._seen_px = detection_size(width, height, self._settings)
        fitting = MAX_BATCH_BYTES // sum(plane.buffer_size for plane in frame.planes)
        n_held = min(self._detector.batch_size, fitting)  # with the frames between those that are looked at
        self._batch_size = max(1, n_held // self._settings.detect_every)

    def note_cuts(self, image: np.ndarray) -> None:
        """Note which frames begin a shot, as far as the next picture tells."""
        # DEVIATION: tracks end where the shot ends; the authors' code overwrites its shot list by one
        # shot
        self._cut_frames.update(self._shots.cuts(self._n_frames, image))
        # DEVIATION: tracks end where the time jumps, or a picture stands still, by more than a second; no
        # crops there
        if self._has_jumped:
            self._cut_frames.add(self._n_frames)
            self._has_jumped = False
        # the shot detector may tell of a cut so many frames later
        self._n_decided = self._n_frames + 1 - self._shots.event_buffer_length
        self._clock.lap("shots")

    def look(self, frame: av.VideoFrame, image: np.ndarray, n: int) -> None:
        """Have the detector look, where it should, at a picture that stands for the next n frames."""
        every, cuts = self._settings.detect_every, self._cut_frames
        numbers = range(self._n_frames, self._n_frames + n)
        pictures = [Picture(number, frame, number % every == 0 or number in cuts) for number in numbers]
        self._n_frames += n
        self._waiting.extend(pictures)
        looked_at = [picture for picture in pictures if picture.is_looked_at]
        if looked_at:
            self._batch.append(Look(image, looked_at))
        if len(self._batch) == self._batch_size:
            self._submit()
        while self._in_flight and (len(self._in_flight) > 1 or self._in_flight[0][0].done()):
            self._settle()

    def _submit(self) -> None:
        """Hand the batch to the detector's thread."""
        images = [look.image for look in self._batch]
        self._in_flight.append((self._thread.submit(self._detect, images), self._batch))
        self._batch = []

    def _detect(self, images: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
        """In the detector's thread: what it finds, and the seconds that it took."""
        start = time.perf_counter()
        return self._detector.detect(images), time.perf_counter() - start

    def _settle(self) -> None:
        """Note the faces that were found in the oldest batch, in pixels of the video."""
        future, looks = self._in_flight.popleft()
        found, seconds = future.result()
        self._clock.seconds["detect"] += seconds
        factor = np.tile(np.divide(self._video_px, self._seen_px), 2)  # of x1 y1 x2 y2
        for faces, look in zip(found, looks, strict=True):
            boxes = faces[:, :4].astype(np.float64) * factor
            sides = boxes[:, 2:] - boxes[:, :2]
            # larger ones are no faces: the detector has gone wrong
            boxes = boxes[sides.max(1, initial=0) <= 2 * max(self._video_px)]
            for picture in look.pictures:
                picture.boxes = boxes
        self._clock.lap("wait for the detector")

    def finish(self) -> None:
        """Wait until everything is known."""
        if self._batch:
            self._submit()
        while self._in_flight:
            self._settle()
        self._n_decided = self._n_frames

    def known(self) -> Iterator[Picture]:
        """The next pictures in order, as far as their faces and cuts are known."""
        while self._waiting and self._waiting[0].number < self._n_decided:
            picture = self._waiting[0]
            if picture.is_looked_at and picture.boxes is None:
                return
            picture.begins_shot = picture.number in self._cut_frames
            yield self._waiting.popleft()

    def close(self) -> None:
        """Let go of the detector; waits for the batch at work, beside which the next video's would run."""
        self._thread.shutdown(cancel_futures=True)


def find_faces(
    source: Source, detector: Detector, settings: Settings, clock: Stopwatch
) -> Generator[Picture, None, None]:
    """Give every frame of a video in order, when its faces and the cuts up to it are known.

    The detector works in a thread of its own, at most two batches behind the decoder. A caller that may stop
    early closes the generator (`contextlib.closing`), so that the detector is free for the next video.
    """
    finder = FaceFinder(detector, settings, clock)
    try:
        for frame, n in source.frames():
            if frame is None:
                finder.skip(n)
                continue
            image = finder.shrink(frame)
            finder.note_cuts(image)
            finder.look(frame, image, n)
            yield from finder.known()
        finder.finish()
        yield from finder.known()
    finally:
        finder.close()


class ChunkWriter:
    """Cuts out the face of one track and writes it chunk by chunk: <folder>/<chunk:05d>/<frame:06d>.jpg."""

    def __init__(self, track: Track, folder: Path, settings: Settings, clock: Stopwatch):
        self.track = track
        self.folder = folder
        self._quality, self._n_frames = settings.jpeg_quality, settings.length.n_frames  # of a chunk
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
        chunk, number = divmod(i, self._n_frames)
        if chunk == self._n_written:
            return self._jpegs[number]
        return frame_path(self.folder / chunk_name(chunk), number).read_bytes()

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
            _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
            self._jpegs.append(jpeg.tobytes())
            self._clock.lap("encode")

    def write(self) -> None:
        """Write the chunks that are complete; a tail that fills none is never written."""
        while len(self._jpegs) >= self._n_frames:
            write_frames(self.folder / chunk_name(self._n_written), self._jpegs[: self._n_frames])
            del self._jpegs[: self._n_frames]
            self._n_written += 1
        self._clock.lap("write")


@dataclasses.dataclass
class FoundTracks:
    """What reading a video gave: the tracks, the longest first, and figures on the whole.

    Where one track is to be kept of a video (`Settings.tracks`), they are those among which `keep_speaker`
    chooses.
    """

    tracks: list[ChunkWriter] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)  # of faces that are seen at the same time
    shots: list[int] = dataclasses.field(default_factory=lambda: [0])  # their first frames
    n_tracks: int = 0  # that are faces, kept or not
    n_frames: int = 0  # up to the last picture, with those that time jumps over
    n_pictures: int = 0
    n_with_face: int = 0


class FaceFollower:
    """The work of `track_and_crop` on one video, picture by picture; `found` is the result."""

    def __init__(self, folder: Path, settings: Settings, clock: Stopwatch):
        self.found = FoundTracks()
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._tracker = Tracker(settings.detect_every, settings.min_track)
        self._frames: dict[int, av.VideoFrame] = {}  # those that a track may still need
        self._writers: dict[Track, ChunkWriter] = {}  # of the tracks that have not ended

    def follow(self, picture: Picture) -> None:
        """Take the next picture: begin, go on with and end tracks, and crop what can be cropped."""
        self._frames[picture.number] = picture.frame
        self.found.n_pictures += 1
        self.found.n_with_face += picture.boxes is not None and len(picture.boxes) > 0
        if picture.begins_shot:
            self.found.shots.append(picture.number)
            self.end_shot()
        self.found.n_frames = picture.number + 1
        ended = self._tracker.update(picture.number, picture.boxes)
        for track in self._tracker.live:
            if track not in self._writers:
                folder = self._folder / str(track.number)
                self._writers[track] = ChunkWriter(track, folder, self._settings, self._clock)
        self._clock.lap("track")
        self._end(ended)
        for track in self._tracker.live:
            self._writers[track].crop(self._frames)
            if self._tracker.is_long_enough(track):
                self._writers[track].write()
        self._forget_frames()

    def end_shot(self) -> None:
        """End all tracks after the last picture."""
        self._end(self._tracker.end_shot(self.found.n_frames))

    def _end(self, tracks: list[Track]) -> None:
        """Write the rest of tracks that have ended; delete those that are no face or not kept."""
        found = self.found
        for track in tracks:
            writer = self._writers.pop(track)
            found.tracks.append(writer)
            if self._tracker.is_face(track):
                found.n_tracks += 1
                writer.crop(self._frames)
                writer.write()
            else:
                self._drop(writer)
        found.tracks.sort(key=lambda writer: (-writer.track.n_frames, writer.track.number))
        if self._settings.tracks == "longest" and len(found.tracks) > 1:
            self._drop_losers()

    def _drop_losers(self) -> None:
        """Delete the tracks that can't be the one that is kept: those not seen beside the best so far."""
        tracks = self.found.tracks
        best = next((writer for writer in tracks if not writer.motion.is_still), tracks[0])
        rivals = (best.track, *self._tracker.live)  # one of these may become the longest
        for writer in tracks.copy():
            if writer is not best and not any(overlap(writer.track, rival) for rival in rivals):
                self._drop(writer)

    def _drop(self, writer: ChunkWriter) -> None:
        self.found.tracks.remove(writer)
        shutil.rmtree(writer.folder, ignore_errors=True)

    def _forget_frames(self) -> None:
        """Let go of the frames that no track needs any more."""
        needed = (self._writers[track].next_frame for track in self._tracker.live)
        first = min(needed, default=self.found.n_frames)
        for number in [number for number in self._frames if number < first]:
            del self._frames[number]


def track_and_crop(
    pictures: Iterable[Picture], folder: Path, settings: Settings, clock: Stopwatch
) -> FoundTracks:
    """Follow the faces through a video and write their crops to `folder`, a folder per track."""
    follower = FaceFollower(folder, settings, clock)
    for picture in pictures:
        follower.follow(picture)
    follower.end_shot()
    found = follower.found
    if settings.tracks == "all":
        n_faces, first_frame = faces_at_once([writer.track for writer in found.tracks])
        if n_faces > 1:
            where = f"{n_faces} faces at the same time from {first_frame / FPS:.1f} s"
            found.warnings.append(f"{where}; all have the same sound")
    return found


def keep_speaker(found: FoundTracks, sound: Sound) -> None:
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


def cut_sound(
    source: Source, first_frame: int, damaged: Sequence[tuple[int, int]], length: ChunkLength = SECOND
) -> tuple[np.ndarray, str]:
    """The sound of the chunk from `first_frame` on, and whether the chunk is of use, once the source is read.

    Args:
        damaged: as `Source.damaged` gives it.

    Returns:
        (n_samples,) int16, and "chunks" if it is, else what it is: "without_sound" or "damaged".
    """
    samples, n_missing = source.sound.read(first_frame * SAMPLES_PER_FRAME, length.n_samples)
    # DEVIATION: up to 0.1 s of missing sound becomes silence; a chunk that lacks more is left out and counted
    if n_missing > MAX_MISSING_SAMPLES:
        return samples, "without_sound"
    # DEVIATION: seconds with damaged frames are left out and named
    end = first_frame + length.n_frames
    is_damaged = any(begin < end and first_frame < stop for begin, stop in damaged)
    return samples, "damaged" if is_damaged else "chunks"


def check_tracks(found: FoundTracks, min_track: int) -> None:
    """VideoError, with the reason, if a video has no track of at least `min_track` detections."""
    n_pictures, n_with_face = found.n_pictures, found.n_with_face
    if n_pictures < min_track:
        least = f"a track needs at least {min_track} frames at {FPS} fps"
        raise VideoError("length", f"too short: {n_pictures / FPS:.2f} s, {least}")
    if n_with_face == 0:
        raise VideoError("face", f"no face found in {n_pictures} frames")
    if not found.tracks:
        where = f"faces in {n_with_face} of {n_pictures} frames"
        least = f"{min_track} times in one shot at more than {MIN_SIZE_PX} px"
        raise VideoError("track", f"{where}, but none seen {least}")
