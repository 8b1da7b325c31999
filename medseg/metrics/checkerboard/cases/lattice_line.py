"""Spectral lines at the lattice frequencies `2πk/s`, against the spectrum around each of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Num
from scipy import stats
from torch import Tensor

from medseg.metrics.checkerboard.cases.lattice import (
    check_finite,
    checked_period,
    trapezoid,
    trimmed,
)

_GUARD = 2
_RADIUS = 5
_RESOLUTION = 1e-13  # of the mean square, as in seasonal.py


@dataclass(frozen=True)
class LatticeLine:
    """The strongest line, as harmonics k of `2π/s` per axis, and how unlikely it is by chance."""

    harmonic: tuple[int, ...]
    decibel: float
    p_value: float


def lattice_line(signal: Num[Tensor, "*space"], period: Sequence[int]) -> LatticeLine | None:
    """`r_k = |E(ω_k)|² / mean |E|²` around ω_k, E the Hann-windowed spectrum of `e = z − T_s z`.

    By chance `r_k ~ F(2, 2M)` over M neighbouring bins, `F(1, 2M)` where ω_k is its own conjugate;
    Šidák over all k. Neighbours lie 3 or 5 bins off along some axis, none near another lattice
    frequency. Made to find, not to claim: images of content at ω_k and stripes of the scene
    give lines as well, which only a test over cases tells from a checkerboard. Axes of stride
    1 are averaged away. Unchanged by `z → a z + b` and by a shift of the grid.

    Args:
        signal: Map of one case, at least 12 periods and a margin of half a period long.
        period: Voxels per axis after which a pattern repeats.

    Returns:
        The line with the smallest p, already corrected; None if the map has no residual.

    Raises:
        ValueError: stride 1 everywhere, a map too short, or values that are not finite.

    Reference: Thomson 1982, Proc. IEEE 70:1055 (the F test for a line).

    >>> n = torch.arange(64)
    >>> line = lattice_line(torch.rand(64, generator=torch.manual_seed(0)) + n % 2, [2])
    >>> line.harmonic, line.p_value < 0.05
    ((1,), True)
    """
    steps = checked_period(period, signal.ndim)
    check_finite(signal)
    residual, size = _residual(signal, steps)
    if residual.square().mean() <= _RESOLUTION * signal.double().square().mean():
        return None
    harmonics = _one_of_each_pair(size)
    ratio, neighbours, alone = _ratios(_power(residual), size, harmonics)
    freedom = torch.where(alone, 1, 2)
    p_values = stats.f.sf(*(v.cpu().numpy() for v in (ratio, freedom, 2 * neighbours)))
    best = int(p_values.argmin())
    # 1 − (1 − p)^m without losing a small p
    corrected = -math.expm1(len(harmonics) * math.log1p(-min(float(p_values[best]), 1 - 1e-16)))
    inverse = iter(harmonics[best].tolist())
    return LatticeLine(
        harmonic=tuple(next(inverse) if step > 1 else 0 for step in steps),
        decibel=10 * math.log10(max(float(ratio[best]), 1e-30)),
        p_value=corrected,
    )


def _residual(signal: Tensor, steps: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Residual on whole periods of the strided axes, and those axes' strides."""
    margin = [step // 2 for step in steps]
    least = tuple(12 * s + 2 * m if s > 1 else 1 for s, m in zip(steps, margin, strict=True))
    if any(n < wanted for n, wanted in zip(signal.shape, least, strict=True)):
        raise ValueError(
            f"map {tuple(signal.shape)} is smaller than {least}, 12 periods {steps} and a margin: "
            "the lines would run into each other; give a larger map"
        )
    residual = trimmed(signal.double(), margin) - trapezoid(signal, steps)
    whole = residual[tuple(slice(n - n % s) for n, s in zip(residual.shape, steps, strict=True))]
    idle = [axis for axis, step in enumerate(steps) if step == 1]
    return (whole.mean(dim=idle) if idle else whole), tuple(s for s in steps if s > 1)


def _power(residual: Tensor) -> Tensor:
    for axis, length in enumerate(residual.shape):
        window = torch.hann_window(length, dtype=residual.dtype, device=residual.device)
        residual = residual * window.reshape([-1 if a == axis else 1 for a in range(residual.ndim)])
    return torch.fft.fftn(residual).abs().square()


def _one_of_each_pair(size: tuple[int, ...]) -> Tensor:
    """Harmonics k ≠ 0, one of k and −k: `(lines, axes)`."""
    steps = torch.tensor(size)
    every = torch.cartesian_prod(*(torch.arange(s) for s in size)).reshape(-1, len(size))
    rank = steps.flip(0).cumprod(0).div(steps.flip(0), rounding_mode="floor").flip(0)
    own, conjugate = ((k * rank).sum(dim=1) for k in (every, -every % steps))
    return every[(own <= conjugate) & (own > 0)]


def _ratios(power: Tensor, size: tuple[int, ...], harmonics: Tensor) -> tuple[Tensor, ...]:
    """Power of each line over that around it, how many bins are around, and whether it is real."""
    steps, length = torch.tensor(size), torch.tensor(power.shape)
    cells = length // steps
    odd = torch.arange(-_RADIUS, _RADIUS + 1, 2)
    around = torch.cartesian_prod(*[odd] * len(size)).reshape(-1, len(size))
    lines = harmonics * cells
    bins = (lines[:, None] + around) % length  # (lines, around, axes)
    off = bins % cells
    in_a_lobe = (torch.minimum(off, cells - off) <= _GUARD).all(dim=-1)
    alone = (2 * harmonics % steps == 0).all(dim=1)
    # around a real line, a bin and its mirror image hold the same number
    counted = ~in_a_lobe & (~alone[:, None] | (around[:, 0] > 0))
    at_line = power[lines.unbind(-1)]
    nearby = power[bins.unbind(-1)] * counted.to(power)
    neighbours = counted.sum(dim=1)
    background = nearby.sum(dim=1) / neighbours.to(power)
    ratio = at_line / background.clamp(min=float(power.mean()) * 1e-24)
    return ratio, neighbours, alone
