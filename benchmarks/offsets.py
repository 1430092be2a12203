"""How well localize.py finds that a sound is late or early, and tells that from foreign sound, by length of
the video.

    python benchmarks/offsets.py --model mds.pth --out_dir offsets

Makes talking heads of persons, voices and words of its own (demo/make_videos.py): as they are, with the sound
moved, and with the sound of another utterance.  Has `localize.py --offsets` judge them and prints a Markdown
table.  The model has to be trained to see sync, on such videos.  Running it again goes on where it stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import localize
from demo.make_videos import render, write_video
from demo.speech import RATE_HZ
from utils.cli import HelpFormatter, number, run, to_path
from verdicts.offsets import MS_PER_FRAME

MOVES_MS = (80, -80, 120, -120, 200, -200, 300, -300)  # in turn; positive: the sound is late
SIZE_PX = 256
KINDS = ("true", "moved", "foreign")
SEED = 78


def moved(sound: np.ndarray, late_ms: int) -> np.ndarray:
    """The sound (n,) later, or earlier if `late_ms` is below 0; silence fills, the rest is cut off."""
    n = round(abs(late_ms) * RATE_HZ / 1000)
    silence = np.zeros(n, sound.dtype)
    return np.concatenate([silence, sound[: len(sound) - n]] if late_ms > 0 else [sound[n:], silence])


def make_kind(folder: Path, kind: str, n: int, seconds: float) -> None:
    """Write n videos of one kind, <folder>/<kind>/<number>_<ms>.mp4, unless they are there."""
    (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        late_ms = MOVES_MS[i % len(MOVES_MS)] if kind == "moved" else 0
        path = folder / kind / f"{i:03d}_{late_ms}.mp4"
        if path.exists():
            continue
        rng = np.random.default_rng([SEED, KINDS.index(kind), i, round(1000 * seconds)])
        frames, sound, _ = render(rng, "audio" if kind == "foreign" else "real", seconds, SIZE_PX)
        unfinished = path.with_suffix(".part.mp4")
        write_video(unfinished, frames, moved(sound, late_ms) if late_ms else sound)
        unfinished.replace(path)


def found_offsets(folder: Path, model: Path, detector: str) -> pd.DataFrame:
    """What `localize.py --offsets` says of the videos in a folder, with their kinds and true offsets."""
    out = folder.with_name(f"{folder.name}_out")
    flags = ["--model", str(model), "--out", str(out), "--detector", detector, "--device", "cpu"]
    localize.main([str(folder), "--offsets", *flags])
    table, summary = pd.read_csv(out / "offsets.csv"), pd.read_csv(out / "summary.csv")
    true_ms = table.video.str.extract(r"_(-?\d+)\.mp4$")[0].astype(float)
    return table.assign(
        kind=table.video.str.split("/").str[0],
        in_thresholds=table.confidence / summary.threshold.max(),  # one for all; none if none was judged
        is_near=(table.offset_ms - true_ms).abs() <= MS_PER_FRAME + 0.1,
    )


def table_row(seconds: float, kind: str, rows: pd.DataFrame) -> str:
    """A line of the table."""
    known = rows.dropna(subset="offset_ms")
    spread = known.in_thresholds.quantile([0, 0.5, 1])
    near = "" if kind == "foreign" else f"{known.is_near.sum()} of {len(rows)}"
    confidence = " / ".join(f"{x:.2f}" for x in spread) if len(known) else ""
    clear, agrees = ((known[name] == "yes").sum() for name in ("stands_out", "agrees_if_moved"))
    cells = (f"{seconds:g} s", kind, near, confidence, clear, agrees)
    return f"| {' | '.join(map(str, cells))} |"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--model", type=to_path, required=True, metavar="CHECKPOINT", help="trained to see sync")
    add("--out_dir", type=to_path, required=True, help="for the videos and what is found")
    add(
        "--lengths_s",
        type=number(float, 0.5),
        nargs="+",
        default=[2, 3, 5, 10],
        metavar="S",
        help="of videos",
    )
    add("--n", type=number(int, 1), default=16, help="videos of each kind and length")
    add("--detector", default="libfacedetection", help="of localize.py")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cv2.setNumThreads(1)
    lines = []
    for seconds in args.lengths_s:
        folder = args.out_dir / f"{seconds:g}s"
        for kind in KINDS:
            make_kind(folder, kind, args.n, seconds)
        found = found_offsets(folder, args.model, args.detector)
        lines += [table_row(seconds, kind, found[found.kind == kind]) for kind in KINDS]
    print(f"\nOf {args.n} videos of each length and kind:\n")
    print("| length | sound | within a frame | confidence | stands out | agrees if moved |")
    print("|---" * 6 + "|", *lines, sep="\n")


if __name__ == "__main__":
    run(main)
