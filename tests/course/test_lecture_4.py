"""Every formula and number that lecture 4 prints, computed again."""

import pytest
from course import load_lecture
from course.fact import Fact
from course.networks import alexnet, googlenet, total, vgg19

LECTURE = load_lecture(4)
ERRATA = [
    "AlexNet: 64 filters, each 3 × 11 × 11",
    "Input: 7x7, Filter: 3x3, Output: 5x5, beside a padding of 1",
    "(W − K + 2P)/S + 1 in general",
    "J(θ) = Σᵢ y⁽ⁱ⁾ log(ŷ⁽ⁱ⁾)",
    "5 million parameters",
    "3 x 3 transpose convolution, stride 2 pad 1: 2x2 to 4x4",
    "Sparse Matrix Cᵀ: its columns start in rows 1, 2, 3, 4",
    "Sparse Matrix Cᵀ, all 64 entries",
]
FACTS = [pytest.param(fact, id=f"{fact.place}: {fact.printed}") for fact in LECTURE.facts]


@pytest.mark.parametrize("fact", FACTS)
def test_what_is_printed_is_what_is_computed_or_is_named_a_slip(fact: Fact) -> None:
    assert fact.lecture == LECTURE.number == 4
    assert fact.agrees == (fact.printed not in ERRATA)
    assert bool(fact.erratum) == (fact.printed in ERRATA)


def test_no_slip_and_no_fact_is_lost() -> None:
    assert [fact.printed for fact in LECTURE.errata] == ERRATA
    assert len(LECTURE.facts) == 40


def test_the_networks_have_the_parameters_of_their_tables() -> None:
    assert total(alexnet()) == 60_965_224
    assert total(googlenet()) == 6_998_552
    assert total(vgg19()) == 143_667_240


def test_the_printed_matrix_is_that_of_a_line_and_not_of_an_image() -> None:
    entries = LECTURE.errata[-1]
    assert [row[:2] for row in entries.stated] == [row[:2] for row in entries.computed]
    shifted = [row[0] for row in entries.stated]
    for column in range(1, 4):
        assert [row[column] for row in entries.stated] == [0] * column + shifted[: 16 - column]
