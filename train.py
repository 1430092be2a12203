"""Train the two-stream network, resume a run, export it, or score the test split.

    python train.py --epochs 50 --out_dir .

Reads <out_dir>/train_split.csv (and test_split.csv for --test).  Training writes to <log_dir>/<run>/:
model/epoch<N>.pth.tar and, within an epoch, epoch<N>_step<S>.pth.tar (of both together the two newest),
model/model_best_epoch<N>.pth.tar (lowest training loss, or highest AUC on held-out videos), log.jsonl (a line
per epoch), curves.png, args.json, env.json and TensorBoard scalars in img/train.  --test writes scores.csv,
track_scores.csv, chunk_scores.csv and scores.json to --scores_dir for test.py.

The flags are in utils/train_flags.py, a step of training is in engine.py (`train_epoch`).
"""

from __future__ import annotations  # the story first: main, train, run_epoch, begin

from utils.train_flags import NETWORK_FLAGS, NEWEST, PRESETS, RESULT_FLAGS, parse_args

if __name__ == "__main__":  # --help and mistakes are answered before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()
    parse_args()

import argparse
import math
import time
from collections.abc import Sequence
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
    chunk_length,
    class_weights,
    digest,
    epoch_batches,
    epoch_order,
    hold_out,
    naming_dead_workers,
    read_index,
    scoring_batches,
    units_of,
    with_foreign_sound,
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
from evaluation.calibration import fit_calibration
from evaluation.curves import plot_curves
from evaluation.held_out import real_alone, training_record
from evaluation.metrics import calls_all_alike
from mds import mean_mds, track_scores, video_scores
from model import TwoStreamNet
from utils.calibration import calibrated
from utils.checkpoint import (
    EARLIER,
    FOREIGN,
    Checkpoint,
    UnderWay,
    best_checkpoint,
    export_weights,
    keep_checkpoint,
    list_checkpoints,
    load_checkpoint,
    refuse_other_chunks,
    refuse_other_network,
    save_checkpoint,
    stored_calibration,
    stored_threshold,
    threshold_videos,
)
from utils.chunkfiles import index_path
from utils.cli import UserError, n_cores, run
from utils.constants import AUGMENTATIONS, COLLECTED_COLUMNS, LABEL_NAMES, POLARITY, SCORE_NAMES, SECOND
from utils.environment import describe_environment
from utils.files import make_folder, replacing
from utils.jsonfiles import plain, write_json
from utils.ranks import Ranks, Stopped, StopSignal
from utils.runlog import Scalars, rewind_scalars, write_log
from utils.runs import Start, Wish, choose_start, find_best, run_name
from utils.tables import write_frame
from utils.training_record import held_out_words

CURVES_EVERY_S = 5  # curves.png is drawn after an epoch, but not more often
LONG_S = 600  # a training that takes longer is worth an advice
# avg_score_* says nearly what mean_mds_* says
NOT_ON_SCREEN = ("epoch", "iteration", "lr", "avg_score_real", "avg_score_fake")


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
        scorer = SplitScorer(args.out_dir, ranks, stop, execution, args.batch_size, num_workers)
        if args.test:
            return score_test_split(args.test, folder, network, asked, args.scores_dir, scorer)
        return train(args, network, folder, scorer)


def train(args: argparse.Namespace, network: dict, folder: Path, scorer: SplitScorer) -> int:
    """Train to the last epoch, or until a signal asks to stop; the exit status."""
    per_step = args.batch_size * args.accumulate * scorer.ranks.size
    data = training_data(args, per_step)
    network = network | {"chunk_s": data.dataset.length.chunk_s}
    objective = training_objective(args, data.dataset.labels, scorer.ranks.device)
    with ExitStack() as held:
        training, trainer = begin(args, network, folder, data, objective, scorer, held)
        training.say(describe(training, data, per_step))
        if args.preset != "authors":
            used = " ".join(f"--{name} {vars(args)[name]}" for name in PRESETS[args.preset])
            training.say(f"preset {args.preset}: {used}")
        if training.n_epochs >= args.epochs:
            done = f"{training.n_epochs} epochs are done, --epochs is {args.epochs}"
            training.say(f"nothing left to train: {done}")
        try:
            while training.n_epochs < args.epochs:
                run_epoch(args, training, trainer, data, scorer)
            # DEVIATION: with --val_fraction the threshold is of the held-out videos, since training scores
            # overfit
            store_threshold(training, trainer.model, scorer, data)
        except Stopped:
            scorer.ranks.gather(None)  # the state is saved: torchrun ends all ranks when the first one exits
            training.draw_curves()
            newest = list_checkpoints(training.model_dir)[0]
            training.say(f"stopped; --resume, without a path, goes on from {newest}")
            return scorer.stop.exit_status
        training.draw_curves()
    return 0


