"""The widths of a network: where its description names them, how they scale, how they are found.

The different widths of a network are its levels, in ascending order. Equal widths stay equal,
whatever stages, halves or keys they belong to.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from medseg.errors import ConfigError
from medseg.models.description import Description

Path = tuple[str, ...]
Levels = tuple[int, ...]

_KEYS = ("channels", "features", "filters", "init_filters", "width")
_LARGEST_MULTIPLE = 64
_LEAST_PRIME = 5

_LARGEST_WIDTH = 2**14
_SLACK = 2  # multiples that a refined width may lie from the scaled one
_MOST_MEASURED = 150  # networks, of a tenth of a second each
_SMALL_FACTOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the levels of a network are scaled and rounded; a level never overtakes a larger one.

    Args:
        levels: The different widths of the network as it is, ascending.
        multiple: All widths are multiples of it, and at least it.
        proportional: Whether all widths keep their exact ratio to the smallest.
    """

    levels: Levels
    multiple: int = 1
    proportional: bool = False

    def at(self, factor: float) -> Levels:
        """The levels times a factor, rounded; they grow with it."""
        if not self.proportional:
            return tuple(self._rounded(level * factor) for level in self.levels)
        smallest = self._rounded(self.levels[0] * factor)
        return tuple(level // self.levels[0] * smallest for level in self.levels)

    def _rounded(self, width: float) -> int:
        return self.multiple * max(1, math.floor(width / self.multiple + 0.5))


def widths_of(description: Description) -> dict[Path, list[int]]:
    """Where a network's widths are named, and which they are; a single number is a list of one.

    Raises:
        ConfigError: nowhere.
    """
    found = {path: _as_list(value) for path, value in _named_widths(description, ())}
    if not found:
        raise ConfigError(
            f"name={description.get('name')!r} names no widths that could be scaled; "
            f"give one of {', '.join(_KEYS)}"
        )
    return found


def levels_of(description: Description) -> Levels:
    """The different widths of a network, ascending.

    Raises:
        ConfigError: it names none.
    """
    return tuple(sorted({width for widths in widths_of(description).values() for width in widths}))


def with_levels(description: Description, levels: Sequence[int]) -> Description:
    """The network with other levels in place of its own.

    Args:
        description: Of the network.
        levels: One for each of its own, in their order.
    """
    new = dict(zip(levels_of(description), levels, strict=True))
    changed: Description = description
    for path, value in _named_widths(description, ()):
        scaled = new[value] if isinstance(value, int) else [new[width] for width in value]
        changed = replaced_at(changed, path, scaled)
    return changed


def fitting_scale(
    description: Description, accepts: Callable[[Description], bool], *, multiple_of: int = 1
) -> Scale:
    """The finest scale that the blocks of a network accept.

    It is tried out at widths without common factors; where none passes, such as where an
    upsampling adds channels up, the widths keep their ratio.

    Args:
        description: Of the network.
        accepts: Whether a description can be built and used.
        multiple_of: All widths are multiples of this.

    Raises:
        ConfigError: no multiple up to 64 times `multiple_of` fits, or it is no whole number.
    """
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise ConfigError(f"multiple_of={multiple_of!r} must be a whole number ≥ 1; for instance 8")
    levels = levels_of(description)
    multiples = range(multiple_of, multiple_of * _LARGEST_MULTIPLE + 1, multiple_of)
    for multiple in multiples:
        if accepts(with_levels(description, _without_common_factors(levels, multiple))):
            return Scale(levels=levels, multiple=multiple)
    for multiple in multiples if _has_whole_ratios(levels) else ():
        prime = _next_prime(levels[0] / multiple)
        if accepts(with_levels(description, [x // levels[0] * prime * multiple for x in levels])):
            return Scale(levels=levels, multiple=multiple, proportional=True)
    raise ConfigError(
        f"widths {list(levels)} can be scaled to no multiple of {multiple_of} up to "
        f"{multiples[-1]} that the blocks accept; choose fewer groups or another --multiple-of"
    )


def replaced_at(description: Description, path: Path, value: Any) -> dict[str, Any]:
    """A copy with another value at a path, whose last key may be new."""
    key, *rest = path
    inner = replaced_at(description[key], tuple(rest), value) if rest else value
    return dict(description) | {key: inner}


def _named_widths(part: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if not isinstance(part, Mapping) or str(part.get("name", "")).startswith("blocks."):
        return
    for key, value in part.items():
        if key in _KEYS and value is not None:
            yield (*path, key), value
        else:
            yield from _named_widths(value, (*path, key))


def _as_list(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _without_common_factors(levels: Levels, multiple: int) -> Levels:
    primes = []
    for level in levels:
        above = primes[-1] + 1 if primes else _LEAST_PRIME
        primes.append(_next_prime(max(level / multiple, above)))
    return tuple(prime * multiple for prime in primes)


def _next_prime(number: float) -> int:
    prime = max(_LEAST_PRIME, math.ceil(number))
    while any(prime % divisor == 0 for divisor in range(2, math.isqrt(prime) + 1)):
        prime += 1
    return prime


def _has_whole_ratios(levels: Levels) -> bool:
    return all(level % levels[0] == 0 for level in levels)


@dataclass(kw_only=True)
class WidthSearch:
    """The levels whose cost is nearest to a wanted one.

    One factor is bisected; then single levels move by up to two multiples. The same question has
    the same answer.

    Args:
        scale: How the levels are rounded.
        quantity: What the cost is called in errors.
        costs: Levels → cost; None where no network can be built.
        wanted: The cost to come near to.
        tolerance: Relative difference at which the search stops.
    """

    scale: Scale
    quantity: str
    costs: Callable[[Levels], float | None]
    wanted: float
    tolerance: float
    _known: dict[Levels, float | None] = field(default_factory=dict)

    def run(self) -> tuple[float, Levels]:
        """The factor and the levels.

        Raises:
            ConfigError: the narrowest network costs more, or no width costs as much.
        """
        below, above = self._bracket()
        while self.scale.at(below) != self.scale.at(above) and above / below > 1 + _SMALL_FACTOR:
            middle = math.sqrt(below * above)
            below, above = (below, middle) if self._is_enough(middle) else (middle, above)
        lower, upper = self.scale.at(below), self.scale.at(above)
        if self._cost(lower) is None and self._error(upper) > self.tolerance:
            cheapest = self._cost(upper) or math.inf
            raise below_smallest(self.quantity, self.wanted, cheapest, upper)
        ends = sorted([(below, lower), (above, upper)], key=lambda end: self._error(end[1]))
        if not self.scale.proportional:
            ends = [(factor, self._refined(levels, factor)) for factor, levels in ends]
        return min(ends, key=lambda end: self._error(end[1]))

    def _cost(self, levels: Levels) -> float | None:
        if levels not in self._known:
            self._known[levels] = self.costs(levels)
        return self._known[levels]

    def _error(self, levels: Levels) -> float:
        cost = self._cost(levels)
        return math.inf if cost is None else abs(cost / self.wanted - 1)

    def _bracket(self) -> tuple[float, float]:
        below = 1 / (4 * self.scale.levels[-1])
        least = self._cost(self.scale.at(below))
        if least is not None and least > self.wanted * (1 + self.tolerance):
            raise below_smallest(self.quantity, self.wanted, least, self.scale.at(below))
        above = 1.0
        while not self._is_enough(above):
            above *= 2
            if self.scale.at(above)[-1] > _LARGEST_WIDTH:
                raise ConfigError(
                    f"{self.quantity}={self.wanted:,.6g} is not reached by widths up to "
                    f"{_LARGEST_WIDTH}; choose a smaller reference or more stages"
                )
        return below, above

    def _is_enough(self, factor: float) -> bool:
        cost = self._cost(self.scale.at(factor))
        return cost is not None and cost >= self.wanted

    def _refined(self, levels: Levels, factor: float) -> Levels:
        while self._error(levels) > self.tolerance and len(self._known) < _MOST_MEASURED:
            better = self._better(levels, factor)
            if better is None:
                break
            levels = better
        return levels

    def _better(self, levels: Levels, factor: float) -> Levels | None:
        """One level moved; where that does not help, two levels against each other."""
        for moves in (self._single_moves(), self._paired_moves()):
            moved = [tuple(a + b for a, b in zip(levels, move, strict=True)) for move in moves]
            allowed = [other for other in moved if self._is_allowed(other, factor)]
            nearest = min(allowed, key=self._error, default=levels)
            if self._error(nearest) < self._error(levels):
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


def below_smallest(quantity: str, wanted: float, least: float, levels: Levels) -> ConfigError:
    """The error for a wanted cost below that of the narrowest network."""
    return ConfigError(
        f"{quantity}={wanted:,.6g} is less than these blocks cost at their smallest widths "
        f"{list(levels)}, {least:,.6g}; choose a larger reference, fewer stages or cheaper blocks"
    )
