"""Every data set in miniature, with the names, fields and traps of the published one, through collect.py."""

import csv
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from corpora import DATASETS
from corpora.base import CORPORA, Entry
from corpora.splits import GROUPINGS, group, split_entries
from evaluation.span_files import read_labels
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import ROOT, FixedDetector, load_script
from tests.training.test_train import SMALL
from utils.cli import UserError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", face_pictures(50), sound=tone(2.0))


@pytest.fixture
def collect(tmp_path):
    """Run collect.py into tmp_path/out."""
    script = load_script("collect")
    return lambda *arguments: script.main([*map(str, arguments), "--out_dir", str(tmp_path / "out")])


def put(clip: Path, *paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, path)


def index(tmp_path: Path, split: str) -> pd.DataFrame:
    return pd.read_csv(tmp_path / "out" / split / "index.csv", keep_default_na=False).set_index("video")


def laid_out(tmp_path: Path, split: str) -> list[str]:
    folder = tmp_path / "out" / split
    return sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*"))


def as_lists(tmp_path: Path, train: list[str], test: list[str]) -> list[str]:
    for split, lines in (("train", train), ("test", test)):
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return ["--train_list", tmp_path / "train.txt", "--test_list", tmp_path / "test.txt"]


def to_an_auc(tmp_path: Path, scripts: dict) -> dict:
    """What test.py says after the whole chain on tmp_path/out."""
    pre_process = load_script("pre-process")
    pre_process.build_detector = lambda *_: FixedDetector()
    out = str(tmp_path / "out")
    for split in ("train", "test"):
        assert pre_process.main(["--out_dir", f"{out}/{split}", "--workers", "0"]) == 0
    scripts["write_csv"].main(["--out_dir", out])
    run = ["--out_dir", out, "--log_dir", str(tmp_path / "log"), "--num_workers", "0", *SMALL]
    scripts["train"].main([*run, "--epochs", "1"])
    scripts["train"].main([*run, "--test", "--scores_dir", str(tmp_path)])
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    return json.loads((tmp_path / "metrics.json").read_text())


@pytest.fixture
def dfdc(clip, tmp_path) -> Path:
    """Two parts in both spellings, a zip file beside them; one fake and one original are not there."""
    root = tmp_path / "DFDC"
    parts = {
        "dfdc_train_part_3": {
            "aaaaaaaaaa": "realrealra",
            "bbbbbbbbbb": "realrealra",
            "cccccccccc": "secondreal",
            "gonegonego": "secondreal",
        },
        "dfdc_train_part_22": {"dddddddddd": "thirdrealt", "eeeeeeeeee": "lostlostlo"},
    }
    for part, fakes in parts.items():
        records = {
            f"{fake}.mp4": {"label": "FAKE", "split": "train", "original": f"{real}.mp4"}
            for fake, real in fakes.items()
        }
        records |= {f"{real}.mp4": {"label": "REAL", "split": "train"} for real in fakes.values()}
        records |= {"unusedreal.mp4": {"label": "REAL", "split": "train", "original": None}}
        (root / part).mkdir(parents=True)
        (root / part / "metadata.json").write_text(json.dumps(records))
        put(
            clip,
            *[root / part / name for name in records if name not in ("gonegonego.mp4", "lostlostlo.mp4")],
        )
    (root / "dfdc_train_part_04.zip").write_bytes(b"PK")
    (root / "dfdc_train_part_03.zip").write_bytes(b"PK")  # unpacked already
    return root


LINES = (
    [
        "aaaaaaaaaa.dfdc_train_part_03",
        "bbbbbbbbbb.dfdc_train_part_03",
        "gonegonego.dfdc_train_part_03",
        "xxxxxxxxxx.dfdc_train_part_04",
    ],
    ["cccccccccc.dfdc_train_part_03", "dddddddddd.dfdc_train_part_22", "eeeeeeeeee.dfdc_train_part_22"],
)


def test_dfdc_by_lists(dfdc, collect, tmp_path, capsys):
    flags = ["--dataset", "dfdc", "--root", dfdc, *as_lists(tmp_path, *LINES)]
    assert collect(*flags) == 0
    out = capsys.readouterr().out
    assert "train         1        2\n" in out and "test          2        3\n" in out  # each original once
    assert "zip files that are not unpacked: dfdc_train_part_04.zip\n" in out
    assert "missing: 3 videos (dfdc_train_part_03 1, dfdc_train_part_04 1, dfdc_train_part_22 1)" in out
    with (tmp_path / "out" / "missing.csv").open() as file:
        missing = {row["video"]: row["why"] for row in csv.DictReader(file)}
    assert missing["dfdc_train_part_22/lostlostlo.mp4"] == "in metadata.json, but not on the disk"
    assert laid_out(tmp_path, "train") == [
        "fake/dfdc_train_part_3__aaaaaaaaaa.mp4",
        "fake/dfdc_train_part_3__bbbbbbbbbb.mp4",
        "real/dfdc_train_part_3__realrealra.mp4",
    ]
    link = tmp_path / "out" / "train" / "fake" / "dfdc_train_part_3__aaaaaaaaaa.mp4"
    assert link.is_symlink() and link.resolve() == (dfdc / "dfdc_train_part_3" / "aaaaaaaaaa.mp4").resolve()
    rows = index(tmp_path, "test")
    assert rows.original["fake/dfdc_train_part_22__dddddddddd"] == "real/dfdc_train_part_22__thirdrealt"
    assert (
        rows.original["fake/dfdc_train_part_22__eeeeeeeeee"] == "real/dfdc_train_part_22__lostlostlo"
    )  # though it is not there
    assert list(rows.label) == [0, 0, 0, 1, 1] and set(rows.source) == {"dfdc"}
    before = link.lstat().st_mtime_ns
    assert collect(*flags) == 0 and link.lstat().st_mtime_ns == before
    assert "0 videos put in place" in capsys.readouterr().out
    with pytest.raises(UserError, match="--strict: 3 videos are missing"):
        collect(*flags, "--strict")


