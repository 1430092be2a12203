"""Deal the labels of an index out at random to its videos: a control, since a network trained on them learns nothing true.

python demo/shuffle_labels.py demo/data/train_split.csv
"""

import sys

import numpy as np
import pandas as pd


def main(path: str) -> None:
    index = pd.read_csv(path, dtype={"chunk": str})
    labels = index.groupby("video").label.first()
    shuffled = pd.Series(np.random.default_rng(0).permutation(labels.to_numpy()), labels.index)
    index["label"] = index.video.map(shuffled)
    index.to_csv(path, index=False)
    print(f"{(labels != shuffled).sum()} of {len(labels)} videos have another label now")


if __name__ == "__main__":
    main(sys.argv[1])
