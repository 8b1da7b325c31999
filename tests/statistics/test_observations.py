"""Rows become an array that says what each training reached on each case."""

import math

import numpy as np
import pytest

from medseg.errors import DataError
from medseg.statistics import Observations
from medseg.statistics.contrast import ROUNDING

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
    assert observations.run_means(3) == {(0, 0): 1.0, (0, 1): 3.5, (1, 0): 7.0}
    assert (observations.runs(3), observations.seeds(3), observations.dropped) == (3, 1, 1)


def test_an_arm_of_nan_is_an_arm_without_values() -> None:
    observations = Observations([(0, 0, 0, "a", NAN), (1, 0, 0, "a", 1.0)])
    assert observations.arms == (0, 1)
    for arm in (0, 9):
        assert observations.by_case(arm) == {}
        assert observations.mean(arm) is None
        assert (observations.runs(arm), observations.seeds(arm)) == (0, 0)
        assert observations.run_means(arm) == {}


def test_no_rows_are_no_arms() -> None:
    observations = Observations([])
    assert observations.arms == ()
    assert observations.run_variance is None


def test_the_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    rows = [
        (a, f, s, f"case{c}", float(generator.normal()))
        for a in range(3)
        for f in range(2)
        for s in range(2)
        for c in range(4)
    ]
    turned = [rows[i] for i in generator.permutation(len(rows))]
    first, second = Observations(rows), Observations(iter(turned))
    np.testing.assert_array_equal(first.table.values, second.table.values)
    assert first.run_variance == second.run_variance


def test_values_cannot_be_changed() -> None:
    observations = Observations([(0, 0, 0, "a", 1.0)])
    with pytest.raises(ValueError, match="read-only"):
        observations.table.values[0, 0] = 2.0


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_values_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="finite"):
        Observations([(0, 0, 0, "a", value)])


def test_two_values_for_one_case_of_a_run_are_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        Observations([(0, 0, 0, "a", 1.0), (0, 0, 0, "a", 1.0)])


def test_rounding_of_a_mean_is_smaller_than_a_difference_that_counts() -> None:
    assert np.finfo(float).eps * 100 < ROUNDING
