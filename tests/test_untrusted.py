"""Files from strangers: nothing in them is executed, nothing is taken for what it claims, nothing is written
elsewhere.
"""

import codecs
import csv
import json
import os
import shutil
import struct
import time
import warnings
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from dataset import ChunkDataset, read_index
from detectors import WeightsError, build_detector
from engine import build_model
from tests.clips import face_pictures, tone, write_clip, write_sound
from tests.fuzz_child import forkserver, limit_memory
from utils.checkpoint import load_checkpoint
from utils.chunkfiles import read_record, read_video, read_wav, write_wav
from utils.cli import UserError
from utils.containers import VideoError
from utils.media import open_source
from utils.pictures import to_rgb
from utils.sound import Sound
from utils.tables import Schema, escape_cell, read_frame, read_table, unescape_cell, write_frame, write_table

pytest.importorskip("resource")  # not on Windows
TEXTS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "'=1",
    "''=1",
    "'",
    "''",
    "'x",
    "-x.mp4",
    'a,b\r\n"c"',
    "",
    "fake/=x",
    "x",
]
N_SPARE_MB = 200


def limit_process() -> None:
    limit_memory(N_SPARE_MB * 2**20)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bounded():
    """Call a function in a process that can't take more than 200 MB."""
    context = forkserver()
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")

    def call(function, *arguments):
        with ProcessPoolExecutor(1, mp_context=context, initializer=limit_process) as pool:
            return pool.submit(function, *arguments).result()

    return call


# tables


@pytest.mark.parametrize("text", TEXTS)
def test_no_cell_is_a_formula(text):
    assert not str(escape_cell(text)).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescape_cell(escape_cell(text)) == text
    assert len({escape_cell(text) for text in TEXTS}) == len(TEXTS)


def test_tables_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "t.csv"
    rows = [(text, f"{text}\udcff", -0.5) for text in TEXTS]
    write_table(path, ("video", "reason", "mds"), rows)
    assert [tuple(row.values()) for row in read_table(path)] == [(a, b, "-0.5") for a, b, _ in rows]
    with path.open(newline="", errors="surrogateescape") as file:
        cells = [cell for row in csv.DictReader(file) for name, cell in row.items() if name != "mds"]
    assert len(cells) == 2 * len(TEXTS) and not any(cell[:1] in tuple("=+-@\t\r") for cell in cells if cell)
    frame = pd.DataFrame(rows, columns=["video", "reason", "mds"])
    write_frame(path, frame)
    again = read_frame(path, Schema(text=("video", "reason")))
    assert again.to_numpy().tolist() == frame.to_numpy().tolist() and again.mds.dtype == float
    write_frame(path, pd.DataFrame({"video": ["a", None], "mds": [1.5, np.nan]}))
    assert path.read_text() == "video,mds\na,1.5\n,\n"
    path.write_text("video,mds\n=1,-2\n'quoted',3\n")  # by another program
    assert [row["video"] for row in read_table(path)] == read_frame(path).video.tolist() == ["=1", "'quoted'"]
    path.write_text(f"video\n{'x' * 200_000}\n")
    with pytest.raises(UserError, match="can't be read as CSV"):
        read_table(path)


