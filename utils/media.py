"""Decoding: pictures at a constant 30 fps, sound at 48 kHz mono on the same clock, whatever the source is.

Time 0 is the first picture of the video. Everything is read by PyAV, once from front to back; no ffmpeg
program is needed.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av

from utils.clocks import Clock, DisplayTimes, round_half_up
from utils.constants import FPS, MAX_DURATION_S, SAMPLE_RATE_HZ
from utils.containers import DECODER_LIMITS, MAX_PIXELS, VideoError, open_container, pick_stream, reason
from utils.pictures import MAX_TILT_DEGREES, Orientation, is_like, orientation
from utils.sound import MAX_SOUND_JUMP_S, Sound, keep_layout
from utils.timing import Stopwatch, go_on

SOUND_LAG_S = 20  # pictures that come so much later than the sound that was read so far lie beyond its end
MAX_STILL_FRAMES = FPS  # a picture that stands for longer is a jump in time
PIXEL_ASPECTS = (
    Fraction(1, 4),
    Fraction(4),
)  # of pixels that are not square; beyond these it is no aspect but an error
MAX_CORRUPT_PACKETS = 1000
MAX_GAP_S = Fraction(1, 10)  # a picture that stands still for longer than that after its time hides lost ones
MAX_UNDECLARED_S = 0.5  # a file that ends earlier than it declares by more than this is damaged


@dataclass
class Loss:
    """Output frames from `first` to `stop` (None: not over yet) that are damaged, or may be: see
    `Source.damaged`.
    """

    first: int
    stop: int | None = None
    is_certain: bool = False
    gaps: list[tuple[int, Fraction, Fraction]] = field(
        default_factory=list
    )  # output frame, begin and end on the file's clock


class Source:
    """A video file, read once from front to back, picture and sound together; see `open_source`.

    `frames` gives the pictures; when it is through, `sound` holds the sound and `warnings` what was wrong
    with the file.
    """

    def __init__(self, container: av.container.InputContainer, sound: Sound, clock: Stopwatch):
        self.sound = sound
        self.warnings: list[str] = []
        self._end = Fraction(0)  # of the last picture
        self._container = container
        self._clock = clock
        (self._video, *video_warning), (self._audio, *audio_warning) = (
            pick_stream(container, k) for k in ("video", "audio")
        )
        self.warnings += filter(None, video_warning + audio_warning)
        self._restarts, self._display_times = Clock(), DisplayTimes(self._video)
        self._jumps: list[tuple[int, int]] = []  # output frames without a picture, as (first, stop)
        for stream in (self._video, self._audio):
            stream.codec_context.options = DECODER_LIMITS
        self._video.codec_context.thread_count = (
            1  # what damaged packets give depends on the number of threads
        )
        self._pixel_aspect: Fraction | None = None  # width by height, known with the first picture
        self._n_pictures = 0
        self._beyond_sound: int | None = None  # the first output frame that is
        self._orientation: Orientation | None = None  # of the pictures
        self._rotation = 0  # in degrees, as PyAV tells it
        self._n_corrupt = {"video": 0, "audio": 0}
        self._lost_at: Fraction | None = (
            None  # time of the last damaged packet or picture, until a key frame mends that
        )
        self._losses: list[Loss] = []

    def frames(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Decode the pictures at a constant 30 fps, and the sound on the way.

        Yields (frame, n): a source frame and for how many consecutive output frames it stands (n >= 1).
        Output frame k is the last source frame whose time, rounded to the nearest 1/30 s, is at most k/30 s;
        source frames that no output frame shows are left out. All have the first one's size, and square
        pixels. (None, n): for n output frames there is no picture, since the time jumps (a picture that would
        stand for more than a second is shown for one frame), or the sound has ended long before.

        Raises:
            VideoError: nothing can be decoded, time stamps beyond `MAX_DURATION_S`, more than
                `MAX_CORRUPT_PACKETS`.
        """
        step = 1 / Fraction(
            self._video.average_rate or self._video.guessed_rate or FPS
        )  # of a frame without time or duration
        held, held_index, origin, end = None, 0, None, Fraction(0)
        for frame, time, duration in self._decode():
            if held is None and frame is None:
                continue
            time = end if time is None else time
            if origin is None:
                origin = self.sound.origin = time
            index = round_half_up((time - origin) * FPS)
            own_stop = min(
                index, max(held_index + 1, round_half_up((end - origin) * FPS))
            )  # where the held one's own time ends
            if frame is not None:
                self._note_loss(frame, own_stop, index, end, time)
            end = time + (duration or step)
            if max(time, end) - origin > MAX_DURATION_S:
                raise VideoError(
                    "video", f"a picture claims to come {float(end - origin):.0f} s after the first one"
                )
            if held is not None and index > held_index:
                yield from self._show(held, held_index, index)
                held_index = index
            if (
                frame is None or index < held_index
            ):  # the picture stands on, or comes late (time runs back) and is left out
                continue
            frame = self._with_square_pixels(frame)
            held = frame if held is None or is_like(frame, held) else frame.reformat(held.width, held.height)
        if held is None:
            raise VideoError(
                "video", f"has no picture that can be decoded, expected some of at most {MAX_PIXELS:,} pixels"
            )
        stop = max(held_index + 1, round_half_up((end - origin) * FPS))
        if stop - held_index > MAX_STILL_FRAMES:
            stop = held_index + 1
        yield from self._show(held, held_index, stop)
        self._losses = [replace(loss, stop=stop if loss.stop is None else loss.stop) for loss in self._losses]
        self._end = end - origin
        self._warn()

    def _show(self, held: av.VideoFrame, start: int, stop: int) -> Iterator[tuple[av.VideoFrame | None, int]]:
        """A picture for output frames start .. stop-1, unless it stands still for too long or lies beyond the
        sound.
        """
        reached, time = self.sound.reached, self.sound.origin + Fraction(start, FPS)
        if reached is not None and time > reached + SOUND_LAG_S:
            self._beyond_sound = start if self._beyond_sound is None else self._beyond_sound
            yield None, stop - start
        elif stop - start <= MAX_STILL_FRAMES:
            yield held, stop - start
        else:
            self._jumps.append((start + 1, stop))
            yield held, 1
            yield None, stop - start - 1

    def _with_square_pixels(self, frame: av.VideoFrame) -> av.VideoFrame:
        """A frame as it is shown: made wider or higher if its pixels are not square, its orientation noted on
        it.
        """
        if self._orientation is None or frame.rotation != self._rotation:
            frame.opaque = None
            self._orientation, self._rotation = orientation(frame), frame.rotation
        frame.opaque = Orientation(*self._orientation)  # an object of its own, as above
        if self._pixel_aspect is None:
            aspect = Fraction(self._video.sample_aspect_ratio or 1) or Fraction(1)
            low, high = PIXEL_ASPECTS
            if not low <= aspect <= high or frame.width * frame.height * max(aspect, 1 / aspect) > MAX_PIXELS:
                self.warnings.append(
                    f"pixels {aspect} times as wide as high are not believed, taken for square ones"
                )
                aspect = Fraction(1)
            self._pixel_aspect = aspect
            tilt = self._orientation.degrees
            if abs(tilt) > MAX_TILT_DEGREES:
                self.warnings.append(
                    f"says that it is turned by {tilt:.0f} degrees more than a quarter turn, which is not undone"
                )
        if self._pixel_aspect == 1:
            return frame
        # DEVIATION: pixels that are not square are made so; the authors take them as they are stored
        width, height = frame.width * max(self._pixel_aspect, 1), frame.height / min(self._pixel_aspect, 1)
        return frame.reformat(2 * round_half_up(width / 2), 2 * round_half_up(height / 2))

    def _note_loss(
        self, frame: av.VideoFrame, own_stop: int, index: int, end: Fraction, time: Fraction
    ) -> None:
        """Begin a loss before a frame, or end one with a key frame.

        The frame is shown from output frame `index` on, at `time`; the one before it ended at `end`, output
        frame `own_stop`.
        """
        loss = self._losses[-1] if self._losses and self._losses[-1].stop is None else None
        is_gap = index > own_stop and time - end > MAX_GAP_S
        if self._lost_at is not None or frame.is_corrupt or is_gap:
            if loss is None:
                loss = Loss(own_stop)
                self._losses.append(loss)
            loss.is_certain |= self._lost_at is not None or frame.is_corrupt
            if is_gap:
                loss.gaps.append((own_stop, end, time))
        lost_at = time if frame.is_corrupt else self._lost_at
        if loss is not None and frame.key_frame and (lost_at is None or time > lost_at):
            loss.stop, lost_at = index, None
        self._lost_at = lost_at

    def damaged(self) -> list[tuple[int, int]]:
        """The output frames that are not what was filmed, as (first, stop), once `frames` is through.

        They are those that stand in for lost ones and, since pictures are predicted from those before, all
        others up to the next key frame. Where a picture only stands still for long, it counts as lost if
        sound is lost there too: a variable frame rate has such pauses.
        """
        found = []
        for loss in self._losses:
            firsts = [first for first, begin, end in loss.gaps if self._lacks_sound(begin, end)]
            if loss.is_certain or firsts:
                found.append((loss.first if loss.is_certain else firsts[0], loss.stop))
        return found

    def _lacks_sound(self, begin: Fraction, end: Fraction) -> bool:
        start, stop = (round_half_up((time - self.sound.origin) * SAMPLE_RATE_HZ) for time in (begin, end))
        stop = min(stop, start + SAMPLE_RATE_HZ)
        return self.sound.read(start, stop - start)[1] > MAX_SOUND_JUMP_S * SAMPLE_RATE_HZ

    def timings(self) -> dict[str, float]:
        """When picture and sound begin and end, in seconds on the file's own clock, once `frames` is through."""
        origin = self.sound.origin
        times = (("picture", Fraction(0), self._end), ("sound", self.sound.start, self.sound.end))
        return {
            f"{kind}_{name}_s": round(float(origin + at), 3)
            for kind, *span in times
            for name, at in zip(("start", "end"), span, strict=True)
        }

    def _warn(self) -> None:
        """Note corrupt packets, and an end that comes before the declared one."""
        for kind, n in self._n_corrupt.items():
            if n:
                self.warnings.append(f"{n} corrupt {kind} packets")
        if restarts := self._restarts.restarts:
            at_s = float(restarts[0] - self.sound.origin)
            self.warnings.append(
                f"its clock starts again {len(restarts)} times, first after {at_s:.2f} s; the parts are joined"
            )
        if self._jumps:
            first, stop = self._jumps[0]
            self.warnings.append(
                f"{len(self._jumps)} times no new picture for more than a second, first for {(stop - first) / FPS:.2f} s after "
                f"{first / FPS:.2f} s; tracks end there"
            )
        if self._beyond_sound is not None:
            at_s = self._beyond_sound / FPS
            self.warnings.append(
                f"pictures after {at_s:.2f} s lie more than {SOUND_LAG_S} s beyond the sound and are left out"
            )
        if self.sound.opposite_s:
            s = float(self.sound.opposite_s)
            self.warnings.append(
                f"the two channels of the sound cancel each other out for {s:.2f} s; the first one is taken there"
            )
        if self._video.duration:
            declared_s, got_s = self._video.duration * self._video.time_base, self._end
        else:  # only the length of the whole is known
            declared_s, got_s = (
                Fraction(self._container.duration or 0, av.time_base),
                max(self._end, self.sound.end),
            )
        if got_s < declared_s - Fraction(MAX_UNDECLARED_S):
            self.warnings.append(f"ends after {float(got_s):.2f} s, declares {float(declared_s):.2f} s")

    def _decode(self) -> Iterator[tuple[av.VideoFrame | None, Fraction | None, Fraction]]:
        """Decode both streams in the file's order, stepping over corrupt packets; sound goes to `sound`.

        Yields pictures, each with its time and duration in seconds (None and 0: unknown); for a packet that
        repeats the picture before it, None.
        """
        for packet in self._restarts.mended(self._packets()):
            kind = packet.stream.type
            if self._clock.is_too_slow(self._n_pictures):
                minutes = self._clock.elapsed_s / 60
                raise VideoError(
                    "time", f"takes too long: {self._n_pictures} pictures in {minutes:.0f} minutes"
                )
            if (
                packet.size == 0 and packet.dts is not None
            ):  # the same picture again, as in Theora; no decoder takes these
                if kind == "video" and (time := packet.dts if packet.pts is None else packet.pts) is not None:
                    yield None, time * packet.time_base, (packet.duration or 0) * packet.time_base
                continue
            number = self._display_times.note(packet) if kind == "video" and packet.size else None
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                frames = []
                if self._n_corrupt[kind] >= MAX_CORRUPT_PACKETS:
                    raise VideoError(
                        kind, f"more than {MAX_CORRUPT_PACKETS} corrupt packets: {reason(error)}"
                    ) from error
                is_corrupt = True
                if number is not None:
                    self._display_times.forget(number)
            else:
                is_corrupt = packet.is_corrupt
            if is_corrupt:
                self._n_corrupt[kind] += 1
                if kind == "video":
                    self._lost_at = (packet.pts or 0) * packet.time_base
            if kind == "audio":
                for frame in frames:
                    keep_layout(frame)
                for frame in frames:
                    self.sound.feed(frame)
                self._clock.lap("audio")
            else:
                self._clock.lap("decode")
                for frame in frames:
                    self._n_pictures += 1
                    go_on()
                    ticks, tick = self._display_times.of(frame), frame.time_base
                    yield frame, None if ticks is None else ticks * tick, (frame.duration or 0) * tick
        self.sound.finish()
        self._clock.lap("audio")

    def _packets(self) -> Iterator[av.Packet]:
        """The packets of both streams; the last ones are empty and let the decoders give what they still
        hold.
        """
        streams = (self._video, self._audio)
        try:
            yield from self._container.demux(streams)
        except (av.error.InvalidDataError, av.error.EOFError) as error:  # damaged from here on
            self.warnings.append(f"can't be read to its end: {reason(error)}")
            for stream in streams:
                last = av.Packet()
                last.stream, last.time_base = stream, stream.time_base
                yield last
        except av.FFmpegError as error:
            raise VideoError("read", f"can't be read to its end: {reason(error)}") from error


@contextmanager
def open_source(path: Path, scratch: Path | None = None, clock: Stopwatch | None = None) -> Iterator[Source]:
    """Open a video for reading.

    Args:
        scratch: folder for the sound's temporary file (5.8 MB a minute); None takes the system's.
        clock: gets the seconds spent on "decode" and "audio".

    Raises:
        VideoError: not a video, no video stream, no audio stream.
    """
    if path.is_dir():
        raise VideoError("open", "is a folder, not a video; move its videos up")
    try:
        container = open_container(path)  # it looks into the streams
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError("open", f"can't be opened as a video: {reason(error)}") from error
    with container, closing(Sound(scratch)) as sound:
        yield Source(container, sound, clock or Stopwatch())
