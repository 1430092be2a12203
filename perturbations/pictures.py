"""Perturbations of a picture, (H, W, 3) uint8 RGB, of a strength and with a video's own randomness."""

import cv2
import numpy as np

# shares of red, green and blue in the brightness (ITU-R BT.601)
BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)
GREY = 128
BLOCKS_A_SIDE = 32  # as many blocks, side by side, are as wide as the shorter side of a frame


def keep_picture(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return picture


def shrink(picture: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Scale a picture down, by areas, and up to its size again, bicubic."""
    height, width = picture.shape[:2]
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def blur(picture: np.ndarray, kernel_px: float, rng: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian whose standard deviation is a sixth of the kernel's width."""
    return cv2.GaussianBlur(picture, (int(kernel_px), int(kernel_px)), kernel_px / 6)


def add_colour_noise(picture: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise, another one for each pixel and colour; the variance is of values from 0 to 1."""
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    return to_uint8(picture + np.float32(255 * variance**0.5) * noise)


def cover(picture: np.ndarray, n_blocks: float, rng: np.random.Generator) -> np.ndarray:
    """Lay grey squares on random places, others in each frame; they may overlap."""
    height, width = picture.shape[:2]
    side = max(1, round(min(height, width) / BLOCKS_A_SIDE))
    covered = picture.copy()
    rows = rng.integers(0, height - side + 1, int(n_blocks))
    columns = rng.integers(0, width - side + 1, int(n_blocks))
    for row, column in zip(rows, columns, strict=True):
        covered[row : row + side, column : column + side] = GREY
    return covered


def lessen_contrast(picture: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Scale each value's distance from mid-grey."""
    return to_uint8(GREY + np.float32(ratio) * (picture.astype(np.float32) - GREY))


def lessen_saturation(picture: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Scale each value's distance from the brightness of its pixel."""
    brightness = (picture @ BRIGHTNESS)[..., None]  # (H, W, 1)
    return to_uint8(brightness + np.float32(ratio) * (picture - brightness))


def to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
