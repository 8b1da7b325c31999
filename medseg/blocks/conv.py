"""Convolutions. Contract: `(N, in_channels, *S) → (N, out_channels, *S)`, the grid is kept.

None has a bias: the normalisation that follows in every unit has one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from medseg.blocks.sizes import Block, Count, OddSize, Size, nearest_divisor, per_axis
from medseg.layers.deformable import DeformableConv
from medseg.layers.fast_conv import SharedSmoothing
from medseg.layers.ndim import conv_nd, depthwise_nd, dilated_nd


@runtime_checkable
class ConvFactory(Protocol):
    """Builds a convolution that keeps the grid."""

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module: ...


def same_conv(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    *,
    dilation: Size = 1,
    groups: int = 1,
) -> nn.Module:
    """Convolution without bias whose padding keeps the grid."""
    kernel = per_axis("kernel_size", kernel_size, spatial_dims)
    rate = per_axis("dilation", dilation, spatial_dims)
    padding = tuple(r * (k - 1) // 2 for k, r in zip(kernel, rate, strict=True))
    if groups == in_channels > 1:
        kind = depthwise_nd
    else:
        kind = dilated_nd if any(r > 1 for r in rate) else conv_nd
    return kind(spatial_dims)(
        in_channels, out_channels, kernel, padding=padding, dilation=rate, groups=groups, bias=False
    )


@dataclass(frozen=True, kw_only=True)
class Standard(Block):
    """Every output channel reads every input channel: `k^d · in · out` weights.

    Args:
        kernel_size: Taps per axis, odd.
    """

    kernel_size: OddSize = 3

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return same_conv(spatial_dims, in_channels, out_channels, self.kernel_size)


@dataclass(frozen=True, kw_only=True)
class Pointwise(Block):
    """Mixes channels at each voxel, without neighbours: `in · out` weights.

    Reference: Lin, Chen & Yan 2014, "Network In Network", section 3.
    """

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return same_conv(spatial_dims, in_channels, out_channels, 1)


@dataclass(frozen=True, kw_only=True)
class Grouped(Block):
    """Channels in `groups` groups that are convolved apart: `1/groups` of the weights.

    Args:
        kernel_size: Taps per axis, odd.
        groups: Number of groups; divides the channels going in and out.
        shuffle: Interleaves the output channels of the groups, so that the next grouped
            convolution reads some of each (Zhang et al. 2018, "ShuffleNet", section 3.1).

    Reference: Xie et al. 2017, "Aggregated Residual Transformations" (ResNeXt), section 3.
    """

    kernel_size: OddSize = 3
    groups: Count = 4
    shuffle: bool = False

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(
                    f"groups={self.groups} must divide {name}={channels}; choose "
                    f"groups={nearest_divisor(channels, self.groups)} "
                    f"or channels that are multiples of {self.groups}"
                )
        conv = same_conv(
            spatial_dims, in_channels, out_channels, self.kernel_size, groups=self.groups
        )
        return nn.Sequential(conv, nn.ChannelShuffle(self.groups)) if self.shuffle else conv


@dataclass(frozen=True, kw_only=True)
class Depthwise(Block):
    """As many groups as the channels allow, `gcd(in, out)`: `k^d · in · out / gcd` weights.

    Each channel by itself where `out` is a multiple of `in` (the multiplier). Nothing mixes the
    channels: it wants a unit that does, such as the inverted bottleneck or Xception's.

    Args:
        kernel_size: Taps per axis, odd; 7 as in ConvNeXt, 3 or 5 as in MedNeXt.

    Reference: Chollet 2017, "Xception", section 1.2; Liu et al. 2022, "A ConvNet for the 2020s".
    """

    kernel_size: OddSize = 3

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        groups = math.gcd(in_channels, out_channels)
        return same_conv(spatial_dims, in_channels, out_channels, self.kernel_size, groups=groups)


@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable(Block):
    """Depthwise then pointwise: `in·m·(k^d + out)` weights, for m = 1 `1/out + 1/k^d` of standard.

    Args:
        kernel_size: Taps per axis of the depthwise part, odd.
        multiplier: Depthwise outputs per input channel, m.

    Reference: Howard et al. 2017, "MobileNets", section 3.1.
    """

    kernel_size: OddSize = 3
    multiplier: Count = 1

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        inner = in_channels * self.multiplier
        return nn.Sequential(
            same_conv(spatial_dims, in_channels, inner, self.kernel_size, groups=in_channels),
            same_conv(spatial_dims, inner, out_channels, 1),
        )


@dataclass(frozen=True, kw_only=True)
class SpatiallySeparable(Block):
    """One axis after the other: `k·(in·out + (d - 1)·out²)` weights; kernels of rank 1 per pair.

    Args:
        kernel_size: Taps per axis, odd; an axis with one tap is left out.

    Reference: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 3.2.
    """

    kernel_size: OddSize = 3

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        taps = per_axis("kernel_size", self.kernel_size, spatial_dims)
        long_axes = [axis for axis, count in enumerate(taps) if count > 1] or [0]
        factors = [
            same_conv(
                spatial_dims,
                in_channels if place == 0 else out_channels,
                out_channels,
                [taps[axis] if axis == along else 1 for axis in range(spatial_dims)],
            )
            for place, along in enumerate(long_axes)
        ]
        return nn.Sequential(*factors)


@dataclass(frozen=True, kw_only=True)
class Dilated(Block):
    """Taps `dilation` voxels apart: extent `dilation·(k-1)+1` at the cost of `k`.

    Args:
        kernel_size: Taps per axis, odd.
        dilation: Distance between taps in voxels (the rate); 1 is the standard convolution.

    Reference: Yu & Koltun 2016, "Multi-Scale Context Aggregation by Dilated Convolutions", eq. 2.
    """

    kernel_size: OddSize = 3
    dilation: Size = 2

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return same_conv(
            spatial_dims, in_channels, out_channels, self.kernel_size, dilation=self.dilation
        )


@dataclass(frozen=True, kw_only=True)
class DilatedSchedule(Block):
    """Dilated with the rates in turn, one per unit of a stage: 1, 2, 5, then 1 again.

    Rates without a common factor leave no holes in the receptive field (no gridding).

    Args:
        kernel_size: Taps per axis, odd.
        rates: Dilation of each unit, from the first.

    Reference: Wang et al. 2018, "Understanding Convolution for Semantic Segmentation", section
    3.2 (hybrid dilated convolution).
    """

    kernel_size: OddSize = 3
    rates: Sequence[int] = (1, 2, 5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rates, int):
            raise ValueError(f"rates={self.rates!r} must be a list, one per unit, as [1, 2, 5]")

    def at(self, unit: int) -> Dilated:
        """The convolution of a unit of the stage, counted from 0."""
        return Dilated(kernel_size=self.kernel_size, dilation=self.rates[unit % len(self.rates)])

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return self.at(0)(spatial_dims, in_channels, out_channels)


@dataclass(frozen=True, kw_only=True)
class SmoothedDilated(Block):
    """A small kernel shared by all channels, `2·dilation - 1` wide, then dilated.

    The small kernel, at first the identity, mixes neighbours that the dilated taps keep apart;
    it has `(2·dilation - 1)^d` weights.

    Args:
        kernel_size: Taps per axis of the dilated part, odd.
        dilation: Distance between taps in voxels.

    Reference: Wang & Ji 2018, "Smoothed Dilated Convolutions for Improved Dense Prediction".
    """

    kernel_size: OddSize = 3
    dilation: Size = 2

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        rates = per_axis("dilation", self.dilation, spatial_dims)
        dilated = Dilated(kernel_size=self.kernel_size, dilation=self.dilation)
        return nn.Sequential(
            SharedSmoothing([2 * rate - 1 for rate in rates]),
            dilated(spatial_dims, in_channels, out_channels),
        )


@dataclass(frozen=True, kw_only=True)
class Deformable(Block):
    """Taps displaced by a learned field: `k^d·in·(out + d·k^d)` weights (version 1) and biases.

    Starts as the standard convolution.

    Args:
        kernel_size: Taps per axis, odd.
        version: 1 moves the taps; 2 weighs them too, `k^2d·in` weights more.

    Reference: Dai et al. 2017, "Deformable Convolutional Networks"; Zhu et al. 2019, "Deformable
    ConvNets v2: More Deformable, Better Results".
    """

    kernel_size: OddSize = 3
    version: Literal[1, 2] = 1

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        kernel = per_axis("kernel_size", self.kernel_size, spatial_dims)
        return DeformableConv(in_channels, out_channels, kernel, modulated=self.version == 2)
