"""The width at which a network's training step takes as long as another's on this machine."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from medseg.analysis.quantity import LATENCY, Load, measure
from medseg.analysis.timing import Call, Clock, CpuClock, GpuClock, interleave
from medseg.analysis.timing_results import STEP
from medseg.analysis.width import (
    Match,
    checked_tolerance,
    scale_for,
    solve_width,
    too_little,
)
from medseg.analysis.widths import Levels, Scale, with_levels
from medseg.analysis.workloads import CONTIGUOUS, Setting, network_candidate
from medseg.errors import ConfigError, ResourceError
from medseg.models.description import Description, build_network

_TOLERANCE = 0.05
_ROUNDS = 5
_MEASUREMENTS = 10
_MOST_REPEATED = 3  # of the same widths
_USUAL_POWER = 1.5  # of the width, with which time grows
_LARGEST_STEP = 4.0
_MARGIN = 0.1  # share of the bracket that a guess keeps from its ends

_HIGHEST = (math.inf, 0.0)

_Times = tuple[float, float]


def match_latency(
    reference: Description,
    other: Description,
    load: Load,
    *,
    device: torch.device | None = None,
    clock: Clock | None = None,
    rounds: int = _ROUNDS,
    multiple_of: int = 1,
    tolerance: float = _TOLERANCE,
) -> Match:
    """Scales all widths of a network until its training step takes as long as the reference's.

    Each measurement times both in turn, in fp32, and compares their medians: what slows the
    machine down slows both. At most ten are made; the nearest is given back.

    Args:
        reference: The network that stays.
        other: The network whose widths change.
        load: What both are given.
        device: Where they are timed; None: the CPU.
        clock: What times a step; None: the device's.
        rounds: Measured steps of each network per measurement.
        multiple_of: The widths are multiples of this.
        tolerance: Relative difference at which the search stops.

    Raises:
        ConfigError: even the narrowest network is slower, or one cannot be built.
        ResourceError: a network cannot run on this device.
    """
    checked_tolerance(tolerance)
    device = device or torch.device("cpu")
    clock = clock or (CpuClock() if device.type == "cpu" else GpuClock())
    scale = scale_for(other, load, multiple_of=multiple_of)
    step = _training_step(reference, load, device)

    def times(levels: Levels) -> _Times:
        own = _training_step(with_levels(other, levels), load, device)
        return _medians(own, step, rounds, clock)

    first = _factor_of_equal_macs(reference, other, load, multiple_of)
    search = _Search(scale=scale, times=times, tolerance=tolerance)
    factor, levels, (value, wanted) = search.run(first)
    return Match(
        description=with_levels(other, levels),
        factor=factor,
        multiple=scale.multiple,
        value=value,
        wanted=wanted,
    )


def _training_step(description: Description, load: Load, device: torch.device) -> Call:
    network = build_network(description)
    shape = (load.batch, load.in_channels, *load.patch_size)
    candidate = network_candidate(LATENCY, network, shape, macs=0)
    return candidate.calls(Setting(device, "fp32", CONTIGUOUS))[STEP]


def _medians(own: Call, reference: Call, rounds: int, clock: Clock) -> _Times:
    outcomes = interleave({"own": own, "reference": reference}, rounds, clock)
    for outcome in outcomes.values():
        if outcome.failure:
            raise ResourceError(f"a training step failed: {outcome.failure}; choose a smaller load")
    own_median, reference_median = (
        statistics.median(outcomes[name].samples_milliseconds) for name in ("own", "reference")
    )
    return own_median, reference_median


def _factor_of_equal_macs(
    reference: Description, other: Description, load: Load, multiple_of: int
) -> float:
    """A first guess that costs no measurement."""
    wanted = measure("macs", reference, load)
    try:
        return solve_width(
            other, wanted, "macs", load, multiple_of=multiple_of, tolerance=_TOLERANCE
        ).factor
    except ConfigError:
        return 1.0


@dataclass(kw_only=True)
class _Measured:
    """All that was measured at one set of widths."""

    factor: float
    times: list[_Times] = field(default_factory=list)

    @property
    def pooled(self) -> _Times:
        own, reference = zip(*self.times, strict=True)
        return statistics.median(own), statistics.median(reference)

    @property
    def point(self) -> _Times:
        """Logarithms of the factor and of the ratio of both times."""
        own, reference = self.pooled
        return math.log(self.factor), math.log(own / reference)


@dataclass(kw_only=True)
class _Search:
    """The factor at which the ratio of two noisy times is nearest to 1."""

    scale: Scale
    times: Callable[[Levels], _Times]
    tolerance: float
    _known: dict[Levels, _Measured] = field(default_factory=dict)

    def run(self, factor: float) -> tuple[float, Levels, _Times]:
        for _ in range(_MEASUREMENTS):
            levels = self.scale.at(factor)
            here = self._known.setdefault(levels, _Measured(factor=factor))
            here.times.append(self.times(levels))
            own, reference = here.pooled
            if abs(own / reference - 1) <= self.tolerance or len(here.times) == _MOST_REPEATED:
                break
            if own > reference and levels == self.scale.at(0):
                raise too_little(LATENCY, reference, own, levels)
            factor = math.exp(self._next())
        levels, nearest = min(self._known.items(), key=lambda known: abs(known[1].point[1]))
        return nearest.factor, levels, nearest.pooled

    def _next(self) -> float:
        """Where the line from the nearest faster to the slower point crosses; else a step on."""
        points = sorted(measured.point for measured in self._known.values())
        slower = [point for point in points if point[1] > 0]
        # what noise or odd widths make faster above a slower point is no bracket
        faster = [point for point in points if point[1] <= 0 and point < (slower or [_HIGHEST])[0]]
        if not slower:
            return _stepped(faster[-1], len(faster))
        if not faster:
            return _stepped(slower[0], len(slower))
        (low, below), (high, above) = faster[-1], slower[0]
        share = below / (below - above)
        return low + (high - low) * min(max(share, _MARGIN), 1 - _MARGIN)


def _stepped(point: _Times, count: int) -> float:
    """A step that doubles with every point on the same side."""
    at, ratio = point
    most, step = math.log(_LARGEST_STEP), 2 ** (count - 1) * ratio / _USUAL_POWER
    return at - min(max(step, -most), most)
