"""A published data set in miniature: its folders, names and records, filled with generated videos.

    python experiments/miniature.py --layout lavdf --root work/lavdf/root

The videos are those of demo/make_videos.py, so that everything after collect.py runs on them; half are for
training, half for testing, and each fake has its original. A miniature that is there already is kept. Figures
that come of it say that the experiment runs, and nothing about the data set.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import av
import cv2
import numpy as np

from utils.chunkfiles import write_wav
from utils.cli import HelpFormatter, UserError, number, run, to_path
from utils.constants import SAMPLE_RATE_HZ

MAKE_VIDEOS = Path(__file__).resolve().parent.parent / "demo" / "make_videos.py"
DONE = "miniature.json"  # in a root that is whole


@dataclass(frozen=True)
class Pair:
    """A fake, the real video that it was made from, and their split; paths of .mp4 files."""

    split: str
    real: Path
    fake: Path
    record: dict  # of the fake, with LAV-DF's fields

    @property
    def manipulation(self) -> str:
        return "audio" if self.record["modify_audio"] else "video"


def make_pairs(folder: Path, n_pairs: int, seconds: float) -> list[Pair]:
    """`n_pairs` pairs of generated videos in each split."""
    sizes = ["--n_train", 2 * n_pairs, "--n_test", 2 * n_pairs, "--seconds", seconds]
    command = [sys.executable, MAKE_VIDEOS, "--out_dir", folder, *sizes]
    subprocess.run([str(word) for word in command], check=True)
    records = json.loads((folder / "metadata.json").read_text())
    fakes = [record for record in records if record["original"]]
    return [Pair(r["split"], folder / r["original"], folder / r["file"], r) for r in fakes]


def move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def as_plain(pairs: Iterable[Pair], root: Path) -> None:
    """<split>/<label>/<video>.mp4, as pre-process.py takes them, with the split's index.csv."""
    for pair in pairs:
        rows = []
        for label, path in (("real", pair.real), ("fake", pair.fake)):
            move(path, root / pair.split / label / path.name)
            original = f"real/{pair.real.stem}" if label == "fake" else ""
            rows.append((f"{label}/{path.stem}", original, pair.manipulation if original else ""))
        index = root / pair.split / "index.csv"
        is_new = not index.exists()
        with index.open("a", newline="") as file:
            csv.writer(file).writerows([("video", "original", "manipulation"), *rows] if is_new else rows)


def as_dfdc(pairs: Iterable[Pair], root: Path) -> None:
    """Two parts, and train_list.txt and test_list.txt as the authors' lists are written."""
    parts: dict[str, dict] = {}
    lines: dict[str, list[str]] = {}
    for i, pair in enumerate(pairs):
        part = f"dfdc_train_part_{1 if pair.split == 'train' else 22}"
        number = f"{chr(ord('a') + i // 26)}{chr(ord('a') + i % 26)}"
        real, fake = f"original{number}", f"fakevide{number}"
        move(pair.real, root / part / f"{real}.mp4")
        move(pair.fake, root / part / f"{fake}.mp4")
        parts.setdefault(part, {})[f"{real}.mp4"] = {"label": "REAL", "split": "train"}
        parts[part][f"{fake}.mp4"] = {"label": "FAKE", "split": "train", "original": f"{real}.mp4"}
        lines.setdefault(pair.split, []).append(f"{fake}.{part}")
    for part, records in parts.items():
        (root / part / "metadata.json").write_text(json.dumps(records))
    for split, names in lines.items():
        (root / f"{split}_list.txt").write_text("".join(f"{name}\n" for name in names))


def as_dftimit(pairs: Iterable[Pair], root: Path) -> None:
    """Fakes of both qualities, AVI and WAV apart; of the real videos JPEGs without suffix, and WAV. Two
    people for each pair of videos, so that people can be kept apart.
    """
    for i, pair in enumerate(pairs):
        subject, other = f"fabc{i}", f"fxyz{i}"
        frames, sound = pictures_and_sound(pair.real)
        write_pictures(root / "VidTIMIT" / subject / "video" / "sa1", frames)
        write_sound(root / "VidTIMIT" / subject / "audio" / "sa1.wav", sound)
        frames, sound = pictures_and_sound(pair.fake)
        for quality in ("lower_quality", "higher_quality"):
            folder = root / "DeepfakeTIMIT" / quality / subject
            write_sound(folder / "sa1.wav", sound)
            write_avi(folder / f"sa1-video-{other}.avi", frames)


