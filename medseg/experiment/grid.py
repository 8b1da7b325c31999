"""Factors, levels, seeds and folds → the runs of a grid, each known by what it does."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from medseg.analysis.cost import LATENCY, QUANTITIES, Load
from medseg.analysis.match import match as match_widths
from medseg.errors import ConfigError
from medseg.models.description import describe
from medseg.record import AblationPlan, Cell, Matched, digest

Resolve = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Dotted key → value, to be changed, → the resolved configuration."""
Compose = Callable[[Sequence[str]], Resolve]
"""Overrides → the configuration that they compose."""

_LONGEST_NAME = 100  # of 255 bytes that a file system allows
_DIGITS = 8


@dataclass(frozen=True)
class Level:
    """One value of a factor, and the overrides that choose it."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Factor:
    """What is varied, and the levels it takes."""

    name: str
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        names = [level.name for level in self.levels]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"factor {self.name} has the levels {names}; give at least one, each once"
            )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of levels, trained with every seed on every fold.

    Args:
        factors: What is varied.
        seeds: Of the trainings.
        folds: Of a cross-validation, all of which are trained; None: one split.
        reference: Factor → level of the arm that the others are compared with; the first level
            of a factor where it is not said.
    """

    factors: tuple[Factor, ...]
    seeds: tuple[int, ...]
    folds: int | None
    reference: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"ablation.seeds={list(self.seeds)}; give at least one, each once")
        known = {factor.name: [level.name for level in factor.levels] for factor in self.factors}
        for name, level in self.reference.items():
            if level not in known.get(name, []):
                raise ConfigError(
                    f"ablation.reference.{name}={level} is no level of this grid; it has "
                    f"{', '.join(f'{factor}: {levels}' for factor, levels in known.items())}"
                )

    @property
    def levels(self) -> dict[str, list[str]]:
        """Factor → names of its levels."""
        return {factor.name: [level.name for level in factor.levels] for factor in self.factors}

    @property
    def reference_levels(self) -> dict[str, str]:
        """Factor → level of the reference."""
        return {name: self.reference.get(name, levels[0]) for name, levels in self.levels.items()}

    def arms(self) -> Iterator[tuple[dict[str, str], list[str]]]:
        """Levels and overrides of every arm."""
        for levels in itertools.product(*(factor.levels for factor in self.factors)):
            named = {f.name: level.name for f, level in zip(self.factors, levels, strict=True)}
            yield named, [override for level in levels for override in level.overrides]

    def repetitions(self) -> Iterator[tuple[int, int | None]]:
        """Seed and fold of every run of an arm: all arms get their first before a second begins."""
        folds = [None] if self.folds is None else range(self.folds)
        yield from itertools.product(self.seeds, folds)