def run_epoch(
    args: argparse.Namespace, training: Run, trainer: Trainer, data: TrainingData, scorer: SplitScorer
) -> None:
    """Train for an epoch, or what is left of it, and log, save and print its figures."""
    ranks, dataset = scorer.ranks, data.dataset
    dataset.epoch = training.n_epochs
    epoch = training.begin_epoch(data.index)
    order = epoch_order(dataset.labels, epoch.seed, args.balance == "sampler", data.units)
    place = (epoch.position, ranks.rank, ranks.size, args.accumulate)
    batches = epoch_batches(order, args.batch_size, *place)
    loader = build_loader(dataset, batches, scorer.num_workers, ranks.on_gpu)
    n_steps = epoch.n_steps + len(batches) // args.accumulate
    watch = Watch(training, trainer, epoch, scorer.stop, n_steps)
    with naming_dead_workers(), watch:
        train_epoch(trainer, epoch, loader, watch)
    whole = epoch.gathered()
    check_bad(whole["bad"], len(data.index))
    figures = epoch_figures(whole, data.index, ranks.device, trainer.objective)
    if len(data.held_out):
        try:
            scores = scorer(trainer.model, data.held_out, "held-out videos")
        except Stopped:
            training.save(trainer, whole)
            raise
        figures["val_auc"] = video_auc(video_scores(scores))
    training.end_epoch(trainer, figures)


def begin(
    args: argparse.Namespace,
    network: dict,
    folder: Path,
    data: TrainingData,
    objective: Objective,
    scorer: SplitScorer,
    held: ExitStack,
) -> tuple[Run, Trainer]:
    """The run, its folder locked until `held` ends, and the network, where the flags and a checkpoint leave
    them.
    """
    ranks, loaded = scorer.ranks, []  # the checkpoint on rank 0, which reads it to choose
    wish = Wish(folder, args.resume, args.overwrite, args.reset_lr, args.out_dir, args.epochs, args.lr)

    def choose() -> Start:
        start, found = choose_start(wish, network, args.val_fraction, ranks.n_restarts > 0, held)
        loaded.append(found)
        return start

    start = ranks.decide(choose)  # before the weights of all ranks are made equal
    checkpoint = loaded[0] if loaded else load_checkpoint(start.path, network) if start.path else None
    torch.manual_seed(args.seed)
    method = {"init": args.init, "norm": args.norm, "detach_heads": args.heads == "detached"}
    model = TwoStreamNet(**network, **method).to(ranks.device)
    if checkpoint and start.path:
        load_state(model, checkpoint["state_dict"], start.path)
    how = {"execution": scorer.execution, "accumulate": args.accumulate, "sync_bn": args.sync_bn}
    trainer = Trainer(model, ranks, objective, lr=args.lr, weight_decay=args.wd, **how)
    training = Run(start.folder, ranks, vars(args), network, data.order_digest, objective.names)
    if checkpoint and start.path:
        training.take_up(start, checkpoint, trainer, args.reset_lr)
        # only to see that it fits, before anything is written
        with fitting(start.path, "a training to go on with: its epoch under way"):
            Epoch(data.index, ranks, saved=training.under_way, terms=objective.names)
    elif args.resume:
        training.say(f"nothing to resume in {training.model_dir}, so this run starts with epoch 1")
    training.open()
    held.callback(training.close)
    return training, trainer


