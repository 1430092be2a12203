"""Train the two-stream network, resume a run, or score the test split.

    python train.py --epochs 50 --out_dir .
    python train.py --epochs 50 --out_dir . --resume
    python train.py --test --out_dir .

Reads <out_dir>/train_split.csv (and test_split.csv for --test).  Training writes to <log_dir>/<run>/: model/epoch<N>.pth.tar
(the newest), model/model_best_epoch<N>.pth.tar (lowest training loss) and TensorBoard scalars in img/train.  --test writes
scores.csv, track_scores.csv, chunk_scores.csv and scores.json to --scores_dir for test.py.
"""

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from tensorboardX import SummaryWriter
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from augmentation import AUGMENTATIONS, Augmentation, normalize
from dataset import ChunkDataset, build_loader, read_index
from model import INITS, RESNETS, TwoStreamNet, contrastive_loss, dissimilarity
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.cli import UserError, n_cores, number, pick_device, run
from utils.files import replacing
from utils.labels import LABELS
from utils.media import CHUNK_FRAMES, FPS
from utils.scoring import mean_mds, track_scores, video_scores

LOSS_TERMS = ("contrastive", "video_ce", "audio_ce")
NEWEST = "newest"  # value of --resume and --test without a path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    start = parser.add_mutually_exclusive_group()
    add("--out_dir", type=Path, required=True, help="folder with train_split.csv and test_split.csv")
    add("--epochs", type=number(int, 1), default=100, help="epochs in all, resumed ones included (default: 100)")
    add("--batch_size", type=number(int, 2), default=8, help="chunks per step (default: 8)")
    add("--lr", type=number(float, 0, open_low=True), default=1e-3, help="Adam's learning rate (default: 1e-3)")
    add("--wd", type=number(float, 0), default=1e-5, help="weight decay (default: 1e-5)")
    add("--hyper_param", type=number(float, 0, open_low=True), default=0.99, help="contrastive margin (default: 0.99)")
    add("--net", choices=RESNETS, default="resnet18", help="visual stream (default: resnet18)")
    add("--img_dim", type=number(int, 32), default=224, help="side of the frames in pixels (default: 224)")
    add("--final_dim", type=number(int, 1), default=1024, help="size of the embeddings (default: 1024)")
    add("--dropout", type=number(float, 0, 1), default=0.5, help="before the classifiers (default: 0.5)")
    add("--init", choices=INITS, default="authors", help="initialisation of the linear layers (default: authors)")
    add("--augment", nargs="*", choices=AUGMENTATIONS, metavar="NAME",
        help=f"augmentations out of {' '.join(AUGMENTATIONS)}; without names all (default: none)")  # fmt: skip
    add("--seed", type=number(int, 0), default=0, help="of initialisation, order, dropout, augmentation (default: 0)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)")
    add("--gpu", type=number(int, 0), default=0, help="index of the GPU (default: 0)")
    add("--num_workers", type=number(int, 0), default=min(8, n_cores()),
        help="loader processes (default: the cores available, at most 8)")  # fmt: skip
    add("--print_freq", type=number(int, 1), default=10, help="steps between printed lines (default: 10)")
    add("--log_dir", type=Path, default=Path("log_tmp"), help="where run folders are made (default: log_tmp)")
    start.add_argument("--resume", nargs="?", const=NEWEST, metavar="CHECKPOINT",
        help="go on from a checkpoint; without a path from the newest of this run folder, if there is one")  # fmt: skip
    add("--start-epoch", dest="start_epoch", type=number(int, 0), default=0,
        help="number of the first epoch (default: 0; --resume sets it)")  # fmt: skip
    start.add_argument(
        "--overwrite", action="store_true", help="start anew in a run folder that holds checkpoints, and delete them"
    )
    add("--reset_lr", action="store_true", help="with --resume: take --lr, not the checkpoint's rate")
    start.add_argument("--test", nargs="?", const=NEWEST, metavar="CHECKPOINT",
        help="score the test split and stop; without a path by the best checkpoint of this run folder")  # fmt: skip
    add("--scores_dir", type=Path, default=Path("."), help="where --test writes (default: .)")
    add("--threshold", type=float, default=0.3,
        help="accepted for the authors' command lines, without effect: ours is computed from the training videos")  # fmt: skip
    return parser.parse_args(argv)


