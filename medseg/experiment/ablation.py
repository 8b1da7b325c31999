"""A grid turned into runs: composed, made equal, and named by what they do."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg.errors import ConfigError
from medseg.experiment.grid import Grid, folder_name
from medseg.experiment.widths import Equaliser
from medseg.record import AblationPlan, Cell, Matched, digest

log = logging.getLogger(__name__)

Resolve = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Dotted key → value, to be changed, → the resolved configuration."""
Compose = Callable[[Sequence[str]], Resolve]
"""Overrides → the configuration that they compose."""


@dataclass(kw_only=True)
class Planner:
    """Makes the plan of an ablation.

    Args:
        grid: What is asked for.
        compose: What turns overrides into configurations.
        fixed: Overrides that hold for every run.
        equal: In what arms are made equal by their widths; None: in nothing.
        known: Widths that were found before, see `AblationPlan.widths`.
        device: Where latency is measured, if it is.
    """

    grid: Grid
    compose: Compose
    fixed: Sequence[str]
    equal: str | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
    device: Any = None
    widths: dict[str, Any] = field(default_factory=dict)

    def plan(self, **about: Any) -> AblationPlan:
        """The plan; `about` holds its name, budget, margin and command.

        Raises:
            ConfigError: an arm that cannot be made equal, or two arms that do the same.
        """
        reference = self._reference() if self.equal else None
        arms = [self._arm(levels, own, reference) for levels, own in self.grid.arms()]
        cells = [
            _cell(*arm, seed=seed, fold=fold, folds=self.grid.folds)
            for seed, fold in self.grid.repetitions()
            for arm in arms
        ]
        _refuse_twins(cells)
        return AblationPlan(
            factors=self.grid.levels,
            reference=self.grid.reference_levels,
            cells=cells,
            equal=self.equal,
            widths=self.widths,
            **about,
        )

    def _reference(self) -> Equaliser:
        wanted = self.grid.reference_levels
        own = next(overrides for levels, overrides in self.grid.arms() if levels == wanted)
        config = self.compose([*self.fixed, *own])({})
        return Equaliser(quantity=str(self.equal), reference=config, device=self.device)

    def _arm(
        self, levels: dict[str, str], own: list[str], equaliser: Equaliser | None
    ) -> tuple[dict[str, str], list[str], Resolve, Matched | None]:
        overrides, matched = [*self.fixed, *own], None
        resolve = self.compose(overrides)
        if equaliser and levels != self.grid.reference_levels:
            widths, matched = self._equalised(resolve({}), levels, equaliser)
            overrides += widths
            resolve = self.compose(overrides)
        return levels, overrides, resolve, matched

    def _equalised(
        self, config: dict[str, Any], levels: dict[str, str], equaliser: Equaliser
    ) -> tuple[list[str], Matched]:
        key = f"{equaliser.quantity} {digest(equaliser.reference)} {digest(config)}"
        if key not in self.known:
            try:
                overrides, matched = equaliser.overrides(config)
            except ConfigError as error:
                arm = ", ".join(f"{factor} {level}" for factor, level in levels.items())
                raise ConfigError(f"{arm}: {error}") from error
            self.widths[key] = {"overrides": overrides, "value": matched.value}
            self.widths[key]["wanted"] = matched.wanted
        else:
            self.widths[key] = self.known[key]
        found = self.widths[key]
        matched = Matched(quantity=equaliser.quantity, value=found["value"], wanted=found["wanted"])
        return list(found["overrides"]), matched


def _cell(
    levels: dict[str, str],
    overrides: list[str],
    resolve: Resolve,
    matched: Matched | None,
    *,
    seed: int,
    fold: int | None,
    folds: int | None,
) -> Cell:
    repetition: dict[str, Any] = {"seed": seed}
    if fold is not None:
        repetition |= {"data.folds": folds, "data.fold": fold}
    own = digest(resolve(repetition))
    return Cell(
        folder=folder_name(levels, seed, fold, own),
        levels=levels,
        seed=seed,
        fold=fold,
        digest=own,
        overrides=[*overrides, *(f"{key}={value}" for key, value in repetition.items())],
        matched=matched,
    )


def _refuse_twins(cells: Sequence[Cell]) -> None:
    first: dict[str, Cell] = {}
    for cell in cells:
        twin = first.setdefault(cell.digest, cell)
        if twin is not cell:
            raise ConfigError(
                f"{twin.levels} and {cell.levels} are the same configuration; "
                "remove one level, or correct its overrides"
            )
