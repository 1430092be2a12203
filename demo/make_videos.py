"""Make talking-head videos with sound, real and fake, out of nothing but installed packages.

    python demo/make_videos.py --out_dir demo/data
    python demo/make_videos.py --out_dir demo/data --test_speech espeak   # other voices in the test split

Writes <out_dir>/<train|test>/<real|fake>/<name>.mp4 (H.264 + AAC, 25 fps, 44.1 kHz), an index.csv beside
real/ and fake/ (original and manipulation of each video), metadata.json, a list of records with LAV-DF's
fields, and partly_fake.json, those of the real videos and of the fakes for a span.  Each real video has a
person of its own, face (faces.py) and voice (speech.py), who says random syllables, or with --speech espeak
random words.  The fake after it has the same person and the same words, but

    audio   the sound of another utterance under the same picture
    video   the mouth rendered for another utterance
    span    as "video", but only for a part of the time

so that neither face nor voice alone tells.  The same seed gives the same videos.
"""

import argparse
import csv
import json
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from demo.faces import Scene
from demo.speech import FPS, RATE_HZ, add_speech_flags, check_speech, draw_speaker, speak
from utils.cli import HelpFormatter, number, run, to_path

SOURCE = "generated"  # so that no figure is taken for one of real videos
FAKE_KINDS = ("video", "span", "video", "audio")  # in turn; two of four are wholly "video"
BLEND_S = 0.08  # from one utterance's mouth to another's


def render(
    rng: np.random.Generator, kind: str, seconds: float, size: int, speech: str = "formant"
) -> tuple[list[np.ndarray], np.ndarray, list]:
    """The frames (BGR), the sound and the fake periods in s of a video.

    Args:
        rng: the same one gives the same person, voice and words for all kinds.
        kind: real or of `FAKE_KINDS`. speech: of `speech.KINDS`.
    """
    n_frames = round(seconds * FPS)
    of_scene, of_voice, of_own, of_other, of_span = rng.spawn(5)
    scene, speaker = Scene(of_scene, size, n_frames, FPS), draw_speaker(of_voice, speech)
    own = speak(of_own, seconds, speaker)
    if kind == "real":
        return scene.film(own.mouth), own.samples, []
    other = speak(of_other, seconds, speaker)
    if kind == "audio":
        return scene.film(own.mouth), other.samples, [[0.0, n_frames / FPS]]
    begin, end = 0, n_frames
    if kind == "span":
        length = round(n_frames * of_span.uniform(0.4, 0.6))
        begin = int(of_span.integers(0, n_frames - length + 1))
        end = begin + length
    middle = np.arange(n_frames) + 0.5
    share = np.clip(np.minimum(middle - begin, end - middle) / (BLEND_S * FPS), 0, 1)
    if kind == "video":
        share[:] = 1
    mouth = own.mouth + share[:, None] * (other.mouth - own.mouth)
    return scene.film(mouth), own.samples, [[begin / FPS, end / FPS]]


def write_video(path: Path, frames: list[np.ndarray], sound: np.ndarray, fps: int = FPS) -> None:
    """Encode BGR frames and mono sound (float, -1..1) as H.264 and AAC."""
    with av.open(str(path), "w") as container:
        options = {"crf": "20", "preset": "superfast", "threads": "1"}
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


def make_video(out_dir: Path, split: str, i: int, seconds: float, size: int, seed: int, speech: str) -> dict:
    """Make video i of a split and return its record for metadata.json."""
    cv2.setNumThreads(1)  # as many processes as cores already
    label = "fake" if i % 2 else "real"
    kind = FAKE_KINDS[i // 2 % len(FAKE_KINDS)] if label == "fake" else "real"
    file = f"{split}/{label}/{i:03d}_{kind}.mp4"
    (out_dir / file).parent.mkdir(parents=True, exist_ok=True)
    # a fake is made from the real video before it: the same person, voice and words, but for the manipulation
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), i // 2])
    frames, sound, periods = render(rng, kind, seconds, size, speech)
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


def write_origins(path: Path, records: list[dict]) -> None:
    """Write what write_csv.py takes over of each video: original, manipulation and where it is from."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "original", "manipulation", "source"])
        for record in records:
            names = (record["file"], record["original"] or "")
            video, original = (name.partition("/")[2].removesuffix(".mp4") for name in names)
            rows.writerow([video, original, video.rpartition("_")[2] if original else "", SOURCE])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    parser.add_argument("--out_dir", type=to_path, required=True, help="folder for the videos")
    add = parser.add_argument
    add("--n_train", type=number(int, 2), default=240, help="training videos, half of them fake")
    add("--n_test", type=number(int, 0), default=100, help="test videos, half of them fake")
    add("--seconds", type=number(float, 0.2), default=5.0, help="length of a video")
    add("--size", type=number(int, 64), default=256, help="side of a frame in pixels")
    add("--seed", type=int, default=0, help="of everything that is drawn")
    add_speech_flags(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    speech = {"train": args.speech, "test": args.test_speech or args.speech}
    check_speech(*speech.values())
    jobs = [
        (args.out_dir, split, i, args.seconds, args.size, args.seed, speech[split])
        for split, n in (("train", args.n_train), ("test", args.n_test))
        for i in range(n)
    ]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        records = list(tqdm(pool.map(make_video, *zip(*jobs, strict=True)), total=len(jobs), unit="video"))
    (args.out_dir / "metadata.json").write_text(json.dumps(records, indent=1) + "\n")
    partly = [record for record in records if record["original"] is None or "_span" in record["file"]]
    (args.out_dir / "partly_fake.json").write_text(json.dumps(partly, indent=1) + "\n")
    for split in sorted({record["split"] for record in records}):
        write_origins(args.out_dir / split / "index.csv", [r for r in records if r["split"] == split])


if __name__ == "__main__":
    run(main)
