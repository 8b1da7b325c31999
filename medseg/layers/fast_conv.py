"""Convolutions on a CPU put together from its library's fast operators.

The library, oneDNN, has fast kernels for every forward pass, for most weight gradients in 2-D and
for few in 3-D; elsewhere it falls back to slow reference loops. Torch asks it for a single small
image only in part. Here

- a single small volume goes to the library, too;
- the weight gradient in 3-D is that of planes: the gradient by one slice of the kernel is the
  gradient by a 2-D kernel, with the slices of the volume as its batch;
- the input gradient of a depthwise convolution is the forward pass of the outputs' gradient with
  the kernel flipped.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from medseg.layers.context import autocast_dtype, channels_last, runs_on_cpu, trains_on_cpu

CONV: dict[int, Callable[..., Tensor]] = {4: functional.conv2d, 5: functional.conv3d}
"""torch's convolution by number of axes of its input."""

Axes = tuple[int, ...]

_FAST_ROW = 3  # taps along the last axis up to which the library's depthwise gradient is fast
_SMALL = 20480  # torch's own bounds (use_mkldnn in ATen/native/Convolution.cpp)
_MANY = 16
_WIDE = 64  # channels from which a second volume takes longer than the columns; measured


class Geometry(NamedTuple):
    """How a convolution steps over the grid, and in how many groups of channels."""

    stride: Axes
    padding: Axes
    dilation: Axes
    groups: int

    def in_plane(self) -> "Geometry":
        """The geometry along all axes but the first."""
        return Geometry(self.stride[1:], self.padding[1:], self.dilation[1:], self.groups)


