"""Convolutions whose taps stand apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from medseg.blocks.conv.slot import same_conv
from medseg.blocks.sizes import Size, freeze_size, per_axis
from medseg.layers.smoothing import SharedSmoothing


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
        return same_conv(
            spatial_dims, in_channels, out_channels, self.kernel_size, dilation=self.dilation
        )


@dataclass(frozen=True, kw_only=True)
class DilatedSchedule:
    """Dilated with the rates in turn, one per unit of a stage: 1, 2, 5, then 1 again.

    Rates without a common factor leave no holes in what a stage sees.

    Args:
        kernel_size: Taps per axis, odd.
        rates: Dilation of each unit, from the first.

    Reference: Wang et al. 2018, "Understanding Convolution for Semantic Segmentation", section
    3.2 (hybrid dilated convolution).
    """

    kernel_size: Size = 3
    rates: Sequence[int] = (1, 2, 5)

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        rates = list(self.rates) if isinstance(self.rates, list | tuple) else []
        if not rates or not all(type(rate) is int and rate >= 1 for rate in rates):
            raise ValueError(
                f"rates={self.rates!r} must be a list of whole numbers ≥ 1, one per unit; "
                "for instance [1, 2, 5]"
            )
        object.__setattr__(self, "rates", tuple(rates))

    def at(self, unit: int) -> Dilated:
        """The convolution of a unit of the stage, counted from 0."""
        return Dilated(kernel_size=self.kernel_size, dilation=self.rates[unit % len(self.rates)])

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return self.at(0)(spatial_dims, in_channels, out_channels)


@dataclass(frozen=True, kw_only=True)
class SmoothedDilated:
    """A small kernel shared by all channels, `2·dilation - 1` wide, then dilated.

    The small kernel, at first the identity, lets neighbours that the dilated taps keep apart
    speak to each other; it has `(2·dilation - 1)^d` weights.

    Args:
        kernel_size: Taps per axis of the dilated part, odd.
        dilation: Distance between taps in voxels.

    Reference: Wang & Ji 2018, "Smoothed Dilated Convolutions for Improved Dense Prediction".
    """

    kernel_size: Size = 3
    dilation: Size = 2

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        freeze_size(self, "dilation")

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        rates = per_axis("dilation", self.dilation, spatial_dims)
        dilated = Dilated(kernel_size=self.kernel_size, dilation=self.dilation)
        return nn.Sequential(
            SharedSmoothing([2 * rate - 1 for rate in rates]),
            dilated(spatial_dims, in_channels, out_channels),
        )
