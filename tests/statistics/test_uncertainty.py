"""Student's t where one part varies, and at least the promised level where two do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from medseg.statistics.uncertainty import Uncertainty

variances = st.floats(1e-6, 1e3)
freedom = st.integers(1, 200)


@given(variances, freedom, st.floats(1e-3, 50), st.booleans())
def test_a_single_part_is_students_t(variance: float, df: int, t: float, runs: bool) -> None:
    parts = (variance, 0.0) if runs else (0.0, variance)
    known = Uncertainty(runs=parts[0], runs_df=df, cases=parts[1], cases_df=df)
    distance = t * np.sqrt(variance)
    assert known.p_value(distance) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-6, abs=1e-48)
    assert known.half_width(0.9) == pytest.approx(stats.t.isf(0.05, df) * np.sqrt(variance))
    assert known.df(0.95) == pytest.approx(df, rel=1e-4)


@given(variances, freedom, variances, freedom, st.floats(0, 2), st.floats(0.5, 0.999))
def test_the_level_of_an_interval_is_the_p_of_its_end(
    runs: float, runs_df: int, cases: float, cases_df: int, overlap: float, level: float
) -> None:
    known = Uncertainty(
        runs=runs, runs_df=runs_df, cases=cases, cases_df=cases_df, overlap=overlap * cases
    )
    half = known.half_width(level)
    assert known.p_value(half) == pytest.approx(1 - level, rel=1e-6)
    assert known.p_above(half) == pytest.approx((1 - level) / 2, rel=1e-6)
    assert known.p_above(half) + known.p_above(-half) == pytest.approx(1)
    assert half >= special.ndtri((1 + level) / 2) * known.standard_error * (1 - 1e-9)


@given(variances, st.integers(1, 30), variances, st.integers(1, 30), st.floats(0.01, 10))
def test_p_falls_with_distance(
    runs: float, runs_df: int, cases: float, cases_df: int, distance: float
) -> None:
    known = Uncertainty(
        runs=runs, runs_df=runs_df, cases=cases, cases_df=cases_df, overlap=0.5 * cases
    )
    assert known.p_value(distance) >= known.p_value(1.1 * distance)
    assert known.p_value(0.0) == 1
    assert known.p_value(-distance) == known.p_value(distance)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
@pytest.mark.parametrize("df", [(1, 9), (2, 19), (2, 199), (4, 5)])
def test_the_level_holds_whatever_the_shares(share: float, df: tuple[int, int]) -> None:
    """Satterthwaite's degrees of freedom err in up to 8 % of these draws."""
    draws, generator = 40_000, np.random.default_rng(1)
    runs = share * generator.chisquare(df[0], draws) / df[0]
    cases = (1 - share) * generator.chisquare(df[1], draws) / df[1]
    critical = np.sqrt(
        stats.t.isf(0.025, df[0]) ** 2 * runs + stats.t.isf(0.025, df[1]) ** 2 * cases
    )
    one = Uncertainty(runs=runs[0], runs_df=df[0], cases=cases[0], cases_df=df[1])
    assert one.half_width(0.95) == pytest.approx(critical[0])
    wrong = np.mean(np.abs(generator.normal(size=draws)) > critical)
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)


def test_nothing_varies() -> None:
    known = Uncertainty(runs=0.0, runs_df=2, cases=0.0, cases_df=5)
    assert (known.p_value(0.0), known.p_value(0.1), known.standard_error) == (1.0, 0.0, 0.0)
    assert known.df(0.95) == 2
