"""The chunk index (train_split.csv, test_split.csv), the chunk data set, its batches and its loader.

python -c "import dataset, pathlib; print(dataset.read_index(pathlib.Path('.'),
'train').label.value_counts())"
"""

import atexit
import hashlib
import multiprocessing
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader, Dataset, default_collate

from augmentation import Augmentation
from utils.chunkfiles import INDEX_COLUMNS, index_path, read_video, read_wav
from utils.cli import UserError
from utils.constants import CHUNKS_S, LABELS, SECOND, ChunkLength
from utils.mfcc import chunk_mfcc
from utils.tables import Schema, read_frame

OUTSIDE = re.compile(
    r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)"
)  # a path that leaves the folder that it is relative to
SHARED_MEMORY = Path("/dev/shm")  # where a loader process leaves its batches, on Linux
TERMINATION_S = 300  # for the step under way, after which the training process saves and ends
UNIT_ROWS = 4  # of a track that follow each other with --pairs cross, or up to 7
MAX_BAD_SHARE = 0.01  # of the training chunks may be unreadable


def read_index(out_dir: Path, split: str) -> pd.DataFrame:
    """Read the index of a split, a row per chunk.

    Columns: video ("fake/name", unique in the split), label (1 real, 0 fake), track (number, the longest is
    0), chunk (name), path (of the chunk's folder, relative to `out_dir`; its sound is beside it with .wav
    added), start_s (of the chunk in the video); perhaps others, of which `original` is used by `hold_out`,
    `sound` (path of the chunk whose sound is taken) by `ChunkDataset`, `chunk_s` by `chunk_length` and
    `GROUP_COLUMNS` by the report on the test split.

    Raises:
        UserError: the file is missing, has other columns, no rows, labels other than 0 and 1, paths outside
            `out_dir`, or chunks of several lengths.
    """
    path = index_path(out_dir, split)
    if not path.is_file():
        raise UserError(f"{path} does not exist; make it with: python write_csv.py --out_dir {out_dir}")
    schema = Schema(
        "chunk",
        INDEX_COLUMNS,
        remedy="run write_csv.py again",
        if_none=f"pre-process videos of the split {split!r}, then run write_csv.py again",
        numbers=("track", "start_s"),
    )
    index = read_frame(path, schema)
    # the pattern alone would take longer than reading the table
    names = [*index.path, *index.get("sound", [])]
    odd = [name for name in names if ".." in name or name[:1] in "/\\" or name[1:2] == ":"]
    if outside := next(filter(OUTSIDE.search, odd), None):
        raise UserError(f"{path} names {outside!r}, expected folders below {out_dir}; {schema.remedy}.")
    for column in schema.numbers:
        if not np.isfinite(index[column].to_numpy(np.float64)).all():
            raise UserError(f"{path} has a {column} that is no number; {schema.remedy}.")
    chunk_length(index, path)
    return index


def chunk_length(index: pd.DataFrame, path: Path | str = "the index") -> ChunkLength:
    """How long the chunks of an index are: what its column chunk_s says, a second where there is none.

    Raises:
        UserError: they have several lengths, or one that no chunk has.
    """
    if "chunk_s" not in index:
        return SECOND
    lengths = index.chunk_s.unique().tolist()
    if len(lengths) != 1 or lengths[0] not in CHUNKS_S:
        listed = ", ".join(str(length)[:20] or "nothing" for length in lengths[:5])
        raise UserError(
            f"{path} has chunks of several or unknown lengths (chunk_s is {listed}), expected one of "
            f"{', '.join(f'{length:g}' for length in CHUNKS_S)} s throughout; run write_csv.py again."
        )
    return ChunkLength.of(lengths[0])


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def mixed_seed(*numbers: int) -> int:
    """A seed for torch that depends on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def origins(index: pd.DataFrame) -> pd.Series:
    """For each row the video that its video was made from, itself if that is not known or it is real."""
    return index.original.where(index.original != "", index.video) if "original" in index else index.video


def with_foreign_sound(index: pd.DataFrame) -> pd.DataFrame:
    """The rows of real videos, and as fakes the same pictures with the sound of another second of their
    track.

    A track of one chunk has no other sound and gives no fake. The column `sound` names the chunk whose sound
    it is.
    """
    real = index[index.label == LABELS["real"]].sort_values(["video", "track", "start_s"], kind="stable")
    place = real.groupby(["video", "track"]).cumcount()
    n_rows = real.groupby(["video", "track"]).path.transform("size")
    other = np.arange(len(real)) - place + (place + n_rows // 2) % n_rows  # half the track away
    fake = real.assign(sound=real.path.to_numpy()[other], label=LABELS["fake"])[n_rows > 1]
    fake["video"] = "fake/" + fake.video.str.partition("/")[2]
    return pd.concat([real.assign(sound=real.path), fake], ignore_index=True)


def hold_out(index: pd.DataFrame, fraction: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part the index into training and held-out rows, whole videos at a time.

    A column `original` (the `video` of the real video that a fake was made from, else empty) keeps a fake
    with its original and with that one's other fakes.  Videos are chosen by a hash of their names, so the
    same ones on every machine and for every seed, from the real and the fake ones alike.

    Raises:
        UserError: one side would have no real or no fake video.
    """
    origin = origins(index)
    labels = index.groupby(origin.to_numpy()).label.agg(lambda values: tuple(sorted(set(values))))
    held: set[str] = set()
    for kind in sorted(set(labels)):  # groups of fake, of real and of both kinds of videos
        names = sorted(labels.index[labels == kind], key=digest)
        held.update(names[: max(1, round(fraction * len(names)))])
    is_held = origin.isin(held)
    parts = index[~is_held].reset_index(drop=True), index[is_held].reset_index(drop=True)
    if any(part.label.nunique() < index.label.nunique() for part in parts):
        raise UserError(
            f"--val_fraction {fraction}: {len(labels)} videos with their originals are too few to part; both "
            "parts need real and fake ones."
        )
    return parts


