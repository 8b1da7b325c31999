"""Spectra of what the period filter leaves: patterns of the stride grid are lines in them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from scipy import stats
from torch import Tensor

from medseg.checkerboard.phases import check_finite, checked_period, trapezoid, trimmed
from medseg.record import AxisSpectrum

_GUARD = 2
_RADIUS = 5
_PERIODS = 12
_RESOLUTION = 1e-13  # of the mean square, as in seasonal.py
_BINS = 254  # around the circle, so that half of it, both ends included, has 128


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


def axis_spectra(maps: Iterable[Tensor], period: Sequence[int]) -> list[AxisSpectrum]:
    """Power of `residual_spectrum` by frequency along each strided axis, mean over the other axes.

    A pattern shows in it at its own frequency along that axis, whatever it does along the others.
    Maps are taken one by one, so memory is that of one.

    Args:
        maps: Contrasts `(*space)` of one shape; those that are constant are left out.
        period: Voxels per axis after which a pattern repeats.

    Returns:
        To 0.01 dB, in the order of the axes; nothing where no map varies.

    Raises:
        ValueError: stride 1 everywhere, maps below one period and a margin, or values that are
            not finite.

    >>> [found] = axis_spectra([0.5 * (torch.arange(50) % 2)], [2])
    >>> len(found.decibel), found.bins, found.decibel[-1]  # 10 log₁₀ 2 at half a cycle per voxel
    (25, 48, 3.01)
    """
    varying = (m for m in maps if bool(m.min() < m.max()))
    levels = [residual_spectrum(contrast[None], period) for contrast in varying]
    if not levels:
        return []
    power = 10 ** (torch.fft.ifftshift(torch.stack(levels).mean(dim=0)) / 10)
    strided = [axis for axis, step in enumerate(period) if step > 1]
    return [
        _along(_marginal(power, place), axis, period[axis]) for place, axis in enumerate(strided)
    ]


def _along(power: Tensor, axis: int, step: int) -> AxisSpectrum:
    """The half from 0 on; long ones in bins of which each harmonic of the period is a middle."""
    length = len(power)
    bins = length if length <= _BINS else step * max(1, _BINS // step)
    half = power[: length // 2 + 1]
    place = (torch.arange(len(half)) * bins / length).round().long()
    means = torch.bincount(place, half) / torch.bincount(place)
    decibel = (10 * means.log10()).tolist()
    return AxisSpectrum(axis=axis, period=step, bins=bins, decibel=[round(v, 2) for v in decibel])


def _marginal(power: Tensor, place: int) -> Tensor:
    return power.movedim(place, 0).flatten(1).mean(dim=1) if power.ndim > 1 else power


@dataclass(frozen=True)
class GridLine:
    """The strongest line, as harmonics k of `2π/s` per axis, and how unlikely it is by chance."""

    harmonic: tuple[int, ...]
    decibel: float
    p_value: float


def grid_line(signal: Num[Tensor, "*space"], period: Sequence[int]) -> GridLine | None:
    """`r_k = |E(ω_k)|² / mean |E|²` around ω_k, E the Hann-windowed spectrum of `e = z − T_s z`.

    E is divided by the filter's own response `1 − T_s(ω)`, which is 1 at ω_k. By chance
    `r_k ~ F(2, 2M)` over M neighbouring bins, `F(1, 2M)` where ω_k is its own conjugate; Šidák
    over all k. Neighbours lie 3 or 5 bins off along some axis, none near another grid
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
    >>> line = grid_line(torch.rand(64, generator=torch.manual_seed(0)) + n % 2, [2])
    >>> line.harmonic, line.p_value < 0.05
    ((1,), True)
    """
    steps = checked_period(period, signal.ndim)
    check_finite(signal)
    residual = whole_residual(signal[None], steps, _PERIODS)
    if idle := [axis for axis, step in enumerate(steps, start=1) if step == 1]:
        residual = residual.mean(dim=idle)
    energy, level = (float(z.double().square().mean()) for z in (residual, signal))
    if energy <= _RESOLUTION * level:
        return None
    power = hann_power(residual)[0] / energy
    size = tuple(step for step in steps if step > 1)
    harmonics = _one_of_each_pair(size)
    ratio, neighbours, alone = _ratios(power / _response(power, size), size, harmonics)
    freedom = torch.where(alone, 1, 2)
    around = 2 * neighbours
    p_values = stats.f.sf(*(v.cpu().numpy() for v in (ratio, freedom, around)))
    best = int(p_values.argmin())
    # 1 − (1 − p)^m without losing a small p
    corrected = -math.expm1(len(harmonics) * math.log1p(-min(float(p_values[best]), 1 - 1e-16)))
    inverse = iter(harmonics[best].tolist())
    return GridLine(
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
