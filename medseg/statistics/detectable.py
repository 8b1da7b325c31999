"""The smallest difference that an ablation of this size finds, and the size for a difference.

A pair of arms is found different when its estimate is farther from 0 than the half-width h of
`uncertainty`. With standard error σ this happens with the wanted power once the true difference is
h + t(power, df) σ. The pair in the middle of all pairs stands for the ablation.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from medseg.errors import ConfigError
from medseg.statistics.contrast import differences
from medseg.statistics.observations import Observations
from medseg.statistics.uncertainty import Uncertainty

MOST_PAIRS = 300
MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class Detectable:
    """The smallest true difference of two arms that a comparison finds with this power.

    Attributes:
        difference: In units of the values; None if no pair has a known variance.
        cases: That the pair shares.
        seeds: Of the arms, in the fold with the fewest, the median.
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
    """How large the ablation must be to find a difference; None if no size is enough.

    Attributes:
        difference: In units of the values.
        cases: Needed at the same seeds.
        seeds: Needed for each arm and fold at the same cases.
    """

    difference: float
    cases: int | None
    seeds: int | None


@dataclass(frozen=True, kw_only=True)
class _Pair:
    uncertainty: Uncertainty
    cases: int
    seeds: int


def smallest_detectable(
    observations: Observations, power: float = 0.8, alpha: float = 0.05
) -> Detectable:
    """The smallest difference of two arms that is found with this power.

    Raises:
        ConfigError: power or alpha outside (0, 1), or power not above alpha.
    """
    _check(power, alpha)
    pair = _typical_pair(observations)
    if pair is None:
        return Detectable(difference=None, cases=0, seeds=0, power=power, alpha=alpha)
    return Detectable(
        difference=_found(pair.uncertainty, power, alpha),
        cases=pair.cases,
        seeds=pair.seeds,
        power=power,
        alpha=alpha,
    )


def needed_for(
    observations: Observations, difference: float, power: float = 0.8, alpha: float = 0.05
) -> Needed:
    """Cases needed at the same seeds, and seeds needed at the same cases.

    More cases shrink the case term and the noise of run × case; more seeds shrink the run term and
    that noise, and sharpen the run variance. Numbers below those at hand are possible answers.
    Seeds are None where the run variance comes from folds, for their number is fixed.

    Raises:
        ConfigError: a difference not above 0; power or alpha as in `smallest_detectable`.
    """
    _check(power, alpha)
    if not difference > 0:
        raise ConfigError(f"difference {difference}: only one above 0 can be found")
    pair, run = _typical_pair(observations), observations.run_variance
    if pair is None or run is None:
        return Needed(difference=difference, cases=None, seeds=None)

    def enough(cases: int, seeds: int) -> bool:
        return _found(_resized(pair, cases, seeds), power, alpha) <= difference

    from_seeds = run.source == "seeds" and pair.seeds >= 2
    return Needed(
        difference=difference,
        cases=_least(lambda cases: enough(cases, pair.seeds), 2),
        seeds=_least(lambda seeds: enough(pair.cases, seeds), 2) if from_seeds else None,
    )


def _typical_pair(observations: Observations) -> _Pair | None:
    pairs = list(itertools.combinations(observations.arms, 2))
    step = max(1, len(pairs) // MOST_PAIRS)
    found = []
    for arm, other in pairs[::step]:
        pair = differences(observations, {arm: 1.0, other: -1.0})
        if pair.uncertainty is not None:
            found.append((pair.uncertainty, len(pair.values)))
    if not found:
        return None
    uncertainty, cases = sorted(found, key=lambda pair: pair[0].standard_error)[len(found) // 2]
    seeds = [count for arm in observations.arms if (count := observations.seeds(arm))]
    return _Pair(uncertainty=uncertainty, cases=cases, seeds=int(np.median(seeds)))


def _found(uncertainty: Uncertainty, power: float, alpha: float) -> float:
    level, half = 1 - alpha, uncertainty.half_width(1 - alpha)
    chance = special.stdtrit(uncertainty.df(level), power)
    return half + float(chance) * uncertainty.standard_error


def _resized(pair: _Pair, cases: int, seeds: int) -> Uncertainty:
    """The same components with other numbers of cases and seeds."""
    old = pair.uncertainty
    fewer_cases, fewer_seeds = pair.cases / cases, pair.seeds / seeds
    noise = min(old.overlap, old.cases)
    trainings, between = max(0.0, old.runs - old.overlap), old.cases - noise
    shrunk = noise * fewer_cases * fewer_seeds
    return replace(
        old,
        runs=trainings * fewer_seeds + shrunk,
        runs_df=max(1, round(old.runs_df * (seeds - 1) / max(1, pair.seeds - 1)))
        if seeds != pair.seeds
        else old.runs_df,
        cases=between * fewer_cases + shrunk,
        cases_df=cases - 1,
        overlap=shrunk,
    )


def _least(enough: Callable[[int], bool], lowest: int) -> int | None:
    """The smallest number from `lowest` to `MOST` that is enough, by bisection."""
    if not enough(MOST):
        return None
    low, high = lowest - 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise ConfigError(
            f"power {power} at alpha {alpha}: both lie in (0, 1), power above alpha; 0.8 and 0.05"
        )