def class_weights(labels: np.ndarray) -> np.ndarray:
    """By label (fake 0, real 1) the weight that makes both classes count the same; 1 on average over the
    chunks, and of a class that is not there.
    """
    counts = np.bincount(labels, minlength=len(LABELS))
    n_classes = np.count_nonzero(counts)
    return np.divide(len(labels), n_classes * counts, out=np.ones(len(LABELS)), where=counts > 0)


def track_numbers(index: pd.DataFrame) -> np.ndarray:
    """(n,) int64, for each row the number of its face track: of its video and track."""
    return index.groupby(["video", "track"], sort=False).ngroup().to_numpy()


def units_of(index: pd.DataFrame, pairs: str) -> np.ndarray | None:
    """(n,) int64, for each row which other rows it shall meet in a batch, by --pairs; None: whichever.

    For "cross" those of its track, for "twins" the same second of its original and of that one's other fakes.
    """
    if pairs == "cross":
        return track_numbers(index)
    if pairs == "twins":
        return index.assign(origin=origins(index)).groupby(["origin", "track", "start_s"]).ngroup().to_numpy()
    return None


def epoch_order(
    labels: np.ndarray, seed: int, balanced: bool = False, units: np.ndarray | None = None
) -> torch.Tensor:
    """The rows of an epoch in a random order, which the seed alone decides: (n,) int64.

    Args:
        labels: (n,) of the index's rows.
        balanced: draw rows with replacement, real and fake ones alike, in place of each row once.
        units: of `units_of`: rows of a unit follow each other, some `UNIT_ROWS` of them.
    """
    if units is not None:
        return torch.from_numpy(order_of_units(units, np.random.default_rng(seed)))
    generator = torch.Generator().manual_seed(seed)
    if balanced:
        weights = torch.from_numpy(class_weights(labels)[labels])
        return torch.multinomial(weights, len(labels), replacement=True, generator=generator)
    return torch.randperm(len(labels), generator=generator)


