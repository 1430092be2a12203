"""Tables, records and names as spreadsheets, other programs and accidents leave them: read, or one line that
says why not.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import model
from dataset import read_index
from evaluation.span_files import read_labels, read_proposals
from evaluation.tables import read_scores, read_summary
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import ROOT, FixedDetector, load_script
from utils.chunkfiles import read_record, write_wav
from utils.cli import UserError
from utils.jsonfiles import parse_json
from utils.tables import read_frame, read_table, write_table
from verdicts.results import (
    OFFSET_COLUMNS,
    SUMMARY_COLUMNS,
    check_out,
    check_target,
    read_verdict,
    write_results,
)
from verdicts.schema import VERSION


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", face_pictures(60), sound=tone(2.4))


def one_line(error: Exception) -> bool:
    return "\n" not in str(error) and "Error" not in str(error) and "Errno" not in str(error)


# tables out of a spreadsheet

SPREADSHEETS = {
    "byte order mark": lambda text: "\ufeff" + text,
    "line ends": lambda text: text.replace("\n", "\r\n"),
    "trailing commas": lambda text: (
        text.splitlines()[0] + "\n" + "".join(f"{line},,\n" for line in text.splitlines()[1:])
    ),
    "one trailing comma": lambda text: (
        text.splitlines()[0] + "\n" + "".join(f"{line},\n" for line in text.splitlines()[1:])
    ),
    "trailing commas everywhere": lambda text: "".join(f"{line},,\n" for line in text.splitlines()),
    "all of it": lambda text: "\ufeff" + "".join(f"{line},,\r\n" for line in text.splitlines()),
}


@pytest.fixture
def laid_out(tmp_path, clip) -> Path:
    """A data set laid out by collect.py, with a chunk of each video."""
    root, out = tmp_path / "data", tmp_path / "out"
    for label in ("real", "fake"):
        for i in range(2):
            (root / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, root / label / f"{i}.mp4")
    load_script("collect").main(
        ["--dataset", "folder", "--root", str(root), "--split", "50:50", "--out_dir", str(out)]
    )
    import cv2

    for split in ("train", "test"):
        for row in read_table(out / split / "index.csv"):
            chunk = out / split / "pytmp" / row["video"] / "00000"
            chunk.mkdir(parents=True)
            for i in range(30):
                cv2.imwrite(str(chunk / f"{i:06d}.jpg"), np.zeros((32, 32, 3), np.uint8))
            write_wav(chunk.with_name("00000.wav"), np.zeros(48_000, np.int16))
    return out


def respell(path: Path, how: str) -> None:
    path.write_bytes(SPREADSHEETS[how](path.read_text(encoding="utf-8")).encode())


@pytest.mark.parametrize("how", SPREADSHEETS)
def test_tables_that_a_spreadsheet_has_saved(laid_out, scripts, capsys, how):
    collect, indices = (
        load_script("collect"),
        [str(laid_out / split / "index.csv") for split in ("train", "test")],
    )
    before = [read_table(Path(path)) for path in indices]
    for path in indices:
        respell(Path(path), how)
    assert [read_table(Path(path)) for path in indices] == before
    assert collect.main(["--check", *indices]) == 0
    scripts["write_csv"].main(["--out_dir", str(laid_out)])
    assert "are not in" not in capsys.readouterr().out
    index = read_index(laid_out, "train")
    assert "source" in index and set(index.source) == {"folder"}
    respell(laid_out / "train_split.csv", how)
    again = read_index(laid_out, "train")
    assert again[index.columns].to_dict("list") == index.to_dict("list")
    assert read_labels(laid_out / "train" / "index.csv")
    table = laid_out / "scores.csv"
    write_table(table, ("video", "label", "mds"), [("real/a", 1, 0.5), ("fake/b", 0, 1.5)])
    respell(table, how)
    scores = read_scores(table)
    assert list(scores.video) == ["real/a", "fake/b"] and list(scores.mds) == [0.5, 1.5]


def test_rows_of_other_lengths(laid_out, scripts):
    path = laid_out / "train" / "index.csv"
    text, collect = path.read_text(), load_script("collect")
    for line, words in (
        ("real/x", "row 3 lacks its video or its source_file"),
        (",1", "row 3 lacks"),
        ("a," * 30, "more cells"),
    ):
        path.write_text(f"{text}{line}\n")
        with pytest.raises(UserError, match=words) as caught:
            collect.main(["--check", str(path), str(laid_out / "test" / "index.csv")])
        assert one_line(caught.value)
    path.write_text("label,file\n1,x\n")
    with pytest.raises(UserError, match="has rows without a video; run collect.py again"):
        scripts["write_csv"].main(["--out_dir", str(laid_out)])
    path.write_text("video,original\nreal/1,a,b,c\n")
    with pytest.raises(UserError, match="line 2 has more cells than the header"):
        scripts["write_csv"].main(["--out_dir", str(laid_out)])
    path.write_text("video,original\nreal/1,a,b\n")
    with pytest.raises(UserError, match="more cells"):
        read_frame(path)


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (("1", "fake"), "'fake'"),
        (("1", "0.5"), "[0.5]"),
        (("True", "False"), "[False, True]"),
        (("1", ""), "''"),
        (("1", "x" * 5000), "x'"),
        (("1", "9" * 400), "9'"),
        (("1", "nan"), "nan"),
        (("1.0", "0"), None),
        ((" 1", "0 "), None),
    ],
)
def test_labels_of_mixed_types(tmp_path, labels, wrong):
    for columns in (("video", "label", "track", "chunk", "path", "start_s"), ("video", "label", "mds")):
        is_index = "path" in columns
        path = tmp_path / ("train_split.csv" if is_index else "scores.csv")
        rest = (0, "c", "x", 0) if is_index else (0.5,)
        write_table(path, columns, [(f"v{i}", label, *rest) for i, label in enumerate(labels)])
        read = (lambda: read_index(tmp_path, "train")) if is_index else (lambda path=path: read_scores(path))
        if wrong is None:
            assert list(read().label) == [1, 0] and read().label.dtype == np.int64
            continue
        with pytest.raises(UserError, match=r"has labels .*, expected 0 \(fake\) and 1 \(real\)") as caught:
            read()
        assert wrong in str(caught.value) and one_line(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("column", ["track", "start_s"])
@pytest.mark.parametrize("value", ["x", "", "inf", "9" * 400])
def test_numbers_of_an_index(tmp_path, column, value):
    row = {"video": "v", "label": 1, "track": 0, "chunk": "c", "path": "x", "start_s": 0} | {column: value}
    write_table(tmp_path / "train_split.csv", list(row), [list(row.values())])
    with pytest.raises(UserError, match=f"has a {column} that is no number"):
        read_index(tmp_path, "train")


# JSON

ODD_JSON = {
    "brackets": ("[" * 100_000, "nested too deeply"),
    "braces": ('{"a":' * 100_000, "nested too deeply"),
    "closed brackets": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "digits": ("9" * 400, "a number of 400 digits"),
    "more digits": ("9" * 10_000, "a number of 10000 digits"),
    "half a character": ('"\\ud800"', "half a character"),
    "bytes": (b"\xff\xfe\x00", "decode"),
    "cut": ('{"a": ', "Expecting"),
}


@pytest.mark.parametrize("kind", ODD_JSON)
def test_odd_json(tmp_path, kind):
    text, words = ODD_JSON[kind]
    data = text if isinstance(text, bytes) else text.encode()
    found = []
    for value in (data, b'{"a.mp4": ' + data + b"}", b"[" + data + b"]"):
        path = tmp_path / "x.json"
        path.write_bytes(value)
        with pytest.raises(ValueError, match=words):
            parse_json(value)
        (tmp_path / "video.json").write_bytes(value)
        assert read_record(tmp_path) is None
        thread = threading.Thread(
            target=lambda: found.append(read_record(tmp_path))
        )  # whose stack is smaller
        thread.start()
        thread.join()
        for read in (read_labels, read_proposals, read_summary):
            with pytest.raises(UserError) as caught:
                read(path)
            assert "\n" not in str(caught.value)
    assert found == [None] * 3


def test_json_of_names_that_are_no_text_is_read():
    assert parse_json(b'\xef\xbb\xbf{"a": "\\udcff", "b": "\\ud83d\\ude00"}') == {
        "a": "\udcff",
        "b": "\U0001f600",
    }


RECORDS = {
    "dfdc": ("metadata.json", {"a.mp4": {"label": "FAKE", "original": "b.mp4"}}),
    "dfdc_preview": (
        "dataset.json",
        {"a.mp4": {"label": "fake", "set": "train", "target_id": 1, "swapped_id": 2}},
    ),
    "lavdf": (
        "metadata.json",
        [
            {
                "file": "a.mp4",
                "split": "train",
                "fake_periods": [[0, 1]],
                "modify_video": True,
                "modify_audio": False,
                "duration": 2.0,
                "original": "b.mp4",
                "audio_channels": 1,
            }
        ],
    ),
    "avdeepfake1m": (
        "train_metadata.json",
        [
            {
                "file": "train/x/a.mp4",
                "modify_type": "both_modified",
                "fake_segments": [[0, 1]],
                "video_frames": 50,
                "audio_model": "v",
                "original": "b.mp4",
            }
        ],
    ),
}
VALUES = [
    "\ud800",
    10**400,
    -1,
    [],
    {},
    None,
    True,
    "x\ny",
    "\x1b[2J",
    "=1",
    1e300,
    "../x",
    "a" * 5000,
    [[0, 10**400]],
    [["a", 1]],
]


@pytest.mark.parametrize("dataset", RECORDS)
def test_any_value_in_any_field_of_a_data_sets_records(tmp_path, clip, dataset, capsys):
    collect = load_script("collect")
    name, records = RECORDS[dataset]
    (first,) = records.values() if isinstance(records, dict) else records
    root = tmp_path / "d"
    for folder in (root, root / "train" / "x"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / "a.mp4")
    n_refused = 0
    flags = ["--dataset", dataset, "--root", str(root), "--out_dir", str(tmp_path / "out"), "--dev", "train"]
    if dataset == "dfdc":
        for split in ("train", "test"):
            (tmp_path / f"{split}.txt").write_text("a\n")
            flags += [f"--{split}_list", str(tmp_path / f"{split}.txt")]
    for field in first:
        for value in VALUES:
            odd = first | {field: value}
            text = json.dumps({"a.mp4": odd} if isinstance(records, dict) else [odd])
            (root / name).write_text(text)
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            try:
                collect.main(flags)
            except UserError as error:
                n_refused += 1
                assert one_line(error), (field, value)
            else:
                assert (
                    read_table(tmp_path / "out" / "train" / "index.csv")
                    or (tmp_path / "out" / "missing.csv").exists()
                )
    assert n_refused >= 5
    assert "\x1b" not in capsys.readouterr().out


# verdicts

OFFSET = {
    "offset_ms": 0.0,
    "confidence": 1,
    "distance": 0.5,
    "distance_unmoved": 0.5,
    "judged_s": 5.0,
    "stands_out": True,
    "agrees_if_moved": False,
}
ABSENT = object()  # in place of a key's value
TRACK = {"track": 0, "speaks": True, "offset": OFFSET}
VERDICT = {
    "version": VERSION,
    "file": "a.mp4",
    "words": ["so"],
    "grounds": ["as"],
    "verdict": "undecided",
    "reasons": [{"code": "no_held_out", "text": "for"}],
    "side": "below the threshold",
    "mds": 0.5,
    "threshold": 1.0,
    "polarity": "x",
    "track": 0,
    "spans": [],
    "modalities": {"video": {"p_fake": 0.5}, "audio": {"p_fake": 0.5}},
    "tracks": [TRACK, {**TRACK, "track": 1, "offset": None}],
    "offset": OFFSET,
    "proposals": [[1, 0.0, 1.0]],
    "curves": [],
    "coverage": {"judged_s": 1.0, "duration_s": 1.0, "no_opinion": []},
    "seconds_spent": {"faces": 1.0},
    "identity": {},
}


def test_a_verdict_of_another_version_is_in_no_table(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    (tmp_path / "a.mp4" / "verdict.json").write_text(json.dumps(VERDICT | {"version": VERSION + 1}))
    write_results(tmp_path, {}, with_offsets=True)
    assert read_table(tmp_path / "summary.csv") == read_table(tmp_path / "offsets.csv") == []


def test_a_table_of_another_program_stays(tmp_path):
    """Beside a summary.csv of localize.py's own, too."""
    write_table(tmp_path / "summary.csv", SUMMARY_COLUMNS, [])
    check_out(tmp_path)
    (tmp_path / "offsets.csv").write_text("name,offset\na,1\n")
    with pytest.raises(UserError, match="offsets.csv exists and was not written by localize.py"):
        check_out(tmp_path)
    write_table(tmp_path / "offsets.csv", OFFSET_COLUMNS, [])
    respell(tmp_path / "offsets.csv", "all of it")
    check_out(tmp_path)


