"""Figures of the course: an operator is its matrix, and paths fill its receptive field."""

from typing import Any

import pytest
from course.figures import FIGURES, draw_operator, matrix
from torch.testing import assert_close

from medseg.errors import ConfigError
from medseg.explain.example import apply, image_of, small
from medseg.explain.kinds import KINDS
from medseg.explain.operator import make_operator

NUMBERED = [*enumerate(KINDS)]
LINEAR = [pair for pair in NUMBERED if not pair[1].startswith("max_")]


@pytest.mark.parametrize(("place", "kind"), NUMBERED)
def test_every_operator_can_be_drawn(place: int, kind: str) -> None:
    operator = make_operator(kind, dims=1 + place % 3)
    assert all(panel.values.size for name in FIGURES for panel in FIGURES[name](operator))


@pytest.mark.parametrize(("place", "kind"), LINEAR)
def test_a_linear_operator_is_its_matrix(place: int, kind: str) -> None:
    operator = small(make_operator(kind, dims=1 + (place + 1) % 3))
    image = image_of(operator)
    assert_close(matrix(operator) @ image.flatten(), apply(operator, image).flatten())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_matrix_of_a_transposed_convolution_is_the_transpose(dims: int) -> None:
    back = make_operator("transposed", dims=dims, size=2)
    there = make_operator("conv", dims=dims, size=back.output, stride=2)
    assert_close(matrix(back), matrix(there).T)


@pytest.mark.parametrize(
    ("options", "figure"),
    [
        ({"kind": "conv", "times": 200}, "field"),
        ({"kind": "nearest", "times": 9}, "field"),
        ({"kind": "nearest", "stride": 40, "dims": 3}, "taps"),
        ({"kind": "conv", "kernel": 400, "dims": 3}, "example"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(options: dict[str, Any], figure: str) -> None:
    with pytest.raises(ConfigError):
        draw_operator(make_operator(**options), figure)


@pytest.mark.parametrize("dims", [1, 2])
def test_paths_fill_the_receptive_field_of_the_closed_form(dims: int) -> None:
    operator = make_operator("dilated", dims=dims, times=2)
    (panel,) = FIGURES["field"](operator)
    assert panel.values.size == 9**dims
    assert panel.values.sum() == 9**dims