def order_of_units(units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows, (n,), part by part: each unit's rows are shuffled and cut into parts of `UNIT_ROWS` or some
    more.
    """
    rows = rng.permutation(len(units))
    rows = rows[np.argsort(units[rows], kind="stable")]
    parts: list[np.ndarray] = []
    for own in np.split(rows, np.flatnonzero(np.diff(units[rows])) + 1):
        parts += np.array_split(own, max(1, len(own) // UNIT_ROWS))
    return np.concatenate([parts[i] for i in rng.permutation(len(parts))])


def epoch_batches(
    order: torch.Tensor,
    batch_size: int,
    position: int = 0,
    rank: int = 0,
    n_ranks: int = 1,
    accumulate: int = 1,
) -> list[list[int]]:
    """The rows of each batch that one rank takes in an epoch.

    A step takes the next n_ranks x accumulate x batch_size chunks of the epoch's order, so that any number of
    ranks sees the same steps and a resumed epoch goes on at `position`, the number of chunks taken.  The
    chunks that fill no step are left out.
    """
    order = order[position:]
    step = n_ranks * accumulate * batch_size
    return order[: len(order) // step * step].view(-1, n_ranks, batch_size)[:, rank].tolist()


def scoring_batches(n_rows: int, batch_size: int, rank: int = 0, n_ranks: int = 1) -> list[list[int]]:
    """All rows in order, in batches; every n_ranks-th batch for one rank."""
    return [list(range(row, min(row + batch_size, n_rows))) for row in range(0, n_rows, batch_size)][
        rank::n_ranks
    ]


class ChunkDataset(Dataset):
    """Chunks of an index as tensors.

    An item is a dict: video (T=30, H, W, 3) uint8 RGB, audio (1, F=13, L=99) float32 MFCC, label (fake 0,
    real 1), track, the number of its face track, row, its position in the index, and bad, a list of
    (row, why) of chunks that could not be read; if none could, it has bad alone.  T and L are those of
    `length`.

    Args:
        index: as `read_index` or `with_foreign_sound` gives it.
        root: the folder that the index's paths are relative to.
        img_dim: side of the frames in pixels.
        augmentation: applied to each chunk; None for evaluation.
        seed: of the augmentation, combined with the epoch and the row, so that it does not depend on workers
            or order.
        replace_bad: give the next readable chunk in place of one that can't be read, looking no further than
            a run may go.
    """

    def __init__(
        self,
        index: pd.DataFrame,
        root: Path,
        img_dim: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        replace_bad: bool = False,
    ):
        self.root = root
        self.length = chunk_length(index)
        self.paths = index.path.tolist()
        self.sounds = index.sound.tolist() if "sound" in index else self.paths  # chunks whose sound is taken
        self.tracks = track_numbers(index)
        self.labels = index.label.to_numpy()
        self.img_dim = img_dim
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0
        self.n_tries = min(len(index), 2 + int(MAX_BAD_SHARE * len(index))) if replace_bad else 1

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> dict:
        bad = []
        for i in range(self.n_tries):
            taken = (row + i) % len(self)
            folder = self.root / self.paths[taken]
            try:
                video = torch.from_numpy(read_video(folder, self.img_dim, self.length))
                samples = read_wav(self.root / f"{self.sounds[taken]}.wav", self.length)
                break
            except (OSError, ValueError) as error:
                bad.append((taken, f"{folder}: {str(error).splitlines()[0]}"))
        else:
            return {"bad": bad}
        if self.augmentation is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(mixed_seed(self.seed, self.epoch, row))  # and not a GPU's
                video, samples = self.augmentation(video.permute(0, 3, 1, 2), samples)
            video = video.permute(0, 2, 3, 1)
        audio = torch.from_numpy(chunk_mfcc(samples))
        label, track = int(self.labels[taken]), int(self.tracks[taken])
        return {"video": video, "audio": audio, "label": label, "track": track, "row": taken, "bad": bad}


def collate(items: list[dict]) -> dict:
    """Stack items into a batch: video (B, T, H, W, 3), audio (B, 1, F, L), label, track and row (B,), bad
    (list of (row, why)).

    Chunks that could not be read are left out of the tensors; B may then be 0.
    """
    good = [item for item in items if "row" in item]
    batch: dict[str, Any] = {"bad": [bad for item in items for bad in item["bad"]]}
    for key in ("video", "audio"):
        # in a loader process this stacks straight into shared memory
        batch[key] = default_collate([item[key] for item in good]) if good else torch.empty(0)
    for key in ("label", "track", "row"):
        batch[key] = torch.tensor([item[key] for item in good], dtype=torch.long)
    return batch


def _start_loader_process(_: int) -> None:
    """In a loader process: leave Ctrl-C and, for minutes, termination to the training process, which may want
    a batch yet.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # else Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(TERMINATION_S))
    threadpool_limits(1)  # NumPy's own threads, of the MFCC, would take the other processes' cores


def _end_workers() -> None:
    """At exit: end the loader processes that an error has left, which else would be waited for,
    `TERMINATION_S` long.
    """
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would call it a failure
    for process in multiprocessing.active_children():
        process.kill()


def check_shared_memory(
    batch_size: int, n_batches: int, img_dim: int, num_workers: int, length: ChunkLength = SECOND
) -> None:
    """UserError if the batches that wait for training, two for each loader process, have no room."""
    if not num_workers or not SHARED_MEMORY.is_dir():
        return
    batch_bytes = batch_size * 3 * length.n_frames * img_dim**2  # of uint8; the sound is a thousandth
    free = shutil.disk_usage(SHARED_MEMORY).free
    needed = min(2 * num_workers, n_batches) * batch_bytes
    if needed > free:
        raise UserError(
            f"{SHARED_MEMORY} has room for {free / 1e6:.0f} MB, the batches of {num_workers} loader "
            "processes take "
            f"{needed / 1e6:.0f} MB; give the container more (docker run --shm-size=8g), or take "
            "--num_workers "
            f"{free // (2 * batch_bytes)}."
        )


def build_loader(
    dataset: ChunkDataset, batches: list[list[int]], num_workers: int, pin_memory: bool = False
) -> DataLoader:
    """A loader of the given batches of rows, in their order; `pin_memory` for fast copies to a GPU.

    Raises:
        UserError: its processes would lack shared memory.
    """
    largest = max(map(len, batches), default=0)
    check_shared_memory(largest, len(batches), dataset.img_dim, num_workers, dataset.length)
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)  # after, and so called before, multiprocessing's own
    cv2.setNumThreads(
        1
    )  # here: in a process forked from one with OpenCV's threads it would wait for them forever
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_loader_process,
        # else each start of a loader would draw from the generator that dropout draws from
        generator=torch.Generator(),
    )


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Turn the death of a loader process, whenever PyTorch reports it, and its want of shared memory into a
    UserError.
    """
    try:
        yield
    except RuntimeError as error:
        if "shared memory" in str(error) or "unable to write to file </torch" in str(error):
            raise UserError(
                f"a loader process finds no room in {SHARED_MEMORY}; give the container more (docker run "
                "--shm-size=8g), or take fewer --num_workers; 0 needs none."
            ) from error
        if "DataLoader worker (pid" not in str(error):
            raise
        raise UserError(
            f"a loader process died ({str(error).splitlines()[0]}), often for want of memory or of room in "
            "/dev/shm; go on with "
            "--resume and fewer --num_workers."
        ) from error
