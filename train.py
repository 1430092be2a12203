"""Train the two-stream network, resume a run, export it, or score the test split.

    python train.py --epochs 50 --out_dir .

Reads <out_dir>/train_split.csv (and test_split.csv for --test).  Training writes to <log_dir>/<run>/:
model/epoch<N>.pth.tar and, within an epoch, epoch<N>_step<S>.pth.tar (of both together the two newest),
model/model_best_epoch<N>.pth.tar (lowest training loss, or highest AUC on held-out videos), log.jsonl (a line
per epoch), curves.png, args.json, env.json and TensorBoard scalars in img/train.  --test writes scores.csv,
track_scores.csv, chunk_scores.csv and scores.json to --scores_dir for test.py.

The flags are in utils/train_flags.py, a step of training is in engine.py (`train_epoch`).
"""

from utils.train_flags import NETWORK_FLAGS, NEWEST, RESULT_FLAGS, parse_args

if __name__ == "__main__":  # --help and mistakes are answered before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()
    parse_args()

import argparse
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from augmentation import Augmentation
from dataset import (
    ChunkDataset,
    build_loader,
    class_weights,
    digest,
    epoch_batches,
    hold_out,
    naming_dead_workers,
    read_index,
    scoring_batches,
)
from engine import (
    LOSSES,
    Epoch,
    Execution,
    Objective,
    Trainer,
    build_model,
    check_bad,
    epoch_figures,
    fitting,
    load_state,
    not_finite,
    score_chunks,
    train_epoch,
    video_auc,
)
from evaluation.curves import plot_curves
from evaluation.metrics import calls_all_alike
from mds import mean_mds, track_scores, video_scores
from model import TwoStreamNet
from utils.checkpoint import (
    Checkpoint,
    UnderWay,
    best_checkpoint,
    export_weights,
    keep_checkpoint,
    list_checkpoints,
    load_checkpoint,
    refuse_other_network,
    save_checkpoint,
    stored_threshold,
    threshold_videos,
)
from utils.cli import UserError, n_cores, run
from utils.constants import AUGMENTATIONS, GROUP_COLUMNS, LABELS, POLARITY
from utils.environment import describe_environment
from utils.files import make_folder, replacing
from utils.jsonfiles import plain, write_json
from utils.ranks import Ranks, Stopped, StopSignal
from utils.runlog import Scalars, rewind_scalars, write_log
from utils.runs import Start, Wish, choose_start, find_best, run_name
from utils.tables import write_frame

CURVES_EVERY_S = 5  # curves.png is drawn after an epoch, but not more often
LONG_S = 600  # a training that takes longer is worth an advice
# on the screen; the last two are like mean_mds
HIDDEN = ("epoch", "iteration", "lr", "avg_score_real", "avg_score_fake")


@dataclass(frozen=True)
class Scorer:
    """Scores chunks of an index of `out_dir`, shared among the ranks, until a signal asks to `stop`."""

    out_dir: Path
    ranks: Ranks
    stop: StopSignal
    execution: Execution
    batch_size: int
    num_workers: int

    def __call__(self, model: TwoStreamNet, index: pd.DataFrame, what: str) -> pd.DataFrame:
        """See `score_chunks`; `what` is scored, for people."""
        batches = scoring_batches(len(index), self.batch_size, self.ranks.rank, self.ranks.size)
        dataset = ChunkDataset(index, self.out_dir, model.img_dim)
        loader = build_loader(dataset, batches, self.num_workers, self.ranks.on_gpu)
        with naming_dead_workers():
            return score_chunks(model, index, loader, self.ranks, self.execution, self.stop, what)


