"""Make talking-head videos with sound, real and fake, out of nothing but installed packages.

    python demo/make_videos.py --out_dir demo/data

Writes <out_dir>/<train|test>/<real|fake>/<name>.mp4 (H.264 + AAC, 25 fps, 44.1 kHz), an index.csv beside
real/ and fake/ (original and manipulation of each video), metadata.json, a list of records with LAV-DF's
fields, and partly_fake.json, those of the real videos and of the fakes for a span.  Two public-domain
portraits (Grace Hopper from matplotlib, Eileen Collins from scikit-image) speak: a formant synthesiser utters
random syllables, and the mouth takes the shape of the sound.  Three kinds of fakes:

    audio   the sound of another utterance under the same picture
    video   the mouth region rendered again for another utterance, softer, tinted, blended at its edge
    span    as "video", but only for a part of the time

The same seed gives the same videos.
"""

import argparse
import csv
import json
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np
import skimage
from scipy.signal import lfilter
from tqdm import tqdm

FPS = 25
RATE_HZ = 44_100
BLOCK = RATE_HZ // 200  # 5 ms, over which the vocal tract stands still
EYE_DISTANCE = 62 / 256  # of the side of a frame
FAKE_KINDS = ("video", "span", "video", "audio")  # in turn; two of four are wholly "video"

# vowel -> formants in Hz (Peterson and Barney 1952, men), mouth opening 0..1, mouth width relative to rest
VOWELS = {
    "a": ((730, 1090, 2440), 1.00, 1.00),
    "e": ((530, 1840, 2480), 0.55, 1.12),
    "i": ((270, 2290, 3010), 0.28, 1.22),
    "o": ((570, 840, 2410), 0.65, 0.78),
    "u": ((300, 870, 2240), 0.35, 0.65),
}
CLOSED = ((250, 1000, 2200), 0.0, 1.0)  # lips shut, as in m and b
BANDWIDTHS_HZ = (80, 110, 160)


@dataclass
class Portrait:
    """A face in a picture: points in pixels of that picture."""

    picture: Path
    eyes: tuple[float, float]  # the point between them
    eye_distance_px: float
    mouth: tuple[float, float]  # centre of the line along which the lips part
    mouth_width_px: float
    chin_y_px: float


PORTRAITS = (
    Portrait(
        Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
        (267, 194),
        81,
        (266, 279),
        72,
        330,
    ),
    Portrait(Path(skimage.__file__).parent / "data" / "astronaut.png", (224.5, 102), 46, (224, 149), 38, 188),
)


@dataclass
class Speech:
    """An utterance: `samples` (n,) float in -1..1 at 44.1 kHz; mouth `opening` and `width` per frame."""

    samples: np.ndarray
    opening: np.ndarray
    width: np.ndarray


def speak(rng: np.random.Generator, seconds: float, pitch_hz: float, fps: int = FPS) -> Speech:
    """Utter random syllables, with pauses, for `seconds`; the mouth is given at `fps`."""
    n_blocks = int(np.ceil(seconds * RATE_HZ / BLOCK))
    tract = glide(syllables(rng, n_blocks))
    voice = utter(rng, tract, pitch_hz)
    n_frames = round(seconds * fps)
    middle = (((np.arange(n_frames) + 0.5) / fps) * RATE_HZ / BLOCK).astype(int).clip(max=n_blocks - 1)
    return Speech(voice[: round(seconds * RATE_HZ)], tract[middle, 3], tract[middle, 4])


def syllables(rng: np.random.Generator, n_blocks: int) -> np.ndarray:
    """What the vocal tract aims at, (n_blocks, 6): three formants in Hz, mouth opening and width, loudness.

    A syllable is a closure, or a pause, and then a vowel.
    """
    targets = np.zeros((n_blocks, 6))
    block = 0
    while block < n_blocks:
        pause = rng.random() < 0.18
        closure = int(rng.uniform(50, 90) if pause else rng.uniform(12, 24))
        targets[block : block + closure] = (*CLOSED[0], CLOSED[1], CLOSED[2], 0.0 if pause else 0.08)
        block += closure
        formants, opening, width = VOWELS[rng.choice(list(VOWELS))]
        vowel = int(rng.uniform(24, 48))
        targets[block : block + vowel] = (*formants, opening, width, 0.4 + 0.6 * opening)
        block += vowel
    return targets


