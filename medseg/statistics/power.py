"""The smallest difference that an ablation of this size finds, and the size for a difference.

A pair of arms is found different when its estimate is farther from 0 than the half-width h of
`Uncertainty`. With standard error σ this happens with the wanted power once the true difference is
h + t(power, df) σ. The pair in the middle of all pairs stands for the ablation.
"""

import bisect
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from medseg.errors import ConfigError
from medseg.statistics.contrast import Uncertainty, differences
from medseg.statistics.observations import Observations

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


def smallest_detectable(
    observations: Observations, power: float = 0.8, alpha: float = 0.05
) -> Detectable:
    """The smallest difference of two arms that is found with this power.

    Raises:
        ConfigError: power or alpha outside (0, 1), or power not above alpha.
    """
    _check(power, alpha)
    known, cases, seeds = _typical_pair(observations)
    difference = _found(known, power, alpha) if known else None
    return Detectable(difference=difference, cases=cases, seeds=seeds, power=power, alpha=alpha)


def needed_for(
    observations: Observations, difference: float, power: float = 0.8, alpha: float = 0.05
) -> tuple[int | None, int | None]:
    """Cases needed at the same seeds, and seeds needed at the same cases; None if none are enough.

    More cases shrink the case term and the noise of run × case; more seeds shrink the run term and
    that noise, and sharpen the run variance. Numbers below those at hand are possible answers.
    Seeds are None where the run variance comes from folds, for their number is fixed.

    Raises:
        ConfigError: a difference not above 0; power or alpha as in `smallest_detectable`.
    """
    _check(power, alpha)
    if not difference > 0:
        raise ConfigError(f"difference {difference}: only one above 0 can be found")
    known, cases, seeds = _typical_pair(observations)
    run = observations.run_variance
    if known is None or run is None:
        return None, None

    def enough(more_cases: int, more_seeds: int) -> bool:
        resized = _resized(known, (cases, seeds), more_cases, more_seeds)
        return _found(resized, power, alpha) <= difference

    from_seeds = run.source == "seeds" and seeds >= 2
    return (
        _least(lambda more: enough(more, seeds)),
        _least(lambda more: enough(cases, more)) if from_seeds else None,
    )


def _typical_pair(observations: Observations) -> tuple[Uncertainty | None, int, int]:
    """The uncertainty of the pair in the middle, its cases, and the median seeds of the arms."""
    pairs = list(itertools.combinations(observations.arms, 2))
    step = max(1, len(pairs) // MOST_PAIRS)
    found = [differences(observations, {arm: 1.0, other: -1.0}) for arm, other in pairs[::step]]
    known = [(pair.uncertainty, len(pair.values)) for pair in found if pair.uncertainty]
    if not known:
        return None, 0, 0
    uncertainty, cases = sorted(known, key=lambda pair: pair[0].standard_error)[len(known) // 2]
    seeds = [count for arm in observations.arms if (count := observations.seeds(arm))]
    return uncertainty, cases, int(np.median(seeds))


def _found(uncertainty: Uncertainty, power: float, alpha: float) -> float:
    level, half = 1 - alpha, uncertainty.half_width(1 - alpha)
    chance = special.stdtrit(uncertainty.df(level), power)
    return half + float(chance) * uncertainty.standard_error


def _resized(old: Uncertainty, sizes: tuple[int, int], cases: int, seeds: int) -> Uncertainty:
    """The same components with other numbers of cases and seeds than `sizes`."""
    fewer_cases, fewer_seeds = sizes[0] / cases, sizes[1] / seeds
    noise = min(old.overlap, old.cases)
    trainings, between = max(0.0, old.runs - old.overlap), old.cases - noise
    shrunk = noise * fewer_cases * fewer_seeds
    runs_df = old.runs_df
    if seeds != sizes[1]:
        runs_df = max(1, round(runs_df * (seeds - 1) / max(1, sizes[1] - 1)))
    return Uncertainty(
        runs=trainings * fewer_seeds + shrunk,
        runs_df=runs_df,
        cases=between * fewer_cases + shrunk,
        cases_df=cases - 1,
        overlap=shrunk,
    )


def _least(enough: Callable[[int], bool]) -> int | None:
    """The smallest number from 2 to `MOST` that is enough, by bisection."""
    if not enough(MOST):
        return None
    return bisect.bisect_left(range(MOST), True, lo=2, key=enough)


def _check(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise ConfigError(
            f"power {power} at alpha {alpha}: both lie in (0, 1), power above alpha; 0.8 and 0.05"
        )