class Run:
    """A training and its folder: where it stands, and what it writes there. Rank 0 alone writes and prints.

    Args:
        folder: of the run.
        settings: all flags. `network`: those of them that are arguments of `TwoStreamNet`.
        order_digest: of the chunks and their order.
    """

    def __init__(self, folder: Path, ranks: Ranks, settings: dict, network: dict, order_digest: str):
        self.folder, self.model_dir, self.ranks = folder, folder / "model", ranks
        self.settings, self.network, self.order_digest = settings, network, order_digest
        self.environment = describe_environment(ranks.device, ranks.size)
        self.n_epochs, self.iteration = settings["start_epoch"], 0  # epochs and steps done
        self.least_loss = self.best_value = math.inf
        self.records: list[dict] = []  # of the epochs done, log.jsonl
        self.under_way: UnderWay | None = None  # of the epoch to go on with
        self.scalars: Scalars | None = None  # on rank 0
        self.has_stepped = False  # in this process
        self._curves_drawn_at = -math.inf

    def say(self, words: str) -> None:
        if self.ranks.is_main:
            print(words)

    def take_up(self, start: Start, checkpoint: Checkpoint, trainer: Trainer, reset_lr: bool) -> None:
        """Go on where the training that wrote a checkpoint was, if it holds one; its weights are in the
        network.
        """
        assert start.path is not None
        if missing := {"optimizer", "epoch", "iteration", "least_loss"} - checkpoint.keys():
            named = ", ".join(sorted(missing))
            self.say(f"{start.path} holds no {named}: its weights are the initial ones of a new training")
            return
        trainer.load_optimizer(checkpoint["optimizer"], start.path, checkpoint.get("scaler"))
        rate, wanted = trainer.lr, self.settings["lr"]
        if reset_lr:
            trainer.lr = wanted
            self.say(f"note: the learning rate is now {wanted:g}, it was {rate:g}")
        elif rate != wanted:
            self.say(
                f"note: the checkpoint's learning rate {rate:g} goes on; --reset_lr takes --lr {wanted:g}"
            )
        self.n_epochs, self.iteration = checkpoint["epoch"], checkpoint["iteration"]
        self.records, self.under_way = checkpoint.get("log", []), checkpoint.get("under_way")
        if start.has_best:  # else it is to come
            self.least_loss = checkpoint["least_loss"]
            self.best_value = checkpoint.get("best_value", self.least_loss)
        steps = f" and {self.under_way['n_steps']} steps" if self.under_way else ""
        self.say(f"resumed from {start.path} after {self.n_epochs} epochs{steps}")
        self.say_what_changed(checkpoint)

    def say_what_changed(self, checkpoint: Checkpoint) -> None:
        """Name the flags that the checkpoint was trained with otherwise; an epoch of other chunks begins
        anew.
        """
        old, now = checkpoint.get("args", {}), self.settings
        names = [name for name in RESULT_FLAGS if name in old and plain(old[name]) != plain(now[name])]
        changed = [f"--{name} {old[name]} -> {now[name]}" for name in names]
        n_before = checkpoint.get("env", {}).get("processes", self.ranks.size)
        if n_before != self.ranks.size:
            per_step = chunks_per_step(now["batch_size"], now["accumulate"], self.ranks)
            changed.append(f"processes {n_before} -> {self.ranks.size}, so {per_step} chunks a step")
        if changed:
            self.say(f"note: other flags than before: {', '.join(changed)}")
        if self.under_way and checkpoint["order_digest"] != self.order_digest:
            self.under_way = None
            self.say(
                f"note: other chunks or another order than before, so epoch {self.n_epochs + 1} begins anew"
            )

    def open(self) -> None:
        """Write what is known before the first step, and take back what lies after the checkpoint."""
        if self.ranks.is_main:
            write_json(self.folder / "args.json", self.settings)
            write_json(self.folder / "env.json", self.environment)
            write_log(self.folder / "log.jsonl", self.records)
            rewind_scalars(self.folder / "img" / "train", self.iteration, self.n_epochs)
            self.scalars = Scalars(self.folder / "img" / "train")

    def close(self) -> None:
        if self.scalars is not None:
            self.scalars.close()

    def begin_epoch(self, index: pd.DataFrame) -> Epoch:
        """The next epoch, or what is left of the one under way."""
        saved, self.under_way = self.under_way, None
        return Epoch(index, self.ranks, self.settings["seed"] + self.n_epochs, saved)

    def save(self, trainer: Trainer, under_way: UnderWay | None = None, is_best: bool = False) -> None:
        """Write a checkpoint, after the epochs done and what is under way of the next one."""
        if self.scalars is None:
            return
        self.scalars.flush()  # first, so that no step before the checkpoint is missing
        last = self.records[-1] if self.records else {}
        checkpoint: Checkpoint = {
            "epoch": self.n_epochs,
            "net": self.network["net"],
            "config": self.network,
            "state_dict": trainer.model.state_dict(),
            "least_loss": self.least_loss,
            "best_value": self.best_value,
            "avg_score_real": last.get("avg_score_real", float("nan")),
            "avg_score_fake": last.get("avg_score_fake", float("nan")),
            "optimizer": trainer.optimizer.state_dict(),
            "scaler": trainer.scaler.state_dict(),
            "iteration": self.iteration,
            "log": self.records,
            "under_way": under_way,
            "order_digest": self.order_digest,
            "polarity": POLARITY,
            "args": cast(dict, plain(self.settings)),
            "env": self.environment,
        }
        keep_checkpoint(self.model_dir, checkpoint, under_way["n_steps"] if under_way else 0, is_best)

    def end_epoch(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """Log, save and print the figures of an epoch that is over."""
        # DEVIATION: the best epoch has the lowest mean loss of the whole epoch, not of its last 5 batches
        value = -figures["val_auc"] if "val_auc" in figures else figures["loss"]
        is_best = value < self.best_value
        self.best_value, self.least_loss = min(self.best_value, value), min(self.least_loss, figures["loss"])
        self.n_epochs += 1
        record = {"epoch": self.n_epochs, "iteration": self.iteration, "lr": trainer.lr} | figures
        self.records.append(record)
        if self.scalars is not None:
            for name, figure in record.items():
                if name not in ("epoch", "iteration"):
                    self.scalars.add(f"global/{name}", figure, self.n_epochs)
        self.save(trainer, is_best=is_best)
        if self.ranks.is_main:
            write_log(self.folder / "log.jsonl", self.records)
            if time.monotonic() - self._curves_drawn_at > CURVES_EVERY_S:
                self.draw_curves()
            named = "  ".join(f"{name} {figure:.4g}" for name, figure in record.items() if name not in HIDDEN)
            best = "  (best so far)" if is_best else ""
            print(f"epoch {self.n_epochs} done, on average:  {named}{best}")

    def draw_curves(self) -> None:
        if self.ranks.is_main and self.records:
            with replacing(self.folder / "curves.png") as partial:
                plot_curves(self.records, partial, list(LOSSES))
            self._curves_drawn_at = time.monotonic()


class Watch:
    """What happens after each step of an epoch: progress, a checkpoint from time to time, the end if one is
    asked for.

    Args:
        n_steps: of the epoch. `n_later`: of the epochs after it.
        print_freq: steps between printed lines. `save_every_s`: seconds between checkpoints; 0: none.
    """

    def __init__(
        self,
        training: Run,
        trainer: Trainer,
        epoch: Epoch,
        stop: StopSignal,
        n_steps: int,
        n_later: int,
        print_freq: int,
        save_every_s: float,
    ):
        self.run, self.trainer, self.epoch, self.stop = training, trainer, epoch, stop
        self.n_steps, self.n_later = n_steps, n_later
        self.print_freq, self.save_every_s = print_freq, save_every_s
        self.number, self.ranks = training.n_epochs + 1, training.ranks
        self._saved_at, self._seconds = time.monotonic(), epoch.seconds
        self._progress = tqdm(
            total=n_steps,
            initial=epoch.n_steps,
            unit="step",
            desc=f"epoch {self.number}",
            leave=False,
            disable=not self.ranks.is_main,
        )

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_) -> None:
        self._progress.close()

    def __call__(self) -> None:
        """A step is done.

        Raises:
            Stopped: a signal asked to stop, here or on another rank; the state is saved.
        """
        self.run.iteration += 1
        self._progress.update()
        if not self.run.has_stepped and self.ranks.is_main and not self.ranks.on_gpu:
            step_s, n_left = (
                self.epoch.seconds - self._seconds,
                1 + self.n_steps - self.epoch.n_steps + self.n_later,
            )
            self._progress.write(forecast(step_s, n_left, self.run.network["img_dim"]))
        self.run.has_stepped = True
        if self.epoch.n_steps % self.print_freq == 0 or self.epoch.n_steps == self.n_steps:
            self.print_losses(self.epoch.check_finite(self.number))
        is_due = self.ranks.is_main and 0 < self.save_every_s < time.monotonic() - self._saved_at
        if is_due:
            self._saved_at = time.monotonic()
        must_save, must_stop = self.ranks.agree(is_due, self.stop.number > 0)
        if must_save or must_stop:
            if self.epoch.unchecked:
                self.epoch.check_finite(self.number)
            self.run.save(self.trainer, self.epoch.gathered())
        if must_stop:
            raise Stopped

    def print_losses(self, values: list[float]) -> None:
        if self.run.scalars is None:
            return
        named = "  ".join(f"{name} {value:.4f}" for name, value in zip(LOSSES, values, strict=True))
        self._progress.write(
            f"epoch {self.number} step {self.epoch.n_steps}/{self.n_steps}  loss {sum(values):.4f}  {named}  "
            f"{self.epoch.position / self.epoch.seconds:.1f} chunks/s"
        )
        self.run.scalars.add("local/loss", sum(values), self.run.iteration)


