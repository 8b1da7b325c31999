"""Parameters and multiply-accumulates of operators in closed form, in whole numbers.

A cost counts one sample. One multiply-accumulate (MAC) is a product and its addition to a sum;
biases are parameters that cost nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from medseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an operator holds and computes; costs of operators in a row add up.

    Args:
        parameters: Learned numbers.
        macs: Multiply-accumulates with learned numbers, as torch's counter counts them.
        interpolation: Multiply-accumulates that fetch values between voxels, which it leaves out.
    """

    parameters: int
    macs: int
    interpolation: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            parameters=self.parameters + other.parameters,
            macs=self.macs + other.macs,
            interpolation=self.interpolation + other.interpolation,
        )


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

    >>> conv((3, 3), (32, 32), 128, 64)
    Cost(parameters=73728, macs=75497472, interpolation=0)
    """
    require_groups(in_channels, out_channels, groups)
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
    """`Πk · C · M/g` weights; every input voxel paints with all of them, so MACs count `N_in`."""
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
        Cost(parameters=0, macs=0),
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


def interpolated_conv(
    kernel: Sequence[int],
    output: Sequence[int],
    in_channels: int,
    out_channels: int,
    *,
    linear: bool = True,
    bias: bool = False,
) -> Cost:
    """Interpolation to `output`, then a convolution there; linear fetches take `2^d` taps each."""
    taps = 2 ** len(output) if linear else 0
    fetched = Cost(parameters=0, macs=0, interpolation=math.prod(output) * in_channels * taps)
    return fetched + conv(kernel, output, in_channels, out_channels, bias=bias)


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
        Cost(parameters=0, macs=0, interpolation=fetches)
        + conv(kernel, output, in_channels, offsets, bias=bias)
        + conv(kernel, output, in_channels, out_channels, bias=bias)
    )


def dense(inputs: int, outputs: int, *, bias: bool = False) -> Cost:
    """`inputs · outputs` weights, each used once."""
    return conv((1,), (1,), inputs, outputs, bias=bias)


def compulsory_traffic(inputs: int, outputs: int, parameters: int, bytes_each: int = 4) -> int:
    """Bytes that must cross the memory bus: every number read or written once."""
    return bytes_each * (inputs + outputs + parameters)


def arithmetic_intensity(macs: int, traffic: int) -> Fraction:
    """Floating-point operations per byte, two to a MAC.

    Reference: Williams, Waterman & Patterson 2009, "Roofline".
    """
    return Fraction(2 * macs, traffic)


def require_groups(in_channels: int, out_channels: int, groups: int) -> None:
    """Makes sure that groups divide the channels.

    Raises:
        ConfigError: they do not.
    """
    if in_channels % groups or out_channels % groups:
        raise ConfigError(
            f"groups={groups} must divide in_channels={in_channels} and "
            f"out_channels={out_channels}; choose {math.gcd(in_channels, out_channels, groups)}"
        )