class Run:
    """A training and its folder: where it stands, and what it writes there. Rank 0 alone writes and prints.

    Args:
        folder: of the run.
        settings: all flags. `network`: those of them that are arguments of `TwoStreamNet`.
        order_digest: of the chunks and their order.
        terms: names of the loss terms.
    """

    def __init__(
        self,
        folder: Path,
        ranks: Ranks,
        settings: dict,
        network: dict,
        order_digest: str,
        terms: Sequence[str],
    ):
        self.terms = terms
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
            per_step = now["batch_size"] * now["accumulate"] * self.ranks.size
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
        return Epoch(index, self.ranks, self.settings["seed"] + self.n_epochs, saved, self.terms)

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
        # few held-out videos soon are told apart without a mistake, long before training ends
        of_epoch = value, figures["loss"]
        if is_best := of_epoch < (self.best_value, self.least_loss):
            self.best_value, self.least_loss = of_epoch
        self.n_epochs += 1
        record = {"epoch": self.n_epochs, "iteration": self.iteration, "lr": trainer.lr} | figures
        self.records.append(record)
        if self.scalars is not None:
            for name, figure in record.items():
                if name not in ("epoch", "iteration") and math.isfinite(figure):
                    self.scalars.add(f"global/{name}", figure, self.n_epochs)
        self.save(trainer, is_best=is_best)
        if self.ranks.is_main:
            write_log(self.folder / "log.jsonl", self.records)
            if time.monotonic() - self._curves_drawn_at > CURVES_EVERY_S:
                self.draw_curves()
            named = "  ".join(
                f"{name} {figure:.4g}" for name, figure in record.items() if name not in NOT_ON_SCREEN
            )
            best = "  (best so far)" if is_best else ""
            print(f"epoch {self.n_epochs} done, on average:  {named}{best}")

    def draw_curves(self) -> None:
        if self.ranks.is_main and self.records:
            with replacing(self.folder / "curves.png") as partial:
                plot_curves(self.records, partial, self.terms)
            self._curves_drawn_at = time.monotonic()


class Watch:
    """What happens after each step of an epoch of `n_steps`: progress, a checkpoint from time to time, the
    end if `stop` asks for one.
    """

    def __init__(self, training: Run, trainer: Trainer, epoch: Epoch, stop: StopSignal, n_steps: int):
        self.run, self.trainer, self.epoch, self.stop, self.n_steps = training, trainer, epoch, stop, n_steps
        self.number, self.ranks = training.n_epochs + 1, training.ranks
        self.print_freq = training.settings["print_freq"]
        self.save_every_s = 60 * training.settings["save_every_min"]
        self._saved_at, self._seconds = time.monotonic(), epoch.seconds
        what = {"unit": "step", "desc": f"epoch {self.number}", "disable": not self.ranks.is_main}
        self._progress = tqdm(total=n_steps, initial=epoch.n_steps, leave=False, **what)

    def __enter__(self) -> Watch:
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
            n_epochs_later = self.run.settings["epochs"] - self.number
            n_left = 1 + self.n_steps - self.epoch.n_steps + n_epochs_later * self.n_steps
            step_s = self.epoch.seconds - self._seconds
            self._progress.write(forecast(step_s, n_left, self.run.network["img_dim"]))
        self.run.has_stepped = True
        if self.epoch.n_steps % self.print_freq == 0 or self.epoch.n_steps == self.n_steps:
            self.print_losses(self.epoch.checked_losses(self.number))
        is_due = self.ranks.is_main and 0 < self.save_every_s < time.monotonic() - self._saved_at
        if is_due:
            self._saved_at = time.monotonic()
        must_save, must_stop = self.ranks.agree(is_due, self.stop.number > 0)
        if must_save or must_stop:
            if self.epoch.unchecked:
                self.epoch.checked_losses(self.number)
            self.run.save(self.trainer, self.epoch.gathered())
        if must_stop:
            raise Stopped

    def print_losses(self, values: list[float]) -> None:
        if self.run.scalars is None:
            return
        named = "  ".join(f"{name} {value:.4f}" for name, value in zip(self.run.terms, values, strict=True))
        loss = self.trainer.objective.total(torch.tensor(values, dtype=torch.float64)).item()
        self._progress.write(
            f"epoch {self.number} step {self.epoch.n_steps}/{self.n_steps}  loss {loss:.4f}  {named}  "
            f"{self.epoch.position / self.epoch.seconds:.1f} chunks/s"
        )
        self.run.scalars.add("local/loss", loss, self.run.iteration)


def forecast(step_s: float, n_steps: int, img_dim: int) -> str:
    """What a training on a CPU will take, from its first step."""
    in_all = step_s * n_steps
    words = f"{in_all / 60:.0f} minutes" if in_all < 7200 else f"{in_all / 3600:.0f} hours"
    is_long = in_all > LONG_S and img_dim > 64
    advice = f"; --img_dim 64 takes about {(64 / img_dim) ** 2:.0%} of that" if is_long else ""
    return f"{step_s:.2g} s a step, {words} in all{advice}"


