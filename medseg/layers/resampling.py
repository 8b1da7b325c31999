"""Layers that change the grid, or average over it; only `MaxUnpool` and `Upsampling` hold weights.

torch's average pooling is slow in 3-D on a CPU, both ways. A mean over a box is a depthwise
convolution with equal weights; and of cells that do not overlap, the gradient is each cell's
share, repeated.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medseg.layers.context import runs_on_cpu
from medseg.layers.fast_conv import CONV, depthwise_conv
from medseg.layers.ndim import average_pool_nd

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


class CellMean(nn.Module):
    """The mean of each cell of `scale` voxels: `(N, C, *(S · scale)) → (N, C, *S)`."""

    def __init__(self, scale: Sequence[int]):
        super().__init__()
        self.scale = tuple(scale)
        self.native = average_pool_nd(len(self.scale))(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        if not runs_on_cpu(x) or x.ndim not in CONV:
            return self.native(x)
        return _CellMean.apply(x, self.scale)  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class BoxBlur(nn.Module):
    """Mean over `size` voxels per axis, the voxel itself and those before it; the grid is kept.

    Its frequency response is 0 at every multiple of `1/size` but 0: a pattern of period `size`
    disappears, at the border too, since the first `size` voxels are repeated before it.
    """

    def __init__(self, size: Sequence[int]):
        super().__init__()
        self.size = tuple(size)
        self.native = average_pool_nd(len(self.size))(self.size, stride=1)
        self.padding_mode = "repeat"  # or "circular", which closes the grid to a torus

    def forward(self, x: Tensor) -> Tensor:
        for axis, size in enumerate(self.size, start=2):
            start = 1 if self.padding_mode == "repeat" else x.shape[axis] - size + 1
            if size > 1:
                x = torch.cat([x.narrow(axis, start, size - 1), x], dim=axis)
        if not runs_on_cpu(x) or x.ndim not in CONV:
            return self.native(x)
        one, none = (1,) * len(self.size), (0,) * len(self.size)
        return depthwise_conv(x, _equal_weights(x, self.size), one, none, one)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class _CellMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: tuple[int, ...]) -> Tensor:
        ctx.scale = scale
        weights = _equal_weights(x, scale)
        return CONV[x.ndim](x, weights, None, stride=scale, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factors = [float(step) for step in ctx.scale]
        share = gradient / math.prod(ctx.scale)
        return functional.interpolate(share, scale_factor=factors, mode="nearest"), None


def _equal_weights(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.new_full((1, 1, *size), 1 / math.prod(size)).expand(x.shape[1], 1, *size)


class Upsampling(nn.Module):
    """Layers that together multiply the grid by `scale`, and are measured together.

    Args:
        layers: What is computed.
        in_channels: Channels of the input.
        scale: Factor per axis.
    """

    def __init__(self, layers: nn.Module, in_channels: int, scale: Sequence[int]):
        super().__init__()
        self.layers = layers
        self.in_channels = in_channels
        self.scale = tuple(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"
