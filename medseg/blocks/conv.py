"""Convolutions. Law: `(N, in_channels, *S) → (N, out_channels, *S)`, the grid is kept.

None has a bias: the normalisation that follows in every unit has one.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from medseg.blocks.ndim import Size, conv_nd, freeze_size, per_axis


@runtime_checkable
class ConvFactory(Protocol):
    """Builds a convolution that keeps the grid."""

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module: ...


def _same_conv(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    *,
    dilation: Size = 1,
    groups: int = 1,
) -> nn.Module:
    kernel = per_axis("kernel_size", kernel_size, spatial_dims)
    rate = per_axis("dilation", dilation, spatial_dims)
    padding = tuple(r * (k - 1) // 2 for k, r in zip(kernel, rate, strict=True))
    return conv_nd(spatial_dims)(
        in_channels, out_channels, kernel, padding=padding, dilation=rate, groups=groups, bias=False
    )


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Every output channel sees every input channel: `k^d · in · out` weights.

    Args:
        kernel_size: Taps per axis, odd.
    """

    kernel_size: Size = 3

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return _same_conv(spatial_dims, in_channels, out_channels, self.kernel_size)


@dataclass(frozen=True, kw_only=True)
class Dilated:
    """Taps `dilation` voxels apart: reach `dilation·(k-1)+1` at the cost of `k`.

    Args:
        kernel_size: Taps per axis, odd.
        dilation: Distance between taps in voxels (the rate); 1 is the standard convolution.

    Reference: Yu & Koltun 2016, "Multi-Scale Context Aggregation by Dilated Convolutions", eq. 2.
    """

    kernel_size: Size = 3
    dilation: Size = 2

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        freeze_size(self, "dilation")

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return _same_conv(
            spatial_dims, in_channels, out_channels, self.kernel_size, dilation=self.dilation
        )


@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable:
    """Depthwise then pointwise: `in·(k^d + out)` weights, `1/out + 1/k^d` of the standard's.

    Args:
        kernel_size: Taps per axis of the depthwise part, odd.

    Reference: Howard et al. 2017, "MobileNets", section 3.1.
    """

    kernel_size: Size = 3

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        depthwise = _same_conv(
            spatial_dims, in_channels, in_channels, self.kernel_size, groups=in_channels
        )
        pointwise = _same_conv(spatial_dims, in_channels, out_channels, 1)
        return nn.Sequential(depthwise, pointwise)


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """Channels in `groups` bundles that do not see each other: `1/groups` of the weights.

    Args:
        kernel_size: Taps per axis, odd.
        groups: Number of bundles; divides the channels going in and out.

    Reference: Xie et al. 2017, "Aggregated Residual Transformations" (ResNeXt), section 3.
    """

    kernel_size: Size = 3
    groups: int = 4

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        if not isinstance(self.groups, int) or self.groups < 1:
            raise ValueError(f"groups={self.groups!r} must be a whole number ≥ 1; for instance 4")

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                divisors = [g for g in range(1, channels + 1) if channels % g == 0]
                nearest = min(divisors, key=lambda g: abs(g - self.groups))
                raise ValueError(
                    f"groups={self.groups} must divide {name}={channels}; choose groups={nearest} "
                    f"or channels that are multiples of {self.groups}"
                )
        return _same_conv(
            spatial_dims, in_channels, out_channels, self.kernel_size, groups=self.groups
        )
