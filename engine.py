"""The training epoch and the scoring of chunks, the same for every precision, device and number of processes.

    from engine import Epoch, Trainer, score_chunks, train_epoch    (train.py and the benchmarks do)

`train_epoch` is the loop to read first: forward, losses, backward, optimiser.  A term of the loss is added in
`LOSSES`, and nowhere else.
"""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from augmentation import normalize
from dataset import MAX_BAD_SHARE, chunk_length, mixed_seed
from mds import mean_mds, video_scores
from model import TwoStreamNet, contrastive_loss, cross_contrastive_loss, dissimilarity, synchronise_norms
from utils.checkpoint import (
    Checkpoint,
    UnderWay,
    checked_scaling,
    known_moments,
    lay_out_moments,
    merged_groups,
)
from utils.cli import UserError
from utils.constants import CHUNK_SCORES, LABELS
from utils.environment import peak_memory_mb
from utils.ranks import Ranks, Stopped, StopSignal

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # mixed precision, by --amp


@dataclass(frozen=True)
class Execution:
    """How the network computes, in training and in scoring; it changes speed and rounding alone."""

    amp: str = "off"  # mixed precision, a key of `AMP`; float16 comes with loss scaling
    compiled: bool = False  # by torch.compile

    def ready(self, net: nn.Module) -> nn.Module:
        """The network as it is to be called."""
        return cast(nn.Module, torch.compile(net)) if self.compiled else net


class Targets(NamedTuple):
    """What the loss must know of a batch."""

    label: Tensor  # (B,), 1 real, 0 fake
    track: Tensor | None = None  # (B,), number of the face track, if pictures are held against all its sounds


# The loss: each term is a function of the network's outputs, the targets and the margin, (B,) per chunk.


def contrastive_term(out: dict[str, Tensor], targets: Targets, margin: float) -> Tensor:
    """Equation 1 of the paper, of each picture with its sound or with every sound of its track."""
    embeddings = out["video_emb"], out["audio_emb"]
    if targets.track is None:
        return contrastive_loss(*embeddings, targets.label, margin, reduction="none")
    return cross_contrastive_loss(*embeddings, targets.label, targets.track, margin)


def video_term(out: dict[str, Tensor], targets: Targets, margin: float) -> Tensor:
    """The cross-entropy of the classifier that sees the pictures alone."""
    return F.cross_entropy(out["video_logits"], targets.label, reduction="none")


def audio_term(out: dict[str, Tensor], targets: Targets, margin: float) -> Tensor:
    """The cross-entropy of the classifier that hears the sound alone."""
    return F.cross_entropy(out["audio_logits"], targets.label, reduction="none")


LOSSES: dict[str, Callable[[dict[str, Tensor], Targets, float], Tensor]] = {
    "contrastive": contrastive_term,
    "video_ce": video_term,
    "audio_ce": audio_term,
}


@dataclass(frozen=True)
class Objective:
    """What training makes small: the weighted sum of the terms in `LOSSES`."""

    margin: float  # of the contrastive loss
    class_weight: Tensor | None = None  # (2,) weights of the chunks by label
    weights: Tensor | None = None  # (n_terms,), the paper's lambda; None: 1 each
    pairs: str = "dataset"  # cross: a picture with every sound of its track in the batch; else with its own
    streams: str = "both"  # which the network has; of one alone its cross-entropy is the only term

    @property
    def names(self) -> list[str]:
        """Of the terms of the network's streams."""
        return list(LOSSES) if self.streams == "both" else [f"{self.streams}_ce"]

    def targets(self, batch: dict, device: torch.device) -> Targets:
        """What the objective needs to know of a batch of the loader."""
        label = batch["label"].to(device, non_blocking=True)
        return Targets(label, batch["track"].to(device, non_blocking=True) if self.pairs == "cross" else None)

    def __call__(self, out: dict[str, Tensor], targets: Targets) -> Tensor:
        """The terms, in the order of `names`: (n_terms,), means over the batch, without `weights`."""
        every = [LOSSES[name](out, targets, self.margin) for name in self.names]
        terms = torch.stack(every)  # (n_terms, B)
        return (terms if self.class_weight is None else terms * self.class_weight[targets.label]).mean(1)

    def total(self, terms: Tensor) -> Tensor:
        """The loss, a scalar, from its terms (n_terms,)."""
        return (terms if self.weights is None else terms * self.weights.to(terms)).sum()


