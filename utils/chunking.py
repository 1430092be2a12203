"""One video in, its 1-second chunks of face crops and sound out (spec: `<video>/<chunk:05d>/<frame:06d>.jpg` and .wav)."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from detectors import Detector
from utils.faces import MIN_DETECTIONS, MIN_SIZE_PX, Track, crop_face, crop_windows, track_faces
from utils.media import (
    CHUNK_FRAMES,
    CHUNK_SAMPLES,
    FPS,
    SAMPLES_PER_FRAME,
    Sound,
    VideoError,
    read_frames,
    read_sound,
    start_time,
    to_rgb,
    write_wav,
)

RECORD = "video.json"  # in a video's folder; its presence says that the folder is complete
MAX_MISSING_SAMPLES = CHUNK_SAMPLES // 10  # of a chunk's sound that may be filled with silence
TRACKS = ("longest", "all")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the content of the chunks (kept in every record)."""

    detector: str = "s3fd"
    detect_scale: float = 0.25
    detect_min_px: int = 160
    jpeg_quality: int = 95
    tracks: str = "longest"


def detection_size(width: int, height: int, settings: Settings) -> tuple[int, int]:
    """Size in pixels at which the detector sees a video: scaled by `detect_scale`, the shorter side at least
    `detect_min_px` (or as it is, where that is less)."""
    # DEVIATION: small videos are scaled less; at 0.25 the detector would see a 224-px video at 56 px
    scale = min(1.0, max(settings.detect_scale, settings.detect_min_px / min(width, height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def detect_faces(source: Path, detector: Detector, settings: Settings) -> tuple[list[np.ndarray], list[int], tuple[int, int]]:
    """Look at every frame of a video once.

    Returns:
        Per frame at 30 fps the faces (n, 4) float64 x1 y1 x2 y2 in pixels of the upright video; the frame numbers at
        which a new shot begins, 0 first; the stored width and height in pixels.
    """
    size = small_size = (0, 0)
    faces: list[np.ndarray] = []
    shots = [0]
    cuts = ContentDetector()
    batch: list[tuple[np.ndarray, np.ndarray, int]] = []  # image, its pixels -> the video's, frames it stands for
    n_frames = 0

    def flush() -> None:
        for found, (_, factor, n) in zip(detector.detect([image for image, _, _ in batch]), batch, strict=True):
            faces.extend([found[:, :4].astype(np.float64) * factor] * n)
        batch.clear()

    for frame, n in read_frames(source):
        if not n_frames:
            size = (frame.width, frame.height)
            small_size = detection_size(*size, settings)
        image = to_rgb(frame, *small_size)
        factor = np.divide(size, small_size)[:: -1 if frame.rotation % 180 else 1]
        # DEVIATION: tracks end where the shot ends; the authors' code overwrites its shot list by one shot
        for cut in cuts.process_frame(FrameTimecode(n_frames, float(FPS)), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            shots.append(cut.frame_num)
        batch.append((image, np.tile(factor, 2), n))
        n_frames += n
        if len(batch) == detector.batch_size:
            flush()
    if batch:
        flush()
    return faces, shots, size


def find_tracks(faces: list[np.ndarray], shots: list[int]) -> list[Track]:
    """The tracks of every shot, the longest first; VideoError if there is none, with the reason."""
    n_frames = len(faces)
    if n_frames < MIN_DETECTIONS:
        raise VideoError(
            "length", f"too short: {n_frames / FPS:.2f} s, a track needs at least {MIN_DETECTIONS} frames at {FPS} fps"
        )
    tracks = []
    for start, stop in zip(shots, [*shots[1:], n_frames], strict=True):
        tracks += track_faces(faces[start:stop], start)
    if not tracks:
        n_with_face = sum(len(boxes) > 0 for boxes in faces)
        if n_with_face == 0:
            raise VideoError("face", f"no face found in {n_frames} frames")
        raise VideoError(
            "track",
            f"faces in {n_with_face} of {n_frames} frames, but none seen {MIN_DETECTIONS} times in one shot at more than "
            f"{MIN_SIZE_PX} px",
        )
    return sorted(tracks, key=lambda track: -track.n_frames)


def plan_chunks(track: Track, prefix: str, sound: Sound) -> tuple[list[dict], list[dict]]:
    """Cut a track into consecutive seconds; a tail of less than 30 frames is dropped.

    Returns two lists of {"chunk": name, "first_frame": number}: those to write, and those left out because the video
    has no sound there.
    """
    chunks, without_sound = [], []
    for i in range(track.n_frames // CHUNK_FRAMES):
        first = track.first_frame + i * CHUNK_FRAMES
        start = first * SAMPLES_PER_FRAME
        missing = sound.n_missing(start, start + CHUNK_SAMPLES)
        # DEVIATION: up to 0.1 s of missing sound becomes silence; a chunk that lacks more is left out and counted
        (chunks if missing <= MAX_MISSING_SAMPLES else without_sound).append({"chunk": f"{prefix}{i:05d}", "first_frame": first})
    return chunks, without_sound


def write_crops(
    source: Path, size: tuple[int, int], jobs: Iterator[tuple[Track, list[dict]]], folder: Path, quality: int
) -> None:
    """Decode a video again and write the face crops of every planned chunk as JPEG files."""
    wanted: dict[int, list[tuple[Path, np.ndarray]]] = {}  # frame number -> (file, window)
    for track, chunks in jobs:
        windows = crop_windows(track.boxes)
        for chunk in chunks:
            (folder / chunk["chunk"]).mkdir()
            for i in range(CHUNK_FRAMES):
                number = chunk["first_frame"] + i
                file = folder / chunk["chunk"] / f"{i:06d}.jpg"
                wanted.setdefault(number, []).append((file, windows[number - track.first_frame]))
    last, number = max(wanted), 0
    for frame, n in read_frames(source):
        targets = [target for i in range(number, number + n) for target in wanted.get(i, ())]
        if targets:
            image = cv2.cvtColor(to_rgb(frame, *size), cv2.COLOR_RGB2BGR)  # the order OpenCV writes
            # DEVIATION: each crop is encoded once, from the decoded source; the authors re-encode four times on the way
            for file, window in targets:
                _, jpeg = cv2.imencode(".jpg", crop_face(image, window), [cv2.IMWRITE_JPEG_QUALITY, quality])
                file.write_bytes(jpeg)
        number += n
        if number > last:
            return


def process_video(source: Path, target: Path, detector: Detector, settings: Settings) -> dict:
    """Turn a video into its folder of chunks, complete or not at all.

    The folder is built beside `target` under a hidden name and renamed as the last step.

    Returns:
        The record that is also in `video.json`: source and its size, settings, n_frames at 30 fps, shots, tracks with
        their frames and boxes, chunks with their first frames, chunks left out for want of sound.

    Raises:
        VideoError: the video gives no chunk; the stage and the reason.
    """
    origin = start_time(source)
    faces, shots, size = detect_faces(source, detector, settings)
    tracks = find_tracks(faces, shots)
    # DEVIATION: the longest track, or all on request; the authors keep the one that a directory listing names last
    kept = tracks[:1] if settings.tracks == "longest" else tracks
    sound = read_sound(source, origin, len(faces) * SAMPLES_PER_FRAME)
    plans = [plan_chunks(track, "" if settings.tracks == "longest" else f"{i:02d}_", sound) for i, track in enumerate(kept)]
    if not any(chunks for chunks, _ in plans):
        seconds = sum(stop - start for start, stop in sound.present) / CHUNK_SAMPLES
        raise VideoError("chunk", f"no second of the face track has sound (sound: {seconds:.2f} s in all)")
    record = {
        "source": source.name,
        "source_bytes": source.stat().st_size,
        "settings": dataclasses.asdict(settings),
        "n_frames": len(faces),
        "shots": shots,
        "n_tracks_found": len(tracks),
        "tracks": [
            {"first_frame": track.first_frame, "last_frame": track.last_frame, "boxes": track.boxes.round(1).tolist()}
            for track in kept
        ],
        "chunks": [chunk for chunks, _ in plans for chunk in chunks],
        "without_sound": [chunk for _, left_out in plans for chunk in left_out],
    }
    partial = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write_crops(source, size, zip(kept, (chunks for chunks, _ in plans), strict=True), partial, settings.jpeg_quality)
        for chunk in record["chunks"]:
            start = chunk["first_frame"] * SAMPLES_PER_FRAME
            write_wav(partial / f"{chunk['chunk']}.wav", sound.samples[start : start + CHUNK_SAMPLES])
        (partial / RECORD).write_text(json.dumps(record))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def read_record(folder: Path) -> dict | None:
    """The record of a complete video folder, or None."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    needed = {"source", "source_bytes", "settings", "chunks"}
    return record if isinstance(record, dict) and needed <= record.keys() else None
