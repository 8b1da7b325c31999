"""Gradients of strided layers, and what rows of dilated convolutions see."""

import math

import pytest
import torch
from torch import nn

from medseg.blocks import downsample
from medseg.checkerboard import gradient_rows, gridding_rows
from medseg.checkerboard.convolutions import (
    StridedLayer,
    composed_kernel,
    coverage,
    gridding_imbalance,
)
from medseg.checkerboard.imbalance import dc_gain_imbalance, kernel_gains
from medseg.models.description import build_network

from ..models.networks import block, unet
from .taps import CONV, DIMS, ones, over_axes

MAX = [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d]
AVERAGE = [nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d]


def imbalances(network: nn.Module) -> list[float | None]:
    return [each.values["gradient_imbalance"] for each in gradient_rows(network)]


def gradient_in_a_cell(layer: nn.Module, channels: int, dims: int) -> torch.Tensor:
    """`(phases, channels)` at a cell of 2 voxels far from the border, for ones behind."""
    x = torch.zeros(1, channels, *[16] * dims, dtype=torch.float64, requires_grad=True)
    layer.double()(x).sum().backward()
    assert x.grad is not None
    return x.grad[(0, slice(None), *[slice(8, 10)] * dims)].flatten(1).T


@pytest.mark.parametrize("dims", DIMS)
class TestGradient:
    def test_convolutions(self, dims) -> None:
        network = nn.Sequential(
            ones(CONV, dims, 3, 2), ones(CONV, dims, 3, 1), ones(CONV, dims, 1, 2)
        )
        first, shortcut = gradient_rows(network)
        assert (first.layer, shortcut.layer) == ("0", "2")
        assert (
            first.values["gradient_imbalance"]
            == first.values["overlap"]
            == pytest.approx(over_axes(0.1, dims))
        )
        assert shortcut.values["gradient_imbalance"] == pytest.approx(1 - 2**-dims)
        assert first.operator == str(network[0])
        assert first.note == ""

    @pytest.mark.parametrize(("kernel", "one"), [(2, 0), (3, 0.1), (4, 0)])
    def test_average_pooling_is_a_convolution_of_equal_taps(self, dims, kernel, one) -> None:
        layer = AVERAGE[dims - 1](kernel, 2)
        assert imbalances(layer) == pytest.approx([over_axes(one, dims)])
        found = dc_gain_imbalance(gradient_in_a_cell(layer, 1, dims))
        assert found == pytest.approx(over_axes(one, dims))

    @pytest.mark.parametrize(("kernel", "one"), [(2, 0.0), (3, 0.1)])
    def test_max_pooling_in_expectation(self, dims, kernel, one) -> None:
        layer = MAX[dims - 1](kernel, 2)
        (found,) = gradient_rows(layer)
        assert found.values["gradient_imbalance"] == pytest.approx(over_axes(one, dims))
        assert "as likely" in found.note
        shape = (1, 1, *((40_000, 200, 70)[dims - 1],) * dims)
        x = torch.rand(shape, dtype=torch.float64).requires_grad_()
        layer(x).sum().backward()
        assert x.grad is not None
        folded = fold(x.grad[0, 0].detach(), dims)
        assert dc_gain_imbalance(folded) == pytest.approx(
            found.values["gradient_imbalance"], abs=0.02
        )

    def test_voxels_into_channels_are_a_strided_convolution(self, dims) -> None:
        layer = downsample.SpaceToDepth()(dims, 3, 2)
        (found,) = gradient_rows(layer)
        conv = CONV[dims - 1](3, 3, 2, 2)
        # channel c·P + p of the 1×1 is tap p of channel c
        conv.weight.data = layer[1].weight.data.reshape(3, 3, *[2] * dims)
        assert found.values["gradient_imbalance"] == pytest.approx(imbalances(conv)[0])
        assert found.layer == "0"


def fold(gradient: torch.Tensor, dims: int) -> torch.Tensor:
    cells = gradient.clone()
    for axis in range(dims):
        cells = cells.unflatten(axis, (-1, 2)).mean(dim=axis)
    return cells.flatten()


class TestOtherLayers:
    def test_what_keeps_the_grid_is_left_out(self) -> None:
        layers = [nn.Conv2d(1, 1, 3), nn.MaxPool2d(3, 1), nn.AvgPool2d(2, stride=1), nn.ReLU()]
        assert gradient_rows(nn.Sequential(*layers)) == []

    def test_unshuffle_of_torch_with_a_larger_kernel(self) -> None:
        layer = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 3, 3, padding=1))
        expected = dc_gain_imbalance(torch.stack([gradient_of(layer, o) for o in range(3)], dim=1))
        assert imbalances(layer) == pytest.approx([expected])

    def test_what_nothing_follows_has_a_reason(self) -> None:
        for layer in (nn.PixelUnshuffle(2), nn.Sequential(nn.PixelUnshuffle(2), nn.ReLU())):
            (found,) = gradient_rows(layer)
            assert found.values["gradient_imbalance"] is None
            assert "no convolution of all of them" in found.note

    @pytest.mark.parametrize(
        "kind", ["Strided", "MaxPool", "AveragePool", "BlurPool", "SpaceToDepth"]
    )
    def test_every_scale_of_a_network_has_one(self, kind) -> None:
        network = build_network(unet(downsample=block(f"downsample.{kind}")))
        found = gradient_rows(network)
        assert [each.stride for each in found] == [[2, 2], [2, 2]]
        assert all(each.values["gradient_imbalance"] is not None for each in found)


