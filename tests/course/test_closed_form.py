"""Closed forms against torch: output shapes, parameters, its counter of operations, overlaps."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from course import closed_form
from course.closed_form import Layer, along_axes
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medseg.errors import ConfigError
from medseg.explain.operator import conv_output_size, transposed_output_size
from medseg.layers.deformable import DeformableConv
from medseg.layers.ndim import conv_nd, transposed_nd
from medseg.layers.resampling import DepthToSpace

BRIEF = settings(max_examples=40)
EVEN_SAME = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Size, kernel, stride, padding, dilation and output padding of 1 to 3 axes."""
    dims = draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)))

    geometry = {
        "size": each(1, 12),
        "kernel": each(1, 5),
        "stride": each(1, 4),
        "padding": each(0, 3),
        "dilation": each(1, 3),
    }
    limits = [max(s, d) - 1 for s, d in zip(geometry["stride"], geometry["dilation"], strict=True)]
    geometry["output_padding"] = tuple(draw(st.integers(0, limit)) for limit in limits)
    return geometry


@st.composite
def channel_counts(draw: st.DrawFn) -> dict[str, int]:
    """Groups and channels that they divide."""
    groups = draw(st.integers(1, 3))
    return {
        "groups": groups,
        "in_channels": groups * draw(st.integers(1, 3)),
        "out_channels": groups * draw(st.integers(1, 3)),
    }


def columns(g: dict[str, tuple[int, ...]], *names: str) -> list[tuple[int, ...]]:
    return [g[name] for name in ("size", "kernel", "stride", "padding", "dilation", *names)]


def options(g: dict[str, tuple[int, ...]], *names: str) -> dict[str, tuple[int, ...]]:
    return {name: g[name] for name in ("stride", "padding", "dilation", *names)}


def counted(layer: nn.Module, size: Sequence[int], in_channels: int) -> tuple[int, int, Tensor]:
    """Parameters, MACs and output of one sample on the meta device."""
    layer = layer.to("meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        out = layer(torch.empty(1, in_channels, *size, device="meta"))
    parameters = sum(p.numel() for p in layer.parameters())
    return parameters, counter.get_total_flops() // 2, out


def abstract(kind: Any, *arguments: Any, **named: Any) -> nn.Module:
    with torch.device("meta"):
        return kind(*arguments, **named)


@BRIEF
@given(geometries(), channel_counts(), st.booleans())
def test_a_convolution_has_the_size_parameters_and_macs_of_torch(
    g: dict[str, tuple[int, ...]], channels: dict[str, int], bias: bool
) -> None:
    try:
        output = along_axes(conv_output_size, *columns(g))
    except ConfigError:
        assume(False)
    layer = abstract(
        conv_nd(len(g["size"])), **channels, kernel_size=g["kernel"], bias=bias, **options(g)
    )
    parameters, macs, out = counted(layer, g["size"], channels["in_channels"])
    cost = closed_form.conv(g["kernel"], output, **channels, bias=bias)
    assert (tuple(out.shape[2:]), parameters, macs) == (output, cost.parameters, cost.macs)


@BRIEF
@given(geometries(), channel_counts(), st.booleans())
def test_a_transposed_convolution_has_the_size_parameters_and_macs_of_torch(
    g: dict[str, tuple[int, ...]], channels: dict[str, int], bias: bool
) -> None:
    try:
        output = along_axes(transposed_output_size, *columns(g, "output_padding"))
    except ConfigError:
        assume(False)
    layer = abstract(
        transposed_nd(len(g["size"])),
        **channels,
        kernel_size=g["kernel"],
        bias=bias,
        **options(g, "output_padding"),
    )
    parameters, macs, out = counted(layer, g["size"], channels["in_channels"])
    cost = closed_form.transposed(g["kernel"], g["size"], **channels, bias=bias)
    assert (tuple(out.shape[2:]), parameters, macs) == (output, cost.parameters, cost.macs)


@EVEN_SAME
@BRIEF
@given(geometries(), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_factored_convolutions_cost_what_torch_counts(
    g: dict[str, tuple[int, ...]], multiplier: int, out_channels: int, bias: bool
) -> None:
    dims, channels, kernel, size = len(g["size"]), 3, g["kernel"], g["size"]
    kind = conv_nd(dims)
    inner = channels * multiplier
    spatial = abstract(kind, channels, inner, kernel, padding="same", groups=channels, bias=bias)
    across = abstract(kind, inner, out_channels, 1, bias=bias)
    cost = closed_form.depthwise_separable(
        kernel, size, channels, out_channels, multiplier, bias=bias
    )
    assert counted(nn.Sequential(spatial, across), size, channels)[:2] == (
        cost.parameters,
        cost.macs,
    )
    chain = (channels, *range(2, 1 + dims), out_channels)
    factors = [
        abstract(kind, before, after, [1] * a + [k] + [1] * (dims - a - 1), padding="same")
        for a, (k, before, after) in enumerate(zip(kernel, chain, chain[1:], strict=False))
    ]
    cost = closed_form.spatially_separable(kernel, size, chain, bias=True)
    assert counted(nn.Sequential(*factors), size, channels)[:2] == (cost.parameters, cost.macs)


@EVEN_SAME
@BRIEF
@given(geometries(), st.integers(1, 3), st.integers(1, 4))
def test_upsamplings_cost_what_torch_counts(
    g: dict[str, tuple[int, ...]], in_channels: int, out_channels: int
) -> None:
    dims, kernel, size, scale = len(g["size"]), g["kernel"], g["size"], g["stride"]
    fine = tuple(n * s for n, s in zip(size, scale, strict=True))
    kind = conv_nd(dims)
    wide = abstract(kind, in_channels, out_channels * math.prod(scale), kernel, padding="same")
    parameters, macs, out = counted(nn.Sequential(wide, DepthToSpace(scale)), size, in_channels)
    cost = closed_form.pixel_shuffle(kernel, size, in_channels, out_channels, scale, bias=True)
    assert (parameters, macs, tuple(out.shape[2:])) == (cost.parameters, cost.macs, fine)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (3, 1, 5)])
