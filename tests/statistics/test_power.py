"""The promised power, and sizes that reach it and no smaller ones."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.statistics import Needed, Observations, compare, needed_for, smallest_detectable
from medseg.statistics.contrast import differences

from .simulated import Design, rows

DESIGN = Design(arms=6, seeds=4, cases=40, run=0.1, arm_case=0.3, noise=0.2)


def observed(design: Design = DESIGN, seed: int = 0) -> Observations:
    return Observations(rows(design, np.random.default_rng(seed)))


def test_a_difference_of_that_size_is_found_with_the_power() -> None:
    """The typical pair's difference from each of many ablations, averaged, then planted."""
    wanted = np.mean([smallest_detectable(observed(seed=seed)).difference for seed in range(10)])
    generator, hits = np.random.default_rng(3), []
    for _ in range(120):
        pair = differences(
            Observations(rows(DESIGN, generator, [0.0, float(wanted)])), {1: 1.0, 0: -1.0}
        )
        assert pair.uncertainty is not None
        assert pair.estimate is not None
        hits.append(pair.uncertainty.p_value(pair.estimate) <= 0.05)
    assert 0.7 <= np.mean(hits) <= 0.92


def test_more_power_needs_a_larger_difference() -> None:
    small, large = (smallest_detectable(observed(), power=p) for p in (0.5, 0.9))
    assert small.difference is not None
    assert large.difference is not None
    assert small.difference < large.difference
    assert (small.cases, small.seeds, small.power, small.alpha) == (40, 4, 0.5, 0.05)


@pytest.mark.parametrize(("difference", "margin"), [(0.3, None), (0.0, 0.3)])
def test_as_many_seeds_as_it_says_decide_in_four_of_five_ablations(
    difference: float, margin: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Components from a large ablation; then ablations of the size named, through `compare`."""
    design = Design(arms=4, cases=40, run=0.2, arm_case=0.1, noise=0.2)
    large = Observations(rows(replace(design, seeds=60), np.random.default_rng(0)))
    found = needed_for(large, 1, 0, difference=difference, margin=margin, comparisons=3)
    seeds = found.equal_seeds if margin else found.find_seeds
    assert seeds is not None
    assert seeds > 3
    monkeypatch.setattr(import_module("medseg.statistics.contrast"), "bca", lambda *_: None)
    generator, wanted = np.random.default_rng(1), "equal" if margin else "better"
    sized = replace(design, seeds=seeds)
    drawn = [Observations(rows(sized, generator, [0.0, difference])) for _ in range(40)]
    found = np.mean([compare(o, 0, margin=margin)[0].verdict == wanted for o in drawn])
    assert 0.6 < found < 0.97


def test_seeds_and_cases_together_do_what_neither_does_alone() -> None:
    both = observed(Design(arms=4, seeds=3, cases=20, run=0.3, arm_case=0.3))
    found = needed_for(both, 1, 0, difference=0.12, margin=None)
    assert (found.find_seeds, found.find_cases) == (None, None)
    assert found.find_both is not None
    assert found.find_both[0] > 3
    assert found.find_both[1] > 20
    assert (found.equal_seeds, found.equal_cases, found.equal_both) == (None, None, None)


def test_more_comparisons_need_more() -> None:
    one, many = (
        needed_for(observed(), 1, 0, difference=0.3, margin=0.2, comparisons=count)
        for count in (1, 5)
    )
    assert one.find_seeds is not None
    assert many.find_seeds is not None
    assert one.find_seeds < many.find_seeds
    assert one.equal_seeds == many.equal_seeds


def test_folds_cannot_be_more_so_only_cases_are_named() -> None:
    folds = observed(Design(arms=4, folds=5, seeds=1, cases=50, run=0.05, noise=0.3))
    found = needed_for(folds, 1, 0, difference=0.2, margin=0.2)
    assert (found.find_seeds, found.find_both, found.equal_seeds) == (None, None, None)
    assert found.find_cases is not None


def test_nothing_is_known_of_one_seed() -> None:
    observations = observed(Design(seeds=1))
    assert smallest_detectable(observations).difference is None
    assert needed_for(observations, 1, 0, difference=0.1, margin=0.1) == Needed()


@pytest.mark.parametrize(("power", "alpha"), [(0.04, 0.05), (1.0, 0.05), (0.8, 0.0)])
def test_impossible_powers_are_refused(power: float, alpha: float) -> None:
    with pytest.raises(ConfigError):
        smallest_detectable(observed(), power, alpha)
    with pytest.raises(ConfigError):
        needed_for(observed(), 1, 0, difference=0.1, margin=0.1, power=power, alpha=alpha)


def test_no_difference_needs_nothing_found() -> None:
    found = needed_for(observed(), 1, 0, difference=0.0, margin=None)
    assert found == Needed()
