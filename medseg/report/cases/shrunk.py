"""Volumes on a grid that is coarse enough for a page."""

import math

import numpy as np

LONGEST = 128
_WINDOW_PERCENTILES = (0.5, 99.5)


def shrunk_image(image: np.ndarray) -> np.ndarray:
    """Means of blocks as uint8; the 0.5th percentile becomes 0, the 99.5th 255.

    >>> shrunk_image(np.arange(256 * 4.0).reshape(256, 2, 2)).shape
    (128, 2, 2)
    """
    means = _sums(image, np.float32) / math.prod(_factors(image.shape))
    low, high = np.percentile(means, _WINDOW_PERCENTILES)
    share = (means - low) / (high - low if high > low else 1.0)
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def shrunk_labels(label: np.ndarray) -> np.ndarray:
    """The most frequent class of every block; of equally frequent ones the largest."""
    background = _sums(label == 0, np.int32)
    counts = {value: _sums(label == value, np.int32) for value in np.unique(label) if value}
    winner, most = np.zeros(background.shape, label.dtype), background
    for value, count in counts.items():
        winner[count >= most] = value
        most = np.maximum(most, count)
    return winner


def shrunk_affine(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of the coarse grid: a voxel lies at the centre of its block."""
    factors = np.array(_factors(shape), float)
    scale = np.diag([*factors, 1.0])
    scale[:3, 3] = (factors - 1) / 2
    return affine @ scale


def _factors(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-length // LONGEST) for length in shape)


def _sums(array: np.ndarray, dtype: type[np.number]) -> np.ndarray:
    """Sums of blocks; the last block repeats the last voxel where it is not full."""
    factors = _factors(array.shape)
    pads = [(0, -length % factor) for length, factor in zip(array.shape, factors, strict=True)]
    padded = np.pad(array, pads, mode="edge") if any(after for _, after in pads) else array
    shape = [length // factor for length, factor in zip(padded.shape, factors, strict=True)]
    total = np.zeros(shape, dtype)
    # a reshaped array would be summed as fast, but needs a copy of the whole volume
    for i, j, k in np.ndindex(*factors):
        total += padded[i :: factors[0], j :: factors[1], k :: factors[2]]
    return total