class _Depthwise(nn.Module):
    def _conv_forward(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = _geometry_of(self, x)
        if geometry is None:
            return super()._conv_forward(x, weight, bias)  # type: ignore[misc]
        return depthwise_conv(x, weight, *geometry[:3])


class DepthwiseConv2d(_Depthwise, nn.Conv2d):
    """`nn.Conv2d` with one group per input channel."""


class DepthwiseConv3d(_Depthwise, nn.Conv3d):
    """`nn.Conv3d` with one group per input channel."""


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` that computes single small volumes by the library, too.

    Torch unfolds such a volume into the columns of a matrix, which is several times as slow.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.takes_over(x):
            return self._by_torch(x, weight, bias)
        if torch.is_grad_enabled():  # of two volumes it asks the library for gradients as well
            pair = channels_last(x.expand(2, *x.shape[1:]))
            return self._by_torch(pair, weight, bias)[:1].clone()  # a view would hold both
        if is_in_torch_dispatch_mode():  # somebody counts operators, and knows torch's own alone
            return self._by_torch(x, weight, bias)
        assert not isinstance(self.padding, str)
        geometry = self.stride, self.dilation, self.groups
        return torch.mkldnn_convolution(x, weight, bias, self.padding, *geometry)

    def _by_torch(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight, bias)

    def takes_over(self, x: Tensor) -> bool:
        """Whether torch would compute this volume without the library."""
        return (
            runs_on_cpu(x)
            and not torch.compiler.is_compiling()
            and x.ndim == 5
            and len(x) == 1
            and autocast_dtype(x) == torch.float32
            and max(self.kernel_size[1:]) > 1
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and torch.backends.mkldnn.is_available()
            and (self.in_channels < _WIDE or not torch.is_grad_enabled())
            and is_unfolded(x, self.weight, self.stride, self.dilation, self.groups)
        )


class DilatedConv3d(Conv3d):
    """A convolution whose weight gradient is that of its planes: measured faster when dilated."""

    def _by_torch(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = _geometry_of(self, x)
        if geometry is None or not trains_on_cpu(x):
            return super()._by_torch(x, weight, bias)
        return fast_conv(x, weight, geometry)


class SharedSmoothing(nn.Module):
    """A learned depthwise convolution with the same kernel for every channel, first the identity.

    Reference: Wang & Ji 2018, "Smoothed Dilated Convolutions for Improved Dense Prediction",
    section 3.3 (separable and shared convolution).
    """

    def __init__(self, kernel_size: Sequence[int]):
        super().__init__()
        self.padding = tuple((k - 1) // 2 for k in kernel_size)
        self.padding_mode = "zeros"
        kernel = torch.zeros(1, 1, *kernel_size)
        kernel[(0, 0, *self.padding)] = 1.0
        self.weight = nn.Parameter(kernel)

    def forward(self, x: Tensor) -> Tensor:
        one = (1,) * len(self.padding)
        kernels = self.weight.expand(x.shape[1], *self.weight.shape[1:])
        if self.padding_mode == "zeros":
            return depthwise_conv(x, kernels, one, self.padding, one)
        sides = [side for pad in reversed(self.padding) for side in (pad, pad)]
        padded = functional.pad(x, sides, mode=self.padding_mode)
        return depthwise_conv(padded, kernels, one, (0,) * len(one), one)

    def extra_repr(self) -> str:
        return f"kernel_size={tuple(self.weight.shape[2:])}"


def is_unfolded(
    image: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """Whether torch does without the library (`use_mkldnn` in ATen/native/Convolution.cpp)."""
    if image.dtype != torch.float32 or groups > 1:
        return False
    plane = weight.shape[2:][-2:]
    is_product = max(plane) == max(stride) == max(dilation) == 1 and len(image) < _MANY
    if is_product and torch.get_num_threads() == 1:
        return True
    is_small = len(image) == 1 and math.prod(image.shape[:4]) <= _SMALL
    return is_small and min(plane) <= 3


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
    slow_in_2d = weight.shape[-1] > _FAST_ROW or any(d > 1 for d in dilation)
    if trains_on_cpu(x) and (x.ndim == 5 or slow_in_2d):  # as measured
        return fast_conv(x, weight, geometry)
    return CONV[x.ndim](x, weight, None, *geometry)


def fast_conv(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Torch's convolution without bias, with the gradients of this module, channels last."""
    dtype = autocast_dtype(x)
    return _FastConv.apply(x.to(dtype), weight.to(dtype), geometry)  # type: ignore[return-value]


def _geometry_of(conv: nn.Conv2d | nn.Conv3d, x: Tensor) -> Geometry | None:
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
    """`∂L/∂x` from `∂L/∂y`, `(N, out, *S')`; `x` is `(N, in, *S)`, both channels last."""
    sizes = zip(weight.shape[2:], geometry.padding, geometry.dilation, strict=True)
    padding = [d * (k - 1) - p for k, p, d in sizes]
    flips = geometry.groups == x.shape[1] and set(geometry.stride) == {1} and min(padding) >= 0
    if not flips:
        return _native_gradient(gradient, x, weight, geometry, by_weight=False)
    flipped = weight.flip(list(range(2, weight.ndim)))
    parts = [
        CONV[x.ndim](g, w, None, 1, padding, geometry.dilation, geometry.groups)
        for g, w in zip(_copies(gradient, x), _copies(flipped, x, axis=0), strict=True)
    ]
    return sum(parts[1:], start=parts[0])


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """`∂L/∂weight` from `∂L/∂y`; only the weight's shape `(out, in / groups, *kernel)` counts."""
    by_weight = _of_plane if x.ndim == 4 else _of_volume
    if geometry.groups < x.shape[1]:
        return by_weight(gradient, x, weight, geometry)
    parts = [
        by_weight(g, x, w, geometry)
        for g, w in zip(_copies(gradient, x), _copies(weight, x, axis=0), strict=True)
    ]
    return torch.stack(parts, dim=1).flatten(0, 1)  # output channel c · multiplier + copy


def _copies(tensor: Tensor, x: Tensor, axis: int = 1) -> Iterator[Tensor]:
    """The outputs of every input channel of a depthwise convolution, one multiplier at a time."""
    multiplier = tensor.shape[axis] // x.shape[1]
    for copy in range(multiplier):
        chosen = [slice(None)] * axis + [slice(copy, None, multiplier)]
        yield tensor if multiplier == 1 else tensor[tuple(chosen)]


def _of_volume(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The weight gradient in 3-D, slice by slice of the kernel."""
    stride, padding, dilation = geometry.stride[0], geometry.padding[0], geometry.dilation[0]
    taps = []
    for tap in range(weight.shape[2]):
        offset = tap * dilation - padding
        # outputs first ≤ o < last for which the tap lies inside the grid
        first = max(0, -(offset // stride))
        last = min(gradient.shape[2], (x.shape[2] - 1 - offset) // stride + 1)
        total = torch.zeros_like(weight[:, :, tap])
        if first < last:
            start = first * stride + offset
            slices = slice(start, start + (last - first - 1) * stride + 1, stride)
            for case in range(len(x)):  # a case's slices are a view, those of a batch a copy
                total = total + _of_plane(
                    gradient[case, :, first:last].transpose(0, 1),
                    x[case, :, slices].transpose(0, 1),
                    weight[:, :, tap],
                    geometry.in_plane(),
                )
        taps.append(total)
    return torch.stack(taps, dim=2)


def _of_plane(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The weight gradient in 2-D; depthwise, long rows of taps go in pieces that are fast."""
    row = weight.shape[3]
    if row <= _FAST_ROW or geometry.groups < x.shape[1]:
        return _native_gradient(gradient, x, weight, geometry, by_weight=True)
    beside, dilation, stride = geometry.padding[1], geometry.dilation[1], geometry.stride[1]
    padded = functional.pad(x, (beside, beside))
    width = (gradient.shape[3] - 1) * stride + 1
    geometry = geometry._replace(padding=(geometry.padding[0], 0))
    pieces = []
    for first in range(0, row, _FAST_ROW):
        piece = weight[..., first : first + _FAST_ROW]
        extent = width + dilation * (piece.shape[3] - 1)
        under = padded.narrow(3, first * dilation, extent)
        pieces.append(_native_gradient(gradient, under, piece, geometry, by_weight=True))
    return torch.cat(pieces, dim=3)


def _native_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, *, by_weight: bool
) -> Tensor:
    """Torch's own gradient by the weight, or by the input."""
    stride, padding, dilation, groups = geometry
    wanted = [not by_weight, by_weight, False]
    none = [0] * len(stride)
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, none, groups, wanted
    )[int(by_weight)]
