"""The estimate and its variance against direct loops over a two-way table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from medseg.statistics import Contrast, Observations, bca, contrast
from medseg.statistics.contrast import RESAMPLES, Uncertainty, differences

from .simulated import Design, rows

DIFFERENCE = {1: 1.0, 0: -1.0}
variances = st.floats(1e-6, 1e3)
freedom = st.integers(1, 200)


def table_of(found: list, arms: int, seeds: int, cases: int) -> np.ndarray:
    return np.array([value for *_, value in found]).reshape(arms, seeds, cases)


def test_a_balanced_design_is_a_two_way_analysis_of_variance() -> None:
    arms, seeds, cases = 3, 4, 7
    design = Design(arms=arms, seeds=seeds, cases=cases, run=0.5, noise=0.4, arm_case=0.3)
    found = rows(design, np.random.default_rng(4))
    y = table_of(found, arms, seeds, cases)
    weights = [0.5, 0.5, -1.0]
    between = residual = 0.0
    for a in range(arms):
        for s in range(seeds):
            between += (y[a, s].mean() - y[a].mean()) ** 2 / (arms * (seeds - 1))
            for c in range(cases):
                rest = y[a, s, c] - y[a, s].mean() - y[a, :, c].mean() + y[a].mean()
                residual += rest**2 / (arms * (seeds - 1) * (cases - 1))
    per_case = [sum(weights[a] * y[a, :, c].mean() for a in range(arms)) for c in range(cases)]
    squares = sum(w**2 for w in weights)

    observations = Observations(found)
    trainings, pair = observations.trainings, differences(observations, dict(enumerate(weights)))
    assert trainings is not None
    assert pair.uncertainty is not None
    run = trainings.pool
    assert (run.value, run.noise) == pytest.approx((between, residual))
    assert (run.df, trainings.source) == (arms * (seeds - 1), "seeds")
    used = [trainings.of(arm) for arm in range(arms)]
    assert [own.value for own in used] == pytest.approx(
        [max(between, own.value) for own in trainings.own]
    )
    assert {own.df for own in used} == {run.df}
    assert pair.estimate == pytest.approx(np.mean(per_case))
    assert [part for part, _ in pair.uncertainty.runs] == pytest.approx(
        [w**2 * own.value / seeds for w, own in zip(weights, used, strict=True)]
    )
    assert pair.uncertainty.cases == pytest.approx(np.var(per_case, ddof=1) / cases)
    assert pair.uncertainty.cases_df == cases - 1
    assert pair.uncertainty.overlap == pytest.approx(squares * residual / (seeds * cases))


def test_the_variance_is_right_on_average() -> None:
    """Within 4 standard errors of its mean; before the case term is cut at 0."""
    design = Design(seeds=2, cases=10, arm_case=1.0, run=0.5, noise=0.7)
    generator, count = np.random.default_rng(5), 300
    parts, squares = [], []
    for _ in range(count):
        observations = Observations(rows(design, generator))
        pair = differences(observations, DIFFERENCE)
        assert pair.uncertainty is not None
        assert pair.estimate is not None
        assert observations.trainings is not None
        known, pool = pair.uncertainty, observations.trainings.pool
        parts.append(2 * pool.value / 2 + known.cases - known.overlap)
        squares.append(pair.estimate**2)
    true = 2 * (0.5**2 / 2 + 1.0 / 10 + 0.7**2 / 20)
    for sample in (parts, squares):
        assert np.mean(sample) == pytest.approx(true, abs=4 * np.std(sample) / np.sqrt(count))


def test_one_seed_and_disjoint_folds_are_a_paired_test_over_folds() -> None:
    design = Design(folds=5, seeds=1, cases=30, run=0.5, noise=0.4, arm_case=0.3)
    found = rows(design, np.random.default_rng(2))
    means = np.zeros((2, 5))
    for arm, fold, _, _, value in found:
        means[arm, fold] += value / 6
    pair = differences(Observations(found), DIFFERENCE)
    assert pair.uncertainty is not None
    expected = stats.ttest_rel(means[1], means[0])
    per_fold = means[1] - means[0]
    assert sum(part for part, _ in pair.uncertainty.runs) == pytest.approx(
        np.var(per_fold, ddof=1) / 5
    )
    assert {df for _, df in pair.uncertainty.runs} == {expected.df} == {4}
    assert pair.uncertainty.overlap == pytest.approx(
        sum(np.var([v for *_, v in _differences(found, fold)], ddof=1) * 6 for fold in range(5))
        / 30**2
    )


def _differences(found: list, fold: int) -> list[tuple[str, float]]:
    values = {(arm, case): value for arm, f, _, case, value in found if f == fold}
    cases = {case for _, case in values}
    return [(case, values[1, case] - values[0, case]) for case in sorted(cases)]


def test_runs_on_part_of_the_cases_count_by_their_share() -> None:
    """Two folds of unequal size: the run of 3 cases weighs 3/4, that of 1 weighs 1/4."""
    found = [
        (arm, fold, seed, case, 0.1 * seed + arm)
        for arm in (0, 1)
        for fold, cases in enumerate(("abc", "d"))
        for case in cases
        for seed in (0, 1)
    ]
    observations = Observations(found)
    pair = differences(observations, DIFFERENCE)
    assert pair.uncertainty is not None
    assert observations.trainings is not None
    run = observations.trainings.pool
    assert sum(part for part, _ in pair.uncertainty.runs) == pytest.approx(
        2 * run.value * 2 * ((3 / 8) ** 2 + (1 / 8) ** 2)
    )


def test_without_a_spread_of_trainings_it_is_a_paired_t_test() -> None:
    generator = np.random.default_rng(8)
    y = generator.normal(size=(2, 12))
    found = [(a, 0, s, f"{c}", y[a, c]) for a in (0, 1) for s in (0, 1) for c in range(12)]
    got = contrast(Observations(found), DIFFERENCE)
    expected = stats.ttest_rel(y[1], y[0])
    interval = expected.confidence_interval(0.95)
    assert got.p_value == pytest.approx(expected.pvalue)
    assert (got.low, got.high) == pytest.approx((interval.low, interval.high))


def test_cases_that_an_arm_lacks_are_left_out_of_both() -> None:
    found = [(0, 0, s, c, v) for s in (0, 1) for c, v in zip("abcd", (1, 2, 3, 40), strict=True)]
    found += [(1, 0, s, c, v) for s in (0, 1) for c, v in zip("bcae", (5, 6, 9, 70), strict=True)]
    got = contrast(Observations(found), DIFFERENCE)
    assert got.estimate == pytest.approx((9 - 1 + 5 - 2 + 6 - 3) / 3)
    assert (got.cases, dict(got.left_out)) == (3, {0: 1, 1: 1})


def test_a_single_seed_and_fold_tell_nothing_of_trainings() -> None:
    observations = Observations(rows(Design(seeds=1, noise=1.0), np.random.default_rng(0)))
    got = contrast(observations, DIFFERENCE)
    assert observations.trainings is None
    assert (got.low, got.high, got.standard_error, got.p_value) == (None,) * 4
    assert None not in (got.estimate, got.case_low, got.case_high)


@pytest.mark.parametrize("arms", [(0, 7), (0, 1)])
def test_arms_without_values_or_with_other_cases_have_no_difference(arms: tuple[int, int]) -> None:
    found = [(0, 0, 0, "a", 1.0), (0, 0, 1, "a", 1.5), (1, 0, 0, "b", 2.0), (1, 0, 1, "b", 1.0)]
    got = contrast(Observations(found), {arms[0]: 1.0, arms[1]: -1.0})
    assert got == Contrast(estimate=None, left_out=got.left_out)


@given(variances, freedom, st.floats(1e-3, 50), st.booleans())
def test_a_single_part_is_students_t(variance: float, df: int, t: float, runs: bool) -> None:
    parts = (variance, 0.0) if runs else (0.0, variance)
    known = Uncertainty(runs=((parts[0], df),), cases=parts[1], cases_df=df)
    distance = t * np.sqrt(variance)
    assert known.p_value(distance) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-6, abs=1e-48)
    assert known.half_width(0.9) == pytest.approx(stats.t.isf(0.05, df) * np.sqrt(variance))


@given(variances, freedom, variances, freedom, st.floats(0, 2), st.floats(0.5, 0.999))
def test_the_level_of_an_interval_is_the_p_of_its_end(
    runs: float, runs_df: int, cases: float, cases_df: int, overlap: float, level: float
) -> None:
    known = Uncertainty(
        runs=((runs / 2, runs_df), (runs / 2, runs_df + 1)),
        cases=cases,
        cases_df=cases_df,
        overlap=overlap * cases,
    )
    half = known.half_width(level)
    assert known.p_value(half) == pytest.approx(1 - level, rel=1e-6)
    assert known.p_above(half) == pytest.approx((1 - level) / 2, rel=1e-6)
    assert known.p_above(half) + known.p_above(-half) == pytest.approx(1)
    assert half >= special.ndtri((1 + level) / 2) * known.standard_error * (1 - 1e-9)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("df", [(1, 9), (2, 199), (4, 5)])
def test_the_level_holds_whatever_the_shares(share: float, df: tuple[int, int]) -> None:
    """Satterthwaite's degrees of freedom err in up to 8 % of these draws."""
    draws, generator = 40_000, np.random.default_rng(1)
    runs = share * generator.chisquare(df[0], draws) / df[0]
    cases = (1 - share) * generator.chisquare(df[1], draws) / df[1]
    critical = np.sqrt(
        stats.t.isf(0.025, df[0]) ** 2 * runs + stats.t.isf(0.025, df[1]) ** 2 * cases
    )
    one = Uncertainty(runs=((runs[0], df[0]),), cases=cases[0], cases_df=df[1])
    assert one.half_width(0.95) == pytest.approx(critical[0])
    wrong = np.mean(np.abs(generator.normal(size=draws)) > critical)
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)


def test_nothing_varies() -> None:
    known = Uncertainty(runs=((0.0, 2), (0.0, 3)), cases=0.0, cases_df=5)
    assert (known.p_value(0.0), known.p_value(0.1), known.standard_error) == (1.0, 0.0, 0.0)


def test_bca_is_that_of_scipy_at_the_level_that_few_cases_need() -> None:
    sample = np.random.default_rng(4).gamma(2.0, size=25)
    tail = stats.norm.sf(np.sqrt(25 / 24) * stats.t.isf(0.025, 24))
    expected = stats.bootstrap(
        (sample,),
        np.mean,
        confidence_level=1 - 2 * tail,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
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
    assert bca(sample[:7]) is None
