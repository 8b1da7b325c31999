"""What the figures of a study are drawn from besides its numbers: spectra, and slices of maps."""

import logging
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.checkerboard.phases import trapezoid, trimmed
from medseg.checkerboard.probes import response_to_constant
from medseg.checkerboard.windows import Exemplar
from medseg.record import AxisSpectrum
from medseg.record.checkerboard import FigureData

_BINS = 254  # around the circle, so that half of it, both ends included, has 128
log = logging.getLogger(__name__)


def figure_data(
    network: nn.Module, window: Tensor | None, period: Sequence[int], exemplars: Sequence[Exemplar]
) -> FigureData:
    """Slices of the response to a constant and of the case with the most predicted foreground.

    Args:
        network: Image → logits.
        window: Of the first image, `(1, channels, *window)`, whose mean is the constant.
        period: Voxels per axis after which a pattern repeats.
        exemplars: Windows of cases.
    """
    constant = None if window is None else _constant(network, window, period)
    spun = [one for one in exemplars if one.cycle_spin is not None]
    if not spun:
        return FigureData(constant=constant)
    case = max(spun, key=lambda one: float(one.labels.count_nonzero()))
    assert case.cycle_spin is not None
    deviation = case.cycle_spin.deviation.square().sum(0).sqrt()
    # the residual is of the window cropped to whole periods
    crop = tuple(slice(0, n) for n in deviation.shape)
    labels = case.labels[crop]
    return FigureData(
        constant=constant,
        image=_slice(case.image[0][crop], labels),
        deviation=_slice(deviation, labels),
        prediction=_slice(labels, labels),
        truth=None if case.truth is None else _slice(case.truth[crop], labels),
    )


def axis_spectra(maps: Iterable[Tensor], period: Sequence[int]) -> list[AxisSpectrum]:
    """Power of `e = z − T_s z` by frequency along each strided axis, mean over the other axes.

    A pattern shows at its own frequency along that axis, whatever it does along the others: on an
    axis of N voxels, `a (−1)ⁿ` reads `10 log₁₀ (2N a² / 3)`, and white noise of variance σ²
    `10 log₁₀ σ² − 2.5`. Maps are taken one by one, so memory is that of one.

    Args:
        maps: Contrasts `(*space)` of one shape; those that are constant are left out.
        period: Voxels per axis after which a pattern repeats.

    Returns:
        Mean of the maps' decibels, to 0.01 dB, in the order of the axes; nothing where no map
        varies.

    Raises:
        ValueError: maps below one period and a margin.

    >>> [found] = axis_spectra([0.5 * (torch.arange(50) % 2)], [2])
    >>> len(found.decibel), found.bins, found.decibel[-1]  # 10 log₁₀ 2 at half a cycle per voxel
    (25, 48, 3.01)
    """
    levels = [_decibel(each, period) for each in maps if bool(each.min() < each.max())]
    if not levels:
        return []
    power = 10 ** (torch.stack(levels).mean(dim=0) / 10)
    strided = [axis for axis, step in enumerate(period) if step > 1]
    return [
        _spectrum(
            power.movedim(place, 0).reshape(power.shape[place], -1).mean(dim=1), axis, period[axis]
        )
        for place, axis in enumerate(strided)
    ]


def _decibel(signal: Tensor, period: Sequence[int]) -> Float[Tensor, "*frequencies"]:
    """`10 log₁₀ (|FFT(w e)|² / Σw²)`, w a Hann window; mean over the axes of stride 1.

    Each axis is cut to whole periods, so that harmonics of the period are bins.
    """
    steps = tuple(period)
    margin = [step // 2 for step in steps]
    least = tuple(s + 2 * m if s > 1 else 1 for s, m in zip(steps, margin, strict=True))
    if any(n < wanted for n, wanted in zip(signal.shape, least, strict=True)):
        raise ValueError(
            f"map {tuple(signal.shape)} is smaller than {least}, one period {steps} and a margin; "
            "give a larger map"
        )
    residual = trimmed(signal.double(), margin) - trapezoid(signal, steps)
    residual = residual[tuple(slice(n - n % s) for n, s in zip(residual.shape, steps, strict=True))]
    idle = [axis for axis, step in enumerate(steps) if step == 1]
    residual = residual[None].movedim([a + 1 for a in idle], list(range(len(idle))))
    residual = residual.flatten(0, len(idle))
    dims = list(range(1, residual.ndim))
    for axis in dims:
        window = torch.hann_window(residual.shape[axis], dtype=residual.dtype)
        residual = residual * window.reshape([-1 if a == axis else 1 for a in range(residual.ndim)])
    # Σw² of a periodic Hann window is 3/8 of its length
    energy = math.prod(0.375 * residual.shape[axis] for axis in dims)
    power = torch.fft.fftn(residual, dim=dims).abs().square() / energy
    return (10 * power.clamp(min=1e-30).log10()).mean(dim=0)


def _spectrum(power: Tensor, axis: int, step: int) -> AxisSpectrum:
    """The half from 0 on; long ones in bins of which each harmonic of the period is a middle."""
    length = len(power)
    bins = length if length <= _BINS else step * max(1, _BINS // step)
    half = power[: length // 2 + 1]
    place = (torch.arange(len(half)) * bins / length).round().long()
    means = torch.bincount(place, half) / torch.bincount(place)
    decibel = (10 * means.log10()).tolist()
    return AxisSpectrum(axis=axis, period=step, bins=bins, decibel=[round(v, 2) for v in decibel])


def _constant(
    network: nn.Module, window: Tensor, period: Sequence[int]
) -> NDArray[np.float64] | None:
    """The channel that varies most, in 3-D its first slice."""
    try:
        found = response_to_constant(network, window, period)
    except (RuntimeError, ValueError) as error:
        log.info("response to a constant: %s", error)  # the record says so too
        return None
    if found is None:
        return None
    response = found[0][0]
    worst = response.flatten(1).std(dim=1).argmax()
    return _array(response[worst].reshape(*response.shape[1:3], -1)[..., 0])


def _slice(volume: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """The slice along the last axis that shows most foreground, first axis to the right."""
    if labels.ndim == 3:
        volume = volume[..., int((labels > 0).sum(dim=(0, 1)).argmax())]
    return _array(volume.T.flip(0))


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().double().numpy()
