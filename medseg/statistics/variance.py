"""Where values of one arm differ: cases, folds, seeds, and the rest.

Each (arm, fold) with S seeds and C cases that all of them have is a two-way table. Its mean squares
are pooled over all arms and folds; expected values, with the means as units:

    variance of run × case residuals          σ²_residual
    variance of run means                     σ²_seed + σ²_residual / C
    variance of case means over the seeds     σ²_case + σ²_residual / S
    variance of fold means within an arm      σ²_fold + σ²_seed / S + σ²_residual / (S C)
                                              + σ²_case / C if each case is in one fold only

Solved from top to bottom, negative solutions set to 0 (method of moments; Searle, Casella &
McCulloch 1992, Variance Components, ch. 4).
"""

import itertools
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from medseg.statistics.observations import Observations
from medseg.statistics.table import Table


@dataclass(frozen=True, kw_only=True)
class VarianceSplit:
    """Variance components of one value of an arm, averaged over arms; None if not estimable.

    Attributes:
        case: Between cases; with one seed it contains `residual`.
        fold: Between the folds of an arm; with one seed it contains `seed`.
        seed: Between the trainings of one (arm, fold).
        residual: Of training × case.
    """

    case: float | None
    fold: float | None
    seed: float | None
    residual: float | None

    @property
    def total(self) -> float:
        """Sum of the known components."""
        return sum(self._known().values())

    def shares(self) -> dict[str, float]:
        """Each known component as a share of the total; empty if nothing varies."""
        return {name: part / self.total for name, part in self._known().items() if self.total}

    def _known(self) -> dict[str, float]:
        return {name: part for name, part in vars(self).items() if part is not None}


@dataclass
class _Mean:
    """A sum of squares, its degrees of freedom, and the sizes that its expectation divides by."""

    square: float = 0.0
    df: int = 0
    divisor: float = 0.0

    def add(self, deviations: NDArray[np.float64], df: int, inverse_size: float = 0.0) -> None:
        if df > 0:
            self.square += float((deviations**2).sum())
            self.df += df
            self.divisor += df * inverse_size

    def minus(self, residual: float | None) -> float | None:
        """The mean square less the residual's share, at least 0; None without freedom."""
        if not self.df:
            return None
        return max(0.0, self.square / self.df - (residual or 0.0) * self.divisor / self.df)


def variance_split(observations: Observations) -> VarianceSplit:
    """Splits the variance of the values of an arm, averaged over arms."""
    table = observations.table
    residuals, runs, cases = _Mean(), _Mean(), _Mean()
    blocks = [(int(table.arm[cell[0]]), table.common_block(cell)) for cell in table.cells()]
    blocks = [(arm, block) for arm, block in blocks if block.size]
    for _, block in blocks:
        seeds, count = block.shape
        run_means = block.mean(axis=1) - block.mean()
        case_means = block.mean(axis=0) - block.mean()
        rest = block - block.mean() - run_means[:, None] - case_means
        residuals.add(rest, (seeds - 1) * (count - 1))
        runs.add(run_means, seeds - 1, 1 / count)
        cases.add(case_means, count - 1, 1 / seeds)
    residual = residuals.minus(None)
    case, seed = cases.minus(residual), runs.minus(residual)
    return VarianceSplit(
        case=case,
        fold=_fold_variance(table, blocks, case, seed, residual),
        seed=seed,
        residual=residual,
    )


def _fold_variance(
    table: Table,
    blocks: list[tuple[int, NDArray[np.float64]]],
    case: float | None,
    seed: float | None,
    residual: float | None,
) -> float | None:
    nested = table.only_fold is not None
    square, expected, df = 0.0, 0.0, 0
    for _, group in itertools.groupby(blocks, key=itemgetter(0)):
        own = [block for _, block in group]
        if len(own) < 2:
            continue
        noise = [
            (seed or 0.0) / block.shape[0]
            + (residual or 0.0) / block.size
            + ((case or 0.0) / block.shape[1] if nested else 0.0)
            for block in own
        ]
        square += float(np.var([block.mean() for block in own], ddof=1)) * (len(own) - 1)
        expected += float(np.mean(noise)) * (len(own) - 1)
        df += len(own) - 1
    return max(0.0, (square - expected) / df) if df else None
