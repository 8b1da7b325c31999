"""What each factor of a grid of arms does: main effects and two-way interactions.

Differences of levels are contrasts over cases and trainings. F-tests are an analysis of variance of
run means: least squares with folds as blocks and type II sums of squares (Langsrud 2003, Stat.
Comput. 13:163). Their error is what the model leaves, the spread of trainings and interactions of
three and more factors; cases are fixed, so they hold for these cases. A run's mean is that of its
values less what all runs of its fold reach on the same cases, so that a run without its hardest
case does not look better for it. Sums of squares need no error: shares are known for one seed too.

One error for all runs fails where an arm scatters: at 8 times the spread of the others it makes F
significant in 10 to 25 % of ablations without an effect. So the arms that are `alone` by the rules
of `spread` leave the error and count with their own. A sum of squares Q = yᵀP y of runs with the
variances v then has the mean `tr PV`, a sum of parts of arms, and about as many degrees of freedom
as `f = (tr PV)² / tr PVPV` (Box 1954, Ann. Math. Stat. 25:290). It is significant where

    Q ≥ Σ partᵢ · F(1 − α; f, dfᵢ),

each part with the degrees of freedom of its own variance, as Banerjee's interval in `contrast`.
Where no arm is alone that is the F-test. docs/statistics.md has its level.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from medseg.statistics.contrast import LEAST_LOG_P, Contrast, contrast
from medseg.statistics.observations import Observations

ROUNDING = 1e-12
SINGULAR = 1e-9
Grid = Mapping[int, Mapping[str, str]]
Factors = tuple[str, ...]


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
        f: Type II sum of squares over what it is without an effect; None with `reason`.
        p_value: Of it, with the arms that scatter by their own spread; None with `reason`.
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
    observations: Observations, levels: Grid, first: Mapping[str, str] | None = None
) -> list[Effect]:
    """Main effects and two-way interactions of the factors that have several levels.

    Args:
        observations: Values of all arms.
        levels: For each arm its level of every factor, the same factors for all; arms without an
            entry, or without a value, are left out.
        first: For each factor the level that others are compared with; by default the one of the
            lowest arm.
    """
    grid = {a: dict(levels[a]) for a in observations.arms if a in levels and observations.runs(a)}
    named = _ordered_levels(grid, first or {})
    if not named:
        return []
    runs = _run_means(observations, grid)
    own_levels = pd.DataFrame([grid[observations.arms[arm]] for arm in runs["arm"]])
    design = _Design(runs, own_levels.filter(list(named)))
    reasons = _reasons(own_levels, named, design)
    kept = [term for term in design.columns if term and term not in reasons]
    left = design.left(kept)
    error = _Error(observations, np.asarray(runs["arm"]), len(runs) - design.rank(kept), left)
    known = error.degrees > 0 and left > ROUNDING * design.left([])
    between = _between_arms(runs)
    found = []
    for term in (term for term in design.columns if term):
        own = _level_effects(observations, grid, *term, named[term[0]]) if len(term) == 1 else ()
        fields: dict[str, Any] = {"df": 0, "f": None, "p_value": None, "share": None}
        if term in kept:
            others = [other for other in kept if not set(term) <= set(other)]
            squares = max(0.0, design.left(others) - design.left([*others, term]))
            fields["df"] = len(design.columns[term])
            fields["share"] = min(1.0, squares / between) if between else None
            if known:
                fields |= error.test(squares, design.projection(others, term))
        reason = reasons.get(term, "" if known else _no_error(error.degrees))
        found.append(Effect(factor=" × ".join(term), levels=own, reason=reason, **fields))
    return found


def _ordered_levels(grid: Grid, first: Mapping[str, str]) -> dict[str, list[str]]:
    """For each factor with several levels its levels, the first one first."""
    named = {}
    for name in next(iter(grid.values()), {}):
        order = list(dict.fromkeys(own[name] for own in grid.values()))
        start = first.get(name, order[0])
        if len(order) > 1:
            named[name] = [start, *(level for level in order if level != start)]
    return named


def _level_effects(
    observations: Observations,
    grid: Grid,
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


def _level_weights(grid: Grid, name: str, level: str, first: str) -> dict[int, float]:
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


class _Design:
    """Columns of the intercept with the folds, named (), and of every term; fits of run means."""

    def __init__(self, runs: pd.DataFrame, levels: pd.DataFrame):
        coded: dict[Factors, NDArray[np.float64]] = {}
        coded[()] = np.column_stack([np.ones(len(runs)), _sum_coded(runs["fold"])])
        coded |= {(str(name),): _sum_coded(own) for name, own in levels.items()}
        for first, second in itertools.combinations(map(str, levels), 2):
            products = coded[first,][:, :, None] * coded[second,][:, None, :]
            coded[first, second] = products.reshape(len(runs), -1)
        ends = np.cumsum([0, *(block.shape[1] for block in coded.values())])
        self.columns: Mapping[Factors, NDArray[np.intp]] = {
            term: np.arange(ends[i], ends[i + 1]) for i, term in enumerate(coded)
        }
        # The triangle of a QR decomposition has the ranks and residuals of the whole matrix.
        self._basis, self._reduced = np.linalg.qr(np.column_stack([*coded.values(), runs["mean"]]))

    def rank(self, terms: Sequence[Factors]) -> int:
        """How many numbers these terms and the folds can fit."""
        return int(np.linalg.matrix_rank(self._of(terms), rtol=SINGULAR))

    def left(self, terms: Sequence[Factors]) -> float:
        """Sum of squares that these terms and the folds leave."""
        own, y = self._of(terms), self._reduced[:, -1]
        rest = y - own @ np.linalg.lstsq(own, y, SINGULAR)[0]
        return float(rest @ rest)

    def projection(self, others: Sequence[Factors], term: Factors) -> NDArray[np.float64]:
        """(runs, runs): P, of which the sum of squares of the term beside others is yᵀP y."""
        both = [self._basis @ _span(self._of(terms)) for terms in ([*others, term], others)]
        return both[0] @ both[0].T - both[1] @ both[1].T

    def _of(self, terms: Sequence[Factors]) -> NDArray[np.float64]:
        return self._reduced[:, np.concatenate([self.columns[term] for term in [(), *terms]])]


class _Error:
    """How far runs differ without an effect: what the model leaves; arms that are alone their own.

    Attributes:
        degrees: Of freedom of what the model leaves without those arms.
    """

    def __init__(
        self, observations: Observations, arm: NDArray[np.intp], degrees: int, left: float
    ):
        trainings = observations.trainings
        alone = sorted(trainings.alone & set(map(int, arm))) if trainings else []
        own = [trainings.own[a] for a in alone] if trainings else []
        self.degrees = degrees - sum(spread.df for spread in own)
        rest = max(0.0, left - sum(spread.df * spread.value for spread in own))
        variances = [rest / max(1, self.degrees), *(spread.value for spread in own)]
        self._df = np.array([max(1, self.degrees), *(spread.df for spread in own)])
        self._which = np.array([1 + alone.index(a) if a in alone else 0 for a in map(int, arm)])
        self._variance = np.array(variances)[self._which]

    def test(self, squares: float, projection: NDArray[np.float64]) -> dict[str, float]:
        """`f` and `p_value` of a sum of squares."""
        own = np.diag(projection) * self._variance
        parts, expected = np.bincount(self._which, own, len(self._df)), own.sum()
        df = expected**2 / (self._variance @ projection**2 @ self._variance)

        def beyond(log_p: float) -> float:
            # the quantile of F from that of a beta, which has digits where p is tiny
            left = special.betaincinv(self._df / 2, df / 2, 10.0**log_p)
            return float(parts @ (self._df / df * (1 / left - 1))) - squares

        least, most = LEAST_LOG_P, np.log10(1 - 1e-9)
        log_p = least if beyond(least) < 0 else most
        if beyond(least) > 0 > beyond(most):
            log_p = optimize.root_scalar(beyond, bracket=(least, most), xtol=1e-12).root
        return {"f": squares / expected, "p_value": 10.0**log_p}


def _span(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """An orthonormal basis of what they span."""
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > SINGULAR * sizes[0]]


def _sum_coded(levels: ArrayLike) -> NDArray[np.float64]:
    """A column for each level but the last: 1 there, −1 for the last, 0 elsewhere."""
    _, member = np.unique(np.asarray(levels, dtype=str), return_inverse=True)
    dummies = np.eye(member.max() + 1)[member]
    return dummies[:, :-1] - dummies[:, -1:]


def _run_means(observations: Observations, grid: Grid) -> pd.DataFrame:
    """One row per run: `mean`, `arm` (its position) and `fold`."""
    chosen = np.flatnonzero(np.isin(observations.arm, [observations.arms.index(a) for a in grid]))
    arms, folds = observations.arm[chosen], observations.fold[chosen]
    means = np.zeros(len(chosen))
    for fold in np.unique(folds):
        values = observations.values[chosen[folds == fold]]
        values = values[:, ~np.isnan(values).all(axis=0)]
        means[folds == fold] = np.nanmean(values - np.nanmean(values, axis=0), axis=1)
    means[np.abs(means) <= ROUNDING * np.nanmax(np.abs(observations.values))] = 0.0
    return pd.DataFrame({"mean": means, "arm": arms, "fold": folds})


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
        < len(design.columns[term])
    ]


def _no_error(degrees: int) -> str:
    if degrees <= 0:
        return "no run is left to tell how far trainings differ; it needs more seeds"
    return "trainings do not differ"


def _between_arms(runs: pd.DataFrame) -> float:
    """Sum of squares between arms after folds; exact if all arms have the same folds."""
    after = runs["mean"] - runs.groupby("fold")["mean"].transform("mean")
    means = np.asarray(after.groupby(runs["arm"]).transform("mean"))
    return float(means @ means)