def as_fakeavceleb(pairs: Iterable[Pair], root: Path) -> None:
    """meta_data.csv with its nameless last column, races as they are spelt there."""
    rows = [["source", "target1", "target2", "method", "category", "type", "race", "gender", "path", ""]]
    for i, pair in enumerate(pairs):
        who, race, clip = f"id{i:05d}", "Asian (East)", f"{i:05d}"
        of_sound = pair.manipulation == "audio"
        kind, method, category = (
            ("RealVideo-FakeAudio", "rtvc", "B") if of_sound else ("FakeVideo-RealAudio", "wav2lip", "C")
        )
        for type_, name, path, row in (
            ("RealVideo-RealAudio", f"{clip}.mp4", pair.real, ["real", "A"]),
            (kind, f"{clip}_fake.mp4", pair.fake, [method, category]),
        ):
            folder = f"{type_}/{race}/women/{who}"
            move(path, root / folder / name)
            cells = [who, "-", "-", *row, type_, race, "women", name, f"FakeAVCeleb/{folder}"]
            rows.append(cells)
    with (root / "meta_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def as_lavdf(pairs: Iterable[Pair], root: Path) -> None:
    """metadata.json with the fake periods; numbers as names; every second training pair is in dev."""
    records, n = [], 0
    for i, pair in enumerate(pairs):
        split = "dev" if pair.split == "train" and i % 2 else pair.split
        names = []
        for path in (pair.real, pair.fake):
            names.append(f"{split}/{n:06d}.mp4")
            move(path, root / names[-1])
            n += 1
        fake = pair.record | {"file": names[1], "split": split, "original": names[0]}
        real = fake | {"file": names[0], "original": None, "n_fakes": 0, "fake_periods": []}
        records += [real | {"modify_video": False, "modify_audio": False}, fake]
    (root / "metadata.json").write_text(json.dumps(records))


LAYOUTS: dict[str, Callable[[Iterable[Pair], Path], None]] = {
    "plain": as_plain,
    "dfdc": as_dfdc,
    "dftimit": as_dftimit,
    "fakeavceleb": as_fakeavceleb,
    "lavdf": as_lavdf,
}


def pictures_and_sound(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """All frames, BGR, and the sound, int16 at 48 kHz."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
    with av.open(str(path)) as container:
        parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        parts += resampler.resample(None)
    return frames, np.concatenate([part.to_ndarray()[0] for part in parts])


def write_pictures(folder: Path, frames: Iterable[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames, 1):
        (folder / f"{i:03d}").write_bytes(cv2.imencode(".jpg", frame)[1].tobytes())


def write_sound(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, samples)


def write_avi(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qscale:v": "3"})
        stream.height, stream.width = frames[0].shape[:2]
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--layout", choices=LAYOUTS, required=True, help="the data set")
    add("--root", type=to_path, required=True, help="folder to make, as the data set lies on the disk")
    add("--pairs", type=number(int, 1), default=4, help="of a real and a fake video, in each split")
    add("--seconds", type=number(float, 2.1), default=2.2, help="length of a video")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    made = {"layout": args.layout, "pairs": args.pairs, "seconds": args.seconds}
    done = args.root / DONE
    if done.exists() and json.loads(done.read_text()) == made:
        return
    if args.root.exists():
        raise UserError(
            f"{args.root} exists and is no miniature of {made}. Name another --root, or delete it."
        )
    args.root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.root.parent) as folder:
        root = Path(folder) / "root"
        root.mkdir()
        LAYOUTS[args.layout](make_pairs(Path(folder) / "videos", args.pairs, args.seconds), root)
        (root / DONE).write_text(json.dumps(made))
        root.rename(args.root)


if __name__ == "__main__":
    run(main)