@contextlib.contextmanager
def fitting(path: Path, what: str = "--net, --img_dim and --final_dim as given") -> Iterator[None]:
    """Turn what fails for the content of the checkpoint at `path` into a UserError."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        detail = " ".join(f"{error}".split())[:300]
        raise UserError(f"{path} does not fit {what}: {detail}") from error


def build_model(checkpoint: Checkpoint, path: Path) -> TwoStreamNet:
    """The network that a checkpoint describes, with its weights; UserError if they do not fit."""
    with fitting(path):
        with torch.device(
            "meta"
        ):  # first without memory: a description may claim any size, the weights have theirs
            described = TwoStreamNet(**checkpoint["config"]).state_dict()
        expected, got = (
            {name: list(x.shape) for name, x in state.items()}
            for state in (described, checkpoint["state_dict"])
        )
        for name in sorted(expected.keys() | got.keys()):
            if got.get(name) != expected.get(name):
                raise ValueError(f"{name} has the shape {got.get(name)}, expected {expected.get(name)}")
    model = channels_last(TwoStreamNet(**checkpoint["config"]))
    load_state(model, checkpoint["state_dict"], path)
    return model


def channels_last(model: TwoStreamNet) -> TwoStreamNet:
    """The network with its visual stream laid out in memory as `normalize` gives its input: faster."""
    if hasattr(model, "netcnnlip"):  # not where the audio stream is alone
        model.netcnnlip.to(memory_format=torch.channels_last_3d)
    return model


def load_state(model: TwoStreamNet, state: dict, path: Path) -> None:
    """Load the weights of the checkpoint at `path`; UserError if they do not fit."""
    with fitting(path):
        model.load_state_dict(state)


def forward(net: nn.Module, batch: dict, device: torch.device, amp: str) -> dict[str, Tensor]:
    """Normalise a batch of the loader and run it through the network: `TwoStreamNet.forward`, in float32."""
    video, audio = (batch[key].to(device, non_blocking=True) for key in ("video", "audio"))
    with torch.autocast(device.type, AMP[amp], enabled=amp != "off"):
        out = net(normalize(video), audio)
    return {name: values.float() for name, values in out.items()}


def p_fake(out: dict[str, Tensor], stream: str) -> Tensor:
    """The probability of fake, 0..1, by the classifier of a stream: (B,), NaN if it is not there."""
    if f"{stream}_logits" not in out:
        return torch.full_like(next(iter(out.values()))[:, 0], math.nan)
    return out[f"{stream}_logits"].softmax(1)[:, LABELS["fake"]]


def chunk_score(out: dict[str, Tensor]) -> Tensor:
    """The score of each chunk, (B,), higher is more fake: the dissimilarity, or in a network of one stream
    its classifier's probability of fake.
    """
    if {"video_emb", "audio_emb"} <= out.keys():
        return dissimilarity(out["video_emb"], out["audio_emb"])
    return p_fake(out, "video" if "video_logits" in out else "audio")


def chunk_values(out: dict[str, Tensor]) -> Tensor:
    """What the network says of each chunk, `CHUNK_SCORES`: (3, B), its score and the two heads' probability
    of fake, 0..1, NaN for one that is not there.
    """
    return torch.stack([chunk_score(out), p_fake(out, "video"), p_fake(out, "audio")])


class Trainer:
    """A network with all that changes it.

    Args:
        model: the network, on its device.
        ranks: this process and its companions; with several, gradients are averaged over them
            (DistributedDataParallel).
        objective: what to make small.
        lr, weight_decay: Adam's.
        execution: how to compute.
        accumulate: batches whose mean gradient makes a step.
        sync_bn: batch statistics over the batches of all ranks.
    """

    def __init__(
        self,
        model: TwoStreamNet,
        ranks: Ranks,
        objective: Objective,
        *,
        lr: float,
        weight_decay: float,
        execution: Execution = Execution(),
        accumulate: int = 1,
        sync_bn: bool = False,
    ):
        self.model, self.ranks, self.objective = model, ranks, objective
        self.amp, self.accumulate = execution.amp, accumulate
        channels_last(model)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=self.amp == "fp16")
        self.net: nn.Module = model
        self._parallel: DistributedDataParallel | None = None
        if ranks.size > 1:
            if sync_bn:
                synchronise_norms(model)
            self.net = self._parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
        self.net = execution.ready(self.net)

    def gradients(self, shared: bool) -> contextlib.AbstractContextManager:
        """Within it gradients are computed; the ranks share them in the last batch of a step alone."""
        return contextlib.nullcontext() if shared or self._parallel is None else self._parallel.no_sync()

    def update(self) -> None:
        """Take the step that the gradients say; one that is not finite in half precision is left out."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def load_optimizer(self, state: dict, path: Path, scaler: dict | None) -> None:
        """Go on from an optimiser's state and the loss scaling, if any, of a checkpoint at `path`.

        Of the settings the learning rate alone is taken over; the others are those of this run.

        Raises:
            UserError: they do not fit.
        """
        with fitting(path, "a training to go on with: its optimiser"):
            groups = merged_groups(self.optimizer.state_dict()["param_groups"], state["param_groups"])
            self.optimizer.load_state_dict(
                {"state": known_moments(state["state"], groups), "param_groups": groups}
            )
            for parameter, moments in self.optimizer.state.items():
                lay_out_moments(parameter, moments)
            if scaler:
                self.scaler.load_state_dict(checked_scaling(scaler))


