"""The promised power, and sizes that reach it and no smaller ones."""

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.statistics import Observations, needed_for, smallest_detectable
from medseg.statistics.contrast import differences

from .simulated import Design, rows

DESIGN = Design(arms=6, seeds=4, cases=40, run=0.1, arm_case=0.3, noise=0.2)


def observed(design: Design = DESIGN, seed: int = 0) -> Observations:
    return Observations(rows(design, np.random.default_rng(seed)))


def test_a_difference_of_that_size_is_found_with_the_power() -> None:
    """The typical pair's difference from each of many ablations, averaged, then planted."""
    wanted = np.mean([smallest_detectable(observed(seed=seed)).difference for seed in range(10)])
    generator, hits = np.random.default_rng(3), []
    for _ in range(500):
        pair = differences(
            Observations(rows(DESIGN, generator, [0.0, float(wanted)])), {1: 1.0, 0: -1.0}
        )
        assert pair.uncertainty is not None
        assert pair.estimate is not None
        hits.append(pair.uncertainty.p_value(pair.estimate) <= 0.05)
    assert 0.74 <= np.mean(hits) <= 0.86


def test_more_power_needs_a_larger_difference() -> None:
    small, large = (smallest_detectable(observed(), power=p) for p in (0.5, 0.9))
    assert small.difference is not None
    assert large.difference is not None
    assert small.difference < large.difference
    assert (small.cases, small.seeds, small.power, small.alpha) == (40, 4, 0.5, 0.05)


def test_the_size_at_hand_is_enough_for_what_it_detects() -> None:
    found = smallest_detectable(observed())
    assert found.difference is not None
    sizes = needed_for(observed(), found.difference * (1 + 1e-9))
    assert sizes == (found.cases, found.seeds)
    for size, larger in zip(sizes, needed_for(observed(), found.difference * 0.999), strict=True):
        assert larger is None or larger > (size or 0)


def test_neither_cases_nor_seeds_make_up_for_the_other() -> None:
    differing_runs = observed(Design(arms=4, seeds=2, cases=20, run=1.0, noise=0.1))
    cases, seeds = needed_for(differing_runs, 0.2)
    assert cases is None
    assert seeds is not None
    assert seeds > 50
    differing_cases = observed(Design(arms=4, seeds=2, cases=10, arm_case=1.0))
    cases, seeds = needed_for(differing_cases, 0.2)
    assert seeds is None
    assert cases is not None
    assert cases > 200


def test_nothing_is_known_of_one_seed() -> None:
    observations = observed(Design(seeds=1))
    assert smallest_detectable(observations).difference is None
    assert needed_for(observations, 0.1) == (None, None)


@pytest.mark.parametrize(("power", "alpha"), [(0.04, 0.05), (1.0, 0.05), (0.8, 0.0)])
def test_impossible_powers_are_refused(power: float, alpha: float) -> None:
    with pytest.raises(ConfigError):
        smallest_detectable(observed(), power, alpha)


def test_a_difference_of_0_is_refused() -> None:
    with pytest.raises(ConfigError):
        needed_for(observed(), 0.0)