def glide(targets: np.ndarray) -> np.ndarray:
    """The tract on its way from one target to the next, within some 40 ms; of the same shape."""
    window = np.hanning(13)
    padded = np.pad(targets, ((6, 6), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, window / window.sum(), "valid") for column in padded.T], 1)


def utter(rng: np.random.Generator, tract: np.ndarray, pitch_hz: float) -> np.ndarray:
    """The sound of a tract, `BLOCK` samples for each row: pulses of the glottis through three resonators."""
    n = len(tract) * BLOCK
    time_s = np.arange(n) / RATE_HZ
    pitch = pitch_hz * (1 + 0.06 * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * time_s + rng.uniform(0, 6)))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE_HZ), prepend=0)
    source = lfilter([1], [1, -0.97], pulses) + 0.004 * rng.standard_normal(n)
    voice, states = np.empty(n), [np.zeros(2) for _ in BANDWIDTHS_HZ]
    for i, row in enumerate(tract):
        x = source[i * BLOCK : (i + 1) * BLOCK] * row[5]
        for j, bandwidth in enumerate(BANDWIDTHS_HZ):
            r = np.exp(-np.pi * bandwidth / RATE_HZ)
            a1, a2 = -2 * r * np.cos(2 * np.pi * row[j] / RATE_HZ), r * r
            x, states[j] = lfilter([1 + a1 + a2], [1, a1, a2], x, zi=states[j])
        voice[i * BLOCK : (i + 1) * BLOCK] = x
    voice += 2e-4 * rng.standard_normal(n)
    return voice * (rng.uniform(0.3, 0.8) / np.abs(voice).max())


class Face:
    """A portrait whose eyes are `eye_distance` of the frame's side apart, and whose mouth moves."""

    def __init__(self, portrait: Portrait, size: int, mirrored: bool, eye_distance: float):
        image = cv2.imread(str(portrait.picture))
        scale = eye_distance * size / portrait.eye_distance_px
        centre = np.array([portrait.eyes[0], (portrait.eyes[1] + portrait.mouth[1]) / 2])
        shift = np.array([size / 2, size / 2]) - centre * scale
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        self.image = cv2.warpAffine(
            image, matrix, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
        )
        self.mouth = np.array(portrait.mouth) * scale + shift
        self.mouth_width = portrait.mouth_width_px * scale
        self.chin_y = portrait.chin_y_px * scale + shift[1]
        if mirrored:
            self.image = np.ascontiguousarray(self.image[:, ::-1])
            self.mouth[0] = size - 1 - self.mouth[0]
        self.y, self.x = np.mgrid[:size, :size].astype(np.float32)

    def speak(self, opening: float, width: float) -> np.ndarray:
        """(size, size, 3) uint8 BGR: the jaw dropped by `opening` 0..1, the mouth `width` times as wide."""
        (cx, cy), w = self.mouth, self.mouth_width
        dx, dy = self.x - cx, self.y - cy
        near = np.exp(-((dx / (0.8 * w)) ** 2) - (dy / (0.5 * w)) ** 2)
        source_x = cx + dx / (1 + (width - 1) * near)
        across = np.exp(-((dx / (0.46 * w * width)) ** 4))
        down = 1 / (1 + np.exp((self.y - self.chin_y - 0.15 * w) / (0.08 * w)))  # 1 on the jaw, 0 on the neck
        drop = 0.42 * w * opening * across * down
        source_y = np.where(dy > 0, np.maximum(self.y - drop, cy), self.y)
        out = cv2.remap(
            self.image, source_x.astype(np.float32), source_y.astype(np.float32), cv2.INTER_LINEAR
        )
        depth = np.minimum(dy, drop - dy)  # pixels inside the gap between the lips
        gap = np.clip(depth / 1.5, 0, 1)[..., None]
        teeth = (np.clip((0.10 * w - dy) / 2, 0, 1) * (opening > 0.3))[..., None]
        inside = np.array([28, 18, 52]) * (1 - teeth) + np.array([170, 185, 190]) * teeth
        return (out * (1 - gap) + inside * gap).astype(np.uint8)

    def swap_mouth(self, frame: np.ndarray, other: np.ndarray, tint: np.ndarray) -> np.ndarray:
        """Blend the mouth of `other` into `frame`, with the traces of a face swap: soft, tinted, an edge."""
        size = frame.shape[0]
        small = cv2.resize(other, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
        soft = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR) + tint
        w = self.mouth_width
        centre_y = self.mouth[1] + 0.12 * w
        radius = np.hypot((self.x - self.mouth[0]) / (0.95 * w), (self.y - centre_y) / (0.72 * w))
        mask = np.clip((1 - radius) * 0.5 * w / 2.5, 0, 1)[..., None]
        return np.clip(frame * (1 - mask) + soft * mask, 0, 255).astype(np.uint8)


