"""Operators with their numbers: defaults, sizes, errors, and what torch makes of them."""

import itertools
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from medseg.errors import ConfigError
from medseg.explain.example import image_of, matrix, small, spatial_map, worked
from medseg.explain.figures import FIGURES, draw_example, draw_figure
from medseg.explain.formulas import formulas
from medseg.explain.kinds import KINDS
from medseg.explain.operator import make_operator, size_chain
from medseg.explain.page import operator_page
from medseg.explain.palette import as_svg
from medseg.explain.text import operator_text

EVERY = [*itertools.product(KINDS, (1, 2, 3))]
LINEAR = [k for k in KINDS if k not in ("max_pool", "max_unpool")]


@pytest.mark.parametrize(("kind", "dims"), EVERY)
def test_an_example_has_the_size_that_the_closed_form_gives(kind: str, dims: int) -> None:
    operator = small(make_operator(kind, dims=dims))
    assert tuple(worked(operator)[-1].values.shape) == operator.output


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", LINEAR)
def test_a_linear_operator_is_its_matrix(kind: str, dims: int) -> None:
    operator = small(make_operator(kind, dims=dims))
    image = image_of(operator)
    assert_close(matrix(operator) @ image.flatten(), spatial_map(operator)(image).flatten())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_matrix_of_a_transposed_convolution_is_the_transpose(dims: int) -> None:
    back = make_operator("transposed", dims=dims, size=2)
    there = make_operator("conv", dims=dims, size=back.output, stride=2)
    assert_close(matrix(back), matrix(there).T)


@pytest.mark.parametrize(("kind", "dims"), EVERY)
def test_every_figure_of_every_operator_can_be_drawn(kind: str, dims: int) -> None:
    operator = make_operator(kind, dims=dims)
    for drawing in [draw_example(operator), *(draw(operator) for draw in FIGURES.values())]:
        assert drawing.width > 0
        assert drawing.height > 0
    assert as_svg(draw_figure(operator, "taps")).startswith(b"<?xml")


@pytest.mark.parametrize(("kind", "dims"), EVERY)
def test_every_operator_has_text_with_its_numbers(kind: str, dims: int) -> None:
    operator = make_operator(kind, dims=dims)
    text = operator_text(operator)
    assert KINDS[kind].title in text
    for formula in formulas(operator):
        assert formula.numbers in text


def test_the_painted_example_is_trimmed_to_four_by_four() -> None:
    steps = {step.title: step.values for step in worked(make_operator("transposed"))}
    whole = steps["painted, before trimming"]
    assert (whole.shape, steps["output"].shape) == ((5, 5), (4, 4))
    assert_close(whole[1:, 1:], steps["output"])
    assert float(whole.sum()) == float(steps["input"].sum() * steps["kernel"].sum())


def test_sizes_follow_one_another() -> None:
    operator = make_operator("conv", size=[64, 48], stride=2, times=3)
    assert size_chain(operator) == [(64, 48), (32, 24), (16, 12), (8, 6)]


@pytest.mark.parametrize(("kernel", "stride"), [*itertools.product(range(2, 7), range(1, 5))])
def test_a_transposed_convolution_multiplies_the_grid_by_default(kernel: int, stride: int) -> None:
    operator = make_operator("transposed", dims=1, size=5, kernel=kernel, stride=stride)
    expected = 5 * stride + (stride == 1 and kernel % 2 == 0)
    assert operator.output == (expected,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "blur"}, "kind=blur: no such operator; choose from conv"),
        ({"kind": "nearest", "dilation": 2}, "--dilation: nearest has no such option"),
        ({"kind": "conv", "size": 0}, "size=0 must be at least 1; choose 1"),
        ({"kind": "conv", "size": (8, 8, 8), "kernel": (3, 3)}, "kernel=3 3 has 2 numbers for 3"),
        ({"kind": "conv", "dims": 4}, "dims=4 must be 1, 2 or 3"),
        ({"kind": "conv", "size": 3, "kernel": 9, "padding": 0}, "choose size=9 or more"),
        ({"kind": "conv", "groups": 5}, "groups=5 must divide"),
        ({"kind": "conv", "stride": 2, "times": 9, "padding": 0}, "choose times=1 or a larger"),
        ({"kind": "depthwise", "out_channels": 17}, "must be a multiple of in_channels=16"),
        ({"kind": "transposed", "output_padding": 3}, "output_padding=3 must be below stride=2"),
        ({"kind": "deformable", "kernel": 4}, "kernel=4 must be odd for deformable"),
        ({"kind": "max_pool", "padding": 2}, "padding=2 must be at most half of kernel=2"),
        ({"kind": "dense", "times": 2}, "choose times=1"),
    ],
)
def test_an_impossible_choice_is_one_message(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_operator(**options)


@pytest.mark.parametrize(
    ("options", "figure", "words"),
    [
        ({"kind": "conv"}, "spectrum", "no such figure; choose from taps"),
        ({"kind": "conv", "times": 200}, "field", "receptive field of 401 voxels is too long"),
        ({"kind": "nearest", "times": 9}, "field", "too many to draw"),
        ({"kind": "nearest", "stride": 40, "dims": 3}, "taps", "too many to draw"),
        ({"kind": "conv", "kernel": 400, "dims": 3}, "taps", "too large to draw"),
    ],
)
def test_what_cannot_be_drawn_is_one_message(
    options: dict[str, Any], figure: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        draw_figure(make_operator(**options), figure)


def test_what_cannot_be_drawn_leaves_a_page_and_a_text_that_say_so() -> None:
    operator = make_operator("conv", kernel=400, dims=3)
    assert "Taps not drawn: kernel=400×400×400" in operator_page(operator)
    assert "Example not shown: kernel=400×400×400" in operator_text(operator)


def test_an_odd_size_of_every_option_is_what_torch_makes() -> None:
    operator = make_operator(
        "transposed",
        size=(3, 4),
        kernel=(3, 5),
        stride=(3, 2),
        padding=(1, 2),
        output_padding=(2, 1),
        dilation=(2, 1),
    )
    layer = torch.nn.ConvTranspose2d(1, 1, (3, 5), (3, 2), (1, 2), (2, 1), dilation=(2, 1))
    assert operator.output == tuple(layer(torch.zeros(1, 1, 3, 4)).shape[2:])
