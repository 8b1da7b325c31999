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

from medseg.layers.autocast import autocast_dtype

_CONV: dict[int, Callable[..., Tensor]] = {4: functional.conv2d, 5: functional.conv3d}
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_FAST_ROW = 3  # taps along the last axis up to which the library's weight gradient is fast

Axes = tuple[int, ...]


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
        return _CONV[x.ndim](_last(x), weight, None, stride, padding, dilation, x.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, *ctx.geometry = inputs
        ctx.save_for_backward(_last(x), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_input, by_weight = ctx.needs_input_grad[:2]
        gradient = _last(gradient)
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
        return _native(gradient, x, weight, stride, padding, dilation, by=0)
    flipped = weight.flip(list(range(2, weight.ndim)))
    parts = [
        _CONV[x.ndim](g, w, None, 1, flipped_padding, dilation, x.shape[1])
        for g, w in zip(_copies(gradient, x), _copies(flipped, x, axis=0), strict=True)
    ]
    return sum(parts[1:], start=parts[0])


def _weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes
) -> Tensor:
    planes = _planes_2d if x.ndim == 4 else _planes_3d
    parts = [
        planes(g, x, w, stride, padding, dilation)
        for g, w in zip(_copies(gradient, x), _copies(weight, x, axis=0), strict=True)
    ]
    return torch.stack(parts, dim=1).flatten(0, 1)  # output channel c · multiplier + copy


def _planes_3d(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes
) -> Tensor:
    """One 2-D weight gradient per tap of depth; slices of depth are the batch."""
    taps = []
    for tap in range(weight.shape[2]):
        first, last = _seen(tap, x.shape[2], gradient.shape[2], stride[0], padding[0], dilation[0])
        total = torch.zeros_like(weight[:, :, tap])
        if first < last:
            start = first * stride[0] - padding[0] + tap * dilation[0]
            slices = slice(start, start + (last - first - 1) * stride[0] + 1, stride[0])
            for case in range(len(x)):  # a case's slices are a view, those of a batch a copy
                total = total + _planes_2d(
                    gradient[case, :, first:last].transpose(0, 1),
                    x[case, :, slices].transpose(0, 1),
                    weight[:, :, tap],
                    stride[1:],
                    padding[1:],
                    dilation[1:],
                )
        taps.append(total)
    return torch.stack(taps, dim=2)


def _planes_2d(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes
) -> Tensor:
    """The weight gradient of 2-D, long rows of taps in pieces that the fast kernel takes."""
    row = weight.shape[3]
    if row <= _FAST_ROW:
        return _native(gradient, x, weight, stride, padding, dilation, by=1)
    padded = functional.pad(x, (padding[1], padding[1]))
    width = (gradient.shape[3] - 1) * stride[1] + 1
    pieces = []
    for first in range(0, row, _FAST_ROW):
        piece = weight[..., first : first + _FAST_ROW]
        reach = dilation[1] * (piece.shape[3] - 1)
        seen = padded.narrow(3, first * dilation[1], width + reach)
        pieces.append(_native(gradient, seen, piece, stride, (padding[0], 0), dilation, by=1))
    return torch.cat(pieces, dim=3)


def _native(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Axes,
    padding: Axes,
    dilation: Axes,
    *,
    by: int,
) -> Tensor:
    wanted = [by == 0, by == 1, False]
    none = [0] * len(stride)
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, none, x.shape[1], wanted
    )[by]


def _seen(
    tap: int, size: int, out_size: int, stride: int, padding: int, dilation: int
) -> tuple[int, int]:
    """Outputs `first ≤ o < last` for which the tap lies inside the grid."""
    first = max(0, -((tap * dilation - padding) // stride))
    last = (size - 1 + padding - tap * dilation) // stride + 1
    return first, min(out_size, last)


def _copies(tensor: Tensor, x: Tensor, axis: int = 1) -> Iterator[Tensor]:
    """The outputs of every input channel, one multiplier at a time."""
    multiplier = tensor.shape[axis] // x.shape[1]
    for copy in range(multiplier):
        chosen = [slice(None)] * axis + [slice(copy, None, multiplier)]
        yield tensor if multiplier == 1 else tensor[tuple(chosen)]


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_LAST[x.ndim])


def _is_usual(conv: nn.Conv2d | nn.Conv3d, x: Tensor) -> bool:
    """Whether the layer is what a network uses: batched, zeros beyond the border, no bias."""
    plain = conv.padding_mode == "zeros" and conv.bias is None
    return plain and x.ndim == conv.weight.ndim and not isinstance(conv.padding, str)


def _padding(conv: nn.Conv2d | nn.Conv3d) -> Axes:
    return tuple(int(p) for p in conv.padding)


def _pays(x: Tensor, weight: Tensor, dilation: Axes) -> bool:
    """Whether the gradients of this module are measured to be faster than torch's own."""
    if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return False
    slow_in_2d = weight.shape[-1] > _FAST_ROW or any(d > 1 for d in dilation)
    return x.ndim == 5 or slow_in_2d
