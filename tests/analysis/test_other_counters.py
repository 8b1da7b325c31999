"""What torch's own counter leaves out, each case shown, and what stands in its place here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medseg.analysis.cost import Cost, cost_of
from medseg.analysis.trace import trace
from medseg.layers.deformable import DeformableConv

from .functions import Function

SIZE = (6, 8)  # 2 channels: 96 values


def counted_by_torch(network: nn.Module) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval()(torch.rand(1, 2, *SIZE))
    return counter.get_total_flops()


def cost(network: nn.Module) -> Cost:
    return sum((cost_of(step) for step in trace(network, 2, SIZE).steps), Cost())


def sampled(x: Tensor) -> Tensor:
    places = torch.zeros(1, *SIZE, 2, device=x.device)
    return functional.grid_sample(x, places, align_corners=False)


LEFT_OUT: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "linear interpolation": (
        lambda x: functional.interpolate(x, (12, 16), mode="bilinear"),
        4 * 4 * 96,
    ),
    "cubic interpolation": (
        lambda x: functional.interpolate(x, (12, 16), mode="bicubic"),
        16 * 4 * 96,
    ),
    "grid_sample": (sampled, 4 * 96),
    "instance norm": (functional.instance_norm, 4 * 96),
    "group norm": (lambda x: functional.group_norm(x, 2), 4 * 96),
    "mean pooling": (lambda x: functional.avg_pool2d(x, 2), 96),
    "max pooling": (lambda x: functional.max_pool2d(x, 3, 1, 1), 9 * 96),
    "global pooling": (lambda x: functional.adaptive_avg_pool2d(x, 1), 96),
    "softmax": (lambda x: x.softmax(1), 3 * 96),
    "activation": (functional.gelu, 96),
    "gate": (lambda x: x * x.sigmoid(), 2 * 96),
    "sum of a skip": (lambda x: x + x, 96),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_torch_counts_nothing_where_there_is_work(name: str) -> None:
    function, operations = LEFT_OUT[name]
    network = Function(function)
    assert counted_by_torch(network) == 0
    assert cost(network).other == operations


@pytest.mark.parametrize(
    "function",
    [lambda x: torch.fft.rfft2(x), lambda x: x.cumsum(2), lambda x: functional.unfold(x, 3)],
)
def test_torch_is_silent_about_what_it_does_not_know(function: Callable[[Tensor], Any]) -> None:
    network = Function(function)
    assert counted_by_torch(network) == 0
    assert cost(network).unknown


def test_torch_leaves_out_the_interpolation_of_a_deformable_convolution() -> None:
    layer = DeformableConv(2, 4, (3, 3), modulated=False)
    voxels = 6 * 8
    products = voxels * (9 * 2 * 4 + 9 * 2 * 18)  # the taps, and the convolution that places them
    assert counted_by_torch(layer) == 2 * products
    found = cost(layer)
    assert found.macs == products
    assert found.other >= voxels * 9 * 2 * 4  # four neighbours of every tap of every channel


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Conv2d(2, 4, 3, dilation=2, groups=2),
        nn.ConvTranspose2d(2, 4, 2, stride=2),
        nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.Linear(8, 5),
    ],
)
def test_torch_is_right_about_products_but_for_the_bias(layer: nn.Module) -> None:
    assert counted_by_torch(layer) == 2 * cost(layer).macs > 0
