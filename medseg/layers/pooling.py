"""Means over boxes of voxels.

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
from medseg.layers.depthwise import depthwise_conv
from medseg.layers.ndim import average_pool_nd

_CONV = {4: functional.conv2d, 5: functional.conv3d}


class CellMean(nn.Module):
    """The mean of each cell of `scale` voxels: `(N, C, *(S · scale)) → (N, C, *S)`."""

    def __init__(self, scale: Sequence[int]):
        super().__init__()
        self.scale = tuple(scale)
        self.native = average_pool_nd(len(self.scale))(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        if not runs_on_cpu(x) or x.ndim not in _CONV:
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
        if not runs_on_cpu(x) or x.ndim not in _CONV:
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
        return _CONV[x.ndim](x, weights, None, stride=scale, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factors = [float(step) for step in ctx.scale]
        share = gradient / math.prod(ctx.scale)
        return functional.interpolate(share, scale_factor=factors, mode="nearest"), None


def _equal_weights(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.new_full((1, 1, *size), 1 / math.prod(size)).expand(x.shape[1], 1, *size)
