"""What every training of every arm reached on every case: the input of all statistics."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medseg.statistics.runs import RunVariance, run_variance
from medseg.statistics.table import Row, Table, pivot


class Observations:
    """One number for each (arm, fold, seed, case), never changed after it was made.

    A run is one training: an arm, a fold and a seed. Rows with NaN are dropped and counted.

    Args:
        rows: Tuples (arm, fold, seed, case, value), in any order, each key once.

    Raises:
        DataError: an infinite value, or two values for one key.

    >>> rows = [(0, 0, 0, "a", 0.5), (0, 0, 1, "a", 0.75), (0, 0, 0, "b", float("nan"))]
    >>> seen = Observations(rows)
    >>> seen.by_case(0), seen.runs(0), seen.dropped
    ({'a': 0.625}, 2, 1)
    """

    def __init__(self, rows: Iterable[Row]):
        self._table = pivot(rows)

    @property
    def table(self) -> Table:
        """The values as an array of runs × cases."""
        return self._table

    @property
    def arms(self) -> tuple[int, ...]:
        """All arms that have a row, sorted."""
        return self._table.arms

    @property
    def dropped(self) -> int:
        """Rows whose value was NaN."""
        return self._table.dropped

    @cached_property
    def run_variance(self) -> RunVariance | None:
        """How far two trainings of one arm differ; None if the runs cannot tell."""
        return run_variance(self._table)

    def position(self, arm: int) -> int | None:
        """Where the arm stands in the arrays; None for an arm without a row."""
        return self.arms.index(arm) if arm in self._known else None

    def cases(self, arm: int) -> tuple[str, ...]:
        """Cases that at least one run of the arm has."""
        return tuple(self.by_case(arm))

    def by_case(self, arm: int) -> dict[str, float]:
        """For each case the mean over the arm's runs that have it."""
        if (position := self.position(arm)) is None:
            return {}
        means = self._table.means[position]
        found = np.flatnonzero(~np.isnan(means))
        return {self._table.cases[column]: float(means[column]) for column in found}

    def mean(self, arm: int) -> float | None:
        """Mean over the arm's cases; None without one."""
        values = list(self.by_case(arm).values())
        return float(np.mean(values)) if values else None

    def runs(self, arm: int) -> int:
        """How many trainings of the arm have a value."""
        return len(self._runs(arm))

    def seeds(self, arm: int) -> int:
        """Seeds of the arm in the fold that has the fewest; 0 without a run."""
        folds = self._table.fold[self._runs(arm)]
        return int(np.unique(folds, return_counts=True)[1].min()) if len(folds) else 0

    def run_means(self, arm: int) -> dict[tuple[int, int], float]:
        """For each (fold, seed) of the arm the mean over the cases that this run has."""
        table = self._table
        return {
            (int(table.fold[run]), int(table.seed[run])): float(np.nanmean(table.values[run]))
            for run in self._runs(arm)
        }

    def _runs(self, arm: int) -> NDArray[np.intp]:
        position = self.position(arm)
        rows = slice(0, 0) if position is None else self._table.rows_of(position)
        return np.arange(rows.start, rows.stop)

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self.arms)