def describe(training: Run, data: TrainingData, per_step: int) -> str:
    """What is trained on, where."""
    ranks, n_chunks, n_out = training.ranks, len(data.index), len(data.index) % per_step
    length, streams = data.dataset.length, training.network["streams"]
    of_s = "" if length == SECOND else f" of {length.chunk_s:g} s"
    words = f"run folder {training.folder}, {n_chunks} chunks{of_s} of {data.index.video.nunique()} videos"
    words += "" if streams == "both" else f", for the {streams} stream alone"
    words += f", on {ranks.device}" + (f", {ranks.size} processes" if ranks.size > 1 else "")
    words += f"; {data.held_out.video.nunique()} videos held out" if len(data.held_out) else ""
    return words + (
        f"; each epoch leaves {n_out} chunks out, others each time: they fill no step" if n_out else ""
    )


@dataclass
class TrainingData:
    """The chunks of a training, and their order."""

    dataset: ChunkDataset  # what it trains on
    index: pd.DataFrame  # its chunks
    held_out: pd.DataFrame  # chunks whose scores choose the best epoch; none without --val_fraction
    known: pd.DataFrame  # chunks that the threshold is computed from
    units: np.ndarray | None  # see `units_of`
    order_digest: str  # of the chunks and their order, which an epoch under way counts on

    @property
    def origin(self) -> str:
        """Which videos `known` are, as `Checkpoint` says it."""
        whose = "held-out" if len(self.held_out) else "training"
        return f"{whose} {FOREIGN}" if real_alone(self.index) else whose


def training_data(args: argparse.Namespace, per_step: int) -> TrainingData:
    """What the flags say to train on, if it fills a step of `per_step` chunks; UserError if it does not."""
    index, held_out, known = training_chunks(args.out_dir, args.val_fraction, args.pairs)
    if len(index) < per_step:
        n_batches = per_step // args.batch_size
        most = len(index) // n_batches
        out = f" and {len(held_out)} held out" if len(held_out) else ""
        each = f", {n_batches} batches a step" if n_batches > 1 else ""
        hint = f"give --batch_size {most} or less" if most > 1 else "it needs more videos"
        raise UserError(
            f"the training split has {len(index)} chunks{out}, a step takes {per_step} (--batch_size "
            f"{args.batch_size}{each}); {hint}, to --resume, --test and --export too."
        )
    names = AUGMENTATIONS if args.augment == [] else args.augment
    augmentation = Augmentation(names, args.img_dim) if names else None
    dataset = ChunkDataset(index, args.out_dir, args.img_dim, augmentation, args.seed, replace_bad=True)
    order_words = [str(args.seed), args.balance] + ([args.pairs] if args.pairs != "dataset" else [])
    order_digest = digest("\n".join([*index.path, *order_words])).hex()
    return TrainingData(dataset, index, held_out, known, units_of(index, args.pairs), order_digest)


