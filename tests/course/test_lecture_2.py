"""Every formula and number that lecture 2 prints, computed again."""

import pytest
from course import load_lecture
from course.fact import Fact

LECTURE = load_lecture(2)
ERRATA = [
    "class depthwise_conv(nn.Module): … super(depthwise_separable_conv, self).__init__()",
    "class pointwise_conv(nn.Module): … super(depthwise_separable_conv, self).__init__()",
]
FACTS = [pytest.param(fact, id=f"{fact.place}: {fact.printed}") for fact in LECTURE.facts]


@pytest.mark.parametrize("fact", FACTS)
def test_what_is_printed_is_what_is_computed_or_is_named_a_slip(fact: Fact) -> None:
    assert fact.lecture == LECTURE.number == 2
    assert fact.agrees == (fact.printed not in ERRATA)
    assert bool(fact.erratum) == (fact.printed in ERRATA)


def test_no_slip_and_no_fact_is_lost() -> None:
    assert [fact.printed for fact in LECTURE.errata] == ERRATA
    assert len(LECTURE.facts) == 16


def test_the_three_layers_of_the_manual_have_these_shapes() -> None:
    shapes = [fact.computed for fact in LECTURE.facts if "torch.randn" in fact.printed]
    assert shapes == [(20, 33, 24, 49), (20, 33, 28, 100), (20, 33, 26, 100)]
