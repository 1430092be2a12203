"""The demo's control: an index that teaches nothing."""

import pandas as pd
import pytest

from dataset import ChunkDataset, read_index
from demo import shuffle_labels
from utils.cli import UserError


@pytest.fixture
def index(tmp_path):
    """An index of 20 real and 20 fake videos of 3 chunks."""
    rows = [
        (f"{label}/{i}", code, 0, f"{chunk:05d}", f"train/pytmp/{label}/{i}/{chunk:05d}", float(chunk))
        for label, code in (("real", 1), ("fake", 0))
        for i in range(20)
        for chunk in range(3)
    ]
    table = pd.DataFrame(rows, columns=["video", "label", "track", "chunk", "path", "start_s"])
    table.to_csv(tmp_path / "train_split.csv", index=False)
    return table


def test_neither_labels_nor_sounds_are_left(index, tmp_path):
    shuffle_labels.main([str(tmp_path / "train_split.csv")])
    dealt = read_index(tmp_path, "train")
    assert dealt.path.tolist() == index.path.tolist() and sorted(dealt.sound) == sorted(index.path)
    assert (dealt.groupby("video").label.nunique() == 1).all() and dealt.label.sum() == index.label.sum()
    assert 0.2 < (dealt.label == index.label).mean() < 0.8 and (dealt.sound == dealt.path).mean() < 0.1
    assert ChunkDataset(dealt, tmp_path, 32).sounds == dealt.sound.tolist()


def test_a_sound_outside_is_refused(index, tmp_path):
    index.assign(sound="../elsewhere").to_csv(tmp_path / "train_split.csv", index=False)
    with pytest.raises(UserError, match="names '../elsewhere'"):
        read_index(tmp_path, "train")
