"""Every formula and number that the lectures print, computed again; their pages stand alone."""

import re

import pytest
from course import LECTURES as NUMBERS
from course import load_lecture
from course.networks import alexnet, googlenet, total, vgg19
from course.page import lecture_page
from markupsafe import escape

LECTURES = {number: load_lecture(number) for number in NUMBERS}
COUNTS = {0: 10, 1: 18, 2: 15, 3: 23, 4: 39}
ERRATA = {
    0: [
        "K = 3, M ≥ 32: the cost falls to 1/9",
    ],
    1: [
        "Dilated Conv2d [atrous Deconvolution]",
        "a large receptive field while information loss is maximised",
    ],
    2: [
        "class depthwise_conv, class pointwise_conv: "
        "super(depthwise_separable_conv, self).__init__()",
    ],
    3: [
        "∫ f(t − τ) g(t) dτ",
        "ΣΣ I(m, n) K(i − m, j − n) = ΣΣ I(i − m, i − n) K(m, n)",
        "5 x 5 x 28 x 128 * 2",
        "13 * 13 * 128 * 2 x 2048 * 2 ≈ 177M",
    ],
    4: [
        "AlexNet: 64 filters, each 3 × 11 × 11",
        "Input: 7x7, Filter: 3x3, Output: 5x5, beside a padding of 1",
        "(W − K + 2P)/S + 1 in general",
        "J(θ) = Σᵢ y⁽ⁱ⁾ log(ŷ⁽ⁱ⁾)",
        "5 million parameters",
        "3 x 3 transpose convolution, stride 2 pad 1: 2x2 to 4x4",
        "Sparse Matrix Cᵀ, all 64 entries",
    ],
}


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_printed_is_what_is_computed_or_is_a_known_erratum(number: int) -> None:
    lecture = LECTURES[number]
    assert (lecture.number, len(lecture.facts)) == (number, COUNTS[number])
    for fact in lecture.facts:
        known = fact.printed in ERRATA[number]
        assert (fact.lecture, fact.agrees, bool(fact.erratum)) == (number, not known, known), fact
    assert [fact.printed for fact in lecture.errata] == ERRATA[number]


def test_the_ratio_at_32_channels_is_not_its_limit() -> None:
    (erratum,) = LECTURES[0].errata
    assert (str(erratum.stated), str(erratum.computed)) == ("1/9", "41/288")


def test_the_classes_as_printed_raise() -> None:
    (erratum,) = LECTURES[2].errata
    assert erratum.computed == ("NameError", "TypeError")


def test_conventions_are_called_so() -> None:
    called = [fact for lecture in LECTURES.values() for fact in lecture.errata]
    assert sum(fact.erratum.startswith("a convention") for fact in called) == 3
    assert len({fact.erratum for fact in called}) == len(called) == 15


def test_counts_that_are_cut_off_say_so() -> None:
    cut = [fact.printed for fact in LECTURES[3].facts if "cut it off" in fact.how]
    assert [text.split("≈ ")[1] for text in cut] == ["884K", "663K", "16M"]


def test_products_and_offsets_are_those_of_the_notes() -> None:
    counts = {fact.printed: fact.computed for fact in LECTURES[1].facts}
    assert counts["two convolutions with 3 multiplications each"] == 6
    assert counts["3×3 deformable convolution, 2-D offsets"] == 18
    assert counts["5x5 input, stride 2, no padding, kernel 3x3: 2x2 image"] == (2, 2)


def test_the_three_layers_of_the_manual_have_these_shapes() -> None:
    shapes = [fact.computed for fact in LECTURES[2].facts if "torch.randn" in fact.printed]
    assert shapes == [(20, 33, 24, 49), (20, 33, 28, 100), (20, 33, 26, 100)]


def test_alexnet_has_48_maps_where_28_are_printed() -> None:
    second, dense = LECTURES[3].errata[2:]
    assert (second.stated, second.computed) == (179_200, 307_200)
    assert (dense.stated, dense.computed) == (177_209_344, 37_748_736)


def test_the_networks_have_the_parameters_of_their_tables() -> None:
    assert total(alexnet()) == 60_965_224
    assert total(googlenet()) == 6_998_552
    assert total(vgg19()) == 143_667_240


def test_the_printed_matrix_is_that_of_a_line_and_not_of_an_image() -> None:
    entries = LECTURES[4].errata[-1]
    assert [row[:2] for row in entries.stated] == [row[:2] for row in entries.computed]
    shifted = [row[0] for row in entries.stated]
    for column in range(1, 4):
        assert [row[column] for row in entries.stated] == [0] * column + shifted[: 16 - column]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_page_of_a_lecture_holds_all_of_it_and_needs_nothing_else(number: int) -> None:
    lecture = LECTURES[number]
    page = lecture_page(lecture)
    assert all(link.startswith("#") for link in re.findall(r'\b(?:src|href)="([^"]*)"', page))
    assert "https://" not in page
    assert "http://" not in page
    for topic in lecture.topics:
        assert str(escape(topic.title)) in page
    for fact in lecture.facts:
        assert str(escape(fact.printed)) in page
