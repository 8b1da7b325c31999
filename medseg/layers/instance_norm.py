"""Instance normalisation that reads and writes channels-last tensors in place.

torch's own copies a channels-last tensor to the other layout and back, in both directions
(pytorch#59168). Group normalisation with one channel per group is the same function. Its forward
pass is fast in either layout, its backward pass in the contiguous one; the backward pass for
channels last is written out here.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medseg.layers.context import CHANNELS_LAST, channels_last, runs_on_cpu

_ROW = 64  # numbers in a row from which a processor's vector units are busy


class InstanceNorm2d(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` with a learned scale and bias, fast on a CPU in either layout."""

    def forward(self, x: Tensor) -> Tensor:
        return _fast(self, x) if _is_usual(self, x) else super().forward(x)


class InstanceNorm3d(nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` with a learned scale and bias, fast on a CPU in either layout."""

    def forward(self, x: Tensor) -> Tensor:
        return _fast(self, x) if _is_usual(self, x) else super().forward(x)


def _is_usual(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, x: Tensor) -> bool:
    """Whether the layer is what a network uses: on a CPU, batched, affine, without memory."""
    fits = x.ndim == (4 if isinstance(norm, nn.InstanceNorm2d) else 5)
    plain = norm.affine and not norm.track_running_stats
    return (
        fits
        and plain
        and runs_on_cpu(x)
        and x.shape[1] == norm.num_features
        and x[0, 0].numel() > 1
    )


def _fast(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, x: Tensor) -> Tensor:
    scale, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
    if x.is_contiguous() and x.stride(1) != 1:  # one channel is in both layouts; the stride decides
        return functional.group_norm(x, norm.num_features, scale, bias, norm.eps)
    return _LastInstanceNorm.apply(x, scale, bias, norm.eps)  # type: ignore[return-value]


class _LastInstanceNorm(torch.autograd.Function):
    """`y = w·x̂ + b` with `x̂ = (x − μ)/σ`, and its gradients, for channels last.

    By the input it is `w/σ · (g − mean(g) − x̂·mean(g·x̂))`: one number per case and channel
    times `g`, another times `x`, a third added.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
        x = channels_last(x)
        norm = _native_norm if x.dtype in (torch.bfloat16, torch.float16) else _two_pass_norm
        y, mean, inverse_std = norm(x, scale, bias, eps)
        ctx.save_for_backward(x, scale, mean, inverse_std)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, inverse_std = ctx.saved_tensors
        values, gradients = _rows(x), _rows(channels_last(gradient))
        voxels = x.shape[2:].numel()

        total = _channel_sums(gradients, mean.shape)
        by_scale = (_channel_sums(gradients * values, mean.shape) - mean * total) * inverse_std
        of_gradient = scale.double() * inverse_std
        of_value = -by_scale * of_gradient * inverse_std / voxels
        constant = -of_value * mean - of_gradient * total / voxels

        by_input = torch.addcmul(_along(values, constant), values, _along(values, of_value))
        by_input.addcmul_(gradients, _along(values, of_gradient))
        by_parameters = (by_scale.sum(0).to(scale.dtype), total.sum(0).to(scale.dtype))
        return _grid(by_input, x), *by_parameters, None


def _native_norm(
    x: Tensor, scale: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Torch's group norm: its variance is `E[x²] − μ²`, finer than the steps of half precision."""
    (cases, channels), voxels = x.shape[:2], x.shape[2:].numel()
    y, mean, inverse_std = torch.native_group_norm(
        x, scale, bias, cases, channels, voxels, channels, eps
    )
    return y, mean.double(), inverse_std.double()


def _two_pass_norm(
    x: Tensor, scale: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the variance `E[(x − μ)²]`, which no offset of the input spoils."""
    values, shape, voxels = _rows(x), x.shape[:2], x.shape[2:].numel()
    mean = _channel_sums(values, shape) / voxels
    squares = (values - _along(values, mean)).square_()
    inverse_std = (_channel_sums(squares, shape) / voxels + eps).rsqrt()
    gain = scale.double() * inverse_std
    offset = bias.double() - mean * gain
    # not a view: the activation that follows works in place
    y = torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim])
    torch.addcmul(_along(values, offset), values, _along(values, gain), out=_rows(y))
    return y, mean, inverse_std


def _rows(x: Tensor) -> Tensor:
    """A channels-last tensor as `(N, rows, voxels per row · channels)`, each row long enough."""
    cases, channels = x.shape[:2]
    voxels = x.shape[2:].numel()
    per_row = math.gcd(voxels, max(1, _ROW // channels))
    return x.movedim(1, -1).reshape(cases, voxels // per_row, per_row * channels)


def _grid(rows: Tensor, x: Tensor) -> Tensor:
    """Rows as a channels-last tensor of the shape of `x`."""
    return rows.view(len(x), *x.shape[2:], x.shape[1]).movedim(-1, 1)


def _along(rows: Tensor, numbers: Tensor) -> Tensor:
    """One number per case and channel, `(N, channels)`, repeated along a row."""
    return numbers.to(rows.dtype).repeat(1, rows.shape[2] // numbers.shape[1])[:, None]


def _channel_sums(rows: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the voxels of every case and channel; a matrix product adds them fastest."""
    ones = rows.new_ones((1, 1, rows.shape[1])).expand(len(rows), -1, -1)
    return (ones @ rows).double().view(shape[0], -1, shape[1]).sum(1)
