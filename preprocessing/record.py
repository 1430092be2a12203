"""One video in, its chunks and its record out: <video>/<chunk>/, <chunk>.wav and video.json, complete or not
at all.
"""

import dataclasses
import json
import os
from contextlib import closing
from pathlib import Path

from detectors import Detector
from preprocessing.chunking import check_tracks, cut_sound, find_faces, keep_speaker, track_and_crop
from preprocessing.settings import Settings
from utils.chunkfiles import RECORD, write_wav
from utils.constants import CHUNK_FRAMES, CHUNK_SAMPLES
from utils.containers import VideoError
from utils.files import discard
from utils.media import open_source
from utils.timing import Stopwatch


def process_video(
    path: Path, target: Path, work: Path, detector: Detector, settings: Settings
) -> tuple[dict, dict[str, float]]:
    """Turn a video into its folder of chunks, complete or not at all.

    Args:
        target: the folder to make; one that is there is replaced.
        work: a folder on the same file system for this call alone; the result is built in it and renamed as
            the last step.

    Returns:
        The record that is also in `video.json`: source and its size, settings and their hash, n_frames at 30
        fps, shots, tracks with their frames and boxes, and whether one is a face that never moves, chunks
        with their first frames, chunks left out for want of sound, for damaged frames or since the face never
        moves, what was wrong with the file or with the choice of the face, when picture and sound begin and
        end in it. And the seconds spent, by step: they are not in the record, so that the same video always
        gives the same files.

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
        check_tracks(found)
        if settings.tracks == "longest":
            keep_speaker(found, source.sound)
            clock.lap("motion")
        chunks = {"chunks": [], "without_sound": [], "damaged": []}
        damaged = source.damaged()
        # DEVIATION: a face that never moves (a photograph in the picture) is left out where another does
        all_still = all(writer.motion.is_still for writer in found.tracks)
        for i, writer in enumerate(found.tracks):
            prefix = "" if settings.tracks == "longest" else f"{i:02d}_"
            is_left_out = writer.motion.is_still and not all_still
            for c in range(writer.track.n_frames // CHUNK_FRAMES):
                first = writer.track.first_frame + c * CHUNK_FRAMES
                samples, kind = cut_sound(source, first, damaged)
                kind = "still" if is_left_out else kind
                clock.lap("audio")
                name = f"{prefix}{c:05d}"
                if kind == "chunks":
                    os.rename(writer.folder / f"{c:05d}", result / name)
                    write_wav(result / f"{name}.wav", samples)
                chunks.setdefault(kind, []).append({"chunk": name, "first_frame": first})
                clock.lap("write")
        if not chunks["chunks"]:
            n_silent, n_damaged, n_still = (
                len(chunks.get(kind, ())) for kind in ("without_sound", "damaged", "still")
            )
            sound_s = source.sound.n_decoded / CHUNK_SAMPLES
            what = (
                f"{n_silent} without sound (there are {sound_s:.2f} s of it), {n_damaged} with damaged frames"
            )
            still = f", {n_still} of a face that never moves" if n_still else ""
            raise VideoError("chunk", f"no second of the face track can be used: {what}{still}")
        record = {
            "source": path.name,
            "source_bytes": path.stat().st_size,
            "settings_hash": settings.hash,
            "settings": dataclasses.asdict(settings),
            "n_frames": found.n_frames,
            "shots": found.shots,
            "n_tracks_found": found.n_tracks,
            "tracks": [
                {
                    "first_frame": writer.track.first_frame,
                    "last_frame": writer.track.last_frame,
                    "boxes": writer.track.boxes.round(1).tolist(),
                    **({"still": True} if writer.motion.is_still else {}),
                }
                for writer in found.tracks
            ],
            **chunks,
            "warnings": [*source.warnings, *found.warnings],
            "timings": source.timings(),
        }
    (result / RECORD).write_text(json.dumps(record))
    discard(target, work)
    os.replace(result, target)
    return record, dict(clock.seconds)
