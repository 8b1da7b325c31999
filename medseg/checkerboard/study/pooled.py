"""What the cases print together, small enough for a record: gain by phase, power by frequency."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from medseg.checkerboard.cases.phase_moments import PhaseMoments
from medseg.checkerboard.cases.seasonal import Gain, gain
from medseg.checkerboard.cases.spectrum import residual_spectrum
from medseg.record import AxisSpectrum, PhaseMap

_BINS = 254  # around the circle, so that half of it, both ends included, has 128


def patterns_of(cases: Sequence[Sequence[PhaseMoments]]) -> tuple[Tensor, Tensor] | None:
    """`α_φ` and `β_φ − mean β` of each case `(cases, *period)`, means over its classes.

    Args:
        cases: Moments of each class of each case, of one period.

    Returns:
        The patterns of the cases that have any; None if none has.
    """
    fits = [[fit for moments in case if (fit := gain(moments)) is not None] for case in cases]
    known = [case for case in fits if case]
    if not known:
        return None
    alpha = torch.stack([_mean([fit.alpha for fit in case]) for case in known])
    beta = torch.stack([_mean([_deviation(fit) for fit in case]) for case in known])
    return alpha, beta


def phase_map(cases: Sequence[Sequence[PhaseMoments]]) -> PhaseMap | None:
    """`1 + β_φ − mean β`, the mean over classes and then over cases.

    Args:
        cases: Moments of each class of each case, of one period.

    Returns:
        The map, to 5 decimals; None where no case has a gain.

    >>> from medseg.checkerboard.cases.phase_moments import phase_moments
    >>> n = torch.arange(100)
    >>> phase_map([[phase_moments(n * (1 + 0.1 * (-1.0) ** n), [2])]]).values
    [1.1, 0.9]
    """
    found = patterns_of(cases)
    if found is None:
        return None
    _, beta = found
    values = (1 + beta.mean(dim=0)).flatten().tolist()
    return PhaseMap(
        period=list(beta.shape[1:]),
        values=[round(v, 5) for v in values],
        cases=len(beta),
        noise=_standard_error(beta) if len(beta) > 1 else None,
    )


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
    power = 10 ** (torch.fft.ifftshift(_mean(levels)) / 10)
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


def _standard_error(patterns: Tensor) -> float:
    """Of the mean over cases, RMS over phases."""
    return round(float((patterns.var(dim=0).mean() / len(patterns)).sqrt()), 5)


def _deviation(fit: Gain) -> Tensor:
    return fit.beta - fit.beta.mean()


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).mean(dim=0)
