"""The authors' input transform, and augmentations that treat all frames of a chunk alike.

python train.py --out_dir . --augment hflip jitter      (no names: all of them; by default none, as the
authors)
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NOISE_SNR_DB = (15.0, 40.0)
GAIN_DB = (-12.0, 6.0)


@cache  # the copy to a GPU would wait for it
def imagenet_stats(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels, for values of 0 to 255."""
    mean, std = (255 * torch.tensor(values, device=device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def normalize(video: Tensor) -> Tensor:
    """(B, T, H, W, 3) uint8 RGB -> (B, 3, T, H, W) float32, normalised by the ImageNet mean and standard
    deviation.

    On the device that it is on; channels stay last in memory, as the network's convolutions like them.
    """
    mean, std = imagenet_stats(video.device)
    return video.float().sub_(mean).div_(std).permute(0, 4, 1, 2, 3)


def uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def add_noise(samples: np.ndarray) -> np.ndarray:
    """Add white noise at a random signal-to-noise ratio of 15 to 40 dB: int16 -> int16."""
    rms = np.sqrt(np.mean(samples.astype(np.float64) ** 2))
    noise = torch.randn(len(samples)).numpy() * rms * 10 ** (-uniform(*NOISE_SNR_DB) / 20)
    return to_int16(samples + noise)


def change_gain(samples: np.ndarray) -> np.ndarray:
    """Scale by a random gain of -12 to +6 dB, clipped to the range: int16 -> int16."""
    return to_int16(samples * 10 ** (uniform(*GAIN_DB) / 20))


def to_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


class Augmentation:
    """Random changes to one chunk, drawn once from torch's global generator and applied to every frame.

    Args:
        names: some of `AUGMENTATIONS`; they are applied in that tuple's order.
        img_dim: side of the frames in pixels.
    """

    def __init__(self, names: Sequence[str], img_dim: int):
        video = {
            "hflip": v2.RandomHorizontalFlip(),
            "jitter": v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05),
            "crop": v2.RandomResizedCrop(img_dim, scale=(0.7, 1.0), ratio=(0.9, 1.1), antialias=True),
            "jpeg": v2.JPEG((40, 95)),
        }
        audio = {"noise": add_noise, "gain": change_gain}
        self.video = [transform for name, transform in video.items() if name in names]
        self.audio = [transform for name, transform in audio.items() if name in names]

    def __call__(self, video: Tensor, samples: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """(T, 3, H, W) uint8 and (48000,) int16 -> the same shapes and types."""
        for transform in self.video:
            video = transform(video)
        for transform in self.audio:
            samples = transform(samples)
        return video, samples