def find_checkpoint(model_dir: Path, prefix: str) -> Path:
    """The checkpoint `<prefix><N>.pth.tar` with the highest N."""
    numbered = [(int(m[1]), p) for p in model_dir.glob("*") if (m := re.fullmatch(rf"{prefix}(\d+)\.pth\.tar", p.name))]
    if not numbered:
        raise UserError(f"no {prefix}<N>.pth.tar in {model_dir}; train first, give the flags of the run, or name a checkpoint.")
    return max(numbered)[1]


def build_model(checkpoint: dict, path: Path) -> TwoStreamNet:
    """The network that a checkpoint describes, with its weights; UserError if they do not fit."""
    model = TwoStreamNet(**checkpoint["config"])
    load_state(model, checkpoint["state_dict"], path)
    return model


def load_state(target: TwoStreamNet | torch.optim.Optimizer, state: dict, path: Path) -> None:
    """Load a state of the checkpoint at `path` into a network or an optimiser; UserError if it does not fit."""
    try:
        target.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        detail = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not fit --net, --img_dim and --final_dim as given: {detail}") from error


def losses(out: dict[str, Tensor], label: Tensor, margin: float) -> Tensor:
    """The three terms of the loss, `LOSS_TERMS`, as a (3,) tensor."""
    return torch.stack(
        [
            contrastive_loss(out["video_emb"], out["audio_emb"], label, margin),
            F.cross_entropy(out["video_logits"], label),
            F.cross_entropy(out["audio_logits"], label),
        ]
    )


def check_finite(values: Sequence[float], names: Iterable[str], where: str) -> None:
    if not np.isfinite(values).all():
        named = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))
        raise UserError(f"not finite: {where} ({named}); try a lower --lr.")


def report_errors(batch: dict) -> None:
    # DEVIATION: chunks that can't be read are named and counted; the authors drop them without a word
    for error in batch["errors"]:
        tqdm.write(f"left out, can't be read: {error}")


def train_epoch(
    model: TwoStreamNet,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    margin: float,
    epoch: int,
    print_freq: int,
    writer: SummaryWriter,
    iteration: int,
) -> tuple[dict, int]:
    """Train for one epoch.

    Returns:
        The epoch's means: loss, each of `LOSS_TERMS`, avg_score_real and avg_score_fake (dissimilarity of the chunks as
        they were seen, in training mode), and the iteration reached.

    Raises:
        UserError: the loss is not finite; nothing of the epoch is kept.
    """
    model.train()
    sums = torch.zeros(3, device=device)
    score_sums = torch.zeros(2, device=device)  # by label: fake, real
    score_counts = torch.zeros(2, device=device)
    n_steps = 0
    start = time.perf_counter()
    for batch in (progress := tqdm(loader, unit="step", desc=f"epoch {epoch + 1}", leave=False)):
        report_errors(batch)
        label = batch["label"].to(device, non_blocking=True)
        if len(label) < 2:  # batch normalisation needs two
            continue
        out = model(normalize(batch["video"].to(device, non_blocking=True)), batch["audio"].to(device, non_blocking=True))
        terms = losses(out, label, margin)
        optimizer.zero_grad(set_to_none=True)
        terms.sum().backward()
        optimizer.step()

        iteration += 1
        n_steps += 1
        sums += terms.detach()
        distance = dissimilarity(out["video_emb"], out["audio_emb"]).detach()
        score_sums.index_add_(0, label, distance)
        score_counts.index_add_(0, label, torch.ones_like(distance))
        if n_steps % print_freq == 0 or n_steps == len(loader):
            values = terms.tolist()  # waits for the device
            check_finite(values, LOSS_TERMS, f"the loss in epoch {epoch + 1}, step {n_steps}")
            rate = n_steps * loader.batch_size / (time.perf_counter() - start)
            named = "  ".join(f"{name} {value:.4f}" for name, value in zip(LOSS_TERMS, values, strict=True))
            progress.write(
                f"epoch {epoch + 1} step {n_steps}/{len(loader)}  loss {sum(values):.4f}  {named}  {rate:.1f} chunks/s"
            )
            writer.add_scalar("local/loss", sum(values), iteration)
    if n_steps == 0:
        raise UserError("no batch of readable chunks in the whole epoch; run write_csv.py again to see what is damaged.")
    means = (sums / n_steps).tolist()
    check_finite(means, LOSS_TERMS, f"the mean loss of epoch {epoch + 1}")
    scores = (score_sums / score_counts).tolist()
    stats = {"loss": sum(means), **dict(zip(LOSS_TERMS, means, strict=True))}
    return stats | {"avg_score_fake": scores[LABELS["fake"]], "avg_score_real": scores[LABELS["real"]]}, iteration


