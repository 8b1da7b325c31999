"""The spectrum of what the lattice filter leaves: patterns of the grid are points in it."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor

from medseg.checkerboard.cases.lattice import (
    check_finite,
    checked_period,
    trapezoid,
    trimmed,
)


def residual_spectrum(
    maps: Num[Tensor, " maps *space"], period: Sequence[int]
) -> Float[Tensor, "*frequencies"]:
    """`mean 10 log₁₀ (|E(ω)|² / Σw²)` over maps, in dB of the logits' squared unit.

    E is the spectrum of `e = z − T_s z` under a Hann window w. White noise of variance σ² reads
    `10 log₁₀ σ² − 2.5`, a pattern `a (−1)ⁿ` reads `10 log₁₀ (2N a² / 3)` at its own frequency on an
    axis of N voxels. Each axis is cut to whole periods, so harmonic k of the period is bin
    `N // 2 + k N / s`, modulo N. Unchanged by a constant on any map.

    Args:
        maps: Maps of one shape and one grid; positions along an axis of stride 1 are maps as well.
        period: Voxels per axis after which a pattern repeats.

    Returns:
        One axis of frequencies for each stride > 1, from −π on, 0 in the middle; no less than
        −300 dB.

    Raises:
        ValueError: stride 1 everywhere, less than one period, or values that are not finite.

    >>> n = torch.arange(50)
    >>> spectrum = residual_spectrum(0.5 * (n % 2)[None], [2])
    >>> len(spectrum), round(float(10 ** (spectrum[0] / 10)), 9)  # 2 · 48 · 0.25² / 3
    (48, 2.0)
    """
    steps = checked_period(period, maps.ndim - 1)
    check_finite(maps)
    residual = whole_residual(maps, steps)
    idle = [axis for axis, step in enumerate(steps, start=1) if step == 1]
    residual = residual.movedim(idle, list(range(len(idle)))).flatten(0, len(idle))
    decibel = 10 * hann_power(residual).clamp(min=1e-30).log10()
    return torch.fft.fftshift(decibel.mean(dim=0))


def whole_residual(
    maps: Num[Tensor, " maps *space"], period: tuple[int, ...], periods: int = 1
) -> Float[Tensor, " maps *interior"]:
    """`z − T_s z` of each map on whole periods, at least so many of them.

    Raises:
        ValueError: maps that are smaller.
    """
    margin = [step // 2 for step in period]
    least = tuple(periods * s + 2 * m if s > 1 else 1 for s, m in zip(period, margin, strict=True))
    if any(n < wanted for n, wanted in zip(maps.shape[1:], least, strict=True)):
        raise ValueError(
            f"map {tuple(maps.shape[1:])} is smaller than {least}, {periods} periods {period} and "
            "a margin: lines would run into each other; give a larger map"
        )
    residual = trimmed(maps.double(), margin) - trapezoid(maps, period)
    sizes = zip(residual.shape[1:], period, strict=True)
    return residual[(slice(None), *(slice(n - n % s) for n, s in sizes))]


def hann_power(residual: Float[Tensor, " maps *space"]) -> Float[Tensor, " maps *frequencies"]:
    """`|FFT(w e)|² / Σw²` of each map, w the Hann window of all axes: σ² for white noise."""
    dims = list(range(1, residual.ndim))
    for axis in dims:
        length = residual.shape[axis]
        window = torch.hann_window(length, dtype=residual.dtype, device=residual.device)
        residual = residual * window.reshape([-1 if a == axis else 1 for a in range(residual.ndim)])
    # Σw² of a periodic Hann window is 3/8 of its length
    energy = math.prod(0.375 * residual.shape[axis] for axis in dims)
    return torch.fft.fftn(residual, dim=dims).abs().square() / energy
