"""How sure it is which arm is best."""

import numpy as np
from numpy.typing import NDArray

from medseg.statistics.contrast import run_load
from medseg.statistics.observations import Observations

DRAWS_AT_ONCE = 1000
TIE = 1e-12


def probability_of_best(
    observations: Observations,
    *,
    higher_is_better: bool = True,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[int, float]:
    """For each arm how often it is best when cases and trainings are drawn anew.

    Draws arm means around their estimates: normal with the covariance of cases / C, shared by all
    arms, plus v_run Σᵣ uᵣ² for each arm alone; each of the two parts divided by its own
    √(χ²/df), so that a variance known from few runs spreads wide. A covariance of cases needs no
    matrix: it is that of random combinations of the centred cases. Arms tied for the best share a
    draw. The noise of run × case counts in both parts, which makes the shares a little too even.

    Args:
        observations: Values of all arms; compared on the cases that all arms with a value share.
        higher_is_better: False for distances.
        draws: At least 1.
        seed: Of the draws.

    Returns:
        Shares that sum to 1; empty with unknown run variance or fewer than 2 shared cases.
    """
    table, run = observations.table, observations.run_variance
    present = np.flatnonzero(table.counts.any(axis=1))
    shared = table.shared(present)
    cases = int(shared.sum())
    if run is None or cases < 2:
        return {}
    values = table.means[present][:, shared] * (1.0 if higher_is_better else -1.0)
    means = values.mean(axis=1)
    factors = (values - means[:, None]) / np.sqrt(cases * (cases - 1))
    loads = np.array([run_load(table, int(position), shared) for position in present])
    spread = np.sqrt(run.value * loads)
    generator = np.random.default_rng(seed)
    wins = np.zeros(len(present))
    for start in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - start)
        by_cases = generator.normal(size=(size, cases)) @ factors.T
        by_runs = generator.normal(size=(size, len(present))) * spread
        drawn = (
            means
            + by_cases / _chi(generator, cases - 1, size)
            + by_runs / _chi(generator, run.df, size)
        )
        wins += _shares(drawn)
    return {table.arms[p]: float(won) / draws for p, won in zip(present, wins, strict=True)}


def _chi(generator: np.random.Generator, df: int, size: int) -> NDArray[np.float64]:
    return np.sqrt(generator.chisquare(df, size=(size, 1)) / df)


def _shares(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = drawn.max(axis=1, keepdims=True)
    best = drawn >= highest - TIE * np.abs(highest)
    return (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
