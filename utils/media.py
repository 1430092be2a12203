"""Decoding: pictures at a constant 30 fps, sound at 48 kHz mono on the same clock, whatever the source is.

Time 0 is the first picture of the video. Everything is read by PyAV, once from front to back; no ffmpeg
program is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av

from utils.clocks import Clock, DisplayTimes, round_half_up, tick_of
from utils.constants import FPS, MAX_DURATION_S, SAMPLE_RATE_HZ
from utils.containers import DECODER_LIMITS, MAX_PIXELS, VideoError, open_container, pick_stream, reason
from utils.pictures import MAX_TILT_DEGREES, Orientation, is_like, orientation
from utils.sound import MAX_SOUND_JUMP_S, Sound, keep_layout
from utils.timing import Stopwatch, go_on

SOUND_LAG_S = 20  # pictures that come so much later than the sound that was read so far lie beyond its end
MAX_STILL_FRAMES = FPS  # a picture that stands for longer is a jump in time
# of pixels that are not square; beyond these it is no aspect but an error
PIXEL_ASPECTS = (Fraction(1, 4), Fraction(4))
MAX_CORRUPT_PACKETS = 1000
MAX_GAP_S = Fraction(1, 10)  # a picture that stands still for longer than that after its time hides lost ones
MAX_UNDECLARED_S = 0.5  # a file that ends earlier than it declares by more than this is damaged


@dataclass
class StillPicture:
    """A picture stands still for longer than its own time."""

    first: int  # output frame that shows it beyond its time
    begin: Fraction  # on the file's clock: the end of its own time
    end: Fraction  # and when the next picture comes


@dataclass
class Loss:
    """Output frames that are damaged, or may be: see `Source.damaged`."""

    first: int
    stop: int | None = None  # None: not over yet
    is_certain: bool = False
    gaps: list[StillPicture] = field(default_factory=list)


class Losses:
    """Which output frames may be damaged: from a lost or corrupt picture on up to the next key frame."""

    def __init__(self) -> None:
        self._all: list[Loss] = []
        # time of the last damaged packet or picture, until a key frame mends that
        self._lost_at: Fraction | None = None

    def lose(self, time: Fraction) -> None:
        """Note that a packet with this time was damaged."""
        self._lost_at = time

    def note(self, frame: av.VideoFrame, index: int, time: Fraction, gap: StillPicture) -> None:
        """Begin a loss before a frame, or end one with a key frame.

        The frame is shown from output frame `index` on, at `time`. `gap` lies between it and the one before,
        and may be empty.
        """
        loss = self._all[-1] if self._all and self._all[-1].stop is None else None
        is_certain = self._lost_at is not None or frame.is_corrupt
        is_gap = index > gap.first and gap.end - gap.begin > MAX_GAP_S
        if is_certain or is_gap:
            if loss is None:
                loss = Loss(gap.first)
                self._all.append(loss)
            loss.is_certain |= is_certain
            if is_gap:
                loss.gaps.append(gap)
        lost_at = time if frame.is_corrupt else self._lost_at
        if loss is not None and frame.key_frame and (lost_at is None or time > lost_at):
            loss.stop, lost_at = index, None
        self._lost_at = lost_at

    def spans(self, n_frames: int, is_lost: Callable[[StillPicture], bool]) -> list[tuple[int, int]]:
        """The damaged ones of `n_frames` output frames, as (first, stop), once all are noted.

        Args:
            is_lost: whether pictures were lost in a gap.
        """
        found = []
        for loss in self._all:
            firsts = [gap.first for gap in loss.gaps if is_lost(gap)]
            if loss.is_certain or firsts:
                first = loss.first if loss.is_certain else firsts[0]
                found.append((first, n_frames if loss.stop is None else loss.stop))
        return found


class Source:
    """A video file, read once from front to back, picture and sound together; see `open_source`.

    `frames` gives the pictures; when it is through, `sound` holds the sound and `warnings` what was wrong
    with the file.
    """

    def __init__(self, container: av.container.InputContainer, sound: Sound, clock: Stopwatch):
        self.sound = sound
        self._container = container
        self._clock = clock
        self._video, video_warning = pick_stream(container, "video")
        self._audio, audio_warning = pick_stream(container, "audio")
        self.warnings = [warning for warning in (video_warning, audio_warning) if warning]

        # packets
        self._restarts = Clock()
        self._display_times = DisplayTimes(self._video)
        self._n_corrupt = {"video": 0, "audio": 0}
        self._n_pictures = 0
        self._video.codec_context.options = self._audio.codec_context.options = DECODER_LIMITS
        # what damaged packets give depends on the number of threads
        self._video.codec_context.thread_count = 1

        # pictures
        self._orientation: Orientation | None = None
        self._rotation = 0  # in degrees, as PyAV tells it
        self._pixel_aspect: Fraction | None = None  # width by height, known with the first picture
        self._end = Fraction(0)  # of the last picture, from the first one on

        # output frames
        self._n_frames = 0  # known in the end
        self._losses = Losses()
        self._jumps: list[tuple[int, int]] = []  # those without a picture, as (first, stop)
        self._beyond_sound: int | None = None  # the first one that is

    def frames(self) -> Iterator[tuple[av.VideoFrame | None, int]]:
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
        held: av.VideoFrame | None = None  # which the output shows from frame `held_index` on
        held_index, end = 0, Fraction(0)  # of the last picture's own time
        for frame, time, duration in self._decode():
            if held is None:
                if frame is None:
                    continue
                self.sound.origin = end if time is None else time
            time = end if time is None else time
            index = self._index(time)
            if frame is not None:
                own_stop = min(index, max(held_index + 1, self._index(end)))
                self._losses.note(frame, index, time, StillPicture(own_stop, end, time))
            end = time + duration
            self._check_time(max(time, end), end)
            if held is not None and index > held_index:
                yield from self._show(held, held_index, index)
                held_index = index
            # else the picture stands on, or comes late (time runs back) and is left out
            if frame is not None and index >= held_index:
                held = self._as_shown(frame, held)
        if held is None:
            expected = f"expected some of at most {MAX_PIXELS:,} pixels"
            raise VideoError("video", f"has no picture that can be decoded, {expected}")
        stop = max(held_index + 1, self._index(end))
        if stop - held_index > MAX_STILL_FRAMES:
            stop = held_index + 1
        yield from self._show(held, held_index, stop)
        self._n_frames, self._end = stop, end - self.sound.origin
        self._warn()

    def _index(self, time: Fraction) -> int:
        """The output frame at a time on the file's clock."""
        return round_half_up((time - self.sound.origin) * FPS)

    def _check_time(self, time: Fraction, end: Fraction) -> None:
        origin = self.sound.origin
        if time - origin > MAX_DURATION_S:
            after_s = float(end - origin)
            raise VideoError("video", f"a picture claims to come {after_s:.0f} s after the first one")

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

    def _as_shown(self, frame: av.VideoFrame, before: av.VideoFrame | None) -> av.VideoFrame:
        """A frame with square pixels, as large as the one before, its orientation noted on it."""
        if self._orientation is None or frame.rotation != self._rotation:
            frame.opaque = None
            self._orientation, self._rotation = orientation(frame), frame.rotation
        frame.opaque = Orientation(*self._orientation)  # an object of its own: PyAV keeps them by identity
        if self._pixel_aspect is None:
            self._pixel_aspect = self._check_first(frame, self._orientation)
        if self._pixel_aspect != 1:
            # DEVIATION: pixels that are not square are made so; the authors take them as they are stored
            width = frame.width * max(self._pixel_aspect, Fraction(1))
            height = frame.height / min(self._pixel_aspect, Fraction(1))
            frame = frame.reformat(2 * round_half_up(width / 2), 2 * round_half_up(height / 2))
        return (
            frame if before is None or is_like(frame, before) else frame.reformat(before.width, before.height)
        )

    def _check_first(self, frame: av.VideoFrame, how: Orientation) -> Fraction:
        """The aspect of the video's pixels by its first frame; notes what of it is not believed or done."""
        aspect = Fraction(self._video.sample_aspect_ratio or 1) or Fraction(1)
        low, high = PIXEL_ASPECTS
        if not low <= aspect <= high or frame.width * frame.height * max(aspect, 1 / aspect) > MAX_PIXELS:
            words = f"pixels {aspect} times as wide as high are not believed, taken for square ones"
            self.warnings.append(words)
            aspect = Fraction(1)
        if abs(how.degrees) > MAX_TILT_DEGREES:
            words = f"turned by {how.degrees:.0f} degrees more than a quarter turn, which is not undone"
            self.warnings.append(f"says that it is {words}")
        return aspect

    def damaged(self) -> list[tuple[int, int]]:
        """The output frames that are not what was filmed, as (first, stop), once `frames` is through.

        They are those that stand in for lost ones and, since pictures are predicted from those before, all
        others up to the next key frame. Where a picture only stands still for long, it counts as lost if
        sound is lost there too: a variable frame rate has such pauses.
        """
        return self._losses.spans(self._n_frames, self._lacks_sound)

    def _lacks_sound(self, gap: StillPicture) -> bool:
        times = (gap.begin, gap.end)
        start, stop = (round_half_up((time - self.sound.origin) * SAMPLE_RATE_HZ) for time in times)
        stop = min(stop, start + SAMPLE_RATE_HZ)
        return self.sound.read(start, stop - start)[1] > MAX_SOUND_JUMP_S * SAMPLE_RATE_HZ

    def timings(self) -> dict[str, float]:
        """When picture and sound begin and end, in seconds on the file's clock, once `frames` is through."""
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
            after = f"first after {float(restarts[0] - self.sound.origin):.2f} s"
            n = len(restarts)
            self.warnings.append(f"its clock starts again {n} times, {after}; the parts are joined")
        if self._jumps:
            first, stop = self._jumps[0]
            longest = f"first for {(stop - first) / FPS:.2f} s after {first / FPS:.2f} s"
            times = f"{len(self._jumps)} times no new picture for more than a second"
            self.warnings.append(f"{times}, {longest}; tracks end there")
        if self._beyond_sound is not None:
            where = f"more than {SOUND_LAG_S} s beyond the sound"
            at_s = self._beyond_sound / FPS
            self.warnings.append(f"pictures after {at_s:.2f} s lie {where} and are left out")
        if self.sound.opposite_s:
            words = "the two channels of the sound cancel each other out"
            s = float(self.sound.opposite_s)
            self.warnings.append(f"{words} for {s:.2f} s; the first one is taken there")
        if self._video.duration:
            declared_s, got_s = self._video.duration * tick_of(self._video), self._end
        else:  # only the length of the whole is known
            declared_s = Fraction(self._container.duration or 0, av.time_base)
            got_s = max(self._end, self.sound.end)
        if got_s < declared_s - Fraction(MAX_UNDECLARED_S):
            words = f"ends after {float(got_s):.2f} s, declares {float(declared_s):.2f} s"
            self.warnings.append(words)

    def _decode(self) -> Iterator[tuple[av.VideoFrame | None, Fraction | None, Fraction]]:
        """Decode both streams in the file's order, stepping over corrupt packets; sound goes to `sound`.

        Yields pictures, each with its time (None: unknown) and duration in seconds; for a packet that repeats
        the picture before it, None.
        """
        rate = Fraction(self._video.average_rate or self._video.guessed_rate or FPS)
        for packet in self._restarts.mended(self._packets()):
            self._check_speed()
            is_video, tick = packet.stream.type == "video", tick_of(packet)
            # the same picture again, as in Theora; no decoder takes these
            if packet.size == 0 and packet.dts is not None:
                time = packet.dts if packet.pts is None else packet.pts
                if is_video:
                    yield None, time * tick, (packet.duration or 0) * tick or 1 / rate
            elif is_video:
                frames = cast(list[av.VideoFrame], self._decode_packet(packet, "video"))
                self._clock.lap("decode")
                for frame in frames:
                    self._n_pictures += 1
                    go_on()
                    ticks, tick = self._display_times.of(frame), tick_of(frame)
                    time_s = None if ticks is None else ticks * tick
                    yield frame, time_s, (frame.duration or 0) * tick or 1 / rate
            else:
                blocks = cast(list[av.AudioFrame], self._decode_packet(packet, "audio"))
                for block in blocks:
                    keep_layout(block)
                for block in blocks:
                    self.sound.feed(block)
                self._clock.lap("audio")
        self.sound.finish()
        self._clock.lap("audio")

    def _check_speed(self) -> None:
        if self._clock.is_too_slow(self._n_pictures):
            minutes = self._clock.elapsed_s / 60
            words = f"takes too long: {self._n_pictures} pictures in {minutes:.0f} minutes"
            raise VideoError("time", words)

    def _decode_packet(self, packet: av.Packet, kind: str) -> list:
        """The frames that a packet gives; none if it is corrupt, which is noted."""
        number = self._display_times.note(packet) if kind == "video" and packet.size else None
        frames = []
        try:
            frames = packet.decode()
            is_corrupt = packet.is_corrupt
        except av.FFmpegError as error:
            if self._n_corrupt[kind] >= MAX_CORRUPT_PACKETS:
                words = f"more than {MAX_CORRUPT_PACKETS} corrupt packets: {reason(error)}"
                raise VideoError(kind, words) from error
            is_corrupt = True
            if number is not None:
                self._display_times.forget(number)
        if is_corrupt:
            self._n_corrupt[kind] += 1
            if kind == "video":
                self._losses.lose((packet.pts or 0) * tick_of(packet))
        return frames

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
                last.stream, last.time_base = stream, tick_of(stream)
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
