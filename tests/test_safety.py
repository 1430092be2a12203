"""Nothing outside is deleted or written, nothing is waited for without end: links, pipes, devices, playlists,
downloads.
"""

import contextlib
import http.server
import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from corpora.base import CORPORA
from corpora.lists import read_list
from corpora.remux import remux
from corpora.splits import read_index_file
from dataset import read_index
from detectors import WeightsError, download
from detectors.download import WeightsFile, fetch
from evaluation.span_files import read_labels, read_proposals
from evaluation.tables import read_scores, read_summary
from tests.clips import face_pictures, tone, write_clip
from utils.chunkfiles import read_record, read_video, read_wav, write_wav
from utils.claims import WORK, claimed, sweep, work_of
from utils.cli import UserError
from utils.containers import VideoError
from utils.files import file_digest, open_regular
from utils.jsonfiles import load_json
from utils.media import open_source
from utils.tables import read_frame, read_table
from verdicts.search import search_videos

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
SECONDS = 20  # a test that waits longer hangs


@pytest.fixture(autouse=True)
def in_time():
    """Fail instead of waiting for ever: whatever blocks is interrupted."""
    import signal

    def fail(*_):
        pytest.fail(f"waited for {SECONDS} s")  # no Exception, which the code might take for its own

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", face_pictures(30), sound=tone(1.2))


# what is deleted


def test_sweeping_follows_no_link_and_takes_its_own_alone(tmp_path):
    outside = tmp_path / "project"
    (outside / "Cargo" / "src").mkdir(parents=True)
    own = "0123456789abcdef" * 2
    for name in ("Cargo.lock", "uv.lock", f"{own}.lock"):
        (outside / name).write_text("mine")
    (outside / own).mkdir()
    split = tmp_path / "pytmp" / "real"
    split.mkdir(parents=True)
    (split / WORK).symlink_to(outside)
    sweep(split)
    assert sorted(p.name for p in outside.iterdir()) == sorted(
        ["Cargo", "Cargo.lock", "uv.lock", own, f"{own}.lock"]
    )
    with pytest.raises(UserError, match=r"\.work is a link.*; remove it"), claimed(split / "a"):
        pass
    (split / WORK).unlink()
    shutil.copytree(
        outside, split / WORK
    )  # the same in a real folder: what another program keeps there stays
    sweep(split)
    assert sorted(p.name for p in (split / WORK).iterdir()) == ["Cargo", "Cargo.lock", "uv.lock"]


def test_a_link_in_the_place_of_work_is_removed_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("precious")
    target = tmp_path / "out" / "a"
    work = work_of(target)
    work.parent.mkdir(parents=True)
    work.symlink_to(mine)
    work.with_suffix(".lock").symlink_to(mine / "file")
    with claimed(target) as place:
        place.mkdir()
        (place / "result").mkdir()
        assert not place.is_symlink() and [p.name for p in mine.iterdir()] == ["file"]
    assert (mine / "file").read_text() == "precious" and not list((tmp_path / "out" / WORK).iterdir())


def test_a_linked_folder_of_previews_is_left_alone(tmp_path, scripts, fixed_detector, monkeypatch, clip):
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    (tmp_path / "s" / "real").mkdir(parents=True)
    shutil.copy(clip, tmp_path / "s" / "real" / "holiday.mp4")
    mine = tmp_path / "pictures"
    (mine / "real").mkdir(parents=True)
    (mine / "real" / "holiday.jpg").write_text("precious")
    (tmp_path / "s" / "preview").symlink_to(mine)
    scripts["pre-process"].main(["--out_dir", str(tmp_path / "s"), "--workers", "0"])
    assert (mine / "real" / "holiday.jpg").read_text() == "precious"


# what is read

KINDS = {
    "pipe": (os.mkfifo, "is no regular file"),
    "endless": (lambda path: os.symlink("/dev/zero", path), "is no regular file"),
    "loop": (lambda path: os.symlink(path.name, path), "symbolic links"),
    "holes": (lambda path: (path.write_bytes(b""), os.truncate(path, 2**42)), "has more than"),
}


