"""Receptive fields and costs of operators in closed form, in exact numbers.

Sizes are voxels along one axis; `along_axes` applies a rule to every axis. A cost counts one
sample; of its `other` operations it holds those that fetch values between voxels.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from medseg.analysis.cost import Cost
from medseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What the receptive field of a layer depends on, along one axis."""

    kernel: int
    stride: int = 1
    dilation: int = 1


def along_axes(rule: Callable[..., int], *columns: Sequence[int]) -> tuple[int, ...]:
    """A rule of one axis on every axis.

    >>> along_axes(max, (50, 100), (3, 500))
    (50, 500)
    """
    return tuple(rule(*column) for column in zip(*columns, strict=True))


def same_padding(kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Voxels in front and behind that keep the size at stride 1: `d(k − 1)` in all.

    >>> same_padding(3), same_padding(4), same_padding(3, dilation=2)
    ((1, 1), (1, 2), (2, 2))
    """
    total = dilation * (kernel - 1)
    return total // 2, total - total // 2


def receptive_field(layers: Iterable[Layer]) -> int:
    """Input voxels that one output voxel of a chain depends on: `r ← r + d(k − 1)j, j ← js`.

    Reference: Araujo, Norris & Sim 2019, Distill, "Computing Receptive Fields of Convolutional
    Neural Networks", equation 2.

    >>> receptive_field([Layer(kernel=3), Layer(kernel=3)])
    5
    """
    return 1 + sum(_extents(layers))


def jump(layers: Iterable[Layer]) -> int:
    """Input voxels between neighbouring outputs of a chain: the product of its strides."""
    return math.prod(layer.stride for layer in layers)


def conv(
    kernel: Sequence[int],
    output: Sequence[int],
    in_channels: int,
    out_channels: int,
    groups: int = 1,
    *,
    bias: bool = False,
) -> Cost:
    """`Πk · C/g · M` weights, `N_out` times as many MACs, whatever the stride and dilation.

    Raises:
        ConfigError: the groups do not divide the channels.

    >>> cost = conv((3, 3), (32, 32), 128, 64)
    >>> cost.parameters, cost.macs
    (73728, 75497472)
    """
    if in_channels % groups or out_channels % groups:
        raise ConfigError(f"groups={groups} must divide {in_channels} and {out_channels} channels")
    weights = math.prod(kernel) * in_channels // groups * out_channels
    return Cost(parameters=weights + bias * out_channels, macs=math.prod(output) * weights)


def transposed(
    kernel: Sequence[int],
    input_size: Sequence[int],
    in_channels: int,
    out_channels: int,
    groups: int = 1,
    *,
    bias: bool = False,
) -> Cost:
    """`Πk · C · M/g` weights; each is used at every input voxel, so MACs count `N_in`."""
    return conv(kernel, input_size, in_channels, out_channels, groups, bias=bias)


def pointwise(
    output: Sequence[int], in_channels: int, out_channels: int, *, bias: bool = False
) -> Cost:
    """`C · M` weights: a convolution of one tap."""
    return conv((1,), output, in_channels, out_channels, bias=bias)


def depthwise(
    kernel: Sequence[int],
    output: Sequence[int],
    channels: int,
    multiplier: int = 1,
    *,
    bias: bool = False,
) -> Cost:
    """`Πk · C · m` weights: one group per channel, `m` kernels each."""
    return conv(kernel, output, channels, channels * multiplier, channels, bias=bias)


def depthwise_separable(
    kernel: Sequence[int],
    output: Sequence[int],
    in_channels: int,
    out_channels: int,
    multiplier: int = 1,
    *,
    bias: bool = False,
) -> Cost:
    """`C · m · (Πk + M)` weights: depthwise, then pointwise.

    Reference: Howard et al. 2017, "MobileNets", section 3.1.
    """
    spatial = depthwise(kernel, output, in_channels, multiplier, bias=bias)
    return spatial + pointwise(output, in_channels * multiplier, out_channels, bias=bias)


def separable_ratio(kernel: Sequence[int], out_channels: int) -> Fraction:
    """`1/Πk + 1/M`: MACs of the depthwise-separable over those of the ordinary convolution.

    >>> separable_ratio((3, 3), 32)
    Fraction(41, 288)
    """
    return Fraction(1, math.prod(kernel)) + Fraction(1, out_channels)


def spatially_separable(
    kernel: Sequence[int], output: Sequence[int], channels: Sequence[int], *, bias: bool = False
) -> Cost:
    """`Σᵢ kᵢ · Cᵢ · Cᵢ₊₁` weights: one axis after the other, at stride 1.

    Args:
        kernel: Taps per axis.
        output: Voxels per axis, kept by every factor.
        channels: Before the first factor, between the factors and after the last.
        bias: Whether every factor has one number per output channel.

    >>> spatially_separable((3, 3), (1,), (1, 1, 1)).macs
    6
    """
    factors = zip(kernel, channels, channels[1:], strict=False)
    return sum(
        (conv((k,), output, before, after, bias=bias) for k, before, after in factors),
        Cost(),
    )


def pixel_shuffle(
    kernel: Sequence[int],
    input_size: Sequence[int],
    in_channels: int,
    out_channels: int,
    scale: Sequence[int],
    *,
    bias: bool = False,
) -> Cost:
    """`Πk · C · M · Πs` weights: a convolution to `M · Πs` channels on the coarse grid."""
    return conv(kernel, input_size, in_channels, out_channels * math.prod(scale), bias=bias)


def offset_channels(kernel: Sequence[int], offset_groups: int = 1, *, modulated: bool) -> int:
    """`(d [+ 1]) · Πk · G`: a displacement, in version 2 a weight too, of every tap.

    >>> offset_channels((3, 3), modulated=False), offset_channels((3, 3), modulated=True)
    (18, 27)
    """
    return (len(kernel) + modulated) * math.prod(kernel) * offset_groups


def deformable(
    kernel: Sequence[int],
    output: Sequence[int],
    in_channels: int,
    out_channels: int,
    offset_groups: int = 1,
    *,
    modulated: bool = False,
    bias: bool = False,
) -> Cost:
    """A convolution, one of the same kernel for the offsets, and `2^d` taps per fetched value.

    Reference: Dai et al. 2017, "Deformable Convolutional Networks"; Zhu et al. 2019 (`modulated`).
    """
    offsets = offset_channels(kernel, offset_groups, modulated=modulated)
    fetches = math.prod(output) * math.prod(kernel) * in_channels * 2 ** len(kernel)
    return (
        Cost(other=fetches)
        + conv(kernel, output, in_channels, offsets, bias=bias)
        + conv(kernel, output, in_channels, out_channels, bias=bias)
    )


def dense(inputs: int, outputs: int, *, bias: bool = False) -> Cost:
    """`inputs · outputs` weights, each used once."""
    return conv((1,), (1,), inputs, outputs, bias=bias)


def _extents(layers: Iterable[Layer]) -> Iterable[int]:
    spacing = 1
    for layer in layers:
        yield layer.dilation * (layer.kernel - 1) * spacing
        spacing *= layer.stride
