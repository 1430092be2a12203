"""How fast pre-process.py is, where the time goes, and what else was tried.

    python benchmarks/preprocess.py a.mp4 b.mp4 --detector yunet
    python benchmarks/preprocess.py a.mp4 --trials          # single steps, done otherwise
    python benchmarks/preprocess.py a.mp4 --minutes 10      # memory: the video repeated until it is that long
    python benchmarks/preprocess.py --generate 16 --detector s3fd --workers 1 4 16

The clock starts when the workers are ready.  Prints Markdown tables: medians of --repeat runs.  CPU is that
of the workers; on a machine that others use too, it holds where the wall clock does not.  --generate makes
talking heads of 1920x1080 pixels in place of videos on disk.  s3fd without --weights has random ones; once
its time is spent, the boxes that it would find take the place of what it finds.
"""

import argparse
import functools
import math
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from detectors import DETECTORS, Detector, build_detector
from detectors.shared import SharedDetector, share
from preprocessing.chunking import detection_size
from preprocessing.faces import crop_face
from preprocessing.jobs import built_once, start_worker
from preprocessing.pool import run_in_pool
from preprocessing.record import process_video
from preprocessing.settings import Settings
from preprocessing.shots import ShotDetector
from utils.cli import HelpFormatter, UserError, n_cores, number, pick_device, run, to_path
from utils.constants import FPS
from utils.containers import VideoError
from utils.media import open_source
from utils.pictures import rgb_patch, to_rgb

N_TRIAL_FRAMES = 100
READING = ("decode", "audio", "shrink", "shots", "detect", "wait for the detector")
STEPS = (*READING, "track", "crop", "encode", "write")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    whole = number(int, 1)
    add("videos", type=to_path, nargs="*", help="videos to process")
    words = "make N videos of 1920x1080 pixels and process them"
    add("--generate", type=whole, metavar="N", help=words)
    add("--seconds", type=number(float, 2), default=10.0, help="length of the generated videos")
    add("--detector", choices=DETECTORS, default="libfacedetection", help="face detector")
    add("--weights", type=to_path, help="detector weights on disk")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where s3fd runs")
    add("--half", action="store_true", help="run s3fd in half precision")
    add("--detect_every", type=number(int, 1, 20), default=1, help="look for faces in every Nth frame")
    words = "numbers of processes to try (default: the cores)"
    add("--workers", type=whole, nargs="+", default=[n_cores()], help=words)
    add("--repeat", type=whole, default=3, help="runs to take the median of")
    minutes = number(float, 0, open_low=True)
    add("--minutes", type=minutes, help="repeat the first video until it is that long")
    add("--trials", action="store_true", help="time single steps in several ways, on the first video")
    args = parser.parse_args(argv)
    if bool(args.videos) == bool(args.generate):
        parser.error("name videos, or --generate N")
    return args


def make_wide_video(path: Path, seconds: float) -> None:
    """Write a talking head in the middle of 1920x1080 pixels, 30 fps."""
    # here: a worker that measures memory imports this file too
    from demo.faces import Scene
    from demo.make_videos import write_video
    from demo.speech import draw_speaker, speak

    cv2.setNumThreads(1)
    rng = np.random.default_rng(int(path.stem))
    scene = Scene(rng, 540, round(seconds * FPS), FPS)
    speech = speak(rng, seconds, draw_speaker(rng), FPS)
    ground = np.random.default_rng(0).integers(0, 256, (27, 48, 3), np.uint8)
    picture = cv2.resize(ground, (1920, 1080), interpolation=cv2.INTER_CUBIC)
    pictures = []
    for i, mouth in enumerate(speech.mouth):
        face = scene.frame(i, mouth)
        picture[:, 420:1500] = cv2.resize(face, (1080, 1080))
        pictures.append(picture.copy())
    write_video(path, pictures, speech.samples, FPS)


class StandIn:
    """A detector whose findings are replaced by the face of the generated videos, their time once spent."""

    BOX = np.array([0.34, 0.25, 0.66, 0.83, 1.0], np.float32)  # of the frame's width and height; score

    def __init__(self, detector: Detector):
        self.detector = detector
        self.batch_size, self.is_shared = detector.batch_size, detector.is_shared

    def detect(self, frames: np.ndarray) -> list[np.ndarray]:
        self.detector.detect(frames)
        height, width = frames[0].shape[:2]
        return [(self.BOX * (width, height, width, height, 1))[None] for _ in frames]


