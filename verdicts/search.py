"""The videos that are to be judged, and what is known of them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.span_files import name_as_labelled, read_labels
from utils.cli import UserError
from utils.constants import LABELS
from utils.listing import is_system_file, is_video_name, left_out_words, walk
from verdicts.schema import VERDICT_FILE

MADE = ("pytmp", "preview")  # folders of pre-process.py in a split


def search_videos(paths: Sequence[Path], out: Path) -> dict[str, Path]:
    """The videos by name, sorted: their paths below the folder that holds all of `paths`, or below the one
    folder given.

    In folders, `out`, results of localize.py and what `is_video_name` takes for something else are left
    alone; the latter are counted.

    Raises:
        UserError: a path does not exist, or there is no video. OSError: a folder can't be listed.
    """
    found: set[str] = set()
    others: list[str] = []
    roots = []
    for path in paths:
        whole = os.path.abspath(path)
        if os.path.isdir(whole):
            roots.append(whole)
            videos, left_out = search_folder(whole, os.path.realpath(out))
            found.update(videos)
            others += left_out
        elif os.path.exists(whole):
            roots.append(os.path.dirname(whole))
            found.add(whole)
        else:
            raise UserError(f"{path} does not exist; expected a video or a folder.")
    if not found:
        more = f"; {left_out_words(others)}" if others else ""
        where = ", ".join(map(str, paths))
        raise UserError(f"no file with the suffix of a video, or without one, in {where}{more}.")
    if others:
        print(f"note: {left_out_words(others)}", file=sys.stderr)
    root = os.path.commonpath(roots)
    return {Path(os.path.relpath(whole, root)).as_posix(): Path(whole) for whole in sorted(found)}


def search_folder(root: str, out: str) -> tuple[list[str], list[str]]:
    """The videos in a folder and below, and the files that are none by their names."""
    videos, others = [], []
    for folder, subfolders, files in walk(root):
        if VERDICT_FILE in files or (folder != root and os.path.realpath(folder) == out):
            subfolders.clear()
            continue
        if any(
            label in subfolders for label in LABELS
        ):  # a split: what pre-process.py made of it is no video
            subfolders[:] = [subfolder for subfolder in subfolders if subfolder not in MADE]
        videos += [os.path.join(folder, file) for file in files if is_video_name(file)]
        rest = [file for file in files if not is_video_name(file) and not is_system_file(file)]
        others += [os.path.join(folder, file) for file in rest]
    return videos, others


def find_labels(path: Path, videos: dict[str, Path]) -> dict[str, list]:
    """The true spans of those videos that the labels know, by their paths or by their names; says how many
    they do not.
    """
    labels = read_labels(path)
    by_name = name_as_labelled(videos, labels)
    by_path = name_as_labelled((video.as_posix() for video in videos.values()), labels)
    spans = {}
    for name, video in videos.items():
        labelled = by_path.get(video.as_posix(), by_name.get(name))
        if labelled is not None:
            spans[name] = labels[labelled]
    if n_unknown := len(videos) - len(spans):
        print(
            f"note: {n_unknown} of {len(videos)} videos have no record in {path}, or several", file=sys.stderr
        )
    return spans
