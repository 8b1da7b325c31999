"""Maps, labels and decisions of one case, as the measures of cases see them."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from torch import Tensor

from medseg.checkerboard.boundaries import boundary_distance, boundary_snapping, saddle_rate
from medseg.checkerboard.layers import StrideGrid
from medseg.checkerboard.moments import PhaseMoments, coarser
from medseg.checkerboard.seasonal import (
    Additive,
    Gain,
    additive,
    eta_squared_by_level,
    gain,
    staircase,
)
from medseg.checkerboard.spectrum import GridLine, grid_line
from medseg.checkerboard.windows import CaseWindows, ErrorCounts


class CaseMaps:
    """Maps of one case: the logits of its classes, the channels of its input, or its truth.

    Args:
        moments: Sums over the windows of the case, for each map.
        window: The same maps in the one window with the most predicted foreground.
        grid: Of the network; its period is the moments' own.
        reference: The input, beside the logits.
    """

    def __init__(
        self,
        moments: Sequence[PhaseMoments],
        window: Sequence[Tensor],
        grid: StrideGrid,
        reference: "CaseMaps | None" = None,
    ):
        self.moments = moments
        self.window = window
        self.grid = grid
        self.reference = reference

    @cached_property
    def gains(self) -> list[Gain]:
        """Gain of each map that has one, by phase of the tested period."""
        found = (gain(coarser(m, self.grid.tested)) for m in self.moments)
        return [fit for fit in found if fit is not None]

    @cached_property
    def patterns(self) -> list[Additive]:
        """Fixed pattern of each map that has one."""
        found = (additive(m) for m in self.moments)
        return [fit for fit in found if fit is not None]

    @property
    def kappa(self) -> float | None:
        """Mean gain κ over maps."""
        return mean_of(fit.kappa for fit in self.gains)

    @property
    def kappa_excess(self) -> float | None:
        """Mean gain κ over that of the input."""
        return difference(self.kappa, self.reference.kappa if self.reference else None)

    def mean(self, fits: Sequence[Gain] | Sequence[Additive], name: str) -> float | None:
        """Mean over maps of one number of their fits."""
        return mean_of(getattr(fit, name) for fit in fits)

    def eta_squared_by_level(self) -> list[float | None]:
        """Mean share of the residual for each level of the decoder, finest first."""
        found = [eta_squared_by_level(m, self.grid.levels) for m in self.moments]
        known = [shares for shares in found if shares is not None]
        return [mean_of(s[level] for s in known) for level in range(len(self.grid.levels))]

    def staircase(self) -> float | None:
        """Mean over maps of the largest κ of any axis."""
        by_axis = (staircase(m) or () for m in self.moments)
        return mean_of(max((k for k in axes if k is not None), default=None) for axes in by_axis)

    @cached_property
    def line(self) -> GridLine | None:
        """The strongest line of any map in its window; None for a window too short for lines."""
        try:
            lines = [grid_line(m, self.grid.period) for m in self.window]
        except ValueError:
            return None
        found = [line for line in lines if line is not None]
        return min(found, key=lambda line: (line.p_value, -line.decibel), default=None)

    def line_p(self) -> float | None:
        """P of the strongest line, corrected for the number of maps."""
        return None if self.line is None else min(1.0, len(self.window) * self.line.p_value)


class CaseScores:
    """Metrics of several predictions of one case.

    Args:
        by_prediction: `{suffix: {class: {metric: value}}}`; suffixes are "" for the plain
            prediction, `_spun` for the cycle-spun one and `_control` for the one averaged over
            shifts by whole periods.
    """

    def __init__(self, by_prediction: Mapping[str, Mapping[str, Mapping[str, float | None]]]):
        self.by_prediction = by_prediction

    def mean(self, metric: str, suffix: str = "") -> float | None:
        """Mean over the classes where the metric is defined."""
        return mean_of(m[metric] for m in self.by_prediction.get(suffix, {}).values())

    def change(self, metric: str) -> float | None:
        """Cycle-spun prediction less control: what the phases cost."""
        return difference(self.mean(metric, "_spun"), self.mean(metric, "_control"))


def snapping(windows: CaseWindows, *, truth: bool = False) -> float | None:
    """Mean over axes of `boundary_snapping`."""
    counts = windows.true_boundaries if truth else windows.boundaries
    return mean_of(boundary_snapping(h) for h in counts.histograms if h is not None)


def saddles(windows: CaseWindows, *, truth: bool = False) -> float | None:
    """`saddle_rate` in the window with the most predicted foreground."""
    if windows.exemplar is None:
        return None
    labels = windows.exemplar.truth if truth else windows.exemplar.logits.argmax(0)
    return None if labels is None else saddle_rate(labels)


def distance_to_truth(windows: CaseWindows) -> float | None:
    """Mean over axes of `boundary_distance`."""
    pairs = zip(windows.boundaries.histograms, windows.true_boundaries.histograms, strict=True)
    return mean_of(boundary_distance(a, b) for a, b in pairs if a is not None and b is not None)


def error_spread(errors: ErrorCounts) -> float | None:
    """Standard deviation over phases of the share of wrong voxels, over its mean."""
    if errors.wrong is None or errors.voxels is None or not errors.wrong.any():
        return None
    rates = errors.wrong / errors.voxels
    return float(rates.std(correction=0) / rates.mean())


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of what is defined and finite, None of nothing."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return statistics.fmean(known) if known else None


def difference(a: float | None, b: float | None) -> float | None:
    """`a − b`, None where either is undefined."""
    return None if a is None or b is None else a - b
