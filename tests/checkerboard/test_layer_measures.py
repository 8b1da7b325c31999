"""All measures of all upsamplings of a network against the single measures and closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.blocks import upsample
from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.imaging import imaging_leakage, sum_rule_order
from medseg.checkerboard.imbalance import (
    dc_gain_imbalance,
    kernel_gains,
    noise_gain_imbalance,
    worst_dc_gain_imbalance,
)
from medseg.checkerboard.kernels import UpsamplingLayer, probed_kernel, read_kernel
from medseg.layers.parallel import Sum
from medseg.layers.resampling import DepthToSpace, Upsampling
from medseg.models.description import build_network

from ..models.networks import block, unet
from .taps import CONV, DIMS, TRANSPOSED, ones, over_axes

COMPOSITES = [
    upsample.PixelShuffle(),
    upsample.PixelShuffle(kernel_size=1),
    upsample.PixelShuffle(kernel_size=5, blur=True),
    upsample.PixelShuffle(init="icnr", blur=True),
    upsample.BedOfNails(),
    upsample.SmoothedTransposed(),
    upsample.SmoothedTransposed(kernel_size=5),
    upsample.LargeKernelTransposed(),
    upsample.LargeKernelTransposed(kernel_size=4, small_kernel_size=3),
]
PRESETS = [
    *(block("upsample.Transposed", kernel_size=k) for k in (None, 3)),
    block("upsample.BilinearTransposed"),
    block("upsample.LargeKernelTransposed"),
    block("upsample.SmoothedTransposed"),
    block("upsample.PixelShuffle"),
    block("upsample.PixelShuffle", init="icnr", blur=True),
    block("upsample.BedOfNails"),
    block("upsample.Interpolate"),
    block("upsample.Interpolate", mode="nearest"),
]


@pytest.mark.parametrize("dims", DIMS)
class TestClosedForms:
    @pytest.mark.parametrize(("kernel", "one"), [(1, 0.5), (2, 0), (3, 0.1), (4, 0), (5, 1 / 26)])
    def test_all_ones(self, kernel, one, dims) -> None:
        (found,) = upsampling_rows(ones(TRANSPOSED, dims, kernel, 2))
        expected = pytest.approx(over_axes(one, dims), abs=1e-11)
        assert found.values["overlap"] == expected
        assert found.values["dc_gain"] == found.values["dc_gain_worst"] == expected
        assert found.stride == [2] * dims

    @pytest.mark.parametrize(
        ("mode", "order", "leak"), [("nearest", 1, None), ("linear", 3, 0.0331)]
    )
    def test_interpolation(self, mode, order, leak, dims) -> None:
        (found,) = upsampling_rows(upsample.Interpolate(mode=mode)(dims, 4, 3, 2))
        assert found.values["overlap"] is None
        assert found.values["dc_gain"] == found.values["dc_gain_worst"] == 0
        assert found.values["noise_gain"] == pytest.approx(0, abs=1e-11)
        assert found.values["sum_rule_order"] == order
        leak = (1 - 2 / math.pi) / 2 if leak is None else leak
        assert found.values["imaging"] == pytest.approx(over_axes(leak, dims), abs=2e-4)

    def test_blurred_shuffle_of_equal_phases_is_a_tent(self, dims) -> None:
        layer = upsample.PixelShuffle(kernel_size=1, init="icnr", blur=True)(dims, 3, 2, 2)
        (found,) = upsampling_rows(layer)
        assert found.values["dc_gain_worst"] == pytest.approx(0, abs=1e-9)
        assert found.values["noise_gain"] == pytest.approx(over_axes(0.1, dims))
        assert found.values["sum_rule_order"] == 2


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("preset", PRESETS, ids=str)
def test_every_number_is_that_of_its_function(preset, dims) -> None:
    network = build_network(unet(dims, upsample=preset))
    layers = dict(network.named_modules())
    found = upsampling_rows(network)
    assert len(found) == 2
    for each in found:
        assert each.note == ""
        layer = layers[each.layer]
        assert each.operator == str(layer)
        taps, stride = UpsamplingLayer(layer, dims).kernel, UpsamplingLayer(layer, dims).stride
        gains = kernel_gains(taps, stride)
        assert each.stride == list(stride)
        assert each.values["dc_gain"] == pytest.approx(dc_gain_imbalance(gains), abs=1e-11)
        assert each.values["dc_gain_worst"] == pytest.approx(
            worst_dc_gain_imbalance(gains), abs=1e-11
        )
        assert each.values["noise_gain"] == noise_gain_imbalance(taps, stride)
        assert each.values["imaging"] == imaging_leakage(taps, stride)
        assert each.values["sum_rule_order"] == sum_rule_order(taps, stride)


@pytest.mark.parametrize(
    ("dims", "scale"),
    [(1, (2,)), (1, (3,)), (2, (2, 2)), (2, (1, 3)), (3, (2, 2, 2)), (3, (1, 2, 2))],
)
@pytest.mark.parametrize("factory", COMPOSITES, ids=repr)
def test_composed_taps_are_the_answer_to_impulses(factory, dims, scale) -> None:
    layer = factory(dims, 3, 2, scale)
    composed, answered = read_kernel(layer), probed_kernel(layer)
    assert composed is not None
    assert_same_but_for_outer_zeros(composed, answered, scale)
    torch.testing.assert_close(kernel_gains(composed, scale), kernel_gains(answered, scale))


def assert_same_but_for_outer_zeros(one: torch.Tensor, other: torch.Tensor, scale) -> None:
    """Cells of zeros before and behind do not count; phases do."""
    for axis, step in enumerate(scale, start=2):
        trimmed = []
        for taps in (one, other):
            used = (taps.abs() > 1e-12).movedim(axis, 0).flatten(1).any(dim=1).nonzero().flatten()
            start = int(used[0]) // step * step
            trimmed.append(taps.narrow(axis, start, int(used[-1]) + 1 - start))
        one, other = trimmed
    torch.testing.assert_close(one, other)


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    scale=st.integers(2, 3),
)
def test_any_convolution_before_a_shuffle(kernel, dilation, groups, scale) -> None:
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv1d(2, 2 * scale, kernel, padding=padding, dilation=dilation, groups=groups)
    layer = Upsampling(nn.Sequential(conv, DepthToSpace((scale,))), 2, (scale,)).double()
    taps = read_kernel(layer)
    assert taps is not None
    x = torch.zeros(1, 2, 31, dtype=torch.float64)
    bias = layer(x).detach()
    x[0, 1, 15] = 1
    answer = (layer(x).detach() - bias)[0]
    used = answer.abs().sum(dim=0).nonzero().flatten()
    start = int(used[0]) // scale * scale
    torch.testing.assert_close(answer[:, start : start + taps.shape[2]], taps[1])


class TestBranches:
    def test_of_other_paddings_are_added_where_they_are(self) -> None:
        first, second = nn.ConvTranspose1d(2, 3, 4, 2, 1), nn.ConvTranspose1d(2, 3, 5, 2, 2, 1)
        layer = Upsampling(Sum(first, second), 2, (2,))
        composed = read_kernel(layer)
        assert composed is not None
        assert_same_but_for_outer_zeros(composed, probed_kernel(layer), (2,))

    @pytest.mark.parametrize(
        "inside", [nn.ReLU(), nn.Conv1d(2, 2, 3, padding=1), nn.Upsample(scale_factor=2)], ids=str
    )
    def test_layers_that_are_not_known_are_answered(self, inside) -> None:
        unknown = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), DepthToSpace((2,)), inside)
        layer = Upsampling(unknown, 2, (2,))
        assert read_kernel(layer) is None
        assert read_kernel(Upsampling(Sum(unknown, unknown), 2, (2,))) is None

    def test_a_sequence_that_does_something_else_is_not_known(self) -> None:
        class Doubled(nn.Sequential):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return 2 * super().forward(x)

        layer = Upsampling(Doubled(nn.ConvTranspose1d(1, 1, 2, 2)), 1, (2,))
        assert read_kernel(layer) is None
        torch.testing.assert_close(
            UpsamplingLayer(layer).kernel, 2 * UpsamplingLayer(layer.layers[0]).kernel
        )


class TestReasons:
    @pytest.mark.parametrize(
        ("layer", "reason"),
        [
            (Upsampling(nn.Sequential(nn.Conv1d(2, 2, 1), nn.Tanh(), DepthToSpace((2,))), 2, (2,)),
             "not linear"),
            (nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True), "align_corners=True"),
            (nn.Upsample(size=8), "no whole scale_factor"),
            (nn.Upsample(scale_factor=2), "does not say how many"),
            (nn.MaxUnpool2d(2), "MaxUnpool2d is no upsampling that is linear"),
            (DepthToSpace((2, 2)), "DepthToSpace is no upsampling"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )  # fmt: skip
    def test_layers_without_a_kernel(self, layer, reason) -> None:
        (found,) = upsampling_rows(layer)
        assert (
            found.values["noise_gain"]
            is found.values["imaging"]
            is found.values["sum_rule_order"]
            is None
        )
        assert reason in found.note

    @pytest.mark.parametrize(
        ("value", "reason"), [(math.nan, "36 of 36 weights are NaN"), (0.0, "all 36 taps are 0")]
    )
    def test_weights_that_say_nothing_have_their_overlap_all_the_same(self, value, reason) -> None:
        layer = nn.ConvTranspose2d(2, 2, 3, 2)
        nn.init.constant_(layer.weight, value)
        (found,) = upsampling_rows(layer)
        assert found.values["overlap"] == pytest.approx(0.19)
        assert found.values["dc_gain"] is found.values["dc_gain_worst"] is None
        assert reason in found.note


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups(groups) -> None:
    layer = nn.ConvTranspose2d(4, 8, 3, 2, groups=groups)
    (found,) = upsampling_rows(layer)
    dense = nn.ConvTranspose2d(4, 8, 3, 2)
    dense.weight.data = UpsamplingLayer(layer).kernel.float()
    (expected,) = upsampling_rows(dense)
    for name in ("dc_gain", "dc_gain_worst", "noise_gain", "imaging"):
        assert found.values[name] == pytest.approx(expected.values[name], abs=1e-9)


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(CONV[1](1, 2, 3), upsample.PixelShuffle()(2, 2, 2, 2)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    numbers = torch.get_rng_state()
    upsampling_rows(network)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert network[1].training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
