"""One video in, its chunks and its record out: <video>/<chunk>/, <chunk>.wav and video.json, complete or not
at all.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

from detectors import Detector
from preprocessing.chunking import (
    ChunkWriter,
    FoundTracks,
    check_tracks,
    cut_sound,
    find_faces,
    keep_speaker,
    track_and_crop,
)
from preprocessing.settings import Settings
from utils.chunkfiles import (
    ChunkRecord,
    ChunksByKind,
    TrackRecord,
    VideoRecord,
    chunk_name,
    sound_path,
    write_record,
    write_wav,
)
from utils.constants import FPS, SAMPLE_RATE_HZ, ChunkLength
from utils.containers import VideoError
from utils.files import discard
from utils.media import Source, open_source
from utils.sound import Sound
from utils.timing import Stopwatch


def process_video(
    path: Path, target: Path, work: Path, detector: Detector, settings: Settings
) -> tuple[VideoRecord, dict[str, float]]:
    """Turn a video into its folder of chunks, complete or not at all.

    Args:
        target: the folder to make; one that is there is replaced.
        work: a folder on the same file system for this call alone; the result is built in it and renamed as
            the last step.

    Returns:
        The record that is also in `video.json`. And the seconds spent, by step: they are not in the record,
        so that the same video always gives the same files.

    Raises:
        VideoError: the video gives no chunk; the stage and the reason.
        OSError: the result can't be written.
    """
    clock = Stopwatch()
    result = work / "result"
    result.mkdir(parents=True)
    with open_source(path, work, clock) as source:
        clock.lap("open")
        with closing(find_faces(source, detector, settings, clock)) as pictures:
            found = track_and_crop(pictures, work / "tracks", settings, clock)
        check_tracks(found, settings.min_track)
        if settings.tracks == "longest":
            keep_speaker(found, source.sound)
            clock.lap("motion")
        check_length(found.tracks, settings.length)
        chunks = take_chunks(found.tracks, source, result, settings, clock)
        if not chunks["chunks"]:
            raise no_chunk(chunks, source.sound)
        record = record_of(path, settings, found, chunks, source)
    write_record(result, record)
    discard(target, work)
    os.replace(result, target)
    return record, dict(clock.seconds)


def check_length(writers: Sequence[ChunkWriter], length: ChunkLength) -> None:
    """VideoError if none of the kept tracks fills a chunk, as may be where that is longer than a second."""
    longest = max(writer.track.n_frames for writer in writers)
    if longest < length.n_frames:
        least = f"a chunk of {length.chunk_s:g} s takes {length.n_frames}"
        raise VideoError("track", f"the longest face track has {longest} frames at {FPS} fps, {least}")


def take_chunks(
    writers: Sequence[ChunkWriter], source: Source, folder: Path, settings: Settings, clock: Stopwatch
) -> ChunksByKind:
    """Move the chunks of the kept tracks that are of use to `folder`, and write their sound beside them.

    Where all tracks are kept, the names of chunks begin with the number of their track.
    """
    length, is_numbered = settings.length, settings.tracks == "all"
    chunks: dict[str, list[ChunkRecord]] = {"chunks": [], "without_sound": [], "damaged": []}
    damaged = source.damaged()
    # DEVIATION: a face that never moves (a photograph in the picture) is left out where another does
    all_still = all(writer.motion.is_still for writer in writers)
    for i, writer in enumerate(writers):
        is_left_out = writer.motion.is_still and not all_still
        for number in range(writer.track.n_frames // length.n_frames):
            first_frame = writer.track.first_frame + number * length.n_frames
            samples, kind = cut_sound(source, first_frame, damaged, length)
            kind = "still" if is_left_out else kind
            clock.lap("audio")
            name = chunk_name(number, i if is_numbered else None)
            if kind == "chunks":
                os.rename(writer.folder / chunk_name(number), folder / name)
                write_wav(sound_path(folder / name), samples)
            chunks.setdefault(kind, []).append({"chunk": name, "first_frame": first_frame})
            clock.lap("write")
    return cast(ChunksByKind, chunks)


def no_chunk(chunks: ChunksByKind, sound: Sound) -> VideoError:
    """What to say of a video of which no chunk is of use."""
    sound_s = sound.n_decoded / SAMPLE_RATE_HZ
    silent = f"{len(chunks['without_sound'])} without sound (there are {sound_s:.2f} s of it)"
    n_still = len(chunks.get("still", ()))
    still = f", {n_still} of a face that never moves" if n_still else ""
    what = f"{silent}, {len(chunks['damaged'])} with damaged frames{still}"
    return VideoError("chunk", f"no second of the face track can be used: {what}")


def track_record(writer: ChunkWriter) -> TrackRecord:
    track = writer.track
    record: TrackRecord = {
        "first_frame": track.first_frame,
        "last_frame": track.last_frame,
        "boxes": track.boxes.round(1).tolist(),
    }
    if writer.motion.is_still:
        record["still"] = True
    return record


def record_of(
    path: Path, settings: Settings, found: FoundTracks, chunks: ChunksByKind, source: Source
) -> VideoRecord:
    """The record of a video that was read to its end."""
    return {
        "source": path.name,
        "source_bytes": path.stat().st_size,
        "settings_hash": settings.hash,
        "settings": settings.written,
        "n_frames": found.n_frames,
        "shots": found.shots,
        "n_tracks_found": found.n_tracks,
        "tracks": [track_record(writer) for writer in found.tracks],
        **chunks,
        "warnings": [*source.warnings, *found.warnings],
        "timings": source.timings(),
    }
