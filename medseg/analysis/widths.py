"""The widths of a network: where its description names them, and how they are scaled."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.errors import ConfigError
from medseg.models.description import Description

Path = tuple[str, ...]
Levels = tuple[int, ...]

_KEYS = ("channels", "features", "filters", "init_filters", "width")
_LARGEST_MULTIPLE = 64
_LEAST_PRIME = 5


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How widths are rounded.

    The different widths of a network are its levels. Equal widths stay equal, whatever stages,
    halves or keys they belong to, and a level never overtakes a larger one.

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
        replaced = new[value] if isinstance(value, int) else [new[width] for width in value]
        changed = replaced_at(changed, path, replaced)
    return changed


def scale_widths(description: Description, factor: float, *, multiple_of: int = 1) -> Description:
    """The network with all widths times a factor, each rounded to a multiple and at least it.

    Raises:
        ConfigError: it names no widths, or the multiple or the factor is none.
    """
    if not 0 < factor < math.inf:
        raise ConfigError(f"factor={factor} must be positive and finite; for instance 0.5")
    scale = Scale(levels=levels_of(description), multiple=checked_multiple(multiple_of))
    return with_levels(description, scale.at(factor))


def fitting_scale(
    description: Description, accepts: Callable[[Description], bool], *, multiple_of: int = 1
) -> Scale:
    """The finest scale that the blocks of a network accept.

    It is tried out at widths without common factors; where none passes, such as where an
    upsampling adds channels up, the widths keep their ratio.

    Args:
        description: Of the network.
        accepts: Whether a description can be built and used.
        multiple_of: The multiple is one of this.

    Raises:
        ConfigError: there is none up to 64 times `multiple_of`.
    """
    levels, step = levels_of(description), checked_multiple(multiple_of)
    multiples = range(step, step * _LARGEST_MULTIPLE + 1, step)
    for multiple in multiples:
        if accepts(with_levels(description, _without_common_factors(levels, multiple))):
            return Scale(levels=levels, multiple=multiple)
    for multiple in multiples if _has_whole_ratios(levels) else ():
        prime = _next_prime(levels[0] / multiple)
        if accepts(with_levels(description, [x // levels[0] * prime * multiple for x in levels])):
            return Scale(levels=levels, multiple=multiple, proportional=True)
    raise ConfigError(
        f"widths {list(levels)} can be scaled to no multiple of {step} up to {multiples[-1]} that "
        "the blocks accept; choose fewer groups or another --multiple-of"
    )


def checked_multiple(multiple_of: int) -> int:
    """The multiple.

    Raises:
        ConfigError: it is not a whole number from 1.
    """
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise ConfigError(f"multiple_of={multiple_of!r} must be a whole number ≥ 1; for instance 8")
    return multiple_of


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