@torch.inference_mode()
def score_chunks(model: TwoStreamNet, index: pd.DataFrame, loader: DataLoader, device: torch.device, what: str) -> pd.DataFrame:
    """Score every chunk of an index in evaluation mode.

    Returns:
        The columns video, label, track, chunk, start_s of the index for the chunks that could be read, and end_s,
        dissimilarity, p_fake_video, p_fake_audio (the two heads' probability of fake, 0..1).
    """
    model.eval()
    rows, columns = [], {"dissimilarity": [], "p_fake_video": [], "p_fake_audio": []}
    for batch in tqdm(loader, unit="batch", desc=what, leave=False):
        report_errors(batch)
        if not len(batch["row"]):
            continue
        out = model(normalize(batch["video"].to(device, non_blocking=True)), batch["audio"].to(device, non_blocking=True))
        rows += batch["row"].tolist()
        columns["dissimilarity"] += dissimilarity(out["video_emb"], out["audio_emb"]).tolist()
        for head in ("video", "audio"):
            columns[f"p_fake_{head}"] += out[f"{head}_logits"].softmax(1)[:, LABELS["fake"]].tolist()
    if not rows:
        raise UserError(f"{what}: none of the {len(index)} chunks can be read; run write_csv.py again to see why.")
    scores = index.iloc[rows][["video", "label", "track", "chunk", "start_s"]].reset_index(drop=True)
    return scores.assign(end_s=scores.start_s + CHUNK_FRAMES / FPS, **columns)


def score_split(
    checkpoint_path: Path, config: dict, index: pd.DataFrame, out_dir: Path, batch_size: int, num_workers: int,
    device: torch.device, what: str,
) -> tuple[dict, pd.DataFrame]:  # fmt: skip
    """Score the chunks of an index by a checkpoint: the checkpoint and the table of `score_chunks`."""
    checkpoint = load_checkpoint(checkpoint_path, config)
    model = build_model(checkpoint, checkpoint_path).to(device)
    loader = build_loader(ChunkDataset(index, out_dir, checkpoint["config"]["img_dim"]), batch_size, num_workers)
    return checkpoint, score_chunks(model, index, loader, device, what)


def stored_threshold(checkpoint: dict) -> tuple[float | None, str]:
    """The paper's threshold in a checkpoint and where it comes from; None if the checkpoint has none."""
    if "threshold" in checkpoint:
        return checkpoint["threshold"], "midpoint of the mean MDS of real and fake training videos"
    means = [checkpoint.get(f"avg_score_{label}") for label in LABELS]
    if None not in means and np.isfinite(np.array(means, float)).all():
        return float(np.mean(means)), "midpoint of the training epoch's mean scores, measured in training mode"
    return None, "none: the checkpoint holds none"


