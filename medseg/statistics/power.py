"""What an ablation of this size finds, and what would decide a comparison that it leaves open.

Both come from simulation: the components of a pair of arms, as this ablation estimates them, are
taken for the truth, and ablations of another size are drawn with the mean squares that they would
have and judged by the rules of `spread` and `contrast`. The draws are the points of one scrambled
Sobol sequence, so that sizes are compared on the same luck.
"""

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

from medseg.statistics.contrast import Uncertainty, differences
from medseg.statistics.observations import Observations
from medseg.statistics.spread import Spread, limit

MOST_PAIRS = 300
LEAST_CASES, MOST_SEEDS, MOST_CASES = 6, 200, 20_000
DRAWS = 512
POWER, ALPHA = 0.8, 0.05

Array = NDArray[np.float64]


class Sizes(NamedTuple):
    """What would decide a comparison; None where no number would, up to 200 seeds, 20 000 cases.

    Attributes:
        seeds: Seeds of every arm, on the same cases.
        cases: Cases, with the same seeds.
        both: Seeds and cases, grown in the same proportion.
    """

    seeds: int | None = None
    cases: int | None = None
    both: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class _Arm:
    """Of one arm: variance of its trainings, its own noise, Σᵣ uᵣ², degrees of freedom, pooled."""

    run: float
    noise: float
    load: float
    df: int
    pooled: bool


class _Pair:
    """Two arms of an ablation, drawn again with other numbers of seeds and cases."""

    def __init__(self, observations: Observations, arm: int, other: int):
        found = differences(observations, {arm: 1.0, other: -1.0})
        trainings = observations.trainings
        self.known = trainings is not None and found.uncertainty is not None
        self.uncertainty = found.uncertainty
        self.cases = len(found.values)
        self.seeds = min(observations.seeds(arm), observations.seeds(other))
        if trainings is None or found.uncertainty is None:
            return
        places = [observations.arms.index(number) for number in (arm, other)]
        shared = observations.shared(np.array(places))
        self.more_seeds = trainings.source == "seeds" and self.seeds > 1
        loads = [observations.load(place, shared) for place in places]
        per_run = float(observations.has[np.isin(observations.arm, places)].sum(axis=1).mean())
        of_folds = found.uncertainty.overlap / sum(loads) if trainings.source == "folds" else 0.0

        def parts(spread: Spread) -> tuple[float, float]:
            """Of trainings, and of their noise on the cases of one run."""
            noise = min(spread.value, spread.noise / per_run + of_folds)
            return spread.value - noise, noise

        self.arms = []
        for place, load in zip(places, loads, strict=True):
            own, pooled = trainings.own[place], place not in trainings.apart
            run, noise = parts(trainings.pool if pooled else own)
            self.arms.append(_Arm(run=run, noise=noise, load=load, df=own.df, pooled=pooled))
        self.pool = parts(trainings.pool)
        self.others_df = trainings.pool.df - sum(own.df for own in self.arms if own.pooled)
        between = found.uncertainty.cases - found.uncertainty.overlap
        self.between = max(0.0, between)
        self.overlap = min(found.uncertainty.overlap, found.uncertainty.cases)

    def drawn(self, seeds: int, cases: int) -> tuple[Array, Callable[[float], Array]]:
        """Errors of the estimate in `DRAWS` ablations; their half-widths for a one-sided tail."""
        fewer_seeds, fewer_cases = self.seeds / seeds, self.cases / cases
        growth = (seeds - 1) / max(1, self.seeds - 1) if self.more_seeds else 1.0

        def grown(df: int) -> int:
            return round(df * growth)

        def square(run: float, noise: float, df: int, column: int) -> Array:
            return (run + noise * fewer_cases) * _chi_squared(column, df)

        others_df = grown(self.others_df)
        others = square(*self.pool, others_df, 2) if others_df else np.zeros(DRAWS)
        dfs = [max(1, grown(arm.df)) for arm in self.arms]
        owns = [
            square(arm.run, arm.noise, df, column)
            for column, (arm, df) in enumerate(zip(self.arms, dfs, strict=True))
        ]
        loads = [arm.load * fewer_seeds for arm in self.arms]
        pooled = [place for place, arm in enumerate(self.arms) if arm.pooled]
        total = others_df * others + sum(dfs[place] * owns[place] for place in pooled)
        pool_df = others_df + sum(dfs[place] for place in pooled)
        alone = []
        for arm, df, own in zip(self.arms, dfs, owns, strict=True):
            rest = pool_df - df * arm.pooled
            beside = (total - df * own * arm.pooled) / max(1, rest)
            alone.append(
                (own > limit(df) ** 2 * beside)
                if rest and arm.pooled
                else np.full(DRAWS, not arm.pooled)
            )
        variance = self.between * fewer_cases + sum(
            load * (arm.run + arm.noise * fewer_cases)
            for load, arm in zip(loads, self.arms, strict=True)
        )
        shared = self.overlap * fewer_cases * fewer_seeds
        by_cases = (self.between * fewer_cases + shared) * _chi_squared(3, cases - 1)

        def half(tail: float) -> Array:
            wide = special.stdtrit(max(1, pool_df), tail) ** 2
            runs = sum(
                load
                * np.where(
                    lone,
                    special.stdtrit(df, tail) ** 2 * own,
                    wide * np.maximum(own, total / max(1, pool_df)),
                )
                for load, lone, df, own in zip(loads, alone, dfs, owns, strict=True)
            )
            rest = special.stdtrit(cases - 1, tail) ** 2 * by_cases
            return np.sqrt(runs + np.maximum(0, rest - special.ndtri(tail) ** 2 * shared))

        return np.sqrt(variance) * special.ndtri(_points()[:, 4]), half


