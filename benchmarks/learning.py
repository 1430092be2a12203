"""Does the network learn dissonance? AUC against training chunks and epochs on fakes whose only manipulation
is another sound.

    python benchmarks/learning.py --out learning --n_train 25 50 100 --epochs 4
    python benchmarks/learning.py --out learning --n_train 1000 4000 --epochs 20 --img_dim 112 --batch_size 64
    --device cuda

Talking heads as in the demo, seen from nearer, whose chunks are written as they are made.  Each fake has the
picture of a real video and the sound of another utterance by the same voice: neither picture nor sound alone
tells them apart, and no utterance of the test split is in the training split.  Training and scoring are those
of train.py.  Writes the chunks, learning_<settings>.csv (a row per epoch) and .png to --out and prints a
Markdown table.  Chunks and results that are there are kept: another call adds to them.
"""

import argparse
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.signal import resample_poly
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from dataset import ChunkDataset, build_loader, epoch_batches, scoring_batches
from demo.make_videos import RATE_HZ, Scene, speak
from engine import (
    AMP,
    Epoch,
    Execution,
    Objective,
    Trainer,
    epoch_figures,
    forward,
    score_chunks,
    train_epoch,
    video_auc,
)
from mds import video_scores
from model import TwoStreamNet
from utils.chunkfiles import write_wav
from utils.cli import n_cores, number, run, to_path
from utils.constants import CHUNK_FRAMES, FPS, LABELS, SAMPLE_RATE_HZ
from utils.environment import device_name
from utils.ranks import Ranks, StopSignal

EYE_DISTANCE = 0.335  # of the frame's side: what pre-process.py cuts out
MARGIN = 0.99  # of the contrastive loss, the authors'


class Recipe(NamedTuple):
    """How to train: `cross` by `train_crosswise` on the real videos alone, else as train.py does."""

    init: str
    distance: str
    lr: float
    norm: str = "batch"
    cross: bool = False


RECIPES = {
    "authors": Recipe("authors", "authors", 1e-3),
    "small start": Recipe("torch", "authors", 2e-4),
    "standardised": Recipe("torch", "standardised", 2e-4),
    "clip": Recipe("torch", "standardised", 2e-4, norm="clip"),
    "cross batch": Recipe("torch", "standardised", 2.5e-4, cross=True),
    "cross": Recipe("torch", "standardised", 2.5e-4, norm="clip", cross=True),
}
CROSS_CHUNKS = 4  # of a video in a batch
N_ALONE = 4  # pairs that are made sooner than other processes start
COLOURS = ("tab:grey", "tab:blue", "tab:red", "tab:green", "tab:orange", "tab:purple")


def train_crosswise(trainer: Trainer, epoch: Epoch, loader: DataLoader, groups: torch.Tensor) -> None:
    """Train by the contrastive term alone, on every picture with every sound of the same video in the batch.

    Real videos are enough: a picture with its own second of sound is real, with another second's it is fake.

    Args:
        groups: (n,) the number of the video of each row of the index.
    """
    device = trainer.ranks.device
    trainer.model.train()
    for batch in epoch.batches(loader):
        with epoch.step():
            out = forward(trainer.net, batch, device, trainer.amp)
            distances = torch.cdist(
                out["video_emb"], out["audio_emb"], compute_mode="donot_use_mm_for_euclid_dist"
            )  # (B, B)
            group = groups[batch["row"].to(device)]
            own = torch.eye(len(group), dtype=torch.bool, device=device)
            same_video = group[:, None] == group
            real = distances[own].square().mean()
            fake = (MARGIN - distances[same_video & ~own]).clamp(min=0).square().mean()
            loss = (real + fake) / 2
            trainer.scaler.scale(loss).backward()
            nothing = torch.zeros_like(loss)
            epoch.note(batch["row"], distances[own], torch.stack([loss, nothing, nothing]))
            trainer.update()


