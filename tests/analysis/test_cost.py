"""Cost by hand, by loops that multiply, and by torch's own counter."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medseg.analysis.cost import Cost, cost_of, count_macs, count_parameters
from medseg.analysis.trace import abstracted, trace
from medseg.cli.compose import option_names
from medseg.layers.deformable import DeformableConv
from medseg.layers.ndim import conv_nd, transposed_nd
from medseg.models.description import build_network

from ..models.networks import preset, unet
from .functions import Function

GRIDS = {2: (12, 16), 3: (4, 6, 8)}
IN, OUT = 16, 24


def cost(network: nn.Module, channels: int, size: Sequence[int]) -> Cost:
    return sum((cost_of(step) for step in trace(network, channels, size).steps), Cost())


def counted_by_torch(network: nn.Module, channels: int, size: Sequence[int]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        abstracted(network).eval()(torch.empty(1, channels, *size, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("option", "dims"), list(zip(option_names("model"), itertools.cycle(GRIDS), strict=False))
)
def test_macs_of_every_preset_are_torchs(option: str, dims: int) -> None:
    network = build_network(preset(option, dims))
    size = (32,) * dims
    total = cost(network, 1, size)
    assert total.macs == counted_by_torch(network, 1, size) > 0
    assert not total.unknown


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, int, tuple[int, ...]]:
    """A convolution or transposed convolution, its channels and a size."""
    dims = draw(st.integers(1, 3))
    each = st.tuples(*[st.integers(1, 3)] * dims)
    groups = draw(st.sampled_from([1, 2, 3, 4]))
    channels = groups * draw(st.integers(1, 3))
    kernel, dilation = draw(each), draw(each)
    size = draw(st.tuples(*[st.integers(1, 9)] * dims))
    make = conv_nd(dims) if draw(st.booleans()) else transposed_nd(dims)
    layer = make(
        channels,
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=draw(each),
        padding=draw(st.integers(0, 1)),
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        device="meta",
    )
    return layer, channels, size


def _passes(layer: Any, size: tuple[int, ...]) -> bool:
    axes = zip(size, layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    if layer.transposed:
        return all((n - 1) * s - 2 * p + d * (k - 1) >= 0 for n, k, s, p, d in axes)
    return all(n + 2 * p > d * (k - 1) for n, k, _, p, d in axes)


@settings(max_examples=60)
@given(layers())
def test_any_layer_costs_what_torch_counts_and_moves_every_tensor_once(
    drawn: tuple[nn.Module, int, tuple[int, ...]],
) -> None:
    layer, channels, size = drawn
    assume(_passes(layer, size))
    total = cost(layer, channels, size)
    assert total.macs == counted_by_torch(layer, channels, size)
    out = layer(torch.empty(1, channels, *size, device="meta"))
    numbers = channels * math.prod(size) + count_parameters(layer) + out.numel()
    assert (total.other, total.bytes_moved) == (0, 4 * numbers)


def places(*shape: int) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, shape))


def looped_conv(x: Tensor, layer: Any) -> tuple[Tensor, int]:
    """The convolution one multiplication at a time, and how many there were."""
    pads = [p for p in reversed(layer.padding) for _ in range(2)]
    x, (outs, per_group), done = functional.pad(x, pads), layer.weight.shape[:2], 0
    spans = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(
            x.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True
        )
    ]
    out = x.new_zeros(1, outs, *spans)
    for channel, tap in itertools.product(range(outs), places(*layer.kernel_size)):
        first = channel // (outs // layer.groups) * per_group
        for own, place in itertools.product(range(per_group), places(*spans)):
            at = [
                o * s + t * d
                for o, s, t, d in zip(place, layer.stride, tap, layer.dilation, strict=True)
            ]
            weight = layer.weight[(channel, own, *tap)]
            out[(0, channel, *place)] += weight * x[(0, first + own, *at)]
            done += 1
    return out, done


def looped_transposed(x: Tensor, layer: Any) -> tuple[Tensor, int]:
    """The same transposed: every voxel adds its kernel to the output."""
    (ins, per_group), size, done = layer.weight.shape[:2], x.shape[2:], 0
    canvas = [
        (n - 1) * s + d * (k - 1) + 1
        for n, k, s, d in zip(size, layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ]
    out = x.new_zeros(1, layer.groups * per_group, *canvas)
    for channel, tap in itertools.product(range(ins), places(*layer.kernel_size)):
        first = channel // (ins // layer.groups) * per_group
        for own, place in itertools.product(range(per_group), places(*size)):
            at = [
                i * s + t * d
                for i, s, t, d in zip(place, layer.stride, tap, layer.dilation, strict=True)
            ]
            weight = layer.weight[(channel, own, *tap)]
            out[(0, first + own, *at)] += weight * x[(0, channel, *place)]
            done += 1
    inner = tuple(slice(p, n - p) for p, n in zip(layer.padding, canvas, strict=True))
    return out[(slice(None), slice(None), *inner)], done


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.Conv2d(4, 2, (1, 2), stride=2, dilation=(1, 2), groups=2, bias=False),
        nn.Conv3d(1, 2, 2, stride=(1, 2, 2), bias=False),
        nn.ConvTranspose2d(2, 3, 2, stride=2, bias=False),
        nn.ConvTranspose2d(4, 2, (3, 1), stride=(2, 1), dilation=(2, 1), groups=2, bias=False),
    ],
)
@torch.no_grad()
def test_macs_are_the_multiplications_of_a_loop(layer: Any) -> None:
    loop = looped_transposed if layer.transposed else looped_conv
    x = torch.rand(1, layer.in_channels, *(4, 5, 3)[: layer.weight.ndim - 2])
    out, done = loop(x, layer)
    torch.testing.assert_close(out, layer(x))
    assert cost(layer, layer.in_channels, x.shape[2:]).macs == done


def sampled(x: Tensor) -> Tensor:
    places = torch.zeros(1, 4, 5, 2, device=x.device)
    return functional.grid_sample(x, places, align_corners=False)


@pytest.mark.parametrize(
    ("function", "macs", "other", "values"),
    [
        (lambda x: x.relu(), 0, 60, 60 + 60),
        (lambda x: x.relu_(), 0, 60, 60 + 60),
        (lambda x: functional.leaky_relu(x, inplace=True), 0, 60, 60 + 60),
        (lambda x: x + x, 0, 60, 60 + 60),
        (lambda x: x + x[:, :, :1], 0, 60, 60 + 15 + 60),
        (lambda x: x.mul_(2), 0, 60, 60 + 60),
        (lambda x: x.flatten(1).unsqueeze(0)[:, :, :7].mT, 0, 0, 0),
        (lambda x: torch.cat([x, x], 1), 0, 0, 60 + 120),
        (lambda x: x.transpose(2, 3).contiguous(), 0, 0, 60 + 60),
        (lambda x: functional.instance_norm(x), 0, 240, 60 + 60 + 3 + 3),
        (lambda x: functional.group_norm(x, 1), 0, 240, 60 + 60 + 1 + 1),
        (lambda x: functional.max_pool2d(x, 2), 0, 12 * 4, 60 + 12 + 2 * 12),
        (lambda x: functional.avg_pool2d(x, 3, 1, 1), 0, 60 * 9, 60 + 60),
        (lambda x: functional.adaptive_avg_pool2d(x, 1), 0, 60, 60 + 3),
        (lambda x: x.mean((2, 3)), 0, 60, 60 + 3),
        (lambda x: x.softmax(1), 0, 180, 60 + 60),
        (lambda x: functional.interpolate(x, scale_factor=2.0), 0, 0, 60 + 240),
        (lambda x: functional.interpolate(x, (8, 10), mode="bilinear"), 0, 960, 60 + 240),
        (lambda x: x.mT @ x, 3 * 5 * 4 * 5, 0, 60 + 60 + 75),
        (lambda x: torch.einsum("bchw,bchw->bc", x, x), 60, 0, 60 + 60 + 3),
        (lambda x: torch.zeros_like(x), 0, 0, 0),
        (sampled, 0, 240, 60 + 40 + 60),
    ],
)
def test_operations_and_values_moved_by_hand(
    function: Any, macs: int, other: int, values: int
) -> None:
    total = cost(Function(function), 3, (4, 5))  # 3 · 4 · 5 = 60 values
    assert total == Cost(macs=macs, other=other, bytes_moved=4 * values)


def test_a_deformable_convolution_places_and_interpolates_its_taps() -> None:
    total = cost(DeformableConv(2, 4, (3, 3), modulated=False), 2, (6, 8))
    assert total.macs == 6 * 8 * (9 * 2 * 4 + 9 * 2 * 18)
    assert total.other >= 6 * 8 * 9 * 2 * 4  # four neighbours of every tap of every channel


def test_stored_statistics_cost_half_of_the_cases_own() -> None:
    assert cost(nn.BatchNorm2d(3), 3, (4, 5)).other == 2 * 60
    assert cost(nn.InstanceNorm2d(3), 3, (4, 5)).other == 4 * 60


@torch.library.custom_op("tests_of_arithmetic::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return x * 2


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.fft.rfft2(x), "_fft_r2c"),
        (lambda x: x.sort(2).values, "sort"),
        (lambda x: x.cumsum(2), "cumsum"),
        (lambda x: functional.unfold(x, 3), "im2col"),
        (lambda x: doubled(x), "doubled"),
    ],
)
def test_an_unknown_operation_is_named_and_in_no_number(function: Any, name: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), Function(function))
    assert counted_by_torch(network, 1, (9, 9)) == 49 * 9  # torch's counter says nothing
    total = cost(network, 1, (9, 9))
    assert (total.unknown, total.macs) == ((name,), 49 * 9)


def test_a_whole_network_by_hand() -> None:
    network = build_network(unet(2, channels=(4, 8), strides=(1, 2), num_classes=3))
    encoder = 9 * 1 * 4 + 8, 9 * 4 * 4, 9 * 4 * 8 + 16  # stem and norm, down, unit and norm
    decoder = 4 * 8 * 4 + 4, 9 * 8 * 4 + 8, 4 * 3 + 3  # up and bias, unit and norm, head and bias
    assert count_parameters(network) == sum(encoder) + sum(decoder)
    fine, coarse = 16 * 16, 8 * 8
    expected = fine * 9 * 4 + coarse * (9 * 16 + 9 * 32 + 4 * 32) + fine * (9 * 32 + 12)
    assert count_macs(network, 1, (16, 16)) == expected


def test_frozen_parameters_are_not_counted() -> None:
    layer = nn.Linear(3, 4)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 12


def test_counting_computes_nothing() -> None:
    # 2^30 voxels of 4 channels are 16 GiB: only an abstract tensor has room for them
    network = build_network(unet(3, channels=(4, 8), strides=(1, 2)))
    assert count_macs(network, 1, (1024,) * 3) == 2**24 * count_macs(network, 1, (4,) * 3)