def test_videos_named_like_formulas_go_through_the_chain(tmp_path, scripts, fixed_detector, monkeypatch):
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)
    names = ["=cmd|' C calc'!A0.mp4", "-x.mp4", "\rx.mp4", "..x..mp4"[1:]]
    source = write_clip(tmp_path / "source.mp4", face_pictures(26, 56), sound=tone(1.1))
    for name in names:
        for label in ("real", "fake"):
            (tmp_path / "test" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / "test" / label / name)
    (tmp_path / "test" / "real" / "=bad.mp4").write_text("no video")
    monkeypatch.setattr("preprocessing.faces.MIN_SIZE_PX", 5)
    arguments = ["--out_dir", str(tmp_path / "test"), "--workers", "0", "--min_track", "30"]
    assert scripts["pre-process"].main(arguments) == 1
    assert read_table(tmp_path / "test" / "failures.csv")[0]["video"] == "real/=bad.mp4"
    scripts["write_csv"].main(["--out_dir", str(tmp_path)])
    index = read_index(tmp_path, "test")
    keys = {f"{label}/{Path(name).stem}" for name in names[:3] for label in ("real", "fake")}
    assert set(index.video) == keys and not read_table(tmp_path / "rejects.csv")
    assert all("video" in ChunkDataset(index, tmp_path, 32)[row] for row in range(len(index)))
    chunks = index[["video", "label", "track", "chunk", "start_s"]].assign(
        dissimilarity=np.linspace(0, 1, len(index)), p_fake_video=0.5, p_fake_audio=0.5
    )
    scripts["train"].write_scores(tmp_path, Path("x"), {}, index, chunks)
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    assert set(read_frame(tmp_path / "chunk_scores.csv").video) == keys
    assert json.loads((tmp_path / "metrics.json").read_text())["n_videos"] == len(keys)


# paths


def test_a_link_where_a_file_is_built_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / ".t.csv.tmp").symlink_to(tmp_path / "mine")
    write_table(tmp_path / "t.csv", ("a",), [("b",)])
    assert (tmp_path / "mine").read_text() == "precious" and not (tmp_path / "t.csv").is_symlink()


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../x", "..", "C:\\x", "a\\..\\x"])
def test_an_index_names_nothing_outside(tmp_path, path):
    write_table(
        tmp_path / "train_split.csv",
        ("video", "label", "track", "chunk", "path", "start_s"),
        [("x", 1, 0, "c", path, 0)],
    )
    with pytest.raises(UserError, match="expected folders below"):
        read_index(tmp_path, "train")


RECORD = {
    "source": "a.mp4",
    "source_bytes": 1,
    "settings": {},
    "settings_hash": "x",
    "chunks": [{"chunk": "00_00001", "first_frame": 0}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"chunks": [{"chunk": "../../x", "first_frame": 0}]},
        {"chunks": [{"chunk": "/etc", "first_frame": 0}]},
        {"chunks": [{"chunk": "00000", "first_frame": 10**400}]},
        {"chunks": [{"chunk": "00000"}]},
        {"chunks": 5},
        {"without_sound": [{"chunk": "..", "first_frame": 0}]},
        {"damaged": [1]},
        {"settings": []},
        {"settings_hash": ["x"]},
        {"source": ["x"]},
        {"source": "../x"},
        {"source": ".."},
        {"source": "/etc/passwd"},
        {"warnings": [1]},
    ],
)
def test_a_record_of_something_else_counts_as_none(tmp_path, scripts, change):
    video = tmp_path / "train" / "pytmp" / "real" / "a"
    video.mkdir(parents=True)
    (video / "video.json").write_text(json.dumps(RECORD))
    assert read_record(video) == RECORD
    (video / "video.json").write_text(json.dumps(RECORD | change))
    assert read_record(video) is None
    scripts["write_csv"].main(["--out_dir", str(tmp_path)])
    assert not read_table(tmp_path / "rejects.csv")  # nothing was looked for
    (video / "video.json").write_text("[" * 100_000)
    assert read_record(video) is None


# checkpoints

STATE = {"netfclip.3.bias": torch.zeros(16)}


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hexed(n: int) -> object:
    return Call(codecs.encode, hexed(n - 1), "hex") if n else b"0"


