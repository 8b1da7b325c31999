"""Receptive fields and overlaps in closed form against what torch's layers reach and paint."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.analysis import closed_form
from medseg.analysis.closed_form import Layer


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            Layer, kernel=st.integers(1, 5), stride=st.integers(1, 2), dilation=st.integers(1, 2)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_reach_and_variance_are_those_of_the_gradient_of_equal_weights(
    layers: list[Layer],
) -> None:
    reach = closed_form.receptive_field(layers)
    x = torch.zeros(1, 1, reach, dtype=torch.float64, requires_grad=True)
    y = x
    for layer in layers:
        weight = torch.full((1, 1, layer.kernel), 1 / layer.kernel, dtype=torch.float64)
        y = torch.conv1d(y, weight, stride=layer.stride, dilation=layer.dilation)
    assert y.shape == (1, 1, 1)
    (influence,) = torch.autograd.grad(y.sum(), x)
    share = influence.flatten()
    assert share[0] > 0
    assert share[-1] > 0
    places = torch.arange(reach, dtype=torch.float64)
    mean = (share * places).sum()
    variance = float((share * (places - mean) ** 2).sum())
    assert variance == pytest.approx(float(closed_form.effective_variance(layers)), abs=1e-9)
    assert closed_form.effective_sigma(layers) == pytest.approx(math.sqrt(variance), abs=1e-6)


@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 7])
def test_overlap_counts_are_what_ones_paint(taps: int, step: int, rate: int) -> None:
    painted = torch.conv_transpose1d(
        torch.ones(1, 1, rate * taps + 2), torch.ones(1, 1, taps), stride=step, dilation=rate
    ).flatten()
    first = step * rate * taps
    inner = painted[first : first + step].int().tolist()
    assert closed_form.overlap_counts(taps, step, rate) == tuple(inner)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "imbalance"),
    [
        ((3,), (2,), (1,), Fraction(1, 10)),
        ((3, 3, 3), (2, 2, 2), (1, 1, 1), Fraction(271, 1000)),
        ((5,), (2,), (1,), Fraction(1, 26)),
        ((1, 3, 3), (1, 2, 2), (1, 1, 1), Fraction(19, 100)),
        ((4, 4), (2, 2), (1, 1), Fraction(0)),
        ((3, 3), (2, 2), (2, 2), Fraction(3, 4)),
        ((1, 1, 1), (2, 2, 2), (1, 1, 1), Fraction(7, 8)),
    ],
)
def test_structural_imbalance_of_known_cases(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], imbalance: Fraction
) -> None:
    assert closed_form.structural_imbalance(kernel, stride, dilation) == imbalance