def spoil(path: Path, kind: str) -> str:
    """Put something in the place of a file; what is said of it."""
    path.unlink(missing_ok=True)
    KINDS[kind][0](path)
    return KINDS[kind][1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "read",
    [
        read_table,
        read_frame,
        read_index_file,
        load_json,
        read_labels,
        read_proposals,
        read_scores,
        read_summary,
    ],
)
def test_tables_and_records_that_are_no_files(tmp_path, kind, read):
    path = tmp_path / "index.csv"
    spoil(path, kind)
    with pytest.raises((UserError, OSError, ValueError)) as caught:
        value = read(path)
        assert read is read_summary and value["threshold"] is None  # as if there were none
        raise ValueError
    assert not isinstance(caught.value, TimeoutError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_that_are_no_files(tmp_path, scripts, kind):
    folder = tmp_path / "train" / "pytmp" / "real" / "a" / "00000"
    folder.mkdir(parents=True)
    import cv2

    for i in range(30):
        cv2.imwrite(str(folder / f"{i:06d}.jpg"), np.zeros((32, 32, 3), np.uint8))
    wav = folder.with_name("00000.wav")
    write_wav(wav, np.zeros(48_000, np.int16))
    assert len(read_video(folder)) == 30
    words = spoil(folder / "000003.jpg", kind)
    with pytest.raises((OSError, ValueError), match=words):
        read_video(folder)
    words = spoil(wav, kind)
    with pytest.raises((OSError, ValueError), match=words):
        read_wav(wav)
    spoil(folder.parent / "video.json", kind)
    assert read_record(folder.parent) is None
    spoil(tmp_path / "train" / "index.csv", kind)
    with pytest.raises(UserError, match=r"index.csv can't be read"):
        scripts["write_csv"].main(["--out_dir", str(tmp_path)])
    (tmp_path / "train" / "index.csv").unlink()
    scripts["write_csv"].main(["--out_dir", str(tmp_path)])
    (row,) = read_table(tmp_path / "rejects.csv")
    assert row["path"] == "train/pytmp/real/a/00000" and "\n" not in row["reason"]
    spoil(tmp_path / "train_split.csv", kind)
    with pytest.raises(UserError, match="train_split.csv"):
        read_index(tmp_path, "train")


@pytest.mark.parametrize("kind", ["pipe", "endless", "loop"])
def test_videos_that_are_no_files(tmp_path, scripts, fixed_detector, monkeypatch, kind):
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    (tmp_path / "real").mkdir()
    spoil(tmp_path / "real" / "a.mp4", kind)
    assert scripts["pre-process"].main(["--out_dir", str(tmp_path), "--workers", "0"]) == 1
    (row,) = read_table(tmp_path / "failures.csv")
    assert row["stage"] == "open" and KINDS[kind][1] in row["reason"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "dataset", ["dfdc", "dfdc_preview", "fakeavceleb", "lavdf", "avdeepfake1m", "mavosdd", "folder"]
)
def test_data_sets_whose_records_are_no_files(tmp_path, dataset, kind):
    name = {
        "dfdc": "metadata.json",
        "dfdc_preview": "dataset.json",
        "fakeavceleb": "meta_data.csv",
        "lavdf": "metadata.json",
        "avdeepfake1m": "train/x.json",
        "mavosdd": "metadata.csv",
        "folder": "videos.csv",
    }[dataset]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    spoil(path, kind)
    with pytest.raises(UserError) as caught:
        CORPORA[dataset].read(path if dataset == "folder" else tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_that_hold_themselves(tmp_path, clip):
    """Links to the folder above, to each other, to a folder elsewhere: each video once, under the label of
    its own folder.
    """
    for label in ("real", "fake"):
        (tmp_path / "d" / label / "sub").mkdir(parents=True)
        shutil.copy(clip, tmp_path / "d" / label / "sub" / f"{label}.mp4")
        for i, target in enumerate(("..", "../..", ".", "sub")):
            (tmp_path / "d" / label / f"link{i}").symlink_to(target)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(clip, tmp_path / "elsewhere" / "more.mp4")
    (tmp_path / "d" / "real" / "more").symlink_to(tmp_path / "elsewhere")
    found = CORPORA["folder"].read(tmp_path / "d")
    assert [entry.name for entry in found.entries] == [
        "real/more/more.mp4",
        "real/sub/real.mp4",
        "fake/sub/fake.mp4",
    ]
    videos = search_videos([tmp_path / "d"], tmp_path / "out")
    assert list(videos) == ["fake/sub/fake.mp4", "real/more/more.mp4", "real/sub/real.mp4"]


def test_pipes_for_lists_and_weights(tmp_path, clip):
    from utils.weights import read_weights

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is no regular file"):
        read_list(tmp_path / "pipe")
    with pytest.raises((ValueError, OSError), match="is no regular file"):
        read_weights(tmp_path / "pipe")
    for name in ("s3fd", "yunet"):
        from detectors import build_detector

        with pytest.raises(WeightsError, match="pipe"):
            build_detector(name, weights=tmp_path / "pipe")
    for read in (open_regular, file_digest):
        with pytest.raises(ValueError, match="is no regular file"):
            read(tmp_path / "pipe")


# playlists

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n"
PLAYLISTS = {
    "hls": HLS + "#EXTINF:1.2,\n{clip}\n#EXT-X-ENDLIST\n",
    "live": HLS + "#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.2,\n{clip}\n",
    "concat": "ffconcat version 1.0\nfile '{clip}'\n",
    "concat of a pipe": "ffconcat version 1.0\nfile '{pipe}'\n",
    "dash": '<?xml version="1.0"?>'
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>{clip}</BaseURL>"
    '<SegmentList><SegmentURL media="{clip}"/></SegmentList></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_a_playlist_reads_no_other_file(tmp_path, clip, kind, suffix):
    from evaluation.shortcuts import source_cues

    path = tmp_path / f"list{suffix}"
    os.mkfifo(tmp_path / "pipe")
    shutil.copy(clip, tmp_path / "clip.mp4")
    for name in (clip, "clip.mp4"):
        path.write_text(PLAYLISTS[kind].format(clip=name, pipe="pipe"))
        with (
            pytest.raises(VideoError, match="can't be opened as a video") as caught,
            open_source(path) as source,
        ):
            assert not list(source.frames())
        assert caught.value.stage == "open" and "\n" not in str(caught.value)
        with pytest.raises((ValueError, OSError)):
            source_cues(path)
        with pytest.raises(ValueError, match="can't be read"):
            remux(path, clip, tmp_path / "out.mkv", 25)


SPECIAL = {
    ".mpg": ("mpeg2video", "mp2"),
    ".vob": ("mpeg2video", "mp2"),
    ".mxf": ("mpeg2video", "pcm_s16le"),
    ".flv": ("flv", "libmp3lame"),
    ".f4v": ("libx264", "aac"),
    ".ogv": ("libvpx", "libopus"),
    ".webm": ("libvpx", "libopus"),
}
SUFFIXES = (
    ".mp4",
    ".mkv",
    ".avi",
    ".mov",
    ".ts",
    ".mpg",
    ".flv",
    ".3gp",
    ".3g2",
    ".f4v",
    ".nut",
    ".mxf",
    ".asf",
    ".wmv",
    ".vob",
    ".m2ts",
    ".ogv",
    ".webm",
)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_containers_are_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    pictures = [p[:96, :128] for p in face_pictures(10)]
    try:
        codecs = SPECIAL.get(suffix, ("mpeg4", "aac"))
        write_clip(path, pictures, sound=tone(0.4, 48_000), rate_hz=48_000, codecs=codecs)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"can't be made here: {error}")
    with open_source(path) as source:
        assert sum(n for _, n in source.frames()) >= 11


# downloads


class Hostile(http.server.BaseHTTPRequestHandler):
    """Sends for ever, drop by drop, or rude words."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        if self.path == "/rude":
            self.wfile.write(b"HTTP/1.0 500 \x1b[2J\x07 all \x1b]0;yours\x07" + b"x" * 3000 + b"\r\n\r\n")
            return
        if self.path == "/header":
            for i in itertools.count():
                self.wfile.write(b"HTTP/1.0 200 OK\r\n" if i == 0 else b"x")
                self.wfile.flush()
                time.sleep(0.05)
        self.send_response(200)
        if self.path == "/claims":
            self.send_header("Content-Length", str(10**15))
        self.end_headers()
        for _ in range(200 if self.path == "/drops" else 10**6):
            self.wfile.write(b"x" if self.path == "/drops" else bytes(1 << 16))
            self.wfile.flush()
            if self.path == "/drops":
                time.sleep(0.05)

    def handle(self):
        with contextlib.suppress(OSError):  # the other side has left
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("endless", "sends more than the 1,000,000 bytes"),
        ("claims", "sends more than the 1,000,000 bytes"),
        ("drops", "took more than 1 s"),
        ("header", "took more than 1 s"),
        ("rude", "500"),
    ],
)
def test_a_hostile_server(server, tmp_path, monkeypatch, path, words):
    monkeypatch.setenv("MDS_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "deadline_s", lambda _: 1.0)
    with pytest.raises(WeightsError, match=words) as caught:
        fetch(WeightsFile("w.bin", (f"{server}/{path}",), "sha256:" + "0" * 64, 1_000_000))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000 and not list(tmp_path.iterdir())


def test_left_over_downloads_are_swept(tmp_path, monkeypatch):
    monkeypatch.setenv("MDS_CACHE", str(tmp_path))
    names = (".w.bin.123.tmp", ".w.bin.999.tmp", ".other.bin.1.tmp", ".w.bin.notes.tmp", ".w.bin.5.tmp")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    for name in names[:1] + names[2:4]:
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".w.bin.7.tmp").symlink_to(tmp_path / ".other.bin.1.tmp")
    with pytest.raises(WeightsError):
        fetch(WeightsFile("w.bin", ("http://127.0.0.1:9/w.bin",), "sha256:" + "0" * 64))
    assert sorted(p.name for p in tmp_path.iterdir() if not p.is_symlink()) == sorted(names[1:])
