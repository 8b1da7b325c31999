"""Convolutions on a CPU with gradients put together from its library's fast operators.

The library has fast kernels for every forward pass, for most weight gradients in 2-D and for few
in 3-D; elsewhere it falls back to slow reference loops. Here

- the weight gradient in 3-D is that of planes (`medseg.layers.planes`);
- the input gradient of a depthwise convolution is the forward pass of the outputs' gradient with
  the kernel flipped.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medseg.layers.context import autocast_dtype, channels_last
from medseg.layers.planes import Axes, native_gradient, weight_gradient

CONV: dict[int, Callable[..., Tensor]] = {4: functional.conv2d, 5: functional.conv3d}
"""torch's convolution by number of axes of its input."""


class Geometry(NamedTuple):
    """How a convolution steps over the grid, and in how many bundles of channels."""

    stride: Axes
    padding: Axes
    dilation: Axes
    groups: int


def fast_conv(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Torch's convolution without bias, with the gradients of this module, channels last."""
    dtype = autocast_dtype(x)
    return _FastConv.apply(x.to(dtype), weight.to(dtype), geometry)  # type: ignore[return-value]


def geometry_of(conv: nn.Conv2d | nn.Conv3d, x: Tensor) -> Geometry | None:
    """The geometry of a layer as networks use it: batched, zeros beyond the border, no bias.

    None for any other use, which is torch's.
    """
    plain = conv.padding_mode == "zeros" and conv.bias is None and x.ndim == conv.weight.ndim
    if not plain or isinstance(conv.padding, str):
        return None
    return Geometry(conv.stride, conv.padding, conv.dilation, conv.groups)


class _FastConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        x = channels_last(x)
        ctx.geometry = geometry
        ctx.save_for_backward(x, weight)
        return CONV[x.ndim](x, weight, None, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_input, by_weight = ctx.needs_input_grad[:2]
        given = (channels_last(gradient), x, weight, ctx.geometry)
        return (
            _input_gradient(*given) if by_input else None,
            _weight_gradient(*given) if by_weight else None,
            None,
        )


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    sizes = zip(weight.shape[2:], geometry.padding, geometry.dilation, strict=True)
    padding = [d * (k - 1) - p for k, p, d in sizes]
    flips = geometry.groups == x.shape[1] and set(geometry.stride) == {1} and min(padding) >= 0
    if not flips:
        return native_gradient(gradient, x, weight, *geometry, by_weight=False)
    flipped = weight.flip(list(range(2, weight.ndim)))
    parts = [
        CONV[x.ndim](g, w, None, 1, padding, geometry.dilation, geometry.groups)
        for g, w in zip(_copies(gradient, x), _copies(flipped, x, axis=0), strict=True)
    ]
    return sum(parts[1:], start=parts[0])


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    if geometry.groups < x.shape[1]:
        return weight_gradient(gradient, x, weight, *geometry)
    parts = [
        weight_gradient(g, x, w, *geometry)
        for g, w in zip(_copies(gradient, x), _copies(weight, x, axis=0), strict=True)
    ]
    return torch.stack(parts, dim=1).flatten(0, 1)  # output channel c · multiplier + copy


def _copies(tensor: Tensor, x: Tensor, axis: int = 1) -> Iterator[Tensor]:
    """The outputs of every input channel of a depthwise convolution, one multiplier at a time."""
    multiplier = tensor.shape[axis] // x.shape[1]
    for copy in range(multiplier):
        chosen = [slice(None)] * axis + [slice(copy, None, multiplier)]
        yield tensor if multiplier == 1 else tensor[tuple(chosen)]
