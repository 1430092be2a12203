"""The data sets that are known from descriptions, in miniature, with the names and columns described."""

import csv
import unicodedata
from pathlib import Path

import av
import pandas as pd
import pytest

from corpora.base import CORPORA
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import load_script
from tests.corpora.test_collect import index, write_speech
from utils.cli import UserError


@pytest.fixture
def collect(tmp_path):
    """Run collect.py on tmp_path/d into tmp_path/out."""
    script, where = (
        load_script("collect"),
        ["--root", str(tmp_path / "d"), "--out_dir", str(tmp_path / "out")],
    )
    return lambda dataset, *flags: script.main(["--dataset", dataset, *where, *flags])


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)  # collect.py opens no video


def table(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def missing(tmp_path: Path) -> dict[str, str]:
    with (tmp_path / "out" / "missing.csv").open() as file:
        return {row["video"]: row["part"] for row in csv.DictReader(file)}


def refused(dataset: str, root: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        CORPORA[dataset].read(root)
    assert "\n" not in str(caught.value)


def people_of(rows: pd.DataFrame) -> set[str]:
    return set(";".join(rows.identity).split(";")) - {""}


DESCRIBED = [name for name, corpus in CORPORA.items() if corpus.from_descriptions]


def test_what_is_known_from_descriptions_is_said(capsys):
    assert DESCRIBED == ["deepspeak", "kodf", "avlips", "idforge", "mavosdd"]
    with pytest.raises(SystemExit):
        load_script("collect").main(["--help"])
    assert f"known from descriptions alone: {', '.join(DESCRIBED)}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert all("from descriptions" in CORPORA[name].read.__globals__["__doc__"] for name in DESCRIBED)


@pytest.mark.parametrize("dataset", DESCRIBED)
def test_a_root_of_another_layout(tmp_path, dataset):
    put(tmp_path / "d", "clips/a.mp4", "notes.txt")
    refused(dataset, tmp_path / "d", "looked for .*, found clips/, notes.txt.$")
    refused(dataset, tmp_path / "none", "none is no folder")


@pytest.mark.parametrize("dataset", DESCRIBED)
def test_a_root_tells_what_it_is(request, tmp_path, dataset):
    request.getfixturevalue(dataset)
    alike = [name for name, corpus in CORPORA.items() if corpus.looks(tmp_path / "d")]
    assert alike == [dataset]


# DeepSpeak v2

FAKE_HEADER = (
    "video-file,kind,engine,identity-source,identity-target,recording-source,recording-target,"
    "audio-config,gen-config,gesture-type,script-type"
)


@pytest.fixture
def deepspeak(tmp_path) -> Path:
    """Three people, unpacked into folders of which the records know nothing; a fake is missing, a real video
    is there twice.
    """
    root = tmp_path / "d"
    put(root, "zip-0/284-6860.mp4", "zip-1/videos/377-10294.mp4", "zip-1/411-8517.mp4", "zip-2/411-8517.mp4")
    put(root, "zip-3/diff2lip-6868-6860-playht.mp4", "zip-3/facefusion-10294-6860.mp4")
    put(root, "zip-3/memo-8544-8517-real.mp4")
    table(
        root / "annotations-real.csv",
        *("video-file,identity", "284-6860.mp4,284", "377-10294.mp4,377", "411-8517.mp4,411"),
    )
    table(
        root / "annotations-fake.csv",
        FAKE_HEADER,
        "diff2lip-6868-6860-playht.mp4,lip-sync,diff2lip,284,284,6868,6860,playht,,no-gesture,scripted-short",
        "facefusion-10294-6860.mp4,face-swap,facefusion,377,284,10294,6860,real,x,no-gesture,unscripted",
        "memo-8544-8517-real.mp4,avatar,memo,411,411,8544,8517,real,,no-gesture,unscripted",
        "gone-1-2-real.mp4,avatar,hellomeme,411,411,1,2,real,,no-gesture,unscripted",
    )
    table(root / "annotations-split-def.csv", ",identity,split", ",284,train", ",377,Test", ",411,test")
    return root


def test_deepspeak(deepspeak, collect, tmp_path, capsys):
    assert collect("deepspeak") == 0
    out = capsys.readouterr().out
    assert "train         1        2\n" in out and "test          2        1\n" in out
    assert "note: read from descriptions, never tried on the data set itself" in out
    assert "note: 411-8517.mp4 is there 2 times: taken once" in out
    assert "1 people are in both splits, the first 377; --split with --group_by identity" in out
    assert missing(tmp_path) == {"gone-1-2-real.mp4": "hellomeme"}
    rows = index(tmp_path, "train")
    cloned = rows.loc["fake/zip-3__diff2lip-6868-6860-playht"]
    assert cloned.manipulation == "both" and cloned.method == "diff2lip+playht"
    swapped = rows.loc["fake/zip-3__facefusion-10294-6860"]
    assert swapped.manipulation == "video" and swapped.method == "facefusion"
    assert swapped.identity == "284;377" and swapped.category == "face-swap"
    assert set(rows.original) == {"", "real/zip-0__284-6860"}
    (deepspeak / "annotations-split-def.csv").unlink()
    with pytest.raises(UserError, match="no splits of its own; give --split"):
        collect("deepspeak")


def test_odd_records_of_deepspeak(deepspeak):
    fakes, splits = deepspeak / "annotations-fake.csv", deepspeak / "annotations-split-def.csv"
    lines = fakes.read_text().splitlines()
    splits.write_text("identity,split\n284,held-out\n")
    refused("deepspeak", deepspeak, "284: split is 'held-out', expected one of 'train', 'val', 'test'")
    splits.write_text("identity,split\n284,train\n284,test\n")
    refused("deepspeak", deepspeak, "more than once, the first 284")
    splits.unlink()
    table(fakes, *lines, lines[-1])
    refused("deepspeak", deepspeak, "annotations-fake.csv names 1 files more than once, the first gone-1-2")
    table(fakes, lines[0].replace("kind", "type"), *lines[1:])
    refused("deepspeak", deepspeak, "has no column kind; expected at least video-file, kind, engine")
    table(fakes, lines[0], f",{lines[1].partition(',')[2]}")
    refused("deepspeak", deepspeak, "names '', expected a path below the data set")
    fakes.unlink()
    refused("deepspeak", deepspeak, "looked for annotations-real.csv, annotations-fake.csv and")


# KoDF


@pytest.fixture
def kodf(tmp_path) -> Path:
    """Folders by method, spelt freely; four people in two pairs."""
    root = tmp_path / "d"
    put(root, *(f"Original_Videos/{who}/{who}_001.mp4" for who in ("ab1", "ab2", "ab3", "ab4")))
    put(root, "dfl/20200101/ab1/ab1_ab2_1_0001.mp4", "Audio_Driven/ab3_ab4_5_0001.mp4")
    put(root, "fsgan/ab1_ab2_3_0001.mp4", "elsewhere/x.mp4", "fo/copy/ab1_ab2_1_0001.mp4")
    return root


def test_kodf_by_folders(kodf, collect, tmp_path, capsys):
    with pytest.raises(UserError, match="no splits of its own; give --split"):
        collect("kodf")
    assert collect("kodf", "--split", "50:50", "--group_by", "identity") == 0
    out = capsys.readouterr().out
    assert "note: 1 videos that lie in no table and in no folder of a method are left out\n" in out
    assert "ab1_ab2_1_0001.mp4 has the name of dfl/20200101/ab1/ab1_ab2_1_0001.mp4: taken once" in out
    assert "fakes without a record name no original" in out
    train, test = (index(tmp_path, split) for split in ("train", "test"))
    assert people_of(train).isdisjoint(people_of(test)) and len(train) + len(test) == 7
    rows = pd.concat([train, test])
    assert rows.identity["fake/dfl__20200101__ab1__ab1_ab2_1_0001"] == "ab1;ab2"
    assert sorted(rows.method) == ["", "", "", "", "audio-driven", "dfl", "fsgan"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_kodf_by_the_tables_of_ai_hub(collect, tmp_path, capsys, form):
    root = tmp_path / "d"
    put(root, "1/train_원본/x/a1_001.mp4", "1/train_변조/dfl/u1/u1_u2_1_0001.mp4")
    put(root, "2/valid/b1_001.mp4", "2/valid/u3_u3_5_0001.mp4", "2/valid/u3_u4_3_0001.mp4")
    misleading = unicodedata.normalize(form, "1/train_탐지방해/원본영상")
    put(root, f"{misleading}/a1_001.mp4", f"{misleading}/gone_001.mp4")
    header = {"원본영상": "영상ID,UUID,인물성별", "변조영상": "영상ID,타겟영상,타겟UUID,소스UUID,변조모델"}
    rows = {
        ("원본영상", "training"): ["a1_001.mp4,u1,m", "gone_001.mp4,u9,m"],
        ("변조영상", "training"): ["u1_u2_1_0001.mp4,a1_001.mp4,u1,u2,dfl"],
        ("원본영상", "validation"): ["b1_001.mp4,u3,f"],
        ("변조영상", "validation"): [
            "u3_u3_5_0001,b1_001,u3,u3,audio-driven",
            "u3_u4_3_0001,b1_001,u3,u4,fsgan",
        ],
    }
    for (kind, split), lines in rows.items():
        name = unicodedata.normalize(form, f"{kind}_{split}_메타데이터.csv")
        table(root / "labels" / split / name, header[kind], *lines)
    assert collect("kodf") == 0
    out = capsys.readouterr().out
    assert "its split val (3 videos) goes to test" in out
    assert "2 videos in 탐지방해, copies that are to mislead detectors, are left out" in out
    assert missing(tmp_path) == {"gone_001": "original"}
    fake = index(tmp_path, "train").iloc[0]
    assert fake.method == "dfl" and fake.identity == "u1;u2"
    assert index(tmp_path, "train").loc[fake.original].identity == "u1"
    assert index(tmp_path, "test").method.tolist() == ["audio-driven", "fsgan", ""]

    path = root / "labels" / "변조영상_test_메타데이터.csv"
    table(path, header["변조영상"], "u1_u2_1_0001.mp4,a1_001.mp4,u1,u2,dfl")
    refused("kodf", root, "names u1_u2_1_0001, and so does .*; leave one record for each")
    table(path, "영상ID,타겟영상", "u1_u2_1_0009.mp4,a1_001.mp4")
    refused("kodf", root, "has no column 변조모델; expected at least 영상ID and 변조모델")
    table(path, header["변조영상"], "u1_u2_1_0009.mp4,a1_001.mp4,u1,u2,")
    refused("kodf", root, "u1_u2_1_0009 has no 변조모델, expected audio-driven, dffs")


def test_kodf_two_spellings_of_a_folder(kodf):
    put(kodf, "original-videos/x_1.mp4")
    refused("kodf", kodf, "has Original_Videos and original-videos; move one of them away")


# AVLips


@pytest.fixture
def avlips(tmp_path) -> Path:
    root = tmp_path / "d"
    write_clip(root / "AVLips" / "0_real" / "0.mp4", face_pictures(50), sound=None)
    for i in range(1, 8):
        put(root, f"AVLips/0_real/{i}.mp4")
    put(root, *(f"AVLips/1_Fake/{i}.mp4" for i in (0, 1, 2, 3, 99)), "AVLips/1_Fake/list.txt")
    write_speech(root / "AVLips" / "wav" / "0_real" / "0.wav", 2.0)
    return root


def test_avlips(avlips, collect, tmp_path, capsys):
    assert collect("avlips", "--split", "50:50") == 0
    assert "note: a fake is taken for made from the real video of that number" in capsys.readouterr().out
    train, test = (index(tmp_path, split) for split in ("train", "test"))
    assert all(original in rows.index for rows in (train, test) for original in rows.original if original)
    rows = pd.concat([train, test])
    assert len(rows) == 13 and rows.original["fake/1_Fake__99"] == ""
    assert rows.original["fake/1_Fake__2"] == "real/0_real__2"


def test_avlips_with_the_sound_beside_it(avlips, collect, tmp_path):
    put(avlips, "AVLips/wav/1_fake/1.wav")  # which is none
    with pytest.raises(UserError, match="without real or without fake ones"):
        collect("avlips", "--split", "50:50", "--sound", "wav")
    listing = CORPORA["avlips"].read(avlips, sound="wav")
    assert [entry.name for entry in listing.entries] == ["0_real/0.mp4", "1_Fake/1.mp4"]
    assert listing.missing[0].why == "without wav/0_real/1.wav"
    for i in (0, 1, 2):
        write_clip(avlips / "AVLips" / "1_Fake" / f"{i}.mp4", face_pictures(50), sound=None)
        write_speech(avlips / "AVLips" / "wav" / "1_fake" / f"{i}.wav", 2.0)
        write_clip(avlips / "AVLips" / "0_real" / f"{i}.mp4", face_pictures(50), sound=tone(2.0))
        write_speech(avlips / "AVLips" / "wav" / "0_real" / f"{i}.wav", 2.0)
    assert collect("avlips", "--split", "50:50", "--sound", "wav") == 0
    rows = pd.concat([index(tmp_path, split) for split in ("train", "test")])
    assert len(rows) == 6
    for path in (tmp_path / "out").glob("*/*/*.mkv"):
        with av.open(str(path)) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio"]


# IDForge


@pytest.fixture
def idforge(tmp_path) -> Path:
    """The lists beside main/; a video that no list names, one that is missing."""
    root = tmp_path / "d"
    lists = {
        "train": [
            "pristine/id00/id00_03/id00_scene_0010-0.mp4",
            "face_tts/id00/id00_03/id00_scene_1_0_roop.mp4",
        ],
        "val": ["rvc_textmismatch/id01/id01_00/id01_scene_0014.mp3.mp4"],
        "test": [
            "pristine/id00/id00_04/id00_scene_0011-0.mp4",
            "face_audiomismatch_textmismatch/id00/id00_04/id00_scene_0015_0_infoswap.mp4",
            "lip_tts_textgen/id09/id09_00/gone.mp4",
        ],
    }
    for split, names in lists.items():
        table(root / f"{split}.csv", *names)
        put(root / "main", *(name for name in names if "gone" not in name))
    put(root / "main", "face_tts/id00/id00_05/id00_scene_2_0_roop.mp4", "pristine/readme.txt")
    return root


def test_idforge(idforge, collect, tmp_path, capsys):
    assert collect("idforge", "--dev", "train") == 0
    out = capsys.readouterr().out
    assert "its split val (1 videos) goes to train" in out
    assert "1 videos are in none of its splits, and left out" in out
    assert "1 people are in both splits, the first id00" in out
    assert missing(tmp_path) == {"lip_tts_textgen/id09/id09_00/gone.mp4": "lip_tts_textgen"}
    rows = pd.concat([index(tmp_path, split) for split in ("train", "test")])
    assert dict(zip(rows.category, zip(rows.manipulation, rows.method, strict=True), strict=True)) == {
        "": ("", ""),
        "face_tts": ("both", "roop+Wav2Lip+TorToiSe"),
        "rvc_textmismatch": ("audio", "RVC"),
        "face_audiomismatch_textmismatch": ("both", "infoswap+Wav2Lip"),
    }
    table(idforge / "test.csv", "pristine/id00/id00_03/id00_scene_0010-0.mp4")
    assert collect("idforge", "--dev", "train", "--dry_run") == 0
    assert (
        "LEAK: 1 videos of test.csv are also in train.csv, the first pristine/id00" in capsys.readouterr().out
    )


def test_odd_lists_of_idforge(idforge):
    table(idforge / "val.csv", "../x.mp4")
    refused("idforge", idforge, "val.csv names '../x.mp4', expected a path below the data set")
    (idforge / "val.csv").write_text("\n")
    refused("idforge", idforge, "val.csv is empty; expected a list with a video in each line")
    (idforge / "main" / "pristine").rename(idforge / "main" / "raw")
    refused("idforge", idforge, "looked for pristine/ beside folders such as face_tts/")


# MAVOS-DD

MAVOS = "video_path,label,split,language,generative_method,open_set_model,open_set_language"
MAVOS_ROWS = {
    "english/real/a.mp4": "real,train,english,real,False,False",
    "english/inswapper/b.mp4": "fake,train,english,inswapper,False,False",
    "english/real/v.mp4": "real,validation,english,real,False,False",
    "english/real/c.mp4": "real,test,english,real,False,False",
    "english/hififace/d.mp4": "fake,test,english,hififace,True,False",
    "arabic/real/e.mp4": "real,test,arabic,real,False,True",
    "arabic/hififace/f.mp4": "fake,test,arabic,hififace,True,True",
    "arabic/gone/g.mp4": "fake,test,arabic,memo,False,True",
}


@pytest.fixture
def mavosdd(tmp_path) -> Path:
    root = tmp_path / "d"
    put(root, *(name for name in MAVOS_ROWS if "gone" not in name))
    table(root / "metadata.csv", MAVOS, *(f"{name},{rest}" for name, rest in MAVOS_ROWS.items()))
    return root


@pytest.mark.parametrize(
    ("test_set", "videos"), [("all", "cdef"), ("closed", "c"), ("open_model", "cd"), ("open_language", "ce")]
)
def test_mavosdd(mavosdd, collect, tmp_path, capsys, test_set, videos):
    assert collect("mavosdd", "--test_set", test_set) == 0
    assert "its split val (1 videos) is left out" in capsys.readouterr().out
    rows = index(tmp_path, "test")
    assert sorted(name[-1] for name in rows.index) == list(videos)
    assert ("arabic/gone/g.mp4" in missing(tmp_path)) == (test_set in ("all", "open_language"))
    train = index(tmp_path, "train")
    assert train.method.tolist() == ["inswapper", ""] and set(train.category) == {"english"}
    assert set(train.manipulation) == {""}  # this release does not say


def test_mavosdd_of_a_later_release(mavosdd, collect, tmp_path):
    path = mavosdd / "metadata.csv"
    more = {"english/inswapper/b.mp4": "openvoice,True,True", "english/hififace/d.mp4": "real,False,True"}
    rows = [f"{name},{rest},{more.get(name, 'real,True,False')}" for name, rest in MAVOS_ROWS.items()]
    rows.append("arabic/real/h.mp4,fake,test,arabic,real,False,True,xtts_v2,True,False")
    put(mavosdd, "arabic/real/h.mp4")
    table(path, f"{MAVOS},audio_generative_method,audio_fake,video_fake", *rows)
    assert collect("mavosdd") == 0
    test = index(tmp_path, "test")
    fake = index(tmp_path, "train").iloc[0]
    assert fake.manipulation == "both" and fake.method == "inswapper+openvoice"
    assert test.manipulation["fake/english__hififace__d"] == "video"
    cloned = test.loc["fake/arabic__real__h"]
    assert cloned.manipulation == "audio" and cloned.method == "xtts_v2"
    table(
        path, *(line.replace("real,False,True", "real,False,False") for line in path.read_text().splitlines())
    )
    refused("mavosdd", mavosdd, "d.mp4 is fake, but neither video_fake nor audio_fake")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("label,", "class,"), "has no column label; expected at least video_path, label, split"),
        (("real,train", "1,train"), "a.mp4: label is '1', expected one of 'real', 'fake'"),
        (("real,train", "real,dev"), "a.mp4: split is 'dev', expected one of 'train', 'validation'"),
        (("real,False", "real,maybe"), "a.mp4: open_set_model is 'maybe', expected one of 'true', 'false'"),
        (
            ("inswapper/b", "real/a"),
            "metadata.csv names 1 files more than once, the first english/real/a.mp4",
        ),
        (("english/real/a", "/data/a"), "names '/data/a.mp4', expected a path below the data set"),
    ],
)
def test_odd_records_of_mavosdd(mavosdd, change, words):
    path = mavosdd / "metadata.csv"
    path.write_text(path.read_text().replace(*change, 1))
    refused("mavosdd", mavosdd, words)


def test_mavosdd_as_it_is_downloaded(mavosdd):
    (mavosdd / "metadata.csv").unlink()
    (mavosdd / "data-00000-of-00001.arrow").write_bytes(b"")
    refused(
        "mavosdd", mavosdd, r"metadata.csv is not there; write it with .*datasets.load_from_disk\('.*to_csv"
    )
