"""Does a verdict stand when the video is written again, as it is when it is sent, shared and posted?"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
from tqdm import tqdm

from perturbations.kinds import KINDS, Kind
from perturbations.pictures import keep_picture
from perturbations.rewrite import MOV, Task, write_changed, write_copy
from utils.claims import raise_if_no_room
from utils.containers import VideoError, open_container, reason
from verdicts.answer import side_of
from verdicts.schema import Stress, StressWay

H264 = Kind("CRF {}", {28: 28, 35: 35}, picture=keep_picture, is_crf=True)
MATROSKA = "matroska"


class Way(NamedTuple):
    """A way to write a video again."""

    kind: Kind
    level: int


WAYS = {
    "H.264 at CRF 28": Way(H264, 28),
    "H.264 at CRF 35": Way(H264, 35),
    "half size and back": Way(KINDS["resize"], 2),
    "AAC at 64 kbit/s": Way(KINDS["aac"], 3),  # 128 kbit/s of two channels, and the sound is mono
    "another container": None,  # picture and sound as they are
}


def write_again(source: Path, way: Way | None, folder: Path) -> Path:
    """Write a video again into a folder; the new file.

    Raises:
        VideoError: it can't be written in this way. OSError: there is no room.
    """
    try:
        if way is None:
            with open_container(source) as container:
                form = MOV if MATROSKA in container.format.name else MATROSKA
            target = folder / f"video.{form}"
            write_copy(source, target, form)
        else:
            target = folder / "video.mp4"
            write_changed(Task(source, target, "stress", *way), target)
    except VideoError:
        raise
    except Exception as error:  # whatever one odd video does, the answer that is found stays
        raise_if_no_room(error)
        raise VideoError("write", f"{type(error).__name__}: {reason(error)}") from error
    return target


def judge_in_other_ways(
    source: Path, mds: float, threshold: float, mds_of: Callable[[Path, Path], float], scratch: Path
) -> Stress:
    """Judge a video again in all of `WAYS`.

    Args:
        mds: of the video as it is.
        mds_of: gives the MDS of a file; the other path is an empty folder for it.

    Raises:
        OSError: there is no room.
    """
    found: list[StressWay] = []
    for name, way in tqdm(WAYS.items(), unit="way", desc="written again", leave=False, delay=2):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            again = Path(folder, "scratch")
            again.mkdir()
            try:
                other = mds_of(write_again(source, way, Path(folder)), again)
                found.append({"way": name, "mds": other, "side": side_of(other, threshold), "reason": None})
            except (VideoError, av.FFmpegError) as error:
                found.append({"way": name, "mds": None, "side": None, "reason": reason(error)})
    judged = [way["mds"] for way in found if way["mds"] is not None]
    return {
        "mds_low": min(judged, default=None),
        "mds_high": max(judged, default=None),
        "n_held": sum(way["side"] == side_of(mds, threshold) for way in found),
        "ways": found,
    }
