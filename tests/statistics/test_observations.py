"""Rows become an array of runs × cases."""

import numpy as np
import pytest

from medseg.statistics import Observations

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
