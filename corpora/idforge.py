"""IDForge v1, from descriptions.

Traps: the lists of its splits have no header, and lie beside the folders or apart from them; a name is there
once for each kind of forgery; people may be in more than one split; v2 holds arrays in place of videos.

Sources: in github.com/xyyandxyy/IDForge of its authors the README, for folders and kinds, and
IDForge_v1/val.csv, for the lists and the names of videos.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from corpora.base import Corpus, Entry, Listing, folders_in, register, relative, videos_below, wrong_root
from corpora.lists import read_list

REAL = "pristine"
SPLITS = ("train", "val", "test")
KINDS = {  # by folder: what was changed, and with what; a sound of another person counts as changed
    REAL: ("", ()),
    "face_audiomismatch_textmismatch": ("both", ("Wav2Lip",)),
    "face_rvc_textmismatch": ("both", ("Wav2Lip", "RVC")),
    "face_tts": ("both", ("Wav2Lip", "TorToiSe")),
    "face_tts_textgen": ("both", ("Wav2Lip", "TorToiSe")),
    "lip_audiomismatch_textmismatch": ("both", ("Wav2Lip",)),
    "lip_rvc_textmismatch": ("both", ("Wav2Lip", "RVC")),
    "lip_tts_textgen": ("both", ("Wav2Lip", "TorToiSe")),
    "rvc_textmismatch": ("audio", ("RVC",)),
    "tts_textgen": ("audio", ("TorToiSe",)),
    "tts_textmismatch": ("audio", ("TorToiSe",)),
}
SWAPS = ("infoswap", "roop", "simswap")  # the last word of a video whose face was swapped


def read_idforge(root: Path) -> Listing:
    """<kind>/<person>/<session>/<video>.mp4 for `pristine` and the ten kinds of forgery, in the root, in
    main/ or in IDForge_v1/main/; train.csv, val.csv and test.csv, a path in each line, in one of these.
    """
    homes = (root, root / "main", root / "IDForge_v1", root / "IDForge_v1" / "main")
    home = next((path for path in homes if REAL in folders_in(path, KINDS)), None)
    if home is None:
        raise wrong_root(root, f"{REAL}/ beside folders such as face_tts/ (of v1: v2 has no videos)")
    listing = Listing()
    split_of = splits_of_videos(homes, listing)
    for kind, folder in folders_in(home, KINDS).items():
        for path in videos_below(folder):
            name = f"{kind}/{path.relative_to(folder).as_posix()}"
            listing.entries.append(forge_entry(name, path, kind, split_of.pop(name, "")))
    for name in split_of:
        listing.miss(name, name.split("/")[0], "in the lists of its splits, but not on the disk")
    return listing


def splits_of_videos(folders: Sequence[Path], listing: Listing) -> dict[str, str]:
    """The split of each video that a list names; a video of two lists is of the first."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = next(
            (folder / f"{split}.csv" for folder in folders if (folder / f"{split}.csv").is_file()), None
        )
        names = {relative(line.strip('",'), path) for line in read_list(path)} if path else set()
        if both := sorted(names & split_of.keys()):
            where = f"{split_of[both[0]]}.csv, the first {both[0]}; left there alone"
            listing.notes.append(f"LEAK: {len(both)} videos of {split}.csv are also in {where}")
        split_of = dict.fromkeys(sorted(names), split) | split_of
    return split_of


def forge_entry(name: str, source: Path, kind: str, split: str) -> Entry:
    manipulation, tools = KINDS[kind]
    swap = os.path.splitext(name)[0].rpartition("_")[2].lower()
    swapped = (swap,) if kind.startswith("face_") and swap in SWAPS else ()
    return Entry(
        name,
        source,
        "fake" if manipulation else "real",
        split,
        identity=(name.split("/")[1],),
        manipulation=manipulation,
        method="+".join((*swapped, *tools)),
        category="" if kind == REAL else kind,
    )


def looks_like_idforge(root: Path) -> bool:
    return len(folders_in(root, KINDS)) > 1 or len(folders_in(root / "main", KINDS)) > 1


register(Corpus("idforge", read_idforge, looks_like_idforge, from_descriptions=True))
