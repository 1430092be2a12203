"""Deal the labels of an index out at random to its videos, and its sounds to its chunks: a control, since a
network trained on them learns nothing true.

Labels alone are not enough.  Pulled and pushed at random, a distance that the network can steer ends between
the two, and it can steer that of a picture and its own sound, while strangers stay as far apart as they are.

    python demo/shuffle_labels.py demo/data/train_split.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("index", type=Path, help="train_split.csv, changed in place")
    path = parser.parse_args(argv).index
    if not path.is_file():
        parser.error(f"{path} does not exist; write_csv.py makes it")
    index = pd.read_csv(path, dtype={"chunk": str})
    if not {"video", "label", "chunk", "path"} <= set(index):
        parser.error(f"{path} is no index as write_csv.py makes it")
    labels = index.groupby("video").label.first()
    rng = np.random.default_rng(0)
    shuffled = pd.Series(rng.permutation(labels.to_numpy()), labels.index)
    index = index.assign(label=index.video.map(shuffled), sound=rng.permutation(index.path.to_numpy()))
    index.to_csv(path, index=False)
    print(f"{(labels != shuffled).sum()} of {len(labels)} videos have another label now")


if __name__ == "__main__":
    main()