@pytest.mark.parametrize(
    ("choice", "real"), [("keep", (1, 2)), ("train", (1, 1)), ("test", (0, 2)), ("drop", (0, 1))]
)
def test_dfdc_a_real_video_that_both_lists_need(dfdc, collect, tmp_path, capsys, choice, real):
    lists = as_lists(
        tmp_path, LINES[0][:1], ["bbbbbbbbbb.dfdc_train_part_03", "dddddddddd.dfdc_train_part_22"]
    )
    assert collect("--dataset", "dfdc", "--root", dfdc, *lists, "--on_leak", choice) == 0
    out = capsys.readouterr().out
    assert (
        "LEAK: 1 videos (1 real) are needed by both splits, the first dfdc_train_part_3/realrealra.mp4" in out
    )
    assert tuple((index(tmp_path, split).label == 1).sum() for split in ("train", "test")) == real


def test_dfdc_takes_the_authors_lists_by_default(dfdc, collect, tmp_path):
    with pytest.raises(
        UserError, match=r"none of the 15438 videos in .*train_list.txt is there, the first is bujfknruqx"
    ):
        collect("--dataset", "dfdc", "--root", dfdc)


def test_dfdc_public_test_set(clip, collect, tmp_path):
    root = tmp_path / "test_videos"
    records = {
        f"{name}.mp4": {"augmentations": {"augmenter": {"framerate_change": {"fps": 20}}}, "is_fake": fake}
        for name, fake in (("aalscayrfi", 0), ("aayfryxljh", 1))
    }
    put(clip, *[root / name for name in records])
    (root / "metadata.json").write_text(json.dumps(records))
    assert collect("--dataset", "dfdc", "--root", root) == 0
    assert (
        laid_out(tmp_path, "test") == ["fake/aayfryxljh.mp4", "real/aalscayrfi.mp4"]
        and laid_out(tmp_path, "train") == []
    )


def test_dfdc_preview(clip, collect, tmp_path, capsys):
    root = tmp_path / "dfdc_preview_set"
    records = {
        "original_videos/1260311/1260311_C_001.mp4": {
            "label": "real",
            "target_id": 1260311,
            "set": "train",
            "augmentations": [],
        },
        "method_B/1260311/1260311_C/1255229_1260311_C_001.mp4": {
            "label": "fake",
            "target_id": 1260311,
            "swapped_id": 1255229,
            "set": "train",
            "augmentations": [],
        },
        "original_videos/643669/643669_A_001.mp4": {
            "label": "real",
            "target_id": 643669,
            "set": "test",
            "augmentations": [],
        },
        "method_A/643669/643669_A/1002166_643669_A_001.mp4": {
            "label": "fake",
            "target_id": 643669,
            "swapped_id": 1002166,
            "set": "test",
            "augmentations": ["fps-15"],
        },
    }
    put(clip, *[root / name for name in records])
    (root / "dataset.json").write_text(json.dumps(records))
    assert collect("--dataset", "dfdc_preview", "--root", root) == 0
    rows = index(tmp_path, "train")
    (fake,) = rows.index[rows.label == 0]
    assert fake == "fake/method_B__1260311__1260311_C__1255229_1260311_C_001"
    assert rows.original[fake] == "real/original_videos__1260311__1260311_C_001"
    assert (rows.identity[fake], rows.method[fake], rows.manipulation[fake]) == (
        "1255229;1260311",
        "method_B",
        "video",
    )
    assert (
        collect("--check", tmp_path / "out" / "train" / "index.csv", tmp_path / "out" / "test" / "index.csv")
        == 0
    )
    assert "shared identities       0\n" in capsys.readouterr().out


CELEB = [  # source, target1, method, category, type, race, file
    ("id00076", "-", "real", "A", "RealVideo-RealAudio", "African", "00109.mp4"),
    ("id00166", "-", "real", "A", "RealVideo-RealAudio", "Asian (East)", "00010.mp4"),
    ("id00076", "-", "rtvc", "B", "RealVideo-FakeAudio", "African", "00109_fake.mp4"),
    ("id00076", "id00476", "wav2lip", "C", "FakeVideo-RealAudio", "African", "00109_10_id00476_wavtolip.mp4"),
    (
        "id00166",
        "id01521",
        "faceswap-wav2lip",
        "D",
        "FakeVideo-FakeAudio",
        "Asian (East)",
        "00010_id01521_wavtolip.mp4",
    ),
    (
        "id00166",
        "id01521",
        "wav2lip",
        "D",
        "FakeVideo-FakeAudio",
        "Asian (East)",
        "00010_id01521_wavtolip.mp4",
    ),
]


