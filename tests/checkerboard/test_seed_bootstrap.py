"""The interval over seeds and cases: its variance in closed form, its coverage, its refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.checkerboard.cases.statistics import confidence_interval, hierarchical_interval


def sample(seeds: int, cases: int, of_seed: float, of_case: float, of_both: float, state: int = 0):
    random = np.random.default_rng(state)
    return (
        of_seed * random.normal(size=(seeds, 1))
        + of_case * random.normal(size=(1, cases))
        + of_both * random.normal(size=(seeds, cases))
    )


def multinomial_covariance(count: int) -> np.ndarray:
    return (np.eye(count) - 1 / count) / count**2


def bootstrap_variance(values: np.ndarray) -> float:
    """Of `w_sᵀ V w_c` for independent multinomial weights, exactly."""
    of_seeds, of_cases = (multinomial_covariance(count) for count in values.shape)
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    both = np.trace(of_seeds @ values @ of_cases @ values.T)
    return float(columns @ of_cases @ columns + rows @ of_seeds @ rows + both)


@pytest.mark.parametrize("parts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 1, 2)])
def test_the_width_is_that_of_the_exact_variance(parts) -> None:
    values = sample(30, 40, *parts) + 7
    low, high = hierarchical_interval(values.tolist())
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(bootstrap_variance(values)), rel=0.05)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=(high - low) / 10)


def test_seeds_that_agree_add_nothing() -> None:
    one = np.random.default_rng(3).normal(size=30).tolist()
    low, high = confidence_interval(one)
    for seeds in (2, 5):  # cases are drawn alike for all seeds, so more seeds are not more cases
        found = hierarchical_interval([one] * seeds)
        assert found == pytest.approx((low, high), abs=0.06 * (high - low))


def test_seeds_that_differ_widen_it() -> None:
    agreed = sample(3, 30, 0, 1, 0)
    differing = agreed + np.array([[-1], [0], [1]])
    narrow, wide = (hierarchical_interval(v.tolist()) for v in (agreed, differing))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("cases", [8, 30])
def test_two_seeds_without_spread_over_cases(cases) -> None:
    # one seed is drawn twice in half of all draws
    values = [[0.0] * cases, [1.0] * cases]
    assert hierarchical_interval(values) == pytest.approx((0, 1), abs=1e-12)
    assert hierarchical_interval(values, level=0.4) == pytest.approx((0.5, 0.5), abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.integers(8, 20), st.integers(-4, 4), st.integers(0, 99))
def test_scale_and_repetition(seeds, cases, power, state) -> None:
    values = sample(seeds, cases, 1, 1, 1, state)
    low, high = hierarchical_interval(values.tolist(), resamples=199)
    assert values.min() <= low < high <= values.max()
    assert hierarchical_interval(values.tolist(), resamples=199) == (low, high)
    scaled = hierarchical_interval((2.0**power * values).tolist(), resamples=199)
    assert scaled == pytest.approx((2.0**power * low, 2.0**power * high), rel=1e-12)
    mirrored = hierarchical_interval((3 - values).tolist(), resamples=199)
    assert mirrored == pytest.approx((3 - high, 3 - low), abs=1e-12)


def test_a_higher_level_is_wider() -> None:
    values = sample(3, 12, 1, 1, 1).tolist()
    intervals = [hierarchical_interval(values, level) for level in (0.5, 0.8, 0.95, 0.99)]
    widths = [high - low for low, high in intervals]
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("seeds", "of_seed", "least", "most"),
    [(3, 0.1, 0.9, 0.99), (2, 1.0, 0.5, 0.75), (5, 1.0, 0.75, 0.95)],
)
def test_coverage_as_documented(seeds, of_seed, least, most) -> None:
    intervals = [
        hierarchical_interval(sample(seeds, 50, of_seed, 1, 0.3, state).tolist(), resamples=399)
        for state in range(300)
    ]
    assert least <= sum(low <= 0 <= high for low, high in intervals) / 300 <= most


class TestRefusals:
    def test_one_seed(self) -> None:
        with pytest.raises(ValueError, match=r"1 seed: .* use confidence_interval"):
            hierarchical_interval([[1.0] * 9])

    def test_few_cases(self) -> None:
        with pytest.raises(ValueError, match=r"7 cases .* at least 8 .* add cases"):
            hierarchical_interval([[1.0] * 7] * 3)

    def test_seeds_on_different_cases(self) -> None:
        with pytest.raises(ValueError, match=r"\[8, 9\] cases: .* the same cases"):
            hierarchical_interval([[1.0] * 8, [1.0] * 9])

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_values_that_are_no_numbers(self, bad) -> None:
        with pytest.raises(ValueError, match="not finite"):
            hierarchical_interval([[1.0] * 8, [1.0] * 7 + [bad]])

    @pytest.mark.parametrize("level", [0, 1, 95])
    def test_levels_that_are_no_share(self, level) -> None:
        with pytest.raises(ValueError, match="between 0 and 1"):
            hierarchical_interval([[1.0] * 8, [2.0] * 8], level=level)
