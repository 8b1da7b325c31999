"""Weight gradients of 3-D convolutions from those of 2-D ones.

The gradient by one slice of a 3-D kernel is the gradient by a 2-D kernel, with the slices of the
volume as its batch. torch's CPU library has fast kernels for more 2-D gradients than 3-D ones.
"""

import torch
from torch import Tensor
from torch.nn import functional

FAST_ROW = 3  # taps along the last axis up to which the library's depthwise gradient is fast

Axes = tuple[int, ...]


def weight_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Axes,
    padding: Axes,
    dilation: Axes,
    groups: int,
) -> Tensor:
    """`∂L/∂weight` of a 2-D or 3-D convolution.

    Args:
        gradient: `∂L/∂y`, `(N, out, *S')`, channels last.
        x: `(N, in, *S)`, channels last.
        weight: `(out, in / groups, *kernel)`; only its shape counts.
        stride: Step per axis.
        padding: Zeros at each border per axis.
        dilation: Distance of taps per axis.
        groups: Bundles of channels; a depthwise one has as many as channels, in and out.
    """
    if x.ndim == 4:
        return _of_plane(gradient, x, weight, stride, padding, dilation, groups)
    taps = []
    for tap in range(weight.shape[2]):
        first, last = _seen(tap, x.shape[2], gradient.shape[2], stride[0], padding[0], dilation[0])
        total = torch.zeros_like(weight[:, :, tap])
        if first < last:
            start = first * stride[0] - padding[0] + tap * dilation[0]
            slices = slice(start, start + (last - first - 1) * stride[0] + 1, stride[0])
            for case in range(len(x)):  # a case's slices are a view, those of a batch a copy
                total = total + _of_plane(
                    gradient[case, :, first:last].transpose(0, 1),
                    x[case, :, slices].transpose(0, 1),
                    weight[:, :, tap],
                    stride[1:],
                    padding[1:],
                    dilation[1:],
                    groups,
                )
        taps.append(total)
    return torch.stack(taps, dim=2)


def native_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Axes,
    padding: Axes,
    dilation: Axes,
    groups: int,
    *,
    by_weight: bool,
) -> Tensor:
    """Torch's own gradient by the weight, or by the input."""
    wanted = [not by_weight, by_weight, False]
    none = [0] * len(stride)
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, dilation, False, none, groups, wanted
    )[int(by_weight)]


def _of_plane(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Axes,
    padding: Axes,
    dilation: Axes,
    groups: int,
) -> Tensor:
    """The weight gradient in 2-D; depthwise, long rows of taps go in pieces that are fast."""
    row, geometry = weight.shape[3], (stride, padding, dilation, groups)
    if row <= FAST_ROW or groups < x.shape[1]:
        return native_gradient(gradient, x, weight, *geometry, by_weight=True)
    padded = functional.pad(x, (padding[1], padding[1]))
    width = (gradient.shape[3] - 1) * stride[1] + 1
    geometry = (stride, (padding[0], 0), dilation, groups)
    pieces = []
    for first in range(0, row, FAST_ROW):
        piece = weight[..., first : first + FAST_ROW]
        reach = dilation[1] * (piece.shape[3] - 1)
        seen = padded.narrow(3, first * dilation[1], width + reach)
        pieces.append(native_gradient(gradient, seen, piece, *geometry, by_weight=True))
    return torch.cat(pieces, dim=3)


def _seen(
    tap: int, size: int, out_size: int, stride: int, padding: int, dilation: int
) -> tuple[int, int]:
    """Outputs `first ≤ o < last` for which the tap lies inside the grid."""
    first = max(0, -((tap * dilation - padding) // stride))
    last = (size - 1 + padding - tap * dilation) // stride + 1
    return first, min(out_size, last)
