"""Upsamplings. Law: `(N, in_channels, *S) → (N, out_channels, *(S · scale))`."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from medseg.blocks.ndim import Size, conv_nd, freeze_size, linear_mode, per_axis, transposed_nd


@runtime_checkable
class UpsampleFactory(Protocol):
    """Builds a module that multiplies the grid by `scale`."""

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module: ...


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
        wanted = per_axis("kernel_size", self.kernel_size or stride, spatial_dims)
        for taps, step in zip(wanted, stride, strict=True):
            if taps < step:
                raise ValueError(
                    f"kernel_size={taps} is smaller than the scale {step}, so the finer grid "
                    f"would have holes; choose kernel_size={step} or more"
                )
        kernel = tuple(k if s > 1 else 1 for k, s in zip(wanted, stride, strict=True))
        # with these two the output is exactly scale times the input for every kernel ≥ scale
        padding = tuple(-((s - k) // 2) for k, s in zip(kernel, stride, strict=True))
        output_padding = tuple(
            2 * p - (k - s) for p, k, s in zip(padding, kernel, stride, strict=True)
        )
        return transposed_nd(spatial_dims)(
            in_channels, out_channels, kernel, stride, padding, output_padding
        )


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
        if self.mode not in ("linear", "nearest"):
            raise ValueError(f"mode={self.mode!r} must be one of linear, nearest; choose linear")

    def __call__(
        self, spatial_dims: int, in_channels: int, out_channels: int, scale: Size
    ) -> nn.Module:
        factor = tuple(float(s) for s in per_axis("scale", scale, spatial_dims))
        linear = self.mode == "linear"
        resize = nn.Upsample(
            scale_factor=factor,
            mode=linear_mode(spatial_dims) if linear else "nearest",
            align_corners=False if linear else None,
        )
        return nn.Sequential(conv_nd(spatial_dims)(in_channels, out_channels, 1), resize)
