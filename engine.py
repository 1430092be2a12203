"""One training step and the scoring of chunks, the same for every precision, device and number of processes.

from engine import Trainer, score_chunks    (train.py and the benchmarks do)
"""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

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
from dataset import MAX_BAD_SHARE, mixed_seed
from mds import mean_mds, video_scores
from model import TwoStreamNet, contrastive_loss, dissimilarity, synchronise_norms
from utils.cli import UserError
from utils.constants import CHUNK_FRAMES, FPS, LABELS
from utils.ranks import Ranks, Stopped, StopSignal
from utils.runs import peak_memory_mb

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
LOSS_TERMS = ("contrastive", "video_ce", "audio_ce")
SCORES = ("dissimilarity", "p_fake_video", "p_fake_audio")  # of a chunk


@contextlib.contextmanager
def fitting(path: Path, what: str = "--net, --img_dim and --final_dim as given") -> Iterator[None]:
    """Turn what fails for the content of the checkpoint at `path` into a UserError."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        detail = " ".join(f"{error}".split())[:300]
        raise UserError(f"{path} does not fit {what}: {detail}") from error


def build_model(checkpoint: dict, path: Path) -> TwoStreamNet:
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
    model = TwoStreamNet(**checkpoint["config"])
    load_state(model, checkpoint["state_dict"], path)
    return model


def load_state(model: TwoStreamNet, state: dict, path: Path) -> None:
    """Load the weights of the checkpoint at `path`; UserError if they do not fit."""
    with fitting(path):
        model.load_state_dict(state)


def forward(net: nn.Module, batch: dict, device: torch.device, amp: str) -> dict[str, Tensor]:
    """Run a batch of the loader through the network: what `TwoStreamNet.forward` returns, in float32."""
    video, audio = (batch[key].to(device, non_blocking=True) for key in ("video", "audio"))
    with torch.autocast(device.type, AMP[amp], enabled=amp != "off"):
        out = net(normalize(video), audio)
    return {name: values.float() for name, values in out.items()}


def chunk_values(out: dict[str, Tensor]) -> Tensor:
    """What the network says of each chunk, `SCORES`: (3, B), the dissimilarity and the two heads' probability
    of fake, 0..1.
    """
    p_fake = [out[f"{head}_logits"].softmax(1)[:, LABELS["fake"]] for head in ("video", "audio")]
    return torch.stack([dissimilarity(out["video_emb"], out["audio_emb"]), *p_fake])


def losses(
    out: dict[str, Tensor], label: Tensor, margin: float, class_weight: Tensor | None = None
) -> Tensor:
    """The three terms of the loss, `LOSS_TERMS`: (3,), means over the batch, weighted by `class_weight` (2,)
    if given.
    """
    terms = torch.stack(
        [
            contrastive_loss(out["video_emb"], out["audio_emb"], label, margin, reduction="none"),
            F.cross_entropy(out["video_logits"], label, reduction="none"),
            F.cross_entropy(out["audio_logits"], label, reduction="none"),
        ]
    )  # (3, B)
    return (terms if class_weight is None else terms * class_weight[label]).mean(1)


class Trainer:
    """A network with all that changes it.

    Args:
        model: the network, on its device.
        ranks: this process and its companions; with several, gradients are averaged over them
            (DistributedDataParallel).
        lr, weight_decay: Adam's.
        margin: of the contrastive loss.
        amp: a key of `AMP`; float16 comes with loss scaling.
        class_weight: (2,) weights of the chunks by label, or None.
        compile: compile the network with torch.compile.
        sync_bn: batch statistics over the batches of all ranks.
    """

    def __init__(
        self,
        model: TwoStreamNet,
        ranks: Ranks,
        lr: float,
        weight_decay: float,
        margin: float,
        amp: str = "off",
        class_weight: Tensor | None = None,
        compile: bool = False,
        sync_bn: bool = False,
    ):
        self.model, self.device = model, ranks.device
        self.margin, self.amp, self.class_weight = margin, amp, class_weight
        model.netcnnlip.to(memory_format=torch.channels_last_3d)  # as `normalize` gives its input; faster
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == "fp16")
        self.net: nn.Module = model
        self.no_sync = contextlib.nullcontext
        if ranks.size > 1:
            if sync_bn:
                synchronise_norms(model)
            self.net = DistributedDataParallel(model, gradient_as_bucket_view=True)
            self.no_sync = self.net.no_sync
        if compile:
            self.net = torch.compile(self.net)

    def load_optimizer(self, state: dict, path: Path, scaler: dict | None) -> None:
        """Go on from an optimiser's state and the loss scaling, if any, of a checkpoint at `path`; UserError
        if they do not fit.

        Of the settings the learning rate alone is taken over; the others are those of this run.
        """
        with fitting(path, "a training to go on with: its optimiser"):
            own = self.optimizer.state_dict()["param_groups"]
            pairs = zip(own, state["param_groups"], strict=True)
            groups = [new | {name: old[name] for name in ("lr", "params")} for new, old in pairs]
            for group in groups:
                group["lr"] = float(group["lr"])
                if not 0 < group["lr"] < math.inf:
                    raise ValueError(f"a learning rate of {group['lr']}")
            names = [name for group in groups for name in group["params"]]
            if len(set(names)) < len(names) or not state["state"].keys() <= set(names):
                raise ValueError("states of other parameters than those of its groups")
            # a parameter without gradient, as that of a loss term left out, has no state yet
            known = {name: moments for name, moments in state["state"].items() if moments}
            if not known:
                raise ValueError("no state of any parameter")
            for (
                name,
                moments,
            ) in known.items():  # "step" is a plain number in the authors' files, which are not fused
                step = torch.tensor(float(moments["step"]))
                known[name] = {
                    "step": step,
                    "exp_avg": moments["exp_avg"],
                    "exp_avg_sq": moments["exp_avg_sq"],
                }
            self.optimizer.load_state_dict({"state": known, "param_groups": groups})
            for parameter, moments in self.optimizer.state.items():
                if not moments["step"] >= 0:
                    raise ValueError(f"step {moments['step']}")
                for name in (
                    "exp_avg",
                    "exp_avg_sq",
                ):  # the fused step wants them to lie in memory as the parameter does
                    if moments[name].shape != parameter.shape:
                        raise ValueError(
                            f"{name} has the shape {list(moments[name].shape)}, expected {list(parameter.shape)}"
                        )
                    moments[name] = torch.empty_like(parameter, requires_grad=False).copy_(moments[name])
            if scaler:
                integers = ("growth_interval", "_growth_tracker")
                numbers = {
                    name: (int if name in integers else float)(value) for name, value in scaler.items()
                }
                if not all(0 <= value < math.inf for value in numbers.values()) or not numbers["scale"]:
                    raise ValueError(f"a loss scaling of {scaler}")
                self.scaler.load_state_dict(numbers)

    def step(self, batches: Iterable[dict], n_batches: int) -> tuple[Tensor, Tensor, Tensor]:
        """Take one optimiser step over `n_batches` batches of the loader, of which the gradient is the mean.

        Does not wait for the device.

        Returns:
            The loss terms (3,), means over the batches; the rows of the chunks in the index (n,) and their
            dissimilarities (n,) as seen in training; all but the rows on the device.
        """
        terms, rows, distances = torch.zeros(len(LOSS_TERMS), device=self.device), [], []
        for i, batch in enumerate(batches):
            label = batch["label"].to(self.device, non_blocking=True)
            is_last = i == n_batches - 1
            with contextlib.nullcontext() if is_last else self.no_sync():
                out = forward(self.net, batch, self.device, self.amp)
                loss = losses(out, label, self.margin, self.class_weight)
                self.scaler.scale(loss.sum() / n_batches).backward()
            terms += loss.detach() / n_batches
            rows.append(batch["row"])
            distances.append(dissimilarity(out["video_emb"], out["audio_emb"]).detach())
            if is_last:
                break
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return terms, torch.cat(rows), torch.cat(distances)


class Epoch:
    """What is known of the epoch under way; each rank holds its own share.

    Args:
        index: the training chunks.
        ranks: this process and its companions.
        saved: what `gathered` gave, to go on from.

    Raises:
        ValueError, TypeError, LookupError, RuntimeError and the like: `saved` is something else.
    """

    def __init__(self, index: pd.DataFrame, ranks: Ranks, saved: dict | None = None):
        self.index, self.ranks = index, ranks
        self.position = self.n_steps = 0  # chunks taken by all ranks, steps taken
        self.sums = torch.zeros(len(LOSS_TERMS), dtype=torch.float64, device=ranks.device)
        self.distances = torch.full((len(index),), -1.0, device=ranks.device)  # of the chunks seen, by row
        self.bad: dict[int, str] = {}  # rows that can't be read, and why
        self.seconds = self.wait_s = 0.0  # spent in all, and waiting for the loader
        self.unchecked: list[
            tuple
        ] = []  # (step, terms, rows), left on the device to not wait for it at each step
        if saved:
            self.position, self.n_steps = int(saved["position"]), int(saved["n_steps"])
            self.bad = {int(row): str(why) for row, why in saved["bad"].items()}
            self.seconds, self.wait_s = float(saved["seconds"]), float(saved["wait_s"])
            is_timed = 0 <= self.wait_s < math.inf and 0 < self.seconds < math.inf
            if not (0 < self.n_steps <= self.position <= len(index) and is_timed):
                raise ValueError(
                    f"{self.n_steps} steps to chunk {self.position} of {len(index)} in {self.seconds} s"
                )
            for name, own in (("sums", self.sums), ("distances", self.distances)):
                if saved[name].shape != own.shape:  # else it would be stretched
                    raise ValueError(
                        f"{name} has the shape {list(saved[name].shape)}, expected {list(own.shape)}"
                    )
                own.copy_(saved[name])
            if not self.sums.isfinite().all():
                raise ValueError("a sum of losses that is not finite")

    def gathered(self) -> dict:
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

    def batches(self, loader: DataLoader) -> Iterator[dict]:
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

    def step(self, trainer: Trainer, batches: Iterator[dict], accumulate: int, seed: int) -> None:
        """Take one step; the same whatever came before it in this process, so that a resumed epoch equals a
        straight one.
        """
        start = time.perf_counter()
        torch.manual_seed(mixed_seed(seed, self.position, self.ranks.rank))
        terms, rows, distances = trainer.step(batches, accumulate)
        rows_there = rows.to(self.ranks.device, non_blocking=True)
        self.distances.scatter_reduce_(
            0, rows_there, distances, "amax"
        )  # whatever the order, if a chunk is drawn twice
        self.sums += terms
        self.n_steps += 1
        self.position += len(rows) * self.ranks.size
        self.unchecked.append((self.n_steps, terms, rows))
        self.seconds += time.perf_counter() - start

    def check_finite(self, epoch: int) -> list[float]:
        """The loss terms of the last step, means over the ranks, once those of all steps so far are known to
        be finite.

        Raises:
            UserError: a loss was not finite, with its terms and the chunks of the batch.
        """
        start = time.perf_counter()
        values = torch.stack([terms for _, terms, _ in self.unchecked]).tolist()  # waits for the device
        found = []  # (step, what to say) of this rank's first bad step
        for (step, _, rows), terms in zip(self.unchecked, values, strict=True):
            if not found and not np.isfinite(terms).all():
                what = not_finite(terms, LOSS_TERMS, f"the loss in epoch {epoch}, step {step}")
                found.append(
                    (step, f"{what}; the batch held {', '.join(self.index.path.iloc[rows.tolist()])}")
                )
        self.unchecked.clear()
        shares = self.ranks.gather((found, values[-1]))
        if first := sorted(bad for share, _ in shares for bad in share):
            raise UserError(first[0][1])
        self.seconds += time.perf_counter() - start
        return np.mean([last for _, last in shares], axis=0).tolist()


def not_finite(values: Sequence[float], names: Sequence[str], what: str) -> str:
    named = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))
    return f"not finite: {what} ({named}); try a lower --lr"


def check_bad(bad: dict[int, str], n_chunks: int) -> None:
    if len(bad) > MAX_BAD_SHARE * n_chunks:
        raise UserError(
            f"{len(bad)} of {n_chunks} training chunks can't be read, more than {MAX_BAD_SHARE:.0%}; the last one: "
            f"{list(bad.values())[-1]}. Run write_csv.py again, which leaves them out."
        )


def video_auc(videos: pd.DataFrame) -> float:
    """The AUC of a table of `video_scores`; NaN if it has one class only."""
    return (
        roc_auc_score(videos.label == LABELS["fake"], videos.mds)
        if videos.label.nunique() > 1
        else float("nan")
    )


def epoch_stats(whole: dict, index: pd.DataFrame, device: torch.device) -> dict[str, float]:
    """The figures of an epoch, in training mode, from what `Epoch.gathered` gives."""
    means = (whole["sums"] / whole["n_steps"]).tolist()
    seen = (whole["distances"] >= 0).numpy()
    scores = index[seen].assign(dissimilarity=whole["distances"].numpy()[seen])
    videos = video_scores(scores)
    mds = mean_mds(videos)
    return {
        "loss": sum(means),
        **dict(zip(LOSS_TERMS, means, strict=True)),
        **{
            f"avg_score_{name}": float(scores.dissimilarity[scores.label == label].mean())
            for name, label in LABELS.items()
        },
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
    stop: StopSignal,
    amp: str,
    what: str,
    compile: bool = False,
) -> pd.DataFrame:
    """Score chunks of an index in evaluation mode, the batches of all ranks together.

    Args:
        compile: compile the network with torch.compile.

    Returns:
        The columns video, label, track, chunk, start_s of the index for the chunks that could be read, in its
        order, and end_s and `SCORES`.

    Raises:
        UserError: none can be read.
        Stopped: a signal asks to stop.
    """
    model.eval()
    net = torch.compile(model) if compile else model
    ranks.spread(model.buffers())  # the running statistics are those of rank 0, which saves them
    rows = []
    for batch in tqdm(loader, unit="batch", desc=what, leave=False, disable=not ranks.is_main):
        if stop.number:
            break
        # DEVIATION: chunks that can't be read are named and counted; the authors drop them without a word
        for _, why in batch["bad"]:
            tqdm.write(f"left out, can't be read: {why}")
        if not len(batch["row"]):
            continue
        rows += zip(
            batch["row"].tolist(), *chunk_values(forward(net, batch, ranks.device, amp)).tolist(), strict=True
        )
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
    return scores.assign(
        end_s=scores.start_s + CHUNK_FRAMES / FPS, **dict(zip(SCORES, map(list, columns), strict=True))
    )
