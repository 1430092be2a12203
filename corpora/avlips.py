"""AVLips v1.0, lip-synced videos, from descriptions.

Traps: the sound is also there as files of its own; names are numbers, and whether a fake was made from the
real video of its number is not said.

Sources: the README of its authors, github.com/AaronComo/LipFD, and what their preprocess.py reads.
"""

from pathlib import Path

from corpora.base import Corpus, Entry, Listing, OnDisk, folders_in, register, videos_below, wrong_root

REALS, FAKES, SOUNDS = "0_real", "1_fake", "wav"
LABELS = {REALS: "real", FAKES: "fake"}
SOUND = {
    "choices": ("own", SOUNDS),
    "default": "own",
    "help": "of avlips: the videos' own, or the files in wav/, joined to them",
}


def read_avlips(root: Path, sound: str = "own") -> Listing:
    """0_real/ and 1_fake/ with <number>.mp4, in the root or in AVLips/; the sound also as
    wav/{0_real,1_fake}/<number>.wav.
    """
    home = home_of(root)
    if home is None:
        raise wrong_root(root, f"{REALS}/ and {FAKES}/ with videos, and {SOUNDS}/")
    listing, on_disk, real = Listing(), OnDisk(), {}
    folders = folders_in(home, (*LABELS, SOUNDS))
    for kind, label in LABELS.items():
        for path in videos_below(folders[kind]):
            name, inner = path.relative_to(home).as_posix(), path.relative_to(folders[kind])
            wav = (folders.get(SOUNDS, home / SOUNDS) / kind / inner).with_suffix(".wav")
            apart = wav if sound == SOUNDS else None
            if apart and apart not in on_disk:
                listing.miss(name, kind, f"without {apart.relative_to(home)}")
                continue
            number, original, manipulation = inner.with_suffix(""), "", ""
            if label == "real":
                real[number] = name
            else:
                original, manipulation = real.get(number, ""), "video"
            entry = Entry(name, path, label, original=original, manipulation=manipulation, sound=apart)
            listing.entries.append(entry)
    if any(entry.original for entry in listing.entries):
        taken = "taken for made from the real video of that number, so that both stay in one split"
        listing.notes.append(f"a fake is {taken}; the data set does not say so")
    return listing


def home_of(root: Path) -> Path | None:
    """The folder with both labels: the root, or AVLips*/ in it."""
    homes = (root, *sorted(root.glob("AVLips*")))
    return next((path for path in homes if LABELS.keys() <= folders_in(path, LABELS).keys()), None)


def looks_like_avlips(root: Path) -> bool:
    return home_of(root) is not None


register(Corpus("avlips", read_avlips, looks_like_avlips, flags={"sound": SOUND}, from_descriptions=True))
