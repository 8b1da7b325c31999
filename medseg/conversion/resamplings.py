"""Resamplings that are others in disguise.

A transposed kernel is `(in, out, *taps)`, as torch keeps it; a convolution's is `(out, in, *taps)`.
"Convolution and shuffle" is a convolution to `out · Π scale` channels that keeps the coarse grid,
odd and with zeros beyond the border, then `layers.resampling.depth_to_space`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medseg.conversion.axes import Axes, of_axes, taps_of


def transposed_as_nails(
    weight: Tensor, stride: Axes, padding: Axes = 0, output_padding: Axes = 0
) -> tuple[Tensor, list[tuple[int, int]]]:
    """A transposed convolution is a bed of nails, padded, then a convolution with stride 1.

    The kernel is flipped and its channels are swapped; the bias stays.

    Args:
        weight: `(in, out, *taps)`.
        stride: Distance of the nails per axis in voxels.
        padding: Of the transposed convolution.
        output_padding: Of the transposed convolution.

    Returns:
        The kernel `(out, in, *taps)` of a convolution without padding, and the zeros before and
        after each axis of `layers.resampling.Nails`; a negative number crops.

    Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning"
    (arXiv:1603.07285), section 4.6.
    """
    dims = weight.ndim - 2
    options = (of_axes(option, dims) for option in (stride, padding, output_padding))
    sides = [
        (k - 1 - p, k - s - p + extra)
        for k, s, p, extra in zip(taps_of(weight), *options, strict=True)
    ]
    return weight.flip(list(range(2, weight.ndim))).transpose(0, 1), sides


def transposed_as_shuffle(
    weight: Tensor,
    bias: Tensor | None,
    stride: Axes,
    padding: Axes = 0,
    output_padding: Axes = 0,
) -> tuple[Tensor, Tensor | None]:
    """A transposed convolution is a convolution per phase of its stride, interlaced.

    Voxel `s·m + q` sees `x[m + d]` through tap `t = q + padding - s·d`. With kernel = stride that
    is a 1×1. It holds at the border: both see zeros beyond it.

    Args:
        weight: `(in, out, *taps)`.
        bias: `(out,)`.
        stride: Step per axis in voxels.
        padding: Of the transposed convolution.
        output_padding: Of the transposed convolution.

    Returns:
        Kernel `(out · Π stride, in, *odd taps)` and bias `(out · Π stride,)` of a convolution and
        shuffle; the smallest odd kernel that has room for every tap.

    Raises:
        ValueError: the output is not stride times the input.

    Reference: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"
    (arXiv:1609.07009).
    """
    dims = weight.ndim - 2
    steps, before, extra = (of_axes(o, dims) for o in (stride, padding, output_padding))
    padded = functional.pad(weight, [0, 1] * dims)  # one zero per axis: what no tap reaches
    for axis, (k, s, p, e) in enumerate(zip(taps_of(weight), steps, before, extra, strict=True)):
        if k + e - 2 * p != s:
            raise ValueError(
                f"kernel {k}, padding {p} and output padding {e} do not make the grid stride={s} "
                f"times as large; choose them so that kernel + output padding - 2·padding = {s}"
            )
        padded = _taps_by_phase(padded, 2 + 2 * axis, k, s, p)
    phases = [2 + 2 * axis for axis in range(dims)]
    taps = [3 + 2 * axis for axis in range(dims)]
    kernel = padded.permute(1, *phases, 0, *taps).flatten(0, dims)
    return kernel, _per_phase(bias, math.prod(steps))


def shuffle_as_transposed(
    weight: Tensor, bias: Tensor | None, scale: Axes
) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """A convolution and shuffle is a transposed convolution with `scale · taps` taps.

    Args:
        weight: `(out · Π scale, in, *odd taps)`.
        bias: `(out · Π scale,)`.
        scale: Factor per axis.

    Returns:
        Kernel `(in, out, *(scale · taps))`, bias `(out,)` and padding of a transposed convolution
        with stride `scale`.

    Raises:
        ValueError: the phases of a channel have different biases, which one number cannot be.

    Reference: Shi et al. 2016 (arXiv:1609.07009).
    """
    dims = weight.ndim - 2
    steps = of_axes(scale, dims)
    split = weight.flip(list(range(2, weight.ndim))).unflatten(0, (-1, *steps))
    pairs = [axis for d in range(dims) for axis in (2 + dims + d, 1 + d)]
    woven = split.permute(1 + dims, 0, *pairs)
    taps = [k * s for k, s in zip(taps_of(weight), steps, strict=True)]
    kernel = woven.reshape(*woven.shape[:2], *taps)
    padding = tuple(s * (k // 2) for k, s in zip(taps_of(weight), steps, strict=True))
    return kernel, _of_all_phases(bias, math.prod(steps)), padding


def nails_as_shuffle(
    weight: Tensor, bias: Tensor | None, scale: Axes
) -> tuple[Tensor, Tensor | None]:
    """A convolution, then a bed of nails, is a convolution and shuffle: phase 0, zeros elsewhere.

    Args:
        weight: `(out, in, *odd taps)`.
        bias: `(out,)`.
        scale: Factor per axis.

    Returns:
        Kernel `(out · Π scale, in, *odd taps)` and bias of a convolution and shuffle.

    Reference: Dumoulin & Visin 2016 (arXiv:1603.07285), section 4.6.
    """
    first = torch.zeros(math.prod(of_axes(scale, weight.ndim - 2)), dtype=weight.dtype)
    first[0] = 1
    return _by_phase(weight, first), None if bias is None else _by_phase(bias, first)


def nearest_as_shuffle(
    weight: Tensor, bias: Tensor | None, scale: Axes
) -> tuple[Tensor, Tensor | None]:
    """A convolution, then nearest-neighbour interpolation: a convolution and shuffle, phases alike.

    Args:
        weight: `(out, in, *odd taps)`.
        bias: `(out,)`.
        scale: Factor per axis.

    Returns:
        Kernel `(out · Π scale, in, *odd taps)` and bias of a convolution and shuffle.

    Reference: Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution"
    (arXiv:1707.02937).
    """
    every = torch.ones(math.prod(of_axes(scale, weight.ndim - 2)), dtype=weight.dtype)
    return _by_phase(weight, every), None if bias is None else _by_phase(bias, every)


def nearest_as_transposed(channels: int, scale: Sequence[int]) -> Tensor:
    """Nearest-neighbour interpolation is a depthwise transposed convolution of ones.

    Returns:
        Kernel `(channels, 1, *scale)` for stride `scale` and `channels` groups, float64.

    Reference: Odena, Dumoulin & Olah 2016, "Deconvolution and Checkerboard Artifacts".
    """
    return torch.ones(channels, 1, *scale, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class FixedTransposed:
    """A depthwise transposed convolution on a padded grid, of which a part is kept.

    Args:
        weight: `(channels, 1, *taps)`; the stride is the scale, the groups are the channels.
        border: Voxels by which each border of the input is repeated outwards.
        crop: Voxels left out before each axis of the result; as many are kept as the input's
            times the scale.
    """

    weight: Tensor
    border: int
    crop: tuple[int, ...]


def linear_as_transposed(channels: int, scale: Sequence[int]) -> FixedTransposed:
    """Linear interpolation between voxel centres is a fixed depthwise transposed convolution.

    The border is repeated by one voxel first: with zeros instead the two differ there. Its kernel
    is the outer product of triangles `1 - |t - centre| / scale`.

    Args:
        channels: Channels.
        scale: Whole factor per axis.

    Returns:
        What equals `interpolate(mode="linear", align_corners=False)`, float64.

    Reference: Long, Shelhamer & Darrell 2015, "Fully Convolutional Networks" (arXiv:1411.4038),
    section 3.3.
    """
    kernel = torch.ones((), dtype=torch.float64)
    for step in scale:
        taps = torch.arange(2 * step - step % 2, dtype=torch.float64)
        kernel = torch.tensordot(kernel, 1 - (taps - taps.mean()).abs() / step, dims=0)
    return FixedTransposed(
        weight=kernel.expand(channels, 1, *kernel.shape).clone(),
        border=1,
        crop=tuple(step + step // 2 for step in scale),
    )


def _taps_by_phase(padded: Tensor, axis: int, taps: int, step: int, padding: int) -> Tensor:
    """An axis of taps, and a zero after them, becomes two: the phase, and the voxel it sees."""
    nearest = -((taps - 1 - padding) // step)
    farthest = (step - 1 + padding) // step
    reach = max(-nearest, farthest, 0)
    phase = torch.arange(step)[:, None]
    tap = phase + padding - step * torch.arange(-reach, reach + 1)
    tap = torch.where((tap >= 0) & (tap < taps), tap, taps)
    chosen = padded.index_select(axis, tap.flatten().to(padded.device))
    return chosen.unflatten(axis, (step, 2 * reach + 1))


def _by_phase(tensor: Tensor, factors: Tensor) -> Tensor:
    """Every output channel once per phase, times the phase's factor."""
    spread = factors.to(tensor.device).reshape(1, -1, *[1] * (tensor.ndim - 1))
    return (tensor.unsqueeze(1) * spread).flatten(0, 1)


def _per_phase(bias: Tensor | None, phases: int) -> Tensor | None:
    return None if bias is None else bias.repeat_interleave(phases)


def _of_all_phases(bias: Tensor | None, phases: int) -> Tensor | None:
    if bias is None:
        return None
    split = bias.unflatten(0, (-1, phases))
    spread = float((split.amax(1) - split.amin(1)).max())
    if spread > 0:
        raise ValueError(
            f"the biases of a channel's {phases} phases differ by up to {spread:.3g}, and a "
            "transposed convolution has one per channel; keep the pixel shuffle"
        )
    return split[:, 0].clone()