@pytest.mark.parametrize("asian", ["Asian (East)", "Asian_East"])
def test_fakeavceleb(clip, collect, tmp_path, capsys, asian):
    root = tmp_path / "FakeAVCeleb_v1.2"
    root.mkdir()
    lines = ["source,target1,target2,method,category,type,race,gender,path,"]  # the last column has no name
    for source, target, method, category, kind, race, file in CELEB:
        folder = f"{kind}/{race}/men/{source}"
        lines.append(f"{source},{target},-,{method},{category},{kind},{race},men,{file},FakeAVCeleb/{folder}")
        put(clip, root / folder.replace("Asian (East)", asian) / file)
    (root / "meta_data.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="no splits of its own; give --split"):
        collect("--dataset", "fakeavceleb", "--root", root)
    assert collect("--dataset", "fakeavceleb", "--root", tmp_path, "--split", "50:50") == 0
    assert "is there twice, as faceswap-wav2lip and as wav2lip: taken once" in capsys.readouterr().out
    rows = pd.concat([index(tmp_path, split) for split in ("train", "test")])
    assert len(rows) == 5 and rows.category.value_counts().to_dict() == {"A": 2, "B": 1, "C": 1, "D": 1}
    both = rows[rows.category == "D"].iloc[0]
    assert both.original == f"real/RealVideo-RealAudio__{asian.replace('/', '_')}__men__id00166__00010"
    assert (both.manipulation, both.method, both.identity) == ("both", "faceswap-wav2lip", "id00166;id01521")
    for split in ("train", "test"):  # whole groups
        own = index(tmp_path, split)
        assert all(original in own.index for original in own.original if original)


@functools.cache
def speaking() -> list[np.ndarray]:
    return face_pictures(52, 160)


def write_frames(folder: Path, n: int) -> None:
    folder.mkdir(parents=True)
    for i, picture in enumerate(speaking()[:n], 1):
        (folder / f"{i:03d}").write_bytes(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())


def write_speech(path: Path, seconds: float, hz: float = 32_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(hz))
        file.writeframes(np.rint(tone(seconds, int(hz))[0] * 32767).astype("<i2").tobytes())


@pytest.fixture
def timit(tmp_path) -> Path:
    """Two pairs of subjects; real videos as JPEGs without suffix, one repacked; other sequences that are not
    meant.
    """
    root = tmp_path / "timit"
    for subject, other in (("fadg0", "fram1"), ("fram1", "fadg0"), ("mccs0", "mrgg0"), ("mrgg0", "mccs0")):
        for quality in ("lower_quality", "higher_quality"):
            folder = root / "DeepfakeTIMIT" / quality / subject
            write_clip(
                folder / f"sa1-video-{other}.avi", speaking(), codecs=("mjpeg", "aac"), pix_fmt="yuvj420p"
            )
            write_speech(folder / "sa1.wav", 2.08)
        if subject != "mrgg0":
            write_frames(root / "VidTIMIT" / subject / "video" / "sa1", 52)
        write_speech(root / "VidTIMIT" / subject / "audio" / "sa1.wav", 2.08)
        write_frames(root / "VidTIMIT" / subject / "video" / "head", 2)
    write_clip(
        root / "VidTIMIT" / "mrgg0" / "sa1.avi",
        speaking(),
        sound=tone(2.08),
        codecs=("mjpeg", "libmp3lame"),
        pix_fmt="yuvj420p",
    )
    return root


def test_dftimit(timit, collect, tmp_path, scripts, tiny):
    flags = ["--dataset", "dftimit", "--root", timit, "--split", "50:50", "--group_by", "identity"]
    assert collect(*flags, "--quality", "lq") == 0
    rows = {split: index(tmp_path, split) for split in ("train", "test")}
    assert [len(own) for own in rows.values()] == [4, 4]
    people = [{person for who in own.identity for person in who.split(";")} for own in rows.values()]
    assert sorted(map(sorted, people)) == [["fadg0", "fram1"], ["mccs0", "mrgg0"]]
    assert {*rows["train"].category, *rows["test"].category} == {"", "lower_quality"}
    video = next((tmp_path / "out").glob("*/real/VidTIMIT__fadg0__sa1.mkv"))
    with av.open(str(video)) as container:
        pictures = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    frames = timit / "VidTIMIT" / "fadg0" / "video" / "sa1"
    assert pictures == [(frames / f"{i:03d}").read_bytes() for i in range(1, 53)]  # copied, in order
    fake = next((tmp_path / "out").glob("*/fake/DeepfakeTIMIT__lower_quality__fadg0__sa1-video-fram1.mkv"))
    assert fake.exists() and to_an_auc(tmp_path, scripts)["n_videos"] == 4
    chunks = pd.read_csv(tmp_path / "out" / "train_split.csv", keep_default_na=False)
    assert (
        len(chunks) == 8
        and set(chunks.original) - {""} <= set(chunks.video)
        and set(chunks.manipulation) == {"", "video"}
    )


LAVDF = [
    ("train/000001.mp4", [], False, False, None),
    ("train/000002.mp4", [[0.5, 1.2]], True, False, "train/000001.mp4"),
    ("dev/000003.mp4", [], False, False, None),
    ("test/000004.mp4", [], False, False, None),
    ("test/000005.mp4", [[0.0, 0.4], [1.0, 1.5]], True, True, "test/000004.mp4"),
    ("test/000006.mp4", [[1, 2]], False, True, "test/000004.mp4"),
]


@pytest.mark.parametrize("file", ["metadata.json", "metadata.min.json"])
def test_lavdf(clip, collect, tmp_path, capsys, file):
    root = tmp_path / "LAV-DF"
    records = [
        {
            "file": name,
            "n_fakes": len(spans),
            "fake_periods": spans,
            "duration": 2.0,
            "original": original,
            "modify_video": video,
            "modify_audio": audio,
            "split": name.split("/")[0],
            "video_frames": 50,
            "audio_channels": 1,
            "audio_frames": 32_000,
        }
        for name, spans, video, audio, original in LAVDF
    ]
    put(clip, *[root / record["file"] for record in records])
    (root / file).write_text(json.dumps(records))
    assert collect("--dataset", "lavdf", "--root", root) == 0
    assert "its split dev (1 videos) is left out; --dev train or test takes it in" in capsys.readouterr().out
    rows = index(tmp_path, "test")
    assert rows.manipulation.to_dict() == {
        "fake/test__000005": "both",
        "fake/test__000006": "audio",
        "real/test__000004": "",
    }
    assert (
        rows.duration_s["fake/test__000005"] == 2.0
        and rows.original["fake/test__000006"] == "real/test__000004"
    )
    labels = read_labels(tmp_path / "out" / "test" / "index.csv")
    assert labels == {
        "fake/test__000005.mp4": [[0.0, 0.4], [1.0, 1.5]],
        "fake/test__000006.mp4": [[1, 2]],
        "real/test__000004.mp4": [],
    }
    assert collect("--dataset", "lavdf", "--root", root, "--dev", "train") == 0
    assert list(index(tmp_path, "train").label) == [0, 1, 1]
    records[1]["modify_video"] = False
    (root / file).write_text(json.dumps(records))
    with pytest.raises(
        UserError, match="000002.mp4: modify_video False, modify_audio False with 1 fake periods"
    ):
        collect("--dataset", "lavdf", "--root", root)


@pytest.mark.parametrize("layout", ["one file", "a folder of files", "beside the videos"])
def test_avdeepfake1m(clip, collect, tmp_path, capsys, layout):
    root = tmp_path / "av1m"
    kinds = {
        "real": [],
        "visual_modified": [[0.5, 1.0]],
        "audio_modified": [[0.2, 0.6]],
        "both_modified": [[1.0, 1.4]],
    }
    names = dict(
        zip(
            kinds,
            ("real", "fake_video_real_audio", "real_video_fake_audio", "fake_video_fake_audio"),
            strict=True,
        )
    )
    for split in ("train", "val"):
        records = [
            {
                "file": f"id01591/q7LU-D4bH_c/00167/{names[kind]}.mp4",
                "split": split,
                "modify_type": kind,
                "audio_model": "vits",
                "original": None if kind == "real" else "id01591/q7LU-D4bH_c/00167/real.mp4",
                "fake_segments": spans,
                "audio_fake_segments": spans,
                "visual_fake_segments": spans,
                "video_frames": 50,
                "audio_frames": 32_000,
            }
            for kind, spans in kinds.items()
        ]
        put(clip, *[root / split / record["file"] for record in records])
        if layout == "one file":
            (root / f"{split}_metadata.json").write_text(json.dumps(records))
        for record in records if layout != "one file" else ():
            folder = root / (f"{split}_metadata" if layout == "a folder of files" else split)
            path = (folder / record["file"]).with_suffix(".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))
    (root / "test").mkdir()
    assert collect("--dataset", "avdeepfake1m", "--root", root) == 0
    out = capsys.readouterr().out
    assert "its split val (4 videos) goes to test" in out and "test: without labels, left out" in out
    rows = index(tmp_path, "test")
    assert sorted(rows.manipulation) == ["", "audio", "both", "video"] and set(rows.identity) == {"id01591"}
    fake = rows[rows.manipulation == "both"].iloc[0]
    assert fake.original == "real/val__id01591__q7LU-D4bH_c__00167__real" and json.loads(
        fake.fake_periods
    ) == [[1.0, 1.4]]
    assert fake.method == "vits" and fake.duration_s == 2.0


@pytest.fixture
def people(clip, tmp_path) -> Path:
    """What people have: folders, names that collide, odd letters."""
    root = tmp_path / "mine"
    names = [
        f"{label}/{folder}/{name}.mp4"
        for label in ("real", "fake")
        for folder in ("a", "b é")
        for name in ("1", "2", "=x")
    ]
    put(clip, *[root / name for name in names])
    (root / "real" / "notes.txt").write_text("no video")
    return root


def test_folder_to_an_auc(people, collect, tmp_path, scripts, tiny):
    assert collect("--dataset", "folder", "--root", people, "--split", "50:50", "--link", "hard") == 0
    video = tmp_path / "out" / laid_out(tmp_path, "train")[0]
    assert not video.is_symlink() and os.path.samefile(
        tmp_path / "out" / "train" / laid_out(tmp_path, "train")[0],
        index(tmp_path, "train").source_file.iloc[0],
    )
    assert len(laid_out(tmp_path, "train")) == len(laid_out(tmp_path, "test")) == 6
    metrics = to_an_auc(tmp_path, scripts)
    assert 0 <= metrics["auc"] <= 1 and metrics["n_videos"] == 6
    assert [(g["column"], g["value"]) for g in metrics["groups"]] == [("source", "folder")]


def test_folder_by_table_and_its_mistakes(people, collect, tmp_path):
    table = people / "videos.csv"
    rows = [
        f"{label}/a/{i}.mp4,{label.upper()},{split}"
        for label in ("real", "fake")
        for i, split in ((1, "train"), (2, "test"))
    ]
    table.write_text("\n".join(["file,label,split", *rows]) + "\n")
    assert collect("--dataset", "folder", "--root", table) == 0
    assert laid_out(tmp_path, "test") == ["fake/fake__a__2.mp4", "real/real__a__2.mp4"]
    for text, words in (
        ("file\nx.mp4\n", "expected at least file and label"),
        ("file,label\nreal/a/1.mp4,0\n", "label is '0', expected one of 'real', 'fake'"),
        ("file,label\n../x.mp4,real\n", "expected a path below the data set"),
        (
            "file,label\nreal/a/1.mp4,real\nreal/a/1.mp4,fake\n",
            "names 1 files more than once, the first real/a/1.mp4",
        ),
        ("file,label,split\nreal/a/1.mp4,real,Validation\n", "split is 'validation', expected one of"),
        ("file,label,fake_periods\nreal/a/1.mp4,real,0-1\n", "has fake_periods '0-1', expected JSON"),
        ("file,label\nreal\n", "expected"),
        ("", "is empty; expected a header"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=words):
            collect("--dataset", "folder", "--root", table)


def test_a_wrong_root_says_what_it_looks_like(dfdc, collect, tmp_path):
    with pytest.raises(
        UserError,
        match="looked for dataset.json beside original_videos/, found dfdc_train_part_03.zip, .*; it "
        "looks like the data set dfdc; unpack the zip files",
    ):
        collect("--dataset", "dfdc_preview", "--root", dfdc)
    (tmp_path / "empty").mkdir()
    for name in ("dfdc", "dfdc_preview", "fakeavceleb", "dftimit", "lavdf", "avdeepfake1m", "folder"):
        with pytest.raises(UserError, match="looked for .*, found nothing"):
            collect("--dataset", name, "--root", tmp_path / "empty")
        with pytest.raises(UserError, match="is no folder"):
            collect("--dataset", name, "--root", tmp_path / "none")


def test_nothing_of_the_user_is_lost(people, collect, tmp_path):
    flags = ["--dataset", "folder", "--root", people, "--split", "50:50"]
    script = load_script("collect")
    with pytest.raises(
        UserError, match="--group_by identity: this data set does not say who is in its videos"
    ):
        collect(*flags, "--group_by", "identity")
    with pytest.raises(UserError, match="would be among the videos in .*mine; name another --out_dir"):
        script.main([*map(str, flags), "--out_dir", str(people)])
    own = tmp_path / "out" / "train" / "real" / "real__a__1.mp4"
    own.parent.mkdir(parents=True)
    (own.parent / "real__a__2.mp4").write_text("mine")
    own.write_text("mine")
    with pytest.raises(UserError, match="was not made by collect.py; move it away"):
        collect(*flags)
    assert own.read_text() == "mine"


def test_an_index_of_strangers_takes_nothing_away(people, collect, tmp_path):
    (tmp_path / "link.mp4").symlink_to(people)
    flags = ["--dataset", "folder", "--root", people, "--split", "50:50"]
    collect(*flags)
    path = tmp_path / "out" / "train" / "index.csv"
    path.write_text(
        path.read_text()
        + "".join(f"x,0,{file},,,,,,,,,,,\n" for file in ("../../link.mp4", "real/..", "fake/../x"))
    )
    collect(*flags)
    assert (tmp_path / "link.mp4").is_symlink() and "link.mp4" not in path.read_text()


@pytest.mark.parametrize("link", ["sym", "hard"])
def test_another_split_leaves_nothing_of_the_first(people, collect, tmp_path, link):
    flags = ["--dataset", "folder", "--root", people, "--split", "50:50", "--link", link]
    collect(*flags, "--seed", "0")
    before = laid_out(tmp_path, "train")
    if link == "hard":
        with pytest.raises(UserError, match="is of an earlier split and no link; delete"):
            collect(*flags, "--seed", "1")
        return
    collect(*flags, "--seed", "1")
    train, test = laid_out(tmp_path, "train"), laid_out(tmp_path, "test")
    assert train != before and not set(train) & set(test) and len(train) + len(test) == 12
    assert sorted(index(tmp_path, "train").file) == train


def test_fakes_of_a_missing_original_stay_together(dfdc, collect, tmp_path, capsys):
    (dfdc / "dfdc_train_part_3" / "realrealra.mp4").unlink()
    collect(
        "--dataset", "dfdc", "--root", dfdc, *as_lists(tmp_path, [LINES[0][0]], [LINES[0][1], LINES[1][1]])
    )
    words = "LEAK: videos made from the same 1 originals are in both splits"
    assert f"{words}, the first dfdc_train_part_3/realrealra.mp4" in capsys.readouterr().out
    assert index(tmp_path, "train").original.iloc[0] == "real/dfdc_train_part_3__realrealra"
    indices = [tmp_path / "out" / split / "index.csv" for split in ("train", "test")]
    assert (
        collect("--check", *indices) == 1
        and "shared originals        1: real/dfdc_train_part_3__realrealra" in capsys.readouterr().out
    )


def test_one_part_as_root(dfdc, collect, tmp_path):
    collect(
        "--dataset",
        "dfdc",
        "--root",
        dfdc / "dfdc_train_part_3",
        *as_lists(tmp_path, [LINES[0][0]], [LINES[1][0]]),
    )
    assert laid_out(tmp_path, "test") == [
        "fake/dfdc_train_part_3__cccccccccc.mp4",
        "real/dfdc_train_part_3__secondreal.mp4",
    ]


def test_names_that_look_like_another_ones(clip, collect, tmp_path):
    root = tmp_path / "mine"
    put(
        clip,
        *[
            root / label / name
            for label in ("real", "fake")
            for name in ("x.mp4", "x.mp4.avi", "y.mp4", "y.avi")
        ],
    )
    lists = as_lists(
        tmp_path,
        ["\ufeff./real/x.mp4", "fake/x.mp4\r"],
        ["real/x.mp4.avi", "fake/x.mp4.avi", "", "real/y.mp4"],
    )
    collect("--dataset", "folder", "--root", root, *lists)
    assert sorted(os.path.basename(p) for p in index(tmp_path, "train").source_file) == ["x.mp4", "x.mp4"]
    assert len(set(index(tmp_path, "test").index)) == 3
    stems = [os.path.splitext(name)[0] for split in ("train", "test") for name in laid_out(tmp_path, split)]
    assert not set(stems) & {name for split in ("train", "test") for name in laid_out(tmp_path, split)}


def test_what_cannot_be_joined_is_named(timit, collect, tmp_path, capsys):
    (timit / "VidTIMIT" / "fadg0" / "audio" / "sa1.wav").write_bytes(b"")
    (timit / "VidTIMIT" / "fram1" / "video" / "sa1" / "020").unlink()
    flags = ["--dataset", "dftimit", "--root", timit, "--split", "50:50", "--quality", "hq"]
    assert collect(*flags) == 0
    assert "2 videos can't be read, the first: " in capsys.readouterr().out
    with (tmp_path / "out" / "missing.csv").open() as file:
        why = {row["video"]: row["why"] for row in csv.DictReader(file)}
    assert (
        set(why) == {"VidTIMIT/fadg0/sa1", "VidTIMIT/fram1/sa1"}
        and "pictures are missing" in why["VidTIMIT/fram1/sa1"]
    )
    assert sum(len(index(tmp_path, split)) for split in ("train", "test")) == 6


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"label": ["FAKE"]}, "label is .'FAKE'., expected one of"),
        ({"is_fake": {}}, "is_fake is {}, expected one of"),
        ({"label": None}, "label is None"),
        (7, "expected .*original"),
    ],
)
def test_odd_records_give_one_line(dfdc, collect, record, words):
    path = dfdc / "dfdc_train_part_3" / "metadata.json"
    path.write_text(json.dumps({"a.mp4": record}))
    with pytest.raises(UserError, match=words) as caught:
        collect("--dataset", "dfdc", "--root", dfdc)
    assert "\n" not in str(caught.value)


