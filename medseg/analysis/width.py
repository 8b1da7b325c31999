"""The width at which a network costs a wanted amount."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations

from torch import nn

from medseg.analysis.cost import count_macs
from medseg.analysis.quantity import Load, abstract_network, measure
from medseg.analysis.widths import Levels, Path, Scale, fitting_scale, widths_of, with_levels
from medseg.errors import ConfigError
from medseg.models.description import Description

_TOLERANCE = 1e-3
_LARGEST_WIDTH = 2**14
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_SLACK = 2  # multiples that a refined width may lie from the scaled one
_MOST_MEASURED = 150  # networks, of a tenth of a second each
_SMALL_FACTOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class Match:
    """A network whose cost was brought to a wanted amount.

    Args:
        description: Of the network.
        factor: By which its widths were multiplied before they were rounded and refined.
        multiple: What all of them are multiples of.
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

    One factor is bisected; then single widths move by up to two multiples. The same question has
    the same answer, and the error that the rounding leaves is said. Memory does not everywhere grow
    with the width (a CPU unfolds small images, large ones not); then it is a near width, and there
    may be a nearer one.

    Args:
        description: Of the network.
        wanted: The amount; bytes, if it is memory.
        quantity: One of `quantity.QUANTITIES`.
        load: What the network is given.
        multiple_of: The widths are multiples of this; of a larger one where the blocks ask for it.
        tolerance: Relative difference at which the refinement stops.

    Raises:
        ConfigError: the amount lies below that of the narrowest network, or no width reaches it;
            or what `fitting_scale` and `measure` refuse.
    """
    if not 0 < wanted < math.inf:
        raise ConfigError(f"{quantity}={wanted} must be positive and finite; for instance 1000000")
    checked_tolerance(tolerance)
    costs = partial(_costs, quantity, load)
    measure(quantity, description, load)
    scale = scale_for(description, load, multiple_of=multiple_of)
    search = _Search(
        scale=scale,
        costs=lambda levels: costs(with_levels(description, levels)),
        wanted=wanted,
        tolerance=tolerance,
    )
    factor, levels = search.run(quantity)
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


def checked_tolerance(tolerance: float) -> float:
    """The tolerance.

    Raises:
        ConfigError: it is not between 0 and 1.
    """
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance={tolerance} must lie in [0, 1); for instance 0.01")
    return tolerance


def too_little(quantity: str, wanted: float, least: float, levels: Levels) -> ConfigError:
    """What is said where even the narrowest network costs more than is wanted."""
    return ConfigError(
        f"{quantity}={wanted:,.6g} is less than these blocks cost at their smallest widths "
        f"{list(levels)}, {least:,.6g}; choose a larger reference, fewer stages or cheaper blocks"
    )


def _depthwise(network: nn.Module) -> list[bool]:
    """Which convolutions have as many groups as channels; some have only if widths are in ratio."""
    convolutions = (m for m in network.modules() if isinstance(m, _CONVOLUTIONS))
    return [m.groups == min(m.in_channels, m.out_channels) for m in convolutions]


def _costs(quantity: str, load: Load, description: Description) -> float | None:
    """What a network costs; None where it is impossible."""
    try:
        return measure(quantity, description, load)
    except ConfigError:
        return None


@dataclass(kw_only=True)
class _Search:
    """The levels whose cost is nearest to the wanted one."""

    scale: Scale
    costs: Callable[[Levels], float | None]
    wanted: float
    tolerance: float
    _known: dict[Levels, float | None] = field(default_factory=dict)

    def run(self, quantity: str) -> tuple[float, Levels]:
        below, above = self._bracket(quantity)
        while self.scale.at(below) != self.scale.at(above) and above / below > 1 + _SMALL_FACTOR:
            middle = math.sqrt(below * above)
            below, above = (below, middle) if self._is_enough(middle) else (middle, above)
        lower, upper = self.scale.at(below), self.scale.at(above)
        if self.value(lower) is None and self.error(upper) > self.tolerance:
            raise too_little(quantity, self.wanted, self.value(upper) or math.inf, upper)
        ends = sorted([(below, lower), (above, upper)], key=lambda end: self.error(end[1]))
        if not self.scale.proportional:
            ends = [(factor, self._refined(levels, factor)) for factor, levels in ends]
        return min(ends, key=lambda end: self.error(end[1]))

    def value(self, levels: Levels) -> float | None:
        if levels not in self._known:
            self._known[levels] = self.costs(levels)
        return self._known[levels]

    def error(self, levels: Levels) -> float:
        value = self.value(levels)
        return math.inf if value is None else abs(value / self.wanted - 1)

    def _bracket(self, quantity: str) -> tuple[float, float]:
        below = 1 / (4 * self.scale.levels[-1])
        least = self.value(self.scale.at(below))
        if least is not None and least > self.wanted * (1 + self.tolerance):
            raise too_little(quantity, self.wanted, least, self.scale.at(below))
        above = 1.0
        while not self._is_enough(above):
            above *= 2
            if self.scale.at(above)[-1] > _LARGEST_WIDTH:
                raise ConfigError(
                    f"{quantity}={self.wanted:,.6g} is not reached by widths up to "
                    f"{_LARGEST_WIDTH}; choose a smaller reference or more stages"
                )
        return below, above

    def _is_enough(self, factor: float) -> bool:
        value = self.value(self.scale.at(factor))
        return value is not None and value >= self.wanted

    def _refined(self, levels: Levels, factor: float) -> Levels:
        while self.error(levels) > self.tolerance and len(self._known) < _MOST_MEASURED:
            better = self._better(levels, factor)
            if better is None:
                break
            levels = better
        return levels

    def _better(self, levels: Levels, factor: float) -> Levels | None:
        """One width moved; where that does not help, two widths against each other."""
        for moves in (self._single_moves(), self._paired_moves()):
            moved = [tuple(a + b for a, b in zip(levels, move, strict=True)) for move in moves]
            allowed = [other for other in moved if self._is_allowed(other, factor)]
            nearest = min(allowed, key=self.error, default=levels)
            if self.error(nearest) < self.error(levels):
                return nearest
        return None

    def _is_allowed(self, levels: Levels, factor: float) -> bool:
        near = all(
            abs(level - old * factor) <= _SLACK * self.scale.multiple
            for level, old in zip(levels, self.scale.levels, strict=True)
        )
        return near and levels[0] >= self.scale.multiple and list(levels) == sorted(levels)

    def _single_moves(self) -> Iterator[Levels]:
        count, step = len(self.scale.levels), self.scale.multiple
        for place in reversed(range(count)):
            for move in (-step, step):
                yield tuple(move if index == place else 0 for index in range(count))

    def _paired_moves(self) -> Iterator[Levels]:
        count, step = len(self.scale.levels), self.scale.multiple
        for one, other in permutations(range(count), 2):
            for move in (step, 2 * step):
                yield tuple(
                    move * (index == one) - step * (index == other) for index in range(count)
                )
                yield tuple(
                    step * (index == other) - move * (index == one) for index in range(count)
                )
