"""Convolutions whose taps move."""

from dataclasses import dataclass

from torch import nn

from medseg.blocks.sizes import Size, freeze_choice, freeze_size, per_axis
from medseg.layers.deformable import DeformableConv


@dataclass(frozen=True, kw_only=True)
class Deformable:
    """Taps displaced by a learned field: `k^d·in·(out + d·k^d)` weights (version 1) and biases.

    Starts as the standard convolution.

    Args:
        kernel_size: Taps per axis, odd.
        version: 1 moves the taps; 2 weighs them too, `k^2d·in` weights more.

    Reference: Dai et al. 2017, "Deformable Convolutional Networks"; Zhu et al. 2019, "Deformable
    ConvNets v2: More Deformable, Better Results".
    """

    kernel_size: Size = 3
    version: int = 1

    def __post_init__(self) -> None:
        freeze_size(self, "kernel_size", odd=True)
        freeze_choice(self, "version", (1, 2))

    def __call__(self, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
        kernel = per_axis("kernel_size", self.kernel_size, spatial_dims)
        return DeformableConv(in_channels, out_channels, kernel, modulated=self.version == 2)
