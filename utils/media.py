"""Decoding: pictures at a constant 30 fps, sound at 48 kHz mono on the same clock, whatever the source is.

Time 0 is the first picture of the video. Everything is read by PyAV, once from front to back; no ffmpeg program is needed.
"""

import contextlib
import ctypes
import errno
import itertools
import math
import struct
import tempfile
import wave
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideData

from utils.files import open_regular, read_bytes
from utils.timing import Stopwatch, go_on

FPS = 30
SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
CHUNK_FRAMES = 30  # 1 s
CHUNK_SAMPLES = CHUNK_FRAMES * SAMPLES_PER_FRAME

MAX_DURATION_S = 24 * 3600  # more than this is a broken time stamp
MAX_SOUND_JUMP_S = 0.015  # smaller jumps between audio packets are rounding of their time stamps, larger ones a lost packet
MAX_TREMBLE_S = 0.5  # time stamps that are off by more do not tremble
N_AHEAD = 16  # packets of sound that must agree on a jump; else their time stamps only tremble
OPPOSITE = 0.01, 0.05  # share of its power that stereo keeps when mixed: below the first it cancels out, above the second not
SILENT_POWER = 1e-8  # -80 dB: says nothing about the phase
CLOCK_RESTART_S = Fraction(1, 2)  # time stamps that run back by more begin to count anew
N_PACKETS_AHEAD, N_OWN_AHEAD = 256, 3  # looked at then: whether other streams do, whether the next of the stream go on
SOUND_LAG_S = 20  # pictures that come so much later than the sound that was read so far lie beyond its end
MAX_STILL_FRAMES = FPS  # a picture that stands for longer is a jump in time
PIXEL_ASPECTS = (Fraction(1, 4), Fraction(4))  # of pixels that are not square; beyond these it is no aspect but an error
MAX_TILT_DEGREES = 2  # from a quarter turn, for rounding
REORDERING = ("h264", "hevc", "vvc")  # codecs of which FFmpeg can't tell presentation times from decode times
MAX_CORRUPT_PACKETS = 1000
MAX_GAP_S = Fraction(1, 10)  # a picture that stands still for longer than that after its time hides lost ones
# 8K of the cinema and what codecs round it up to; a frame takes 54 MB in 4:2:0, and up to some 50 are held
MAX_PIXELS = 8192 * 4352
MAX_FRAME_PIXELS = 1920 * 1080  # of a chunk, whose 30 take 187 MB; ours have 224 x 224
MAX_FRAME_BYTES = 3 * MAX_FRAME_PIXELS
SAMPLE_RATES_HZ = (4_000, 768_000)  # beyond these, resampling takes memory without end
MAX_CHANNELS = 64
MAX_REORDERED = 64  # packets a decoder may hold back
# of a picture, of a packet of sound: FFmpeg refuses larger ones, declared or found in the coded pictures, at once or later
DECODER_LIMITS = {"max_pixels": str(MAX_PIXELS), "max_samples": str(2**21)}
SEGMENT = struct.Struct(">xBHBHH")  # of a JPEG: 0xFF, marker, length; in the frame's header bits, height, width
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
MAX_UNDECLARED_S = 0.5  # a file that ends earlier than it declares by more than this is damaged
PATCH_FORMATS = {f"yuv{j}{sampling}p" for j in ("", "j") for sampling in (420, 422, 444)}  # 8 bits, a plane per component


# The containers that are read. Playlists, lists of pictures and descriptions of streams (hls, concat, dash, image2, sdp, ...) are
# not among them: they name other files, or addresses.
CONTAINERS = (
    "aac", "aiff", "amr", "asf", "av1", "avi", "caf", "dhav", "dv", "flac", "flv", "gif", "gxf", "h263", "h264", "hevc", "ivf",
    "live_flv", "lxf", "m4v", "matroska", "mjpeg", "mov", "mp3", "mpeg", "mpegts", "mpegvideo", "mxf", "nsv", "nut", "nuv", "obu",
    "ogg", "pva", "rm", "smjpeg", "swf", "ty", "vc1", "wav", "wtv", "yuv4mpegpipe",
)  # fmt: skip
READING = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}