def test_dry_run_writes_nothing(people, collect, tmp_path, capsys):
    assert collect("--dataset", "folder", "--root", people, "--split", "50:50", "--dry_run") == 0
    assert "train         3        3\n" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_own_lists_can_be_given_back(people, collect, tmp_path):
    collect("--dataset", "folder", "--root", people, "--split", "50:50", "--seed", "3")
    before = [laid_out(tmp_path, split) for split in ("train", "test")]
    lists = [tmp_path / f"split_{split}.txt" for split in ("train", "test")]
    for path in lists:
        shutil.copyfile(tmp_path / "out" / path.name, path)
    shutil.rmtree(tmp_path / "out")
    collect("--dataset", "folder", "--root", people, "--train_list", lists[0], "--test_list", lists[1])
    assert [laid_out(tmp_path, split) for split in ("train", "test")] == before


# splits and leaks, without files


def entries(n_originals: int, n_fakes: int, people: int = 0) -> list[Entry]:
    found = []
    for i in range(n_originals):
        who = (f"p{i % people}",) if people else ()
        found.append(Entry(f"r{i}", Path(f"r{i}"), "real", identity=who))
        found += [
            Entry(
                f"f{i}-{k}",
                Path("x"),
                "fake",
                original=f"r{i}",
                identity=who,
                manipulation=("video", "audio")[k % 2],
            )
            for k in range(n_fakes)
        ]
    return found


