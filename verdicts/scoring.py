"""The chunks of a video's faces through the network: scores, and maps of what raised them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model import TwoStreamNet
from preprocessing.chunking import ChunkWriter, cut_sound
from preprocessing.speech import who_speaks
from utils.chunkfiles import decode_video
from utils.cli import UserError, legible
from utils.constants import FPS, ChunkLength
from utils.media import Source
from utils.mfcc import chunk_mfcc
from utils.sound import Sound
from verdicts.answer import USUAL, Rules
from verdicts.curve import SMOOTH_S
from verdicts.gradcam import Explained, check_maps, explain
from verdicts.lipsync import BLOCK, SoundEmbedder, distances_of_shifts, is_silent
from verdicts.verdict import TrackScores, chunk_starts

N_CHECKED = 8  # seconds whose maps are compared with those of random weights


@dataclass(frozen=True)
class JudgeSettings:
    """What decides a verdict beside the model and the faces."""

    threshold: float | None = None  # in place of the checkpoint's
    stride_s: float = 0.2  # from one chunk to the next
    smooth_s: float = SMOOTH_S  # standard deviation of the curve's smoothing
    amp: str = "off"  # a key of `engine.AMP`
    batch_size: int | None = None  # chunks at a time; None: 16 on a GPU, else 1
    brief: bool = False  # leave out pictures, video and page
    check_maps: bool = False  # compare the maps with those of random weights
    rules: Rules = USUAL  # what it takes for an answer
    stress: bool = False  # judge again in other versions of the video

    @property
    def stride(self) -> int:
        """From one chunk to the next, in frames."""
        return max(1, round(self.stride_s * FPS))


@dataclass(frozen=True)
class Place:
    """Which chunk it is."""

    track: int
    start: int  # in frames from the track's first one
    start_s: float  # in the video
    is_second: bool  # one of those that do not overlap


@dataclass
class Second:
    """A chunk that is shown on the page."""

    place: Place
    scores: np.ndarray  # (3,) of `CHUNK_SCORES`
    maps: Tensor  # (2, 8, h, w) of `gradcam.MAPS`


@dataclass
class ScoredVideo:
    """A video whose faces were followed and scored."""

    sound: Sound
    n_frames: int  # at 30 fps
    writers: Sequence[ChunkWriter]  # with the crops of each track
    tracks: list[TrackScores]
    seconds: list[Second]  # those that do not overlap
    warnings: list[str]  # what is odd about the file


class VideoScorer:
    """A network that scores the chunks of videos.

    Args:
        with_offsets: also score them with the sound moved.
    """

    def __init__(
        self,
        model: TwoStreamNet,
        config: dict,
        device: torch.device,
        settings: JudgeSettings,
        with_offsets: bool = True,
    ):
        self._model, self._config, self._device, self._settings = model, config, device, settings
        self._with_maps = settings.check_maps or not settings.brief
        self._embedder = SoundEmbedder(model, device, settings.amp) if with_offsets else None
        self.length = ChunkLength.of(model.chunk_s)

    def score(
        self, source: Source, writers: Sequence[ChunkWriter], name: str
    ) -> tuple[list[TrackScores], list[Second]]:
        """Score the tracks of a video that was read; with them come the seconds that do not overlap, if there
        are to be maps of them.

        Raises:
            UserError: a score is not finite.
        """
        left_out: list[list[tuple[int, str]]] = [[] for _ in writers]
        rows: list[list[tuple[Place, np.ndarray]]] = [[] for _ in writers]
        pictures: list[list[Tensor]] = [[] for _ in writers]  # embeddings
        seconds: list[Second] = []
        n_frames = [writer.track.n_frames for writer in writers]
        n_chunks = sum(len(chunk_starts(n, self._settings.stride, self.length)[0]) for n in n_frames)
        chunks = self._chunks(source, writers, left_out)
        with tqdm(total=n_chunks, unit="chunk", desc=legible(name)[-40:], leave=False, delay=2) as progress:
            while batch := list(itertools.islice(chunks, self._settings.batch_size)):
                places, videos, audios = zip(*batch, strict=True)
                scores, maps, embeddings = self._explain(videos, audios)
                if not torch.isfinite(scores).all():
                    what = "the model gives a score that is not finite; it has diverged in training"
                    raise UserError(f"{name}: {what}, take another.")
                for i, place in enumerate(places):
                    values = scores[:, i].double().numpy()
                    rows[place.track].append((place, values))
                    pictures[place.track].append(embeddings[i].clone())
                    if place.is_second and maps is not None:
                        seconds.append(Second(place, values, maps[:, i].clone()))
                progress.update(len(batch))
        how = self._settings.smooth_s, self.length
        by_track = enumerate(zip(writers, rows, left_out, strict=True))
        tracks = [scored_track(number, *of_track, *how) for number, of_track in by_track]
        if self._embedder:
            self._move_sound(self._embedder, source.sound, tracks, pictures)
        note_speakers(source.sound, tracks, writers)
        return tracks, seconds

    def _move_sound(
        self,
        embedder: SoundEmbedder,
        sound: Sound,
        tracks: Sequence[TrackScores],
        pictures: Sequence[Sequence[Tensor]],
    ) -> None:
        """Note in each track how well its pictures, by their embeddings, agree with the sound when it is
        moved.
        """
        first_frames = [np.rint(track.start_s * FPS).astype(int).tolist() for track in tracks]
        stacked = [torch.stack(list(own)) if own else torch.empty(0) for own in pictures]
        block = max(BLOCK, self._settings.batch_size or 1)
        distances = distances_of_shifts(embedder, sound, first_frames, stacked, block)
        for track, of_track in zip(tracks, distances, strict=True):
            track.moved = of_track

    def compare_maps(
        self, source: Source, writers: Sequence[ChunkWriter], seconds: Sequence[Second]
    ) -> dict[str, float | None]:
        """`check_maps` for some of at least one second, evenly spread; None for what is not defined."""
        chosen = np.linspace(0, len(seconds) - 1, min(N_CHECKED, len(seconds))).round().astype(int)
        some = [seconds[i] for i in chosen]
        maps = torch.stack([second.maps for second in some], 1)  # (2, N, 8, h, w)
        batches = (self._inputs(source, writers[place.track], place) for place in [s.place for s in some])
        found = check_maps(self._config, maps, batches, self._device, self._settings.amp)
        return {name: round(value, 3) if np.isfinite(value) else None for name, value in found.items()}

    def _chunks(
        self, source: Source, writers: Sequence[ChunkWriter], left_out: Sequence[list[tuple[int, str]]]
    ) -> Iterator[tuple[Place, Tensor, Tensor]]:
        """The chunks of all tracks that can be judged, with frames and MFCC. First frame and kind of the
        others go to `left_out`, by track.
        """
        damaged, stride = source.damaged(), self._settings.stride
        for track, writer in enumerate(writers):
            starts = chunk_starts(writer.track.n_frames, stride, self.length)
            for start, is_second in zip(*starts, strict=True):
                first = writer.track.first_frame + start
                samples, kind = hear(source, writer, first, damaged, self.length)
                if kind != "chunks":
                    left_out[track].append((first, kind))
                    continue
                place = Place(track, start, first / FPS, is_second)
                yield place, self._frames(writer, start), torch.from_numpy(chunk_mfcc(samples))

    def _inputs(self, source: Source, writer: ChunkWriter, place: Place) -> tuple[Tensor, Tensor]:
        """Frames and MFCC of a chunk that could be judged, as a batch of one."""
        samples, _ = cut_sound(source, writer.track.first_frame + place.start, [], self.length)
        return self._frames(writer, place.start)[None], torch.from_numpy(chunk_mfcc(samples))[None]

    def _frames(self, writer: ChunkWriter, start: int) -> Tensor:
        """The frames of a track's chunk that begins at its frame `start`, as `decode_video` gives them."""
        jpegs = ((f"{i}", writer.jpeg(i)) for i in range(start, start + self.length.n_frames))
        return torch.from_numpy(decode_video(jpegs, self._model.img_dim, self.length))

    def _explain(self, videos: tuple[Tensor, ...], audios: tuple[Tensor, ...]) -> Explained:
        """Scores of B chunks, and maps if there are to be some."""
        batch = torch.stack(videos), torch.stack(audios)
        return explain(self._model, *batch, self._device, self._settings.amp, self._with_maps)


