"""Every formula and number that lecture 1 prints, computed again."""

import pytest
from course import load_lecture
from course.fact import Fact

LECTURE = load_lecture(1)
ERRATA = [
    "a large receptive field while information loss is maximised",
]
FACTS = [pytest.param(fact, id=f"{fact.place}: {fact.printed}") for fact in LECTURE.facts]


@pytest.mark.parametrize("fact", FACTS)
def test_what_is_printed_is_what_is_computed_or_is_named_a_slip(fact: Fact) -> None:
    assert fact.lecture == LECTURE.number == 1
    assert fact.agrees == (fact.printed not in ERRATA)
    assert bool(fact.erratum) == (fact.printed in ERRATA)


def test_no_slip_and_no_fact_is_lost() -> None:
    assert [fact.printed for fact in LECTURE.errata] == ERRATA
    assert len(LECTURE.facts) == 17


def test_products_and_offsets_are_those_of_the_notes() -> None:
    counts = {fact.printed: fact.computed for fact in LECTURE.facts}
    assert counts["two convolutions with 3 multiplications each"] == 6
    assert counts["3×3 deformable convolution, 2-D offsets"] == 18
    assert counts["5x5 input, stride 2, no padding, kernel 3x3: 2x2 image"] == (2, 2)
