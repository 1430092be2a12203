"""Put crops of some videos on one sheet: a row per video, in order of time, under its sound.

    python demo/show_crops.py demo/data/train --out crops.png

Reads <split>/pytmp as pre-process.py writes it.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import cv2
import matplotlib.pyplot as plt
import numpy as np
from scipy.io import wavfile

N_VIDEOS = 4
N_CROPS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, help="folder of a split, with pytmp/ in it")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    videos = [
        video
        for pair in zip(*(sorted((args.split / "pytmp" / label).iterdir()) for label in ("real", "fake")), strict=False)
        for video in pair
    ][:N_VIDEOS]
    figure, axes = plt.subplots(2 * len(videos), 1, figsize=(12, 2.0 * len(videos)), layout="constrained",
                                height_ratios=[3, 1] * len(videos))  # fmt: skip
    for video, (top, bottom) in zip(videos, axes.reshape(-1, 2), strict=True):
        frames = sorted(video.glob("*/*.jpg"))
        chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, N_CROPS)]
        top.imshow(np.hstack([cv2.imread(str(path))[..., ::-1] for path in chosen]))
        top.set_ylabel(f"{video.parent.name}\n{video.name}", fontsize=8)
        top.set(xticks=[], yticks=[])
        sound = np.concatenate([wavfile.read(path)[1] for path in sorted(video.glob("*.wav"))])
        bottom.plot(np.arange(0, len(sound), 48) / 48_000, sound[::48], lw=0.4, color="black")
        bottom.set(xlim=(0, len(sound) / 48_000), yticks=[])
        bottom.tick_params(labelsize=6)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.savefig(args.out, dpi=90)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
