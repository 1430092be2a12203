"""One video as a job: claimed among all runs on a folder, done once, its outcome told in plain words."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
from pebble import ProcessExpired

from detectors import Detector
from preprocessing.pool import run_in_pool
from preprocessing.record import process_video
from preprocessing.settings import Settings
from utils.chunkfiles import VideoRecord, read_record
from utils.claims import NO_ROOM, claimed
from utils.cli import UserError
from utils.constants import FPS
from utils.containers import VideoError
from utils.files import discard
from utils.probe import cause_of_death
from utils.timing import killed_if_stalled


class Job(NamedTuple):
    """A video that is to be done."""

    source: Path  # the video
    target: Path  # the folder of its chunks
    preview: Path | None  # its contact sheet, if one is asked for


@dataclass
class Outcome:
    """What became of a video. `status` is done, complete (before), busy (another run has it), failed (stage
    and reason say why), or stop (reason says why no video can be processed).
    """

    status: str
    stage: str = ""
    reason: str = ""
    n_chunks: int = 0
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # spent, by step


LEFT_OUT: dict[Literal["without_sound", "damaged", "still"], str] = {
    "without_sound": "without sound",
    "damaged": "with damaged frames",
    "still": "of a face that never moves",
}


def outcome_of(status: str, record: VideoRecord, seconds: dict[str, float] | None = None) -> Outcome:
    """The outcome of a complete video: its chunks and everything that was left out."""
    warnings = list(record.get("warnings", ()))
    for kind, words in LEFT_OUT.items():
        starts_s = [chunk["first_frame"] / FPS for chunk in record.get(kind, ())]
        if starts_s:
            warnings.append(f"{len(starts_s)} chunks {words} left out, the first at {min(starts_s):.2f} s")
    return Outcome(status, n_chunks=len(record["chunks"]), warnings=warnings, seconds=seconds or {})


def if_complete(record: VideoRecord | None, source: Path, settings: Settings) -> VideoRecord | None:
    """The record of a video's chunks if they were made of this file with these settings, else None."""
    if record is None or record.get("settings_hash") != settings.hash or not source.is_file():
        return None
    return record if record["source_bytes"] == source.stat().st_size else None


def do_job(job: Job, detector: Detector, settings: Settings) -> Outcome:
    """Process a video unless that is done or another process is at it; then draw its preview if one is asked
    for.
    """
    try:
        with claimed(job.target) as work:
            return Outcome("busy") if work is None else do_claimed(job, work, detector, settings)
    except OSError as error:
        words = f"can't write to {job.target}: {error.strerror}; mend it, then run this again."
        return Outcome("stop", reason=words)


def do_claimed(job: Job, work: Path, detector: Detector, settings: Settings) -> Outcome:
    """`do_job` of a video that no other process is at, in the folder `work`; OSError if there is no room."""
    source, target, preview = job
    record = if_complete(read_record(target), source, settings)
    status = "complete"
    seconds: dict[str, float] = {}
    try:
        if record is None:
            record, seconds = process_video(source, target, work, detector, settings)
            status = "done"
        if preview is not None and not preview.exists():
            from preprocessing.preview import draw_preview  # here, so that other workers start at once

            draw_preview(source, target, record, preview)
    except Exception as error:  # whatever one odd video does, the others go on
        cause = error.__cause__ if isinstance(error, UserError) else error
        if isinstance(cause, OSError) and cause.errno in NO_ROOM:
            raise cause from None
        # chunks of an earlier file of this name go, unless the disk of the videos is away: then they are all
        # that is left
        if record is None and source.is_file():
            discard(target, work)
        if isinstance(error, VideoError):
            return Outcome("failed", error.stage, str(error))
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        return Outcome("failed", "unexpected" if record is None else "preview", words)
    return outcome_of(status, record, seconds)


@functools.cache
def built_once(kind: Callable[..., Detector], *arguments) -> Detector:
    """The detector kind(*arguments), built by the first call: a worker keeps it from job to job."""
    return kind(*arguments)


def start_worker(build: Callable[[], Detector]) -> None:
    """Make this process ready for `do_job_in_worker`."""
    # before the first video, which needs it; the process that hands out videos does not
    import preprocessing.shots  # noqa: F401

    cv2.setNumThreads(1)  # processes are the parallel part; threads of theirs would get in each other's way
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that the detector loads
    build()


def do_job_in_worker(build: Callable[[], Detector], settings: Settings, *job) -> Outcome:
    with killed_if_stalled():
        return do_job(Job(*job), build(), settings)


def outcome_in_worker(future: Future) -> Outcome:
    """What became of a video that a worker had in hand, also if the worker died."""
    error = future.exception()
    if not isinstance(error, ProcessExpired):
        return future.result()
    stage, how = cause_of_death(error.exitcode)
    words = {
        "killed": f"the worker died of it ({how}; out of memory? Try fewer --workers)",
        "crash": f"the worker died of it ({how})",
    }
    return Outcome("failed", stage, words.get(stage, how))


def do_jobs(
    jobs: Iterable[Job], detector: Detector, build: Callable[[], Detector], settings: Settings, n_workers: int
) -> Iterator[tuple[Job, Outcome] | None]:
    """Do every job, by the detector here (without workers) or by those that workers build.

    Args:
        build: gives the same detector each time that it is called in a worker, see `built_once`.

    Yields each job with its outcome when that is known, and None about once a second while nothing gets done.
    """
    if n_workers == 0:
        for job in jobs:
            yield job, do_job(job, detector, settings)
        return
    function = functools.partial(do_job_in_worker, build, settings)
    try:
        for done in run_in_pool(function, jobs, n_workers, start_worker, (build,)):
            yield done and (Job(*done[0]), outcome_in_worker(done[1]))
    except BrokenProcessPool as error:
        raise UserError("the workers die as soon as they start; try --workers 0 to see why.") from error