def test_a_split_keeps_groups_and_shares():
    videos = entries(200, 4)
    parts = split_entries(videos, 0.15, 0, "original")
    assert (
        len(parts["test"]) == pytest.approx(150, abs=5) and len(parts["train"]) + len(parts["test"]) == 1000
    )
    in_test = {entry.name for entry in parts["test"]}
    assert all((entry.original in in_test) == (entry.name in in_test) for entry in videos if entry.original)
    again = split_entries(videos[::-1], 0.15, 0, "original")
    assert {entry.name for entry in again["test"]} == in_test  # whatever the order of files
    assert {entry.name for entry in split_entries(videos, 0.15, 1, "original")["test"]} != in_test
    more = split_entries([*videos, *entries(210, 4)[1000:]], 0.15, 0, "original")
    assert len(in_test - {entry.name for entry in more["test"]}) < 30  # other videos change little


def test_a_split_by_person():
    videos = entries(60, 2, people=12)
    parts = split_entries(videos, 0.25, 0, "identity")
    people = [{person for entry in members for person in entry.identity} for members in parts.values()]
    assert people[0].isdisjoint(people[1]) and len(people[1]) == 3
    linked = [
        Entry("a", Path(), "fake", identity=("p", "q")),
        Entry("b", Path(), "fake", identity=("q", "r")),
        Entry("c", Path(), "real"),
    ]
    assert sorted(len(members) for members in group(linked, "identity")) == [1, 2]  # p and r are linked by q
    with pytest.raises(UserError, match="leave the test split without real or without fake ones"):
        split_entries(entries(3, 1, people=1), 0.2, 0, "identity")


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("seed", range(5))
def test_groups_are_what_links_reach(by, seed):
    """Against a search that follows the links from video to video, one by one."""
    rng = random.Random(seed)
    names = [f"v{i}" for i in range(60)]
    videos = [
        Entry(
            name, Path(), "fake", original=rng.choice(["", "gone", *names]), identity=(rng.choice("abcdef"),)
        )
        if rng.random() < 0.4
        else Entry(name, Path(), "real", identity=tuple(rng.sample("ghijklmnopqrstuvwxyz", rng.randrange(2))))
        for name in names
    ]

    def marks(entry: Entry) -> set:
        found = {entry.name} | ({entry.original} - {""} if by != "none" else set())
        return found | ({("person", who) for who in entry.identity} if by == "identity" else set())

    expected, left = [], list(videos)
    while left:
        reached = [left[0]]
        for entry in reached:
            reached += [other for other in left if other not in reached and marks(other) & marks(entry)]
        expected.append([entry for entry in videos if entry in reached])
        left = [entry for entry in left if entry not in reached]
    assert group(videos, by) == expected  # in the order of the videos
    assert len(expected) < 60 or by == "none"


