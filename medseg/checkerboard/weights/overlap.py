"""What kernel, stride and dilation print alone, whatever is learned."""

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.checkerboard.weights.imbalance import phase_imbalance


def overlap_counts(kernel: int, stride: int, dilation: int = 1) -> tuple[int, ...]:
    """`n_φ`: taps of a transposed convolution that reach each phase of its output.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts".

    >>> overlap_counts(3, 2), overlap_counts(4, 2), overlap_counts(1, 2)
    ((2, 1), (2, 2), (1, 0))
    """
    phases = [tap * dilation % stride for tap in range(kernel)]
    return tuple(phases.count(phase) for phase in range(stride))


def tap_counts(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None
) -> Float[Tensor, " phases"]:
    """`n_φ = Π_axes #{t < k : t·d ≡ φ mod s}`: taps that paint each phase, in array order.

    Args:
        kernel: Taps per axis.
        stride: Stride per axis.
        dilation: Distance of taps per axis; None: 1.

    Raises:
        ValueError: a number below 1, or another number of axes.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts".

    >>> tap_counts((3, 3), (2, 2)).tolist()
    [4.0, 2.0, 2.0, 1.0]
    """
    dilation = (1,) * len(kernel) if dilation is None else dilation
    if not len(kernel) == len(stride) == len(dilation) > 0:
        raise ValueError(
            f"kernel={tuple(kernel)}, stride={tuple(stride)} and dilation={tuple(dilation)} must "
            "have as many axes as each other; give one number per axis"
        )
    if min(*kernel, *stride, *dilation) < 1:
        raise ValueError(
            f"kernel={tuple(kernel)}, stride={tuple(stride)} and dilation={tuple(dilation)} must "
            "be 1 or more on every axis; use 1 where an axis is left alone"
        )
    along = [overlap_counts(*axis) for axis in zip(kernel, stride, dilation, strict=True)]
    return torch.tensor([math.prod(counts) for counts in product(*along)], dtype=torch.float64)


def overlap_imbalance(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None
) -> float:
    """`A(n) = 1 − Π_axes (1 − A(n_axis))` of the tap counts: 0 iff the overlap is even.

    With `k = qs + r` and d coprime to s, an axis has `A = (r(s − r)/s) / (r(q + 1)² + (s − r)q²)`.
    A random kernel expects this as its noise-gain imbalance; a learned one may still be uneven
    where the overlap is even.

    Raises:
        ValueError: stride 1 on all axes, a number below 1, or another number of axes.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts".

    >>> overlap_imbalance((3, 3), (2, 2)), overlap_imbalance((4,), (2,))
    (0.19, 0.0)
    """
    return phase_imbalance(tap_counts(kernel, stride, dilation))
