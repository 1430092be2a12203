"""Which files of a folder are videos: one rule for all scripts, by the names alone. What is no video shows
when it is opened.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.cli import legible
from utils.constants import LABELS

# suffixes; files with others and without any are taken for videos
OTHER_SUFFIXES = (
    ".7z .aac .ass .bak .bmp .bz2 .cfg .css .csv .db .doc .docx .exe .flac .gz .h5 .heic .htm .html "
    ".ini .ipynb .jpeg .jpg .js .json .jsonl .lnk .log .m4a .mat .md .md5 .mp3 .npy .npz .odt .onnx "
    ".opus .parquet .pdf .pickle .pkl .png .ppt .pptx .pt .pth .py .pyc .rar .rtf .sh .sha256 .srt .svg "
    ".tar .tgz .tif .tiff .tmp .toml .tsv .txt .url .vtt .wav .webp .xls .xlsx .xml .xz .yaml .yml .zip"
)
NOT_VIDEOS = frozenset(OTHER_SUFFIXES.split())
NOT_VIDEO_NAMES = frozenset(("license", "makefile", "md5sums", "readme", "sha256sums"))
SYSTEM_FILES = frozenset(
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", ".ds_store", ".localized", ".gitkeep")
)


def is_video_name(name: str) -> bool:
    """Whether a file of this name is taken for a video: it is not hidden, and its suffix is not that of
    something else.
    """
    is_other = name.startswith(".") or name.lower() in SYSTEM_FILES | NOT_VIDEO_NAMES
    return not is_other and os.path.splitext(name)[1].lower() not in NOT_VIDEOS


def is_system_file(name: str) -> bool:
    """Whether a system leaves files of this name in any folder, so that they are not worth a word."""
    return name.lower() in SYSTEM_FILES or name.startswith("._")


def left_out_words(names: Sequence[str]) -> str:
    """What to say of files that `is_video_name` takes for something else."""
    return (
        f"{len(names)} files that are no videos by their names are left alone, the first {legible(names[0])}"
    )


def walk(root: Path | str) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`, sorted, hidden folders left out, linked ones taken in, each once: not those within `root` or
    around it.

    Raises:
        OSError: a folder can't be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    real_root = os.path.realpath(root)
    seen: set[str] = set()  # what links lead to
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        entered = []
        for name in sorted(name for name in subfolders if name[0] != "."):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                real = os.path.realpath(path)
                if real in seen or os.path.commonpath((real, real_root)) in (real, real_root):
                    continue
                seen.add(real)
            entered.append(name)
        subfolders[:] = entered
        yield folder, subfolders, sorted(files)


def to_rename(folder: Path) -> str:
    """What to say of folders whose names are labels but for their case; empty if there are none."""
    others = sorted(
        p for p in folder.glob("*") if p.name not in LABELS and p.name.lower() in LABELS and p.is_dir()
    )
    return ", ".join(f"rename {legible(str(p))} to {p.name.lower()}" for p in others)
