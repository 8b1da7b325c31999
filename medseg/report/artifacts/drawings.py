"""The figures of a study, each with the sentence that says how to read it."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from medseg.checkerboard import Study
from medseg.checkerboard.cohort import patterns_of
from medseg.checkerboard.kernels import upsampling_kernel, upsampling_stride
from medseg.checkerboard.layers import upsampling_layers
from medseg.checkerboard.moments import coarser
from medseg.checkerboard.probes import input_gradient_phases, response_to_constant, tone_response
from medseg.checkerboard.spectrum import residual_spectrum
from medseg.checkerboard.study import StudiedCase
from medseg.record import RunRecord
from medseg.report.artifacts import figures

log = logging.getLogger(__name__)

_TONES = 6
_LEAST_FOR_INTERVAL = 8


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure: file name without ending, what it shows and how to read it, and its PNG."""

    name: str
    caption: str
    png: bytes


def drawings(study: Study, run: RunRecord | None = None) -> list[Drawing]:
    """Every figure that the study has the data for; what a network does not allow is left out.

    Args:
        study: Cases that were added.
        run: The record of the training, for its trajectory.
    """
    plans = _OF_WEIGHTS | _OF_CASES if study.studied else _OF_WEIGHTS
    made = [(name, caption, _drawn(draw, study)) for name, (caption, draw) in plans.items()]
    if run is not None and run.artifact_history:
        made.append(("trajectory", _TRAJECTORY, figures.trajectory(run.artifact_history)))
    return [
        Drawing(name=name, caption=caption, png=figures.png(figure))
        for name, caption, figure in made
        if figure is not None
    ]


def _drawn(draw: Callable[[Study], Figure | None], study: Study) -> Figure | None:
    try:
        return draw(study)
    except (RuntimeError, ValueError) as error:
        log.info("%s: %s", draw.__name__, error)  # the tables say what was not measured
        return None


def _phases(study: Study) -> Figure | None:
    tested = study.grid.tested
    found = patterns_of(
        [[coarser(m, tested) for m in case.windows.contrasts.moments] for case in study.studied]
    )
    if found is None:
        return None
    alpha, beta = found
    return figures.phase_heat_map(
        alpha.mean(0),
        beta.mean(0),
        tested,
        [_holds_zero(alpha), _holds_zero(beta)] if len(beta) >= _LEAST_FOR_INTERVAL else None,
    )


def _holds_zero(patterns: Tensor) -> Tensor:
    """Whether the 95 % interval of the mean over cases does, by the normal approximation."""
    error = patterns.std(dim=0) / math.sqrt(len(patterns))
    return patterns.mean(dim=0).abs() <= 1.96 * error


def _spectrum(study: Study) -> Figure | None:
    maps = [c for case in study.studied for c in case.exemplar.contrasts]
    return figures.spectrum(
        residual_spectrum(torch.stack(maps), study.grid.period), study.grid.period
    )


def _kernels(study: Study) -> Figure | None:
    dims = len(study.grid.period)
    layers = []
    for name, layer in upsampling_layers(study.network):
        try:
            kernel = upsampling_kernel(layer, dims)
        except (TypeError, ValueError):  # it has none, as the table of layers says
            continue
        layers.append((name, kernel, upsampling_stride(layer, dims)))
    return figures.kernel_sheet(layers) if layers else None


def _constant(study: Study) -> Figure | None:
    if study.middle is None:
        return None
    response = response_to_constant(study.network, study.middle, study.grid.period)
    if response is None:
        return None
    worst = response.flatten(1).std(dim=1).argmax()
    plane = response[worst].reshape(*response.shape[1:3], -1)[..., 0]
    return figures.constant_response(plane, study.grid.period[:2])


