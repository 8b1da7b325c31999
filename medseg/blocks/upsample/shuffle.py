"""Upsampling by channels that become voxels."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from medseg.blocks.sizes import Size, freeze_choice, freeze_size, per_axis
from medseg.layers.ndim import conv_nd
from medseg.layers.pooling import BoxBlur
from medseg.layers.resampling import DepthToSpace
from medseg.layers.upsampling import Upsampling


@dataclass(frozen=True, kw_only=True)
class PixelShuffle:
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

    kernel_size: Size = 3
    init: str = "random"
    blur: bool = False

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        freeze_choice(self, "init", ("random", "icnr"))

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
