"""What every training of every arm reached on every case: the input of all statistics."""

import math
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medseg.statistics.spread import Trainings, spread_of_folds, spread_of_seeds

Row = tuple[int, int, int, str, float]
KEYS = ["arm", "fold", "seed", "case"]
TRIM = 0.2  # of the cases at each end, in the robust companion


class Observations:
    """One number for each (arm, fold, seed, case), never changed after it was made.

    A run is one training: an arm, a fold and a seed. Rows with NaN are left out.

    Args:
        rows: Tuples (arm, fold, seed, case, value), or a frame with these columns, in any order;
            each key once, no value infinite.

    Attributes:
        arms: All arms that have a row, sorted, also those without a value.
        names: Of the cases, sorted.
        values: (runs, cases), NaN where a run has no value; runs sorted by arm, fold and seed.
        arm: For each run the position of its arm in `arms`.
        fold: For each run its fold.

    >>> rows = [(0, 0, 0, "a", 0.5), (0, 0, 1, "a", 0.75), (0, 0, 0, "b", float("nan"))]
    >>> Observations(rows).by_case(0), Observations(rows).runs(0)
    ({'a': 0.625}, 2)
    """

    def __init__(self, rows: Iterable[Row] | pd.DataFrame):
        rows = rows if isinstance(rows, pd.DataFrame) else list(rows)
        frame = pd.DataFrame(rows, columns=[*KEYS, "value"]).reset_index(drop=True)
        value = np.asarray(frame["value"], dtype=float)
        kept = frame.loc[~np.isnan(value)]
        keys = np.asarray(kept[KEYS[:3]], dtype=np.intp).reshape(-1, 3)
        runs, line = np.unique(keys, axis=0, return_inverse=True)
        cases, column = np.unique(np.asarray(kept["case"], dtype=object), return_inverse=True)
        self.arms = tuple(sorted({int(arm) for arm in frame["arm"]}))
        self.names = tuple(str(case) for case in cases)
        self.values = np.full((len(runs), len(cases)), math.nan)
        self.values[line.ravel(), column] = value[~np.isnan(value)]
        self.values.setflags(write=False)
        self.arm = np.searchsorted(np.array(self.arms, dtype=np.intp), runs[:, 0])
        self.fold = runs[:, 1]

    @cached_property
    def has(self) -> NDArray[np.bool_]:
        """(runs, cases): whether there is a value."""
        return ~np.isnan(self.values)

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """(arms, cases): how many runs of the arm have the case."""
        counts = np.zeros((len(self.arms), len(self.names)), dtype=np.intp)
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
        tested = np.zeros((len(folds), len(self.names)), dtype=bool)
        np.logical_or.at(tested, positions, self.has)
        if not tested.size or (tested.sum(axis=0) != 1).any():
            return None
        return folds[tested.argmax(axis=0)]

    @cached_property
    def trainings(self) -> Trainings | None:
        """How far two trainings of each arm differ; None if the runs do not show it."""
        return self._trainings(0.0)

    @cached_property
    def trimmed_trainings(self) -> Trainings | None:
        """The same with trimmed means over cases."""
        return self._trainings(TRIM)

    def by_case(self, arm: int) -> dict[str, float]:
        """For each case the mean over the arm's runs that have it."""
        if arm not in self.arms:
            return {}
        means = zip(self.names, self.means[self.arms.index(arm)], strict=True)
        return {case: float(mean) for case, mean in means if not math.isnan(mean)}

    def cases(self, arm: int) -> tuple[str, ...]:
        """Cases that at least one run of the arm has."""
        return tuple(self.by_case(arm))

    def mean(self, arm: int) -> float | None:
        """Mean over the arm's cases; None without one."""
        values = list(self.by_case(arm).values())
        return float(np.mean(values)) if values else None

    def runs(self, arm: int) -> int:
        """How many trainings of the arm have a value."""
        return len(self._folds(arm))

    def seeds(self, arm: int) -> int:
        """Seeds of the arm in the fold that has the fewest; 0 without a run."""
        folds = self._folds(arm)
        return int(np.unique(folds, return_counts=True)[1].min()) if len(folds) else 0

    def shared(self, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(cases): whether all arms at these positions have the case."""
        return np.logical_and.reduce(self.counts[positions] > 0, axis=0)

    def load(self, position: int, shared: NDArray[np.bool_]) -> float:
        """Σᵣ uᵣ² of an arm's mean over the shared cases; 1/R for R runs on all of them."""
        first, last = np.searchsorted(self.arm, [position, position + 1])
        shares = (self.has[first:last][:, shared] / self.counts[position, shared]).mean(axis=1)
        return float(shares @ shares)

    def cells(self) -> list[NDArray[np.intp]]:
        """The runs of each (arm, fold)."""
        if not len(self.arm):
            return []
        new = (np.diff(self.arm) != 0) | (np.diff(self.fold) != 0)
        return np.split(np.arange(len(self.arm)), np.flatnonzero(new) + 1)

    def block(self, runs: NDArray[np.intp]) -> NDArray[np.float64]:
        """Values of these runs on the cases that all of them have."""
        return self.values[runs][:, self.has[runs].all(axis=0)]

    def _folds(self, arm: int) -> NDArray[np.intp]:
        """The fold of each run of the arm."""
        own = self.arms.index(arm) if arm in self.arms else -1
        return self.fold[self.arm == own]

    def _trainings(self, trim: float) -> Trainings | None:
        cells = [(int(self.arm[runs[0]]), self.block(runs)) for runs in self.cells()]
        if found := spread_of_seeds(cells, len(self.arms), trim):
            return found
        by_fold = [np.flatnonzero(self.fold == fold) for fold in np.unique(self.fold)]
        blocks = [(self.arm[runs], self.block(runs)) for runs in by_fold]
        blocks = [(arms, block) for arms, block in blocks if block.size]
        return spread_of_folds(blocks, len(self.arms), trim)
