"""A verdict from another program: the lines of docs/verdicts.md."""

import re
import shutil
import tempfile

import pytest

from tests.clips import face_pictures, write_clip
from tests.conftest import ROOT, FixedDetector
from tests.verdicts.test_localize import checkpoint, clip, localize, read_json  # noqa: F401, fixtures
from tests.verdicts.test_schema import FILE
from utils.cli import UserError
from utils.containers import VideoError

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "verdicts.md").read_text(), re.S)
(LINES,) = (block for block in BLOCKS if "Judge.load" in block)


@pytest.fixture
def workplace(checkpoint, clip, monkeypatch, tmp_path):  # noqa: F811
    """A folder with a model and a video, where nothing else may be written."""
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copyfile(checkpoint, folder / "mds.pth")
    shutil.copyfile(clip, folder / "video.mp4")
    monkeypatch.setattr("verdicts.detection.build_detector", lambda *_: FixedDetector())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(folder)
    return folder


def test_the_five_lines_of_the_docs(workplace, localize, capsys):  # noqa: F811
    assert len([line for line in LINES.splitlines() if line]) <= 5
    found: dict = {}
    exec(LINES, found)
    verdict = found["verdict"]
    FILE.validate(verdict)
    assert capsys.readouterr().out.startswith(f"{verdict['verdict']} {verdict['reasons'][0]['text']}")
    assert sorted(path.name for path in workplace.iterdir()) == ["mds.pth", "video.mp4"]
    assert sorted(path.name for path in workplace.parent.glob("verdict-*")) == []
    assert verdict["file"] == "video.mp4" and verdict["file_facts"]["command"] is None
    localize("video.mp4", "--model", "mds.pth", "--brief", "--out", workplace.parent / "out")
    by_script = read_json(workplace.parent / "out" / "video.mp4" / "verdict.json")
    free = ("seconds_spent", "file_facts", "identity")  # the detector's name is another
    same = {key: value for key, value in verdict.items() if key not in free}
    assert same == {key: value for key, value in by_script.items() if key not in free}


def test_what_can_not_be_judged(workplace):
    from verdicts import Judge

    judge = Judge.load("mds.pth")
    write_clip(workplace / "silent.mp4", face_pictures(30))
    with pytest.raises(VideoError, match="has no sound") as caught:
        judge(workplace / "silent.mp4")
    assert caught.value.stage == "audio"
    with pytest.raises(OSError):
        judge("gone.mp4")
    with pytest.raises(UserError, match="does not exist"):
        Judge.load("gone.pth")
    with pytest.raises(UserError, match="holds a network of --net resnet18, got --net resnet34"):
        Judge.load("mds.pth", network={"net": "resnet34"})