def test_a_split_is_stratified():
    videos = [
        Entry(f"{kind}{i}", Path(), "fake" if kind else "real", manipulation=kind)
        for kind in ("", "video", "audio")
        for i in range(40)
    ]
    parts = split_entries(videos, 0.25, 0, "none")
    assert [
        sum(entry.manipulation == kind for entry in parts["test"]) for kind in ("", "video", "audio")
    ] == [10, 10, 10]


def test_what_two_splits_share(people, collect, tmp_path, capsys):
    table = people / "videos.csv"
    rows = [
        ("real/a/1.mp4", "real", "train", "", "ann"),
        ("fake/a/1.mp4", "fake", "train", "real/a/1.mp4", "ann;bob"),
        ("real/a/2.mp4", "real", "test", "", "eve"),
        ("fake/a/2.mp4", "fake", "test", "real/a/1.mp4", "bob"),
    ]
    table.write_text(
        "\n".join(map(",".join, [("file", "label", "split", "original", "identity"), *rows])) + "\n"
    )
    (people / "fake" / "a" / "2.mp4").write_bytes(b"another")
    (people / "real" / "a" / "1.mp4").write_bytes(b"one")
    collect("--dataset", "folder", "--root", table)
    capsys.readouterr()
    indices = [tmp_path / "out" / split / "index.csv" for split in ("train", "test")]
    assert collect("--check", *indices, "--content") == 1
    out = capsys.readouterr().out
    assert "shared videos           0\n" in out and "shared originals        1: real/real__a__1\n" in out
    assert "shared identities       1: bob\n" in out
    assert "shared contents         1: fake/fake__a__1 = real/real__a__2\n" in out  # copies of one clip
    with pytest.raises(UserError, match="is no index of collect.py"):
        collect("--check", table, table)


