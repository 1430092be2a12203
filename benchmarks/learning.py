"""Does the network learn whether lips and sound agree? AUC against training steps, by train.py's own code.

    python benchmarks/learning.py --out learning --n_train 100 --recipes authors sync
    python benchmarks/learning.py --out learning --img_dim 32 --width 0.25 --seeds 3 --steps 150 --recipes

Talking heads as in the demo, seen from nearer, whose chunks are written as they are made.  Each fake has the
picture of a real video and the sound of another utterance by the same voice: neither picture nor sound alone
tells them apart, and no person, voice or utterance of the test split is in the training split.  With
--test_speech espeak the test split is spoken by another synthesiser.  A recipe is flags of train.py; "real
videos alone" leaves the fakes of the training split out.  The control has another video's picture under both
sounds: a network that scores above chance there has found something in the sound.  Writes the chunks,
learning_<settings>.csv (a row per scoring) and .png to --out and prints a Markdown table.  Chunks that are
there are kept, and trainings alike of as many steps: another call adds to them.
"""

import argparse
import shutil
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import partial
from io import StringIO
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.signal import resample_poly
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import train
from dataset import ChunkDataset, build_loader, scoring_batches
from demo.faces import Scene
from demo.speech import RATE_HZ, add_speech_flags, check_speech, draw_speaker, speak
from engine import Execution, Trainer, score_chunks, video_auc
from mds import video_scores
from utils.chunkfiles import write_wav
from utils.cli import HelpFormatter, n_cores, number, run, to_path
from utils.constants import CHUNK_FRAMES, FPS, LABELS, PRECISIONS, SAMPLE_RATE_HZ
from utils.environment import device_name
from utils.ranks import Ranks, StopSignal

EYE_DISTANCE = 0.335  # of the frame's side: what pre-process.py cuts out
N_ALONE = 4  # pairs that are made sooner than other processes start
REAL_ALONE = "real videos alone"
SYNC = "--preset sync"
RECIPES = {  # name -> flags of train.py, or `REAL_ALONE` before them
    "authors": "",
    "sync": SYNC,
    "sync, real videos alone": f"{REAL_ALONE} {SYNC}",
    "sync, batch norm": f"{SYNC} --norm batch",
    "sync, pairs as they are": f"{SYNC} --pairs dataset",
    "sync, twins": f"{SYNC} --pairs twins",
    "sync, heads joint": f"{SYNC} --heads joint",
    "sync, heads joint, weights 1 0.1 0.1": f"{SYNC} --heads joint --loss_weights 1 0.1 0.1",
    "sync, contrastive alone": f"{SYNC} --loss_weights 1 0 0",
    "sync, authors' distance, margin 10": f"{SYNC} --distance authors --hyper_param 10",
    "sync, authors' distance": f"{SYNC} --distance authors",
    "sync, authors' start": f"{SYNC} --init authors",
    "authors, clip norm": "--norm clip",
}
COLUMNS = (
    "recipe",
    "seed",
    "pairs",
    "steps",
    "seconds",
    "test_auc",
    "test_chunk_auc",
    "control_auc",
    "distance_real",
    "distance_fake",
    "loss",
)
# what else decides a training's figures, with the file's name: where it differs, an earlier one is replaced
SETTINGS = ("lr", "speech", "test_speech", "seconds", "n_test", "crop_px")


