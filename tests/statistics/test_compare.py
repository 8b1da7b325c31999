"""Comparisons with a reference: numbers, verdicts, and tables from which little can be known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from medseg.errors import ConfigError
from medseg.statistics import (
    Observations,
    compare,
    holm,
    outlying,
    wilcoxon,
)
from medseg.statistics.observations import Row

from .simulated import Design, rows


def repeated(y: np.ndarray, offsets: tuple[float, ...] = (0.0, 0.0)) -> Observations:
    """Values (arms, cases), in each training moved by its offset on all cases."""
    return Observations(
        [
            (arm, 0, seed, f"{case:02}", float(value + offset))
            for arm, values in enumerate(y)
            for case, value in enumerate(values)
            for seed, offset in enumerate(offsets)
        ]
    )


def draw(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_the_numbers_over_cases_are_those_of_the_libraries() -> None:
    y = draw((3, 15)) + np.array([[0.0], [0.5], [1.0]])
    found = compare(repeated(y), 0, margin=0.4)
    tests = [stats.ttest_rel(y[arm], y[0]) for arm in (1, 2)]
    ranks = [stats.wilcoxon(y[arm] - y[0]).pvalue for arm in (1, 2)]
    assert [c.arm for c in found] == [1, 2]
    assert {c.reference for c in found} == {0}
    assert [c.p_value for c in found] == pytest.approx([t.pvalue for t in tests])
    assert [c.p_holm for c in found] == pytest.approx(
        multipletests([t.pvalue for t in tests], method="holm")[1]
    )
    assert [c.wilcoxon_p for c in found] == pytest.approx(ranks)
    assert [c.wilcoxon_holm for c in found] == pytest.approx(multipletests(ranks, method="holm")[1])
    assert [c.equivalence_p for c in found] == pytest.approx(
        [ttost_paired(y[arm], y[0], -0.4, 0.4)[0] for arm in (1, 2)]
    )
    for arm, c in zip((1, 2), found, strict=True):
        gains = [a - b for a, b in zip(y[arm], y[0], strict=True)]
        assert c.effect_size == pytest.approx(np.mean(gains) / np.std(gains, ddof=1))
        assert c.superiority == pytest.approx(sum(g > 0 for g in gains) / 15)
        assert (c.seeds, c.reference_seeds, c.cases) == (2, 2, 15)


@pytest.mark.parametrize(
    ("shift", "higher_is_better", "verdict"),
    [(1.0, True, "better"), (-1.0, True, "worse"), (1.0, False, "worse"), (-1.0, False, "better")],
)
def test_a_clear_difference(shift: float, higher_is_better: bool, verdict: str) -> None:
    base = draw((1, 20))
    observations = repeated(np.concatenate([base, base + shift + 0.1 * draw((1, 20), 1)]))
    (found,) = compare(observations, 0, margin=0.1, higher_is_better=higher_is_better)
    assert found.verdict == verdict
    assert found.superiority == (1.0 if verdict == "better" else 0.0)
    assert found.estimate == pytest.approx(shift, abs=0.1)


def test_an_interval_within_the_margin_is_equal_even_if_it_excludes_0() -> None:
    base = draw((1, 20))
    observations = repeated(np.concatenate([base, base + 0.05 + 0.01 * draw((1, 20), 1)]))
    (found,) = compare(observations, 0, margin=0.1)
    assert (found.verdict, found.reason) == ("equal", "a difference, but within the margin")
    (found,) = compare(observations, 0, margin=0.05)
    assert found.verdict == "better"


def test_trainings_that_differ_much_decide_nothing() -> None:
    y = draw((2, 20)) * 0.1 + np.array([[0.0], [1.0]])
    (calm,) = compare(repeated(y), 0, margin=None)
    (wild,) = compare(repeated(y, (-2.0, 2.0)), 0, margin=0.5)
    assert calm.verdict == "better"
    assert (wild.verdict, wild.wilcoxon_p) == ("undecided", calm.wilcoxon_p)
    assert wild.reason == "the interval includes 0 after Holm and is not within the margin"


def test_one_seed_is_undecided() -> None:
    (found,) = compare(repeated(draw((2, 20)) + np.array([[0], [9]]), (0.0,)), 0, margin=99.0)
    assert (found.verdict, found.p_holm, found.equivalence_p) == ("undecided", None, None)
    assert found.reason.startswith("one seed")
    assert found.wilcoxon_p is not None
    assert found.wilcoxon_p < 0.001


@pytest.mark.parametrize("cases", [1, 2, 5])
def test_few_cases_are_undecided(cases: int) -> None:
    (found,) = compare(repeated(draw((2, cases)) + np.array([[0], [9]])), 0, margin=99.0)
    assert found.verdict == "undecided"
    assert found.reason.startswith(f"{cases} case")
    assert found.cases == cases


@pytest.mark.parametrize(
    ("margin", "verdict"), [(0.1, "equal"), (0.0, "undecided"), (None, "undecided")]
)
@pytest.mark.parametrize("constant", [False, True])
def test_identical_values(margin: float | None, verdict: str, constant: bool) -> None:
    base = np.full(9, 0.7) if constant else draw((9,))
    (found,) = compare(repeated(np.stack([base, base]), (-0.1, 0.1)), 0, margin=margin)
    assert (found.estimate, found.p_value, found.p_holm) == (0.0, 1.0, 1.0)
    assert (found.verdict, found.reason) == (verdict, "identical values")
    assert (found.effect_size, found.superiority, found.wilcoxon_p) == (None, 0.5, 1.0)


def test_the_same_difference_on_every_case_has_no_effect_size() -> None:
    base = draw((9,))
    (found,) = compare(repeated(np.stack([base, base + 0.1])), 0, margin=None)
    assert found.effect_size is None
    assert found.verdict == "better"


@pytest.mark.parametrize("reference", [0, 5])
def test_a_reference_without_values(reference: int) -> None:
    known: list[Row] = [(1, 0, s, f"{c}", c + s) for s in (0, 1) for c in range(9)]
    observations = Observations([(0, 0, 0, "0", float("nan")), *known])
    (found,) = [c for c in compare(observations, reference, margin=0.1) if c.arm == 1]
    assert (found.estimate, found.cases, found.verdict) == (None, 0, "undecided")
    assert (found.reference_seeds, dict(found.left_out)) == (0, {1: 9, reference: 0})


def test_disjoint_cases_are_undecided_and_no_part_of_the_family() -> None:
    base = draw((2, 9))
    known = [(a, 0, s, f"{c}", base[a, c]) for a in (0, 1) for s in (0, 1) for c in range(9)]
    other = [(2, 0, s, f"x{c}", 0.1 * c) for s in (0, 1) for c in range(9)]
    first, second = compare(Observations([*known, *other]), 0, margin=None)
    assert first.p_holm == pytest.approx(first.p_value)
    assert (second.verdict, second.reason) == ("undecided", "no case that both arms have")
    assert (second.p_holm, second.superiority, second.wilcoxon_p) == (None, None, None)


def test_nothing_to_compare() -> None:
    assert compare(Observations([]), 0, margin=0.1) == []
    assert compare(repeated(draw((1, 9))), 0, margin=0.1) == []


def test_one_seed_in_some_arms_is_enough_if_others_have_two() -> None:
    design = Design(arms=3, cases=20, run=0.01, noise=0.1)
    found = [
        row
        for row in rows(design, np.random.default_rng(0), [0.0, 1.0])
        if row[0] < 2 or not row[2]
    ]
    comparisons = compare(Observations(found), 0, margin=None)
    assert [c.verdict for c in comparisons] == ["better", "undecided"]
    assert [c.seeds for c in comparisons] == [2, 1]


@pytest.mark.parametrize("single", [0, 1], ids=["reference", "arm"])
def test_an_arm_of_one_seed_has_no_verdict_whatever_the_others_have(single: int) -> None:
    design = Design(arms=4, seeds=3, cases=20, run=0.01, noise=0.1)
    found = [
        row
        for row in rows(design, np.random.default_rng(0), [0.0, 5.0])
        if row[0] != single or not row[2]
    ]
    first, second, _ = compare(Observations(found), 0, margin=10.0)
    assert first.verdict == "undecided"
    assert first.reason.startswith("one seed of the " + ("arm" if single else "reference"))
    assert first.low is not None
    assert (second.verdict == "undecided") == (single == 0)


def test_an_arm_that_scatters_is_judged_by_its_own_spread_and_said_so() -> None:
    design = Design(arms=5, seeds=4, cases=20, run=0.01, noise=0.05)
    drawn = rows(design, np.random.default_rng(2), [0.0, 0.3, 0.3])
    wild = [(a, f, s, c, v + (a == 1) * (s - 1.5)) for a, f, s, c, v in drawn]
    first, second, *_ = compare(Observations(wild), 0, margin=None)
    assert first.verdict == "undecided"
    assert first.reason.startswith("trainings of the arm differ")
    assert second.verdict == "better"
    (calm, *_) = compare(Observations(drawn), 0, margin=None)
    assert calm.verdict == "better"
    found = Observations(wild).trainings
    assert found is not None
    assert found.apart == {1}
    assert found.of(1).df == 3
    assert found.of(2).df == found.pool.df == 4 * 3


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_outliers_cannot_hide_one_another(count: int) -> None:
    values = draw((20,), 1) * 0.1
    values[:count] += 5.0
    assert sorted(outlying(values)) == list(range(count))
    assert outlying(np.full(9, 0.7)) == []
    assert outlying([]) == []


def test_an_outlying_case_is_named_and_trimmed() -> None:
    base = draw((1, 20))
    y = np.concatenate([base, base + 0.3 + 0.05 * draw((1, 20), 1)])
    y[1, 4] -= 9.0
    (found,) = compare(repeated(y), 0, margin=None)
    assert (found.verdict, found.outliers) == ("undecided", ("04",))
    kept = np.sort(y[1] - y[0])[4:-4]
    assert found.trimmed == pytest.approx(kept.mean())
    expected = stats.trim_mean(y[1] - y[0], 0.2)
    assert found.trimmed == pytest.approx(expected)
    assert found.trimmed_holm is not None
    assert found.trimmed_holm < 0.001


@pytest.mark.parametrize("margin", [-0.1, float("nan")])
def test_impossible_margins_are_refused(margin: float) -> None:
    with pytest.raises(ConfigError):
        compare(repeated(draw((2, 9))), 0, margin=margin)


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


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_least_p_is_that_of_equal_signs(count: int) -> None:
    """All 2ⁿ signs are as likely; two of them have all signs equal."""
    signs = list(itertools.product((-1, 1), repeat=count))
    extreme = sum(abs(sum(s)) == count for s in signs)
    assert wilcoxon(np.arange(1.0, count + 1)) == extreme / len(signs)


def test_wilcoxon_is_that_of_scipy_without_zeros() -> None:
    values = np.random.default_rng(0).normal(0.3, size=20)
    with_zeros = np.concatenate([values, np.zeros(5)])
    expected = stats.wilcoxon(values)
    assert wilcoxon(with_zeros) == pytest.approx(np.asarray(expected)[1])
    assert wilcoxon(np.zeros(4)) == 1.0
    assert wilcoxon([]) is None


@pytest.mark.parametrize("count", [1, 6, 9])
def test_tied_differences_have_scipys_exact_p(count: int) -> None:
    moved = np.round(draw((count,), 3) * 2) / 2
    moved[moved == 0] = 0.5
    assert wilcoxon(moved) == pytest.approx(stats.wilcoxon(moved).pvalue)
