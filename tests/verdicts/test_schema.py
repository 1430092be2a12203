"""docs/verdict.schema.json says what verdict.json holds: verdicts of every kind are as it says, and it knows
every key.
"""

import copy
import json
import re
import shutil
import sys
import typing

import jsonschema
import pytest

from tests.clips import face_pictures, write_clip
from tests.conftest import ROOT
from tests.verdicts.test_localize import HOSTILE, checkpoint, clip, localize, read_json  # noqa: F401, fixtures
from utils import probe
from verdicts import schema

SCHEMA = json.loads((ROOT / "docs" / "verdict.schema.json").read_text())
FILE = jsonschema.Draft202012Validator(SCHEMA)
LINE = jsonschema.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/Line"}]})
ABSENT = {"Verdict": {"proposals", "curves"}}  # which a line of --json lacks
TYPES = {name: kind for name, kind in vars(schema).items() if typing.is_typeddict(kind)}
# parts of others that have no place of their own
MIXED_IN = {"Findings", "StreamFacts", "JudgeIdentity"}


def described(part: object, path: str = "") -> None:
    """Every property has words, its own or those of what it refers to."""
    if isinstance(part, dict):
        for name, inner in part.get("properties", {}).items():
            inner = SCHEMA["$defs"][inner["$ref"].rpartition("/")[2]] if set(inner) == {"$ref"} else inner
            is_plain = inner == {"type": "number"} or inner == {"type": ["string", "null"]}
            assert is_plain or inner.get("description"), f"{path}/{name}"
        for name, inner in part.items():
            described(inner, f"{path}/{name}")


def test_it_is_a_schema_and_every_key_has_a_meaning():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    described(SCHEMA["$defs"])


@pytest.mark.parametrize("name", sorted(TYPES.keys() - MIXED_IN))
def test_it_knows_every_key_of_the_code(name):
    kind, part = TYPES[name], SCHEMA["$defs"][name]
    assert set(part["properties"]) == set(typing.get_type_hints(kind))
    assert part["additionalProperties"] is False
    assert set(part["required"]) | ABSENT.get(name, set()) == set(kind.__required_keys__)


@pytest.fixture
def judged(checkpoint, clip, localize, tmp_path, capsys):  # noqa: F811
    """Judge a video, as the file and the line of --json, both of which the schema holds for."""

    def judge(*flags, path=clip, name="v"):
        out = tmp_path / name
        localize(path, "--model", checkpoint, "--out", out, "--json", *flags)
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        LINE.validate(line)
        if (out / path.name).is_dir():
            found = read_json(out / path.name / "verdict.json")
            FILE.validate(found)
            if line["verdict"]:
                assert found == line | {key: found[key] for key in ABSENT["Verdict"]}
            return found
        return line

    return judge


def test_verdicts_of_every_kind(judged, clip, tmp_path, monkeypatch):  # noqa: F811
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([{"file": clip.name, "fake_periods": [[0.5, 1.5]]}]))
    full = judged("--labels", labels, "--check_maps", name="full")
    brief = judged("--brief", "--threshold", "99999", name="brief")
    assert full["version"] == brief["version"] == schema.VERSION == 2
    assert full["verdict"] and brief["verdict"] and "stress" not in full and "map_check" in full
    silent = judged("--brief", path=write_clip(tmp_path / "silent.mp4", face_pictures(60)), name="silent")
    assert (silent["verdict"], silent["stage"]) == (None, "audio") and "identity" not in silent
    monkeypatch.setattr(probe, "COMMAND", (sys.executable, "-c", "import os; os.abort()"))
    dead = judged("--brief", name="dead")
    assert (dead["verdict"], dead["stage"]) == (None, "crash") and dead["identity"]["brief"] is True


def test_what_is_no_verdict(judged):
    found = judged("--brief")
    for change in (
        {"version": 1},
        {"verdict": "fake?"},
        {"verdict": None},
        {"mds": "1"},
        {"surprise": 1},
        {"file_facts": found["file_facts"] | {"sha256": "so"}},
        {"file_facts": found["file_facts"] | {"surprise": 1}},
    ):
        assert not FILE.is_valid(found | change), change
    for key in found:
        assert not FILE.is_valid({name: value for name, value in found.items() if name != key}), key
    assert not LINE.is_valid(found)  # it has curves
    deep = copy.deepcopy(found)
    deep["tracks"][0]["surprise"] = 1
    assert not FILE.is_valid(deep)


def test_a_verdict_in_other_versions(judged, clip, checkpoint, localize, tmp_path):  # noqa: F811
    """The file's own story and --stress on the page; what was asked for less is answered by it."""
    video = tmp_path / "case" / HOSTILE
    video.parent.mkdir()
    shutil.copyfile(clip, video)
    found = judged("--stress", "--stride_s", "1", path=video, name="stressed")
    ways = found["stress"]["ways"]
    assert len(ways) == 5 and found["stress"]["n_held"] == 5 and all(way["reason"] is None for way in ways)
    assert 0.9 * found["mds"] < found["stress"]["mds_low"] <= found["stress"]["mds_high"] < 1.1 * found["mds"]
    assert found["seconds_spent"]["stress"] > 0 and found["identity"]["stress"] is True
    text = next(line for line in found["words"] if "judged again" in line)
    assert "in 5 ways" in text and "held in all." in text
    page = (tmp_path / "stressed" / HOSTILE / "report.html").read_text()
    rows = re.findall(
        r"<tr>\s*<td>([^<]*)</td>\s*<td class=\"n\">[\d.]+</td>\s*<td>([^<]*)</td>\s*</tr>", page
    )
    assert rows == [(way["way"], found["side"]) for way in ways] and "written again as" in page
    facts = found["file_facts"]
    assert facts["sha256"] in page and "x264 - core" in page and "most often" not in page  # one key frame
    assert str(tmp_path) not in page and str(tmp_path) not in json.dumps(found)
    assert facts["command"].startswith("localize.py ") and "--stride_s 1" in facts["command"]
    written = (tmp_path / "stressed" / HOSTILE / "verdict.json").stat().st_mtime_ns
    again = judged("--stride_s", "1", path=video, name="stressed")  # asks for less
    assert again["file_facts"]["date_utc"] == facts["date_utc"]
    assert (tmp_path / "stressed" / HOSTILE / "verdict.json").stat().st_mtime_ns == written
    plain = judged("--stride_s", "1", "--brief", path=video, name="plain")
    assert "stress" not in plain and plain["mds"] == found["mds"]
    assert "stress" in judged("--stride_s", "1", "--brief", "--stress", path=video, name="plain")