def make_pair(folder: Path, i: int, seconds: int, size: int, speech: str) -> None:
    """Write the chunks of real video i and of its fake to the folder of a split, `<split>_...`, 30 fps and 48
    kHz.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng([zlib.crc32(folder.name.split("_")[0].encode()), i])
    scene = Scene(rng, size, seconds * FPS, FPS, EYE_DISTANCE)
    speaker = draw_speaker(rng, speech)
    spoken, other = (speak(rng, seconds, speaker, FPS) for _ in range(2))
    frames = scene.film(spoken.mouth)
    jpegs = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for frame in frames]
    for label, utterance in (("real", spoken), ("fake", other)):
        sound = resample_poly(utterance.samples, SAMPLE_RATE_HZ // 300, RATE_HZ // 300)
        sound = np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16)
        for chunk in range(seconds):
            target = folder / label / f"{i:05d}" / f"{chunk:05d}"
            target.mkdir(parents=True, exist_ok=True)
            for j, jpeg in enumerate(jpegs[chunk * CHUNK_FRAMES : (chunk + 1) * CHUNK_FRAMES]):
                (target / f"{j:06d}.jpg").write_bytes(jpeg)
            write_wav(
                target.with_name(target.name + ".wav"),
                sound[chunk * SAMPLE_RATE_HZ : (chunk + 1) * SAMPLE_RATE_HZ],
            )


def make_split(folder: Path, n_pairs: int, seconds: int, size: int, speech: str) -> pd.DataFrame:
    """Make what is missing of a split and return its index, paths relative to `folder`."""
    last_file = f"fake/{{:05d}}/{seconds - 1:05d}.wav"
    missing = [i for i in range(n_pairs) if not (folder / last_file.format(i)).exists()]
    make, progress = (
        partial(make_pair, folder, seconds=seconds, size=size, speech=speech),
        {"unit": "pair", "desc": f"making {folder}"},
    )
    if len(missing) <= N_ALONE:
        for i in tqdm(missing, **progress):
            make(i)
    else:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            list(tqdm(pool.map(make, missing), total=len(missing), **progress))
    rows = [
        (f"{label}/{i:05d}", code, 0, f"{chunk:05d}", f"{label}/{i:05d}/{chunk:05d}", float(chunk))
        for label, code in LABELS.items()
        for i in range(n_pairs)
        for chunk in range(seconds)
    ]
    return pd.DataFrame(rows, columns=["video", "label", "track", "chunk", "path", "start_s"])


def other_pictures(index: pd.DataFrame) -> pd.DataFrame:
    """The control: the sounds of an index under the pictures of other videos, real and fake alike."""
    n_pairs, seconds = index.video.nunique() // 2, index.groupby("video").size().iloc[0]
    other = (np.arange(len(index)) // seconds + 1) % n_pairs * seconds + np.arange(len(index)) % seconds
    # the real ones come first
    return index.assign(sound=index.path, path=index.path.to_numpy()[other])


class OutOfTime(Exception):
    """A training took the seconds that it may take."""


class Scored:
    """Scores the test split and the control after some epochs of a training.

    Args:
        index: of the test split, paths below `root`.
        every: steps between two scorings, at least. `budget_s`: seconds of training after which it ends.
    """

    def __init__(self, index: pd.DataFrame, root: Path, every: int, budget_s: float):
        self.index, self.root, self.every, self.budget_s = index, root, every, budget_s
        self.records: list[dict] = []
        self.n_steps, self.seconds = 0, 0.0  # of training

    def scores(self, training: train.Run, trainer: Trainer, index: pd.DataFrame) -> pd.DataFrame:
        dataset = ChunkDataset(index, self.root, training.network["img_dim"])
        loader = build_loader(dataset, scoring_batches(len(index), training.settings["batch_size"]), 0)
        how = (training.ranks, Execution(trainer.amp), StopSignal("stopping"), "test split")
        return score_chunks(trainer.model, index, loader, *how)

    def after_epoch(self, training: train.Run, trainer: Trainer, figures: dict) -> None:
        n_new = training.iteration - self.n_steps
        self.n_steps = training.iteration
        self.seconds += n_new * training.settings["batch_size"] / figures["chunks_per_s"]
        is_over = self.seconds > self.budget_s
        last = self.records[-1]["steps"] if self.records else 0
        if self.n_steps - last >= self.every or is_over or training.n_epochs == training.settings["epochs"]:
            self.records.append(
                {"steps": self.n_steps, "seconds": self.seconds} | self.figures(training, trainer)
            )
            self.records[-1]["loss"] = figures["loss"]
        if is_over:
            raise OutOfTime

    def figures(self, training: train.Run, trainer: Trainer) -> dict[str, float]:
        chunks = self.scores(training, trainer, self.index)
        control = self.scores(training, trainer, other_pictures(self.index))
        distances = {name: chunks.dissimilarity[chunks.label == code].mean() for name, code in LABELS.items()}
        return {
            "test_auc": video_auc(video_scores(chunks)),
            "test_chunk_auc": video_auc(chunks.assign(mds=chunks.dissimilarity)),
            "control_auc": video_auc(video_scores(control)),
            **{f"distance_{name}": distance for name, distance in distances.items()},
        }


@contextmanager
def measured(scored: Scored) -> Iterator[None]:
    """Have train.py score after its epochs; without checkpoints and threshold."""
    end_epoch = train.Run.end_epoch

    def end(training: train.Run, trainer: Trainer, figures: dict) -> None:
        end_epoch(training, trainer, figures)
        scored.after_epoch(training, trainer, figures)

    nothing = ("keep_checkpoint", "store_threshold")
    with ExitStack() as patches, redirect_stdout(StringIO()), suppress(OutOfTime):
        patches.enter_context(mock.patch.object(train.Run, "end_epoch", end))
        for name in nothing:
            patches.enter_context(mock.patch.object(train, name))
        yield


def learn(
    recipe: str, seed: int, index: pd.DataFrame, scored: Scored, flags: dict[str, object], n_steps: int
) -> None:
    """Train by a recipe on the chunks of an index below `scored.root`; `flags` are more of train.py."""
    own = RECIPES[recipe]
    if own.startswith(REAL_ALONE):
        index, own = index[index.label == LABELS["real"]], own.removeprefix(REAL_ALONE)
    index.to_csv(scored.root / "train_split.csv", index=False)
    per_epoch = max(1, len(index) // int(str(flags["batch_size"])))
    epochs = -(-n_steps // per_epoch)
    more = {
        "out_dir": scored.root,
        "log_dir": scored.root / "log",
        "epochs": epochs,
        "seed": seed,
        "save_every_min": 0,
    }
    words = [word for name, value in (flags | more).items() for word in (f"--{name}", str(value))]
    with measured(scored):
        train.main([*words, "--overwrite", *own.split()])
    shutil.rmtree(scored.root / "log")


def plot(table: pd.DataFrame, path: Path) -> None:
    """AUC, and distances of true and foreign sound, against steps: a dot for each training, a line for their
    mean.
    """
    figure = Figure(figsize=(13, 4.5), layout="constrained")
    aucs, distances = figure.subplots(1, 2)
    for i, (recipe, records) in enumerate(table.groupby("recipe", sort=False)):
        mean = records.groupby("steps").mean(numeric_only=True)
        look = {"color": f"C{i % 10}", "ls": "-" if i < 10 else "-."}
        aucs.plot(records.steps, records.test_auc, ".", color=look["color"])
        aucs.plot(mean.index, mean.test_auc, label=recipe, **look)
        distances.plot(mean.index, mean.distance_real, ".-", color=look["color"])
        distances.plot(mean.index, mean.distance_fake, ".:", color=look["color"])
    aucs.axhline(0.5, color="black", lw=0.5)
    aucs.set(xlabel="training steps", ylabel="AUC on unseen videos", ylim=(0.3, 1.02))
    words = "mean distance: own sound (line), foreign sound (dots)"
    distances.set(xlabel="training steps", ylabel=words, yscale="log")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=120)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=to_path, required=True, help="folder for chunks and results")
    add("--n_train", type=number(int, 2), nargs="+", default=[100], help="pairs of a real and a fake video")
    add("--n_test", type=number(int, 2), default=60, help="pairs")
    add("--seconds", type=number(int, 1), default=5, help="length of a video")
    add("--img_dim", type=number(int, 32), default=32, help="side of the frames in pixels")
    add("--crop_px", type=number(int, 32), help="side of the frames on disk (default: that of --img_dim)")
    add("--width", type=number(float, 0.05, 1), default=1.0, help="of the network's layers")
    add("--lr", type=number(float, 0, open_low=True), help="of every recipe (default: each one's own)")
    add("--steps", type=number(int, 1), default=150, help="of a training, rounded up to whole epochs")
    add("--score_every", type=number(int, 1), default=30, help="steps between two scorings, at least")
    add(
        "--budget_s",
        type=number(float, 0),
        default=float("inf"),
        help="of a training: no epoch begins after it",
    )
    add("--seeds", type=number(int, 1), default=1, help="trainings of each kind")
    add(
        "--make_only",
        action="store_true",
        help="make the chunks, train_split.csv and test_split.csv, and stop",
    )
    add("--batch_size", type=number(int, 2), default=32, help="chunks")
    add(
        "--recipes",
        nargs="*",
        choices=RECIPES,
        default=["authors", "sync"],
        metavar="NAME",
        help=f"some of: {'; '.join(RECIPES)}. Without names all",
    )
    add_speech_flags(parser)
    add("--amp", choices=PRECISIONS, default="bf16", help="mixed precision")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    add("--num_workers", type=number(int, 0), default=n_cores(), help="loader processes")
    return parser.parse_args(argv)


def make_data(args: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The indices of the training and of the test split, whose chunks are made where they are missing."""
    crop_px, indices = args.crop_px or args.img_dim, []
    splits = {
        "train": (max(args.n_train), args.speech),
        "test": (args.n_test, args.test_speech or args.speech),
    }
    for split, (n_pairs, speech) in splits.items():
        folder = args.out / f"{split}_{crop_px}px_{args.seconds}s_{speech}"
        index = make_split(folder, n_pairs, args.seconds, crop_px, speech)
        indices.append(index.assign(path=[f"{folder.name}/{path}" for path in index.path]))
        indices[-1].to_csv(args.out / f"{split}_split.csv", index=False)
    return indices[0], indices[1]


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    check_speech(args.speech, args.test_speech or args.speech)
    index, test_index = make_data(args)
    if args.make_only:
        return
    device = Ranks(args.device).device
    names = ("img_dim", "width", "batch_size", "amp", "device", "num_workers")
    flags = {name: vars(args)[name] for name in names} | ({"lr": args.lr} if args.lr else {})
    print(
        f"{device_name(device)}; PyTorch {torch.__version__}; frames of {args.img_dim} pixels, width "
        f"{args.width:g}, "
        f"batch {args.batch_size}, --amp {args.amp}; test: {2 * args.n_test} videos, {len(test_index)} "
        "chunks\n"
    )
    file = args.out / f"learning_{args.img_dim}px_w{args.width:g}_bs{args.batch_size}_{args.amp}.csv"
    records = pd.read_csv(file).to_dict("records") if file.exists() else []
    settings = " ".join(f"{name}={vars(args)[name]}" for name in SETTINGS)
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for n_pairs, recipe, seed in product(sorted(args.n_train), args.recipes or RECIPES, range(args.seeds)):
        few = index[index.video.str[5:].astype(int) < n_pairs]
        named = {"recipe": recipe, "seed": seed, "pairs": n_pairs}
        of_earlier = [
            record for record in records if (named | {"settings": settings}).items() <= record.items()
        ]
        own = of_earlier
        if max((record["steps"] for record in of_earlier), default=0) < args.steps:
            scored = Scored(test_index, args.out, args.score_every, args.budget_s)
            learn(recipe, seed, few, scored, flags, args.steps)
            own = [named | record | {"settings": settings} for record in scored.records]
            records = [record for record in records if not named.items() <= record.items()] + own
        for record in own:
            cells = (f"{x:.3g}" if isinstance(x, float) else str(x) for x in map(record.get, COLUMNS))
            print(f"| {' | '.join(cells)} |", flush=True)
        table = pd.DataFrame(records)[[*COLUMNS, "settings"]]
        table.to_csv(file, index=False)
        plot(table, file.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