def hear(
    source: Source,
    writer: ChunkWriter,
    first_frame: int,
    damaged: Sequence[tuple[int, int]],
    length: ChunkLength,
) -> tuple[np.ndarray, str]:
    """The sound of a track's chunk, and "chunks" if it can be judged, else a key of `verdict.WHY`."""
    samples, kind = cut_sound(source, first_frame, damaged, length)
    if writer.motion.is_still:
        return samples, "still"  # a photograph: nothing that could agree with the sound
    if kind == "chunks" and is_silent(samples):
        return samples, "silent"
    return samples, kind


def note_speakers(sound: Sound, tracks: Sequence[TrackScores], writers: Sequence[ChunkWriter]) -> None:
    """Note in each track whether its face speaks."""
    found = who_speaks([writer.track for writer in writers], [writer.motion for writer in writers], sound)
    for track, speaking in zip(tracks, found, strict=True):
        track.speech, track.speaks = speaking.evidence, speaking.speaks


def scored_track(
    number: int,
    writer: ChunkWriter,
    rows: Sequence[tuple[Place, np.ndarray]],
    left_out: list[tuple[int, str]],
    smooth_s: float,
    length: ChunkLength,
) -> TrackScores:
    """The scores of a track, chunk by chunk, as arrays."""
    return TrackScores(
        number,
        writer.track.first_frame,
        writer.track.boxes,
        start_s=np.array([place.start_s for place, _ in rows]),
        scores=np.array([values for _, values in rows]).reshape(-1, 3),
        is_second=np.array([place.is_second for place, _ in rows], bool),
        left_out=left_out,
        smooth_s=smooth_s,
        length=length,
    )
