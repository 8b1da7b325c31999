"""The effective receptive field against its closed forms."""

import math

import pytest
import torch
from torch import nn

from medseg.analysis.effective_field import effective_field
from medseg.models.description import build_network

from ..models.networks import unet


def equal_weights(*convs: nn.Module) -> nn.Module:
    for conv in convs:
        nn.init.ones_(conv.weight)  # type: ignore[arg-type]
    return nn.Sequential(*convs)


def layer(kernel: int, dilation: int = 1, dims: int = 2) -> nn.Module:
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    padding = dilation * (kernel - 1) // 2
    return conv(1, 1, kernel, padding=padding, dilation=dilation, bias=False)


@pytest.mark.parametrize("taps", [[(3, 1)] * 4, [(3, 1), (3, 2), (3, 5)], [(5, 1), (3, 2)]])
def test_equal_weights_have_the_deviation_of_the_sum(taps) -> None:
    field = effective_field(equal_weights(*(layer(k, d) for k, d in taps)), 1, (33, 33))
    expected = math.sqrt(sum(d**2 * (k**2 - 1) / 12 for k, d in taps))
    assert field.deviation == pytest.approx((expected,) * 2, rel=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_one_convolution_counts_its_taps(dims) -> None:
    field = effective_field(equal_weights(layer(5, dims=dims)), 1, (11,) * dims)
    assert field.extent == pytest.approx(5)
    assert int((field.gradient > 0).sum()) == 5**dims


def test_a_seed_gives_the_same_field() -> None:
    network = build_network(unet())
    first, second = (effective_field(network, 1, (16, 16), seed=3) for _ in range(2))
    assert torch.equal(first.gradient, second.gradient)
