"""Depthwise convolution whose gradients are as fast as its forward pass on a CPU."""

from torch import Tensor, nn

from medseg.layers.context import trains_on_cpu
from medseg.layers.fast_conv import CONV, Geometry, fast_conv, geometry_of
from medseg.layers.planes import FAST_ROW, Axes


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one group per input channel."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = geometry_of(self, x)
        if geometry is None:
            return super()._conv_forward(x, weight, bias)
        return depthwise_conv(x, weight, *geometry[:3])


class DepthwiseConv3d(nn.Conv3d):
    """`nn.Conv3d` with one group per input channel."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = geometry_of(self, x)
        if geometry is None:
            return super()._conv_forward(x, weight, bias)
        return depthwise_conv(x, weight, *geometry[:3])


def depthwise_conv(
    x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes
) -> Tensor:
    """Torch's convolution with one group per channel, by the faster of two backward passes.

    Args:
        x: `(N, channels, *S)`, 2-D or 3-D.
        weight: `(channels · multiplier, 1, *kernel)`.
        stride: Step per axis.
        padding: Zeros at each border per axis.
        dilation: Distance of taps per axis.

    Returns:
        `(N, channels · multiplier, *S')`.
    """
    geometry = Geometry(stride, padding, dilation, x.shape[1])
    if _pays(x, weight, dilation):
        return fast_conv(x, weight, geometry)
    return CONV[x.ndim](x, weight, None, *geometry)


def _pays(x: Tensor, weight: Tensor, dilation: Axes) -> bool:
    """Whether the gradients of `fast_conv` are measured to be faster than torch's own."""
    slow_in_2d = weight.shape[-1] > FAST_ROW or any(d > 1 for d in dilation)
    return trains_on_cpu(x) and (x.ndim == 5 or slow_in_2d)
