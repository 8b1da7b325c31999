"""Factors, levels, seeds and folds → the runs of a grid."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medseg.errors import ConfigError

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
