"""DF-TIMIT: DeepfakeTIMIT, whose fakes were made from videos of VidTIMIT.

Traps: pictures and sound lie apart, in both; VidTIMIT's videos are folders of JPEGs without suffix; it has
many more videos than fakes were made from, of which none is taken.
"""

from collections.abc import Iterable
from pathlib import Path

from corpora.base import SOURCE_FPS, Corpus, Entry, Listing, OnDisk, register, wrong_root

FAKES, REALS = "DeepfakeTIMIT", "VidTIMIT"
QUALITIES = {"lq": "lower_quality", "hq": "higher_quality"}
QUALITY = {"choices": ("both", *QUALITIES), "default": "both", "help": "of dftimit: its protocols"}


def read_dftimit(root: Path, quality: str = "both") -> Listing:
    """DeepfakeTIMIT/{lower,higher}_quality/<subject>/<utterance>-video-<other>.avi with <utterance>.wav, and
    VidTIMIT/<subject>/{video/<utterance>/001, 002, ..., audio/<utterance>.wav}, or
    <subject>/<utterance>.avi. Of the real videos those are taken that fakes were made from.
    """
    if not (root / FAKES).is_dir() or not (root / REALS).is_dir():
        raise wrong_root(root, f"{FAKES}/ and {REALS}/")
    listing, on_disk = Listing(), OnDisk()
    for path in sorted((root / FAKES).glob("*_quality/*/[!.]*-video-*.avi")):
        add_fake(root, path, listing, on_disk)
    if not listing.entries and not listing.missing:
        raise wrong_root(root, f"{FAKES}/<lower|higher>_quality/<subject>/<utterance>-video-<other>.avi")
    for original in sorted({entry.original for entry in listing.entries}):
        add_real(root, original, listing, on_disk)
    if quality != "both":
        listing.entries = of_quality(listing.entries, QUALITIES[quality])
    return listing


def add_fake(root: Path, path: Path, listing: Listing, on_disk: OnDisk) -> None:
    """Add a fake if its sound is there."""
    quality, subject = path.parts[-3:-1]
    utterance, _, other = path.stem.split("-", 2)
    sound = path.with_name(f"{utterance}.wav")
    name = path.relative_to(root).as_posix()
    if sound not in on_disk:
        listing.miss(name, f"{quality}/{subject}", f"without {sound.name} beside it")
        return
    entry = Entry(
        name,
        path,
        "fake",
        original=f"{REALS}/{subject}/{utterance}",
        identity=tuple(sorted((subject, other))),
        manipulation="video",
        method="faceswap-gan",
        category=quality,
        fps=SOURCE_FPS,
        has_audio=True,
        sound=sound,
    )
    listing.entries.append(entry)


def add_real(root: Path, name: str, listing: Listing, on_disk: OnDisk) -> None:
    """Add a real video, VidTIMIT/<subject>/<utterance>: its pictures and its sound, or one file of both."""
    _, subject, utterance = name.split("/")
    folder = root / REALS / subject
    frames, sound = folder / "video" / utterance, folder / "audio" / f"{utterance}.wav"
    packed = folder / f"{utterance}.avi"
    if packed not in on_disk and not (frames in on_disk and sound in on_disk):
        why = f"neither {packed.name} nor video/{utterance}/ with audio/{utterance}.wav"
        listing.miss(name, subject, why)
        return
    source = packed if packed in on_disk else frames
    apart = sound if sound in on_disk else None
    entry = Entry(name, source, "real", identity=(subject,), fps=SOURCE_FPS, has_audio=True, sound=apart)
    listing.entries.append(entry)


def of_quality(entries: Iterable[Entry], quality: str) -> list[Entry]:
    """The fakes of one quality and the real videos that these were made from."""
    fakes = [entry for entry in entries if entry.category == quality]
    needed = {entry.original for entry in fakes}
    return fakes + [entry for entry in entries if entry.name in needed]


def looks_like_dftimit(root: Path) -> bool:
    return (root / FAKES).is_dir() or (root / REALS).is_dir()


register(Corpus("dftimit", read_dftimit, looks_like_dftimit, flags={"quality": QUALITY}))
