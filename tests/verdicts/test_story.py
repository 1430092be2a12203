"""The file's own story: what is told is what was written, and an odd file loses facts, not the verdict."""

import hashlib
import json
import struct
from datetime import datetime

import av
import numpy as np
import pytest

from tests.clips import add_cover_art, face_pictures, retime, tone, write_clip
from utils.boxes import read_boxes, read_edits
from verdicts.story import Packets, command_words, key_frames, tell_story
from verdicts.story_rows import story_rows

FACES = face_pictures(50, 112)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """2 s at 25 fps with a key frame every half second, and another one at 0.6 s."""
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    options = {"preset": "medium", "x264-params": "keyint=12:scenecut=0:bframes=2"}
    return write_clip(path, FACES, sound=tone(2.0), codec_options=options, key_every=12)


def told(path):
    return tell_story(path, path.stat().st_size)


def test_what_is_told_is_what_was_written(clip):
    facts = told(clip)
    video, audio, keys = facts["video"], facts["audio"], facts["key_frames"]
    data = clip.read_bytes()
    assert facts["sha256"] == hashlib.sha256(data).hexdigest() and facts["size_bytes"] == len(data)
    assert facts["container"].split(",")[:2] == ["mov", "mp4"] and facts["read_error"] is None
    assert {"name": "major_brand", "value": "isom"} in facts["tags"]
    assert (video["codec"], video["profile"], video["pixel_format"]) == ("h264", "High", "yuv420p")
    assert (video["width_px"], video["height_px"]) == (112, 112)
    assert (video["declared_packets"], video["found_packets"]) == (50, 50)
    assert (video["declared_fps"], video["found_fps"]) == (25, 25)
    assert (video["declared_s"], video["found_s"], video["start_s"]) == (2, 2, 0)
    assert (video["shortest_ms"], video["longest_ms"]) == (40, 40)
    assert video["encoder_words"].startswith("x264 - core ") and audio["encoder_words"].startswith("Lavc")
    assert (audio["codec"], audio["rate_hz"], audio["channels"]) == ("aac", 44_100, "mono")
    assert audio["declared_packets"] == audio["found_packets"] and audio["hidden_packets"] == 1  # AAC's delay
    with av.open(str(clip)) as container:
        sizes = {kind: [p.size for p in container.demux(**{kind: 0})] for kind in ("video",)}
    n_bits = 8 * sum(sizes["video"])
    assert video["found_kbps"] == pytest.approx(n_bits / 2 / 1000, abs=1e-3)
    assert video["bits_per_pixel"] == pytest.approx(n_bits / (112 * 112 * 50), abs=1e-5)
    intervals = [keys[name] for name in ("declared_interval", "shortest", "longest", "usual", "n_unusual")]
    assert (keys["n"], intervals) == (5, [12, 12, 12, 12, 0])
    assert keys["median_bytes"] > keys["others_median_bytes"]
    assert [edit["stream"] for edit in facts["edits"]] == ["track 0, video", "track 1, audio"]
    assert facts["edits"][0]["media_start_s"] == pytest.approx(0.08) and facts["edits"][0]["rate"] == 1
    assert set(facts["boxes"]) == {"ftyp", "free", "mdat", "moov"}


def test_key_frames_that_are_not_regular():
    """As where a video with a key frame every 4 pictures was cut and coded again with one every 5."""
    packets = Packets(is_key=[i in (0, 5, 10, 13, 18, 23) for i in range(25)], sizes=[10] * 25)
    packets.words = "x264 - core 1 - options: keyint=5 keyint_min=2"
    found = key_frames(packets)
    assert (found["n"], found["declared_interval"], found["usual"]) == (6, 5, 5)
    assert (found["shortest"], found["longest"], found["n_unusual"]) == (3, 5, 1)
    alone = key_frames(Packets(is_key=[True], sizes=[7]))
    assert alone["n"] == 1 and alone["usual"] is alone["n_unusual"] is alone["others_median_bytes"] is None


@pytest.mark.parametrize("version", [0, 1])
def test_edit_lists_by_hand(version):
    line = ">IiI" if version == 0 else ">QqI"
    lines = [(500, -1, 1 << 16), (2000, 9000, 1 << 15)]
    data = struct.pack(">B3xI", version, 2) + b"".join(struct.pack(line, *values) for values in lines)
    pause, shown = read_edits(data, 1000, 90_000)
    assert (pause.duration_s, pause.media_start_s, pause.rate) == (0.5, None, 1)
    assert (shown.duration_s, shown.media_start_s, shown.rate) == (2, 0.1, 0.5)
    assert read_edits(data[:-1], 1000, 90_000) == [pause] and read_edits(data, 0, 90_000) == []
    assert read_edits(data[:7], 1000, 90_000) == []