def test_what_could_not_be_judged_stays_in_the_tables(tmp_path):
    """Also where a spreadsheet has put the columns in another order."""
    write_table(tmp_path / "summary.csv", ("reason", "stage", "file"), [("why", "crash", "b.mp4")])
    write_table(tmp_path / "offsets.csv", ("reason", "video"), [("crash: why", "b.mp4")])
    (tmp_path / "a.mp4").mkdir()
    (tmp_path / "a.mp4" / "verdict.json").write_text(json.dumps(VERDICT))
    write_results(tmp_path, {}, with_offsets=True)
    table, offsets = (read_table(tmp_path / name) for name in ("summary.csv", "offsets.csv"))
    assert [(row["file"], row["stage"], row["reason"]) for row in table] == [
        ("a.mp4", "", ""),
        ("b.mp4", "crash", "why"),
    ]
    assert [(row["video"], row["track"], row["speaks"], row["reason"]) for row in offsets] == [
        ("a.mp4", "0", "yes", ""),
        ("a.mp4", "1", "yes", "too little sound to move"),
        ("b.mp4", "", "", "crash: why"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        *(
            {key: value}
            for key in (
                "file",
                "words",
                "grounds",
                "verdict",
                "reasons",
                "side",
                "mds",
                "spans",
                "modalities",
                "proposals",
                "coverage",
                "seconds_spent",
                "identity",
            )
            for value in (None, 7 if key != "mds" else "7", [1])
        ),
        {"verdict": []},
        {"verdict": "maybe"},
        {"reasons": []},
        {"reasons": [{"code": "no_held_out"}]},
        {"spans": [{"start_s": "x", "end_s": 1}]},
        {"proposals": [[1, 2]]},
        {"words": [1]},
        {"seconds_spent": {"faces": "x"}},
        {"coverage": {}},
        {"modalities": {"video": {"p_fake": 0.5}}},
        {"offset": 7},
        {"offset": OFFSET | {"offset_ms": "0"}},
        {"offset": OFFSET | {"stands_out": 1}},
        {"tracks": [1]},
        {"tracks": None},
        {"tracks": [TRACK | {"track": "0"}]},
        {"tracks": [TRACK | {"speaks": None}]},
        {"tracks": [TRACK | {"offset": {}}]},
        {"offset": ABSENT},
        {"tracks": ABSENT},
    ],
    ids=lambda change: str({key: "absent" if value is ABSENT else value for key, value in change.items()}),
)
def test_a_foreign_verdict_is_none(tmp_path, change):
    folder = tmp_path / "a.mp4"
    folder.mkdir()
    (folder / "verdict.json").write_text(json.dumps(VERDICT))
    assert read_verdict(folder) == VERDICT
    write_results(tmp_path, {}, with_offsets=True)
    assert len(read_table(tmp_path / "summary.csv")) == 1
    assert [row["offset_ms"] for row in read_table(tmp_path / "offsets.csv")] == ["0.0", ""]
    changed = {key: value for key, value in (VERDICT | change).items() if value is not ABSENT}
    (folder / "verdict.json").write_text(json.dumps(changed))
    assert read_verdict(folder) is None
    write_results(tmp_path, {}, with_offsets=True)
    assert read_table(tmp_path / "offsets.csv") == []
    assert (
        read_table(tmp_path / "summary.csv") == []
        and json.loads((tmp_path / "proposals.json").read_text()) == {}
    )
    with pytest.raises(UserError, match="is no result of localize.py"):
        check_target(folder)


