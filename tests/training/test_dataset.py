"""The data set: items, order, augmentation, and indexes that are wrong."""

import shutil
from itertools import chain

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from python_speech_features import mfcc

import model
from augmentation import IMAGENET_MEAN, IMAGENET_STD, Augmentation, normalize
from dataset import (
    ChunkDataset,
    build_loader,
    class_weights,
    epoch_batches,
    epoch_order,
    hold_out,
    read_index,
    scoring_batches,
)
from utils.chunkfiles import chunk_frames, read_video, read_wav
from utils.cli import UserError
from utils.constants import AUGMENTATIONS
from utils.mfcc import chunk_mfcc


def test_items_and_batches(chunk_tree):
    index = read_index(chunk_tree, "train")
    dataset = ChunkDataset(index, chunk_tree, img_dim=64)
    item = dataset[3]
    assert item["video"].shape == (30, 64, 64, 3) and item["video"].dtype == torch.uint8
    assert item["audio"].shape == (1, 13, 99) and item["audio"].dtype == torch.float32
    assert item["label"] == index.label[3] == 0 and index.video[3] == "fake/v1"
    batch = next(iter(build_loader(dataset, scoring_batches(12, 4), num_workers=0)))
    assert batch["video"].shape == (4, 30, 64, 64, 3) and batch["row"].tolist() == [0, 1, 2, 3]
    assert torch.equal(batch["video"][3], item["video"])


def test_mfcc_is_the_references(chunk_tree):
    samples = read_wav(chunk_tree / "train/pytmp/fake/v0/00000.wav")
    expected = mfcc(samples, 48000, nfft=2048)
    assert expected.shape == (99, 13)
    np.testing.assert_allclose(chunk_mfcc(samples)[0], expected.T, rtol=1e-5)
    assert np.isfinite(chunk_mfcc(np.zeros(48_000, np.int16))).all()  # digital silence


def test_frames_are_sorted_by_number(tmp_path, chunk_tree):
    source = chunk_tree / "train/pytmp/real/v0/00000"
    folder = tmp_path / "00000"
    folder.mkdir()
    for i, frame in reversed(list(enumerate(chunk_frames(source)))):
        shutil.copy(frame, folder / f"{i + 1}.jpg")  # 1.jpg .. 30.jpg, as text 10 comes before 2
    assert np.array_equal(read_video(folder, 224), read_video(source, 224))


def test_order_and_workers_do_not_change_augmented_items(chunk_tree):
    index = read_index(chunk_tree, "train")

    def items(epoch: int, num_workers: int, seed: int) -> dict[int, torch.Tensor]:
        dataset = ChunkDataset(index, chunk_tree, 64, Augmentation(AUGMENTATIONS, 64), seed=7)
        dataset.epoch = epoch
        loader = build_loader(dataset, epoch_batches(epoch_order(dataset.labels, seed), 5), num_workers)
        return {
            r: (v, a)
            for b in loader
            for r, v, a in zip(b["row"].tolist(), b["video"], b["audio"], strict=True)
        }

    one, two = items(0, 0, seed=1), items(0, 2, seed=2)
    assert list(one) != list(two) and len(one) == 10  # two orders, the incomplete batch dropped
    for row in set(one) & set(two):
        assert torch.equal(one[row][0], two[row][0]) and torch.equal(one[row][1], two[row][1])
    later = items(1, 0, seed=1)
    assert any(not torch.equal(later[row][0], one[row][0]) for row in one)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_treat_all_frames_alike(name):
    torch.manual_seed(3)  # with this seed the flip happens
    image = (
        torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    )
    video = image.expand(30, 3, 64, 64)
    samples = (8000 * np.sin(np.arange(48_000) / 20)).astype(np.int16)
    changed, sound = Augmentation([name], 64)(video, samples)
    assert changed.shape == video.shape and changed.dtype == torch.uint8
    assert sound.shape == samples.shape and sound.dtype == np.int16
    assert (changed == changed[:1]).all()  # no frame differs from the first
    is_sound = name in ("noise", "gain")
    assert torch.equal(changed, video) == is_sound
    assert np.array_equal(sound, samples) == (not is_sound)


