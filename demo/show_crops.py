"""Put crops of some videos on one sheet: a row per video, in order of time, its sound below.

    python demo/show_crops.py demo/data/train --out crops.png

Reads <split>/pytmp as pre-process.py writes it: real and fake videos in turn.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from scipy.io import wavfile

N_VIDEOS = 4
N_CROPS = 12


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("split", type=Path, help="folder of a split, with pytmp/ in it")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    args = parser.parse_args(argv)
    if not all(any((args.split / "pytmp" / label).glob("[!.]*")) for label in ("real", "fake")):
        parser.error(
            f"no videos in {args.split}/pytmp/real or fake; run pre-process.py --out_dir {args.split} first"
        )
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    folders = [sorted((args.split / "pytmp" / label).glob("[!.]*")) for label in ("real", "fake")]
    videos = [video for pair in zip(*folders, strict=False) for video in pair][:N_VIDEOS]
    figure = Figure(figsize=(12, 2.0 * len(videos)), layout="constrained")
    axes = figure.subplots(2 * len(videos), 1, height_ratios=[3, 1] * len(videos))
    for video, (top, bottom) in zip(videos, axes.reshape(-1, 2), strict=True):
        frames = sorted(video.glob("*/*.jpg"))
        chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, N_CROPS)]
        top.imshow(np.hstack([cv2.imread(str(path))[..., ::-1] for path in chosen]))
        top.set_ylabel(f"{video.parent.name}\n{video.name}", fontsize=8)
        top.set(xticks=[], yticks=[])
        chunks = [wavfile.read(path) for path in sorted(video.glob("*.wav"))]
        sound = np.concatenate([samples for _, samples in chunks])
        seconds = np.arange(len(sound)) / chunks[0][0]
        bottom.plot(seconds[::48], sound[::48], lw=0.4, color="black")
        bottom.set(xlim=(0, seconds[-1]), yticks=[])
        bottom.tick_params(labelsize=6)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.savefig(args.out, dpi=90)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
