"""One video as a job: claimed among all runs on a folder, done once, its outcome told in plain words."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from pebble import ProcessExpired

from detectors import Detector
from preprocessing.pool import run_in_pool
from preprocessing.record import process_video
from preprocessing.settings import Settings
from utils.chunkfiles import read_record
from utils.claims import NO_ROOM, claimed
from utils.cli import UserError
from utils.constants import FPS
from utils.containers import VideoError
from utils.files import discard
from utils.probe import cause_of_death
from utils.timing import killed_if_stalled

Job = tuple[Path, Path, Path | None]  # a video, the folder of its chunks, its preview if one is asked for


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


def outcome_of(status: str, record: dict, seconds: dict[str, float] | None = None) -> Outcome:
    """The outcome of a complete video: its chunks and everything that was left out."""
    warnings = []
    kinds = {
        "without_sound": "without sound",
        "damaged": "with damaged frames",
        "still": "of a face that never moves",
    }
    for kind, words in kinds.items():
        if left_out := [chunk["first_frame"] / FPS for chunk in record.get(kind, ())]:
            warnings.append(f"{len(left_out)} chunks {words} left out, the first at {min(left_out):.2f} s")
    warnings = [*record.get("warnings", ()), *warnings]
    return Outcome(status, n_chunks=len(record["chunks"]), warnings=warnings, seconds=seconds or {})


def is_complete(record: dict | None, source: Path, settings: Settings) -> bool:
    """Whether a video's record is that of this file with these settings."""
    if record is None or record.get("settings_hash") != settings.hash or not source.is_file():
        return False
    return record["source_bytes"] == source.stat().st_size


def do_job(
    source: Path, target: Path, preview: Path | None, detector: Detector, settings: Settings
) -> Outcome:
    """Process a video unless that is done or another process is at it; then draw its preview if one is asked
    for.
    """
    try:
        with claimed(target) as work:
            if work is None:
                return Outcome("busy")
            record, status, seconds, is_whole = read_record(target), "complete", {}, False
            try:
                is_whole = is_complete(record, source, settings)
                if not is_whole:
                    record, seconds = process_video(source, target, work, detector, settings)
                    status, is_whole = "done", True
                if preview is not None and not preview.exists():
                    from preprocessing.preview import (
                        draw_preview,  # here, so that workers that draw nothing start at once
                    )

                    draw_preview(source, target, record, preview)
            except Exception as error:  # whatever one odd video does, the others go on
                cause = error.__cause__ if isinstance(error, UserError) else error
                if isinstance(cause, OSError) and cause.errno in NO_ROOM:
                    raise cause from None
                if (
                    not is_whole and source.is_file()
                ):  # else its disk may be away, and the chunks are all that is there
                    discard(target, work)  # chunks of an earlier file of this name
                if isinstance(error, VideoError):
                    return Outcome("failed", error.stage, str(error))
                words = f"{type(error).__name__}: {error}".splitlines()[0]
                return Outcome("failed", "preview" if is_whole else "unexpected", words)
            return outcome_of(status, record, seconds)
    except OSError as error:
        return Outcome(
            "stop", reason=f"can't write to {target}: {error.strerror}; mend it, then run this again."
        )


worker_state: dict = {}  # what a worker keeps from job to job: detector, settings


def start_worker(build: Callable[[], Detector], settings: Settings) -> None:
    """Make this process ready for `do_job_in_worker`."""
    import preprocessing.shots  # noqa: F401, before the first video, which needs it; the process that hands out videos does not

    cv2.setNumThreads(1)  # processes are the parallel part; threads of theirs would get in each other's way
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that the detector loads
    worker_state.update(detector=build(), settings=settings)


def do_job_in_worker(source: Path, target: Path, preview: Path | None) -> Outcome:
    with killed_if_stalled():
        return do_job(source, target, preview, **worker_state)


def do_jobs(
    jobs: Iterable[Job], detector: Detector, build: Callable[[], Detector], settings: Settings, n_workers: int
) -> Iterator[tuple[Job, Outcome] | None]:
    """Do every job, by the detector here (without workers) or by those that workers build.

    Yields each job with its outcome when that is known, and None about once a second while nothing gets done.
    """
    if n_workers == 0:
        for job in jobs:
            yield job, do_job(*job, detector, settings)
        return
    try:
        for done in run_in_pool(do_job_in_worker, jobs, n_workers, start_worker, (build, settings)):
            if done is None:
                yield None
                continue
            job, future = done
            error = future.exception()
            if isinstance(error, ProcessExpired):
                stage, how = cause_of_death(error.exitcode)
                hint = "; out of memory? Try fewer --workers" if error.exitcode == -9 else ""
                yield (
                    job,
                    Outcome(
                        "failed", stage, f"the worker died of it ({how}{hint})" if stage == "crash" else how
                    ),
                )
            else:
                yield job, future.result()
    except BrokenProcessPool as error:
        raise UserError("the workers die as soon as they start; try --workers 0 to see why.") from error
