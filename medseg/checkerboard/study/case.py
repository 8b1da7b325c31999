"""The numbers of one case, from the sums over its windows."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from torch import Tensor

from medseg.checkerboard.cases.cracks import (
    boundary_snapping,
    crack_distance,
    saddle_rate,
)
from medseg.checkerboard.cases.lattice_line import lattice_line
from medseg.checkerboard.cases.phase_moments import PhaseMoments, coarser
from medseg.checkerboard.cases.seasonal import (
    additive,
    eta_squared_by_level,
    gain,
    staircase,
)
from medseg.checkerboard.lattice import Lattice
from medseg.checkerboard.study.sums import ErrorCounts
from medseg.checkerboard.study.windows import CaseWindows, Exemplar
from medseg.record import CaseRow

T = TypeVar("T")
Values = dict[str, float | None]


def case_artifacts(case: str, windows: CaseWindows, lattice: Lattice) -> CaseRow:
    """Everything that the windows of a case tell.

    Args:
        case: The case's id.
        windows: Of the whole case.
        lattice: Of the network; its period is the windows' own.
    """
    exemplar = windows.exemplar
    contrasts = [] if exemplar is None else exemplar.contrasts
    channels = [] if exemplar is None else list(exemplar.image)
    values = {
        "prediction": _seasonal(windows.contrasts.moments, lattice)
        | {"staircase": _mean(_largest(staircase(m)) for m in windows.contrasts.moments)}
        | _line(contrasts, windows.period),
        "image": _seasonal(windows.images.moments, lattice) | _line(channels, windows.period),
        "labels": _labels(windows, exemplar),
    }
    if windows.truth is not None:
        values["truth"] = _seasonal(windows.truths.moments, lattice)
    return CaseRow(case=case, values=values)


def _seasonal(sums: Sequence[PhaseMoments], lattice: Lattice) -> Values:
    gains = [gain(coarser(m, lattice.tested)) for m in sums]
    patterns = [additive(m) for m in sums]
    nested = [eta_squared_by_level(m, lattice.levels) for m in sums]
    return {
        "gain": _mean(_each(gains, lambda g: g.kappa)),
        "gain_r_squared": _mean(_each(gains, lambda g: g.r_squared_partial)),
        "additive": _mean(_each(patterns, lambda a: a.kappa)),
        "eta_squared": _mean(_each(patterns, lambda a: a.eta_squared)),
        "epsilon_squared": _mean(_each(patterns, lambda a: a.epsilon_squared)),
    } | {
        f"eta_squared_level_{level}": _mean(_each(nested, lambda shares, i=level: shares[i]))
        for level in range(len(lattice.levels))
    }


def _line(maps: Sequence[Tensor], period: Sequence[int]) -> Values:
    """The strongest line of any map; its p is corrected for their number."""
    try:
        lines = [lattice_line(m, period) for m in maps]
    except ValueError:  # a window too short for lines to stand apart
        lines = []
    found = [line for line in lines if line is not None]
    if not found:
        return {"line_decibel": None, "line_p": None}
    best = min(found, key=lambda line: (line.p_value, -line.decibel))
    return {"line_decibel": best.decibel, "line_p": min(1.0, len(maps) * best.p_value)}


def _labels(windows: CaseWindows, exemplar: Exemplar | None) -> Values:
    cracks, true_cracks = windows.cracks.histograms, windows.true_cracks.histograms
    values: Values = {
        "boundary_snapping": _mean(boundary_snapping(h) for h in cracks if h is not None),
        "saddle_rate": None if exemplar is None else saddle_rate(exemplar.logits.argmax(0)),
    }
    if windows.truth is None:
        return values
    pairs = zip(cracks, true_cracks, strict=True)
    truth = None if exemplar is None else exemplar.truth
    return values | {
        "true_boundary_snapping": _mean(boundary_snapping(h) for h in true_cracks if h is not None),
        "true_saddle_rate": None if truth is None else saddle_rate(truth),
        "crack_distance": _mean(
            crack_distance(a, b) for a, b in pairs if a is not None and b is not None
        ),
        "error_spread": _spread_of_errors(windows.errors),
    }


def _spread_of_errors(errors: ErrorCounts) -> float | None:
    """Standard deviation over phases of the share of wrong voxels, over its mean."""
    if errors.wrong is None or errors.voxels is None or not errors.wrong.any():
        return None
    rates = errors.wrong / errors.voxels
    return float(rates.std(correction=0) / rates.mean())


def _each(found: Iterable[T | None], read: Callable[[T], float]) -> list[float | None]:
    return [None if item is None else read(item) for item in found]


def _largest(values: Sequence[float | None] | None) -> float | None:
    return max((v for v in values or () if v is not None), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    """Over what is defined and finite."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return statistics.fmean(known) if known else None
