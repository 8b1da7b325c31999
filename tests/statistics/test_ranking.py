"""How often each arm is best, against the same question in closed form."""

import numpy as np
import pytest
from scipy import stats

from medseg.statistics import Observations, contrast, probability_of_best

from .simulated import Design, rows


def test_shares_sum_to_1_and_follow_the_means() -> None:
    design = Design(arms=4, run=0.1, noise=0.2)
    observations = Observations(rows(design, np.random.default_rng(0), [0.0, 0.1, 0.2, 2.0]))
    shares = probability_of_best(observations)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[3] > 0.99
    worst_first = probability_of_best(observations, higher_is_better=False)
    assert worst_first[3] < 0.01


@pytest.mark.parametrize(("run", "noise"), [(0.0, 1.0), (3.0, 1e-3)])
def test_two_arms_share_by_the_probability_that_their_difference_is_above_0(
    run: float, noise: float
) -> None:
    """One part at a time, so that the difference is Student's t."""
    design = Design(
        arms=2, seeds=3 if run else 40, cases=6, run=run, arm_case=0.0 if run else 1.0, noise=noise
    )
    observations = Observations(rows(design, np.random.default_rng(11), [0.3]))
    found = contrast(observations, {0: 1.0, 1: -1.0})
    assert found.estimate is not None
    assert found.standard_error is not None
    df = 4 if run else 5
    expected = stats.t.cdf(found.estimate / found.standard_error, df)
    shares = probability_of_best(observations, draws=40_000)
    assert shares[0] == pytest.approx(expected, abs=0.02)


def test_equal_arms_without_spread_share_evenly() -> None:
    found = [(a, 0, s, f"{c}", 0.1 * c) for a in range(4) for s in (0, 1) for c in range(5)]
    assert probability_of_best(Observations(found)) == pytest.approx(dict.fromkeys(range(4), 0.25))


def test_unknown_runs_or_a_single_shared_case_have_no_shares() -> None:
    one_seed = Observations(rows(Design(seeds=1), np.random.default_rng(0)))
    one_case = Observations(rows(Design(cases=1), np.random.default_rng(0)))
    assert probability_of_best(one_seed) == {}
    assert probability_of_best(one_case) == {}
    assert probability_of_best(Observations([])) == {}


def test_a_thousand_arms_on_few_cases() -> None:
    design = Design(arms=1000, cases=8, run=0.1, noise=0.1)
    shares = probability_of_best(Observations(rows(design, np.random.default_rng(0))), draws=500)
    assert len(shares) == 1000
    assert sum(shares.values()) == pytest.approx(1)