def _overlay(study: Study) -> Figure | None:
    case = max(
        (c for c in study.studied if c.cycle_spin is not None),
        key=lambda c: float(c.exemplar.logits.argmax(0).count_nonzero()),
        default=None,
    )
    if case is None or case.cycle_spin is None:
        return None
    deviation = case.cycle_spin.deviation.square().sum(0).sqrt()
    labels, truth = case.exemplar.logits.argmax(0), case.exemplar.truth
    # the residual is of the window cropped to whole periods
    crop = tuple(slice(0, n) for n in deviation.shape)
    plane = _plane(labels[crop])
    return figures.residual_overlay(
        plane(case.exemplar.image[0][crop]),
        plane(deviation),
        None if truth is None else plane(truth[crop]),
        plane(labels[crop]),
    )


def _plane(labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Takes the slice along the last axis that shows most foreground, first axis to the right."""
    if labels.ndim == 2:
        return lambda volume: volume.T.flip(0)
    best = int((labels > 0).sum(dim=(0, 1)).argmax())
    return lambda volume: volume[..., best].T.flip(0)


def _gradient(study: Study) -> Figure | None:
    found = input_gradient_phases(study.network, study.images, study.grid.period)
    if found is None:
        return None
    mean, energy = (moment.mean(0) for moment in found)
    return figures.gradient_table(mean, energy, study.grid.period)


def _waves(study: Study) -> Figure | None:
    period = study.grid.period
    along = next(axis for axis, step in enumerate(period) if step > 1)
    frequencies = torch.zeros(_TONES, len(period), dtype=torch.float64)
    frequencies[:, along] = torch.linspace(0.05, 0.9, _TONES) * math.pi / period[along] * 2
    found = tone_response(study.network, study.images[0], frequencies, period)
    if found is None:
        return None
    curves = {"imaging": found.imaging / found.content, "pattern": found.pattern / found.content}
    return figures.two_tone(found.frequencies[:, along], curves)


def _cracks(study: Study) -> Figure | None:
    cases = [c for c in study.studied if c.windows.truth is not None]
    if not cases:
        return None
    found = _sum(cases, lambda c: c.windows.boundaries.histograms)
    truth = _sum(cases, lambda c: c.windows.true_boundaries.histograms)
    names = [f"axis {axis}" for axis in range(len(study.grid.period))]
    return figures.crack_histogram(found, truth, names)


def _sum(
    cases: Sequence[StudiedCase], read: Callable[[StudiedCase], Sequence[Tensor | None]]
) -> list[Tensor | None]:
    columns = zip(*map(read, cases), strict=True)
    known = [[h for h in column if h is not None] for column in columns]
    return [torch.stack(column).sum(0) if column else None for column in known]


_OF_WEIGHTS: dict[str, tuple[str, Callable[[Study], Figure | None]]] = {
    "kernels": (
        "Each upsampling's taps on the grid of its stride, and by phase what passes of a constant, "
        "how far that is from the mean, and how many taps meet.",
        _kernels,
    ),
}
_OF_CASES: dict[str, tuple[str, Callable[[Study], Figure | None]]] = {
    "phases": (
        "What each phase of the grid adds and how it amplifies, mean over cases and classes. Noise "
        "near 0 for a clean network. Hatched: the 95 % interval over cases holds 0.",
        _phases,
    ),
    "spectrum": (
        "Power of the logits' residual by frequency, mean over cases and classes. Patterns of the "
        "grid are bright points in the rings; texture is spread between them.",
        _spectrum,
    ),
    "constant": (
        "What the network prints on a constant, voxel by voxel: one colour if it is clean.",
        _constant,
    ),
    "cycle_spin": (
        "Where the logits depend on how the image lies on the grid: their deviation over shifts, "
        "with the outlines of prediction and truth.",
        _overlay,
    ),
    "gradient": (
        "The gradient of the logits by the image, by phase: what saliency maps show of strides.",
        _gradient,
    ),
    "waves": (
        "Energy in the replicas of a wave over that of the wave itself, by its frequency along "
        "the first axis.",
        _waves,
    ),
    "cracks": (
        "On which phases label boundaries fall. Bars far from the truth's: boundaries are snapped "
        "to the grid, or pushed off it.",
        _cracks,
    ),
}
_TRAJECTORY = "The same measures during training; on the line 0 a measure is exactly clean."
