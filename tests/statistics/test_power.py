"""The promised power, and sizes that reach it and no smaller ones."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from medseg.statistics import Observations, Sizes, compare, needed_for, smallest_detectable
from medseg.statistics.contrast import differences

from .simulated import Design, rows

DESIGN = Design(arms=6, seeds=4, cases=40, run=0.1, arm_case=0.3, noise=0.2)


def observed(design: Design = DESIGN, seed: int = 0) -> Observations:
    return Observations(rows(design, np.random.default_rng(seed)))


def test_a_difference_of_that_size_is_found_with_the_power() -> None:
    """The typical pair's difference from each of many ablations, averaged, then planted."""
    wanted = np.mean([smallest_detectable(observed(seed=seed))[0] for seed in range(10)])
    generator, hits = np.random.default_rng(3), []
    for _ in range(120):
        pair = differences(
            Observations(rows(DESIGN, generator, [0.0, float(wanted)])), {1: 1.0, 0: -1.0}
        )
        assert pair.uncertainty is not None
        assert pair.estimate is not None
        hits.append(pair.uncertainty.p_value(pair.estimate) <= 0.05)
    assert 0.7 <= np.mean(hits) <= 0.92


@pytest.mark.parametrize(("difference", "margin"), [(0.3, None), (0.0, 0.3)])
def test_as_many_seeds_as_it_says_decide_in_four_of_five_ablations(
    difference: float, margin: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Components from a large ablation; then ablations of the size named, through `compare`."""
    design = Design(arms=4, cases=40, run=0.2, arm_case=0.1, noise=0.2)
    large = Observations(rows(replace(design, seeds=60), np.random.default_rng(0)))
    find, equal = needed_for(large, 1, 0, difference=difference, margin=margin, comparisons=3)
    seeds = equal.seeds if margin else find.seeds
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
    find, equal = needed_for(both, 1, 0, difference=0.12, margin=None)
    assert (find.seeds, find.cases) == (None, None)
    assert find.both is not None
    assert find.both[0] > 3
    assert find.both[1] > 20
    assert equal == Sizes()


def test_more_comparisons_need_more() -> None:
    one, many = (
        needed_for(observed(), 1, 0, difference=0.3, margin=0.2, comparisons=count)
        for count in (1, 5)
    )
    assert one[0].seeds < many[0].seeds
    assert one[1].seeds == many[1].seeds


def test_folds_cannot_be_more_so_only_cases_are_named() -> None:
    folds = observed(Design(arms=4, folds=5, seeds=1, cases=50, run=0.05, noise=0.3))
    find, equal = needed_for(folds, 1, 0, difference=0.2, margin=0.2)
    assert (find.seeds, find.both, equal.seeds) == (None, None, None)
    assert find.cases is not None


def test_nothing_is_known_of_one_seed() -> None:
    observations = observed(Design(seeds=1))
    assert smallest_detectable(observations) is None
    assert needed_for(observations, 1, 0, difference=0.1, margin=0.1) == (Sizes(), Sizes())


def test_no_difference_needs_nothing_found() -> None:
    found = needed_for(observed(), 1, 0, difference=0.0, margin=None)
    assert found == (Sizes(), Sizes())