def smallest_detectable(observations: Observations) -> tuple[float, int, int] | None:
    """The smallest difference of two arms that is found with 80 % power at p ≤ 0.05, uncorrected.

    The pair in the middle of all pairs, by its standard error, stands for the ablation.

    Returns:
        The difference, in units of the values, and the pair's seeds, in the fold with the fewest,
        and cases; None if no pair has a known variance.
    """
    pair = _typical_pair(observations)
    if pair is None:
        return None
    errors, half = pair.drawn(pair.seeds, pair.cases)
    return float(np.quantile(half(ALPHA / 2) - errors, POWER)), pair.seeds, pair.cases


def needed_for(
    observations: Observations,
    arm: int,
    reference: int,
    *,
    difference: float,
    margin: float | None,
    comparisons: int = 1,
) -> tuple[Sizes, Sizes]:
    """The numbers of seeds and cases that would decide this comparison with 80 % power.

    Numbers below those at hand are possible answers. Seeds are None where folds tell trainings
    apart, for their number is fixed.

    Args:
        observations: Values of all arms.
        arm: The arm.
        reference: The arm that it is compared with.
        difference: That is to be found, of either sign.
        margin: Within which equality is to be shown; None if it is not asked for.
        comparisons: With the reference: the test of a difference uses 0.05 over their number, the
            first step of Holm's correction.

    Returns:
        To find the difference, and to show equality if the arms are equal.
    """
    pair = _Pair(observations, arm, reference)
    if not pair.known:
        return Sizes(), Sizes()

    def finds(seeds: int, cases: int) -> bool:
        errors, half = pair.drawn(seeds, cases)
        reached = errors + abs(difference) >= half(ALPHA / comparisons / 2)
        return bool(reached.mean() >= POWER)

    def shows(seeds: int, cases: int) -> bool:
        errors, half = pair.drawn(seeds, cases)
        return bool((np.abs(errors) + half(ALPHA) <= (margin or 0.0)).mean() >= POWER)

    def sizes(enough: Callable[[int, int], bool]) -> Sizes:
        by_cases = _least(lambda cases: enough(pair.seeds, cases), LEAST_CASES, MOST_CASES)
        if not pair.more_seeds:
            return Sizes(cases=by_cases)
        by_seeds = _least(lambda seeds: enough(seeds, pair.cases), 2, MOST_SEEDS)
        share = pair.cases / pair.seeds
        both = _least(lambda seeds: enough(seeds, math.ceil(seeds * share)), 2, MOST_SEEDS)
        return Sizes(by_seeds, by_cases, (both, math.ceil(both * share)) if both else None)

    return sizes(finds) if difference else Sizes(), sizes(shows) if margin else Sizes()


def _typical_pair(observations: Observations) -> _Pair | None:
    pairs = list(itertools.combinations(observations.arms, 2))
    step = max(1, len(pairs) // MOST_PAIRS)
    known: list[tuple[Uncertainty, tuple[int, int]]] = []
    for arm, other in pairs[::step]:
        found = differences(observations, {arm: 1.0, other: -1.0})
        if found.uncertainty:
            known.append((found.uncertainty, (arm, other)))
    if not known:
        return None
    known.sort(key=lambda pair: pair[0].standard_error)
    return _Pair(observations, *known[len(known) // 2][1])


@cache
def _points() -> Array:
    """In (0, 1): one row per ablation, a column for each mean square and the estimate."""
    return qmc.Sobol(5, rng=np.random.default_rng(0)).random(DRAWS).clip(1e-9, 1 - 1e-9)


@cache
def _chi_squared(column: int, df: int) -> Array:
    """χ²/df of every ablation."""
    return special.chdtri(df, 1 - _points()[:, column]) / df


def _least(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number in this range that is enough, by bisection."""
    if not enough(most):
        return None
    return bisect.bisect_left(range(most), True, lo=least, key=enough)
