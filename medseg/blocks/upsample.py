"""Upsamplings. Contract: `(N, in_channels, *S) → (N, out_channels, *(S · scale))`.

Those that only put values in place are followed by the decoder's own convolution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import nn

from medseg.blocks.sizes import Block, OddSize, Size, nearest_divisor, per_axis
from medseg.layers import resampling
from medseg.layers.ndim import conv_nd, linear_mode, transposed_nd
from medseg.layers.parallel import Sum
from medseg.layers.resampling import BoxBlur, DepthToSpace, Upsampling


@runtime_checkable
class UpsampleFactory(Protocol):
    """Builds a module that multiplies the grid by `scale`.

    It is called with the coarse tensor; `layers.resampling.MaxUnpool` with the skip besides.
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Interpolate(Block):
    """A 1×1 convolution to `out_channels`, then fixed interpolation between voxel centres.

    The two commute, since interpolation weights sum to 1 at every voxel; on the coarse grid the
    1×1 costs `1/scale^d`. A constant stays a constant: no checkerboard, whatever is learned.

    Args:
        mode: `linear` (bilinear in 2-D, trilinear in 3-D) or `nearest`.
    """

    mode: Literal["linear", "nearest"] = "linear"

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


@dataclass(frozen=True, kw_only=True)
class Transposed(Block):
    """Learned: every voxel adds its value times a kernel onto the finer grid (overlap-add).

    Every voxel of the finer grid gets equally many taps only if the stride divides the kernel;
    a learned kernel can still respond to a constant with a checkerboard pattern.

    Args:
        kernel_size: Taps per axis, at least the scale (a smaller one leaves holes); an axis
            that keeps its size gets one tap. None: the scale.

    Reference: Odena, Dumoulin & Olah 2016, "Deconvolution and Checkerboard Artifacts".
    """

    kernel_size: Size | None = None

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        stride = per_axis("scale", scale, spatial_dims)
        kernel = per_axis("kernel_size", self.kernel_size or stride, spatial_dims)
        return _transposed(in_channels, out_channels, kernel, stride)


@dataclass(frozen=True, kw_only=True)
class BilinearTransposed:
    """Transposed with kernel `2·scale - scale mod 2`, first linear interpolation of a random 1×1.

    At the start it has no checkerboard pattern; training may teach it one.

    Reference: Long, Shelhamer & Darrell 2015, "Fully Convolutional Networks", section 3.3.
    """

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        stride = per_axis("scale", scale, spatial_dims)
        kernel = tuple(2 * s - s % 2 for s in stride)
        layer = _transposed(in_channels, out_channels, kernel, stride)
        mixing = nn.Linear(in_channels, out_channels).weight.T
        with torch.no_grad():
            start = torch.tensordot(mixing, linear_kernel(stride), dims=0)
            layer.get_parameter("weight").copy_(start)
        return layer


@dataclass(frozen=True, kw_only=True)
class SmoothedTransposed(Block):
    """Transposed, then the mean over `scale` voxels, which erases every checkerboard.

    The fixed mean vanishes at all frequencies of the stride grid, whatever is learned.

    Args:
        kernel_size: As of `Transposed`.

    Reference: Kinoshita & Kiya 2020, "Fixed Smooth Convolutional Layer for Avoiding Checkerboard
    Artifacts in CNNs", section 3.
    """

    kernel_size: Size | None = None

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        transposed = Transposed(kernel_size=self.kernel_size)
        stride = per_axis("scale", scale, spatial_dims)
        return Upsampling(
            nn.Sequential(
                transposed(spatial_dims, in_channels, out_channels, scale), BoxBlur(stride)
            ),
            in_channels,
            stride,
        )


@dataclass(frozen=True, kw_only=True)
class LargeKernelTransposed(Block):
    """A transposed convolution with a large kernel beside one with a small one, summed.

    Args:
        kernel_size: Taps per axis of the large kernel; 7 or 11 in the paper.
        small_kernel_size: Taps per axis of the small one.

    Reference: Agnihotri et al. 2024, "Improving Feature Stability during Upsampling: Spectral
    Artifacts and the Importance of Spatial Context".
    """

    kernel_size: Size = 7
    small_kernel_size: Size = 3

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        stride = per_axis("scale", scale, spatial_dims)
        both = [
            _transposed(
                in_channels,
                out_channels,
                per_axis(option, getattr(self, option), spatial_dims),
                stride,
                option=option,
            )
            for option in ("kernel_size", "small_kernel_size")
        ]
        return Upsampling(Sum(*both), in_channels, stride)


def linear_kernel(scale: Sequence[int]) -> torch.Tensor:
    """Taps of linear interpolation between voxel centres: triangles of half-width `scale`."""
    kernel = torch.ones(())
    for step in scale:
        taps = torch.arange(2 * step - step % 2, dtype=torch.float32)
        triangle = 1 - (taps - taps.mean()).abs() / step
        kernel = torch.tensordot(kernel, triangle, dims=0)
    return kernel


def _transposed(
    in_channels: int,
    out_channels: int,
    wanted: Sequence[int],
    stride: Sequence[int],
    *,
    option: str = "kernel_size",
) -> nn.Module:
    for taps, step in zip(wanted, stride, strict=True):
        if taps < step:
            raise ValueError(
                f"{option}={taps} is smaller than the scale {step}, so the finer grid "
                f"would have holes; choose {option}={step} or more"
            )
    kernel = tuple(k if s > 1 else 1 for k, s in zip(wanted, stride, strict=True))
    # with these two the output is exactly scale times the input for every kernel ≥ scale
    padding = tuple(-((s - k) // 2) for k, s in zip(kernel, stride, strict=True))
    output_padding = tuple(2 * p - (k - s) for p, k, s in zip(padding, kernel, stride, strict=True))
    return transposed_nd(len(stride))(
        in_channels, out_channels, kernel, tuple(stride), padding, output_padding
    )


@dataclass(frozen=True, kw_only=True)
class PixelShuffle(Block):
    """A convolution to `Π scale` times the channels, which become the voxels of a cell.

    With `kernel_size=1` it is the transposed convolution whose kernel is its stride.

    Args:
        kernel_size: Taps per axis of the convolution, odd.
        init: `random`: every phase has its own first weights; `icnr`: all phases have the same,
            so that it starts as nearest-neighbour interpolation (training breaks that).
        blur: Whether the mean over `scale` voxels follows, which erases every checkerboard.

    Reference: Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution"; Aitken et
    al. 2017, "Checkerboard artifact free sub-pixel convolution" (ICNR); Sugawara, Shiota & Kiya
    2018, "Super-Resolution Using CNNs Without Any Checkerboard Artifacts" (blur).
    """

    kernel_size: OddSize = 3
    init: Literal["random", "icnr"] = "random"
    blur: bool = False

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        steps = per_axis("scale", scale, spatial_dims)
        kernel = per_axis("kernel_size", self.kernel_size, spatial_dims)
        phases = math.prod(steps)
        conv = conv_nd(spatial_dims)(
            in_channels, out_channels * phases, kernel, padding=tuple(k // 2 for k in kernel)
        )
        if self.init == "icnr":
            with torch.no_grad():
                for tensor in conv.parameters():
                    tensor.copy_(tensor[::phases].repeat_interleave(phases, dim=0))
        blur = [BoxBlur(steps)] if self.blur else []
        return Upsampling(nn.Sequential(conv, DepthToSpace(steps), *blur), in_channels, steps)
