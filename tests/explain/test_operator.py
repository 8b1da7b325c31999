"""Operators with their numbers: defaults, sizes, errors, what torch makes of them, and the page."""

import itertools
import math
import re
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from medseg.errors import ConfigError
from medseg.explain.example import draw_example, small, worked
from medseg.explain.kinds import KINDS
from medseg.explain.operator import make_operator
from medseg.explain.page import (
    formulas,
    operator_page,
    operator_text,
    weights,
)

EVERY = [*itertools.product(KINDS, (1, 2, 3))]


@pytest.mark.parametrize(("kind", "dims"), EVERY)
def test_every_operator_has_an_example_and_text_with_its_numbers(kind: str, dims: int) -> None:
    operator = make_operator(kind, dims=dims)
    cut = small(operator)
    assert tuple(worked(cut)["output"].shape) == cut.output
    assert draw_example(operator).axes
    text = operator_text(operator)
    assert KINDS[kind].title in text
    assert all(formula.numbers in text for formula in formulas(operator))


def test_trimming_takes_the_border_of_the_sum() -> None:
    steps = worked(make_operator("transposed"))
    whole = steps["sum before trimming"]
    assert_close(whole[1:, 1:], steps["output"])
    assert float(whole.sum()) == float(steps["input"].sum() * steps["kernel"].sum())


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("conv", [torch.nn.Conv2d(16, 32, 3)]),
        ("transposed", [torch.nn.ConvTranspose2d(16, 32, 3)]),
        ("grouped", [torch.nn.Conv2d(16, 32, 3, groups=4)]),
        (
            "depthwise_separable",
            [torch.nn.Conv2d(16, 16, 3, groups=16), torch.nn.Conv2d(16, 32, 1)],
        ),
        ("spatially_separable", [torch.nn.Conv2d(16, 16, (3, 1)), torch.nn.Conv2d(16, 16, (1, 3))]),
        ("deformable", [torch.nn.Conv2d(16, 32, 3), torch.nn.Conv2d(16, 18, 3)]),
        ("pixel_shuffle", [torch.nn.Conv2d(16, 64, 3)]),
        ("dense", [torch.nn.Linear(16 * 3 * 3, 10)]),
        ("nearest", []),
    ],
)
def test_weights_are_those_of_the_layers_of_torch(kind: str, layers: list[Any]) -> None:
    assert weights(make_operator(kind))[2] == sum(layer.weight.numel() for layer in layers)


def test_sizes_follow_one_another() -> None:
    operator = make_operator("conv", size=[64, 48], stride=2, times=3)
    assert operator.sizes == [(64, 48), (32, 24), (16, 12), (8, 6)]


@pytest.mark.parametrize(("kernel", "stride"), [*itertools.product(range(2, 7), range(1, 5))])
def test_a_transposed_convolution_multiplies_the_grid_by_default(kernel: int, stride: int) -> None:
    operator = make_operator("transposed", dims=1, size=5, kernel=kernel, stride=stride)
    expected = 5 * stride + (stride == 1 and kernel % 2 == 0)
    assert operator.output == (expected,)


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


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "blur"}, "kind=blur"),
        ({"kind": "nearest", "dilation": 2}, "--dilation"),
        ({"kind": "conv", "size": 0}, "size=0"),
        ({"kind": "conv", "size": (8, 8, 8), "kernel": (3, 3)}, "kernel=3 3"),
        ({"kind": "conv", "dims": 4}, "dims=4"),
        ({"kind": "conv", "size": 3, "kernel": 9, "padding": 0}, "size=3"),
        ({"kind": "conv", "groups": 5}, "groups=5"),
        ({"kind": "conv", "stride": 2, "times": 9, "padding": 0}, "times=9"),
        ({"kind": "depthwise", "out_channels": 17}, "out_channels=17"),
        ({"kind": "transposed", "output_padding": 3}, "output_padding=3"),
        ({"kind": "deformable", "kernel": 4}, "kernel=4"),
        ({"kind": "max_pool", "padding": 2}, "padding=2"),
        ({"kind": "dense", "times": 2}, "times=2"),
    ],
)
def test_an_impossible_choice_is_an_error_that_names_it(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        make_operator(**options)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "imbalance"),
    [
        ((3,), (2,), (1,), "1/10"),
        ((3, 3, 3), (2, 2, 2), (1, 1, 1), "271/1000"),
        ((1, 3, 3), (1, 2, 2), (1, 1, 1), "19/100"),
        ((4, 4), (2, 2), (1, 1), "0"),
        ((3, 3), (1, 1), (1, 1), "0"),
        ((3, 3), (2, 2), (2, 2), "3/4"),
    ],
)
def test_the_imbalance_of_an_overlap_is_known(kernel, stride, dilation, imbalance) -> None:
    options = {"kernel": kernel, "stride": stride, "dilation": dilation, "dims": len(kernel)}
    found = formulas(make_operator("transposed", **options))[-1].numbers
    assert found.split()[0] == imbalance


def test_what_cannot_be_drawn_leaves_a_page_and_a_text() -> None:
    operator = make_operator("conv", kernel=400, dims=3)
    output = f"{math.prod(operator.output):,}"
    assert output in operator_page(operator)
    assert output in operator_text(operator)


def test_a_page_has_its_figure_and_fetches_nothing() -> None:
    page = operator_page(make_operator("transposed"))
    assert page.count("<figure") == 1
    assert all(link.startswith("#") for link in re.findall(r'\b(?:src|href)="([^"]*)"', page))
