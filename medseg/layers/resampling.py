"""Rearrangements between channels and space, and fixed filters. None has weights."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_MAX_POOL = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}
_UNPOOL = {3: functional.max_unpool1d, 4: functional.max_unpool2d, 5: functional.max_unpool3d}


def depth_to_space(x: Tensor, scale: Sequence[int]) -> Tensor:
    """`(N, C·Π scale, *S) → (N, C, *(S · scale))`: pixel shuffle in any dimension.

    Channel `c·P + p` becomes phase `p` of channel `c`, phases in array order.

    Reference: Shi et al. 2016, "Real-Time Single Image … Sub-Pixel Convolutional Neural Network".
    """
    dims = len(scale)
    split = x.unflatten(1, (-1, *scale))  # (N, C, *scale, *S)
    pairs = [axis for d in range(dims) for axis in (2 + dims + d, 2 + d)]
    woven = split.permute(0, 1, *pairs)
    size = [n * s for n, s in zip(x.shape[2:], scale, strict=True)]
    return woven.reshape(*split.shape[:2], *size)


def space_to_depth(x: Tensor, scale: Sequence[int]) -> Tensor:
    """`(N, C, *(S · scale)) → (N, C·Π scale, *S)`: the inverse of `depth_to_space`."""
    dims = len(scale)
    cells = [(n // s, s) for n, s in zip(x.shape[2:], scale, strict=True)]
    split = x.reshape(*x.shape[:2], *(size for cell in cells for size in cell))
    phases = [3 + 2 * d for d in range(dims)]
    coarse = [2 + 2 * d for d in range(dims)]
    return split.permute(0, 1, *phases, *coarse).flatten(1, 1 + dims)


class DepthToSpace(nn.Module):
    """Module of `depth_to_space`."""

    def __init__(self, scale: Sequence[int]):
        super().__init__()
        self.scale = tuple(scale)

    def forward(self, x: Tensor) -> Tensor:
        return depth_to_space(x, self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class SpaceToDepth(nn.Module):
    """Module of `space_to_depth`."""

    def __init__(self, scale: Sequence[int]):
        super().__init__()
        self.scale = tuple(scale)

    def forward(self, x: Tensor) -> Tensor:
        return space_to_depth(x, self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class Nails(nn.Module):
    """Each voxel at the first corner of its cell of `scale` voxels, zeros elsewhere."""

    def __init__(self, scale: Sequence[int]):
        super().__init__()
        self.scale = tuple(scale)

    def forward(self, x: Tensor) -> Tensor:
        for axis, step in enumerate(self.scale, start=2):
            if step > 1:
                holes = x.new_zeros(()).expand(*x.shape[: axis + 1], step - 1, *x.shape[axis + 1 :])
                x = torch.cat([x.unsqueeze(axis + 1), holes], dim=axis + 1).flatten(axis, axis + 1)
        return x

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class ChannelSum(nn.Module):
    """Sum of every `in_channels / out_channels` consecutive channels."""

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.out_channels, -1)).sum(2)

    def extra_repr(self) -> str:
        return f"out_channels={self.out_channels}"


class MaxUnpool(nn.Module):
    """Values go where the maxima of the encoder's cells were; zeros elsewhere.

    Args:
        project: Brings the coarse tensor to the channels of the encoder's.
        scale: The cell that was pooled, per axis.
    """

    def __init__(self, project: nn.Module, scale: Sequence[int]):
        super().__init__()
        self.project = project
        self.scale = tuple(scale)

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """`x` and what the encoder pooled, `(N, out, *(S · scale))`, whose maxima count."""
        if math.prod(self.scale) == 1:
            return self.project(x)
        with torch.no_grad():
            _, places = _MAX_POOL[x.ndim](pooled, self.scale, return_indices=True)
        values = self.project(x)
        return _UNPOOL[x.ndim](values, places, self.scale).to(values.dtype)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"
