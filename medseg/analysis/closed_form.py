"""Sizes, reach and overlap of operators in closed form: whole numbers and exact fractions.

Sizes are voxels along one axis; `along_axes` applies a rule to every axis. What operators cost
is in `closed_form_costs`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from medseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What the reach of a layer depends on, along one axis."""

    kernel: int
    stride: int = 1
    dilation: int = 1


def along_axes(rule: Callable[..., int], *columns: Sequence[int]) -> tuple[int, ...]:
    """A rule of one axis on every axis.

    >>> along_axes(conv_output_size, (50, 100), (3, 5), (2, 1), (4, 2))
    (28, 100)
    """
    return tuple(rule(*column) for column in zip(*columns, strict=True))


def conv_output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """`⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1`.

    Raises:
        ConfigError: the kernel is wider than the padded input.

    Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic", relationship 15.

    >>> conv_output_size(7, 3), conv_output_size(7, 3, stride=2, padding=1)
    (5, 4)
    """
    return _reach_left(size, kernel, padding, dilation) // stride + 1


def transposed_output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    output_padding: int = 0,
) -> int:
    """`(n − 1)s − 2p + d(k − 1) + op + 1`.

    Raises:
        ConfigError: nothing is left, or the output padding is not below stride or dilation.

    Reference: Dumoulin & Visin 2016, relationship 14.

    >>> transposed_output_size(2, 3, stride=2), transposed_output_size(2, 3, 2, 1, 1, 1)
    (5, 4)
    """
    most = max(stride, dilation) - 1
    if not 0 <= output_padding <= most:
        raise ConfigError(
            f"output_padding={output_padding} must be below stride={stride} or "
            f"dilation={dilation}, since more would repeat a size; choose {most}"
        )
    out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if out < 1:
        raise ConfigError(
            f"padding={padding} trims all of the {out + 2 * padding} voxels that a size of {size} "
            f"paints; choose a padding below {(out + 2 * padding + 1) // 2}"
        )
    return out


def inverting_output_padding(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """`(n + 2p − d(k − 1) − 1) mod s`: with it the transposed convolution gives `n` back.

    >>> inverting_output_padding(4, 3, stride=2, padding=1)
    1
    """
    return _reach_left(size, kernel, padding, dilation) % stride


def conv_input_sizes(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> range:
    """All input sizes whose convolution has `size` voxels; at most `s` of them.

    >>> list(conv_input_sizes(2, 3, stride=2, padding=1))
    [3, 4]
    """
    smallest = (size - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return range(max(1, smallest), max(1, smallest + stride))


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
    return 1 + sum(_reaches(layers))


def jump(layers: Iterable[Layer]) -> int:
    """Input voxels between neighbouring outputs of a chain: the product of its strides."""
    return math.prod(layer.stride for layer in layers)


def effective_variance(layers: Iterable[Layer]) -> Fraction:
    """`Σ j² d² (k² − 1) / 12`: variance, in voxels², of the effective receptive field.

    Exact where all weights of a layer are equal.

    Reference: Luo et al. 2016, "Understanding the Effective Receptive Field", section 2.

    >>> effective_variance([Layer(kernel=3)] * 2)
    Fraction(4, 3)
    """
    layers = list(layers)
    return sum(
        (
            Fraction((jump(layers[:place]) * layer.dilation) ** 2 * (layer.kernel**2 - 1), 12)
            for place, layer in enumerate(layers)
        ),
        Fraction(0),
    )


def effective_sigma(layers: Iterable[Layer]) -> float:
    """Square root of `effective_variance`, in voxels."""
    return math.sqrt(effective_variance(layers))


def overlap_counts(kernel: int, stride: int, dilation: int = 1) -> tuple[int, ...]:
    """`n_φ`: taps of a transposed convolution that paint each phase of its output.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts".

    >>> overlap_counts(3, 2), overlap_counts(4, 2), overlap_counts(1, 2)
    ((2, 1), (2, 2), (1, 0))
    """
    phases = [tap * dilation % stride for tap in range(kernel)]
    return tuple(phases.count(phase) for phase in range(stride))


def structural_imbalance(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Fraction:
    """`Σ (n_φ − n̄)² / Σ n_φ²` over the phases of all axes: 0 iff the overlap is even.

    >>> structural_imbalance((3, 3), (2, 2), (1, 1)), structural_imbalance((4,), (2,), (1,))
    (Fraction(19, 100), Fraction(0, 1))
    """
    # counts are products over axes, so their mean squares are too
    evenness = Fraction(1)
    for taps, step, rate in zip(kernel, stride, dilation, strict=True):
        counts = overlap_counts(taps, step, rate)
        evenness *= Fraction(sum(counts) ** 2, step * sum(n * n for n in counts))
    return 1 - evenness


def _reaches(layers: Iterable[Layer]) -> Iterable[int]:
    spacing = 1
    for layer in layers:
        yield layer.dilation * (layer.kernel - 1) * spacing
        spacing *= layer.stride


def _reach_left(size: int, kernel: int, padding: int, dilation: int) -> int:
    """Voxels that the kernel can move by from its first place."""
    left = size + 2 * padding - dilation * (kernel - 1) - 1
    if left < 0:
        raise ConfigError(
            f"size={size} with padding={padding} is narrower than a kernel that spans "
            f"{dilation * (kernel - 1) + 1} voxels; choose size={size - left} or more"
        )
    return left
