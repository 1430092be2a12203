"""Sound at 48 kHz mono on the video's clock, whatever the source is."""

import ctypes
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from utils.clocks import round_half_up, tick_of
from utils.constants import MAX_DURATION_S, SAMPLE_RATE_HZ
from utils.containers import VideoError

# smaller jumps between audio packets are rounding of their time stamps, larger ones a lost packet
MAX_SOUND_JUMP_S = 0.015
MAX_TREMBLE_S = 0.5  # time stamps that are off by more do not tremble
N_AHEAD = 16  # packets of sound that must agree on a jump; else their time stamps only tremble
# share of its power that stereo keeps when mixed: below the first it cancels out, above the second not
OPPOSITE = (0.01, 0.05)
SILENT_POWER = 1e-8  # -80 dB: says nothing about the phase
SAMPLE_RATES_HZ = (4_000, 768_000)  # beyond these, resampling takes memory without end
MAX_CHANNELS = 64


def keep_layout(owner: av.AudioFrame | av.AudioCodecContext) -> av.AudioLayout:
    """The channel order of a frame or a codec; keeps PyAV from freeing it twice, which ends the process:
    where the order is a custom one, owner and layout point to the same memory, and both free it. Its few
    bytes are never freed instead.
    """
    layout = owner.layout
    if " channels (" in layout.name or layout.name.startswith("ambisonic"):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return layout


def decode_sound(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """The sound of a file, frame by frame; av.FFmpegError if some of it is damaged."""
    for packet in container.demux(stream):
        frames = packet.decode()
        for frame in frames:
            keep_layout(frame)
        yield from frames


@dataclass
class Block:
    """A decoded audio frame with its time on the container's clock in seconds (None: it goes on), and, of
    stereo, the power of both channels and of their mean.
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
    """Mono 16-bit sound at 48 kHz, kept in a file without a name, so that memory does not grow with its
    length.
    """

    def __init__(self, folder: Path | None = None):
        self.origin = Fraction(0)  # time 0 of the video in seconds on the container's clock
        self.n_decoded = 0  # samples in the file
        self.reached: Fraction | None = None  # the end of what was fed, on the container's clock
        self.opposite_s = Fraction(0)  # how much of it has opposite channels
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed by `close`
        # start, stop on the clock of `_start`, and where in the file; in order
        self._spans: list[tuple[int, int, int]] = []
        self._start: Fraction | None = None  # of the first sample on the container's clock; None: at `origin`
        self._resampler: av.AudioResampler | None = None
        # sample format, layout, rate that the resampler was made for
        self._kind: tuple[str, str, int] | None = None
        self._expected = self._first = Fraction(0)
        self._position = 0  # of the sample that comes next
        self._ahead: deque[Block] = deque()  # decoded, not placed yet
        # by how much the last time stamps were off
        self._trembling: deque[Fraction] = deque([Fraction(0)], N_AHEAD)
        self._is_trembling = False
        self._offsets = (Fraction(0), 0)  # sum and number, of time stamps from where they should be
        self._is_opposite = False

    def feed(self, frame: av.AudioFrame) -> None:
        """Add the next decoded audio frame. Sound that comes late (time runs back) is left out.

        Raises:
            VideoError: it claims a rate or a number of channels that no sound has.
        """
        low, high = SAMPLE_RATES_HZ
        if not low <= frame.sample_rate <= high or frame.layout.nb_channels > MAX_CHANNELS:
            got = f"{frame.layout.nb_channels} channels at {frame.sample_rate:,} Hz"
            expected = f"expected at most {MAX_CHANNELS} at {low:,} to {high:,} Hz"
            raise VideoError("audio", f"claims {got}, {expected}")
        block = Block(frame, None if frame.pts is None else frame.pts * tick_of(frame))
        is_s64 = frame.format.name.startswith("s64")  # which NumPy does not get
        if frame.layout.nb_channels == 2 and frame.samples and not is_s64:
            pair = channels(frame)
            block.is_stereo = True
            block.power = float(np.square(pair).mean())
            block.mixed_power = float(np.square(pair.mean(0)).mean())
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
            blocks = (block, *self._ahead)
            power = sum(one.power for one in blocks)
            mixed = sum(one.mixed_power for one in blocks)
            if power > SILENT_POWER * len(blocks):
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
        `MAX_SOUND_JUMP_S`, all to one side. Where only some do, their time stamps tremble and the sound is
        unbroken.
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
            start = max(end, self._position)
            stop = min(self._position + len(block), MAX_DURATION_S * SAMPLE_RATE_HZ)
            if start < stop:
                if self._spans and start == end:
                    self._spans[-1] = (self._spans[-1][0], stop, self._spans[-1][2])
                else:
                    self._spans.append((start, stop, self.n_decoded))
                self._file.write(block[start - self._position : stop - self._position].tobytes())
                self.n_decoded += stop - start
            self._position += len(block)

    def read(self, start: int, n_samples: int) -> tuple[np.ndarray, int]:
        """Read samples from `start` on, counted from time 0: (n_samples,) int16, zero where the source has
        none, and how many those are.
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
