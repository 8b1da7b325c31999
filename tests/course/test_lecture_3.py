"""Every formula and number that lecture 3 prints, computed again."""

import pytest
from course import load_lecture
from course.fact import Fact

LECTURE = load_lecture(3)
ERRATA = [
    "∫ f(t − τ) g(t) dτ",
    "ΣΣ I(m, n) K(i − m, j − n) = ΣΣ I(i − m, i − n) K(m, n)",
    "5 x 5 x 28 x 128 * 2",
    "13 * 13 * 128 * 2 x 2048 * 2 ≈ 177M",
]
FACTS = [pytest.param(fact, id=f"{fact.place}: {fact.printed}") for fact in LECTURE.facts]


@pytest.mark.parametrize("fact", FACTS)
def test_what_is_printed_is_what_is_computed_or_is_named_a_slip(fact: Fact) -> None:
    assert fact.lecture == LECTURE.number == 3
    assert fact.agrees == (fact.printed not in ERRATA)
    assert bool(fact.erratum) == (fact.printed in ERRATA)


def test_no_slip_and_no_fact_is_lost() -> None:
    assert [fact.printed for fact in LECTURE.errata] == ERRATA
    assert len(LECTURE.facts) == 23


def test_alexnet_has_48_maps_where_28_are_printed() -> None:
    second, dense = LECTURE.errata[2:]
    assert (second.stated, second.computed) == (179_200, 307_200)
    assert (dense.stated, dense.computed) == (177_209_344, 37_748_736)