# names and folders


@pytest.fixture
def checkpoint(tiny, tmp_path):
    config = {"net": "resnet18", "img_dim": 32, "final_dim": 16, "dropout": 0.5, "distance": "authors"}
    torch.manual_seed(0)
    path = tmp_path / "model.pth.tar"
    torch.save(
        {"config": config, "state_dict": model.TwoStreamNet(**config).state_dict(), "threshold": 1.0}, path
    )
    return path


@pytest.fixture
def localize(monkeypatch):
    script = load_script("localize")
    monkeypatch.setattr("verdicts.detection.build_detector", lambda *_: FixedDetector())
    return lambda *arguments: script.main([*map(str, arguments), "--device", "cpu", "--detector", "yunet"])


NAMES = ["a\n\x1b[31mred\x07\t\r.mp4", os.fsdecode(b"\xff\xfe\n{{ 7*7 }}$x^2_$") + "<script>\u202egnp.mp4"]


def test_names_with_line_breaks_and_control_characters(
    tmp_path, clip, scripts, fixed_detector, monkeypatch, capsys, checkpoint, localize
):
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    root, out = tmp_path / "da\nta", tmp_path / "o\nut"
    for label in ("real", "fake"):
        (root / label).mkdir(parents=True)
        for name in NAMES:
            shutil.copy(clip, root / label / name)
    (root / "real" / "no\nvideo.mp4").write_text("x")
    flags = ["--dataset", "folder", "--root", str(root), "--out_dir", str(out)]
    load_script("collect").main([*flags, "--split", "50:50"])
    lists = [out / f"split_{split}.txt" for split in ("train", "test")]
    n_listed = sum(len(path.read_text(errors="surrogateescape").splitlines()) for path in lists)
    rows = [row for split in ("train", "test") for row in read_table(out / split / "index.csv")]
    assert len(rows) == 2 * len(NAMES) + 1 and n_listed <= len(rows)
    for split in ("train", "test"):
        scripts["pre-process"].main(["--out_dir", str(out / split), "--workers", "0"])
    failures = [row for split in ("train", "test") for row in read_table(out / split / "failures.csv")]
    assert [row["stage"] for row in failures] == ["open"]
    scripts["write_csv"].main(["--out_dir", str(out)])
    videos = {video for split in ("train", "test") for video in read_index(out, split).video}
    assert videos == {row["video"] for row in rows} - {row["video"].rsplit(".", 1)[0] for row in failures}
    status = localize(
        root / "real", "--model", checkpoint, "--out", tmp_path / "ver\ndicts", "--stride_s", "1"
    )
    printed = capsys.readouterr()
    assert status == 1 and len(read_table(tmp_path / "ver\ndicts" / "summary.csv")) == len(NAMES) + 1
    assert not any(c in printed.out for c in "\x1b\x07\u202e")
    pages = [path.read_text() for path in (tmp_path / "ver\ndicts").rglob("report.html")]
    assert len(pages) == len(NAMES) and not any(c in page for page in pages for c in "\x1b\x07\u202e")