def test_times_of_creation(clip, tmp_path):
    path, data = tmp_path / "a.mp4", bytearray(clip.read_bytes())
    created = datetime.fromisoformat("2024-02-29T12:00:00+00:00")
    seconds = round((created - datetime.fromisoformat("1904-01-01T00:00:00+00:00")).total_seconds())
    at = data.index(b"mvhd") + 8  # version and flags
    data[at : at + 8] = struct.pack(">II", seconds, seconds + 60)
    path.write_bytes(data)
    whole, *tracks = told(path)["times"]
    times = ("2024-02-29T12:00:00Z", "2024-02-29T12:01:00Z")
    assert whole == {"of": "file", "created_utc": times[0], "modified_utc": times[1]}
    assert [(time["of"], time["created_utc"]) for time in tracks] == [
        ("track 0, video", None),
        ("track 1, audio", None),
    ]


def test_boxes_of_a_file_that_claims_more_than_there_is(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(struct.pack(">I4s", 8, b"free") + struct.pack(">I4s", 2**31, b"moov") + bytes(100))
    assert read_boxes(path).order == ["free"]
    path.write_bytes(struct.pack(">I4sQ", 1, b"free", 2**63) + bytes(100))
    assert read_boxes(path).order == []
    path.write_bytes(struct.pack(">I4s", 0, b"mdat") + bytes(100))  # to the end
    assert read_boxes(path).order == ["mdat"]


def test_a_slower_and_a_variable_rate(tmp_path):
    even = write_clip(tmp_path / "even.mp4", FACES, sound=tone(2.0))
    slow = retime(even, tmp_path / "slow.mkv", lambda kind, i, time: 2 * time if kind == "video" else time)
    video = told(slow)["video"]
    assert (video["found_fps"], video["shortest_ms"]) == (12.5, 80) and video["declared_packets"] is None
    times = list(np.cumsum([0.04, 0.05, 0.02, 0.09] * 10))
    uneven = write_clip(tmp_path / "b.mp4", FACES[:40], times_s=times, sound=tone(2.0))
    video = told(uneven)["video"]
    assert (video["shortest_ms"], video["longest_ms"]) == (20, 90)


@pytest.mark.parametrize(
    "name, made",
    [
        ("a.mkv", {"codecs": ("mpeg4", "pcm_s16le")}),
        ("a.webm", {"codecs": ("libvpx-vp9", "libopus"), "rate_hz": 48_000}),
        ("a.ts", {}),
        ("a.avi", {"codecs": ("mpeg4", "libmp3lame")}),
    ],
)
def test_other_containers(name, made, tmp_path):
    sound = tone(2.0, made.get("rate_hz", 44_100))
    facts = told(write_clip(tmp_path / name, FACES, sound=sound, **made))
    assert facts["boxes"] is None and facts["edits"] is None and facts["times"] is None
    assert facts["video"]["found_packets"] == 50 and facts["audio"]["found_packets"] > 0
    assert facts["video"]["found_fps"] == pytest.approx(25, abs=1)
    assert facts["key_frames"]["n"] >= 1 and facts["read_error"] is None


def test_other_streams_are_named(tmp_path):
    facts = told(add_cover_art(tmp_path / "a.mp4", FACES, tone(2.0)))
    assert facts["other_streams"] == ["video: mjpeg"] and facts["video"]["codec"] == "h264"


def damaged(data: bytes) -> dict[str, bytes]:
    """Files that are cut off, or wrong in some bytes."""
    rng, found = np.random.default_rng(0), {"empty": b"", "text": b"no video\n" * 99}
    for i in range(12):
        found[f"cut {i}"] = data[: int(rng.integers(len(data)))]
        wrong = np.frombuffer(data, np.uint8).copy()
        where = rng.integers(data.index(b"moov") if i % 2 else 0, len(data), 20)
        wrong[where] = rng.integers(0, 256, len(where))
        found[f"wrong {i}"] = wrong.tobytes()
    return found


def test_an_odd_file_loses_facts_alone(clip, tmp_path):
    n_lost = 0
    for name, data in damaged(clip.read_bytes()).items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        facts = told(path)
        assert facts["sha256"] == hashlib.sha256(data).hexdigest() and facts["size_bytes"] == len(data)
        rows = [row for _, rows in story_rows(facts) for row in rows]
        assert all(isinstance(text, str) and text for row in rows for text in row)
        json.dumps(facts, allow_nan=False)
        n_lost += facts["video"] is None
        assert (facts["video"] is None) <= (facts["read_error"] is not None)
    assert n_lost > 5
    gone = tell_story(tmp_path / "gone.mp4", 0)
    assert gone["sha256"] is None and gone["read_error"] and str(tmp_path) not in json.dumps(gone)


def test_a_command_shows_no_folder():
    words = ["localize.py", "/home/ann/my case/a.mp4", "--model=/srv/x/mds.pth", "--out", "../b/c/"]
    assert command_words([*words, r"C:\ann\d.mp4"]) == "localize.py a.mp4 --model=mds.pth --out c d.mp4"
    plain = ["a.py", "/", "plain", "--smooth_s=0.1", "a\nb"]
    assert command_words(plain) == r"a.py folder plain --smooth_s=0.1 'a\nb'"