def test_a_deformable_convolution_has_the_parameters_of_the_layer(
    kernel: tuple[int, ...], modulated: bool
) -> None:
    layer = DeformableConv(4, 6, kernel, modulated=modulated)
    size = (5,) * len(kernel)
    offsets = closed_form.offset_channels(kernel, modulated=modulated)
    cost = closed_form.deformable(kernel, size, 4, 6, modulated=modulated)
    assert sum(p.numel() for p in layer.parameters()) == cost.parameters + offsets
    assert cost.macs == math.prod(size) * cost.parameters
    assert cost.other == math.prod(size) * math.prod(kernel) * 4 * 2 ** len(kernel)


def test_ratios_are_those_of_the_costs() -> None:
    separable = closed_form.depthwise_separable((3, 5), (4,), 16, 24)
    ordinary = closed_form.conv((3, 5), (4,), 16, 24)
    ratio = closed_form.separable_ratio((3, 5), 24)
    assert ratio == Fraction(separable.macs, ordinary.macs)


@BRIEF
@given(
    st.lists(
        st.builds(
            Layer, kernel=st.integers(1, 5), stride=st.integers(1, 2), dilation=st.integers(1, 2)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_extent_is_that_of_the_gradient_of_equal_weights(
    layers: list[Layer],
) -> None:
    extent = closed_form.receptive_field(layers)
    x = torch.zeros(1, 1, extent, dtype=torch.float64, requires_grad=True)
    y = x
    for layer in layers:
        weight = torch.full((1, 1, layer.kernel), 1 / layer.kernel, dtype=torch.float64)
        y = torch.conv1d(y, weight, stride=layer.stride, dilation=layer.dilation)
    assert y.shape == (1, 1, 1)
    (influence,) = torch.autograd.grad(y.sum(), x)
    assert influence.flatten()[0] > 0
    assert influence.flatten()[-1] > 0
