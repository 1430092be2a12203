"""Whole videos written again: nothing else changes, nothing moves, and a run goes on where it was stopped."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import perturb
from perturbations.kinds import DELAYS_MS, KINDS
from perturbations.rewrite import Task, rewrite_video
from tests.clips import face_pictures, retime, set_rotation, tone, write_clip
from tests.conftest import ROOT, FixedDetector
from tests.perturbations.test_changes import psnr_db
from utils.cli import UserError
from utils.media import open_source
from utils.pictures import to_rgb

FACES = face_pictures(40, 112)
NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 70_560)).astype(np.float32)  # 1.6 s at 44.1 kHz


def watch(path: Path) -> tuple[list[np.ndarray], list[int], int, np.ndarray]:
    """Pictures, for how many output frames each stands, where the sound begins in samples, and the sound."""
    with open_source(path) as film:
        shown = [(to_rgb(frame), n) for frame, n in film.frames()]
        start = film.sound.start * 48_000
        length = round((film.sound.end - film.sound.start) * 48_000)
        sound, n_missing = film.sound.read(round(start), length)
        assert n_missing == 0
    return [picture for picture, _ in shown], [n for _, n in shown], round(start), sound


def rewrite(source: Path, kind: str, level: int) -> tuple[Path, list[str]]:
    """Write a video again; where it lies, and the warnings."""
    target = source.parent / "again" / f"{kind}_{level}" / f"{source.stem}.mp4"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    result = rewrite_video(Task(source, target, kind, KINDS[kind], level))
    assert result.status == "done", result
    return target, result.warnings


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", FACES, sound=NOISE)


def packets(path: Path, kind: str) -> list[tuple]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        first = None
        found = []
        for packet in container.demux(stream):
            if packet.dts is not None:
                first = packet.dts if first is None else first
                found.append((float((packet.dts - first) * packet.time_base), bytes(packet)))
    return found


MADE = {  # videos of every sort: options of `write_clip`
    "b-frames": {"codec_options": {"preset": "medium"}},
    "late sound": {"sound_start_s": 0.1234},
    "30 fps": {"fps": 30},
    "30000/1001 fps": {"fps": Fraction(30000, 1001)},
    "variable rate": {"times_s": list(np.cumsum([0.04, 0.05, 0.02, 0.09] * 10))},
    "mpeg4, pcm": {"codecs": ("mpeg4", "pcm_s16le"), "suffix": ".mkv"},
    "vp9, opus": {"codecs": ("libvpx-vp9", "libopus"), "suffix": ".webm", "rate_hz": 48_000},
    "odd size": {"pix_fmt": "yuv444p", "odd": True},
}


@pytest.mark.parametrize("name", MADE)
def test_nothing_moves(name, tmp_path):
    made = dict(MADE[name])
    path, is_odd = tmp_path / f"v{made.pop('suffix', '.mp4')}", made.pop("odd", False)
    pictures = [np.ascontiguousarray(face[:111, :109]) for face in FACES] if is_odd else FACES
    sound = NOISE if made.get("rate_hz") is None else NOISE[:, :63_360]
    source = write_clip(path, pictures, sound=sound, **made)
    shown, counts, start, sound = watch(source)
    if start < 0:  # what is heard before the first picture is left out
        start, sound = 0, sound[-start:]
    for kind, level in (("none", 0), ("contrast", 1), ("late", 1)):
        target, _ = rewrite(source, kind, level)
        again, counts_again, start_again, sound_again = watch(target)
        assert (counts_again, start_again) == (counts, start), kind
        assert [a.shape for a in again] == [b.shape for b in shown]
        if kind == "late":
            assert all((a == b).all() for a, b in zip(again, shown, strict=True))
        else:
            assert (sound_again == sound).all(), kind


def test_the_control_leaves_what_is_seen_and_heard(clip):
    shown, counts, start, sound = watch(clip)
    target, warnings = rewrite(clip, "none", 0)
    again, counts_again, start_again, sound_again = watch(target)
    assert not warnings and (counts_again, start_again) == (counts, start)
    assert min(psnr_db(a, b) for a, b in zip(again, shown, strict=True)) > 38
    assert (sound_again == sound).all()
    assert packets(target, "video") != packets(clip, "video")


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if None in (kind.picture, kind.sound)])
def test_what_is_not_perturbed_is_copied(kind, clip):
    target, warnings = rewrite(clip, kind, 3)
    assert not warnings
    copied, changed = ("audio", "video") if KINDS[kind].picture else ("video", "audio")
    assert packets(target, copied) == packets(clip, copied)
    assert [data for _, data in packets(target, changed)] != [data for _, data in packets(clip, changed)]


@pytest.mark.parametrize("ms", [*DELAYS_MS, *(-ms for ms in DELAYS_MS)])
def test_lag_is_exact_in_the_file(ms, clip):
    _, counts, start, sound = watch(clip)
    kind, n = "late" if ms > 0 else "early", abs(ms) * 48
    target, _ = rewrite(clip, kind, DELAYS_MS.index(abs(ms)) + 1)
    _, counts_again, start_again, heard = watch(target)
    assert (counts_again, start_again, len(heard)) == (counts, start, len(sound))
    spectra = [np.fft.rfft(samples.astype(float), 2 * len(sound)) for samples in (heard, sound)]
    lag = int(np.fft.irfft(spectra[0] * np.conj(spectra[1])).argmax())
    assert (lag if ms > 0 else lag - 2 * len(sound)) == ms * 48
    silent, kept = (heard[:n], heard[n:]) if ms > 0 else (heard[-n:], heard[:-n])
    assert not silent.any() and (kept == (sound[:-n] if ms > 0 else sound[n:])).all()


def test_noise_is_still_there_in_the_file(tmp_path):
    grey = [np.full((112, 112, 3), 128, np.uint8)] * 4
    source = write_clip(tmp_path / "a.mp4", grey, sound=NOISE[:, :7056])
    shares, left = np.array([0.299, 0.587, 0.114]), []
    for level, variance in KINDS["noise"].strengths.items():
        brightness = np.array(watch(rewrite(source, "noise", level)[0])[0]) @ shares / 255
        left.append(brightness.var() / (variance * np.square(shares).sum()))
    assert min(left) > 0.8 and max(left) < 1.05  # colours are coded at half the resolution


def test_h264_has_its_crf(clip):
    shown, left, sizes = watch(clip)[0], [], []
    for level, crf in KINDS["h264"].strengths.items():
        target, _ = rewrite(clip, "h264", level)
        assert f"crf={crf}.0".encode() in target.read_bytes()  # x264's own words
        left.append(np.mean([psnr_db(a, b) for a, b in zip(watch(target)[0], shown, strict=True)]))
        sizes.append(sum(len(data) for _, data in packets(target, "video")))
    assert left == sorted(left, reverse=True) and sizes == sorted(sizes, reverse=True)
    assert len(set(left)) == len(set(sizes)) == 5


def test_aac_has_its_bit_rate(clip):
    _, _, start, sound = watch(clip)
    snr_db = []
    for level, kbit_s in KINDS["aac"].strengths.items():
        target, _ = rewrite(clip, "aac", level)
        bits = 8 * sum(len(data) for _, data in packets(target, "audio")) / (len(sound) / 48_000)
        assert bits == pytest.approx(500 * kbit_s, rel=0.1)  # of one channel
        _, _, start_again, heard = watch(target)
        assert start_again <= start and len(heard) >= len(sound)
        heard = heard[start - start_again :][: len(sound)].astype(float)
        spectra = [np.fft.rfft(samples, 2 * len(sound)) for samples in (heard, sound.astype(float))]
        assert np.fft.irfft(spectra[0] * np.conj(spectra[1])).argmax() == 0
        snr_db.append(10 * np.log10(np.square(sound, dtype=float).sum() / np.square(heard - sound).sum()))
    assert snr_db == sorted(snr_db, reverse=True) and snr_db[0] > snr_db[-1] + 3


@pytest.mark.parametrize("kind", ["noise", "blocks", "sound_noise", "reverb", "h264"])
def test_the_same_bytes_each_time(kind, clip, tmp_path):
    first, second = (write_clip(tmp_path / name / "a.mp4", FACES[:5], sound=NOISE[:, :9000]) for name in "ab")
    other = tmp_path / "other.mp4"
    other.write_bytes(first.read_bytes())
    made = [rewrite(source, kind, 2)[0].read_bytes() for source in (first, second, other)]
    assert made[0] == made[1] and (kind == "h264") == (made[0] == made[2])


@pytest.mark.parametrize("kind", ["late", "contrast"])
def test_a_turned_video_is_seen_upright(kind, tmp_path):
    source = write_clip(tmp_path / "a.mp4", [face[:, :80].copy() for face in FACES[:9]], sound=tone(0.4))
    set_rotation(source, 90)
    again, shown = watch(rewrite(source, kind, 1)[0])[0], watch(source)[0]
    assert shown[0].shape == (80, 112, 3)
    assert min(psnr_db(a, b) for a, b in zip(again, shown, strict=True)) > 20


@pytest.mark.parametrize("kind", ["none", "blur", "late"])
def test_one_picture_is_enough(kind, tmp_path):
    source = write_clip(tmp_path / "a.mp4", FACES[:1], sound=tone(0.5))
    before, again = watch(source), watch(rewrite(source, kind, min(KINDS[kind].strengths))[0])
    assert again[1] == before[1] == [1] and again[2] == before[2] and len(again[3]) == len(before[3])


def test_a_stream_that_mp4_does_not_take_is_coded_again(tmp_path):
    codecs = ("msmpeg4v3", "adpcm_ima_wav")
    source = write_clip(tmp_path / "a.avi", FACES, sound=NOISE, codecs=codecs)
    shown, counts, start, sound = watch(source)
    for kind, word in (("late", "picture"), ("blur", "sound")):
        target, warnings = rewrite(source, kind, 2)
        assert warnings == [f"its {word} can't be copied as it is and is encoded again"]
        again, counts_again, start_again, heard = watch(target)
        assert (counts_again, start_again) == (counts, start)
        if kind == "late":
            assert min(psnr_db(a, b) for a, b in zip(again, shown, strict=True)) > 35
        else:
            assert (heard == sound).all()


def test_pauses_of_the_picture_stay(tmp_path):
    plain = write_clip(tmp_path / "plain.mp4", FACES, sound=NOISE)
    jump = retime(
        plain, tmp_path / "a.mp4", lambda kind, i, t: t + (1.5 if kind == "video" and i > 20 else 0)
    )
    counts = watch_counts(jump)
    assert any(is_none for is_none, _ in counts)
    for kind in ("none", "late"):
        assert watch_counts(rewrite(jump, kind, min(KINDS[kind].strengths))[0]) == counts


def watch_counts(path: Path) -> list[tuple[bool, int]]:
    with open_source(path) as film:
        return [(frame is None, n) for frame, n in film.frames()]


# a split


@pytest.fixture
def split(tmp_path) -> Path:
    for label, names in (("real", ("a", "b")), ("fake", ("a", "c.x"))):
        for name in names:
            write_clip(tmp_path / "test" / label / f"{name}.mp4", FACES[:8], sound=NOISE[:, :14_112])
    return tmp_path / "test"


def run(*arguments) -> int:
    return perturb.main([str(argument) for argument in arguments] + ["--workers", "0"])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_flags_that_are_wrong(split, capsys):
    for flags in (["--kind", "blurr"], ["--kind", "blur", "--level", "6"], ["--level", "1"]):
        with pytest.raises(SystemExit) as stop:
            run("--out_dir", split, *flags)
        assert stop.value.code == 2
    with pytest.raises(UserError, match="no video in"):
        run("--out_dir", split / "real", "--kind", "blur")
    args = perturb.parse_args(["--out_dir", "x", "--kind", "all", "--level", "all"])
    assert args.kind == list(KINDS) and args.level == [1, 2, 3, 4, 5]
    assert sum(len(perturb.levels_of(kind, args.level)) for kind in args.kind) == 1 + 14 * 5


def test_videos_that_fail_are_named_and_the_others_are_done(split, capsys):
    write_clip(split / "real" / "mute.mp4", FACES[:8])
    (split / "fake" / "broken.mp4").write_bytes(b"no video")
    to = split.parent / "test_perturbed"
    assert run("--out_dir", split, "--kind", "blur", "late", "--level", 2) == 1
    failed = rows(to / "failures.csv")
    assert [(row["video"], row["kind"], row["level"], row["stage"]) for row in failed] == [
        ("fake/broken.mp4", "blur", "2", "open"),
        ("fake/broken.mp4", "late", "2", "open"),
        ("real/mute.mp4", "blur", "2", "audio"),
        ("real/mute.mp4", "late", "2", "audio"),
    ]
    for kind in ("blur", "late"):
        found = sorted(
            p.relative_to(to / f"{kind}_2" / "test").as_posix() for p in to.rglob(f"{kind}_2/test/*/*")
        )
        assert found == ["fake/a.mp4", "fake/c.x.mp4", "real/a.mp4", "real/b.mp4"]
    assert len(rows(to / "videos.csv")) == 6
    (split / "real" / "mute.mp4").unlink()
    (split / "fake" / "broken.mp4").unlink()
    assert run("--out_dir", split, "--kind", "blur", "--level", 2) == 0
    assert len(rows(to / "videos.csv")) == 4


def test_annotations_stay_with_their_videos(split):
    write_clip(split / "fake" / "d.avi", FACES[:8], sound=NOISE[:, :14_112], codecs=("mpeg4", "pcm_s16le"))
    header = "video,label,file,original,method,fake_periods"
    table = [header, "real/a,1,real/a.mp4,,,", 'fake/d,0,fake/d.avi,real/a,swap,"[[0.1, 0.2]]"']
    (split / "index.csv").write_text("\n".join(table) + "\n")
    assert run("--out_dir", split, "--kind", "band", "--level", 1, "--to", split.parent / "to") == 0
    own = split.parent / "to" / "band_1" / "test"
    first, second = rows(own / "index.csv")
    assert list(first) == header.split(",") and first["file"] == "real/a.mp4"
    assert (second["video"], second["file"]) == ("fake/d", "fake/d.mp4") and (own / second["file"]).is_file()
    assert second["method"] == "swap" and json.loads(second["fake_periods"]) == [[0.1, 0.2]]


def test_what_is_complete_is_skipped_until_it_changes(split, capsys):
    flags = ("--out_dir", split, "--kind", "saturation", "--level", 5)
    assert run(*flags) == 0
    target = split.parent / "test_perturbed" / "saturation_5" / "test" / "real" / "a.mp4"
    before = target.stat().st_mtime_ns
    assert run(*flags) == 0 and target.stat().st_mtime_ns == before
    time.sleep(0.02)
    write_clip(split / "real" / "a.mp4", FACES[:4], sound=NOISE[:, :7056])
    assert run(*flags) == 0 and target.stat().st_mtime_ns > before
    (split / "real" / "a.mp4").unlink()
    capsys.readouterr()
    assert run(*flags) == 0 and "1 files are of no video of this split" in capsys.readouterr().out


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_the_same_bytes_whatever_memory_held_before(tmp_path):
    write_clip(tmp_path / "test" / "real" / "a.mp4", face_pictures(75, 224), sound=tone(3.0))
    flags = ("--out_dir", tmp_path / "test", "--workers", "0", "--kind", "h264", "resize", "--level", "3")
    for fill in ("1", "170"):
        command = [sys.executable, ROOT / "perturb.py", *flags, "--to", tmp_path / fill]
        subprocess.run(list(map(str, command)), env={**os.environ, "MALLOC_PERTURB_": fill}, check=True)
    found = tree(tmp_path / "170")
    assert len([name for name in found if name.endswith(".mp4")]) == 2
    assert found == tree(tmp_path / "1")


def test_a_killed_run_goes_on(split):
    """Killed with a video half written; the same command ends with the files of a run that was not."""
    flags = ("--out_dir", split, "--kind", "none", "noise", "--level", "1", "2", "3")
    straight, killed = split.parent / "straight", split.parent / "killed"
    assert run(*flags, "--to", straight) == 0
    command = [sys.executable, ROOT / "perturb.py", *flags, "--to", killed, "--workers", "1"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(killed.glob("*/test/*/*.mp4")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    n_done = len(list(killed.glob("*/test/*/*.mp4")))
    assert 0 < n_done < 16
    assert perturb.main([*map(str, flags), "--to", str(killed), "--workers", "1"]) == 0
    assert tree(killed) == tree(straight) and not list(killed.rglob(".work"))


def test_from_a_split_to_the_table(chunk_tree, scripts, tmp_path, monkeypatch, capsys):
    """Written again, pre-processed, indexed, scored by hand; the index says by group what it said before."""
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: FixedDetector())
    to = tmp_path / "to"
    for split in ("real", "fake"):
        (tmp_path / "test" / split).mkdir(parents=True)
        for i in range(2):
            os.link(chunk_tree / "test" / split / f"v{i}.mp4", tmp_path / "test" / split / f"v{i}.mp4")
    table = [
        "video,label,file,method",
        *(f"{k}/v{i},{int(k == 'real')},{k}/v{i}.mp4,m{i}" for k in ("real", "fake") for i in range(2)),
    ]
    (tmp_path / "test" / "index.csv").write_text("\n".join(table) + "\n")
    assert run("--out_dir", tmp_path / "test", "--to", to, "--kind", "none", "early", "--level", "5") == 0
    for own in (to / "none_0", to / "early_5"):
        assert scripts["pre-process"].main(["--out_dir", str(own / "test"), "--workers", "0"]) == 0
        scripts["write_csv"].main(["--out_dir", str(own)])
        index = rows(own / "test_split.csv")
        assert {(row["video"], row["method"]) for row in index} == {
            (f"{k}/v{i}", f"m{i}") for k in ("real", "fake") for i in range(2)
        }
        assert len(index) == 4 * 2
    (to / "none_0" / "scores.csv").write_text(
        "video,label,mds\nreal/v0,1,0.1\nreal/v1,1,0.2\nfake/v0,0,0.3\nfake/v1,0,0.15\n"
    )
    scripts["test"].main(["--robustness", str(to)])
    assert "not scored: early_5" in capsys.readouterr().out
    (level,) = json.loads((to / "robustness.json").read_text())["levels"]
    assert (level["kind"], level["auc"], level["coverage"]) == ("none", 0.75, 1.0)
