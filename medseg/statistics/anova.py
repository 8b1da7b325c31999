"""Analysis of variance of run means with the factors of the arms.

Least squares with folds as blocks and type II sums of squares (Langsrud 2003, Stat. Comput.
13:163). The error is what the model leaves: the spread of trainings, and interactions of three and
more factors. A run's mean is that of its values less what all runs of its fold reach on the same
cases, so that a run without its hardest case does not look better for it. Sums of squares need no
error, so that shares are known for one seed too.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from medseg.statistics.table import Table

ROUNDING = 1e-12
SINGULAR = 1e-9
Factors = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A main effect or a two-way interaction.

    Attributes:
        factors: One name, or two.
        df: Degrees of freedom, 0 if it cannot be told from others.
        f: F; None with `reason`.
        p_value: Of F; None with `reason`.
        share: Its sum of squares over that between arms; None if not estimable.
        reason: Why there is no F; empty if there is one.
    """

    factors: Factors
    df: int = 0
    f: float | None = None
    p_value: float | None = None
    share: float | None = None
    reason: str = ""


def anova(
    table: Table, grid: Mapping[int, Mapping[str, str]], named: Mapping[str, Sequence[str]]
) -> list[Term]:
    """Tests every factor and every pair of factors.

    Args:
        table: Values of all arms.
        grid: For each arm that takes part its level of every factor.
        named: For each factor its levels, at least two.
    """
    runs = _run_means(table, grid, list(named))
    terms = [*((name,) for name in named), *itertools.combinations(named, 2)]
    design = _design(runs, terms)
    reasons = _reasons(runs.levels, named, design)
    kept = [term for term in terms if term not in reasons]
    tested = _tested(design, kept, _between_arms(runs))
    return [tested.get(term) or Term(factors=term, reason=reasons[term]) for term in terms]


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """For each run its mean, its arm, its fold and a row of levels."""

    means: NDArray[np.float64]
    arms: NDArray[np.intp]
    folds: NDArray[np.intp]
    levels: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class _Design:
    """Products of all columns with each other and with the run means; () names the blocks."""

    runs: int
    gram: NDArray[np.float64]
    moments: NDArray[np.float64]
    square: float
    columns: Mapping[Factors, NDArray[np.intp]]

    def rank(self, terms: Sequence[Factors]) -> int:
        """How many numbers these terms and the blocks can fit."""
        own = self._of(terms)
        return int(
            np.linalg.matrix_rank(self.gram[np.ix_(own, own)], hermitian=True, rtol=SINGULAR)
        )

    def left(self, terms: Sequence[Factors]) -> float:
        """Sum of squares that these terms and the blocks leave."""
        own = self._of(terms)
        fitted = np.linalg.lstsq(self.gram[np.ix_(own, own)], self.moments[own], SINGULAR)[0]
        return max(0.0, self.square - float(fitted @ self.moments[own]))

    def freedom(self, term: Factors) -> int:
        return len(self.columns[term])

    def _of(self, terms: Sequence[Factors]) -> NDArray[np.intp]:
        return np.concatenate([self.columns[term] for term in [(), *terms]])


def _design(runs: _Runs, terms: Sequence[Factors]) -> _Design:
    coded: dict[Factors, NDArray[np.float64]] = {
        (): np.column_stack([np.ones(len(runs.means)), _sum_coded(runs.folds)])
    }
    for term in terms:
        first, *others = [_sum_coded(runs.levels[name]) for name in term]
        for other in others:
            first = (first[:, :, None] * other[:, None, :]).reshape(len(first), -1)
        coded[term] = first
    ends = np.cumsum([0, *(block.shape[1] for block in coded.values())])
    matrix, y = np.column_stack(list(coded.values())), runs.means
    return _Design(
        runs=len(y),
        gram=matrix.T @ matrix,
        moments=matrix.T @ y,
        square=float(y @ y),
        columns={term: np.arange(ends[i], ends[i + 1]) for i, term in enumerate(coded)},
    )


