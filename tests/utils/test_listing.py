"""One rule of what a video's name is, for all scripts; what is left out is counted and said."""

import shutil
from pathlib import Path

import pytest

from corpora.base import CORPORA
from preprocessing.plan import pair_videos
from tests.clips import face_pictures, tone, write_clip
from utils.cli import UserError
from utils.listing import is_system_file, is_video_name, to_rename, walk
from verdicts.search import search_videos

TAKEN = [
    "a.mp4",
    "b.3g2",
    "c.f4v",
    "d.ogg",
    "e.m2v",
    "f.dv",
    "g.qt",
    "h.gif",
    "i",
    "j.MOV",
    "k.v2",
    "m.dat",
    "n.rmvb",
]
LEFT = ["notes.txt", "x.WAV", ".hidden.mp4", "README", "t.pdf", "s.srt", "x.mp4.part.zip"]
SYSTEM = ["Thumbs.db", ".DS_Store", "desktop.ini", "._a.mp4"]


def test_names():
    assert all(map(is_video_name, TAKEN)) and not any(map(is_video_name, LEFT + SYSTEM))
    assert all(map(is_system_file, SYSTEM)) and not any(map(is_system_file, TAKEN + LEFT))


def test_all_scripts_take_the_same_files(tmp_path, capsys):
    for label in ("real", "fake"):
        (tmp_path / "d" / label).mkdir(parents=True)
        for name in TAKEN + LEFT + SYSTEM:
            (tmp_path / "d" / label / name).write_text(name)
    expected = sorted(f"{label}/{name}" for label in ("real", "fake") for name in TAKEN)
    pairs, others = pair_videos(tmp_path / "d")
    assert sorted(path.relative_to(tmp_path / "d").as_posix() for path, _ in pairs) == expected and len(
        others
    ) == 2 * len(LEFT)
    found = CORPORA["folder"].read(tmp_path / "d")
    assert sorted(entry.name for entry in found.entries) == expected
    words = f"{2 * len(LEFT)} files that are no videos by their names are left alone, the first "
    assert any(note.startswith(words) for note in found.notes)
    videos = search_videos([tmp_path / "d"], tmp_path / "out")
    assert sorted(videos) == expected and words in capsys.readouterr().err


def test_a_folder_of_system_files(tmp_path, scripts, fixed_detector, monkeypatch, capsys):
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    write_clip(tmp_path / "real" / "a.mp4", face_pictures(60), sound=tone(2.4))
    for name in SYSTEM:
        (tmp_path / "real" / name).write_text("x")
    assert scripts["pre-process"].main(["--out_dir", str(tmp_path), "--workers", "0"]) == 0
    assert "1 done now" in capsys.readouterr().out


@pytest.mark.parametrize("case", [("Real", "FAKE"), ("real", "Fake")])
def test_labels_in_capitals(tmp_path, scripts, capsys, case):
    for folder in case:
        (tmp_path / "d" / folder).mkdir(parents=True)
        (tmp_path / "d" / folder / "a.mp4").write_text("x")
    if (tmp_path / "d" / "fake").exists():
        pytest.skip("the file system does not tell capitals")
    words = f"rename .*{case[1]} to fake"
    assert to_rename(tmp_path / "d")
    if case[0] == "Real":
        with pytest.raises(UserError, match=words):
            CORPORA["folder"].read(tmp_path / "d")
        with pytest.raises(UserError, match=words):
            scripts["pre-process"].main(["--out_dir", str(tmp_path / "d")])
    else:
        assert "rename" in CORPORA["folder"].read(tmp_path / "d").notes[0]
        scripts["pre-process"].main(
            ["--out_dir", str(tmp_path / "d"), "--workers", "0", "--detector", "libfacedetection"]
        )
        assert "note: rename" in capsys.readouterr().out
    shutil.move(tmp_path / "d", tmp_path / "train")
    (tmp_path / "e").mkdir()
    shutil.move(tmp_path / "train", tmp_path / "e" / "train")
    if case[0] == "Real":
        with pytest.raises(UserError, match=words):
            CORPORA["folder"].read(tmp_path / "e")


def test_walking(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "b" / "x").write_text("")
    assert [Path(folder).name for folder, _, _ in walk(tmp_path)] == [tmp_path.name, "b", "c"]
