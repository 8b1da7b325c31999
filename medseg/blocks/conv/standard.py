"""Convolutions whose kernels see all channels, or all of their group."""

from dataclasses import dataclass

from torch import nn

from medseg.blocks.conv.slot import same_conv
from medseg.blocks.sizes import Size, freeze_count, freeze_size, nearest_divisor


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
        return same_conv(spatial_dims, in_channels, out_channels, self.kernel_size)


@dataclass(frozen=True, kw_only=True)
class Pointwise:
    """Mixes channels at each voxel and sees no neighbour: `in · out` weights.

    Reference: Lin, Chen & Yan 2014, "Network In Network", section 3.
    """

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        return same_conv(spatial_dims, in_channels, out_channels, 1)


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """Channels in `groups` bundles that do not see each other: `1/groups` of the weights.

    Args:
        kernel_size: Taps per axis, odd.
        groups: Number of bundles; divides the channels going in and out.
        shuffle: Deals the output channels round the bundles, so that the next grouped
            convolution sees some of each (Zhang et al. 2018, "ShuffleNet", section 3.1).

    Reference: Xie et al. 2017, "Aggregated Residual Transformations" (ResNeXt), section 3.
    """

    kernel_size: Size = 3
    groups: int = 4
    shuffle: bool = False

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        freeze_count(self, "groups")

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