def _sum_coded(levels: ArrayLike) -> NDArray[np.float64]:
    """A column for each level but the last: 1 there, −1 for the last, 0 elsewhere."""
    _, member = np.unique(np.asarray(levels, dtype=str), return_inverse=True)
    dummies = np.eye(member.max() + 1)[member]
    return dummies[:, :-1] - dummies[:, -1:]


def _run_means(table: Table, grid: Mapping[int, Mapping[str, str]], names: Sequence[str]) -> _Runs:
    chosen = np.flatnonzero(np.isin(table.arm, [table.arms.index(arm) for arm in grid]))
    arms, folds = table.arm[chosen], table.fold[chosen]
    means = np.zeros(len(chosen))
    for fold in np.unique(folds):
        members = folds == fold
        values = table.values[chosen[members]]
        values = values[:, ~np.isnan(values).all(axis=0)]
        means[members] = np.nanmean(values - np.nanmean(values, axis=0), axis=1)
    means[np.abs(means) <= ROUNDING * np.nanmax(np.abs(table.values))] = 0.0
    levels = [[grid[table.arms[arm]][name] for name in names] for arm in arms]
    return _Runs(
        means=means, arms=arms, folds=folds, levels=pd.DataFrame(levels, columns=list(names))
    )


def _reasons(
    levels: pd.DataFrame, named: Mapping[str, Sequence[str]], design: _Design
) -> dict[Factors, str]:
    """The terms that these arms cannot tell from others, each with the reason."""
    mains = [term for term in design.columns if len(term) == 1]
    together = "always changes together with another factor"
    reasons = dict.fromkeys(_aliased(design, [], mains), together)
    known, pairs = [term for term in mains if term not in reasons], []
    for term in (term for term in design.columns if len(term) == 2):
        if any((name,) in reasons for name in term):
            reasons[term] = "one of its factors cannot be told from another"
        elif len(levels[list(term)].drop_duplicates()) < np.prod([len(named[n]) for n in term]):
            reasons[term] = "no arm has some combinations of its levels"
        else:
            pairs.append(term)
    mixed = "cannot be told from other effects on these arms"
    return reasons | dict.fromkeys(_aliased(design, known, pairs), mixed)


def _aliased(design: _Design, known: Sequence[Factors], asked: Sequence[Factors]) -> list[Factors]:
    """Terms of `asked` without all their freedom beside `known` and the other ones asked."""
    whole = design.rank([*known, *asked])
    return [
        term
        for term in asked
        if whole - design.rank([*known, *(other for other in asked if other != term)])
        < design.freedom(term)
    ]


def _tested(design: _Design, terms: Sequence[Factors], between: float) -> dict[Factors, Term]:
    degrees, rest = design.runs - design.rank(terms), design.left(terms)
    error_known = degrees > 0 and rest > ROUNDING * design.square
    found = {}
    for term in terms:
        others = [other for other in terms if not set(term) <= set(other)]
        squares = max(0.0, design.left(others) - design.left([*others, term]))
        df = design.freedom(term)
        f = squares / df / (rest / degrees) if error_known else None
        found[term] = Term(
            factors=term,
            df=df,
            f=f,
            p_value=None if f is None else float(stats.f.sf(f, df, degrees)),
            share=min(1.0, squares / between) if between else None,
            reason="" if error_known else _no_error(degrees),
        )
    return found


def _no_error(degrees: int) -> str:
    if degrees <= 0:
        return "no run is left to tell how far trainings differ; it needs more seeds"
    return "trainings do not differ"


def _between_arms(runs: _Runs) -> float:
    """Sum of squares between arms after folds; exact if all arms have the same folds."""
    y = pd.Series(runs.means)
    after = y - y.groupby(runs.folds).transform("mean")
    means = np.asarray(after.groupby(runs.arms).transform("mean"))
    return float(means @ means)
