"""Upsamplings that put values in place by a fixed rule; what is learned is a 1×1 at most."""

from dataclasses import dataclass

from torch import nn

from medseg.blocks.sizes import Size, freeze_choice, nearest_divisor, per_axis
from medseg.layers import resampling
from medseg.layers.ndim import conv_nd, linear_mode
from medseg.layers.upsampling import Upsampling


@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """A 1×1 convolution to `out_channels`, then fixed interpolation between voxel centres.

    The two commute, since interpolation weights sum to 1 at every voxel; on the coarse grid the
    1×1 costs `1/scale^d`. A constant stays a constant: no checkerboard, whatever is learned.

    Args:
        mode: `linear` (bilinear in 2-D, trilinear in 3-D) or `nearest`.
    """

    mode: str = "linear"

    def __post_init__(self) -> None:
        freeze_choice(self, "mode", ("linear", "nearest"))

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        resize = _resize(spatial_dims, scale, linear=self.mode == "linear")
        return nn.Sequential(conv_nd(spatial_dims)(in_channels, out_channels, 1), resize)


@dataclass(frozen=True, kw_only=True)
class AdditiveInterpolate:
    """Linear interpolation of the sums of every `in / out` consecutive channels; no weights.

    Reference: Wojna et al. 2019, "The Devil is in the Decoder", section 2.2 (bilinear additive).
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        if in_channels % out_channels:
            nearest = nearest_divisor(in_channels, out_channels)
            raise ValueError(
                f"in_channels={in_channels} must be a multiple of out_channels={out_channels}, "
                f"since whole numbers of channels are added; choose channels={nearest} there"
            )
        # sums and interpolation commute, and the coarse grid is cheaper
        resize = _resize(spatial_dims, scale, linear=True)
        return nn.Sequential(resampling.ChannelSum(out_channels), resize)


@dataclass(frozen=True, kw_only=True)
class BedOfNails:
    """A 1×1 convolution, then each voxel at the first corner of its cell and zeros elsewhere.

    With the convolution that follows it is a transposed convolution.
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        steps = per_axis("scale", scale, spatial_dims)
        project = conv_nd(spatial_dims)(in_channels, out_channels, 1)
        return Upsampling(nn.Sequential(project, resampling.Nails(steps)), in_channels, steps)


@dataclass(frozen=True, kw_only=True)
class MaxUnpool:
    """A 1×1 convolution, then each voxel where the encoder's max pooling found its maximum.

    Needs `downsample=max_pool`: the places are those of the encoder's maxima.

    Reference: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks",
    section 2.1; Badrinarayanan et al. 2017, "SegNet".
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        project = conv_nd(spatial_dims)(in_channels, out_channels, 1)
        return resampling.MaxUnpool(project, per_axis("scale", scale, spatial_dims))


def _resize(spatial_dims: int, scale: Size, *, linear: bool) -> nn.Upsample:
    return nn.Upsample(
        scale_factor=tuple(float(s) for s in per_axis("scale", scale, spatial_dims)),
        mode=linear_mode(spatial_dims) if linear else "nearest",
        align_corners=False if linear else None,
    )
