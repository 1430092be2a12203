"""LAV-DF.

Traps: one metadata file for all splits, under one of two names; a video is fake if it has fake periods.
"""

from pathlib import Path

from corpora.base import (
    SOURCE_FPS,
    Corpus,
    Entry,
    Listing,
    OnDisk,
    as_said,
    choice,
    records_of,
    register,
    relative,
    wrong_root,
)
from utils.cli import UserError
from utils.jsonfiles import checked_spans

RECORDS = ("metadata.json", "metadata.min.json")
EXPECTED = "a list of records with file, split, fake_periods, ..."
MANIPULATIONS = {  # by (modify_video, modify_audio)
    (False, False): "",
    (True, False): "video",
    (False, True): "audio",
    (True, True): "both",
}


def read_lavdf(root: Path) -> Listing:
    """metadata.json (or metadata.min.json) with a record of each file, its split train, dev or test, and its
    fake periods.
    """
    listing, on_disk = Listing(), OnDisk()
    path = next((root / name for name in RECORDS if (root / name).is_file()), None)
    if path is None:
        raise wrong_root(root, f"{' or '.join(RECORDS)} beside train/, dev/ and test/")
    for name, record in records_of(path, EXPECTED, list):
        where = f"{path}: {name}"
        split = choice(record, "split", as_said("train", "dev", "test"), where)
        spans = checked_spans(record.get("fake_periods") or [], 2, where)
        if root / name not in on_disk:
            listing.miss(name, split, f"in {path.name}, but not on the disk")
            continue
        in_video, in_audio = record.get("modify_video"), record.get("modify_audio")
        are_flags = isinstance(in_video, bool) and isinstance(in_audio, bool)
        if not are_flags or (in_video or in_audio) != bool(spans):
            got = f"modify_video {in_video}, modify_audio {in_audio} with {len(spans)} fake periods"
            raise UserError(f"{where}: {got}; expected true or false, and periods where one is true.")
        entry = Entry(
            name,
            root / name,
            "fake" if spans else "real",
            split,
            original=relative(record["original"], path) if record.get("original") else "",
            manipulation=MANIPULATIONS[bool(in_video), bool(in_audio)],
            fake_periods=spans,
            fps=SOURCE_FPS,
            duration_s=record.get("duration"),
            has_audio=bool(record.get("audio_channels", 1)),
        )
        listing.entries.append(entry)
    return listing


def looks_like_lavdf(root: Path) -> bool:
    return any((root / name).is_file() for name in RECORDS) and (root / "dev").is_dir()


register(Corpus("lavdf", read_lavdf, looks_like_lavdf))
