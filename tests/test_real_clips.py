"""Real clips (MDS_REFERENCE): the crops show the face, at the right time, with the right sound, by
independent decoding.
"""

import csv
from fractions import Fraction
from math import gcd

import av
import cv2
import numpy as np
import pytest
from scipy.signal import correlate, resample_poly

from detectors import build_detector
from preprocessing.faces import crop_face, crop_windows
from preprocessing.record import process_video
from preprocessing.settings import Settings
from utils.chunkfiles import read_wav


@pytest.fixture(scope="module")
def detector(reference):
    return build_detector("yunet", weights=reference / "weights" / "yunet_s_640_640.onnx")


def largest_clips(reference) -> list:
    """A real clip of each origin: the largest of at most 6 MB."""
    with (reference / "real_clips" / "index.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "real" and int(row["bytes"]) < 6e6]
    largest = {row["source"]: row["file"] for row in sorted(rows, key=lambda row: int(row["bytes"]))}
    return [reference / "real_clips" / file for file in largest.values()]


def decode_alone(path):
    """Every picture with its time from the first one; the sound mixed to mono, its rate, and when it
    starts.
    """
    with av.open(str(path)) as container:
        frames = [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        blocks = list(container.decode(audio=0))
    assert all(block.format.is_planar for block in blocks)  # so that an array is (channels, samples)
    sound = np.concatenate([block.to_ndarray().astype(np.float64).mean(0) for block in blocks])
    origin = frames[0][0]
    start_s = blocks[0].pts * blocks[0].time_base - origin
    return [(t - origin, image) for t, image in frames], sound, blocks[0].sample_rate, start_s


def test_crops_and_sound_of_real_clips(reference, detector, tmp_path):
    chosen = largest_clips(reference)
    assert len(chosen) >= 4
    for path in chosen:
        record, _ = process_video(
            path, tmp_path / path.stem, tmp_path / ".work" / path.stem, detector, Settings("yunet")
        )
        frames, sound, rate, start_s = decode_alone(path)
        track = record["tracks"][0]
        windows = crop_windows(np.array(track["boxes"]))
        common = gcd(48_000, rate)
        sound = resample_poly(sound, 48_000 // common, rate // common)
        for chunk in record["chunks"]:
            folder = tmp_path / path.stem / chunk["chunk"]
            for i in (0, 13, 29):
                number = chunk["first_frame"] + i
                crop = cv2.imread(str(folder / f"{i:06d}.jpg"))[..., ::-1]
                shown = [image for t, image in frames if t <= Fraction(number, 30) + Fraction(1, 60)][-1]
                expected = crop_face(shown, windows[number - track["first_frame"]])
                assert np.abs(crop.astype(int) - expected).mean() < 4, (path.name, chunk, i)
            x1, y1, x2, y2 = detector.detect([np.ascontiguousarray(crop)])[0][0][:4]
            assert abs((x1 + x2) / 2 - 112) < 40 and abs((y1 + y2) / 2 - 90) < 45, (
                path.name
            )  # upright, in the middle
            begin = round((chunk["first_frame"] / 30 - float(start_s)) * 48_000)
            ours = read_wav(folder.with_name(folder.name + ".wav")).astype(np.float64)
            margin = 2400
            around = np.zeros(len(ours) + 2 * margin)
            low, high = max(0, begin - margin), min(len(sound), begin + len(ours) + margin)
            around[low - begin + margin : high - begin + margin] = sound[low:high]
            lag = int(np.argmax(correlate(around, ours, "valid"))) - margin
            assert abs(lag) <= 96, (path.name, chunk, lag)  # 2 ms
