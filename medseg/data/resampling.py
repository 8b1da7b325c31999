"""Images, scores and labels onto a grid of other voxels that covers the same extent."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def resample(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """Linear interpolation of `(channels, *S)` to `size`, voxel edges aligned."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    # one channel after the other bounds the memory
    return torch.cat(
        [
            functional.interpolate(c[None, None], size=tuple(size), mode="trilinear")[0]
            for c in image
        ]
    )


def cubic(image: Tensor, size: Sequence[int]) -> Tensor:
    """Cubic interpolation of `(channels, *S)` to `size`, voxel edges aligned, border repeated.

    By the kernel of Keys 1981 ("Cubic Convolution Interpolation for Digital Image Processing",
    eq. 15), along one axis after the other.
    """
    if tuple(image.shape[1:]) == tuple(size):
        return image
    # axes that shrink most come first
    axes = sorted(range(len(size)), key=lambda axis: size[axis] / image.shape[1 + axis])
    channels = []
    for channel in image:
        for axis in axes:
            if channel.shape[axis] != size[axis]:
                weights = _keys(channel.shape[axis], size[axis])
                channel = (channel.movedim(axis, -1) @ weights.T).movedim(-1, axis)
        channels.append(channel)
    return torch.stack(channels)


def _keys(old: int, new: int) -> Tensor:
    """Weights `(new, old)` of the voxels of an axis in those of another of the same extent."""
    places = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * (old / new) - 0.5
    taps = places.floor() + torch.arange(-1, 3)
    x = (places - taps).abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.zeros(new, old, dtype=torch.float64)
    weights.scatter_add_(1, taps.clamp(0, old - 1).long(), torch.where(x <= 1, near, far))
    return weights.float()


def strongest(scores: Iterable[Tensor], size: tuple[int, ...]) -> Tensor:
    """Class with the largest score at each voxel of `size`, uint8, or int32 beyond 256 classes.

    Args:
        scores: Maps `S`, one per class; a tensor `(classes, *S)` or an iterator, so that at
            most two maps are held on the target grid at a time.
        size: The target grid.
    """
    labels, best = torch.zeros(tuple(size), dtype=torch.uint8), None
    for index, score in enumerate(scores):
        if index > torch.iinfo(labels.dtype).max:
            labels = labels.to(torch.int32)
        fine = resample(score[None].float(), size)[0]
        if best is None:
            best = fine.clone()
            continue
        wins = fine > best
        labels.masked_fill_(wins, index)  # by index, a voxel would take 24 bytes for a moment
        best = torch.where(wins, fine, best)
    return labels