def save(path: Path, content: object, is_zip: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    return path


def patch(
    path: Path, old: bytes, new: bytes, compression: int = zipfile.ZIP_STORED, storage: bytes | None = None
) -> Path:
    """Change the pickle of a checkpoint."""
    if not zipfile.is_zipfile(path):
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
        for name, data in members.items():
            if name.endswith("data.pkl"):
                assert old in data
                data = data.replace(old, new)
            elif name.endswith("data/0"):
                data = data if storage is None else storage
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("place", ["whole", "beside", "within"])
def test_code_in_a_checkpoint_is_not_executed(tmp_path, is_zip, place):
    marker = tmp_path / "marker"
    evil = Call(os.system, f"touch {marker}")
    content = {
        "whole": evil,
        "beside": {"state_dict": STATE, "x": evil},
        "within": {"state_dict": STATE | {"x": evil}},
    }[place]
    path = save(tmp_path / "x.pth", content, is_zip)
    with pytest.raises(UserError, match=r"x.pth is damaged or .*names posix.system") as caught:
        load_checkpoint(path, {})
    with pytest.raises(WeightsError, match="names posix.system"):
        build_detector("s3fd", weights=path)
    assert not marker.exists() and "\n" not in str(caught.value)
    if is_zip and place == "whole":
        torch.load(path, weights_only=False)
        assert marker.exists()  # so that the test tests something


CLAIMS = {
    "bytearray": (
        lambda p: save(p, {"state_dict": STATE, "x": Call(bytearray, 10**12)}),
        "names __builtin__.bytearray",
    ),
    "doubled": (lambda p: save(p, {"state_dict": STATE, "x": hexed(50)}), "bytes in 'hex'"),
    "storage": (
        lambda p: save(p, {"state_dict": STATE, "x": Call(torch.UntypedStorage, 10**12)}),
        "names torch.storage",
    ),
    "expanded": (
        lambda p: save(p, {"state_dict": {"netfclip.3.bias": torch.zeros(1).expand(10**12)}}),
        "of which the file has fewer",
    ),
    "copies": (
        lambda p: save(p, {"state_dict": STATE | {str(i): STATE["netfclip.3.bias"] for i in range(1000)}}),
        "many places",
    ),
    "numel": (
        lambda p: patch(save(p, {"state_dict": STATE}), b"K\x10t", b"J\xff\xff\xff\x7ft"),
        "claims 8,589,934,588 bytes",
    ),
    "former": (
        lambda p: patch(save(p, {"state_dict": STATE}, is_zip=False), b"K\x10N", b"J\xff\xff\xff\x7fN"),
        "claims 8,589,934,588 bytes",
    ),
    "former bytes": (lambda p: p.write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 10**12)), "is damaged"),
    "memo": (lambda p: p.write_bytes(b"\x80\x02]r\xff\xff\xff\xff."), "is damaged"),
    "deflated": (
        lambda p: patch(
            save(p, {"state_dict": STATE}), b"K\x10t", b"J\0\0\0\x04t", zipfile.ZIP_DEFLATED, bytes(2**28)
        ),
        "compressed",
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_checkpoint_takes_no_more_than_it_has(tmp_path, bounded, name):
    make, words = CLAIMS[name]
    make(tmp_path / "x.pth")
    with pytest.raises(UserError, match=words) as caught:
        bounded(load_checkpoint, tmp_path / "x.pth", {})
    assert "\n" not in str(caught.value)


def load_and_build(path: Path) -> None:
    build_model(load_checkpoint(path, {}), path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"net": "resnet18", "img_dim": 10**6, "final_dim": 16}, "does not fit .* has the shape None"),
        ({"net": "resnet200", "img_dim": 10**30, "final_dim": 16}, "does not fit"),
        (
            {"net": "resnet19", "img_dim": 32, "final_dim": 16},
            "does not fit .* net is 'resnet19', expected one of resnet18",
        ),
        ({"final_dim": 16, "dropout": 7}, "does not fit .* dropout"),
        ({"final_dim": 16, "distance": "x"}, "does not fit .* distance is 'x'"),
        ({"net": "resnet18", "img_dim": 32, "final_dim": 10**9}, "is damaged .* final_dim 16"),
        ({"net": "resnet18", "img_dim": -32, "final_dim": 16}, "is damaged .* config"),
        ({"img_dim": "32", "final_dim": 16}, "is damaged .* config"),
        ({"final_dim": 16, "init": "torch"}, "is damaged .* config"),
        (["net"], "is damaged"),
        ({}, "is damaged"),
    ],
)
def test_a_network_is_not_built_before_its_weights_are_known(tmp_path, bounded, config, words):
    path = save(tmp_path / "x.pth", {"state_dict": STATE, "config": config})
    with pytest.raises(UserError, match=words) as caught:
        bounded(load_and_build, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        {"state_dict": STATE | {"x": 1}},
        {"state_dict": [1]},
        {"state_dict": {"netfclip.3.bias": torch.tensor(1.0)}},
        {"epoch": -1},
        {"epoch": "one"},
        {"iteration": float("inf")},
        {"threshold": float("nan")},
        {"threshold": [1]},
        {"mean_mds_real": torch.zeros(2)},
        {"least_loss": "low"},
        {"optimizer": [1]},
        {"optimizer": {"state": [1]}},
        {"log": [[1]]},
        {"log": [{"loss": "x"}]},
        {"args": [1]},
        {"env": 1},
        {"under_way": {"n_steps": 1}},
    ],
    ids=str,
)
def test_parts_of_a_checkpoint_that_are_something_else(tmp_path, parts):
    path = save(tmp_path / "x.pth", {"state_dict": STATE} | parts)
    with pytest.raises(UserError, match=r"x.pth is damaged or no checkpoint") as caught:
        load_checkpoint(path, {})
    assert "\n" not in str(caught.value)
    assert (
        load_checkpoint(save(path, {"state_dict": STATE, "threshold": np.float64(0.5)}), {})["threshold"]
        == 0.5
    )


