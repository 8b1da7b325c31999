"""Slices of a study for its figures: the response to a constant, and what moves with the grid."""

import logging

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medseg.checkerboard.probes import response_to_constant
from medseg.checkerboard.study import Study
from medseg.record.figure_data import FigureData

log = logging.getLogger(__name__)


def figure_data(study: Study) -> FigureData:
    """Takes the slices from the cases that the study kept."""
    spun = [case for case in study.studied if case.cycle_spin is not None]
    constant = _constant(study)
    if not spun:
        return FigureData(constant=constant)
    case = max(spun, key=lambda c: float(c.exemplar.logits.argmax(0).count_nonzero()))
    assert case.cycle_spin is not None
    deviation = case.cycle_spin.deviation.square().sum(0).sqrt()
    # the residual is of the window cropped to whole periods
    crop = tuple(slice(0, n) for n in deviation.shape)
    labels = case.exemplar.logits.argmax(0)[crop]
    truth = case.exemplar.truth
    return FigureData(
        constant=constant,
        image=_slice(case.exemplar.image[0][crop], labels),
        deviation=_slice(deviation, labels),
        prediction=_slice(labels, labels),
        truth=None if truth is None else _slice(truth[crop], labels),
    )


def _constant(study: Study) -> NDArray[np.float64] | None:
    """The channel that varies most, in 3-D its first slice."""
    if study.middle is None:
        return None
    try:
        response = response_to_constant(study.network, study.middle, study.grid.period)
    except (RuntimeError, ValueError) as error:
        log.info("response to a constant: %s", error)  # the record says so too
        return None
    if response is None:
        return None
    worst = response.flatten(1).std(dim=1).argmax()
    return _array(response[worst].reshape(*response.shape[1:3], -1)[..., 0])


def _slice(volume: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """The slice along the last axis that shows most foreground, first axis to the right."""
    if labels.ndim == 3:
        volume = volume[..., int((labels > 0).sum(dim=(0, 1)).argmax())]
    return _array(volume.T.flip(0))


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().double().numpy()