class Epoch:
    """What is known of the epoch under way; each rank holds its own share.

    Args:
        index: the training chunks.
        ranks: this process and its companions.
        seed: of the epoch: order, dropout.
        saved: what `gathered` gave, to go on from.
        terms: names of the loss terms, see `Objective.names`; None: all.

    Raises:
        ValueError, TypeError, LookupError, RuntimeError and the like: `saved` is something else.
    """

    def __init__(
        self,
        index: pd.DataFrame,
        ranks: Ranks,
        seed: int = 0,
        saved: UnderWay | None = None,
        terms: Sequence[str] | None = None,
    ):
        self.index, self.ranks, self.seed = index, ranks, seed
        self.terms = list(LOSSES if terms is None else terms)
        self.position = self.n_steps = 0  # chunks taken by all ranks, steps taken
        self.sums = torch.zeros(len(self.terms), dtype=torch.float64, device=ranks.device)
        # the scores of the chunks seen, by row
        self.distances = torch.full((len(index),), -1.0, device=ranks.device)
        self.bad: dict[int, str] = {}  # rows that can't be read, and why
        self.seconds = self.wait_s = 0.0  # spent in all, and waiting for the loader
        # step, terms and rows; left on the device to not wait for it at each step
        self.unchecked: list[tuple[int, Tensor, Tensor]] = []
        self._terms = torch.zeros(len(self.terms), device=ranks.device)  # of the step under way
        self._rows: list[Tensor] = []
        if saved:
            self._take_up(saved)

    def _take_up(self, saved: UnderWay) -> None:
        self.position, self.n_steps = int(saved["position"]), int(saved["n_steps"])
        self.bad = {int(row): str(why) for row, why in saved["bad"].items()}
        self.seconds, self.wait_s = float(saved["seconds"]), float(saved["wait_s"])
        n_chunks = len(self.index)
        is_timed = 0 <= self.wait_s < math.inf and 0 < self.seconds < math.inf
        if not (0 < self.n_steps <= self.position <= n_chunks and is_timed):
            raise ValueError(
                f"{self.n_steps} steps to chunk {self.position} of {n_chunks} in {self.seconds} s"
            )
        for name, own, other in (
            ("sums", self.sums, saved["sums"]),
            ("distances", self.distances, saved["distances"]),
        ):
            if other.shape != own.shape:  # else it would be stretched
                raise ValueError(f"{name} has the shape {list(other.shape)}, expected {list(own.shape)}")
            own.copy_(other)
        if not self.sums.isfinite().all():
            raise ValueError("a sum of losses that is not finite")

    def gathered(self) -> UnderWay:
        """The whole of it, over all ranks, in plain types; each rank gets it."""
        shares = self.ranks.gather((self.sums.cpu(), self.distances.cpu(), self.bad))
        sums, distances, bad = zip(*shares, strict=True)
        return {
            "position": self.position,
            "n_steps": self.n_steps,
            "sums": torch.stack(sums).mean(0),
            "distances": torch.stack(distances).amax(0),
            "bad": {row: why for share in bad for row, why in share.items()},
            "seconds": self.seconds,
            "wait_s": self.wait_s,
        }

    def batches(self, loader: Iterable[dict]) -> Generator[dict, None, None]:
        """The batches of a loader; notes the time spent waiting for them and the chunks that they could not
        read.

        Raises:
            UserError: more than 1 % of all chunks can't be read.
        """
        start = time.perf_counter()
        for batch in loader:
            self.wait_s += time.perf_counter() - start
            # DEVIATION: a chunk that can't be read is named, counted and replaced by the next; the authors
            # drop it without a word
            for row, why in batch["bad"]:
                if row not in self.bad:
                    tqdm.write(f"can't be read, replaced by the next chunk: {why}")
                self.bad[row] = why
            check_bad(self.bad, len(self.index))
            yield batch
            start = time.perf_counter()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A step is taken within it, the same whatever came before it in this process, so that a resumed
        epoch equals a straight one.
        """
        start = time.perf_counter()
        torch.manual_seed(mixed_seed(self.seed, self.position, self.ranks.rank))
        self._terms, self._rows = torch.zeros_like(self._terms), []
        yield
        rows = torch.cat(self._rows)
        self.sums += self._terms
        self.n_steps += 1
        self.position += len(rows) * self.ranks.size
        self.unchecked.append((self.n_steps, self._terms, rows))
        self.seconds += time.perf_counter() - start

    def note(self, rows: Tensor, distances: Tensor, terms: Tensor) -> None:
        """Take note of a batch of the step under way: (B,) rows of the index and their scores, (n_terms,) its
        share of the step's loss terms.
        """
        self._terms += terms.detach()
        self._rows.append(rows)
        rows_there = rows.to(self.ranks.device, non_blocking=True)
        # the largest: the same in any order, if a chunk is drawn twice
        self.distances.scatter_reduce_(0, rows_there, distances.detach(), "amax")

    def checked_losses(self, number: int) -> list[float]:
        """The loss terms of the last step, means over the ranks, once those of all steps so far are known to
        be finite.

        Args:
            number: of the epoch, for people.

        Raises:
            UserError: a loss was not finite, with its terms and the chunks of the batch.
        """
        start = time.perf_counter()
        values = torch.stack([terms for _, terms, _ in self.unchecked]).tolist()  # waits for the device
        found: list[tuple[int, str]] = []  # step and words of this rank's first bad step
        for (step, _, rows), terms in zip(self.unchecked, values, strict=True):
            if not found and not np.isfinite(terms).all():
                what = not_finite(terms, self.terms, f"the loss in epoch {number}, step {step}")
                found.append(
                    (step, f"{what}; the batch held {', '.join(self.index.path.iloc[rows.tolist()])}")
                )
        self.unchecked.clear()
        shares = self.ranks.gather((found, values[-1]))
        if first := sorted(bad for share, _ in shares for bad in share):
            raise UserError(first[0][1])
        self.seconds += time.perf_counter() - start
        return np.mean([last for _, last in shares], axis=0).tolist()


def train_epoch(
    trainer: Trainer,
    epoch: Epoch,
    loader: Sequence[dict] | DataLoader,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train on the batches of a loader, `trainer.accumulate` of them a step; does not wait for the device.

    Args:
        epoch: takes note of everything.
        after_step: called after each step: prints, saves; ends the epoch by an exception.
    """
    device, accumulate = trainer.ranks.device, trainer.accumulate
    trainer.model.train()
    with closing(epoch.batches(loader)) as batches:
        for _ in range(len(loader) // accumulate):
            with epoch.step():
                for i, batch in enumerate(islice(batches, accumulate), 1):
                    targets = trainer.objective.targets(batch, device)
                    with trainer.gradients(shared=i == accumulate):
                        out = forward(trainer.net, batch, device, trainer.amp)
                        terms = trainer.objective(out, targets)  # (n_terms,)
                        loss = trainer.objective.total(terms) / accumulate
                        trainer.scaler.scale(loss).backward()
                    epoch.note(batch["row"], chunk_score(out), terms / accumulate)
                trainer.update()
            after_step()


def not_finite(values: Sequence[float], names: Sequence[str], what: str) -> str:
    named = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))
    return f"not finite: {what} ({named}); try a lower --lr"