def test_normalisation():
    video = torch.zeros(1, 2, 2, 2, 3, dtype=torch.uint8)
    video[..., 1] = 255
    assert normalize(video).shape == (1, 3, 2, 2, 2)
    values = normalize(video)[0, :, 0, 0, 0]
    expected = [(x - m) / s for x, m, s in zip((0, 1, 0), IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    assert values.tolist() == pytest.approx(expected)


def test_unreadable_chunks_are_left_out_or_replaced(chunk_tree):
    index = read_index(chunk_tree, "train").copy()
    index.loc[1, "path"] = "train/pytmp/nowhere"
    batch = next(iter(build_loader(ChunkDataset(index, chunk_tree, 64), [[0, 1, 2]], num_workers=0)))
    assert batch["row"].tolist() == [0, 2] and len(batch["video"]) == 2
    ((row, why),) = batch["bad"]
    assert row == 1 and "train/pytmp/nowhere" in why
    training = ChunkDataset(index, chunk_tree, 64, replace_bad=True)
    batch = next(iter(build_loader(training, [[0, 1, 2]], num_workers=0)))
    assert batch["row"].tolist() == [0, 2, 2] and batch["bad"] == [(1, why)]
    assert torch.equal(batch["video"][1], batch["video"][2])


def test_every_rank_sees_its_share_of_the_same_steps():
    labels = np.array([0, 1] * 25)
    alone = epoch_batches(epoch_order(labels, 3), batch_size=6)
    order = list(chain(*alone))
    assert len(alone) == 8 and len(set(order)) == len(order) == 48  # of 50, each once
    ranks = [epoch_batches(epoch_order(labels, 3), batch_size=2, rank=rank, n_ranks=3) for rank in range(3)]
    assert [list(chain(*step)) for step in zip(*ranks, strict=True)] == alone
    assert list(chain(*epoch_batches(epoch_order(labels, 3), batch_size=3, accumulate=2))) == order
    assert epoch_batches(epoch_order(labels, 3), batch_size=6, position=18) == alone[3:]
    assert epoch_batches(epoch_order(labels, 4), batch_size=6) != alone
    scored = [scoring_batches(50, 7, rank, 3) for rank in range(3)]  # unequal shares
    assert sorted(row for share in scored for batch in share for row in batch) == list(range(50))


def test_balance():
    labels = np.array([0] * 500 + [1] * 100)
    drawn = np.concatenate(epoch_batches(epoch_order(labels, 0, balanced=True), batch_size=8))
    assert 0.42 < labels[drawn].mean() < 0.58 and len(drawn) == 600
    weights = class_weights(labels)
    assert weights.tolist() == [0.6, 3.0] and weights[labels].mean() == pytest.approx(1)


def test_whole_videos_are_held_out_with_their_originals():
    reals = [f"real/{i}" for i in range(20)]
    fakes = [f"fake/{i}_{k}" for i in range(20) for k in range(3)]
    index = pd.DataFrame({"video": np.repeat(reals + fakes, 2), "path": ""})
    index["label"] = index.video.str.startswith("real").astype(int)
    train, held = hold_out(index, 0.1)
    assert not set(train.video) & set(held.video) and len(train) + len(held) == len(index)
    assert (
        held.video.nunique() == 8 and held.label.sum() == 4
    )  # 2 of 20 real videos, 6 of 60 fake ones, two chunks each
    index["original"] = [f"real/{v[5:].split('_')[0]}" if v.startswith("fake") else "" for v in index.video]
    train, held = hold_out(index.sample(frac=1, random_state=1), 0.1)
    assert held.video.nunique() == 8 and set(held.original) - {""} == set(held.video[held.label == 1])
    assert set(held.video) == set(hold_out(index, 0.1)[1].video)  # whatever the order
    with pytest.raises(UserError, match="too few to part"):
        hold_out(index[index.video.isin(["real/0", "fake/0_0"])], 0.1)


@pytest.mark.parametrize(
    ("size", "img_dim"), [(224, 224), (224, 112), (224, 64), (224, 32), (48, 64), (100, 64), (224, 300)]
)
def test_frames_of_any_size_are_resized(tmp_path, size, img_dim):
    grey = cv2.resize(
        np.random.default_rng(0).integers(0, 255, (5, 5), np.uint8),
        (size, size),
        interpolation=cv2.INTER_CUBIC,
    )
    picture = cv2.merge([grey, np.full_like(grey, 90), grey // 2])
    for i in range(30):
        cv2.imwrite(str(tmp_path / f"{i:06d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    video = read_video(tmp_path, img_dim)
    assert video.shape == (30, img_dim, img_dim, 3) and (video == video[0]).all()
    how = cv2.INTER_AREA if size > img_dim else cv2.INTER_LINEAR
    expected = cv2.resize(picture, (img_dim, img_dim), interpolation=how)[..., ::-1]
    assert np.abs(video[0].astype(int) - expected).mean() < 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist; make it with"),
        ("", "can't be read as CSV"),
        ("video,label\nx,1\n", "no column track, chunk, path, start_s"),
        ("video,label,track,chunk,path,start_s\n", "lists no chunk"),
        (
            "video,label,track,chunk,path,start_s\nx,2,0,00000,p,0\n",
            r"has labels \[2\], expected 0 \(fake\) and 1 \(real\)",
        ),
    ],
)
def test_bad_index(tmp_path, content, words):
    if content is not None:
        (tmp_path / "train_split.csv").write_text(content)
    with pytest.raises(UserError, match=words):
        read_index(tmp_path, "train")


@pytest.mark.parametrize(("name", "low", "high"), [("noise", -40, -15), ("gain", -12, 6)])
def test_loudness_of_what_an_augmentation_does(name, low, high):
    """Noise by its level below the sound, a gain by the level that it leaves, in dB; both span most of their
    range.
    """
    samples = (3000 * np.sin(np.arange(48_000) / 7)).astype(np.int16)
    torch.manual_seed(0)
    levels = []
    for _ in range(40):
        _, changed = Augmentation([name], 32)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), samples)
        part = changed.astype(float) - (samples if name == "noise" else 0)
        levels.append(20 * np.log10(part.std() / samples.std()))
    assert low - 0.2 <= min(levels) < low + 4 and high - 4 < max(levels) <= high + 0.2


def test_classes_that_are_not_there_weigh_one():
    assert class_weights(np.ones(5, int)).tolist() == [1, 1]


def test_the_network_expects_the_mfcc_of_a_chunk():
    assert chunk_mfcc(np.zeros(48_000, np.int16)).shape == (1, 13, model.AUDIO_FRAMES[1.0])
    assert model.audio_positions(1.0) == 21
