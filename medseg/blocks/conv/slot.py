"""What every convolution block is, and what most are made of."""

from typing import Protocol, runtime_checkable

from torch import nn

from medseg.blocks.sizes import Size, per_axis
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
