"""Time stamps made whole: clocks that start again, and pictures whose container knows the order of decoding
alone.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import cast

import av

CLOCK_RESTART_S = Fraction(1, 2)  # time stamps that run back by more begin to count anew
N_PACKETS_AHEAD = 256  # looked at then: whether those of other streams run back, too
N_OWN_AHEAD = 3  # and whether the next ones of the same stream go on from before
REORDERING = ("h264", "hevc", "vvc")  # codecs of which FFmpeg can't tell presentation times from decode times
MAX_REORDERED = 64  # packets a decoder may hold back


def tick_of(item: av.Packet | av.VideoFrame | av.AudioFrame | av.stream.Stream) -> Fraction:
    """Seconds by tick of its time stamps, which FFmpeg tells of everything that it reads."""
    assert item.time_base is not None
    return item.time_base


def round_half_up(x: Fraction) -> int:
    return int((x + Fraction(1, 2)) // 1)


class Clock:
    """Lets the time stamps of packets go on where the file's clock starts again: recordings joined end to
    end, a stream after a reconnect. Picture and sound are moved alike. A single wrong time stamp moves
    nothing.
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
                own = [other for other in ahead if other.stream_index == stream and other.dts is not None]
                if any(abs(self._offset(other)) <= CLOCK_RESTART_S for other in own[:N_OWN_AHEAD]):
                    time = self._expected[stream] - self._shift(stream)  # its own time stamp alone is wrong
                    packet.dts = packet.pts = round_half_up(time / tick_of(packet))
                elif offset < 0 and packet.dts is not None:
                    self._enter_next_part(packet, packet.dts, ahead)
            self._move(packet)
            yield packet

    def _shift(self, stream: int) -> Fraction:
        return self._shifts[self._part.get(stream, 0)]

    def _offset(self, packet: av.Packet) -> Fraction:
        """By how many seconds a packet is decoded later than it should be, after those before it."""
        stream = packet.stream_index
        if packet.dts is None or stream not in self._expected:
            return Fraction(0)
        return packet.dts * tick_of(packet) + self._shift(stream) - self._expected[stream]

    def _enter_next_part(self, packet: av.Packet, dts: int, ahead: Iterable[av.Packet]) -> None:
        """The clock starts again with a packet, unless it does so for its stream alone, whose time is wrong
        then.
        """
        stream, tick = packet.stream_index, tick_of(packet)
        time = dts * tick
        # parts in which another stream is already
        for part in range(self._part.get(stream, 0) + 1, len(self._shifts)):
            if time + self._shifts[part] >= self._expected[stream] - CLOCK_RESTART_S:
                self._part[stream] = part
                return
        others = [
            self._offset(other) for other in ahead if other.stream_index != stream and other.dts is not None
        ]
        if others and min(others) >= -CLOCK_RESTART_S:
            self._alone.add(stream)
        else:
            first = dts if packet.pts is None else packet.pts
            self._part[stream] = len(self._shifts)
            self._shifts.append(self._end - first * tick)
            self.restarts.append(self._end)

    def _move(self, packet: av.Packet) -> None:
        stream, tick = packet.stream_index, tick_of(packet)
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
    """When each decoded picture is shown, also where the container holds the order of decoding alone (H.264
    in AVI).

    There FFmpeg takes a picture's place in the order of decoding for its time, though the decoder gives the
    pictures in the order of display: so the earliest time that is still free is taken.
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
        # an object of its own: PyAV keeps them by identity, for as long as the first frame that has it
        packet.opaque = [number]
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
        return cast(list[int], frame.opaque)[0] if frame.opaque else None

    def forget(self, number: int) -> None:
        """A packet could not be decoded."""
        self._free.pop(number, None)

    def of(self, frame: av.VideoFrame) -> int | None:
        """The time of the next decoded picture, in ticks of its stream."""
        number = self.number_of(frame)
        if not self.is_guess or (self._context.reorder_depth == 0 and not self._is_avi):
            if number is not None:
                self._free.pop(number, None)
            return frame.pts
        # pictures before it in the order of decoding are shown before it
        if frame.key_frame and number is not None:
            self._free = {n: time for n, time in self._free.items() if n >= number}
        return self._free.pop(min(self._free, key=self._free.__getitem__)) if self._free else frame.pts
