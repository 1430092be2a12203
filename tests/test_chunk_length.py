"""Chunks of half a second, one and two (`pre-process.py --chunk_s`), from videos to a verdict in miniature;
and what is said where lengths do not go together.
"""

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import model
from dataset import read_index
from evaluation.shortcuts import measure_video
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import FixedDetector, load_script
from tests.training.tiny_train import SMALL
from utils.chunkfiles import INDEX_COLUMNS, read_wav
from utils.cli import UserError
from utils.constants import CHUNKS_S, SECOND, ChunkLength
from utils.mfcc import chunk_mfcc

TRAIN = [*SMALL, "--batch_size", "2", "--num_workers", "0"]
RUN = "deepfake_audio-32_r18_bs2_lr0.0001"


@pytest.fixture(scope="module")
def trees(tmp_path_factory, scripts) -> dict[float, Path]:
    """By length an --out_dir with a real and a fake video of 2.4 s in both splits, indexed."""
    pre_process, write_csv = load_script("pre-process"), scripts["write_csv"]
    pre_process.build_detector = lambda *_: FixedDetector()
    pictures, noise = face_pictures(60), np.random.default_rng(0).uniform(-0.5, 0.5, (1, 105_840))
    sounds = {"real": tone(2.4) * np.linspace(0.1, 1, 105_840, dtype=np.float32), "fake": np.float32(noise)}
    videos = tmp_path_factory.mktemp("videos")
    for split, (label, sound) in itertools.product(("train", "test"), sounds.items()):
        write_clip(videos / split / label / "v.mp4", pictures, sound=sound)
    found = {}
    for chunk_s in CHUNKS_S:
        found[chunk_s] = shutil.copytree(videos, tmp_path_factory.mktemp("tree") / "tree")
        for split in ("train", "test"):
            flags = ["--out_dir", str(found[chunk_s] / split), "--workers", "0", "--chunk_s", f"{chunk_s:g}"]
            assert pre_process.main([*flags, "--preview"]) == 0
            assert (found[chunk_s] / split / "preview" / "real" / "v.jpg").stat().st_size > 1000
        write_csv.main(["--out_dir", str(found[chunk_s])])
    return found


