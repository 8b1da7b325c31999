"""Convolutions whose kernels are products of smaller ones."""

import math
from dataclasses import dataclass

from torch import nn

from medseg.blocks.conv.slot import same_conv
from medseg.blocks.sizes import Size, freeze_count, freeze_size, per_axis


@dataclass(frozen=True, kw_only=True)
class Depthwise:
    """As many groups as the channels allow, `gcd(in, out)`: `k^d · in · out / gcd` weights.

    Each channel by itself where `out` is a multiple of `in` (the multiplier). Nothing mixes the
    channels: it wants a unit that does, such as the inverted bottleneck or Xception's.

    Args:
        kernel_size: Taps per axis, odd; 7 as in ConvNeXt, 3 or 5 as in MedNeXt.

    Reference: Chollet 2017, "Xception", section 1.2; Liu et al. 2022, "A ConvNet for the 2020s".
    """

    kernel_size: Size = 3

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        groups = math.gcd(in_channels, out_channels)
        return same_conv(spatial_dims, in_channels, out_channels, self.kernel_size, groups=groups)


@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable:
    """Depthwise then pointwise: `in·m·(k^d + out)` weights, for m = 1 `1/out + 1/k^d` of standard.

    Args:
        kernel_size: Taps per axis of the depthwise part, odd.
        multiplier: Depthwise outputs per input channel, m.

    Reference: Howard et al. 2017, "MobileNets", section 3.1.
    """

    kernel_size: Size = 3
    multiplier: int = 1

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        freeze_count(self, "multiplier")

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        inner = in_channels * self.multiplier
        return nn.Sequential(
            same_conv(spatial_dims, in_channels, inner, self.kernel_size, groups=in_channels),
            same_conv(spatial_dims, inner, out_channels, 1),
        )


@dataclass(frozen=True, kw_only=True)
class SpatiallySeparable:
    """One axis after the other: `k·(in·out + (d - 1)·out²)` weights; kernels of rank 1 per pair.

    Args:
        kernel_size: Taps per axis, odd; an axis with one tap is left out.

    Reference: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 3.2.
    """

    kernel_size: Size = 3

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)

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
