"""Rows become an array of runs × cases; its variance splits into components."""

import math

import numpy as np
import pytest

from medseg.errors import DataError
from medseg.statistics import Observations, variance_components

from .simulated import Design, rows

NAN = float("nan")


def test_a_case_is_the_mean_over_the_seeds_that_have_it() -> None:
    observations = Observations(
        [
            (3, 0, 0, "a", 1.0),
            (3, 0, 1, "a", 2.0),
            (3, 0, 1, "b", 5.0),
            (3, 0, 0, "b", NAN),
            (3, 1, 0, "c", 7.0),
        ]
    )
    assert observations.by_case(3) == {"a": 1.5, "b": 5.0, "c": 7.0}
    assert observations.cases(3) == ("a", "b", "c")
    assert observations.mean(3) == pytest.approx(4.5)
    assert (observations.runs(3), observations.seeds(3)) == (3, 1)


def test_an_arm_of_nan_is_an_arm_without_values_and_no_rows_are_no_arms() -> None:
    observations = Observations([(0, 0, 0, "a", NAN), (1, 0, 0, "a", 1.0)])
    assert observations.arms == (0, 1)
    for arm in (0, 9):
        assert observations.by_case(arm) == {}
        assert observations.mean(arm) is None
        assert (observations.runs(arm), observations.seeds(arm)) == (0, 0)
    assert Observations([]).arms == ()
    assert Observations([]).trainings is None


def test_the_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    drawn = rows(Design(arms=3, folds=2, cases=8, noise=1.0), generator)
    first = Observations(drawn)
    second = Observations(iter([drawn[i] for i in generator.permutation(len(drawn))]))
    np.testing.assert_array_equal(first.values, second.values)
    assert first.trainings == second.trainings
    with pytest.raises(ValueError, match="read-only"):
        first.values[0, 0] = 2.0


def test_infinite_and_repeated_values_are_refused() -> None:
    for value in (math.inf, -math.inf):
        with pytest.raises(DataError, match="finite"):
            Observations([(0, 0, 0, "a", value)])
    with pytest.raises(DataError, match="twice"):
        Observations([(0, 0, 0, "a", 1.0), (0, 0, 0, "a", 1.0)])


def test_a_balanced_table_is_solved_from_its_mean_squares() -> None:
    seeds, cases = 3, 6
    y = (
        np.random.default_rng(1).normal(size=(seeds, cases))
        + np.arange(cases)
        + 3 * np.arange(seeds)[:, None]
    )
    residual = sum(
        (y[s, c] - y[s].mean() - y[:, c].mean() + y.mean()) ** 2 / ((seeds - 1) * (cases - 1))
        for s in range(seeds)
        for c in range(cases)
    )
    found = variance_components(
        Observations([(0, 0, s, f"{c}", y[s, c]) for s in range(seeds) for c in range(cases)])
    )
    assert found == pytest.approx(
        {
            "case": np.var(y.mean(axis=0), ddof=1) - residual / seeds,
            "seed": np.var(y.mean(axis=1), ddof=1) - residual / cases,
            "residual": residual,
        }
    )


@pytest.mark.parametrize("shared", [False, True])
def test_large_designs_find_the_truth(shared: bool) -> None:
    sizes = {"arms": 60, "folds": 5, "seeds": 3, "cases": 60, "shared": shared}
    design = Design(case=0.0, arm_case=1.0, run=0.5, noise=0.7, **sizes)
    generator = np.random.default_rng(2)
    lift = generator.normal(scale=0.8, size=(60, 5))
    found = variance_components(
        Observations([(a, f, s, c, v + lift[a, f]) for a, f, s, c, v in rows(design, generator)])
    )
    assert found["case"] == pytest.approx(1.0, rel=0.15)
    assert found["seed"] == pytest.approx(0.25, rel=0.15)
    assert found["residual"] == pytest.approx(0.49, rel=0.05)
    assert found["fold"] == pytest.approx(0.64, rel=0.25)


def test_components_that_cannot_be_estimated_are_missing_and_none_is_negative() -> None:
    one_seed = Observations(rows(Design(seeds=1), np.random.default_rng(0)))
    assert set(variance_components(one_seed)) == {"case"}
    seesaw = [(0, 0, s, f"{c}", float((s + c) % 2)) for s in (0, 1) for c in (0, 1)]
    assert variance_components(Observations(seesaw)) == {"case": 0.0, "seed": 0.0, "residual": 1.0}
    assert variance_components(Observations([])) == {}
