"""Does a verdict stand when the video is written again, as it is when it is sent, shared and posted?"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import av
from tqdm import tqdm

from perturbations.kinds import KINDS, Kind
from perturbations.pictures import keep_picture
from perturbations.rewrite import Task, write_changed, write_streams
from utils.claims import NO_ROOM
from utils.containers import VideoError, open_container, reason
from verdicts.schema import Stress, StressWay, Verdict

# its macroblock tree reads memory that was never written (as MALLOC_PERTURB_ shows), so that without this
# the same pictures give other bits from run to run
STEADY = "mbtree=0"
H264 = Kind("CRF {}", {28: 28, 35: 35}, picture=keep_picture, is_crf=True, x264_params=STEADY)
HALF = replace(KINDS["resize"], x264_params=STEADY)
COPY = Kind("copied", {0: None})
MATROSKA, MOV = "matroska", "mov"


class Way(NamedTuple):
    """A way to write a video again."""

    kind: Kind
    level: int


WAYS = {
    "H.264 at CRF 28": Way(H264, 28),
    "H.264 at CRF 35": Way(H264, 35),
    "half size and back": Way(HALF, 2),
    "AAC at 64 kbit/s": Way(KINDS["aac"], 5),
    "another container": Way(COPY, 0),
}


def write_again(source: Path, way: Way, folder: Path) -> Path:
    """Write a video again into a folder; the new file.

    Raises:
        VideoError, av.FFmpegError: it can't be written in this way. OSError: there is no room.
    """
    try:
        if way.kind is COPY:
            with open_container(source) as container:
                form = MOV if MATROSKA in container.format.name else MATROSKA
            target = folder / f"video.{form}"
            write_streams(Task(source, target, "stress", way.level), way.kind, target, form)
        else:
            target = folder / "video.mp4"
            write_changed(Task(source, target, "stress", way.level), way.kind, target)
    except av.FFmpegError as error:
        if error.errno in NO_ROOM:  # FFmpeg's error need not be an OSError
            raise OSError(error.errno, os.strerror(error.errno)) from error
        raise
    return target


def judge_in_other_ways(
    source: Path, mds: float, threshold: float, judge: Callable[[Path, Path], Verdict], scratch: Path
) -> Stress:
    """Judge a video again in all of `WAYS`.

    Args:
        mds: of the video as it is.
        judge: gives the verdict on a file; the other path is an empty folder for it.

    Raises:
        OSError: there is no room.
    """
    found: list[StressWay] = []
    for name, way in tqdm(WAYS.items(), unit="way", desc="written again", leave=False, delay=2):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            again = Path(folder, "scratch")
            again.mkdir()
            try:
                verdict = judge(write_again(source, way, Path(folder)), again)
                found.append(
                    {"way": name, "mds": verdict["mds"], "verdict": verdict["verdict"], "reason": None}
                )
            except (VideoError, av.FFmpegError) as error:
                found.append({"way": name, "mds": None, "verdict": None, "reason": reason(error)})
    judged = [way["mds"] for way in found if way["mds"] is not None]
    return {
        "mds_low": min(judged, default=None),
        "mds_high": max(judged, default=None),
        "n_held": sum((other >= threshold) == (mds >= threshold) for other in judged),
        "ways": found,
    }