def forecast(step_s: float, n_steps: int, img_dim: int) -> str:
    """What a training on a CPU will take, from its first step."""
    in_all = step_s * n_steps
    words = f"{in_all / 60:.0f} minutes" if in_all < 7200 else f"{in_all / 3600:.0f} hours"
    is_long = in_all > LONG_S and img_dim > 64
    advice = f"; --img_dim 64 takes about {(64 / img_dim) ** 2:.0%} of that" if is_long else ""
    return f"{step_s:.2g} s a step, {words} in all{advice}"


def chunks_per_step(batch_size: int, accumulate: int, ranks: Ranks) -> int:
    """Chunks that a step takes, on all ranks together."""
    return batch_size * accumulate * ranks.size


def training_chunks(out_dir: Path, val_fraction: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The chunks to train on and those to hold out; UserError if real or fake ones are missing."""
    index = read_index(out_dir, "train")
    if index.label.nunique() < 2:
        only = next(name for name, code in LABELS.items() if code == index.label[0])
        raise UserError(f"the training split has only {only} chunks; it needs real and fake ones.")
    return hold_out(index, val_fraction) if val_fraction else (index, index[:0])


def store_threshold(
    training: Run, model: TwoStreamNet, scorer: Scorer, known: pd.DataFrame, whose: str
) -> None:
    """Put the paper's threshold into the best checkpoint of a run, unless it is there, and print it.

    Args:
        model: gets the weights of that checkpoint.
        known: the chunks that it is computed from. `whose`: training or held-out.
    """
    # its checkpoints are written then
    best = training.ranks.decide(lambda: best_checkpoint(training.model_dir))
    checkpoint = load_checkpoint(best, training.network)
    if not checkpoint.keys() >= {"threshold", "mean_mds_real", "mean_mds_fake"}:
        load_state(model, checkpoint["state_dict"], best)
        means = mean_mds(video_scores(scorer(model, known, f"threshold from the {whose} videos")))
        if not np.isfinite(list(means.values())).all():
            raise UserError(
                not_finite(list(means.values()), list(means), f"the scores of the {whose} videos")
            )
        checkpoint |= cast(Checkpoint, {**means, "threshold_from": whose})
        if training.ranks.is_main:
            save_checkpoint(best, checkpoint)
    of_whom = threshold_videos(checkpoint).split(",")[0]
    training.say(
        f"best: {best}  mean MDS of {of_whom}: real {checkpoint['mean_mds_real']:.4f}, "
        f"fake {checkpoint['mean_mds_fake']:.4f}, threshold {checkpoint['threshold']:.4f}"
    )


def train(args: argparse.Namespace, network: dict, folder: Path, scorer: Scorer) -> int:
    """Train to the last epoch, or until a signal asks to stop; the exit status."""
    ranks, stop = scorer.ranks, scorer.stop
    index, held_out = training_chunks(args.out_dir, args.val_fraction)
    per_step = chunks_per_step(args.batch_size, args.accumulate, ranks)
    if len(index) < per_step:
        raise UserError(
            f"the training split has {len(index)} chunks, a step takes {per_step} "
            f"(--batch_size {args.batch_size}, --accumulate {args.accumulate}, {ranks.size} processes); "
            "lower it."
        )
    names = AUGMENTATIONS if args.augment == [] else args.augment
    augmentation = Augmentation(names, args.img_dim) if names else None
    dataset = ChunkDataset(index, args.out_dir, args.img_dim, augmentation, args.seed, replace_bad=True)
    order_digest = digest("\n".join([*index.path, str(args.seed), args.balance])).hex()

    with ExitStack() as held:
        # where to begin: rank 0 chooses, before the weights of all ranks are made equal
        wish = Wish(folder, args.resume, args.overwrite, args.reset_lr, args.out_dir, args.epochs, args.lr)
        loaded: list[Checkpoint | None] = []  # on rank 0, which has read it to choose

        def choose() -> Start:
            start, checkpoint = choose_start(wish, network, args.val_fraction, ranks.n_restarts > 0, held)
            loaded.append(checkpoint)
            return start

        start = ranks.decide(choose)
        checkpoint = loaded.pop() if loaded else load_checkpoint(start.path, network) if start.path else None

        torch.manual_seed(args.seed)
        model = TwoStreamNet(**network, init=args.init).to(ranks.device)
        if checkpoint and start.path:
            load_state(model, checkpoint["state_dict"], start.path)
        weights = torch.tensor(class_weights(dataset.labels), dtype=torch.float32, device=ranks.device)
        objective = Objective(args.hyper_param, weights if args.balance == "loss" else None)
        trainer = Trainer(
            model,
            ranks,
            objective,
            lr=args.lr,
            weight_decay=args.wd,
            execution=scorer.execution,
            accumulate=args.accumulate,
            sync_bn=args.sync_bn,
        )
        training = Run(start.folder, ranks, vars(args), network, order_digest)
        if checkpoint and start.path:
            training.take_up(start, checkpoint, trainer, args.reset_lr)
            with fitting(start.path, "a training to go on with: its epoch under way"):
                Epoch(index, ranks, saved=training.under_way)
            del checkpoint  # large
        elif args.resume:
            training.say(f"nothing to resume in {training.model_dir}, so this run starts with epoch 1")
        training.open()
        held.callback(training.close)
        training.say(describe(training, index, held_out, per_step))
        if training.n_epochs >= args.epochs:
            training.say(
                f"nothing left to train: {training.n_epochs} epochs are done, --epochs is {args.epochs}"
            )
        try:
            while training.n_epochs < args.epochs:
                dataset.epoch = training.n_epochs
                epoch = training.begin_epoch(index)
                batches = epoch_batches(
                    dataset.labels,
                    epoch.seed,
                    args.batch_size,
                    args.balance == "sampler",
                    epoch.position,
                    ranks.rank,
                    ranks.size,
                    args.accumulate,
                )
                n_steps = epoch.n_steps + len(batches) // args.accumulate
                n_later = (args.epochs - training.n_epochs - 1) * (len(index) // per_step)
                loader = build_loader(dataset, batches, scorer.num_workers, ranks.on_gpu)
                watch = Watch(
                    training,
                    trainer,
                    epoch,
                    stop,
                    n_steps,
                    n_later,
                    args.print_freq,
                    60 * args.save_every_min,
                )
                with naming_dead_workers(), watch:
                    train_epoch(trainer, epoch, loader, watch)
                whole = epoch.gathered()
                check_bad(whole["bad"], len(index))
                figures = epoch_figures(whole, index, ranks.device)
                if len(held_out):
                    try:
                        figures["val_auc"] = video_auc(
                            video_scores(scorer(model, held_out, "held-out videos"))
                        )
                    except Stopped:
                        training.save(trainer, whole)
                        raise
                training.end_epoch(trainer, figures)
            # DEVIATION: with --val_fraction the threshold is of the held-out videos, since training scores
            # overfit
            known, whose = (held_out, "held-out") if len(held_out) else (index, "training")
            store_threshold(training, model, scorer, known, whose)
        except Stopped:
            ranks.gather(None)  # the state is saved: torchrun ends all ranks when the first one exits
            training.draw_curves()
            newest = list_checkpoints(training.model_dir)[0]
            training.say(f"stopped; --resume, without a path, goes on from {newest}")
            return stop.exit_status
        training.draw_curves()
    return 0


def describe(training: Run, index: pd.DataFrame, held_out: pd.DataFrame, per_step: int) -> str:
    """What is trained on, where."""
    ranks, n_out = training.ranks, len(index) % per_step
    n_videos = index.video.nunique()
    words = f"run folder {training.folder}, {len(index)} chunks of {n_videos} videos, on {ranks.device}"
    words += f", {ranks.size} processes" if ranks.size > 1 else ""
    words += f"; {held_out.video.nunique()} videos held out" if len(held_out) else ""
    return words + (
        f"; each epoch leaves {n_out} chunks out, others each time: they fill no step" if n_out else ""
    )


def score_test_split(
    asked_for: Path, run_dir: Path, network: dict, asked: dict, scores_dir: Path, scorer: Scorer
) -> int:
    """Score the test split by a checkpoint, `NEWEST`: the best of the run; the exit status."""
    ranks = scorer.ranks
    path = ranks.decide(lambda: find_best(run_dir, "--test") if asked_for == NEWEST else asked_for)
    index = read_index(scorer.out_dir, "test")
    checkpoint = load_checkpoint(path, network)
    refuse_other_network(path, checkpoint, asked)
    ranks.decide(lambda: make_folder(scores_dir))  # before the work of hours
    if ranks.is_main:
        print(f"scoring {len(index)} chunks of {index.video.nunique()} videos with {path}, on {ranks.device}")
    try:
        chunks = scorer(build_model(checkpoint, path).to(ranks.device), index, "scoring the test split")
    except Stopped:
        return scorer.stop.exit_status
    if ranks.is_main:
        write_scores(scores_dir, path, checkpoint, index, chunks)
    return 0


def write_scores(
    scores_dir: Path, checkpoint_path: Path, checkpoint: Checkpoint, index: pd.DataFrame, chunks: pd.DataFrame
) -> None:
    """Write the three score tables and scores.json, and say what could not be scored."""
    groups = index.drop_duplicates("video")[
        ["video", *(column for column in GROUP_COLUMNS if column in index)]
    ]
    videos = video_scores(chunks).merge(groups, on="video")
    threshold, origin = stored_threshold(checkpoint)
    summary = {
        "checkpoint": checkpoint_path,
        "threshold": threshold,
        "threshold_origin": origin,
        "polarity": POLARITY,
    }
    write_json(scores_dir / "scores.json", summary)
    tables = (
        ("chunk_scores.csv", chunks),
        ("track_scores.csv", track_scores(chunks)),
        ("scores.csv", videos),
    )
    for name, scores in tables:
        write_frame(scores_dir / name, scores)
    n_lost = len(index) - len(chunks)
    print(
        f"scored {len(videos)} videos, {len(chunks)} chunks"
        + (f"; {n_lost} chunks could not be read" if n_lost else "")
    )
    for video in sorted(set(index.video) - set(videos.video)):
        print(f"no readable chunk, so no score: {video}")
    if threshold is not None and (words := calls_all_alike(videos.mds, threshold)):
        print(f"note: the stored threshold {threshold:.4g} {words}; it is the {origin}")
    names = ", ".join(("scores.json", *(name for name, _ in tables)))
    print(f"written in {scores_dir}: {names}; now: python test.py --scores_dir {scores_dir}")


def export(paths: list[Path], run_dir: Path, network: dict, asked: dict) -> int:
    """Write the weights of a checkpoint, by default of the run's best, to the first of the paths; the exit
    status.
    """
    file = paths[0]
    if file.exists():
        raise UserError(f"--export {file}: the file exists; name another one or delete it.")
    path = paths[1] if len(paths) == 2 else find_best(run_dir, f"--export {file}")
    checkpoint = load_checkpoint(path, network)
    refuse_other_network(path, checkpoint, asked)
    export_weights(file, checkpoint)
    print(f"written: {file}, the weights of {path}; threshold: {stored_threshold(checkpoint)[1]}")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    asked = vars(args).pop("asked")  # flags of the network that were named
    network = {name: vars(args)[name] for name in NETWORK_FLAGS}
    folder = args.log_dir / run_name(args.img_dim, args.net, args.batch_size, args.lr)
    if args.export:
        return export(args.export, folder, network, asked)
    stopping = "stopping; no scores are written" if args.test else "stopping as soon as the state is saved"
    with Ranks(args.device, args.gpu) as ranks, StopSignal(stopping) as stop:
        n_own_cores = max(1, n_cores() // ranks.local_size)
        num_workers = n_own_cores if args.num_workers is None else args.num_workers
        execution = Execution(args.amp, args.compile)
        scorer = Scorer(args.out_dir, ranks, stop, execution, args.batch_size, num_workers)
        if args.test:
            return score_test_split(args.test, folder, network, asked, args.scores_dir, scorer)
        return train(args, network, folder, scorer)


if __name__ == "__main__":
    run(main, " with --resume")