def laughs(depth: int = 40) -> list:
    """A billion laughs: each list holds the one before ten times, a few bytes that would be 10**40 words."""
    value = ["ha"]
    for _ in range(depth):
        value = [value] * 10
    return value


def nested(depth: int) -> bytes:
    """A pickle of lists within lists."""
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def zipped(path: Path, names: list[str], data: bytes = b"") -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name in names:
            archive.writestr(name, data)
    return path


BOMBS = {
    "laughs in config": lambda p: save(p, {"state_dict": STATE, "config": laughs()}),
    "laughs in a value of config": lambda p: save(
        p, {"state_dict": STATE, "config": {"net": laughs(), "final_dim": 16}}
    ),
    "laughs in args": lambda p: save(p, {"state_dict": STATE, "args": laughs()}),
    "laughs in the log": lambda p: save(p, {"state_dict": STATE, "log": laughs()}),
    "laughs in the weights": lambda p: save(p, {"state_dict": STATE | {"x": laughs()}}),
    "laughs as a number": lambda p: save(p, {"state_dict": STATE, "threshold": laughs()}),
    "laughs in the optimiser": lambda p: save(p, {"state_dict": STATE, "optimizer": {"state": laughs()}}),
    "laughs as a name": lambda p: save(p, {"state_dict": STATE, "config": {"x" * 10_000_000: 1}}),
    "nested": lambda p: p.write_bytes(nested(300_000)),
    "nested in a zip": lambda p: zipped(p, ["x/data.pkl"], nested(100_000)),
    "many members": lambda p: zipped(p, [f"x/data/{i}" for i in range(20_000)]),
    "names twice": lambda p: zipped(p, ["x/data.pkl"] * 1000, b"\x80\x02}."),
    "two pickles": lambda p: zipped(p, ["x/data.pkl", "y/data.pkl"], b"\x80\x02}."),
    "long number": lambda p: p.write_bytes(
        b"\x80\x02\x8b" + struct.pack("<I", 2_000_000) + b"\x7f" * 2_000_000 + b"."
    ),
    "zip of zeros": lambda p: p.write_bytes(b"PK\3\4" + bytes(5_000_000)),
    "memo": lambda p: p.write_bytes(
        b"\x80\x02]" + b"".join(b"r" + struct.pack("<I", i * 1000) for i in range(100_000)) + b"."
    ),
}


