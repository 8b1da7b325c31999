"""Holm, BCa and Wilcoxon against the libraries and direct counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medseg.statistics import bca, holm, wilcoxon
from medseg.statistics.corrections import RESAMPLES


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_largest_of_the_stepwise_products(p_values: list[float]) -> None:
    order, largest = np.argsort(p_values, kind="stable"), 0.0
    expected = [0.0] * len(p_values)
    for rank, index in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        expected[index] = min(1.0, largest)
    assert holm(p_values) == pytest.approx(expected)


def test_unknown_p_values_are_no_part_of_the_family() -> None:
    assert holm([0.01, None, float("nan"), 0.04]) == [0.02, None, None, 0.04]
    assert holm([]) == []
    assert holm([None]) == [None]


def test_bca_is_that_of_scipy() -> None:
    sample = np.random.default_rng(4).gamma(2.0, size=25)
    expected = stats.bootstrap(
        (sample,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert bca(sample) == pytest.approx((expected.low, expected.high))


@given(
    st.lists(st.floats(-1, 1), min_size=8, max_size=12),
    st.floats(-1e3, 1e3),
    st.sampled_from([1e-9, 1.0, 1e6]),
)
def test_bca_never_fails_and_keeps_within_the_values(
    values: list[float], shift: float, scale: float
) -> None:
    sample = scale * np.array(values) + shift
    found = bca(sample)
    assert found is not None
    rounding = 1e-9 * np.abs(sample).max()
    assert sample.min() - rounding <= found[0] <= found[1] <= sample.max() + rounding


def test_few_cases_have_no_bca_interval() -> None:
    assert bca(np.arange(7.0)) is None


@pytest.mark.parametrize("count", range(1, 9))
def test_the_least_p_is_that_of_equal_signs(count: int) -> None:
    """All 2ⁿ signs are as likely; two of them have all signs equal."""
    p_value, least = wilcoxon(np.arange(1.0, count + 1))
    signs = list(itertools.product((-1, 1), repeat=count))
    extreme = sum(abs(sum(s)) == count for s in signs)
    assert least == p_value == extreme / len(signs)


def test_wilcoxon_is_that_of_scipy_without_zeros() -> None:
    values = np.random.default_rng(0).normal(0.3, size=20)
    with_zeros = np.concatenate([values, np.zeros(5)])
    expected = stats.wilcoxon(values)
    assert wilcoxon(with_zeros) == (pytest.approx(np.asarray(expected)[1]), 2.0**-19)


def test_wilcoxon_without_a_difference_and_without_a_pair() -> None:
    assert wilcoxon(np.zeros(4)) == (1.0, 1.0)
    assert wilcoxon([]) == (None, 1.0)
