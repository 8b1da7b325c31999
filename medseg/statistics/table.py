"""Rows of (arm, fold, seed, case, value) as one array: a row per run, a column per case."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg.errors import DataError

Row = tuple[int, int, int, str, float]
KEYS = ["arm", "fold", "seed", "case"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Values of runs on cases; runs are sorted by arm, fold and seed.

    Attributes:
        values: (runs, cases), NaN where a run has no value.
        arm: For each run the position of its arm in `arms`.
        fold: For each run its fold.
        seed: For each run its seed.
        arms: All arms that have a row, sorted, also those without a value.
        cases: Names of the columns, sorted.
        dropped: Rows whose value was NaN.
    """

    values: NDArray[np.float64]
    arm: NDArray[np.intp]
    fold: NDArray[np.intp]
    seed: NDArray[np.intp]
    arms: tuple[int, ...]
    cases: tuple[str, ...]
    dropped: int

    @cached_property
    def has(self) -> NDArray[np.bool_]:
        """(runs, cases): whether there is a value."""
        return ~np.isnan(self.values)

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """(arms, cases): how many runs of the arm have the case."""
        counts = np.zeros((len(self.arms), len(self.cases)), dtype=np.intp)
        np.add.at(counts, self.arm, self.has)
        return counts

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """(arms, cases): mean over the arm's runs that have the case, NaN without one."""
        sums = np.zeros(self.counts.shape)
        np.add.at(sums, self.arm, np.where(self.has, self.values, 0.0))
        return np.where(self.counts > 0, sums / np.maximum(self.counts, 1), np.nan)

    @cached_property
    def only_fold(self) -> NDArray[np.intp] | None:
        """For each case the one fold that tests it; None if a case is tested in several."""
        folds, positions = np.unique(self.fold, return_inverse=True)
        tested = np.zeros((len(folds), len(self.cases)), dtype=bool)
        np.logical_or.at(tested, positions, self.has)
        if not tested.size or (tested.sum(axis=0) != 1).any():
            return None
        return folds[tested.argmax(axis=0)]

    def shared(self, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(cases): whether all arms at these positions have the case."""
        return np.logical_and.reduce(self.counts[positions] > 0, axis=0)

    def rows_of(self, position: int) -> slice:
        """The runs of the arm at that position."""
        first, last = np.searchsorted(self.arm, [position, position + 1])
        return slice(int(first), int(last))

    def cells(self) -> list[NDArray[np.intp]]:
        """The runs of each (arm, fold)."""
        if not len(self.arm):
            return []
        new = (np.diff(self.arm) != 0) | (np.diff(self.fold) != 0)
        return np.split(np.arange(len(self.arm)), np.flatnonzero(new) + 1)

    def common_block(self, runs: NDArray[np.intp]) -> NDArray[np.float64]:
        """Values of these runs on the cases that all of them have."""
        return self.values[runs][:, self.has[runs].all(axis=0)]


def pivot(rows: Iterable[Row]) -> Table:
    """Puts tidy rows into an array; rows with NaN are dropped and counted.

    Raises:
        DataError: an infinite value, or two values for one arm, fold, seed and case.
    """
    frame = pd.DataFrame(list(rows), columns=[*KEYS, "value"])
    value = np.asarray(frame["value"], dtype=float)
    if np.isinf(value).any():
        first = frame.loc[np.isinf(value)].iloc[0]
        raise DataError(
            f"{first['value']} for case {first['case']} of arm {first['arm']}: means need finite "
            "values; give the penalty of a missing class, or NaN for no value"
        )
    kept = frame.loc[~np.isnan(value)]
    if (again := kept.duplicated(subset=KEYS)).any():
        arm, fold, seed, case = kept.loc[again, KEYS].iloc[0]
        raise DataError(
            f"arm {arm}, fold {fold}, seed {seed} has case {case} twice: "
            "one training gives a case one value; remove one"
        )
    cases, column = np.unique(np.asarray(kept["case"], dtype=object), return_inverse=True)
    keys = np.asarray(kept[KEYS[:3]], dtype=np.intp).reshape(-1, 3)
    runs, line = np.unique(keys, axis=0, return_inverse=True)
    values = np.full((len(runs), len(cases)), math.nan)
    values[line.ravel(), column] = value[~np.isnan(value)]
    values.setflags(write=False)
    arms = tuple(sorted({int(arm) for arm in frame["arm"]}))
    return Table(
        values=values,
        arm=np.searchsorted(np.array(arms, dtype=np.intp), runs[:, 0]),
        fold=runs[:, 1],
        seed=runs[:, 2],
        arms=arms,
        cases=tuple(str(case) for case in cases),
        dropped=len(frame) - len(kept),
    )
