"""Dilated 3-D convolution with a faster weight gradient on a CPU."""

from torch import Tensor, nn

from medseg.layers.context import trains_on_cpu
from medseg.layers.fast_conv import fast_conv, geometry_of


class DilatedConv3d(nn.Conv3d):
    """`nn.Conv3d` whose weight gradient is that of its planes: measured faster when dilated."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = geometry_of(self, x)
        if geometry is None or not trains_on_cpu(x):
            return super()._conv_forward(x, weight, bias)
        return fast_conv(x, weight, geometry)
