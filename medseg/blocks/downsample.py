"""Downsamplings. Contract: `(N, channels, *S) → (N, channels, *(S / scale))`, channels are kept.

`S` is a multiple of `scale`: the network pads once, at its input.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from medseg.blocks.sizes import Block, Size, per_axis
from medseg.layers import resampling
from medseg.layers.ndim import conv_nd, max_pool_nd
from medseg.layers.resampling import BoxBlur, CellMean


@runtime_checkable
class DownsampleFactory(Protocol):
    """Builds a module that divides the grid by `scale`."""

    def __call__(self, spatial_dims: int, channels: int, scale: Size) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Strided(Block):
    """Learned: a convolution with stride `scale`, one output per cell of `scale` voxels.

    Args:
        kernel_size: Taps per axis, at least the stride (a smaller one skips voxels); an axis
            that keeps its size gets one tap. None: the smallest odd number ≥ the stride.
    """

    kernel_size: Size | None = None

    def __call__(self, spatial_dims: int, channels: int, scale: Size) -> nn.Module:
        stride = per_axis("scale", scale, spatial_dims)
        wanted = self.kernel_size or tuple(s + 1 - s % 2 for s in stride)
        kernel = per_axis("kernel_size", wanted, spatial_dims)
        for taps, step in zip(kernel, stride, strict=True):
            if taps < step:
                raise ValueError(
                    f"kernel_size={taps} is smaller than the stride {step}, so voxels would be "
                    f"skipped; choose kernel_size={step} or more"
                )
        taps = tuple(k if s > 1 else 1 for k, s in zip(kernel, stride, strict=True))
        # a kernel larger than its cell extends beyond it on both sides: no voxel is skipped
        padding = tuple(-((s - k) // 2) for k, s in zip(taps, stride, strict=True))
        return conv_nd(spatial_dims)(
            channels, channels, taps, stride=stride, padding=padding, bias=False
        )


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """The largest value of each cell of `scale` voxels; nothing is learned."""

    def __call__(self, spatial_dims: int, channels: int, scale: Size) -> nn.Module:
        return max_pool_nd(spatial_dims)(per_axis("scale", scale, spatial_dims))


@dataclass(frozen=True, kw_only=True)
class AveragePool:
    """The mean of each cell of `scale` voxels; nothing is learned."""

    def __call__(self, spatial_dims: int, channels: int, scale: Size) -> nn.Module:
        return CellMean(per_axis("scale", scale, spatial_dims))


@dataclass(frozen=True, kw_only=True)
class BlurPool:
    """Every `scale`-th voxel of a blurred grid: no frequency folds onto another unweakened.

    The blur is the mean over `scale` voxels of the mean over 2: (1, 2, 1)/4 at scale 2, so that
    every voxel counts the same. Nothing is learned.

    Reference: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", section 3.
    """

    def __call__(self, spatial_dims: int, channels: int, scale: Size) -> nn.Module:
        steps = per_axis("scale", scale, spatial_dims)
        pair = tuple(2 if step > 1 else 1 for step in steps)
        return nn.Sequential(BoxBlur(pair), CellMean(steps))


@dataclass(frozen=True, kw_only=True)
class SpaceToDepth:
    """The voxels of a cell become channels, which a 1×1 brings back to `channels`; nothing lost.

    It is the strided convolution whose kernel is its stride.

    Reference: Shi et al. 2016 (the inverse of its shuffle); Sunkara & Luo 2022, "No More Strided
    Convolutions or Pooling".
    """

    def __call__(self, spatial_dims: int, channels: int, scale: Size) -> nn.Module:
        steps = per_axis("scale", scale, spatial_dims)
        project = conv_nd(spatial_dims)(channels * math.prod(steps), channels, 1, bias=False)
        return nn.Sequential(resampling.SpaceToDepth(steps), project)
