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

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import qmc

from medseg.errors import ConfigError
from medseg.statistics.contrast import Uncertainty, differences
from medseg.statistics.observations import Observations
from medseg.statistics.spread import Spread, limit

MOST_PAIRS = 300
LEAST_CASES, MOST_SEEDS, MOST_CASES = 6, 200, 20_000
DRAWS = 512

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Detectable:
    """The smallest true difference of two arms that a comparison finds with this power.

    Attributes:
        difference: In units of the values; None if no pair has a known variance.
        cases: That the pair shares.
        seeds: Of the two arms, in the fold with the fewest, the fewer.
        power: Probability of finding it.
        alpha: Of the two-sided test, before any correction.
    """

    difference: float | None
    cases: int
    seeds: int
    power: float = 0.8
    alpha: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What would decide a comparison; None where no number would, up to 200 seeds, 20 000 cases.

    Attributes:
        find_seeds: Seeds of every arm, on the same cases, that find the difference seen.
        find_cases: Cases, with the same seeds, that find it.
        find_both: Seeds and cases, grown in the same proportion, that find it.
        equal_seeds: Seeds that show equality within the margin, if the arms are equal.
        equal_cases: Cases that show it.
        equal_both: Seeds and cases that show it.
    """

    find_seeds: int | None = None
    find_cases: int | None = None
    find_both: tuple[int, int] | None = None
    equal_seeds: int | None = None
    equal_cases: int | None = None
    equal_both: tuple[int, int] | None = None


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


def smallest_detectable(
    observations: Observations, power: float = 0.8, alpha: float = 0.05
) -> Detectable:
    """The smallest difference of two arms that is found with this power.

    The pair in the middle of all pairs, by its standard error, stands for the ablation.

    Raises:
        ConfigError: power or alpha outside (0, 1), or power not above alpha.
    """
    _check(power, alpha)
    pair = _typical_pair(observations)
    if pair is None:
        return Detectable(difference=None, cases=0, seeds=0, power=power, alpha=alpha)
    errors, half = pair.drawn(pair.seeds, pair.cases)
    return Detectable(
        difference=float(np.quantile(half(alpha / 2) - errors, power)),
        cases=pair.cases,
        seeds=pair.seeds,
        power=power,
        alpha=alpha,
    )


def needed_for(
    observations: Observations,
    arm: int,
    reference: int,
    *,
    difference: float,
    margin: float | None,
    comparisons: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Needed:
    """The numbers of seeds and cases that would decide this comparison with this power.

    Numbers below those at hand are possible answers. Seeds are None where folds tell trainings
    apart, for their number is fixed.

    Args:
        observations: Values of all arms.
        arm: The arm.
        reference: The arm that it is compared with.
        difference: That is to be found, of either sign.
        margin: Within which equality is to be shown; None if it is not asked for.
        comparisons: With the reference: the test of a difference uses alpha over their number, the
            first step of Holm's correction.
        power: Probability of the verdict.
        alpha: Of the tests.

    Raises:
        ConfigError: power or alpha as in `smallest_detectable`.
    """
    _check(power, alpha)
    pair = _Pair(observations, arm, reference)
    if not pair.known:
        return Needed()

    def finds(seeds: int, cases: int) -> bool:
        errors, half = pair.drawn(seeds, cases)
        reached = errors + abs(difference) >= half(alpha / comparisons / 2)
        return bool(reached.mean() >= power)

    def shows(seeds: int, cases: int) -> bool:
        errors, half = pair.drawn(seeds, cases)
        return bool((np.abs(errors) + half(alpha) <= (margin or 0.0)).mean() >= power)

    def sizes(
        enough: Callable[[int, int], bool],
    ) -> tuple[int | None, int | None, tuple[int, int] | None]:
        by_cases = _least(lambda cases: enough(pair.seeds, cases), LEAST_CASES, MOST_CASES)
        if not pair.more_seeds:
            return None, by_cases, None
        by_seeds = _least(lambda seeds: enough(seeds, pair.cases), 2, MOST_SEEDS)
        share = pair.cases / pair.seeds
        both = _least(lambda seeds: enough(seeds, math.ceil(seeds * share)), 2, MOST_SEEDS)
        return by_seeds, by_cases, (both, math.ceil(both * share)) if both else None

    found = sizes(finds) if difference else (None, None, None)
    equal = sizes(shows) if margin else (None, None, None)
    return Needed(
        find_seeds=found[0],
        find_cases=found[1],
        find_both=found[2],
        equal_seeds=equal[0],
        equal_cases=equal[1],
        equal_both=equal[2],
    )


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


def _check(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise ConfigError(
            f"power {power} at alpha {alpha}: both lie in (0, 1), power above alpha; 0.8 and 0.05"
        )