def test_a_folder_that_cannot_be_written(tmp_path, clip, checkpoint, localize, monkeypatch):
    with pytest.raises(UserError, match=r"--out /proc/none/x can't be made \(.*\); name a folder") as caught:
        localize(clip, "--model", checkpoint, "--out", "/proc/none/x")
    assert one_line(caught.value)
    before = Path.mkdir

    def refuse(self, *arguments, **options):
        if self.name == ".work":
            raise PermissionError(13, "Permission denied", str(self))
        return before(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        UserError, match=r"can't write to .*out \(Permission denied\); name another --out"
    ) as caught:
        localize(clip, "--model", checkpoint, "--out", tmp_path / "out")
    assert one_line(caught.value)


@pytest.mark.parametrize("script", ["write_csv", "collect"])
def test_the_systems_words_come_without_numbers(tmp_path, script):
    (tmp_path / "d" / "real").mkdir(parents=True)
    (tmp_path / "train" / "pytmp").mkdir(parents=True)
    (tmp_path / "d" / "real" / "a.mp4").write_text("x")
    (tmp_path / "file").write_text("x")
    collecting = [
        "--dataset",
        "folder",
        "--root",
        tmp_path / "d",
        "--split",
        "1:1",
        "--out_dir",
        tmp_path / "file" / "x",
    ]
    flags = {"write_csv": ["--out_dir", tmp_path / "a\nb"], "collect": collecting}
    command = [sys.executable, str(ROOT / f"{script}.py"), *map(str, flags[script])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Errno" not in done.stderr, done.stderr


def test_csv_of_a_table_is_what_programs_read(tmp_path):
    write_table(tmp_path / "t.csv", ("a", "b"), [("1", "2")])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", "2"]]
