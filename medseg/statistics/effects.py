"""What each factor of a grid of arms does: main effects and two-way interactions.

F-tests are those of `anova` on run means: their error is the spread of trainings, cases are fixed,
so they hold for these cases. Differences of levels are contrasts over cases and trainings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.errors import ConfigError
from medseg.statistics.anova import Term, anova
from medseg.statistics.contrast import Contrast, contrast
from medseg.statistics.observations import Observations

Levels = Mapping[int, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class LevelEffect:
    """One level of a factor.

    Attributes:
        level: Its name.
        mean: Over the arms with this level, of their arm means.
        contrast: The level less the first one, averaged over the levels of the other factors that
            both have; None for the first level and without such arms.
    """

    level: str
    mean: float
    contrast: Contrast | None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A factor, or the interaction of two.

    Attributes:
        factor: Its name, or "a × b".
        df: Degrees of freedom, 0 if it cannot be told from the others.
        f: F of the type II sum of squares; None with `reason`.
        p_value: Of F; None with `reason`.
        share: Its sum of squares over that of all arms, η² of arm means; None if not estimable.
        levels: Of a main effect, first level first; empty for an interaction.
        reason: Why there is no F; empty if there is one.
    """

    factor: str
    df: int
    f: float | None
    p_value: float | None
    share: float | None
    levels: tuple[LevelEffect, ...] = ()
    reason: str = ""


def effects(
    observations: Observations, levels: Levels, first: Mapping[str, str] | None = None
) -> list[Effect]:
    """Main effects and two-way interactions of the factors that have several levels.

    Args:
        observations: Values of all arms.
        levels: For each arm its level of every factor; arms without an entry, or without a value,
            are left out.
        first: For each factor the level that others are compared with; by default the one of the
            lowest arm.

    Raises:
        ConfigError: arms with different factors, or a first level that no arm has.
    """
    grid = {a: dict(levels[a]) for a in observations.arms if a in levels and observations.runs(a)}
    named = _ordered_levels(grid, first or {})
    if not named:
        return []
    return [
        Effect(
            factor=" × ".join(term.factors),
            df=term.df,
            f=term.f,
            p_value=term.p_value,
            share=term.share,
            reason=term.reason,
            levels=_of_main(observations, grid, named, term),
        )
        for term in anova(observations.table, grid, named)
    ]


def _ordered_levels(
    grid: Mapping[int, Mapping[str, str]], first: Mapping[str, str]
) -> dict[str, list[str]]:
    """For each factor with several levels its levels, the first one first."""
    factors = {frozenset(own) for own in grid.values()}
    if len(factors) > 1:
        odd = sorted(set.union(*map(set, factors)) - set.intersection(*map(set, factors)))
        raise ConfigError(f"factors {odd}: every arm needs a level of each; name the missing ones")
    named = {}
    for name in next(iter(grid.values()), {}):
        order = list(dict.fromkeys(own[name] for own in grid.values()))
        start = first.get(name, order[0])
        if start not in order:
            raise ConfigError(f"first level {start!r} of {name}: no arm has it; one of {order}")
        if len(order) > 1:
            named[name] = [start, *(level for level in order if level != start)]
    return named


def _of_main(
    observations: Observations,
    grid: Mapping[int, Mapping[str, str]],
    named: Mapping[str, Sequence[str]],
    term: Term,
) -> tuple[LevelEffect, ...]:
    name, *others = term.factors
    return () if others else _level_effects(observations, grid, name, named[name])


def _level_effects(
    observations: Observations,
    grid: Mapping[int, Mapping[str, str]],
    name: str,
    order: Sequence[str],
) -> tuple[LevelEffect, ...]:
    found = []
    for level in order:
        means = [observations.mean(arm) for arm, own in grid.items() if own[name] == level]
        weights = _level_weights(grid, name, level, order[0]) if level != order[0] else {}
        found.append(
            LevelEffect(
                level=level,
                mean=float(np.mean([mean for mean in means if mean is not None])),
                contrast=contrast(observations, weights) if weights else None,
            )
        )
    return tuple(found)


def _level_weights(
    grid: Mapping[int, Mapping[str, str]], name: str, level: str, first: str
) -> dict[int, float]:
    """The level less the first one, averaged over what the other factors have in common."""
    arms: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for arm, own in grid.items():
        others = tuple(own[factor] for factor in sorted(own) if factor != name)
        arms.setdefault(others, {}).setdefault(own[name], []).append(arm)
    both = [found for found in arms.values() if level in found and first in found]
    weights = {}
    for found in both:
        for sign, side in ((1.0, level), (-1.0, first)):
            for arm in found[side]:
                weights[arm] = sign / (len(both) * len(found[side]))
    return weights