@pytest.fixture
def localize(monkeypatch):
    script = load_script("localize")
    monkeypatch.setattr("verdicts.detection.build_detector", lambda *_: FixedDetector())
    return lambda *arguments: script.main([*map(str, arguments), "--device", "cpu", "--detector", "yunet"])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def one_line(function, *arguments, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("chunk_s", CHUNKS_S)
def test_a_length_is_the_same_in_every_unit(chunk_s):
    length = ChunkLength.of(chunk_s)
    assert (length.n_frames / 30, length.n_samples / 48_000, length.chunk_s) == (chunk_s,) * 3
    mfcc = chunk_mfcc(np.zeros(length.n_samples, np.int16))
    assert mfcc.shape == (1, 13, model.AUDIO_FRAMES[chunk_s])
    net = model.TwoStreamNet(img_dim=32, width=0.05, chunk_s=chunk_s).eval()
    with torch.no_grad():
        out = net(torch.randn(2, 3, length.n_frames, 32, 32), torch.from_numpy(mfcc).repeat(2, 1, 1, 1))
    assert out["video_emb"].shape == out["audio_emb"].shape == (2, 1024)


def test_the_choices_are_those_of_the_network():
    assert tuple(model.AUDIO_FRAMES) == CHUNKS_S and SECOND == ChunkLength.of(1.0)
    assert model.audio_positions(1.0) == 21
    with pytest.raises(ValueError, match="chunk_s is 3, expected one of 0.5, 1.0, 2.0"):
        model.TwoStreamNet(chunk_s=3)


def test_chunks_of_all_lengths_are_cut_from_the_same_frames_and_samples(trees):
    """Two chunks of half a second are one of a second, two of these one of two seconds: byte for byte."""
    content = {}
    for chunk_s, tree in trees.items():
        video = tree / "train" / "pytmp" / "fake" / "v"
        folders = sorted(path for path in video.iterdir() if path.is_dir())
        content[chunk_s] = (
            [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in folders],
            [read_wav(video / f"{folder.name}.wav", ChunkLength.of(chunk_s)) for folder in folders],
        )
    assert {chunk_s: len(sounds) for chunk_s, (_, sounds) in content.items()} == {0.5: 4, 1.0: 2, 2.0: 1}
    for half, whole in itertools.pairwise(CHUNKS_S):
        (parts, part_sounds), (wholes, sounds) = content[half], content[whole]
        assert len(wholes[0]) == ChunkLength.of(whole).n_frames
        for i, (frames, samples) in enumerate(zip(wholes, sounds, strict=True)):
            assert frames == parts[2 * i] + parts[2 * i + 1]
            assert np.array_equal(samples, np.concatenate(part_sounds[2 * i : 2 * i + 2]))


@pytest.mark.parametrize("chunk_s", CHUNKS_S)
def test_index_and_record_say_how_long_chunks_are(trees, chunk_s):
    rows = read_rows(trees[chunk_s] / "train_split.csv")
    n = round(2 / chunk_s)
    assert [float(row["start_s"]) for row in rows] == [i * chunk_s for i in range(n)] * 2
    settings = json.loads((trees[chunk_s] / "train/pytmp/real/v/video.json").read_text())["settings"]
    if chunk_s == 1:  # as before there were others
        assert tuple(rows[0]) == INDEX_COLUMNS and "chunk_s" not in settings
    else:
        assert {float(row["chunk_s"]) for row in rows} == {chunk_s} == {settings["chunk_s"]}


@pytest.mark.parametrize("chunk_s", CHUNKS_S)
def test_loudness_is_that_of_the_same_sound(trees, chunk_s):
    index, tree = read_index(trees[chunk_s], "train"), trees[chunk_s]
    cues = measure_video("fake/v", index[index.video == "fake/v"], tree, "train")
    assert cues["problem"] == "" and cues["n_chunks"] == round(2 / chunk_s)
    samples = read_wav(trees[2.0] / "train/pytmp/fake/v/00000.wav", ChunkLength.of(2.0)) / 32768
    assert cues["loudness_dbfs"] == pytest.approx(10 * np.log10(np.mean(samples**2)))


@pytest.mark.parametrize("chunk_s", CHUNKS_S)
def test_from_chunks_to_a_verdict(trees, tiny, scripts, localize, tmp_path, chunk_s):
    train, tree = scripts["train"].main, trees[chunk_s]
    common = ["--out_dir", str(tree), *TRAIN, "--log_dir", str(tmp_path)]
    # of two seconds there is a chunk a video: one step an epoch
    train([*common, "--epochs", "1"])
    train([*common, "--epochs", "2", "--resume"])
    exported = tmp_path / "mds.pth"
    train([*common, "--export", str(exported)])
    for model_flags in ([], [str(exported)]):
        train([*common, "--scores_dir", str(tmp_path), "--test", *model_flags])
    chunks = pd.read_csv(tmp_path / "chunk_scores.csv")
    assert np.allclose(chunks.end_s - chunks.start_s, chunk_s) and len(chunks) == 2 * round(2 / chunk_s)
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    out = tmp_path / "out"
    video = tree / "test" / "real" / "v.mp4"
    assert (
        localize(video, "--model", exported, "--out", out, "--stride_s", min(chunk_s, 1), "--check_maps") == 0
    )
    verdict = json.loads((out / "v.mp4" / "verdict.json").read_text())
    own = chunks[chunks.video == "real/v"]
    assert verdict["mds"] == pytest.approx(own.dissimilarity.mean(), rel=1e-4)
    (curve,) = verdict["curves"]  # the pipeline's chunks, and one as late as one fits
    assert curve["start_s"] == pytest.approx([*own.start_s, 2.4 - chunk_s])
    assert curve["dissimilarity"][:-1] == pytest.approx(own.dissimilarity.tolist(), rel=1e-4)
    assert verdict["coverage"]["no_opinion"] == [] and verdict["coverage"]["judged_s"] == pytest.approx(2.4)
    assert verdict["model"]["chunk_s"] == chunk_s
    page = (out / "v.mp4" / "report.html").read_text()
    assert f"a chunk of {chunk_s:g} s every" in page


def test_models_and_chunks_of_two_lengths_are_refused(trees, tiny, scripts, tmp_path):
    train = scripts["train"].main
    common = [*TRAIN, "--log_dir", str(tmp_path)]
    train(["--out_dir", str(trees[0.5]), *common, "--epochs", "1"])
    other = ["--out_dir", str(trees[1.0]), *common]
    words = "for chunks of 0.5 s, those of .*test_split.csv have 1 s; .*--chunk_s 0.5"
    one_line(train, [*other, "--test"], match=words)
    words = "for chunks of 0.5 s, those of the training split have 1 s"
    one_line(train, [*other, "--epochs", "2", "--resume"], match=words)
    assert list((tmp_path / RUN / "model").glob("epoch1*"))


def test_folders_of_two_lengths_are_refused(trees, scripts, tmp_path):
    tree = shutil.copytree(trees[1.0], tmp_path / "tree")
    pre_process = load_script("pre-process").main
    flags = ["--out_dir", str(tree / "train"), "--workers", "0", "--detector", "yunet"]
    one_line(pre_process, [*flags, "--chunk_s", "2"], match="chunk_s 1.0, now 2.0")
    shutil.rmtree(tree / "train/pytmp/fake/v")
    shutil.copytree(trees[2.0] / "train/pytmp/fake/v", tree / "train/pytmp/fake/v")
    words = r"several lengths \(1 s in real/v, 2 s in fake/v\), expected one"
    one_line(scripts["write_csv"].main, ["--out_dir", str(tree)], match=words)


@pytest.mark.parametrize(("first", "words"), [("1.0", "1.0, 0.5"), ("", "nothing|nan"), ("3", "3.0, 0.5")])
def test_an_index_of_several_lengths_is_refused(trees, scripts, tmp_path, first, words):
    tree = shutil.copytree(trees[0.5], tmp_path / "tree")
    rows = read_rows(tree / "train_split.csv")
    rows[0]["chunk_s"] = first
    with (tree / "train_split.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    flags = ["--out_dir", str(tree), *TRAIN, "--epochs", "1", "--log_dir", str(tmp_path / "log")]
    one_line(scripts["train"].main, flags, match=f"train_split.csv has chunks of several.*({words})")


def test_a_face_for_less_than_a_chunk(tmp_path, monkeypatch):
    """52 frames are a track, but no chunk of two seconds."""
    pre_process = load_script("pre-process")
    monkeypatch.setattr(pre_process, "build_detector", lambda *_: FixedDetector())
    write_clip(tmp_path / "real" / "v.mp4", face_pictures(52), fps=30, sound=tone(1.8))
    assert pre_process.main(["--out_dir", str(tmp_path), "--workers", "0", "--chunk_s", "2"]) == 1
    (row,) = read_rows(tmp_path / "failures.csv")
    assert (row["stage"], row["reason"]) == (
        "track",
        "the longest face track has 52 frames at 30 fps, a chunk of 2 s takes 60",
    )
