"""Does the network learn dissonance? AUC against training chunks and epochs on fakes whose only manipulation is another sound.

    python benchmarks/learning.py --out learning --n_train 25 50 100 --epochs 2 4 8

Talking heads as in the demo, seen from nearer, whose chunks are written as they are made.  Each fake has the picture of a real
video and the sound of another utterance by the same voice: neither picture nor sound alone tells them apart, and no utterance of
the test split is in the training split.  Trains and scores by train.py; writes the chunks, the runs, learning.csv and
learning.png to --out and prints a Markdown table.
"""

import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from scipy.signal import resample_poly

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from demo.make_videos import RATE_HZ, Scene, speak
from utils.media import CHUNK_FRAMES, FPS, SAMPLE_RATE_HZ, write_wav

EYE_DISTANCE = 0.335  # of the frame's side: what pre-process.py cuts out


def make_pair(out_dir: Path, split: str, i: int, seconds: int, size: int) -> None:
    """Write the chunks of real video i and of its fake, 30 fps and 48 kHz."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([zlib.crc32(split.encode()), i])
    scene = Scene(rng, size, seconds * FPS, FPS, EYE_DISTANCE)
    spoken, other = (speak(rng, seconds, scene.pitch_hz, FPS) for _ in range(2))
    frames = [scene.finish(scene.face.speak(spoken.opening[j], spoken.width[j]), j) for j in range(seconds * FPS)]
    jpegs = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for frame in frames]
    for label, speech in (("real", spoken), ("fake", other)):
        sound = resample_poly(speech.samples, SAMPLE_RATE_HZ // 300, RATE_HZ // 300)
        sound = np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16)
        for chunk in range(seconds):
            folder = out_dir / split / "pytmp" / label / f"{i:05d}" / f"{chunk:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            for j, jpeg in enumerate(jpegs[chunk * CHUNK_FRAMES : (chunk + 1) * CHUNK_FRAMES]):
                (folder / f"{j:06d}.jpg").write_bytes(jpeg)
            write_wav(folder.with_name(folder.name + ".wav"), sound[chunk * SAMPLE_RATE_HZ : (chunk + 1) * SAMPLE_RATE_HZ])


def make_chunks(out_dir: Path, n_train: int, n_test: int, seconds: int, size: int) -> None:
    jobs = [(out_dir, split, i, seconds, size) for split, n in (("train", n_train), ("test", n_test)) for i in range(n)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(make_pair, *zip(*jobs, strict=True), chunksize=4))


if __name__ == "__main__":
    make_chunks(Path(sys.argv[1]), *map(int, sys.argv[2:]))