def write_scores(scores_dir: Path, checkpoint_path: Path, checkpoint: dict, index: pd.DataFrame, chunks: pd.DataFrame) -> None:
    """Write scores.csv, track_scores.csv, chunk_scores.csv and scores.json, and say what could not be scored."""
    videos = video_scores(chunks)
    threshold, origin = stored_threshold(checkpoint)
    scores_dir.mkdir(parents=True, exist_ok=True)
    summary = {
        "checkpoint": str(checkpoint_path),
        "threshold": threshold,
        "threshold_origin": origin,
        "polarity": "higher is more fake",
    }
    with replacing(scores_dir / "scores.json") as path:
        path.write_text(json.dumps(summary, indent=1) + "\n")
    tables = (("chunk_scores.csv", chunks), ("track_scores.csv", track_scores(chunks)), ("scores.csv", videos))
    for name, scores in tables:
        with replacing(scores_dir / name) as path:
            scores.to_csv(path, index=False, errors="surrogateescape")
    n_lost = len(index) - len(chunks)
    print(f"scored {len(videos)} videos, {len(chunks)} chunks" + (f"; {n_lost} chunks could not be read" if n_lost else ""))
    for video in sorted(set(index.video) - set(videos.video)):
        print(f"no readable chunk, so no score: {video}")
    names = ", ".join(("scores.json", *(name for name, _ in tables)))
    print(f"written in {scores_dir}: {names}; now: python test.py --scores_dir {scores_dir}")


def keep_checkpoint(model_dir: Path, checkpoint: dict, is_best: bool) -> None:
    """Save a checkpoint as the newest, if it is one as the best too, and delete those that it takes the place of.

    The two names share one file where the file system allows. The best is written first: a crash in between costs the
    epoch, which is then trained again.
    """
    newest = model_dir / f"epoch{checkpoint['epoch']}.pth.tar"
    if is_best:
        best = model_dir / f"model_best_{newest.name}"
        save_checkpoint(best, checkpoint)
        with replacing(newest) as partial:
            partial.unlink(missing_ok=True)
            try:
                os.link(best, partial)
            except OSError:
                shutil.copyfile(best, partial)
        delete_others(model_dir, "model_best_epoch*.pth.tar", best)
    else:
        save_checkpoint(newest, checkpoint)
    delete_others(model_dir, "epoch*.pth.tar", newest)


