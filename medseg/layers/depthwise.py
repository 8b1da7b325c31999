"""Depthwise convolution whose gradients are as fast as its forward pass on a CPU.

PyTorch's CPU library has fast kernels for a depthwise forward pass and for the weight gradient of
a 2-D one with rows of at most three taps, and falls back to slow reference loops elsewhere. Both
gradients of a depthwise convolution can be written with the fast kernels alone:

- by the input: the forward pass of the outputs' gradient with the kernel flipped;
- by the weight: one 2-D weight gradient per tap of depth, its rows cut to three taps.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medseg.layers.context import autocast_dtype, trains_on_cpu
from medseg.layers.planes import (
    FAST_ROW,
    Axes,
    channels_last,
    native_gradient,
    weight_gradient,
)

_CONV: dict[int, Callable[..., Tensor]] = {4: functional.conv2d, 5: functional.conv3d}


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with one group per input channel."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _is_usual(self, x):
            return depthwise_conv(x, weight, self.stride, _padding(self), self.dilation)
        return super()._conv_forward(x, weight, bias)


class DepthwiseConv3d(nn.Conv3d):
    """`nn.Conv3d` with one group per input channel."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _is_usual(self, x):
            return depthwise_conv(x, weight, self.stride, _padding(self), self.dilation)
        return super()._conv_forward(x, weight, bias)


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
    if not _pays(x, weight, dilation):
        return _CONV[x.ndim](x, weight, None, stride, padding, dilation, x.shape[1])
    dtype = autocast_dtype(x)
    return fast_depthwise_conv(x.to(dtype), weight.to(dtype), stride, padding, dilation)


def fast_depthwise_conv(
    x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes
) -> Tensor:
    """`depthwise_conv` with the gradients of this module, channels last in memory."""
    return _Depthwise.apply(x, weight, stride, padding, dilation)  # type: ignore[return-value]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes) -> Tensor:
        return _CONV[x.ndim](channels_last(x), weight, None, stride, padding, dilation, x.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, *ctx.geometry = inputs
        ctx.save_for_backward(channels_last(x), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_input, by_weight = ctx.needs_input_grad[:2]
        gradient = channels_last(gradient)
        return (
            _input_gradient(gradient, x, weight, *ctx.geometry) if by_input else None,
            _weight_gradient(gradient, x, weight, *ctx.geometry) if by_weight else None,
            *[None] * 3,
        )


def _input_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes
) -> Tensor:
    kernel = weight.shape[2:]
    flipped_padding = [d * (k - 1) - p for k, p, d in zip(kernel, padding, dilation, strict=True)]
    if any(s > 1 for s in stride) or any(p < 0 for p in flipped_padding):
        geometry = (stride, padding, dilation, x.shape[1])
        return native_gradient(gradient, x, weight, *geometry, by_weight=False)
    flipped = weight.flip(list(range(2, weight.ndim)))
    parts = [
        _CONV[x.ndim](g, w, None, 1, flipped_padding, dilation, x.shape[1])
        for g, w in zip(_copies(gradient, x), _copies(flipped, x, axis=0), strict=True)
    ]
    return sum(parts[1:], start=parts[0])


def _weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes
) -> Tensor:
    parts = [
        weight_gradient(g, x, w, stride, padding, dilation, x.shape[1])
        for g, w in zip(_copies(gradient, x), _copies(weight, x, axis=0), strict=True)
    ]
    return torch.stack(parts, dim=1).flatten(0, 1)  # output channel c · multiplier + copy


def _copies(tensor: Tensor, x: Tensor, axis: int = 1) -> Iterator[Tensor]:
    """The outputs of every input channel, one multiplier at a time."""
    multiplier = tensor.shape[axis] // x.shape[1]
    for copy in range(multiplier):
        chosen = [slice(None)] * axis + [slice(copy, None, multiplier)]
        yield tensor if multiplier == 1 else tensor[tuple(chosen)]


def _is_usual(conv: nn.Conv2d | nn.Conv3d, x: Tensor) -> bool:
    """Whether the layer is what a network uses: batched, zeros beyond the border, no bias."""
    plain = conv.padding_mode == "zeros" and conv.bias is None
    return plain and x.ndim == conv.weight.ndim and not isinstance(conv.padding, str)


def _padding(conv: nn.Conv2d | nn.Conv3d) -> Axes:
    return tuple(int(p) for p in conv.padding)


def _pays(x: Tensor, weight: Tensor, dilation: Axes) -> bool:
    """Whether the gradients of this module are measured to be faster than torch's own."""
    slow_in_2d = weight.shape[-1] > FAST_ROW or any(d > 1 for d in dilation)
    return trains_on_cpu(x) and (x.ndim == 5 or slow_in_2d)
