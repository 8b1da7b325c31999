"""Every formula and number that lecture 0 prints, computed again."""

import pytest
from course import load_lecture
from course.fact import Fact

LECTURE = load_lecture(0)
ERRATA = [
    "K = 3, M ≥ 32: the cost falls to 1/9",
]
FACTS = [pytest.param(fact, id=f"{fact.place}: {fact.printed}") for fact in LECTURE.facts]


@pytest.mark.parametrize("fact", FACTS)
def test_what_is_printed_is_what_is_computed_or_is_named_a_slip(fact: Fact) -> None:
    assert fact.lecture == LECTURE.number == 0
    assert fact.agrees == (fact.printed not in ERRATA)
    assert bool(fact.erratum) == (fact.printed in ERRATA)


def test_no_slip_and_no_fact_is_lost() -> None:
    assert [fact.printed for fact in LECTURE.errata] == ERRATA
    assert len(LECTURE.facts) == 10


def test_the_ratio_at_32_channels_is_not_its_limit() -> None:
    (erratum,) = LECTURE.errata
    assert (str(erratum.stated), str(erratum.computed)) == ("1/9", "41/288")