def busy_cores() -> tuple[float, float]:
    """Seconds that all cores of this machine have worked, and that they have been there; zeros where the
    system does not tell.
    """
    if not Path("/proc/stat").exists():
        return 0.0, 0.0
    times = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(times) - times[3] - times[4]) / 100, sum(times) / 100


class TimedDetector:
    """A detector that notes when it is at work."""

    def __init__(self, detector: Detector):
        self.detector = detector
        self.batch_size, self.is_shared = detector.batch_size, detector.is_shared
        self.spans: list[tuple[float, float, int]] = []  # begin, end, frames

    def detect(self, frames: np.ndarray) -> list[np.ndarray]:
        begin = time.time()
        found = self.detector.detect(frames)
        self.spans.append((begin, time.time(), len(frames)))
        return found

    def report(self, begin: float, end: float) -> str:
        """Frames per second between two moments, and the share of the time in which some batch was being
        worked on.
        """
        busy, reached, n_frames = 0.0, begin, 0
        for first, last, n in sorted(span for span in self.spans if span[0] >= begin):
            busy += max(0.0, last - max(first, reached))
            reached, n_frames = max(reached, last), n_frames + n
        rate, share_of_time = n_frames / (end - begin), 100 * busy / (end - begin)
        return f"shared detector: {rate:.0f} frames/s, at work {share_of_time:.0f} % of the time"