def delete_others(folder: Path, pattern: str, kept: Path) -> None:
    for path in folder.glob(pattern):
        if path != kept:
            path.unlink()


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    device = pick_device(args.device, args.gpu)
    depth = args.net.removeprefix("resnet")
    run_dir = args.log_dir / f"deepfake_audio-{args.img_dim}_r{depth}_bs{args.batch_size}_lr{args.lr:g}"
    model_dir = run_dir / "model"
    config = {"net": args.net, "img_dim": args.img_dim, "final_dim": args.final_dim, "dropout": args.dropout}
    if args.test:
        path = find_checkpoint(model_dir, "model_best_epoch") if args.test == NEWEST else Path(args.test)
        index = read_index(args.out_dir, "test")
        checkpoint, chunks = score_split(
            path, config, index, args.out_dir, args.batch_size, args.num_workers, device, "scoring the test split"
        )
        write_scores(args.scores_dir, path, checkpoint, index, chunks)
        return

    index = read_index(args.out_dir, "train")
    if index.label.nunique() < 2:
        only = next(name for name, code in LABELS.items() if code == index.label[0])
        raise UserError(f"the training split has only {only} chunks; it needs real and fake ones.")
    if len(index) < args.batch_size:
        raise UserError(f"the training split has {len(index)} chunks, --batch_size is {args.batch_size}; lower it.")
    names = AUGMENTATIONS if args.augment == [] else args.augment
    augmentation = Augmentation(names, args.img_dim) if names else None
    dataset = ChunkDataset(index, args.out_dir, args.img_dim, augmentation, args.seed)
    torch.manual_seed(args.seed)
    model = TwoStreamNet(**config, init=args.init).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.wd, fused=True)
    first_epoch, iteration, least_loss = args.start_epoch, 0, float("inf")
    if args.resume == NEWEST and not any(model_dir.glob("epoch*.pth.tar")):
        print(f"nothing to resume in {model_dir}, so this run starts with epoch 1")
    elif args.resume:
        path = find_checkpoint(model_dir, "epoch") if args.resume == NEWEST else Path(args.resume)
        if path.resolve().parent != model_dir.resolve() and any(model_dir.glob("*.pth.tar")):
            raise UserError(f"{path} would take the place of another run's checkpoints in {model_dir}; name another --log_dir.")
        checkpoint = load_checkpoint(path, config)
        missing = {"optimizer", "epoch", "iteration", "least_loss"} - checkpoint.keys()
        if missing:
            raise UserError(f"{path} can't be resumed, it holds no {', '.join(sorted(missing))}; --test takes it.")
        differ = [f"--{k} {v}" for k, v in checkpoint["config"].items() if k != "dropout" and v != config[k]]
        if differ:
            raise UserError(f"{path} was trained with {' '.join(differ)}; give the same flags.")
        load_state(model, checkpoint["state_dict"], path)
        load_state(optimizer, checkpoint["optimizer"], path)
        if args.reset_lr:
            for group in optimizer.param_groups:
                group["lr"] = args.lr
        first_epoch, iteration = checkpoint["epoch"], checkpoint["iteration"]
        if any(model_dir.glob("model_best_epoch*")):  # else the best of this folder is still to come
            least_loss = float(checkpoint["least_loss"])
        print(f"resumed from {path} after {first_epoch} epochs")
    elif any(model_dir.glob("*.pth.tar")):
        if not args.overwrite:
            raise UserError(
                f"{model_dir} holds checkpoints; go on with --resume, start anew with --overwrite, or name another --log_dir."
            )
        shutil.rmtree(run_dir)
    model_dir.mkdir(parents=True, exist_ok=True)
    writer = SummaryWriter(str(run_dir / "img" / "train"))
    n_out = len(index) % args.batch_size
    print(f"run folder {run_dir}, {len(index)} chunks of {index.video.nunique()} videos, on {device}"
          + (f"; each epoch leaves {n_out} of them out, another choice each time: no full batch" if n_out else ""))  # fmt: skip
    if first_epoch >= args.epochs:
        print(f"nothing left to train: {first_epoch} epochs are done, --epochs is {args.epochs}")

    for epoch in range(first_epoch, args.epochs):
        seed = args.seed + epoch  # at each epoch's start, so that a resumed run equals a straight one
        torch.manual_seed(seed)
        dataset.epoch = epoch
        loader = build_loader(dataset, args.batch_size, args.num_workers, shuffle_seed=seed)
        stats, iteration = train_epoch(
            model, loader, optimizer, device, args.hyper_param, epoch, args.print_freq, writer, iteration
        )
        # DEVIATION: the best epoch has the lowest mean loss of the whole epoch, not of its last 5 batches
        is_best = stats["loss"] < least_loss
        least_loss = min(least_loss, stats["loss"])
        checkpoint = {
            "epoch": epoch + 1,
            "net": args.net,
            "config": config,
            "state_dict": model.state_dict(),
            "least_loss": least_loss,
            "avg_score_real": stats["avg_score_real"],
            "avg_score_fake": stats["avg_score_fake"],
            "optimizer": optimizer.state_dict(),
            "iteration": iteration,
        }
        keep_checkpoint(model_dir, checkpoint, is_best)
        writer.add_scalar("global/loss", stats["loss"], epoch)
        for label in LABELS:
            writer.add_scalar(f"global/avg_score_{label}", stats[f"avg_score_{label}"], epoch)
        named = "  ".join(f"{name} {value:.4f}" for name, value in stats.items())
        print(f"epoch {epoch + 1} done  {named}{'  (best so far)' if is_best else ''}")
    writer.close()

    best = find_checkpoint(model_dir, "model_best_epoch")
    checkpoint = load_checkpoint(best, config)
    if "threshold" not in checkpoint:
        checkpoint, chunks = score_split(
            best, config, index, args.out_dir, args.batch_size, args.num_workers, device, "threshold from the training videos"
        )
        means = mean_mds(video_scores(chunks))
        check_finite(list(means.values()), means, "the training videos' scores")
        checkpoint |= means
        save_checkpoint(best, checkpoint)
    print(f"best: {best}  mean MDS of training videos: real {checkpoint['mean_mds_real']:.4f}, fake "
          f"{checkpoint['mean_mds_fake']:.4f}, threshold {checkpoint['threshold']:.4f}")  # fmt: skip


if __name__ == "__main__":
    run(main)