def test_the_authors_lists_name_every_part():
    lines = [line for split in ("train", "test") for line in (ROOT / f"{split}_list.txt").read_text().split()]
    assert len(lines) == len(set(lines)) == 18_719


def test_found_against_missing(dfdc, collect, tmp_path, capsys):
    collect("--dataset", "dfdc", "--root", dfdc, *as_lists(tmp_path, *LINES))
    assert "found 8 of 11 videos\n" in capsys.readouterr().out
    collect("--dataset", "dfdc", "--root", dfdc, "--split", "50:50", "--dry_run")
    assert "found 10 of 12 videos\n" in capsys.readouterr().out
    lines = [f"{i:010d}.dfdc_train_part_04" for i in range(20_000)]
    collect(
        "--dataset", "dfdc", "--root", dfdc, *as_lists(tmp_path, LINES[0], [*LINES[1], *lines]), "--dry_run"
    )
    assert "found 8 of 20,011 videos\n" in capsys.readouterr().out


@pytest.mark.parametrize("dry", [[], ["--dry_run"]])
def test_another_data_sets_videos_are_not_mixed_in(dfdc, people, collect, tmp_path, dry):
    collect("--dataset", "folder", "--root", people, "--split", "50:50")
    before = {split: laid_out(tmp_path, split) for split in ("train", "test")}
    with pytest.raises(UserError, match="train holds the data set folder, with which dfdc would be mixed"):
        collect("--dataset", "dfdc", "--root", dfdc, *as_lists(tmp_path, *LINES), *dry)
    assert {split: laid_out(tmp_path, split) for split in ("train", "test")} == before
    for split in ("train", "test"):
        (tmp_path / "out" / split / "index.csv").unlink()
    with pytest.raises(
        UserError,
        match=r"was not made by collect.py; move it away, or name another --out_dir \(videos .*: \d\)",
    ):
        collect("--dataset", "dfdc", "--root", dfdc, *as_lists(tmp_path, *LINES), *dry)