def check_bad(bad: dict[int, str], n_chunks: int) -> None:
    """UserError if more of the training chunks can't be read than may."""
    if len(bad) > MAX_BAD_SHARE * n_chunks:
        raise UserError(
            f"{len(bad)} of {n_chunks} training chunks can't be read, more than {MAX_BAD_SHARE:.0%}; "
            f"the last one: {list(bad.values())[-1]}. Run write_csv.py again, which leaves them out."
        )


def video_auc(videos: pd.DataFrame) -> float:
    """The AUC of a table of `video_scores`; NaN if it has one class only."""
    is_fake = videos.label == LABELS["fake"]
    return roc_auc_score(is_fake, videos.mds) if videos.label.nunique() > 1 else float("nan")


def epoch_figures(
    whole: UnderWay, index: pd.DataFrame, device: torch.device, objective: Objective
) -> dict[str, float]:
    """The figures of an epoch, in training mode, from what `Epoch.gathered` gives: loss and its terms, by
    label avg_score (mean score of chunks) and mean_mds, train_auc, speed, memory, chunks that could
    not be read.
    """
    means = whole["sums"] / whole["n_steps"]
    seen = (whole["distances"] >= 0).numpy()
    scores = index[seen].assign(dissimilarity=whole["distances"].numpy()[seen])
    videos = video_scores(scores)
    mds = mean_mds(videos)
    by_label = {name: scores.dissimilarity[scores.label == code].mean() for name, code in LABELS.items()}
    return {
        "loss": objective.total(means).item(),
        **dict(zip(objective.names, means.tolist(), strict=True)),
        **{f"avg_score_{name}": float(mean) for name, mean in by_label.items()},
        "train_auc": video_auc(videos),
        **{f"mean_mds_{name}": mds[f"mean_mds_{name}"] for name in LABELS},
        "chunks_per_s": whole["position"] / whole["seconds"],
        "data_wait_share": whole["wait_s"] / whole["seconds"],
        "peak_memory_mb": peak_memory_mb(device),
        "n_bad_chunks": len(whole["bad"]),
    }


