"""What holds for every table: shifts, names, sides, missing values, and that nothing fails."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.statistics import (
    Comparison,
    Observations,
    compare,
    contrast,
    effects,
    needed_for,
    smallest_detectable,
)
from medseg.statistics.observations import Row

ARMS, FOLDS, SEEDS, CASES = range(3), range(2), range(2), range(9)
OPPOSITE = {"better": "worse", "worse": "better", "equal": "equal", "undecided": "undecided"}
quick = settings(max_examples=30)
values = st.integers(0, 100).map(lambda percent: percent / 100)


@st.composite
def full_tables(draw: st.DrawFn) -> list[Row]:
    """All arms, one fold, two seeds, nine cases; arm 1 far off now and then."""
    far = draw(st.sampled_from([0.0, 2.0]))
    return [
        (arm, 0, seed, f"case{case}", draw(values) + far * (arm == 1))
        for arm in ARMS
        for seed in SEEDS
        for case in CASES
    ]


@st.composite
def sparse_tables(draw: st.DrawFn) -> list[Row]:
    """Any rows, each key at most once, some without a value."""
    keys = draw(st.sets(st.tuples(*map(st.sampled_from, (ARMS, FOLDS, SEEDS, CASES))), max_size=60))
    numbers = st.one_of(values, st.just(0.5), st.just(float("nan")))
    return [(*key[:3], f"case{key[3]}", draw(numbers)) for key in sorted(keys)]


def changed(
    rows: list[Row], shift: float = 0.0, names: tuple[int, ...] = (0, 1, 2)
) -> Observations:
    return Observations([(names[a], f, s, c, v + shift) for a, f, s, c, v in rows])


def one(rows: list[Row], arm: int, reference: int, **options: bool) -> Comparison:
    kept = [row for row in rows if row[0] in (arm, reference)]
    return compare(Observations(kept), reference, margin=0.2, **options)[0]


@quick
@given(full_tables(), st.sampled_from([-3.0, 0.1, 1e3]))
def test_a_shift_of_all_values_changes_no_verdict(rows: list[Row], shift: float) -> None:
    before = compare(changed(rows), 0, margin=0.2)
    after = compare(changed(rows, shift), 0, margin=0.2)
    assert [c.verdict for c in after] == [c.verdict for c in before]
    assert [c.p_value for c in after] == pytest.approx(
        [c.p_value for c in before], rel=1e-6, abs=1e-40
    )


@quick
@given(full_tables(), st.permutations([4, 7, 9]))
def test_names_of_arms_do_not_matter(rows: list[Row], names: list[int]) -> None:
    before = {names[c.arm]: c for c in compare(changed(rows), 0, margin=0.2)}
    after = compare(changed(rows, names=tuple(names)), names[0], margin=0.2)
    for found in after:
        assert found.verdict == before[found.arm].verdict
        assert found.p_holm == pytest.approx(before[found.arm].p_holm, rel=1e-6, abs=1e-40)
        assert found.estimate == pytest.approx(before[found.arm].estimate, abs=1e-12)


@quick
@given(full_tables())
def test_swapping_arm_and_reference_turns_everything_round(rows: list[Row]) -> None:
    there, back = one(rows, 1, 0), one(rows, 0, 1)
    assert back.verdict == OPPOSITE[there.verdict]
    assert back.p_value == pytest.approx(there.p_value)
    assert back.equivalence_p == pytest.approx(there.equivalence_p)
    assert (back.estimate, back.low, back.high) == pytest.approx(
        (-there.estimate, -there.high, -there.low)
    )
    assert back.superiority == pytest.approx(1 - there.superiority)


@quick
@given(full_tables())
def test_lower_is_better_turns_the_verdict_round(rows: list[Row]) -> None:
    high, low = one(rows, 1, 0), one(rows, 1, 0, higher_is_better=False)
    assert low.verdict == OPPOSITE[high.verdict]
    assert (low.estimate, low.p_value) == (high.estimate, high.p_value)


@quick
@given(full_tables(), st.sets(st.sampled_from(list(CASES)), max_size=6))
def test_missing_cases_are_as_if_both_arms_lacked_them(rows: list[Row], lost: set[int]) -> None:
    names = {f"case{case}" for case in lost}
    one_sided = [row for row in rows if not (row[0] == 1 and row[3] in names)]
    two_sided = [row for row in one_sided if row[3] not in names]
    first, second = one(one_sided, 1, 0), one(two_sided, 1, 0)
    assert first.estimate == pytest.approx(second.estimate)
    assert (first.cases, first.case_low) == (second.cases, pytest.approx(second.case_low))
    assert dict(first.left_out) == {1: 0, 0: len(lost)}


@settings(max_examples=80)
@given(sparse_tables(), st.sampled_from([None, 0.0, 0.1]), st.booleans())
def test_nothing_fails_on_sparse_tables(
    rows: list[Row], margin: float | None, higher_is_better: bool
) -> None:
    observations = Observations(rows)
    for found in compare(observations, 0, margin=margin, higher_is_better=higher_is_better):
        assert found.reason
        if found.low is not None:
            assert found.low <= found.estimate <= found.high
            assert 0 <= found.p_value <= found.p_holm <= 1
        if found.cases < 6 or observations.trainings is None:
            assert found.verdict == "undecided"
    contrast(observations, {0: 0.5, 1: 0.5, 2: -1.0})
    smallest_detectable(observations)
    needed_for(observations, 0, 1, difference=0.1, margin=0.1)
    grid = {arm: {"a": str(arm % 2), "b": str(arm // 2), "c": "same"} for arm in ARMS}
    for effect in effects(observations, grid):
        assert (effect.f is None) == bool(effect.reason)
