"""The chunk index (train_split.csv, test_split.csv) and the chunk data set with its loader.

python -c "import dataset, pathlib; print(dataset.read_index(pathlib.Path('.'), 'train').label.value_counts())"
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode
from torchvision.transforms.v2.functional import resize

from augmentation import Augmentation
from utils.audio import chunk_mfcc
from utils.cli import UserError
from utils.labels import LABELS
from utils.media import CHUNK_FRAMES, read_wav

SPLITS = ("train", "test")
JPEG_END = b"\xff\xd9"
INDEX_COLUMNS = ("video", "label", "track", "chunk", "path", "start_s")


def index_path(out_dir: Path, split: str) -> Path:
    return out_dir / f"{split}_split.csv"


def read_index(out_dir: Path, split: str) -> pd.DataFrame:
    """Read the index of a split, a row per chunk.

    Columns: video ("fake/name", unique in the split), label (1 real, 0 fake), track (number, the longest is 0), chunk (name),
    path (of the chunk's folder, relative to `out_dir`; its sound is beside it with .wav added), start_s (of the chunk in the
    video).

    Raises:
        UserError: the file is missing, has other columns, no rows, or labels other than 0 and 1.
    """
    path = index_path(out_dir, split)
    if not path.is_file():
        raise UserError(f"{path} does not exist; make it with: python write_csv.py --out_dir {out_dir}")
    try:
        text = {"video": str, "chunk": str, "path": str}
        index = pd.read_csv(path, dtype=text, keep_default_na=False, encoding_errors="surrogateescape")
    except (ValueError, OSError) as error:
        raise UserError(f"{path} can't be read as CSV ({' '.join(str(error).split())}); run write_csv.py again.") from error
    missing = [column for column in INDEX_COLUMNS if column not in index]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; make it again with write_csv.py.")
    if index.empty:
        raise UserError(f"{path} lists no chunk; pre-process videos of the split {split!r}, then run write_csv.py again.")
    if not index.label.isin(LABELS.values()).all():
        raise UserError(f"{path} has labels {sorted(set(index.label))}, expected 0 (fake) and 1 (real).")
    if not pd.api.types.is_numeric_dtype(index.start_s):
        raise UserError(f"{path} has a start_s that is no number; run write_csv.py again.")
    return index


def chunk_frames(folder: Path) -> list[Path]:
    """The frame files of a chunk in order of their numbers; ValueError unless there are 30."""
    frames = [p for p in folder.iterdir() if p.suffix == ".jpg"]
    odd = [p.name for p in frames if not p.stem.isdecimal()]
    if odd:
        raise ValueError(f"frame {odd[0]} has no number")
    # DEVIATION: sorted by number; the authors read a folder in the order the file system lists it
    frames.sort(key=lambda p: int(p.stem))
    if len(frames) != CHUNK_FRAMES:
        raise ValueError(f"{len(frames)} frames, expected {CHUNK_FRAMES}")
    return frames


def read_video(folder: Path, img_dim: int | None = None) -> Tensor:
    """Read a chunk's frames: (T=30, 3, H, W) uint8 RGB, resized to `img_dim` pixels square if given.

    Raises:
        OSError: the folder or a file can't be read.
        ValueError: not 30 frames, a frame that is cut off or no JPEG, frames of several sizes.
    """
    frames = []
    for path in chunk_frames(folder):
        data = path.read_bytes()
        try:
            if not data.endswith(JPEG_END):  # decoders fill the rest of a cut picture with grey
                raise RuntimeError("cut off")
            frames.append(torchvision.io.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB))
        except RuntimeError as error:
            raise ValueError(f"frame {path.name} is damaged") from error
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError("frames of several sizes")
    video = torch.stack(frames)
    return (
        video if img_dim is None or video.shape[2:] == (img_dim, img_dim) else resize(video, [img_dim, img_dim], antialias=True)
    )


class ChunkDataset(Dataset):
    """Chunks of an index as tensors.

    An item is a dict: video (3, T=30, H, W) uint8 RGB, audio (1, F=13, L=99) float32 MFCC, label (fake 0, real 1) and
    row, its position in the index; for a chunk that can't be read it is {"row", "error"}.

    Args:
        index: as `read_index` gives it.
        root: the folder that the index's paths are relative to.
        img_dim: side of the frames in pixels.
        augmentation: applied to each chunk; None for evaluation.
        seed: of the augmentation, combined with the epoch and the row, so that it does not depend on workers or order.
    """

    def __init__(self, index: pd.DataFrame, root: Path, img_dim: int, augmentation: Augmentation | None = None, seed: int = 0):
        self.paths = [root / path for path in index.path]
        self.labels = index.label.tolist()
        self.img_dim = img_dim
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> dict:
        folder = self.paths[row]
        try:
            video = read_video(folder, self.img_dim)
            samples = read_wav(folder.with_name(folder.name + ".wav"))
        except (OSError, ValueError) as error:
            return {"row": row, "error": f"{folder}: {str(error).splitlines()[0]}"}
        if self.augmentation is not None:
            sequence = np.random.SeedSequence((self.seed, self.epoch, row))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
                video, samples = self.augmentation(video, samples)
        audio = torch.from_numpy(chunk_mfcc(samples))
        return {"video": video.transpose(0, 1), "audio": audio, "label": self.labels[row], "row": row}


def collate(items: list[dict]) -> dict:
    """Stack items into a batch: video (B, 3, T, H, W), audio (B, 1, F, L), label (B,), row (B,), errors (list of str).

    Chunks that could not be read are left out of the tensors and named in errors; B may then be 0.
    """
    good = [item for item in items if "error" not in item]
    batch = {"errors": [item["error"] for item in items if "error" in item]}
    for key in ("video", "audio"):
        batch[key] = torch.stack([item[key] for item in good]) if good else torch.empty(0)
    for key in ("label", "row"):
        batch[key] = torch.tensor([item[key] for item in good], dtype=torch.long)
    return batch


def build_loader(dataset: ChunkDataset, batch_size: int, num_workers: int, shuffle_seed: int | None = None) -> DataLoader:
    """A loader in the index's order, or, given a seed, shuffled by it and without the incomplete last batch."""
    generator = None
    if shuffle_seed is not None:
        generator = torch.Generator().manual_seed(shuffle_seed)
    return DataLoader(
        dataset,
        batch_size,
        shuffle=shuffle_seed is not None,
        drop_last=shuffle_seed is not None,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        generator=generator,
    )