def cross_batches(groups: np.ndarray, seed: int, batch_size: int) -> list[list[int]]:
    """Batches of rows in which each video has `CROSS_CHUNKS` chunks, as many batches as the rows fill."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(groups == group)) for group in np.unique(groups)]
    parts = [part for own in rows for part in np.array_split(own, max(1, len(own) // CROSS_CHUNKS))]
    order = np.concatenate([parts[i] for i in rng.permutation(len(parts))])
    return order[: len(order) // batch_size * batch_size].reshape(-1, batch_size).tolist()


def make_pair(folder: Path, i: int, seconds: int, size: int) -> None:
    """Write the chunks of real video i and of its fake to the folder of a split, `<split>_...`, 30 fps and 48
    kHz.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng([zlib.crc32(folder.name.split("_")[0].encode()), i])
    scene = Scene(rng, size, seconds * FPS, FPS, EYE_DISTANCE)
    spoken, other = (speak(rng, seconds, scene.pitch_hz, FPS) for _ in range(2))
    frames = [
        scene.finish(scene.face.speak(spoken.opening[j], spoken.width[j]), j) for j in range(seconds * FPS)
    ]
    jpegs = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for frame in frames]
    for label, speech in (("real", spoken), ("fake", other)):
        sound = resample_poly(speech.samples, SAMPLE_RATE_HZ // 300, RATE_HZ // 300)
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


def make_split(folder: Path, n_pairs: int, seconds: int, size: int) -> pd.DataFrame:
    """Make what is missing of a split and return its index, paths relative to `folder`."""
    last_file = f"fake/{{:05d}}/{seconds - 1:05d}.wav"
    missing = [i for i in range(n_pairs) if not (folder / last_file.format(i)).exists()]
    make, progress = (
        partial(make_pair, folder, seconds=seconds, size=size),
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


def learn(
    recipe: str,
    train_set: ChunkDataset,
    index: pd.DataFrame,
    test_set: ChunkDataset,
    test_index: pd.DataFrame,
    ranks: Ranks,
    epochs: int,
    batch_size: int,
    num_workers: int,
    amp: str,
    budget_s: float,
) -> Iterator[dict]:
    """Train on the chunks of an index and score the test split: a record after each epoch, until `budget_s`
    seconds are spent.
    """
    init, distance, lr, norm, is_cross = RECIPES[recipe]
    torch.manual_seed(0)
    model = TwoStreamNet(img_dim=train_set.img_dim, init=init, distance=distance, norm=norm).to(ranks.device)
    execution = Execution(amp)
    trainer = Trainer(model, ranks, Objective(MARGIN), lr=lr, weight_decay=1e-5, execution=execution)
    if is_cross:
        index = index[index.label == LABELS["real"]].reset_index(drop=True)
        train_set = ChunkDataset(index, train_set.root, train_set.img_dim)
        groups = index.video.factorize()[0]
    start = time.monotonic()
    for epoch in range(epochs):
        state = Epoch(index, ranks, epoch)
        batches = (
            cross_batches(groups, epoch, batch_size)
            if is_cross
            else epoch_batches(train_set.labels, epoch, batch_size)
        )
        loader = build_loader(train_set, batches, num_workers, ranks.on_gpu)
        if is_cross:
            train_crosswise(trainer, state, loader, torch.from_numpy(groups).to(ranks.device))
        else:
            train_epoch(trainer, state, loader)
        state.check_finite(epoch + 1)
        stats = epoch_figures(state.gathered(), index, ranks.device)
        loader = build_loader(test_set, scoring_batches(len(test_index), batch_size), num_workers)
        chunks = score_chunks(
            model, test_index, loader, ranks, execution, StopSignal("stopping"), "test split"
        )
        is_fake = chunks.label == LABELS["fake"]
        yield {
            "recipe": recipe,
            "chunks": len(index),
            "epoch": epoch + 1,
            "seconds": time.monotonic() - start,
            "contrastive": stats["contrastive"],
            "train_auc": stats["train_auc"],
            "test_auc": video_auc(video_scores(chunks)),
            "test_chunk_auc": roc_auc_score(is_fake, chunks.dissimilarity),
            "test_distance_real": chunks.dissimilarity[~is_fake].mean(),
            "test_distance_fake": chunks.dissimilarity[is_fake].mean(),
            "chunks_per_s": stats["chunks_per_s"],
        }
        if time.monotonic() - start > budget_s:
            return


def plot(records: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(11, 4), layout="constrained")
    over_time, over_chunks = figure.subplots(1, 2, sharey=True)
    colours = dict(zip(RECIPES, COLOURS, strict=True))
    styles = dict(zip(sorted(set(records.chunks), reverse=True), cycle(("-", "--", ":", "-.")), strict=False))
    for (recipe, n_chunks), run_records in records.groupby(["recipe", "chunks"], sort=False):
        label = f"{recipe}, {n_chunks} chunks"
        over_time.plot(
            run_records.seconds,
            run_records.test_auc,
            styles[n_chunks],
            marker=".",
            color=colours[recipe],
            label=label,
        )
    last = records.groupby(["recipe", "chunks"], sort=False).last().reset_index()
    for recipe, run_records in last.groupby("recipe", sort=False):
        over_chunks.plot(
            run_records.chunks, run_records.test_auc, ".-", color=colours[recipe], label=f"{recipe}, test"
        )
        over_chunks.plot(
            run_records.chunks,
            run_records.train_auc,
            ".:",
            color=colours[recipe],
            label=f"{recipe}, training",
        )
    over_time.set(xlabel="seconds", ylabel="video-wise AUC on unseen utterances", title="over the time")
    over_chunks.set(xlabel="training chunks", xscale="log", title="in the end")
    for axes in (over_time, over_chunks):
        axes.axhline(0.5, color="black", lw=0.5)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--out", type=to_path, required=True, help="folder for chunks and results")
    add(
        "--n_train",
        type=number(int, 2),
        nargs="+",
        default=[25, 50, 100],
        help="pairs of a real and a fake video (default: 25 50 100)",
    )
    add("--n_test", type=number(int, 2), default=40, help="pairs (default: 40)")
    add("--seconds", type=number(int, 1), default=5, help="length of a video (default: 5)")
    add("--img_dim", type=number(int, 32), default=48, help="side of the frames in pixels (default: 48)")
    add("--crop_px", type=number(int, 32), help="side of the frames on disk (default: that of --img_dim)")
    add(
        "--budget_s",
        type=number(float, 0),
        default=float("inf"),
        help="of each training: no epoch begins after it",
    )
    add(
        "--make_only",
        action="store_true",
        help="make the chunks and train_split.csv and test_split.csv beside them, and stop",
    )
    add("--batch_size", type=number(int, 2), default=8, help="chunks (default: 8)")
    add("--epochs", type=number(int, 1), default=4, help="default: 4")
    add("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), help=f"default: {' '.join(RECIPES)}")
    add("--amp", choices=AMP, default="bf16", help="mixed precision (default: bf16)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    add(
        "--num_workers",
        type=number(int, 0),
        default=n_cores(),
        help="loader processes (default: the cores available)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    crop_px = args.crop_px or args.img_dim
    train_dir, test_dir = (args.out / f"{split}_{crop_px}px_{args.seconds}s" for split in ("train", "test"))
    index = make_split(train_dir, max(args.n_train), args.seconds, crop_px)
    test_index = make_split(test_dir, args.n_test, args.seconds, crop_px)
    if args.make_only:
        for split, folder, rows in (("train", train_dir, index), ("test", test_dir, test_index)):
            rows.assign(path=[f"{folder.name}/{path}" for path in rows.path]).to_csv(
                args.out / f"{split}_split.csv", index=False
            )
        return
    test_set = ChunkDataset(test_index, test_dir, args.img_dim)
    ranks = Ranks(args.device)
    print(
        f"{device_name(ranks.device)}; PyTorch {torch.__version__}; frames of {args.img_dim} pixels, batch "
        f"{args.batch_size}, "
        f"--amp {args.amp}; test: {2 * args.n_test} videos, {len(test_index)} chunks\n"
    )
    file = args.out / f"learning_{args.img_dim}px_{args.seconds}s_bs{args.batch_size}_{args.amp}.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame()
    print(
        "| recipe | chunks | epoch | seconds | contrastive loss | AUC training | AUC test | by chunk | "
        "distance real | fake "
        "| chunks/s |"
    )
    print("|---" * 11 + "|")
    for n_pairs in sorted(args.n_train):
        few = index[index.video.str[5:].astype(int) < n_pairs].reset_index(drop=True)
        train_set = ChunkDataset(few, train_dir, args.img_dim)
        for recipe in args.recipes:
            settings = (args.epochs, args.batch_size, args.num_workers, args.amp, args.budget_s)
            if len(table):  # of earlier calls
                table = table[(table.recipe != recipe) | (table.chunks != len(few))]
            for record in learn(recipe, train_set, few, test_set, test_index, ranks, *settings):
                print(
                    "| "
                    + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in record.values())
                    + " |",
                    flush=True,
                )
                table = pd.concat([table, pd.DataFrame([record])])
                table.to_csv(file, index=False)
                plot(table, file.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