def sway(rng: np.random.Generator, time_s: np.ndarray) -> np.ndarray:
    """A slow swing between -1 and 1."""
    return np.sin(2 * np.pi * rng.uniform(0.1, 0.5) * time_s + rng.uniform(0, 2 * np.pi))


class Scene:
    """What stays the same in a video: who speaks, how the head moves, the background and the light."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        n_frames: int,
        fps: int = FPS,
        eye_distance: float = EYE_DISTANCE,
    ):
        self.size = size
        portrait = int(rng.integers(len(PORTRAITS)))
        self.face = Face(PORTRAITS[portrait], size, bool(rng.random() < 0.5), eye_distance)
        self.pitch_hz = rng.uniform(95, 240)
        t = np.arange(n_frames) / fps
        self.angle, self.dx, self.dy = (a * sway(rng, t) for a in (3.0, 0.03 * size, 0.02 * size))
        self.zoom = rng.uniform(0.95, 1.15) * (1 + 0.02 * sway(rng, t))
        self.light = rng.uniform(0.75, 1.15) * (1 + 0.05 * sway(rng, t))
        edge = np.hypot((self.face.x - size / 2) / (0.36 * size), (self.face.y - size / 2) / (0.48 * size))
        background = np.clip((edge - 0.9) * 4, 0, 1)[..., None]
        ramp = 1 + rng.uniform(-0.35, 0.35) * (self.face.x / size - 0.5)[..., None]
        self.shade = ramp * (1 + background * (rng.uniform(0.5, 1.2) * rng.uniform(0.9, 1.1, 3) - 1))
        # of a swapped mouth, BGR: darker and more yellow
        self.tint = np.array([-48, -20, 6]) * rng.uniform(0.8, 1.2)

    def finish(self, picture: np.ndarray, i: int) -> np.ndarray:
        """Light the picture of frame i and move the head: (size, size, 3) uint8 BGR."""
        lit = np.clip(picture * (self.shade * self.light[i]), 0, 255).astype(np.uint8)
        matrix = cv2.getRotationMatrix2D((self.size / 2, self.size / 2), self.angle[i], self.zoom[i])
        matrix[:, 2] += (self.dx[i], self.dy[i])
        return cv2.warpAffine(
            lit, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )


def render(
    rng: np.random.Generator, kind: str, seconds: float, size: int
) -> tuple[list[np.ndarray], np.ndarray, list]:
    """The frames (BGR), the sound and the fake periods in s of a video; kind is real or of `FAKE_KINDS`."""
    n_frames = round(seconds * FPS)
    scene = Scene(rng, size, n_frames)
    spoken = speak(rng, seconds, scene.pitch_hz)
    other = speak(rng, seconds, scene.pitch_hz)
    begin, end = 0, n_frames
    if kind == "span":
        length = round(n_frames * rng.uniform(0.4, 0.6))
        begin = int(rng.integers(0, n_frames - length + 1))
        end = begin + length
    frames = []
    for i in range(n_frames):
        picture = scene.face.speak(spoken.opening[i], spoken.width[i])
        if kind in ("video", "span") and begin <= i < end:
            swapped = scene.face.speak(other.opening[i], other.width[i])
            picture = scene.face.swap_mouth(picture, swapped, scene.tint)
        frames.append(scene.finish(picture, i))
    sound = other.samples if kind == "audio" else spoken.samples
    return frames, sound, [] if kind == "real" else [[begin / FPS, end / FPS]]


def write_video(path: Path, frames: list[np.ndarray], sound: np.ndarray, fps: int = FPS) -> None:
    """Encode BGR frames and mono sound (float, -1..1) as H.264 and AAC."""
    with av.open(str(path), "w") as container:
        options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        video = container.add_stream("libx264", rate=fps, options=options)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def make_video(out_dir: Path, split: str, i: int, seconds: float, size: int, seed: int) -> dict:
    """Make video i of a split and return its record for metadata.json."""
    cv2.setNumThreads(1)  # as many processes as cores already
    label = "fake" if i % 2 else "real"
    kind = FAKE_KINDS[i // 2 % len(FAKE_KINDS)] if label == "fake" else "real"
    file = f"{split}/{label}/{i:03d}_{kind}.mp4"
    (out_dir / file).parent.mkdir(parents=True, exist_ok=True)
    # a fake is made from the real video before it: the same scene and voice, but for the manipulation
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), i // 2])
    frames, sound, periods = render(rng, kind, seconds, size)
    write_video(out_dir / file, frames, sound)
    return {
        "file": file,
        "split": split,
        "original": None if kind == "real" else f"{split}/real/{i - 1:03d}_real.mp4",
        "n_fakes": len(periods),
        "fake_periods": periods,
        "duration": seconds,
        "modify_video": kind in ("video", "span"),
        "modify_audio": kind == "audio",
        "video_frames": len(frames),
        "audio_channels": 1,
        "audio_frames": len(sound),
    }


def write_index(path: Path, records: list[dict]) -> None:
    """Write what write_csv.py takes over of each video of a split: its original and its manipulation."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "original", "manipulation"])
        for record in records:
            names = (record["file"], record["original"] or "")
            video, original = (name.partition("/")[2].removesuffix(".mp4") for name in names)
            rows.writerow([video, original, video.rpartition("_")[2] if original else ""])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out_dir", type=Path, required=True)
    add = parser.add_argument
    add("--n_train", type=int, default=160, help="training videos, half of them fake (default: 160)")
    add("--n_test", type=int, default=100, help="test videos, half of them fake (default: 100)")
    add("--seconds", type=float, default=4.0, help="length of a video (default: 4)")
    add("--size", type=int, default=256, help="side of a frame in pixels (default: 256)")
    add("--seed", type=int, default=0, help="default: 0")
    args = parser.parse_args(argv)
    for name, low in (("n_train", 2), ("n_test", 0), ("seconds", 0.2), ("size", 64)):
        if getattr(args, name) < low:
            parser.error(f"--{name}: got {getattr(args, name)}, expected {low} or more")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    jobs = [
        (args.out_dir, split, i, args.seconds, args.size, args.seed)
        for split, n in (("train", args.n_train), ("test", args.n_test))
        for i in range(n)
    ]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        records = list(tqdm(pool.map(make_video, *zip(*jobs, strict=True)), total=len(jobs), unit="video"))
    (args.out_dir / "metadata.json").write_text(json.dumps(records, indent=1) + "\n")
    partly = [record for record in records if record["original"] is None or "_span" in record["file"]]
    (args.out_dir / "partly_fake.json").write_text(json.dumps(partly, indent=1) + "\n")
    for split in sorted({record["split"] for record in records}):
        write_index(args.out_dir / split / "index.csv", [r for r in records if r["split"] == split])


if __name__ == "__main__":
    main()
