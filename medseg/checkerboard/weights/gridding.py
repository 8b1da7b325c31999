"""Sub-grids that a stack of dilated convolutions leaves uneven or untouched."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.checkerboard.phases import phase_sums, require_energy, require_finite
from medseg.checkerboard.weights.imbalance import phase_imbalance


def composed_kernel(
    kernels: Sequence[Float[Tensor, " *taps"]], dilations: Sequence[Sequence[int]]
) -> Float[Tensor, " *reach"]:
    """`h₁ ∗ h₂ ∗ …` of dilated kernels of one channel: what one output sees of the input.

    A stack with stride 1 on every axis; of size `1 + Σ d(k − 1)` per axis.

    Args:
        kernels: Taps of each convolution.
        dilations: Dilation per axis of each.

    Raises:
        ValueError: no kernel, other numbers of axes, or a tap that is not finite.

    >>> composed_kernel([torch.ones(2), torch.ones(2)], [(1,), (2,)]).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    _require_stack(kernels, dilations)
    composed = torch.ones([1] * len(dilations[0]), dtype=torch.float64)
    for kernel, rates in zip(kernels, dilations, strict=True):
        composed = _convolved(composed, kernel.detach().cpu().double(), rates)
    return composed


def phase_masses(
    gradients: Float[Tensor, " *reach"], period: Sequence[int]
) -> Float[Tensor, " phases"]:
    """`p_φ = Σ_{n ≡ φ mod q} |g[n]| / Σ |g[n]|`: share of each sub-grid, in array order; sum 1.

    Args:
        gradients: A `composed_kernel`, or the gradient of one output by the input.
        period: `q` per axis, such as the greatest common divisor of the dilations.

    Raises:
        ValueError: another number of axes, only zeros, or a value that is not finite.

    >>> phase_masses(torch.tensor([1.0, 2.0, 1.0]), (2,)).tolist()
    [0.5, 0.5]
    """
    _require_map(gradients)
    if gradients.ndim != len(period) or min(period, default=0) < 1:
        raise ValueError(
            f"period={tuple(period)} must be one whole number for each of the {gradients.ndim} "
            "axes of the gradients; use 1 where an axis is left alone"
        )
    masses = phase_sums(gradients.detach().cpu().double().abs(), period)
    return masses / masses.sum()


def gridding_imbalance(gradients: Float[Tensor, " *reach"], period: Sequence[int]) -> float:
    """`A(p)` of `phase_masses`: how unevenly one output sees the sub-grids, in [0, 1 − 1/P].

    0 iff all weigh alike; `1 − q^{−d}` if dilations have the common factor q, since an output
    then sees one sub-grid alone. All-ones kernels of 3 with m odd dilations:
    `1 − (1 + 9^{−m})^{−d}` at q = 2. Independent of scale and of shifts of the map. Blind to
    holes that all sub-grids have alike: see `coverage`.

    Args:
        gradients: A `composed_kernel`, or the gradient of one output by the input.
        period: `q` per axis.

    Raises:
        ValueError: a period of 1 on all axes, another number of axes, only zeros, or a value
            that is not finite.

    Reference: Wang & Ji 2018, "Smoothed Dilated Convolutions for Improved Dense Prediction"
    (the sub-grids).

    >>> gridding_imbalance(composed_kernel([torch.ones(3)] * 2, [(2,), (2,)]), (2,))
    0.5
    """
    return phase_imbalance(phase_masses(gradients, period))


def coverage(gradients: Float[Tensor, " *reach"]) -> float:
    """`#{n : g[n] ≠ 0} / Π reach`: share of the voxels within its reach that an output sees.

    The reach is the smallest box around all of them. In (0, 1]; 1 for a stack without holes.
    Independent of scale and of shifts of the map.

    Args:
        gradients: A `composed_kernel`, or the gradient of one output by the input.

    Raises:
        ValueError: only zeros, or a value that is not finite.

    Reference: Wang et al. 2018, "Understanding Convolution for Semantic Segmentation"
    (kernel 3 at rate 2 sees 9 of 25 pixels).

    >>> coverage(composed_kernel([torch.ones(3, 3)], [(2, 2)]))
    0.36
    """
    _require_map(gradients)
    seen = gradients.detach().nonzero()
    reach = seen.max(dim=0).values - seen.min(dim=0).values + 1
    return round(len(seen) / int(reach.prod()), 12)


def _convolved(signal: Tensor, kernel: Tensor, dilation: Sequence[int]) -> Tensor:
    # added tap by tap: a transform would leave rounding where the holes are
    size = [n + d * (k - 1) for n, k, d in zip(signal.shape, kernel.shape, dilation, strict=True)]
    out = signal.new_zeros(size)
    for tap in kernel.nonzero().tolist():
        starts = zip(tap, dilation, signal.shape, strict=True)
        window = tuple(slice(t * d, t * d + n) for t, d, n in starts)
        out[window] += kernel[tuple(tap)] * signal
    return out


def _require_stack(kernels: Sequence[Tensor], dilations: Sequence[Sequence[int]]) -> None:
    axes = {kernel.ndim for kernel in kernels} | {len(rates) for rates in dilations}
    if len(kernels) != len(dilations) or len(axes) != 1 or 0 in axes:
        raise ValueError(
            f"{len(kernels)} kernels and {len(dilations)} dilations with {sorted(axes)} axes must "
            "be as many, with as many axes; give one dilation per kernel and axis"
        )
    if min(rate for rates in dilations for rate in rates) < 1:
        raise ValueError(f"dilations={list(dilations)} must be 1 or more; use 1 for dense taps")
    for kernel in kernels:
        require_finite(kernel, "taps")


def _require_map(gradients: Tensor) -> None:
    require_finite(gradients, "gradients")
    require_energy(gradients, "gradients")