def outcomes(path: Path, contents: list[bytes]) -> list[str]:
    """What `load_checkpoint` says of each content: an error's class and text, or nothing."""
    found = []
    for content in contents:
        path.write_bytes(content)
        try:
            load_checkpoint(path, {})
            found.append("")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def test_bombs_go_off_in_no_checkpoint(tmp_path, bounded):
    contents = []
    for make in BOMBS.values():
        make(tmp_path / "x.pth")
        contents.append((tmp_path / "x.pth").read_bytes())
    begun = time.monotonic()
    found = dict(zip(BOMBS, bounded(outcomes, tmp_path / "x.pth", contents), strict=True))
    wrong = {
        name: text[:300]
        for name, text in found.items()
        if not text.startswith("UserError: ") or len(text) > 1000
    }
    assert not wrong and time.monotonic() - begun < 120, wrong


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_damaged_checkpoint(tmp_path, bounded, is_zip):
    """Cut at twenty places, or with flipped bits: loaded, or one line that says that it is damaged."""
    content = {
        "state_dict": STATE,
        "epoch": 3,
        "threshold": 0.5,
        "log": [{"loss": 1.0}],
        "args": {"lr": 1e-3},
        "optimizer": None,
    }
    whole = save(tmp_path / "x.pth", content, is_zip).read_bytes()
    cut = [whole[: len(whole) * i // 20] for i in range(20)]
    rng, flipped = np.random.default_rng(0), []
    for _ in range(50 * int(os.environ.get("MDS_FUZZ", "1"))):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        flipped.append(bytes(data))
    found = bounded(outcomes, tmp_path / "y.pth", [*cut, *flipped, whole])
    assert all(cut_off.startswith("UserError") for cut_off in found[:20]) and found[-1] == ""
    wrong = [
        text
        for text in found
        if text and (not text.startswith("UserError: ") or "\n" in text or "is damaged" not in text)
    ]
    assert not wrong, wrong[:5]


def test_an_optimiser_of_something_else(tmp_path):
    from engine import Objective, Trainer
    from utils.ranks import Ranks

    with Ranks("cpu") as ranks:
        network = torch.nn.Module()
        network.netcnnlip = torch.nn.Conv3d(1, 1, 1)
        trainer = Trainer(network, ranks, Objective(1), lr=1e-3, weight_decay=0)
    groups = trainer.optimizer.state_dict()["param_groups"]
    other = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(7), "exp_avg_sq": torch.zeros(7)}
    for state in (
        {},
        {"param_groups": 1, "state": {}},
        {"param_groups": [1], "state": {}},
        {"param_groups": [groups[0] | {"lr": "x"}], "state": {}},
        {"param_groups": groups, "state": {}},
        {"param_groups": groups, "state": {0: other, 1: other}},
    ):
        with pytest.raises(UserError, match=r"x.pth does not fit"):
            trainer.load_optimizer(state, tmp_path / "x.pth", 0)


# videos, crops, sounds


def png(side: int) -> bytes:
    """A white picture of side x side pixels, a thousandth as large."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 1)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def write_pngs(path: Path, pictures: list[bytes]) -> Path:
    with av.open(str(path), "w") as container:
        video, audio = (
            container.add_stream("png", rate=25),
            container.add_stream("aac", rate=44_100, layout="mono"),
        )
        video.width = video.height = 64
        video.pix_fmt = "monob"
        for i, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base, packet.is_keyframe = (
                video,
                i,
                i,
                Fraction(1, 25),
                True,
            )
            container.mux(packet)
        write_sound(container, audio, tone(len(pictures) / 25), 44_100)
    return path


def write_avi(path: Path, header: bytes, offset: int, values: bytes, codec: str = "mjpeg") -> Path:
    """Pictures of 64 x 64 with PCM sound; from `offset` bytes after the first `header` on, other values."""
    pictures = [np.full((64, 64, 3), i, np.uint8) for i in range(30)]
    write_clip(
        path,
        pictures,
        sound=tone(1.2),
        codecs=(codec, "pcm_s16le"),
        pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )
    data = bytearray(path.read_bytes())
    at = data.index(header) + offset
    data[at : at + len(values)] = values
    path.write_bytes(data)
    return path


def picture_sizes(path: Path) -> tuple[list[tuple[int, int, int]], list[str]]:
    """Size of the pictures of a video and for how many each stands; warnings."""
    with open_source(path) as source:
        found = [(*to_rgb(frame).shape[:2], n) for frame, n in source.frames()]
        return found, source.warnings


VIDEOS = {  # what claims something, the stage and the reason
    "picture.mov": (
        lambda p: write_pngs(p, [png(10_000)] * 3),
        "video",
        r"expected some of at most 35,651,584 pixels",
    ),
    "declared.avi": (
        lambda p: write_avi(p, b"strf(", 12, struct.pack("<II", 9000, 9000), "rawvideo"),
        "video",
        "expected some of at most 35,651,584 pixels",
    ),
    "rate.avi": (
        lambda p: write_avi(p, b"strf\x10", 12, struct.pack("<I", 10**9)),
        "audio",
        "1 channels at 1,000,000,000 Hz, expected",
    ),
    "slow.avi": (
        lambda p: write_avi(p, b"vids", 20, struct.pack("<II", 80_000, 1)),
        "video",
        "claims to come",
    ),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_that_claims_too_much(tmp_path, bounded, name):
    make, stage, words = VIDEOS[name]
    with pytest.raises(VideoError, match=words) as caught:
        bounded(picture_sizes, make(tmp_path / name))
    assert caught.value.stage == stage and "\n" not in str(caught.value)


def test_an_absurd_frame_rate(tmp_path, bounded):
    found, _ = bounded(
        picture_sizes, write_avi(tmp_path / "fast.avi", b"vids", 20, struct.pack("<II", 1, 10**9))
    )
    assert sum(n for *_, n in found) <= 2  # 30 pictures in 30 ns


def test_pictures_that_grow(tmp_path, bounded):
    found, warnings = bounded(
        picture_sizes, write_pngs(tmp_path / "x.mov", [png(64)] * 5 + [png(10_000)] * 3 + [png(64)] * 5)
    )
    assert {size[:2] for size in found} == {(64, 64)} and "3 corrupt video packets" in warnings


def far_away() -> int:
    sound = Sound()
    for time_s in (0, 10**6, 10**9, 1):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, time_s, Fraction(1)
        sound.feed(frame)
    sound.finish()
    return sound.read(0, 48_000)[1] + sound.read(10**9 * 48_000, 48_000)[1]


def test_sound_from_the_far_future_takes_no_memory(bounded):
    assert bounded(far_away) == 48_000 - 4800 + 48_000


def test_a_sound_of_many_channels():
    frame = av.AudioFrame(format="s16", layout="100C", samples=10)
    frame.sample_rate = 48_000
    with pytest.raises(VideoError, match="claims 100 channels"):
        Sound().feed(frame)


def write_chunk(folder: Path) -> None:
    folder.mkdir()
    for i in range(30):
        cv2.imwrite(str(folder / f"{i:06d}.jpg"), np.full((224, 224, 3), 100, np.uint8))


def claim_size(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0\x00\x11\x08") + 5
    data[at : at + 4] = struct.pack(">HH", 30_000, 30_000)
    path.write_bytes(data)


def png_instead(path: Path) -> None:
    path.write_bytes(png(20_000) + b"\xff\xd9")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (claim_size, "claims 900,000,000 pixels, expected at most 2,073,600"),
        (png_instead, "frame 000004.jpg is damaged"),
        (lambda path: os.truncate(path, 2**40), "frame 000004.jpg has more than"),
    ],
)
@pytest.mark.parametrize("img_dim", [None, 64])
def test_a_crop_that_claims_too_much(tmp_path, bounded, spoil, words, img_dim):
    write_chunk(tmp_path / "c")
    assert len(read_video(tmp_path / "c")) == 30
    spoil(tmp_path / "c" / "000004.jpg")
    with pytest.raises(ValueError, match=words):
        bounded(read_video, tmp_path / "c", img_dim)


def test_a_wav_that_claims_four_gigabytes(tmp_path, bounded):
    write_wav(tmp_path / "a.wav", np.zeros(48_000, np.int16))
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", 2**32 - 2)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(ValueError, match="a.wav has 2147483647 samples, .* expected 48000"):
        bounded(read_wav, tmp_path / "a.wav")
