"""Two networks brought to equal cost, by the widths of one of them.

Parameters, multiply-accumulates and memory are counted; the search is exact and repeatable.
Latency is measured on this machine; the search allows for its noise.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medseg.analysis.cost import LATENCY, Load, abstract_network, count_macs, measure
from medseg.analysis.timing import Clock, cpu_milliseconds, gpu_milliseconds, interleave
from medseg.analysis.widths import (
    Levels,
    Path,
    Scale,
    WidthSearch,
    below_smallest,
    fitting_scale,
    widths_of,
    with_levels,
)
from medseg.errors import ConfigError, ResourceError
from medseg.models.description import Description, build_network

_TOLERANCE = 1e-3
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)

_LATENCY_TOLERANCE = 0.05
_ROUNDS = 5
_MEASUREMENTS = 10
_USUAL_POWER = 1.5  # of the width, with which time grows
_LARGEST_STEP = 4.0

_Times = tuple[float, float]  # of a network and of the reference, in milliseconds


@dataclass(frozen=True, kw_only=True)
class Match:
    """A network whose cost was brought to a wanted amount.

    Args:
        description: Of the network.
        factor: By which its widths were multiplied before they were rounded and refined.
        multiple: All widths are multiples of it.
        value: What it costs.
        wanted: What it should cost.
    """

    description: Description
    factor: float
    multiple: int
    value: float
    wanted: float

    @property
    def error(self) -> float:
        """Relative difference that is left; positive where the network costs more."""
        return self.value / self.wanted - 1

    @property
    def widths(self) -> dict[Path, list[int]]:
        """Where the widths are named, and which they are."""
        return widths_of(self.description)


def match(
    reference: Description, other: Description, quantity: str, load: Load, **options: Any
) -> Match:
    """Scales the widths of `other` until it costs what `reference` does.

    Args:
        reference: The network that stays.
        other: The network whose widths change.
        quantity: One of `cost.QUANTITIES`, or `latency`.
        load: The input of both.
        options: Of `solve_width`, or of `match_latency`.

    Raises:
        ConfigError: as those two.
        ResourceError: as `match_latency`.
    """
    if quantity == LATENCY:
        return match_latency(reference, other, load, **options)
    return solve_width(other, measure(quantity, reference, load), quantity, load, **options)


def solve_width(
    description: Description,
    wanted: float,
    quantity: str,
    load: Load,
    *,
    multiple_of: int = 1,
    tolerance: float = _TOLERANCE,
) -> Match:
    """Scales all widths of a network until it costs a wanted amount.

    The error that rounding leaves is in the result. Memory does not everywhere grow with the width
    (a CPU unfolds small images, large ones not); then the width is near, and there may be a nearer
    one.

    Args:
        description: Of the network.
        wanted: The amount; bytes, if it is memory.
        quantity: One of `cost.QUANTITIES`.
        load: The input of the network.
        multiple_of: The widths are multiples of this; of a larger one where the blocks ask for it.
        tolerance: Relative difference at which the search stops, in [0, 1).

    Raises:
        ConfigError: the amount lies below that of the narrowest network, or no width reaches it;
            or what `scale_for` and `measure` refuse.
    """
    if not 0 < wanted < math.inf:
        raise ConfigError(f"{quantity}={wanted} must be positive and finite; for instance 1000000")
    _check_tolerance(tolerance)
    measure(quantity, description, load)  # refuses what no width would mend
    scale = scale_for(description, load, multiple_of=multiple_of)

    def costs(levels: Levels) -> float | None:
        try:
            return measure(quantity, with_levels(description, levels), load)
        except ConfigError:
            return None

    search = WidthSearch(
        scale=scale, quantity=quantity, costs=costs, wanted=wanted, tolerance=tolerance
    )
    factor, levels = search.run()
    solved = with_levels(description, levels)
    return Match(
        description=solved,
        factor=factor,
        multiple=scale.multiple,
        value=measure(quantity, solved, load),
        wanted=wanted,
    )


def scale_for(description: Description, load: Load, *, multiple_of: int = 1) -> Scale:
    """The finest scale at which a network can be built, stays depthwise and accepts its patch.

    Raises:
        ConfigError: as `fitting_scale`.
    """
    usual = _depthwise(abstract_network(description))

    def accepts(other: Description) -> bool:
        try:
            network = abstract_network(other)
            if _depthwise(network) != usual:
                return False
            count_macs(network, load.in_channels, load.patch_size)
        except ConfigError:
            return False
        return True

    return fitting_scale(description, accepts, multiple_of=multiple_of)


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance={tolerance} must lie in [0, 1); for instance 0.01")


def _depthwise(network: nn.Module) -> list[bool]:
    """Which convolutions have as many groups as channels; some have only if widths are in ratio."""
    convolutions = (m for m in network.modules() if isinstance(m, _CONVOLUTIONS))
    return [m.groups == min(m.in_channels, m.out_channels) for m in convolutions]


class TrainingStep:
    """One forward and backward pass in fp32 of the mean of a network's squared logits.

    Args:
        description: Of the network, which is built with new weights.
        load: Its input.
        device: Where it computes.
    """

    def __init__(self, description: Description, load: Load, device: torch.device):
        self.network = build_network(description).to(device).train()
        shape = (load.batch, load.in_channels, *load.patch_size)
        self.image = torch.randn(shape).to(device)
        self.parameters = list(self.network.parameters())

    def __call__(self) -> None:
        """Computes both passes; the gradients are thrown away."""
        loss = self.network(self.image).float().square().mean()
        torch.autograd.grad(loss, self.parameters, allow_unused=True)


def match_latency(
    reference: Description,
    other: Description,
    load: Load,
    *,
    device: torch.device | None = None,
    clock: Clock | None = None,
    rounds: int = _ROUNDS,
    multiple_of: int = 1,
    tolerance: float = _LATENCY_TOLERANCE,
) -> Match:
    """Scales all widths of a network until its training step takes as long as the reference's.

    Each measurement times both in turn and compares their medians: what slows the machine down
    slows both. At most ten are made; the result is the nearest.

    Args:
        reference: The network that stays.
        other: The network whose widths change.
        load: The input of both.
        device: Where they are timed; None: the CPU.
        clock: Times a step; None: the device's.
        rounds: Measured steps of each network per measurement.
        multiple_of: The widths are multiples of this.
        tolerance: Relative difference at which the search stops, in [0, 1).

    Raises:
        ConfigError: even the narrowest network is slower, or one cannot be built.
        ResourceError: a network cannot run on this device.
    """
    _check_tolerance(tolerance)
    device = device or torch.device("cpu")
    clock = clock or (cpu_milliseconds if device.type == "cpu" else gpu_milliseconds)
    scale = scale_for(other, load, multiple_of=multiple_of)
    step = TrainingStep(reference, load, device)

    def times(levels: Levels) -> _Times:
        own = TrainingStep(with_levels(other, levels), load, device)
        return _medians(own, step, rounds, clock)

    first = _factor_of_equal_macs(reference, other, load, multiple_of)
    factor, levels, (value, wanted) = _equal_times(scale, times, tolerance, first)
    return Match(
        description=with_levels(other, levels),
        factor=factor,
        multiple=scale.multiple,
        value=value,
        wanted=wanted,
    )


def _medians(own: TrainingStep, reference: TrainingStep, rounds: int, clock: Clock) -> _Times:
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
            other, wanted, "macs", load, multiple_of=multiple_of, tolerance=_LATENCY_TOLERANCE
        ).factor
    except ConfigError:
        return 1.0


def _equal_times(
    scale: Scale, times: Callable[[Levels], _Times], tolerance: float, factor: float
) -> tuple[float, Levels, _Times]:
    """The factor and the levels whose two noisy times are nearest to each other, and the times.

    The factor grows or shrinks until it has been too small and too large, then it is bisected.
    """
    found: dict[Levels, tuple[float, _Times]] = {}
    slower, faster = [], []
    for _ in range(_MEASUREMENTS):
        levels = scale.at(factor)
        if levels in found:
            break
        own, reference = times(levels)
        found[levels] = factor, (own, reference)
        if abs(own / reference - 1) <= tolerance:
            break
        if own > reference and levels == scale.at(0):
            raise below_smallest(LATENCY, reference, own, levels)
        (slower if own > reference else faster).append(factor)
        if slower and faster:
            factor = math.sqrt(min(slower) * max(faster))
        else:
            step = (own / reference) ** (len(found) / _USUAL_POWER)
            factor /= min(max(step, 1 / _LARGEST_STEP), _LARGEST_STEP)
    levels, (factor, nearest) = min(
        found.items(), key=lambda item: abs(math.log(item[1][1][0] / item[1][1][1]))
    )
    return factor, levels, nearest