class VideoError(Exception):
    """One video can't be used: `stage` is where it failed (open, read, video, audio, length, face, track, chunk, and of
    a reader in a process of its own crash, time, killed), the text says why.
    """

    def __init__(self, stage: str, reason: str):
        super().__init__(stage, reason)  # both, so that it can be pickled
        self.stage = stage

    def __str__(self) -> str:
        return self.args[1]


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, on one line, without its number or our path."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def round_half_up(x: Fraction) -> int:
    return int((x + Fraction(1, 2)) // 1)


def keep_layout(frame: av.AudioFrame) -> None:
    """Keep PyAV from freeing the channel order of a frame twice, which ends the process: where the order is a custom one, frame
    and layout point to the same memory, and both free it. Its few bytes are never freed instead.
    """
    if " channels (" in frame.layout.name or frame.layout.name.startswith("ambisonic"):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(frame.layout))


def decode_sound(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """The sound of a file, frame by frame; av.FFmpegError if some of it is damaged."""
    for packet in container.demux(stream):
        frames = packet.decode()
        for frame in frames:
            keep_layout(frame)
        yield from frames


@dataclass
class Block:
    """A decoded audio frame with its time on the container's clock in seconds (None: it goes on), and, of stereo, the power of
    both channels and of their mean.
    """

    frame: av.AudioFrame
    time: Fraction | None
    is_stereo: bool = False
    power: float = 0.0
    mixed_power: float = 0.0

    @property
    def duration(self) -> Fraction:
        return Fraction(self.frame.samples, self.frame.sample_rate)


class Sound:
    """Mono 16-bit sound at 48 kHz, kept in a file without a name, so that memory does not grow with its length."""

    def __init__(self, folder: Path | None = None):
        self.origin = Fraction(0)  # time 0 of the video in seconds on the container's clock
        self.n_decoded = 0  # samples in the file
        self.reached: Fraction | None = None  # the end of what was fed, on the container's clock
        self.opposite_s = Fraction(0)  # how much of it has opposite channels
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed by `close`
        self._spans: list[tuple[int, int, int]] = []  # start, stop on the clock of `_start`, and where in the file; in order
        self._start: Fraction | None = None  # of the first sample on the container's clock; None: at `origin`
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None  # sample format, layout, rate that the resampler was made for
        self._expected = self._first = Fraction(0)
        self._position = 0  # of the sample that comes next
        self._ahead: deque[Block] = deque()  # decoded, not placed yet
        self._trembling: deque[Fraction] = deque([Fraction(0)], N_AHEAD)  # by how much the last time stamps were off
        self._is_trembling, self._offsets = False, (Fraction(0), 0)  # sum and number, of time stamps from where they should be
        self._is_opposite = False

    def feed(self, frame: av.AudioFrame) -> None:
        """Add the next decoded audio frame. Sound that comes late (time runs back) is left out.

        Raises:
            VideoError: it claims a rate or a number of channels that no sound has.
        """
        low, high = SAMPLE_RATES_HZ
        if not low <= frame.sample_rate <= high or frame.layout.nb_channels > MAX_CHANNELS:
            got = f"{frame.layout.nb_channels} channels at {frame.sample_rate:,} Hz"
            raise VideoError("audio", f"claims {got}, expected at most {MAX_CHANNELS} at {low:,} to {high:,} Hz")
        block = Block(frame, None if frame.pts is None else frame.pts * frame.time_base)
        if frame.layout.nb_channels == 2 and frame.samples and not frame.format.name.startswith("s64"):  # NumPy gets no s64
            pair = channels(frame)
            block.is_stereo = True
            block.power, block.mixed_power = (float(np.square(samples).mean()) for samples in (pair, pair.mean(0)))
        self._ahead.append(block)
        self.reached = block.duration + ((self.reached or 0) if block.time is None else block.time)
        if len(self._ahead) > N_AHEAD:
            self._settle(self._ahead.popleft())

    def finish(self) -> None:
        """Add what is still held."""
        while self._ahead:
            self._settle(self._ahead.popleft())
        self._flush()
        if self._is_trembling and self._start is not None:  # then the first time stamp does too
            self._start += self._offsets[0] / self._offsets[1]
            self._offsets, self._is_trembling = (Fraction(0), 0), False

    def _settle(self, block: Block) -> None:
        """Place the sound of a block, now that those after it are known."""
        frame, time = block.frame, self._expected if block.time is None else block.time
        if block.is_stereo:
            power, mixed = (sum(getattr(b, name) for b in (block, *self._ahead)) for name in ("power", "mixed_power"))
            if power > SILENT_POWER * (1 + len(self._ahead)):
                self._is_opposite = mixed < OPPOSITE[self._is_opposite] * power
            # DEVIATION: channels of opposite phase, whose mean is silence, give the first of them
            if self._is_opposite:
                frame = first_channel(frame)
                self.opposite_s += block.duration if block.power else 0
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None:
            self._first, self._start = time, block.time
        elif not self._jumps(block):
            offset, time = time - self._expected, self._expected
            if abs(offset) < MAX_TREMBLE_S:  # else a time stamp that is simply wrong
                self._trembling.append(abs(offset))
                self._is_trembling |= abs(offset) > MAX_SOUND_JUMP_S
                self._offsets = (self._offsets[0] + offset, self._offsets[1] + 1)
        if self._resampler is None or kind != self._kind or time != self._expected:
            self._flush()
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
            self._position = round_half_up((time - self._first) * SAMPLE_RATE_HZ)
            self._kind = kind
        self._expected = time + block.duration
        frame.pts = None  # the time is kept here; the resampler only sees consecutive sound
        self._place(self._resampler.resample(frame))

    def _jumps(self, block: Block) -> bool:
        """Whether sound is missing before a block, or there twice: it and those after it lie off by more than
        `MAX_SOUND_JUMP_S`, all to one side. Where only some do, their time stamps tremble and the sound is unbroken.
        """
        expected, offsets = self._expected, []
        for one in (block, *self._ahead):
            if one.time is not None:
                offsets.append(one.time - expected)
            expected += one.duration
        if block.time is None or not (min(offsets) > MAX_SOUND_JUMP_S or max(offsets) < -MAX_SOUND_JUMP_S):
            return False
        is_near_end = len(self._ahead) < N_AHEAD  # too few to tell a jump by, if they tremble
        return not is_near_end or abs(offsets[0]) > 2 * max(self._trembling)

    def _flush(self) -> None:
        """Add what the resampler still holds."""
        if self._resampler is not None:
            self._place(self._resampler.resample(None))

    def _place(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            block = frame.to_ndarray()[0]
            end = self._spans[-1][1] if self._spans else 0
            start, stop = max(end, self._position), min(self._position + len(block), MAX_DURATION_S * SAMPLE_RATE_HZ)
            if start < stop:
                if self._spans and start == end:
                    self._spans[-1] = (self._spans[-1][0], stop, self._spans[-1][2])
                else:
                    self._spans.append((start, stop, self.n_decoded))
                self._file.write(block[start - self._position : stop - self._position].tobytes())
                self.n_decoded += stop - start
            self._position += len(block)

    def read(self, start: int, n_samples: int) -> tuple[np.ndarray, int]:
        """Read samples from `start` on, counted from time 0: (n_samples,) int16, zero where the source has none, and how
        many those are.
        """
        offset = round_half_up(self.start * SAMPLE_RATE_HZ)
        samples = np.zeros(n_samples, np.int16)
        n_missing = n_samples
        for first, stop, place in self._spans:
            a, b = max(start, first + offset), min(start + n_samples, stop + offset)
            if a < b:
                self._file.seek(2 * (place + a - offset - first))
                samples[a - start : b - start] = np.frombuffer(self._file.read(2 * (b - a)), np.int16)
                n_missing -= b - a
        return samples, n_missing

    def close(self) -> None:
        self._file.close()

    @property
    def start(self) -> Fraction:
        """Where the first sample is, in seconds from time 0."""
        return Fraction(0) if self._start is None else self._start - self.origin

    @property
    def end(self) -> Fraction:
        """Where the last sample ends, in seconds from time 0."""
        return self.start + Fraction(self._spans[-1][1] if self._spans else 0, SAMPLE_RATE_HZ)


def channels(frame: av.AudioFrame) -> np.ndarray:
    """The samples of a decoded audio frame, (channels, n) float32 in -1..1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return (samples / scale - (samples.dtype.kind == "u")).astype(np.float32)


def first_channel(frame: av.AudioFrame) -> av.AudioFrame:
    """The first channel of a decoded audio frame, as mono sound."""
    mono = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels(frame)[:1]), format="fltp", layout="mono")
    mono.sample_rate = frame.sample_rate
    return mono


class Clock:
    """Lets the time stamps of packets go on where the file's clock starts again: recordings joined end to end, a stream after a
    reconnect. Picture and sound are moved alike. A single wrong time stamp moves nothing.
    """

    def __init__(self):
        self.restarts: list[Fraction] = []  # when it did, in seconds on the mended clock
        self._shifts = [Fraction(0)]  # of each part of the file, in seconds
        self._part: dict[int, int] = {}  # where each stream is
        self._expected: dict[int, Fraction] = {}  # decode time of the next packet of each stream
        self._end = Fraction(0)  # of all streams
        self._alone: set[int] = set()  # streams whose time ran back while that of others did not

    def mended(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """The packets of all streams with mended time stamps."""
        ahead: deque[av.Packet] = deque()
        while (packet := ahead.popleft() if ahead else next(packets, None)) is not None:
            offset, stream = self._offset(packet), packet.stream_index
            if abs(offset) <= CLOCK_RESTART_S:
                if packet.dts is not None:
                    self._alone.discard(stream)
            elif stream not in self._alone:
                ahead.extend(itertools.islice(packets, N_PACKETS_AHEAD - len(ahead)))
                own = [other for other in ahead if other.stream_index == stream and other.dts is not None][:N_OWN_AHEAD]
                if any(abs(self._offset(other)) <= CLOCK_RESTART_S for other in own):  # it alone is wrong
                    packet.dts = packet.pts = round_half_up((self._expected[stream] - self._shift(stream)) / packet.time_base)
                elif offset < 0:
                    self._enter_next_part(packet, ahead)
            self._move(packet)
            yield packet

    def _shift(self, stream: int) -> Fraction:
        return self._shifts[self._part.get(stream, 0)]

    def _offset(self, packet: av.Packet) -> Fraction:
        """By how many seconds a packet is decoded later than it should be, after those before it."""
        stream = packet.stream_index
        if packet.dts is None or stream not in self._expected:
            return Fraction(0)
        return packet.dts * packet.time_base + self._shift(stream) - self._expected[stream]

    def _enter_next_part(self, packet: av.Packet, ahead: Iterable[av.Packet]) -> None:
        """The clock starts again with a packet, unless it does so for its stream alone, whose time is wrong then."""
        stream, time = packet.stream_index, packet.dts * packet.time_base
        for part in range(self._part.get(stream, 0) + 1, len(self._shifts)):  # another stream is there already
            if time + self._shifts[part] >= self._expected[stream] - CLOCK_RESTART_S:
                self._part[stream] = part
                return
        others = [self._offset(other) for other in ahead if other.stream_index != stream and other.dts is not None]
        if others and min(others) >= -CLOCK_RESTART_S:
            self._alone.add(stream)
        else:
            first = packet.dts if packet.pts is None else packet.pts
            self._part[stream] = len(self._shifts)
            self._shifts.append(self._end - first * packet.time_base)
            self.restarts.append(self._end)

    def _move(self, packet: av.Packet) -> None:
        stream, tick = packet.stream_index, packet.time_base
        ticks = round_half_up(self._shift(stream) / tick)
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
            end = (packet.dts + (packet.duration or 0)) * tick
            self._expected[stream] = max(self._expected.get(stream, end), end)
        if (time := packet.dts if packet.pts is None else packet.pts) is not None:
            self._end = max(self._end, (time + (packet.duration or 0)) * tick)


class DisplayTimes:
    """When each decoded picture is shown, also where the container holds the order of decoding alone (H.264 in AVI).

    There FFmpeg takes a picture's place in the order of decoding for its time, though the decoder gives the pictures in the
    order of display: so the earliest time that is still free is taken.
    """

    def __init__(self, stream: av.VideoStream):
        self._is_avi = stream.container.format.name == "avi"
        self.is_guess = stream.codec_context.name in REORDERING
        self._context = stream.codec_context
        self._lead: int | None = None  # presentation minus decode time, of the first packet
        self._n_packets = 0
        self._free: dict[int, int] = {}  # by packet, in order of decoding: times that no picture has taken
        stream.codec_context.copy_opaque = True

    def note(self, packet: av.Packet) -> int:
        """Take note of a packet that goes to the decoder next; its number."""
        number, self._n_packets = self._n_packets, self._n_packets + 1
        packet.opaque = [number]  # an object of its own: PyAV keeps them by identity, for as long as the first frame that has it
        if self.is_guess:
            if not self._is_avi and packet.pts is not None and packet.dts is not None:
                self._lead = packet.pts - packet.dts if self._lead is None else self._lead
                self.is_guess = packet.pts - packet.dts == self._lead  # else the container knows both
            time = packet.dts if self._is_avi or packet.pts is None else packet.pts
            if time is not None and not packet.is_discard:  # outside the edit list: no picture comes of it
                self._free[number] = time
                if len(self._free) > MAX_REORDERED:
                    del self._free[next(iter(self._free))]
        return number

    def number_of(self, frame: av.VideoFrame) -> int | None:
        """The number of the packet that a decoded picture came in."""
        return frame.opaque[0] if frame.opaque else None

    def forget(self, number: int) -> None:
        """A packet could not be decoded."""
        self._free.pop(number, None)

    def of(self, frame: av.VideoFrame) -> int | None:
        """The time of the next decoded picture, in ticks of its stream."""
        number = self.number_of(frame)
        if not self.is_guess or (self._context.reorder_depth == 0 and not self._is_avi):
            self._free.pop(number, None)
            return frame.pts
        if frame.key_frame and number is not None:  # pictures before it in the order of decoding are shown before it
            self._free = {n: time for n, time in self._free.items() if n >= number}
        return self._free.pop(min(self._free, key=self._free.get)) if self._free else frame.pts


def pick_stream(container: av.container.InputContainer, kind: str) -> tuple[av.stream.Stream, str]:
    """The best stream of a kind (video, audio) that can be decoded, and a warning if FFmpeg prefers one that can't.

    Raises:
        VideoError: there is none.
    """
    word = {"video": "picture", "audio": "sound"}[kind]
    streams = [s for s in getattr(container.streams, kind) if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:  # cover art is none
        raise VideoError(kind, {"video": "has no video stream", "audio": "has no sound"}[kind])
    usable = [stream for stream in streams if stream.codec_context is not None]
    if not usable:
        raise VideoError("open", f"no decoder for its {word}; expected a codec that FFmpeg decodes, so convert it first")
    best = container.streams.best(kind)
    if best in usable:
        return best, ""

    def rank(stream: av.stream.Stream) -> tuple:
        codec = stream.codec_context
        size = codec.width * codec.height if kind == "video" else codec.sample_rate
        return bool(stream.disposition & av.stream.Disposition.default), size, codec.bit_rate or 0, -stream.index

    taken = max(usable, key=rank)
    warning = f"no decoder for the {word} in stream {best.index}, stream {taken.index} is taken" if best in streams else ""
    return taken, warning


@dataclass
class Loss:
    """Output frames from `first` to `stop` (None: not over yet) that are damaged, or may be: see `Source.damaged`."""

    first: int
    stop: int | None = None
    is_certain: bool = False
    gaps: list[tuple[int, Fraction, Fraction]] = field(default_factory=list)  # output frame, begin and end on the file's clock


class Source:
    """A video file, read once from front to back, picture and sound together; see `open_source`.

    `frames` gives the pictures; when it is through, `sound` holds the sound and `warnings` what was wrong with the file.
    """

    def __init__(self, container: av.container.InputContainer, sound: Sound, clock: Stopwatch):
        self.sound = sound
        self.warnings: list[str] = []
        self._end = Fraction(0)  # of the last picture
        self._container = container
        self._clock = clock
        (self._video, *video_warning), (self._audio, *audio_warning) = (pick_stream(container, k) for k in ("video", "audio"))
        self.warnings += filter(None, video_warning + audio_warning)
        self._restarts, self._display_times = Clock(), DisplayTimes(self._video)
        self._jumps: list[tuple[int, int]] = []  # output frames without a picture, as (first, stop)
        for stream in (self._video, self._audio):
            stream.codec_context.options = DECODER_LIMITS
        self._video.codec_context.thread_count = 1  # what damaged packets give depends on the number of threads
        self._pixel_aspect: Fraction | None = None  # width by height, known with the first picture
        self._n_pictures = 0
        self._beyond_sound: int | None = None  # the first output frame that is
        self._orientation: Orientation | None = None  # of the pictures
        self._rotation = 0  # in degrees, as PyAV tells it
        self._n_corrupt = {"video": 0, "audio": 0}
        self._lost_at: Fraction | None = None  # time of the last damaged packet or picture, until a key frame mends that
        self._losses: list[Loss] = []

    def frames(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Decode the pictures at a constant 30 fps, and the sound on the way.

        Yields (frame, n): a source frame and for how many consecutive output frames it stands (n >= 1). Output frame k is the
        last source frame whose time, rounded to the nearest 1/30 s, is at most k/30 s; source frames that no output frame
        shows are left out. All have the first one's size, and square pixels. (None, n): for n output frames there is no
        picture, since the time jumps (a picture that would stand for more than a second is shown for one frame), or the
        sound has ended long before.

        Raises:
            VideoError: nothing can be decoded, time stamps beyond `MAX_DURATION_S`, more than `MAX_CORRUPT_PACKETS`.
        """
        step = 1 / Fraction(self._video.average_rate or self._video.guessed_rate or FPS)  # of a frame without time or duration
        held, held_index, origin, end = None, 0, None, Fraction(0)
        for frame, time, duration in self._decode():
            if held is None and frame is None:
                continue
            time = end if time is None else time
            if origin is None:
                origin = self.sound.origin = time
            index = round_half_up((time - origin) * FPS)
            own_stop = min(index, max(held_index + 1, round_half_up((end - origin) * FPS)))  # where the held one's own time ends
            if frame is not None:
                self._note_loss(frame, own_stop, index, end, time)
            end = time + (duration or step)
            if max(time, end) - origin > MAX_DURATION_S:
                raise VideoError("video", f"a picture claims to come {float(end - origin):.0f} s after the first one")
            if held is not None and index > held_index:
                yield from self._show(held, held_index, index)
                held_index = index
            if frame is None or index < held_index:  # the picture stands on, or comes late (time runs back) and is left out
                continue
            frame = self._with_square_pixels(frame)
            held = frame if held is None or is_like(frame, held) else frame.reformat(held.width, held.height)
        if held is None:
            raise VideoError("video", f"has no picture that can be decoded, expected some of at most {MAX_PIXELS:,} pixels")
        stop = max(held_index + 1, round_half_up((end - origin) * FPS))
        if stop - held_index > MAX_STILL_FRAMES:
            stop = held_index + 1
        yield from self._show(held, held_index, stop)
        self._losses = [replace(loss, stop=stop if loss.stop is None else loss.stop) for loss in self._losses]
        self._end = end - origin
        self._warn()

    def _show(self, held: av.VideoFrame, start: int, stop: int) -> Iterator[tuple[av.VideoFrame | None, int]]:
        """A picture for output frames start .. stop-1, unless it stands still for too long or lies beyond the sound."""
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
        """A frame as it is shown: made wider or higher if its pixels are not square, its orientation noted on it."""
        if self._orientation is None or frame.rotation != self._rotation:
            frame.opaque = None
            self._orientation, self._rotation = orientation(frame), frame.rotation
        frame.opaque = Orientation(*self._orientation)  # an object of its own, as above
        if self._pixel_aspect is None:
            aspect = Fraction(self._video.sample_aspect_ratio or 1) or Fraction(1)
            low, high = PIXEL_ASPECTS
            if not low <= aspect <= high or frame.width * frame.height * max(aspect, 1 / aspect) > MAX_PIXELS:
                self.warnings.append(f"pixels {aspect} times as wide as high are not believed, taken for square ones")
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

    def _note_loss(self, frame: av.VideoFrame, own_stop: int, index: int, end: Fraction, time: Fraction) -> None:
        """Begin a loss before a frame, or end one with a key frame.

        The frame is shown from output frame `index` on, at `time`; the one before it ended at `end`, output frame `own_stop`.
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

        They are those that stand in for lost ones and, since pictures are predicted from those before, all others up to the
        next key frame. Where a picture only stands still for long, it counts as lost if sound is lost there too: a variable
        frame rate has such pauses.
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
        return {f"{kind}_{name}_s": round(float(origin + at), 3)
                for kind, *span in times for name, at in zip(("start", "end"), span, strict=True)}  # fmt: skip

    def _warn(self) -> None:
        """Note corrupt packets, and an end that comes before the declared one."""
        for kind, n in self._n_corrupt.items():
            if n:
                self.warnings.append(f"{n} corrupt {kind} packets")
        if restarts := self._restarts.restarts:
            at_s = float(restarts[0] - self.sound.origin)
            self.warnings.append(f"its clock starts again {len(restarts)} times, first after {at_s:.2f} s; the parts are joined")
        if self._jumps:
            first, stop = self._jumps[0]
            self.warnings.append(
                f"{len(self._jumps)} times no new picture for more than a second, first for {(stop - first) / FPS:.2f} s after "
                f"{first / FPS:.2f} s; tracks end there"
            )
        if self._beyond_sound is not None:
            at_s = self._beyond_sound / FPS
            self.warnings.append(f"pictures after {at_s:.2f} s lie more than {SOUND_LAG_S} s beyond the sound and are left out")
        if self.sound.opposite_s:
            s = float(self.sound.opposite_s)
            self.warnings.append(
                f"the two channels of the sound cancel each other out for {s:.2f} s; the first one is taken there"
            )
        if self._video.duration:
            declared_s, got_s = self._video.duration * self._video.time_base, self._end
        else:  # only the length of the whole is known
            declared_s, got_s = Fraction(self._container.duration or 0, av.time_base), max(self._end, self.sound.end)
        if got_s < declared_s - Fraction(MAX_UNDECLARED_S):
            self.warnings.append(f"ends after {float(got_s):.2f} s, declares {float(declared_s):.2f} s")

    def _decode(self) -> Iterator[tuple[av.VideoFrame | None, Fraction | None, Fraction]]:
        """Decode both streams in the file's order, stepping over corrupt packets; sound goes to `sound`.

        Yields pictures, each with its time and duration in seconds (None and 0: unknown); for a packet that repeats the picture
        before it, None.
        """
        for packet in self._restarts.mended(self._packets()):
            kind = packet.stream.type
            if self._clock.is_too_slow(self._n_pictures):
                minutes = self._clock.elapsed_s / 60
                raise VideoError("time", f"takes too long: {self._n_pictures} pictures in {minutes:.0f} minutes")
            if packet.size == 0 and packet.dts is not None:  # the same picture again, as in Theora; no decoder takes these
                if kind == "video" and (time := packet.dts if packet.pts is None else packet.pts) is not None:
                    yield None, time * packet.time_base, (packet.duration or 0) * packet.time_base
                continue
            number = self._display_times.note(packet) if kind == "video" and packet.size else None
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                frames = []
                if self._n_corrupt[kind] >= MAX_CORRUPT_PACKETS:
                    raise VideoError(kind, f"more than {MAX_CORRUPT_PACKETS} corrupt packets: {reason(error)}") from error
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
        """The packets of both streams; the last ones are empty and let the decoders give what they still hold."""
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


def open_container(path: Path) -> av.container.InputContainer:
    """Open a video, or a sound, for reading: a regular file in one of `CONTAINERS`, which makes FFmpeg read no other file.

    Raises:
        av.FFmpegError, OSError, ValueError: it can't be opened.
    """
    open_regular(path, 2**63).close()  # a pipe would be waited for, a device read for ever
    try:
        return av.open(f"file:{path}", metadata_errors="replace", options=DECODER_LIMITS | READING)
    except av.error.ArgumentError as error:
        raise ValueError("in none of the containers that are read (a playlist is not: give the videos that it names)") from error


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

    What PyAV gives of a frame's metadata and the frame hold each other, so that its memory is kept for long: they are read as
    seldom as can be.
    """
    if isinstance(frame.opaque, Orientation):
        return frame.opaque
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist() if data is not None else (1, 0, 0, 0, 1)
    is_turned = abs(b) + abs(c) > abs(a) + abs(d)  # a point goes to column a x + c y, row b x + d y
    degrees = math.degrees(math.atan2(b, a))
    to_right, to_bottom = (c, b) if is_turned else (a, d)
    return Orientation(is_turned, to_right < 0, to_bottom < 0, (degrees + 45) % 90 - 45)


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as (H, W, 3) uint8 RGB, turned upright and mirrored as its metadata say."""
    rgb = frame.to_ndarray(format="rgb24", threads=1)  # by default swscale starts threads for every frame
    is_turned, is_mirrored, is_upside_down, _ = orientation(frame)
    if is_turned:
        rgb = cv2.transpose(rgb)  # ten times as fast as NumPy
    if is_mirrored or is_upside_down:
        rgb = cv2.flip(rgb, 0 if not is_mirrored else -1 if is_upside_down else 1)
    return rgb


def even_span(start: int, stop: int, size: int) -> tuple[int, int]:
    """The part of start .. stop-1 that lies in 0 .. size-1 (or its nearest pixels), widened to whole chroma samples."""
    first = min(max(start, 0), size - 2) // 2 * 2
    return first, max(first + 2, min((stop + 1) // 2 * 2, size))


def rgb_patch(frame: av.VideoFrame, window: Sequence[int]) -> tuple[np.ndarray, int, int]:
    """What a window (top, bottom, left, right; in pixels of the upright frame) covers of a decoded frame, and some more.

    Returns:
        (h, w, 3) uint8 RGB, and the row and column of its upper left corner in the frame. The pixels equal those of
        `to_rgb`; only frames that are stored turned or mirrored or come in a rare pixel format are converted whole.
    """
    if any(orientation(frame)[:3]) or frame.format.name not in PATCH_FORMATS or frame.width % 2 or frame.height % 2:
        return to_rgb(frame), 0, 0
    (top, bottom), (left, right) = (even_span(*span) for span in ((*window[:2], frame.height), (*window[2:], frame.width)))
    patch = av.VideoFrame(right - left, bottom - top, frame.format.name)
    patch.colorspace, patch.color_range = frame.colorspace, frame.color_range
    for source, copy in zip(frame.planes, patch.planes, strict=True):
        y, x = top * source.height // frame.height, left * source.width // frame.width  # chroma may be halved
        rows = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)
        pixels = np.frombuffer(copy, np.uint8).reshape(-1, copy.line_size)
        pixels[: copy.height, : copy.width] = rows[y : y + copy.height, x : x + copy.width]
    return patch.to_ndarray(format="rgb24", threads=1), top, left


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write (n,) int16 mono samples at 48 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def jpeg_pixels(data: bytes) -> int:
    """How many pixels a JPEG file claims to have; 0 if it is none."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length, _, height, width = SEGMENT.unpack_from(data, at)
        if marker in FRAME_HEADERS:
            return height * width
        at += 2 + length
    return 0


def read_wav(path: Path) -> np.ndarray:
    """Read a chunk's sound, (48000,) int16; ValueError or OSError if it is anything else."""
    try:
        with open_regular(path) as raw, wave.open(raw) as file:
            kind, n_samples = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()), file.getnframes()
            is_right = kind == (1, 16, SAMPLE_RATE_HZ) and n_samples == CHUNK_SAMPLES  # as it claims
            data = file.readframes(CHUNK_SAMPLES) if is_right else b""
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path.name} is no WAV file ({error or 'cut'})") from error
    if len(data) != 2 * CHUNK_SAMPLES:
        n_samples = len(data) // 2 if is_right else n_samples
        got = f"{n_samples} samples, {kind[0]} channel(s), {kind[1]} bits, {kind[2]} Hz"
        raise ValueError(f"{path.name} has {got}, expected {CHUNK_SAMPLES} samples, 1 channel, 16 bits, {SAMPLE_RATE_HZ} Hz")
    return np.frombuffer(data, "<i2")