def folder_name(levels: Mapping[str, str], seed: int, fold: int | None, digest: str) -> str:
    """A name that tells people what a run is, and that only this configuration has.

    >>> folder_name({"conv": "dilated", "conv.groups": "2"}, 0, None, "0123456789ab")
    'dilated-groups_2-seed0-01234567'
    """
    said = [
        level if level[:1].isalpha() else f"{factor.rpartition('.')[2]}_{level}"
        for factor, level in levels.items()
    ]
    words = [re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_.") for text in said]
    place = f"seed{seed}" if fold is None else f"seed{seed}-fold{fold}"
    text = "-".join(filter(None, words))[:_LONGEST_NAME]
    return "-".join(filter(None, [text, place, digest[:_DIGITS]]))


@dataclass(frozen=True, kw_only=True)
class CostMatching:
    """Scales the widths of arms until they cost as much as the reference.

    Args:
        quantity: `parameters`, `macs`, `memory`, `inference_memory` or `latency`.
        reference: The resolved configuration of the arm that stays.
        device: Where latency is measured; None: the CPU.
        known: Widths that were found before, see `AblationPlan.widths`.
        found: The widths of this plan's arms, in the same form.
    """

    quantity: str
    reference: dict[str, Any]
    device: torch.device | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    def overrides(self, config: dict[str, Any]) -> tuple[list[str], Matched]:
        """The overrides that give an arm its widths, and the cost that they reach.

        Raises:
            ConfigError: no width makes the arm cost as much.
        """
        key = f"{self.quantity} {digest(self.reference)} {digest(config)}"
        widths = self.found[key] = self.known.get(key) or self._search(config)
        matched = Matched(quantity=self.quantity, value=widths["value"], wanted=widths["wanted"])
        return list(widths["overrides"]), matched

    def _search(self, config: dict[str, Any]) -> dict[str, Any]:
        data = config["data"]
        load = Load(
            in_channels=data["in_channels"],
            patch_size=tuple(data["patch_size"]),
            batch=data["batch_size"],
        )
        options = {"device": self.device} if self.quantity == LATENCY else {}
        networks = (describe(self.reference["model"]), describe(config["model"]))
        match = match_widths(*networks, self.quantity, load, **options)
        overrides = [
            f"model.{'.'.join(path)}={override_text(widths)}"
            for path, widths in match.widths.items()
        ]
        value, wanted = float(match.value), float(match.wanted)
        return {"overrides": overrides, "value": value, "wanted": wanted}


def override_text(widths: Sequence[int]) -> str:
    """Widths as the value of an override.

    >>> override_text([8, 16]), override_text([8])
    ('[8,16]', '8')
    """
    return str(widths[0]) if len(widths) == 1 else f"[{','.join(map(str, widths))}]"


def plan_ablation(
    grid: Grid,
    compose: Compose,
    *,
    fixed: Sequence[str] = (),
    equal: str | None = None,
    known: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    **about: Any,
) -> AblationPlan:
    """Plans the runs of a grid: composed, matched in cost, and named by what they do.

    Args:
        grid: What is asked for.
        compose: What turns overrides into configurations.
        fixed: Overrides that hold for every run.
        equal: The cost that arms are matched in by their widths; None: in nothing.
        known: Widths that were found before, see `AblationPlan.widths`.
        device: Where latency is measured, if it is.
        about: Name, budget, margin and command of the plan.

    Raises:
        ConfigError: an arm that cannot be matched, or two arms that do the same.
    """
    if equal is not None and equal not in (*QUANTITIES, LATENCY):
        raise ConfigError(
            f"ablation.equal={equal!r} must be null or one of {', '.join([*QUANTITIES, LATENCY])}"
        )
    matching: CostMatching | None = None
    if equal is not None:
        own = next(own for levels, own in grid.arms() if levels == grid.reference_levels)
        reference = compose([*fixed, *own])({})
        matching = CostMatching(
            quantity=equal, reference=reference, device=device, known=known or {}
        )
    arms = [
        _plan_arm(grid, compose, levels, [*fixed, *own], matching) for levels, own in grid.arms()
    ]
    cells = [
        _cell(*arm, seed=seed, fold=fold, folds=grid.folds)
        for seed, fold in grid.repetitions()
        for arm in arms
    ]
    _refuse_duplicates(cells)
    return AblationPlan(
        factors=grid.levels,
        reference=grid.reference_levels,
        cells=cells,
        equal=equal,
        widths=matching.found if matching else {},
        **about,
    )


def _plan_arm(
    grid: Grid,
    compose: Compose,
    levels: dict[str, str],
    overrides: list[str],
    matching: CostMatching | None,
) -> tuple[dict[str, str], list[str], Resolve, Matched | None]:
    resolve = compose(overrides)
    if matching is None or levels == grid.reference_levels:
        return levels, overrides, resolve, None
    try:
        widths, matched = matching.overrides(resolve({}))
    except ConfigError as error:
        arm = ", ".join(f"{factor} {level}" for factor, level in levels.items())
        raise ConfigError(f"{arm}: {error}") from error
    overrides = [*overrides, *widths]
    return levels, overrides, compose(overrides), matched


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


def _refuse_duplicates(cells: Sequence[Cell]) -> None:
    first: dict[str, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.digest, cell)
        if other is not cell:
            raise ConfigError(
                f"{other.levels} and {cell.levels} are the same configuration; "
                "remove one level, or correct its overrides"
            )
