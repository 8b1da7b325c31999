"""What each factor of an ablation does to Dice, and whether factors interact."""

import itertools
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medseg.report.arm import Arm
from medseg.report.cells import (
    NOTHING,
    Cell,
    Column,
    Row,
    Table,
    chance,
    fixed,
    interval,
    signed,
    words,
)
from medseg.report.studies import Study
from medseg.statistics import Effect, LevelEffect, effects

_GRIDS = 3  # pictures of pairs of factors


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Mean Dice by the levels of two factors, averaged over all others."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    titles: tuple[str, str]
    means: Mapping[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The factors of one study.

    Args:
        effects: Main effects and two-way interactions; empty without a factor that varies.
        grids: The pairs of factors that interact most.
        left_out: Arms with values that have other factors, or none.
    """

    effects: tuple[Effect, ...]
    grids: tuple[Grid, ...]
    left_out: tuple[Arm, ...]

    @property
    def main(self) -> list[Effect]:
        """Effects of single factors."""
        return [effect for effect in self.effects if effect.levels]

    @property
    def interactions(self) -> list[Effect]:
        """Effects of two factors together."""
        return [effect for effect in self.effects if not effect.levels]


def factors_of(study: Study) -> Factors:
    """The factors that most arms of a study share."""
    known = [arm for arm in study.compared if arm.levels]
    sets = Counter(frozenset(arm.levels) for arm in known)
    if not sets:
        return Factors(effects=(), grids=(), left_out=())
    chosen = max(sets, key=lambda names: (sets[names], len(names)))
    arms = [arm for arm in known if frozenset(arm.levels) == chosen]
    reference = study.reference.arm
    found = effects(
        study.chief.observations,
        {arm.number: arm.levels for arm in arms},
        reference.levels if reference in arms else None,
    )
    left_out = tuple(arm for arm in study.compared if arm not in arms)
    return Factors(
        effects=tuple(found),
        grids=tuple(_grids(study, arms, found)),
        left_out=left_out if found else (),
    )


def effects_table(factors: Factors) -> Table:
    """One row per factor and pair of factors."""
    columns = (
        Column(key="factor", title="Factor"),
        Column(key="share", title="Share", unit="η² of arm means", numeric=True),
        Column(key="f", title="F", numeric=True),
        Column(key="df", title="df", numeric=True),
        Column(key="p", title="p", unit="F-test, these cases", numeric=True),
    )
    return Table(
        caption="Effects on Dice: factors, then pairs of factors",
        columns=columns,
        rows=tuple(Row(cells=_effect(effect)) for effect in factors.effects),
    )


def levels_table(factors: Factors) -> Table:
    """One row per level, against the first level of its factor."""
    columns = (
        Column(key="factor", title="Factor"),
        Column(key="level", title="Level"),
        Column(key="mean", title="Mean Dice", unit="of its arms", numeric=True),
        Column(key="difference", title="Δ", unit="to the first level", numeric=True),
        Column(key="p", title="p", unit="runs and cases", numeric=True),
        Column(key="cases", title="Cases", unit="shared", numeric=True),
    )
    rows = [
        Row(cells=(words(effect.factor), words(level.level), *_level(level)))
        for effect in factors.main
        for level in effect.levels
    ]
    return Table(caption="Levels of each factor", columns=columns, rows=tuple(rows))


def _effect(effect: Effect) -> tuple[Cell, ...]:
    if effect.f is None or effect.share is None:
        none = Cell(text=NOTHING)
        return (words(effect.factor, note=effect.reason), none, none, none, none)
    return (
        words(effect.factor),
        Cell(text=f"{100 * effect.share:.1f} %", value=effect.share),
        Cell(text=f"{effect.f:.3g}", value=effect.f),
        Cell(text=str(effect.df), value=effect.df),
        chance(effect.p_value),
    )


def _level(level: LevelEffect) -> tuple[Cell, ...]:
    mean = Cell(text=fixed(level.mean), value=level.mean)
    found = level.contrast
    if found is None or found.estimate is None:
        none = Cell(text="–")
        return (mean, none, none, none)
    note = interval(found.low, found.high)
    return (
        mean,
        Cell(text=signed(found.estimate), value=found.estimate, note=note),
        chance(found.p_value),
        Cell(text=str(found.cases), value=found.cases),
    )


def _grids(study: Study, arms: Sequence[Arm], found: Sequence[Effect]) -> list[Grid]:
    """Pairs in the order of their interaction's share, those that cannot be told last."""
    names = [effect.factor for effect in found if effect.levels]
    shares = {effect.factor: effect.share or 0.0 for effect in found}
    pairs = sorted(
        itertools.combinations(names, 2), key=lambda pair: -shares.get(" × ".join(pair), 0.0)
    )
    levels = {e.factor: tuple(level.level for level in e.levels) for e in found if e.levels}
    return [
        Grid(
            rows=levels[row],
            columns=levels[column],
            titles=(row, column),
            means=_means(study, arms, row, column),
        )
        for row, column in pairs[:_GRIDS]
    ]


def _means(
    study: Study, arms: Sequence[Arm], row: str, column: str
) -> dict[tuple[str, str], float]:
    by_levels: dict[tuple[str, str], list[float]] = {}
    for arm in arms:
        mean = study.chief.observations.mean(arm.number)
        if mean is not None:
            by_levels.setdefault((arm.levels[row], arm.levels[column]), []).append(mean)
    return {pair: statistics.fmean(means) for pair, means in by_levels.items()}