def display_times(path: Path) -> tuple[dict[int, int], int]:
    """By number of a packet when its picture is shown, in ticks of the first video stream, and by how many ticks at most that is
    before its decode time; empty if the container itself says when pictures are shown.
    """
    shown, delay = {}, 0
    with open_container(path) as container:
        stream = container.streams.video[0]
        times = DisplayTimes(stream) if stream.codec_context is not None else None
        if times is None or not times.is_guess:
            return {}, 0
        stream.codec_context.thread_count = 1
        decoded: dict[int, int] = {}
        for packet in container.demux(stream):
            if packet.dts is not None:
                decoded[times.note(packet)] = packet.dts
            with contextlib.suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    number, time = times.number_of(frame), times.of(frame)
                    if number is not None and time is not None:
                        shown[number] = time
                        delay = max(delay, decoded[number] - time)
            if not times.is_guess:
                return {}, 0
    return shown, delay


def remux(pictures: Path, sound: Path, target: Path, fps: float) -> None:
    """Join pictures and a WAV file to a Matroska video; both streams are copied as they are, nothing is encoded again.

    Args:
        pictures: a video file, whose own sound is left out, or a folder of JPEGs whose names are numbers, at `fps`.

    Raises:
        ValueError: one of them can't be read. OSError: the target can't be written.
    """
    where = pictures
    try:
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(av.open(str(target), "w", format="matroska"))
            if pictures.is_dir():
                frames = sorted((p for p in pictures.iterdir() if p.stem.isdecimal()), key=lambda p: int(p.stem))
                numbers = [int(p.stem) for p in frames]
                if not frames or numbers != list(range(numbers[0], numbers[0] + len(frames))):
                    raise ValueError("pictures are missing or there twice" if frames else "no pictures")
                where = frames[0]
                open_regular(frames[0]).close()
                with av.open(str(frames[0]), format="jpeg_pipe") as first:
                    size = first.streams.video[0].codec_context
                    video = out.add_stream("mjpeg", rate=Fraction(fps))
                    video.width, video.height, video.pix_fmt = size.width, size.height, size.pix_fmt
                packets = (av.Packet(read_bytes(frame, MAX_FRAME_BYTES)) for frame in frames)
                time_base = 1 / Fraction(fps)
            else:
                source = stack.enter_context(open_container(pictures))
                video = out.add_stream_from_template(source.streams.video[0])
                packets, time_base = source.demux(source.streams.video[0]), None
                shown, delay = display_times(pictures)
            where = sound
            heard = stack.enter_context(open_container(sound))
            audio = out.add_stream_from_template(heard.streams.audio[0])
            for packet in heard.demux(heard.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = audio
                    out.mux(packet)
            where = pictures
            for i, packet in enumerate(packets):
                if time_base is not None:
                    packet.pts = packet.dts = i
                    packet.duration, packet.time_base, packet.is_keyframe = 1, time_base, True
                elif packet.dts is None:
                    continue
                elif shown:
                    packet.pts, packet.dts = shown.get(i, packet.dts), packet.dts - delay
                packet.stream = video
                out.mux(packet)
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise ValueError(f"{where} can't be read ({reason(error)})") from error
