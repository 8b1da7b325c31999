"""Replicas of the spectrum that an upsampling passes, and polynomials that it reproduces."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from medseg.checkerboard.phases import require_kernel


def imaging_leakage(kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]) -> float:
    """`1 − ∫ ‖H(ω/s)‖² dω / ∫ Σ_k ‖H((ω + 2πk)/s)‖² dω`: energy in replicas of white noise.

    The integrals run over the band `[−π, π]^d` of the input, so that the first has the closed
    form `Σ_l r[l] Π sinc(l/s)` with the autocorrelation r of the taps. In [0, 1]; 0 only for the
    ideal low-pass, which has no finite kernel. Independent of scale, bias, the order of phases
    and rotations of inputs and outputs. Nearest neighbours at stride 2: `(1 − 2/π)/2` in 1-D.

    Args:
        kernel: Taps on the output grid, such as of `UpsamplingLayer.kernel`.
        stride: Stride per axis.

    Raises:
        ValueError: stride 1 on all axes, another number of axes, only zeros, or a tap that is
            not finite.

    Reference: Pons et al. 2021, "Upsampling Artifacts in Neural Audio Synthesis" (spectral
    replicas); Vaidyanathan 1993, "Multirate Systems and Filter Banks".

    >>> imaging_leakage(torch.ones(1, 1, 1), (2,))  # a bed of nails
    0.5
    """
    require_kernel(kernel, stride)
    correlation, lags = _autocorrelation(kernel)
    passed = correlation
    for axis_lags, step in zip(reversed(lags), reversed(tuple(stride)), strict=True):
        passed = passed @ torch.sinc(axis_lags / step)
    whole = math.prod(stride) * correlation[tuple(len(at) // 2 for at in lags)]
    return round(float(1 - passed / whole), 12)


def _autocorrelation(kernel: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`r[l] = Σ_n ⟨h[n], h[n + l]⟩`, relative to the largest tap, and its lags along each axis."""
    taps = kernel.shape[2:]
    size = [2 * n - 1 for n in taps]
    kernel = kernel.detach().cpu().double()
    pairs = (kernel / kernel.abs().max()).flatten(2).flatten(0, 1)
    place = torch.zeros(1, dtype=torch.long)
    for n, width in zip(taps, size, strict=True):
        place = (place[:, None] * width + torch.arange(n)).flatten()
    # places differ as taps do, up to the place of lag 0 in the middle
    lag = place - place[:, None] + math.prod(size) // 2
    products = pairs.T @ pairs
    correlation = products.new_zeros(math.prod(size))
    correlation.index_add_(0, lag.flatten(), products.flatten())
    lags = [torch.arange(1 - n, n, dtype=torch.float64) for n in taps]
    return correlation.reshape(size), lags


def sum_rule_order(
    kernel: Float[Tensor, "inputs outputs *taps"],
    stride: Sequence[int],
    tolerance: float = 1e-6,
) -> int:
    """Largest L with `Σ_{n ≡ φ mod s} n^α h[n]` equal over all phases for all `|α| < L`.

    That is the multiplicity of the zero of H at every grid frequency `2πk/s`, k ≠ 0, and
    polynomials of degree below L come out without a pattern. 0: a constant becomes a
    checkerboard; 1: a ramp becomes a staircase. Independent of scale, bias, shifts, the order of
    phases and invertible mixing of channels. Nearest neighbours 1, `[½, 1, ½]` 2, linear
    interpolation between voxel centres at stride 2 has 3.

    Args:
        kernel: Taps on the output grid, such as of `UpsamplingLayer.kernel`.
        stride: Stride per axis.
        tolerance: Difference of phases that passes for rounding, relative to the sum of the
            magnitudes; the default suits weights in single precision.

    Raises:
        ValueError: stride 1 on all axes, another number of axes, only zeros, or a tap that is
            not finite.

    Reference: Strang & Nguyen 1996, "Wavelets and Filter Banks" (sum rules).

    >>> kernels = [[1.0], [1.0, 1.0], [0.5, 1.0, 0.5], [0.25, 0.75, 0.75, 0.25]]
    >>> [sum_rule_order(torch.tensor([[taps]]), (2,)) for taps in kernels]
    [0, 1, 2, 3]
    """
    require_kernel(kernel, stride)
    kernel = kernel.detach().cpu().double()
    pairs = (kernel / kernel.abs().max()).flatten(2).flatten(0, 1)  # (pairs of channels, taps)
    # H is a polynomial, whose zeros have no multiplicity above its degree
    degrees = range(sum(kernel.shape[2:]))
    phases = _phases(kernel.shape[2:], stride)
    flat = (_is_flat(pairs, phases, _monomials(kernel.shape[2:], n), tolerance) for n in degrees)
    return next((degree for degree, is_flat in enumerate(flat) if not is_flat), len(degrees))


def _is_flat(pairs: Tensor, phases: Tensor, monomials: Iterator[Tensor], tolerance: float) -> bool:
    """Whether all moments of that degree agree over the phases."""
    for monomial in monomials:
        weighting = phases * monomial.flatten()
        moments = pairs @ weighting.T
        size = (pairs.abs() @ weighting.abs().T).max()
        if (moments - moments.mean(dim=1, keepdim=True)).abs().max() > tolerance * size:
            return False
    return True


def _phases(taps: Sequence[int], stride: Sequence[int]) -> Tensor:
    """`(phases, taps)`: 1 where a tap is on that phase."""
    phase = torch.zeros(1, dtype=torch.long)
    for n, step in zip(taps, stride, strict=True):
        phase = (phase[:, None] * step + torch.arange(n) % step).flatten()
    return functional.one_hot(phase, math.prod(stride)).T.double()


def _monomials(taps: Sequence[int], degree: int) -> Iterator[Tensor]:
    """All products of `degree` coordinates, which count from the middle for accuracy."""
    axes = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / max(1, n - 1) for n in taps]
    grid = torch.meshgrid(*axes, indexing="ij")
    for factors in combinations_with_replacement(grid, degree):
        yield math.prod(factors, start=torch.ones(tuple(taps), dtype=torch.float64))