def training_chunks(
    out_dir: Path, val_fraction: float, pairs: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The chunks to train on; those whose scores choose the best epoch, none of them without `val_fraction`;
    and those that the threshold is computed from. Where there are real videos alone, the last two have
    foreign sounds for fakes.

    Raises:
        UserError: real or fake chunks are missing.
    """
    index = read_index(out_dir, "train")
    if index.label.nunique() < 2:
        only = LABEL_NAMES[index.label[0]]
        hint = (
            ", or --pairs cross (as in --preset sync), which takes real ones alone" if only == "real" else ""
        )
        if only == "fake" or pairs != "cross":
            raise UserError(f"the training split has only {only} chunks; it needs real and fake ones{hint}.")
    chunks, held_out = hold_out(index, val_fraction) if val_fraction else (index, index[:0])
    known = held_out if len(held_out) else chunks
    if real_alone(index):
        known = with_foreign_sound(known)
        held_out = known if len(held_out) else held_out
    return chunks, held_out, known


def training_objective(args: argparse.Namespace, labels: np.ndarray, device: torch.device) -> Objective:
    """What the flags say that training makes small, for chunks of these labels."""
    by_class = class_weights(labels) if args.balance == "loss" else None
    class_weight = None if by_class is None else torch.tensor(by_class, dtype=torch.float32, device=device)
    if args.loss_weights and len(args.loss_weights) != len(LOSSES):
        raise UserError(
            f"--loss_weights has {len(args.loss_weights)} numbers, expected {len(LOSSES)}, "
            f"of {', '.join(LOSSES)}."
        )
    weights = torch.tensor(args.loss_weights, device=device) if args.loss_weights else None
    return Objective(args.hyper_param, class_weight, weights, args.pairs, args.streams)


@dataclass(frozen=True)
class SplitScorer:
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


def store_threshold(training: Run, model: TwoStreamNet, scorer: SplitScorer, data: TrainingData) -> None:
    """Put the paper's threshold and what the training was into the best checkpoint of a run, unless they are
    there, and print them.

    Args:
        model: gets the weights of that checkpoint.
    """
    best = training.ranks.decide(
        lambda: best_checkpoint(training.model_dir)
    )  # its checkpoints are written then
    checkpoint = load_checkpoint(best, training.network)
    if not checkpoint.keys() >= {"threshold", "mean_mds_real", "mean_mds_fake", "record"}:
        load_state(model, checkpoint["state_dict"], best)
        checkpoint["threshold_from"] = data.origin
        of_whom = threshold_videos(checkpoint).split(",")[0]
        chunks = scorer(model, data.known, f"threshold from the {of_whom}")
        videos = video_scores(chunks)
        means = mean_mds(videos)
        if not np.isfinite(list(means.values())).all():
            raise UserError(not_finite(list(means.values()), list(means), f"the scores of the {of_whom}"))
        checkpoint |= cast(Checkpoint, means)
        # scores of training videos are no guide to those of others, and foreign sounds are no fakes
        if data.origin == "held-out" and (calibration := fit_calibration(videos)):
            checkpoint["calibration"] = calibration
        checkpoint["record"] = training_record(
            data.index, data.held_out, chunks if len(data.held_out) else None
        )
        if training.ranks.is_main:
            save_checkpoint(best, checkpoint)
    of_whom = threshold_videos(checkpoint).split(",")[0]
    training.say(
        f"best: {best}  mean MDS of {of_whom}: real {checkpoint['mean_mds_real']:.4f}, "
        f"fake {checkpoint['mean_mds_fake']:.4f}, threshold {checkpoint['threshold']:.4f}"
    )
    training.say(f"probability of fake: {stored_calibration(checkpoint)[1]}")
    training.say(" ".join(held_out_words(checkpoint["record"]["held_out"])))


def score_test_split(
    asked_for: Path, run_dir: Path, network: dict, asked: dict, scores_dir: Path, scorer: SplitScorer
) -> int:
    """Score the test split by a checkpoint, `NEWEST`: the best of the run; the exit status."""
    ranks = scorer.ranks
    path = ranks.decide(lambda: find_best(run_dir, "--test") if asked_for == NEWEST else asked_for)
    index = read_index(scorer.out_dir, "test")
    checkpoint = load_checkpoint(path, network)
    refuse_other_network(path, checkpoint, asked)
    refuse_other_chunks(
        path, checkpoint, chunk_length(index).chunk_s, f"{index_path(scorer.out_dir, 'test')}"
    )
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
        ["video", *(column for column in COLLECTED_COLUMNS if column in index)]
    ]
    videos = video_scores(chunks).merge(groups, on="video")
    threshold, origin = stored_threshold(checkpoint)
    calibration, valid_for = stored_calibration(checkpoint)
    if calibration:
        videos["p_fake_calibrated"] = calibrated(videos.mds.to_numpy(), calibration)
    summary = {
        "checkpoint": checkpoint_path,
        "threshold": threshold,
        "threshold_origin": origin,
        "polarity": POLARITY,
        "distance": checkpoint.get("config", {}).get("distance"),  # these two: not known of old checkpoints
        "margin": checkpoint.get("args", {}).get("hyper_param"),
        "calibration": calibration,
        "calibration_origin": valid_for,
        "score": SCORE_NAMES[checkpoint.get("config", EARLIER)["streams"]],
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
    """Write the weights of a checkpoint, by default of the run's best, to the first of the paths, as an ONNX
    file if that is what it is called; the exit status.
    """
    file = paths[0]
    if file.exists():
        raise UserError(f"--export {file}: the file exists; name another one or delete it.")
    path = paths[1] if len(paths) == 2 else find_best(run_dir, f"--export {file}")
    checkpoint = load_checkpoint(path, network)
    refuse_other_network(path, checkpoint, asked)
    what = f"the weights of {path}"
    if file.suffix.lower() == ".onnx":
        from onnx_export import export_onnx  # here: training needs no onnxruntime

        what = f"the network of {path} for onnxruntime; {export_onnx(file, checkpoint, path)}"
    else:
        export_weights(file, checkpoint)
    print(f"written: {file}, {what}; threshold: {stored_threshold(checkpoint)[1]}")
    return 0


if __name__ == "__main__":
    run(main, " with --resume")