@pytest.mark.parametrize(
    ("videos", "by", "words"),
    [
        (entries(1, 1), "original", "take other shares, or more videos, or --group_by none.$"),
        ([*entries(1, 0), Entry("x", Path(), "fake")], "original", "take other shares, or more videos.$"),
        (entries(1, 0), "none", "all of them are real.$"),
        (entries(1, 1), "none", "take other shares, or more videos.$"),
        (entries(3, 1, people=1), "identity", "or --group_by original or none.$"),
    ],
)
def test_what_to_do_with_too_few_videos(videos, by, words):
    with pytest.raises(UserError, match=words):
        split_entries(videos, 0.2, 0, by)


def test_every_data_set_is_one_file():
    assert tuple(CORPORA) == DATASETS
    assert all((ROOT / "corpora" / f"{name}.py").is_file() for name in DATASETS)
    others = [path for path in (ROOT / "corpora").glob("*.py") if path.stem not in DATASETS]
    named = {path.name: [name for name in DATASETS if f'"{name}"' in path.read_text()] for path in others}
    assert not any(words for name, words in named.items() if name != "__init__.py")
    assert not any(f'"{name}"' in (ROOT / "collect.py").read_text() for name in DATASETS)


@pytest.mark.parametrize("flags", [["--help"], ["--split", "x"], ["--dataset", "dfdc", "--root", "none"]])
def test_a_command_line_is_read_without_the_libraries(flags):
    """--help and mistakes are answered at once: what takes seconds to import is imported where it is used."""
    code = """
import sys, contextlib, collect
with contextlib.suppress(SystemExit):
    collect.parse_args(sys.argv[1:])
print("imported:", *({"torch", "cv2", "av", "pandas", "numpy", "scipy"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", code, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_picture_that_is_none_is_named(timit, collect, tmp_path, content):
    (timit / "VidTIMIT" / "fadg0" / "video" / "sa1" / "001").write_bytes(content)
    assert collect("--dataset", "dftimit", "--root", timit, "--split", "50:50", "--quality", "hq") == 0
    with (tmp_path / "out" / "missing.csv").open() as file:
        why = {row["video"]: row["why"] for row in csv.DictReader(file)}
    assert list(why) == ["VidTIMIT/fadg0/sa1"] and "sa1/001 can't be read" in why["VidTIMIT/fadg0/sa1"]


def test_a_table_of_videos_that_a_spreadsheet_has_saved(people, collect, tmp_path):
    rows = "file,label,split\r\nreal/a/1.mp4,real,train,,\r\nfake/a/1.mp4,fake,test\r\n\r\n"
    (people / "v.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    assert collect("--dataset", "folder", "--root", people / "v.csv") == 0
    assert laid_out(tmp_path, "train") == ["real/real__a__1.mp4"]
    (people / "v.csv").write_text("file,label\nreal/a/1.mp4,real,x\n")
    with pytest.raises(UserError, match="line 2 has more cells than the header"):
        collect("--dataset", "folder", "--root", people / "v.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; expected a header and a row per video"),
        ("source,target1\n", "has the columns source, target1, expected source, .* and one without a name"),
        ("{header}\nid1,-,-,real,A,Real,African,men,1.mp4,Real/African\n", "line 2 has the type 'Real' and"),
        (
            "{header}\nid1,-,-,real,A,RealVideo-RealAudio,African,men,1.mp4,RealVideo-RealAudio\n",
            "line 2 has",
        ),
        ("{header}\nid1,-,-,real,A,RealVideo-RealAudio,African,men,1.mp4\n", "line 2 names ''"),
        ("{header}\n" + 11 * "a," + "\n", "line 2 has more cells than the header"),
    ],
)
def test_odd_tables_of_fakeavceleb(tmp_path, text, words):
    header = "source,target1,target2,method,category,type,race,gender,path,"
    (tmp_path / "meta_data.csv").write_text(text.format(header=header))
    with pytest.raises(UserError, match=words) as caught:
        CORPORA["fakeavceleb"].read(tmp_path)
    assert "\n" not in str(caught.value)