@torch.inference_mode()
def score_chunks(
    model: TwoStreamNet,
    index: pd.DataFrame,
    loader: DataLoader,
    ranks: Ranks,
    execution: Execution,
    stop: StopSignal,
    what: str,
) -> pd.DataFrame:
    """Score chunks of an index in evaluation mode, the batches of all ranks together.

    Args:
        loader: gives this rank's share of the chunks.
        what: is scored, for people.

    Returns:
        The columns video, label, track, chunk, start_s of the index for the chunks that could be read, in its
        order, and end_s and `CHUNK_SCORES`.

    Raises:
        UserError: none can be read.
        Stopped: a signal asks to stop.
    """
    model.eval()
    net = execution.ready(model)
    ranks.spread(model.buffers())  # the running statistics are those of rank 0, which saves them
    rows: list[tuple] = []  # row of the index and its scores
    for batch in tqdm(loader, unit="batch", desc=what, leave=False, disable=not ranks.is_main):
        if stop.number:
            break
        # DEVIATION: chunks that can't be read are named and counted; the authors drop them without a word
        for _, why in batch["bad"]:
            tqdm.write(f"left out, can't be read: {why}")
        if len(batch["row"]):
            out = forward(net, batch, ranks.device, execution.amp)
            rows += zip(batch["row"].tolist(), *chunk_values(out).tolist(), strict=True)
    ranks.meet()  # shares of the work differ, and so may the ranks, by hours
    shares = ranks.gather((rows, stop.number > 0))
    if any(must_stop for _, must_stop in shares):
        raise Stopped
    rows = sorted(row for share, _ in shares for row in share)
    if not rows:
        raise UserError(
            f"{what}: none of the {len(index)} chunks can be read; run write_csv.py again to see why."
        )
    taken, *columns = zip(*rows, strict=True)
    scores = index.iloc[list(taken)][["video", "label", "track", "chunk", "start_s"]].reset_index(drop=True)
    values = dict(zip(CHUNK_SCORES, map(list, columns), strict=True))
    return scores.assign(end_s=scores.start_s + chunk_length(index).chunk_s, **values)