def gradient_of(layer: nn.Module, output: int) -> torch.Tensor:
    """`(phases, inputs)` of one output channel at an inner cell."""
    x = torch.zeros(1, 2, 12, 12, dtype=torch.float64, requires_grad=True)
    layer.double()(x)[:, output].sum().backward()
    assert x.grad is not None
    return x.grad[0, :, 4:6, 4:6].flatten(1).T


def dilated(dims: int, *rates: int, kernel: int = 3) -> nn.Sequential:
    layers = [CONV[dims - 1](4, 4, kernel, dilation=rate) for rate in rates]
    for layer in layers:
        nn.init.constant_(layer.weight, -0.1)
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))


class TestStacks:
    @pytest.mark.parametrize("dims", DIMS)
    @pytest.mark.parametrize(
        ("rates", "factor", "gap", "line", "one"),
        [
            ([2, 2, 2], 2, 2, 7 / 13, 0.5),
            ([2, 4, 8], 2, 4, 15 / 29, 0.5),
            ([3, 3, 3], 3, 3, 7 / 19, 2 / 3),
            ([1, 2, 5], 1, 2, 1, 1 / 82),
            ([1, 2, 9], 1, 5, 21 / 25, 1 / 82),
            ([1, 2, 4], 1, 2, 1, 0.1),
        ],
    )
    def test_the_table(self, dims, rates, factor, gap, line, one) -> None:
        (found,) = gridding_rows(dilated(dims, *rates))
        assert found.layer == "0, 2, 4"
        assert found.values["common_factor"] == factor
        assert found.values["largest_gap"] == gap
        assert found.stride == [max(2, factor)] * dims
        assert found.values["coverage"] == pytest.approx(line**dims)
        assert found.values["gridding_imbalance"] == pytest.approx(over_axes(one, dims))

    def test_a_row_ends_where_the_grid_or_the_channels_change(self) -> None:
        def conv(inputs: int, outputs: int, **options: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, **options)

        network = nn.Sequential(
            conv(1, 4, dilation=2), nn.Conv2d(4, 2, 1), conv(2, 4, dilation=3),
            nn.MaxPool2d(2), conv(4, 4, dilation=2),
            conv(4, 4, stride=2, dilation=2), conv(4, 4),
            nn.Upsample(scale_factor=2), conv(4, 4, dilation=2), conv(8, 4, dilation=2),
        )  # fmt: skip
        rows = [found.layer for found in gridding_rows(network)]
        assert rows == ["0, 2", "4", "8", "9"]

    def test_a_shortcut_beside_the_row_does_not_end_it(self) -> None:
        network = nn.ModuleList([
            nn.Conv1d(2, 4, 3, dilation=2), nn.Conv1d(2, 4, 1), nn.Conv1d(4, 4, 3, dilation=2)
        ])  # fmt: skip
        assert [found.layer for found in gridding_rows(network)] == ["0, 2"]

    @pytest.mark.parametrize("value", [0.0, math.nan])
    def test_weights_that_say_nothing(self, value) -> None:
        network = dilated(2, 2, 2)
        nn.init.constant_(network[0].weight, value)
        (found,) = gridding_rows(network)
        assert found.values["coverage"] is found.values["gridding_imbalance"] is None
        assert found.values["common_factor"] == 2


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 2, 1), (3, 2, 2), (2, 3, 1)])
def test_is_what_autograd_leaves_on_the_input(dims, kernel, stride, groups) -> None:
    conv = CONV[dims - 1](2, 4, kernel, stride, groups=groups).double()
    x = torch.zeros(1, 2, *[stride * 8] * dims, dtype=torch.float64, requires_grad=True)
    conv(x).sum().backward()
    assert x.grad is not None
    cell = x.grad[(0, slice(None), *[slice(4 * stride, 5 * stride)] * dims)].flatten(1).T
    gains = kernel_gains(StridedLayer("", conv).kernel, conv.stride)
    torch.testing.assert_close(gains.sum(dim=1), cell)


class TestGradientOfANetwork:
    def test_the_gradient_of_a_network_is_the_composed_kernel(self) -> None:
        layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, dilation=rate) for rate in (1, 2))).double()
        x = torch.zeros(1, 1, 11, 11, dtype=torch.float64, requires_grad=True)
        layers(x)[0, 0, 2, 2].backward()
        assert x.grad is not None
        composed = composed_kernel(
            [layer.weight[0, 0] for layer in layers], [layer.dilation for layer in layers]
        )
        torch.testing.assert_close(x.grad[0, 0, 2:9, 2:9], composed)
        # voxels outside the receptive field do not count
        assert coverage(x.grad[0, 0]) == coverage(composed) == 1
        expected = gridding_imbalance(composed, (2, 2))
        assert gridding_imbalance(x.grad[0, 0], (2, 2)) == pytest.approx(expected)

    def test_axes_of_their_own(self) -> None:
        field = composed_kernel([torch.ones(3, 2)], [(2, 1)])
        assert field.shape == (5, 2)
        assert gridding_imbalance(field, (2, 1)) == 0.5
        assert gridding_imbalance(field, (1, 2)) == 0
        assert coverage(field) == 0.6
