"""Decoding: pictures at a constant 30 fps, sound at 48 kHz mono on the same clock, whatever the source is.

Time 0 is the first picture of the video. Everything is read by PyAV, once from front to back; no ffmpeg program is needed.
"""

import contextlib
import errno
import struct
import tempfile
import wave
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from utils.files import open_regular, read_bytes
from utils.timing import Stopwatch

FPS = 30
SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
CHUNK_FRAMES = 30  # 1 s
CHUNK_SAMPLES = CHUNK_FRAMES * SAMPLES_PER_FRAME

MAX_DURATION_S = 24 * 3600  # more than this is a broken time stamp
MAX_SOUND_JUMP_S = 0.015  # smaller jumps between audio packets are rounding of their time stamps, larger ones a lost packet
MAX_CORRUPT_PACKETS = 1000
MAX_GAP_S = Fraction(1, 10)  # a picture that stands still for longer than that after its time hides lost ones
# 8K of the cinema and what codecs round it up to; a frame takes 54 MB in 4:2:0, and up to some 50 are held
MAX_PIXELS = 8192 * 4352
MAX_FRAME_PIXELS = 1920 * 1080  # of a chunk, whose 30 take 187 MB; ours have 224 x 224
SAMPLE_RATES_HZ = (4_000, 768_000)  # beyond these, resampling takes memory without end
MAX_CHANNELS = 64
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
    """One video can't be used: `stage` is where it failed (open, read, video, audio, length, face, track, chunk), the text
    says why.
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


class Sound:
    """Mono 16-bit sound at 48 kHz, kept in a file without a name, so that memory does not grow with its length."""

    def __init__(self, folder: Path | None = None):
        self.origin = Fraction(0)  # time 0 of the video in seconds on the container's clock
        self.n_decoded = 0  # samples in the file
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed by `close`
        self._spans: list[tuple[int, int, int]] = []  # start, stop on the clock of `_start`, and where in the file; in order
        self._start: Fraction | None = None  # of the first sample on the container's clock; None: at `origin`
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None  # sample format, layout, rate that the resampler was made for
        self._expected = self._first = Fraction(0)
        self._position = 0  # of the sample that comes next

    def feed(self, frame: av.AudioFrame) -> None:
        """Add the next decoded audio frame. Sound that comes late (time runs back) is left out.

        Raises:
            VideoError: it claims a rate or a number of channels that no sound has.
        """
        low, high = SAMPLE_RATES_HZ
        if not low <= frame.sample_rate <= high or frame.layout.nb_channels > MAX_CHANNELS:
            got = f"{frame.layout.nb_channels} channels at {frame.sample_rate:,} Hz"
            raise VideoError("audio", f"claims {got}, expected at most {MAX_CHANNELS} at {low:,} to {high:,} Hz")
        time = self._expected if frame.pts is None else frame.pts * frame.time_base
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or kind != self._kind or abs(time - self._expected) > MAX_SOUND_JUMP_S:
            if self._resampler is None:
                self._first, self._start = time, None if frame.pts is None else time
            self.finish()
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
            self._position = round_half_up((time - self._first) * SAMPLE_RATE_HZ)
            self._expected, self._kind = time, kind
        self._expected += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None  # the time is kept here; the resampler only sees consecutive sound
        self._place(self._resampler.resample(frame))

    def finish(self) -> None:
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
        self._video, self._audio = container.streams.best("video"), container.streams.best("audio")
        if self._video is None or self._video.disposition & av.stream.Disposition.attached_pic:
            raise VideoError("video", "has no video stream")  # cover art is none
        if self._audio is None:
            raise VideoError("audio", "has no sound")
        for stream in (self._video, self._audio):
            stream.codec_context.options = DECODER_LIMITS
        self._video.codec_context.thread_count = 1  # what damaged packets give depends on the number of threads
        self._n_corrupt = {"video": 0, "audio": 0}
        self._lost_at: Fraction | None = None  # time of the last damaged packet or picture, until a key frame mends that
        self._losses: list[Loss] = []

    def frames(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Decode the pictures at a constant 30 fps, and the sound on the way.

        Yields (frame, n): a source frame and for how many consecutive output frames it stands (n >= 1). Output frame k is the
        last source frame whose time, rounded to the nearest 1/30 s, is at most k/30 s; source frames that no output frame
        shows are left out. All have the first one's size.

        Raises:
            VideoError: nothing can be decoded, time stamps beyond `MAX_DURATION_S`, more than `MAX_CORRUPT_PACKETS`.
        """
        step = 1 / Fraction(self._video.average_rate or self._video.guessed_rate or FPS)  # of a frame without time or duration
        held, held_index, origin, end = None, 0, None, Fraction(0)
        for frame in self._decode():
            time = end if frame.pts is None else frame.pts * frame.time_base
            if origin is None:
                origin = self.sound.origin = time
            index = round_half_up((time - origin) * FPS)
            own_stop = min(index, max(held_index + 1, round_half_up((end - origin) * FPS)))  # where the held one's own time ends
            self._note_loss(frame, own_stop, index, end, time)
            if held is not None and index > held_index:
                yield held, index - held_index
                held_index = index
            end = time + (frame.duration * frame.time_base if frame.duration else step)
            if max(time, end) - origin > MAX_DURATION_S:
                raise VideoError("video", f"a picture claims to come {float(end - origin):.0f} s after the first one")
            if held is not None and (frame.width, frame.height) != (held.width, held.height):
                frame = frame.reformat(held.width, held.height)
            if index >= held_index:  # else it comes late (time runs back) and is left out
                held = frame
        if held is None:
            raise VideoError("video", f"has no picture that can be decoded, expected some of at most {MAX_PIXELS:,} pixels")
        stop = max(held_index + 1, round_half_up((end - origin) * FPS))
        yield held, stop - held_index
        self._losses = [replace(loss, stop=loss.stop or stop) for loss in self._losses]
        self._end = end - origin
        self._warn()

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
        if self._video.duration:
            declared_s, got_s = self._video.duration * self._video.time_base, self._end
        else:  # only the length of the whole is known
            declared_s, got_s = Fraction(self._container.duration or 0, av.time_base), max(self._end, self.sound.end)
        if got_s < declared_s - Fraction(MAX_UNDECLARED_S):
            self.warnings.append(f"ends after {float(got_s):.2f} s, declares {float(declared_s):.2f} s")

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decode both streams in the file's order, stepping over corrupt packets; sound goes to `sound`."""
        for packet in self._packets():
            kind = packet.stream.type
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                frames = []
                if self._n_corrupt[kind] >= MAX_CORRUPT_PACKETS:
                    raise VideoError(kind, f"more than {MAX_CORRUPT_PACKETS} corrupt packets: {reason(error)}") from error
                is_corrupt = True
            else:
                is_corrupt = packet.is_corrupt
            if is_corrupt:
                self._n_corrupt[kind] += 1
                if kind == "video":
                    self._lost_at = (packet.pts or 0) * packet.time_base
            if kind == "audio":
                for frame in frames:
                    self.sound.feed(frame)
                self._clock.lap("audio")
            else:
                self._clock.lap("decode")
                yield from frames
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


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as (H, W, 3) uint8 RGB, turned upright as its metadata say."""
    rgb = frame.to_ndarray(format="rgb24", threads=1)  # by default swscale starts threads for every frame
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns else rgb


def even_span(start: int, stop: int, size: int) -> tuple[int, int]:
    """The part of start .. stop-1 that lies in 0 .. size-1 (or its nearest pixels), widened to whole chroma samples."""
    first = min(max(start, 0), size - 2) // 2 * 2
    return first, max(first + 2, min((stop + 1) // 2 * 2, size))


def rgb_patch(frame: av.VideoFrame, window: Sequence[int]) -> tuple[np.ndarray, int, int]:
    """What a window (top, bottom, left, right; in pixels of the upright frame) covers of a decoded frame, and some more.

    Returns:
        (h, w, 3) uint8 RGB, and the row and column of its upper left corner in the frame. The pixels equal those of
        `to_rgb`; only frames that lie on their side or come in a rare pixel format are converted whole.
    """
    if frame.rotation or frame.format.name not in PATCH_FORMATS or frame.width % 2 or frame.height % 2:
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
                packets = (av.Packet(read_bytes(frame, 3 * MAX_FRAME_PIXELS)) for frame in frames)
                time_base = 1 / Fraction(fps)
            else:
                source = stack.enter_context(open_container(pictures))
                video = out.add_stream_from_template(source.streams.video[0])
                packets, time_base = source.demux(source.streams.video[0]), None
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
                packet.stream = video
                out.mux(packet)
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise ValueError(f"{where} can't be read ({reason(error)})") from error
