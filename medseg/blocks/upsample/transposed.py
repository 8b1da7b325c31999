"""Learned upsamplings that paint kernels onto the finer grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from medseg.blocks.sizes import Size, freeze_size, per_axis
from medseg.layers.ndim import transposed_nd
from medseg.layers.parallel import Sum
from medseg.layers.pooling import BoxBlur
from medseg.layers.upsampling import Upsampling


@dataclass(frozen=True, kw_only=True)
class Transposed:
    """Learned: every voxel paints a kernel onto the finer grid, overlaps are summed.

    The overlap count is flat, and a checkerboard not built in, only if the stride divides the
    kernel; a learned kernel can print one all the same.

    Args:
        kernel_size: Taps per axis, at least the scale (a smaller one leaves holes); an axis
            that keeps its size gets one tap. None: the scale.

    Reference: Odena, Dumoulin & Olah 2016, "Deconvolution and Checkerboard Artifacts".
    """

    kernel_size: Size | None = None

    def __post_init__(self) -> None:
        if self.kernel_size is not None:
            freeze_size(self, "kernel_size")

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        stride = per_axis("scale", scale, spatial_dims)
        kernel = per_axis("kernel_size", self.kernel_size or stride, spatial_dims)
        return _transposed(in_channels, out_channels, kernel, stride)


@dataclass(frozen=True, kw_only=True)
class BilinearTransposed:
    """Transposed with kernel `2·scale - scale mod 2`, first linear interpolation of a random 1×1.

    It prints no checkerboard at the start; training may teach it one.

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
class SmoothedTransposed:
    """Transposed, then the mean over `scale` voxels, which erases every checkerboard.

    The fixed mean vanishes at all frequencies that the stride can print, whatever is learned.

    Args:
        kernel_size: As of `Transposed`.

    Reference: Kinoshita & Kiya 2020, "Fixed Smooth Convolutional Layer for Avoiding Checkerboard
    Artifacts in CNNs", section 3.
    """

    kernel_size: Size | None = None

    def __post_init__(self) -> None:
        if self.kernel_size is not None:
            freeze_size(self, "kernel_size")

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
class LargeKernelTransposed:
    """A transposed convolution with a large kernel beside one with a small one, summed.

    Args:
        kernel_size: Taps per axis of the large kernel; 7 or 11 in the paper.
        small_kernel_size: Taps per axis of the small one.

    Reference: Agnihotri et al. 2024, "Improving Feature Stability during Upsampling: Spectral
    Artifacts and the Importance of Spatial Context".
    """

    kernel_size: Size = 7
    small_kernel_size: Size = 3

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size")
        freeze_size(self, "small_kernel_size")

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
