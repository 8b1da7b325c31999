"""The receptive field of stacks whose field is known, and of networks without an end."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from medseg.analysis.receptive_field import AxisField, receptive_field
from medseg.analysis.trace import WRITE_THROUGH_VIEW, trace
from medseg.analysis.widths import Scale, levels_of, with_levels
from medseg.cli.compose import option_names
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import preset
from .functions import Function, seen
from .positive import positive, seen_by_gradient

SIZE = (64, 64)


def conv(kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(1, 1, kernel, stride, padding, dilation)


def transposed(kernel: int, stride: int) -> nn.Module:
    extra = max(0, stride - kernel + 2 * ((kernel - 1) // 2))
    return nn.ConvTranspose2d(1, 1, kernel, stride, (kernel - 1) // 2, extra)


def field_of(*layers: nn.Module, size: Sequence[int] = SIZE) -> AxisField:
    """Of a stack that treats both axes alike."""
    first, second = receptive_field(nn.Sequential(*layers), 1, size)
    assert first is not None
    assert first == second
    return first


def recurrence(layers: Sequence[tuple[int, int, int]]) -> int:
    """Extent of (kernel, stride, dilation) by Araujo et al. 2019."""
    extent = jump = 1
    for kernel, stride, dilation in layers:
        extent += (kernel - 1) * dilation * jump
        jump *= stride
    return extent


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([1, 2]), st.integers(1, 3)),
        min_size=1,
        max_size=4,
    )
)
def test_a_stack_that_only_shrinks_has_the_extent_of_the_recurrence(
    layers: list[tuple[int, int, int]],
) -> None:
    size = 256 + recurrence(layers)  # kept whole by no padding at all
    field = receptive_field(
        nn.Sequential(*(nn.Conv1d(1, 1, k, s, dilation=d) for k, s, d in layers)), 1, (size,)
    )[0]
    assert field is not None
    assert set(field.extents) == {recurrence(layers)}
    assert field.smallest == field.largest == recurrence(layers)


@pytest.mark.parametrize(
    ("layers", "extents"),
    [
        ([nn.Identity()], (1,)),
        ([conv(3), conv(3)], (5,)),
        ([conv(3), nn.GroupNorm(1, 1), nn.LeakyReLU(inplace=True), conv(3)], (5,)),
        ([conv(3), nn.InstanceNorm2d(1), nn.PReLU()], (3,)),
        ([conv(3, stride=2), conv(3, stride=2)], (7,)),
        ([nn.AvgPool2d(2), nn.MaxPool2d(2)], (4,)),
        ([nn.MaxPool2d(2), nn.Upsample(scale_factor=2)], (2, 2)),
        ([nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")], (4, 4)),
        ([conv(3, 2), transposed(3, 2)], (3, 5)),
        ([conv(3, 2), transposed(2, 2)], (3, 3)),
        ([conv(3, 2), conv(3, 2), transposed(3, 2), transposed(3, 2)], (7, 11, 11, 11)),
        ([nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 1), nn.PixelShuffle(2)], (2, 2)),
        ([nn.ReflectionPad2d(1), nn.Conv2d(1, 1, 3)], (3,)),
        ([nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate")], (3,)),
    ],
)
def test_known_extents_by_phase(layers: list[nn.Module], extents: tuple[int, ...]) -> None:
    field = field_of(*layers)
    assert field.extents == extents
    assert field.period == len(extents)
    assert field.coverage == 1


def test_the_recurrence_is_only_an_upper_bound_where_a_network_upsamples() -> None:
    taps = math.ceil(3 / 2)  # of a transposed convolution that one voxel depends on at most
    bound = recurrence([(3, 2, 1), (3, 2, 1)]) + (taps - 1) * (4 + 2)
    field = field_of(conv(3, 2), conv(3, 2), transposed(3, 2), transposed(3, 2))
    assert (field.smallest, field.largest, bound) == (7, 11, 13)


def test_phases_that_mirror_each_other_have_mirrored_offsets() -> None:
    field = field_of(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"))
    assert field.first == (-2, -1)
    assert field.last == (1, 2)
    assert field.first == tuple(-last for last in reversed(field.last))


@pytest.mark.parametrize("rates", [(2, 2, 2), (1, 2, 5), (1, 2, 9)])
def test_coverage_counts_the_holes_of_dilated_stacks(rates: tuple[int, ...]) -> None:
    places = {0}
    for rate in rates:
        places = {place + rate * tap for place in places for tap in (-1, 0, 1)}
    field = field_of(*(conv(3, dilation=rate) for rate in rates))
    extent = 2 * sum(rates) + 1
    assert (field.extents, field.voxels) == ((extent,), (len(places),))
    assert field.coverage == len(places) / extent


class Squeeze(nn.Module):
    """A gate of means over some axes."""

    def __init__(self, *axes: int):
        super().__init__()
        self.conv, self.axes = conv(3), axes

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.mean(self.axes, keepdim=True).sigmoid()


@pytest.mark.parametrize(
    ("network", "bounded"),
    [
        (Squeeze(2, 3), (False, False)),
        (Squeeze(2), (False, True)),
        (Squeeze(-1), (True, False)),
        (nn.Sequential(conv(3), nn.AdaptiveAvgPool2d(1)), (False, False)),
        (nn.Sequential(conv(3), nn.AdaptiveAvgPool2d((None, 1))), (True, False)),
        (Function(lambda x: x.softmax(3)), (True, False)),
        (Function(lambda x: x.cumsum(3)), (False, False)),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), (False, False)),
    ],
)
def test_no_field_where_all_voxels_are_seen_or_nothing_is_known(
    network: nn.Module, bounded: tuple[bool, ...]
) -> None:
    fields = receptive_field(network, 1, SIZE)
    assert tuple(field is not None for field in fields) == bounded
    assert all(field.largest in (1, 3) for field in fields if field is not None)


def test_circular_padding_is_named_as_unknown_and_misses_no_voxel() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    traced = trace(network, 1, (8, 8))
    assert WRITE_THROUGH_VIEW in [step.operator for step in traced.steps]
    expected = seen_by_gradient(positive(network), torch.rand(1, 1, 8, 8).double(), 0, range(8))
    assert expected[0, 7]
    assert (seen(traced, 0, range(8)) >= expected).all()


def test_phases_are_found_in_functions_too() -> None:
    def function(x: Tensor) -> Tensor:
        return functional.interpolate(functional.avg_pool2d(x, 4), scale_factor=4.0)

    for field in receptive_field(Function(function), 1, SIZE):
        assert field is not None
        assert field.period == 4
        assert field.first == (0, -1, -2, -3)
        assert field.extents == (4,) * 4


def test_axes_are_told_apart() -> None:
    network = nn.Conv3d(1, 1, (1, 3, 5), padding=(0, 2, 2), dilation=(1, 2, 1))
    fields = receptive_field(network, 1, (8, 8, 8))
    assert [field.extents for field in fields if field] == [(1,), (5,), (5,)]
    assert [field.voxels for field in fields if field] == [(1,), (3,), (5,)]


@pytest.mark.parametrize("option", option_names("model"))
def test_the_field_of_every_preset_is_the_gradients_or_endless(option: str) -> None:
    usual = preset(option, 2)
    narrow = Scale(levels=levels_of(usual), multiple=8).at(0)  # no field depends on widths
    network = build_network(with_levels(usual, narrow))
    field, _ = receptive_field(network, 1, (256, 32))
    length = 256 if field is None else 2 ** (field.largest + 64).bit_length()
    period = 1 if field is None else field.period
    phases = range(0, period, max(1, period // 4))
    outputs = [length // 2 + phase for phase in phases]
    image = torch.rand(1, 1, length, 32, dtype=torch.float64)
    found = seen_by_gradient(positive(network), image, 0, outputs)
    if field is None:
        assert found[:, [0, -1]].all()
        return
    places = [np.flatnonzero(row) for row in found]
    for phase, output, own in zip(phases, outputs, places, strict=True):
        ends = (len(own), own[0] - output, own[-1] - output)
        assert (field.voxels[phase], field.first[phase], field.last[phase]) == ends


def test_a_size_that_does_not_pass_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"size=\[256, 64\] with 2 channels does not pass"):
        receptive_field(nn.Sequential(conv(3)), 2, SIZE)