def repeat_video(source: Path, path: Path, minutes: float) -> Path:
    """Write a video's packets again and again, until the whole is at least `minutes` long."""
    with av.open(str(source)) as container:
        streams = [container.streams.best(kind) for kind in ("video", "audio")]
        packets = [packet for packet in container.demux(streams) if packet.dts is not None]
        with av.open(str(path), "w") as out:
            copies = [out.add_stream_from_template(stream) for stream in streams]
            shown = [
                (p.pts * p.time_base, (p.pts + p.duration) * p.time_base)
                for p in packets
                if p.stream is streams[0]
            ]
            period = max(stop for _, stop in shown) - min(start for start, _ in shown)
            lasts = [None, None]
            for i in range(math.ceil(minutes * 60 / period)):
                for packet in packets:
                    k = streams.index(packet.stream)
                    shift = round((period if i else 0) / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    if lasts[k] is None or packet.dts > lasts[k]:  # sound may be longer than the picture
                        lasts[k] = packet.dts
                        copy = av.Packet(bytes(packet))
                        copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                        copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                        copy.stream = copies[k]
                        out.mux(copy)
    return path


class Timed(NamedTuple):
    """How a worker did with a video."""

    start: float  # Unix time
    end: float
    steps_s: dict[str, float]  # wall time by step
    n_frames: int
    peak_mb: float  # memory of the process so far
    cpu_s: float


def timed_job(build: Callable[[], Detector], settings: Settings, source: Path) -> Timed:
    """Process a video in a worker."""
    with tempfile.TemporaryDirectory() as folder:
        start, start_cpu = time.time(), time.process_time()
        out, work = Path(folder) / "out", Path(folder) / "work"
        record, seconds = process_video(source, out, work, build(), settings)
        end, cpu_s = time.time(), time.process_time() - start_cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Timed(start, end, seconds, record["n_frames"], peak_mb, cpu_s)


def measure_workers(
    videos: list[Path], build: Callable, settings: Settings, n_workers: int, repeat: int
) -> tuple[list[str], list[str], tuple[float, float]]:
    """The cells of two table rows, for one run over all videos with `n_workers` processes; and when the last
    one took place.
    """
    walls, cpus, steps, peaks_mb, shares = [], [], [], [], []
    function = functools.partial(timed_job, build, settings)
    for _ in range(repeat):
        worked, there = busy_cores()
        done = run_in_pool(function, [(video,) for video in videos], n_workers, start_worker, (build,))
        try:
            results: list[Timed] = [pair[1].result() for pair in done if pair is not None]
        except VideoError as error:
            raise UserError(f"one of the videos can't be measured: {error}") from error
        begin, end = min(result.start for result in results), max(result.end for result in results)
        walls.append(end - begin)
        worked, there = (now - before for now, before in zip(busy_cores(), (worked, there), strict=True))
        shares.append(worked / there if there else float("nan"))
        cpus.append(sum(result.cpu_s for result in results))
        steps.append([sum(result.steps_s.get(step, 0) for result in results) for step in STEPS])
        peaks_mb.append(max(result.peak_mb for result in results))
    video_s, wall = sum(result.n_frames for result in results) / FPS, statistics.median(walls)
    rates = (f"{video_s / wall:.1f}", f"{video_s / wall / n_cores():.2f}")
    peak, busy = f"{max(peaks_mb):.0f} MB", f"{statistics.median(shares):.0%}"
    total = [str(n_workers), f"{wall:.2f} s", *rates, peak, f"{statistics.median(cpus):.2f} s", busy]
    by_step = [f"{statistics.median(times) / video_s * 1000:.0f}" for times in zip(*steps, strict=True)]
    return total, [str(n_workers), *by_step], (begin, end)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |")


def cpu_ms(function: Callable, items: list) -> float:
    """CPU milliseconds of this process per call, all threads together."""
    start = time.process_time()
    for item in items:
        function(item)
    return (time.process_time() - start) / len(items) * 1000


def time_steps(video: Path, detector: Detector) -> None:
    """Print CPU time per frame of single steps, done as pre-process.py does (first) and otherwise."""
    cv2.setNumThreads(1)
    with open_source(video) as source:
        start = time.process_time()
        frames = [frame for (frame, _), _ in zip(source.frames(), range(N_TRIAL_FRAMES), strict=False)]
        decode_ms = (time.process_time() - start) / len(frames) * 1000
    width, height = frames[0].width, frames[0].height
    small = detection_size(width, height, Settings())
    images = [cv2.resize(to_rgb(frame), small) for frame in frames]
    rows = [
        ("decode", "libavcodec, one thread", decode_ms),
        *time_shrinking(frames, small),
        *time_crops(frames, height // 3),
        *time_shots(frames, images),
        ("detect", type(detector).__name__, cpu_ms(lambda image: detector.detect([image]), images)),
    ]
    side = height // 3
    print(f"\n{width}x{height}, detector's size {small[0]}x{small[1]}, window {side}x{side}\n")
    print_table(["step", "how", "CPU ms per frame"], [(step, how, f"{ms:.2f}") for step, how, ms in rows])


def time_shrinking(frames: list[av.VideoFrame], small: tuple[int, int]) -> list[tuple[str, str, float]]:
    """Rows of `time_steps`."""

    def swscale(frame, interpolation, threads):
        return frame.to_ndarray(
            format="rgb24", width=small[0], height=small[1], interpolation=interpolation, threads=threads
        )

    straight = "swscale, straight from the decoder's format, bilinear"
    ways = {
        "whole frame to RGB, then cv2.resize (bilinear)": lambda f: cv2.resize(to_rgb(f), small),
        straight: lambda f: swscale(f, "BILINEAR", 1),
        "the same, area instead of bilinear": lambda f: swscale(f, "AREA", 1),
        "the same, swscale's own choice of threads": lambda f: swscale(f, "BILINEAR", 0),
    }
    return name_first("shrink for the detector", [(how, cpu_ms(way, frames)) for how, way in ways.items()])


def time_crops(frames: list[av.VideoFrame], side: int) -> list[tuple[str, str, float]]:
    """Rows of `time_steps`."""
    import torch
    from torchvision.io import encode_jpeg

    window = np.array([side, 2 * side, side, 2 * side])
    crops = [crop_face(to_rgb(frame), window) for frame in frames[:10]] * 10
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]

    def patch(frame):
        rgb, top, left = rgb_patch(frame, window)
        crop_face(rgb, window - (top, top, left, left))

    def by_torchvision(crop):
        encode_jpeg(torch.from_numpy(crop).permute(2, 0, 1).contiguous(), 95)

    whole_ms = cpu_ms(lambda frame: crop_face(to_rgb(frame), window), frames)
    cropping = [("only the window", cpu_ms(patch, frames)), ("whole frame to RGB first", whole_ms)]
    opencv_ms = cpu_ms(lambda crop: cv2.imencode(".jpg", crop, quality), crops)
    encoding = [("OpenCV (libjpeg-turbo)", opencv_ms), ("torchvision", cpu_ms(by_torchvision, crops))]
    return name_first("crop, to RGB and 224x224", cropping) + name_first("JPEG of a crop", encoding)


def time_shots(frames: list[av.VideoFrame], images: list[np.ndarray]) -> list[tuple[str, str, float]]:
    """Rows of `time_steps`."""
    cuts = ContentDetector()

    def shots_on(pictures):
        shots, numbers = ShotDetector(), iter(range(len(pictures)))
        return cpu_ms(lambda image: shots.cuts(next(numbers), image), pictures)

    def content_detector(image):
        cuts.process_frame(FrameTimecode(0, float(FPS)), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    ways = [
        ("the small frame, one norm of the difference", shots_on(images)),
        ("ContentDetector itself", cpu_ms(content_detector, images)),
        ("the whole frame, one norm", shots_on([to_rgb(frame) for frame in frames[:10]])),
    ]
    return name_first("shots", ways)


def name_first(step: str, ways: list[tuple[str, float]]) -> list[tuple[str, str, float]]:
    """Rows of one step: its name stands in the first."""
    return [("" if i else step, how, ms) for i, (how, ms) in enumerate(ways)]


def make_videos(args: argparse.Namespace, folder: Path) -> list[Path]:
    """The videos to process: those that are named, or generated in `folder`, or one of them made longer."""
    videos = args.videos
    if args.generate:
        videos = [folder / f"{i}.mp4" for i in range(args.generate)]
        n_processes = min(args.generate, n_cores())
        if n_processes == 1:
            for video in videos:
                make_wide_video(video, args.seconds)
        else:
            with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
                list(pool.map(make_wide_video, videos, [args.seconds] * len(videos)))
    if args.minutes:
        videos = [repeat_video(videos[0], folder / "long.mkv", args.minutes)]
    return videos


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    device = str(pick_device(args.device)) if args.detector == "s3fd" else "cpu"
    is_stand_in = args.detector == "s3fd" and not args.weights
    if is_stand_in:
        # here: a worker imports this file too, and PyTorch takes its memory
        from benchmarks.detection import random_s3fd

        timed = TimedDetector(random_s3fd(device, args.half))
        detector: Detector = StandIn(timed)
    else:
        detector = timed = TimedDetector(build_detector(args.detector, device, args.weights, args.half))
    build = functools.partial(built_once, build_detector, args.detector, device, args.weights, args.half)
    if detector.is_shared:
        build = functools.partial(built_once, SharedDetector, *share(detector))
    for video in args.videos:
        if not video.is_file():
            raise UserError(f"{video} does not exist.")
    with tempfile.TemporaryDirectory() as folder:
        videos = make_videos(args, Path(folder))
        machine = f"{platform.processor() or platform.machine()}, {n_cores()} cores, {len(videos)} videos"
        where = f" on {device}" if detector.is_shared else ""
        print(f"{machine}, detector {args.detector}{where}, --detect_every {args.detect_every}\n")
        if args.trials:
            time_steps(videos[0], timed.detector)
        else:
            print_speed(videos, build, args, timed if detector.is_shared else None)


def print_speed(
    videos: list[Path], build: Callable, args: argparse.Namespace, timed: TimedDetector | None
) -> None:
    """Measure each number of workers and print the tables; `timed` is the detector that they share."""
    settings = Settings(args.detector, args.half, detect_every=args.detect_every)
    measured = []
    for n_workers in args.workers:
        measured.append(measure_workers(videos, build, settings, n_workers, args.repeat))
        total, _, span = measured[-1]
        print(f"{n_workers} workers: {total[2]} s of video per s", flush=True)  # the tables may take long
        if timed:
            print(f"{n_workers} workers: {timed.report(*span)}", flush=True)
    figures = ["wall", "s of video per s", "per core", "peak memory of a worker", "CPU", "cores busy"]
    print_table(["workers", *figures], [total for total, _, _ in measured])
    print("\nms per second of video, summed over the workers; detection runs beside the other steps:\n")
    print_table(["workers", *STEPS], [by_step for _, by_step, _ in measured])


if __name__ == "__main__":
    run(main)
