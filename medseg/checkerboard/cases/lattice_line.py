"""Spectral lines at the lattice frequencies `2πk/s`, against the spectrum around each of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Num
from scipy import stats
from torch import Tensor

from medseg.checkerboard.cases.lattice import check_finite, checked_period
from medseg.checkerboard.cases.spectrum import hann_power, whole_residual

_GUARD = 2
_RADIUS = 5
_PERIODS = 12
_RESOLUTION = 1e-13  # of the mean square, as in seasonal.py


@dataclass(frozen=True)
class LatticeLine:
    """The strongest line, as harmonics k of `2π/s` per axis, and how unlikely it is by chance."""

    harmonic: tuple[int, ...]
    decibel: float
    p_value: float


def lattice_line(signal: Num[Tensor, "*space"], period: Sequence[int]) -> LatticeLine | None:
    """`r_k = |E(ω_k)|² / mean |E|²` around ω_k, E the Hann-windowed spectrum of `e = z − T_s z`.

    E is divided by the filter's own response `1 − T_s(ω)`, which is 1 at ω_k. By chance
    `r_k ~ F(2, 2M)` over M neighbouring bins, `F(1, 2M)` where ω_k is its own conjugate; Šidák
    over all k. Neighbours lie 3 or 5 bins off along some axis, none near another lattice
    frequency. Made to find, not to claim: images of content at ω_k and stripes of the scene
    give lines as well, which only a test over cases tells from a checkerboard. So does a texture
    whose spectrum bends within 5 bins of ω_k: of white and of blurred noise, 0 to 0.07 of the
    maps have p ≤ 0.05, of a texture of one coarseness that passes through ω_k up to 0.35. Axes of
    stride 1 are averaged away. Unchanged by `z → a z + b` and by a shift of the grid.

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
    return welch_line(signal[None], period)


def welch_line(maps: Num[Tensor, " maps *space"], period: Sequence[int]) -> LatticeLine | None:
    """`lattice_line` of the mean spectrum of n maps: `r_k ~ F(2n, 2nM)` by chance.

    Windows of one case or of several, none of which overlap: maps that repeat each other make p
    too small. Each map is divided by the RMS of its residual first, since one loud map among
    quiet ones would count as n. It takes about `1 / √n` of the power to find a line in n maps that
    it takes in one, whatever the line's phase in each of them.

    Args:
        maps: Maps of one shape on one grid; those without residual are left out.
        period: Voxels per axis after which a pattern repeats.

    Returns:
        The line with the smallest p, already corrected; None if no map has a residual.

    Raises:
        ValueError: as `lattice_line`.

    Reference: Welch 1967, IEEE Trans. Audio Electroacoust. 15:70 (the mean periodogram).

    >>> maps = torch.rand(8, 64, generator=torch.manual_seed(0)) + 0.1 * (torch.arange(64) % 2)
    >>> line = welch_line(maps, [2])
    >>> line.harmonic, line.p_value < 0.01, lattice_line(maps[0], [2]).p_value < 0.05
    ((1,), True, False)
    """
    steps = checked_period(period, maps.ndim - 1)
    check_finite(maps)
    residual = whole_residual(maps, steps, _PERIODS)
    if idle := [axis for axis, step in enumerate(steps, start=1) if step == 1]:
        residual = residual.mean(dim=idle)
    energy, level = (z.double().square().flatten(1).mean(dim=1) for z in (residual, maps))
    varying = energy > _RESOLUTION * level
    if not bool(varying.any()):
        return None
    spectra = hann_power(residual[varying])
    power = torch.tensordot(1 / energy[varying], spectra, dims=1) / len(spectra)
    size = tuple(step for step in steps if step > 1)
    harmonics = _one_of_each_pair(size)
    ratio, neighbours, alone = _ratios(power / _response(power, size), size, harmonics)
    freedom = len(spectra) * torch.where(alone, 1, 2)
    around = 2 * len(spectra) * neighbours
    p_values = stats.f.sf(*(v.cpu().numpy() for v in (ratio, freedom, around)))
    best = int(p_values.argmin())
    # 1 − (1 − p)^m without losing a small p
    corrected = -math.expm1(len(harmonics) * math.log1p(-min(float(p_values[best]), 1 - 1e-16)))
    inverse = iter(harmonics[best].tolist())
    return LatticeLine(
        harmonic=tuple(next(inverse) if step > 1 else 0 for step in steps),
        decibel=10 * math.log10(max(float(ratio[best]), 1e-30)),
        p_value=corrected,
    )


def _response(power: Tensor, size: tuple[int, ...]) -> Tensor:
    """`|1 − T_s(ω)|²`, by which the filter itself makes neighbours look weaker than a line."""
    smooth = torch.ones_like(power)
    for axis, step in enumerate(size):
        taps = torch.arange(-(step // 2), step // 2 + 1, device=power.device)
        weights = torch.where((2 * taps.abs() == step), 0.5, 1.0).to(power) / step
        frequency = 2 * math.pi * torch.fft.fftfreq(power.shape[axis]).to(power)
        along = torch.cos(frequency[:, None] * taps) @ weights
        smooth = smooth * along.reshape([-1 if a == axis else 1 for a in range(power.ndim)])
    # far below that of any neighbour: those of frequency 0 do not count
    return (1 - smooth).square().clamp(min=1e-6)


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
