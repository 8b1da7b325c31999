"""Convolutions against their definition, written out by hand."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from medseg.blocks import conv

from .helpers import array, conv_by_loops, signal

GRIDS = [(7, 10), (5, 6, 7)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
class TestConvolution:
    @pytest.mark.parametrize("size", [1, 3, 5])
    def test_standard_is_the_sum_over_its_taps(self, size, grid) -> None:
        layer = conv.Standard(kernel_size=size)(len(grid), 3, 2).double()
        x = signal(3, grid)
        expected = conv_by_loops(x[0].numpy(), layer.weight.detach().numpy())
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("rates", [(1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 3, 2)], ids=str)
    def test_dilated_has_its_taps_apart(self, rates, grid) -> None:
        rates = rates[: len(grid)]
        layer = conv.Dilated(dilation=rates)(len(grid), 3, 2).double()
        x = signal(3, grid)
        expected = conv_by_loops(x[0].numpy(), layer.weight.detach().numpy(), rates)
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_grouped_is_standard_with_a_block_diagonal_kernel(self, groups, grid) -> None:
        grouped = conv.Grouped(groups=groups)(len(grid), 8, 4)
        standard = conv.Standard()(len(grid), 8, 4)
        with torch.no_grad():
            standard.weight.zero_()
            for g in range(groups):
                rows = slice(g * 4 // groups, (g + 1) * 4 // groups)
                columns = slice(g * 8 // groups, (g + 1) * 8 // groups)
                standard.weight[rows, columns] = grouped.weight[rows]
        x = signal(8, grid).float()
        torch.testing.assert_close(grouped(x), standard(x))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
class TestDepthwise:
    def test_more_outputs_come_from_each_input_in_turn(self, grid) -> None:
        layer = conv.Depthwise(kernel_size=5)(len(grid), 2, 6).double()
        x = signal(2, grid)
        weight = array(layer.weight)
        assert weight.shape == (6, 1, *[5] * len(grid))
        each = [conv_by_loops(array(x)[0, [c // 3]], weight[[c]]) for c in range(6)]
        assert_allclose(array(layer(x))[0], np.concatenate(each), atol=1e-12)

    @pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 6, 2), (9, 6, 3), (3, 5, 1)])
    def test_other_channels_share_their_greatest_common_divisor(
        self, inputs, outputs, groups, grid
    ) -> None:
        layer = conv.Depthwise()(len(grid), inputs, outputs).double()
        x = signal(inputs, grid)
        weight = array(layer.weight)
        assert weight.shape[:2] == (outputs, inputs // groups)
        bundles = zip(np.split(array(x)[0], groups), np.split(weight, groups), strict=True)
        expected = np.concatenate([conv_by_loops(part, own) for part, own in bundles])
        assert_allclose(array(layer(x))[0], expected, atol=1e-12)

    @pytest.mark.parametrize(("size", "multiplier"), [(3, 1), (5, 2), (3, 3)])
    def test_separable_is_multiplied_depthwise_then_pointwise(self, size, multiplier, grid) -> None:
        block = conv.DepthwiseSeparable(kernel_size=size, multiplier=multiplier)
        layer = block(len(grid), 3, 5).double()
        depthwise, pointwise = (array(part.weight) for part in layer)
        assert depthwise.shape == (3 * multiplier, 1, *[size] * len(grid))
        x = signal(3, grid)
        each = [
            conv_by_loops(array(x)[0, [c // multiplier]], depthwise[[c]])
            for c in range(3 * multiplier)
        ]
        expected = conv_by_loops(np.concatenate(each), pointwise)
        assert_allclose(array(layer(x))[0], expected, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
class TestSpatiallySeparable:
    def test_one_channel_is_the_outer_product_of_its_factors(self, grid) -> None:
        layer = conv.SpatiallySeparable(kernel_size=5)(len(grid), 1, 1).double()
        kernel = np.ones(())
        for factor in layer:
            kernel = np.multiply.outer(kernel, array(factor.weight).ravel())
        assert kernel.shape == (5,) * len(grid)
        x = signal(1, grid)
        expected = conv_by_loops(array(x)[0], kernel[None, None])
        assert_allclose(array(layer(x))[0], expected, atol=1e-12)

    def test_it_is_one_axis_after_the_other(self, grid) -> None:
        dims = len(grid)
        layer = conv.SpatiallySeparable()(dims, 3, 2).double()
        x = signal(3, grid)
        expected = array(x)[0]
        for axis, factor in enumerate(layer):
            weight = array(factor.weight)
            line = [3 if a == axis else 1 for a in range(dims)]
            assert weight.shape == (2, 3 if axis == 0 else 2, *line)
            expected = conv_by_loops(expected, weight)
        assert_allclose(array(layer(x))[0], expected, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_pointwise_mixes_the_channels_of_a_voxel(grid) -> None:
    layer = conv.Pointwise()(len(grid), 3, 5).double()
    x = signal(3, grid)
    expected = np.einsum("oi,ni...->no...", array(layer.weight).reshape(5, 3), array(x))
    assert_allclose(array(layer(x)), expected, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("groups", [2, 3])
def test_a_shuffle_deals_the_channels_round_the_groups(groups, grid) -> None:
    shuffled = conv.Grouped(groups=groups, shuffle=True)(len(grid), 12, 12)
    plain = conv.Grouped(groups=groups)(len(grid), 12, 12)
    plain.load_state_dict(shuffled[0].state_dict())
    x = signal(12, grid).float()
    per_group = 12 // groups
    order = [group * per_group + member for member in range(per_group) for group in range(groups)]
    assert torch.equal(shuffled(x), plain(x)[:, order])


class TestSchedule:
    def test_its_rates_come_in_turn(self) -> None:
        schedule = conv.DilatedSchedule(kernel_size=5, rates=[1, 2, 5])
        found = [schedule.at(unit) for unit in range(7)]
        assert found == [conv.Dilated(kernel_size=5, dilation=r) for r in (1, 2, 5, 1, 2, 5, 1)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("rate", [1, 2, 3, (1, 3, 2)], ids=str)
class TestSmoothedDilated:
    def test_it_starts_as_the_dilated(self, rate, grid) -> None:
        rate = rate if isinstance(rate, int) else rate[: len(grid)]
        layer = conv.SmoothedDilated(dilation=rate)(len(grid), 3, 2)
        dilated = conv.Dilated(dilation=rate)(len(grid), 3, 2)
        dilated.load_state_dict(layer[1].state_dict())
        x = signal(3, grid).float()
        torch.testing.assert_close(layer(x), dilated(x))

    def test_it_is_a_shared_kernel_then_the_dilated(self, rate, grid) -> None:
        rates = (rate,) * len(grid) if isinstance(rate, int) else rate[: len(grid)]
        layer = conv.SmoothedDilated(dilation=rates)(len(grid), 3, 2).double()
        shared = layer[0].weight
        assert shared.shape == (1, 1, *(2 * r - 1 for r in rates))
        torch.nn.init.normal_(shared)
        x = signal(3, grid)
        smooth = [conv_by_loops(array(x)[0, [c]], array(shared)) for c in range(3)]
        expected = conv_by_loops(np.concatenate(smooth), array(layer[1].weight), rates)
        assert_allclose(array(layer(x))[0], expected, atol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_deformable_starts_as_the_standard(version, grid) -> None:
    layer = conv.Deformable(version=version)(len(grid), 3, 2)
    standard = conv.Standard()(len(grid), 3, 2)
    standard.load_state_dict({"weight": layer.weight})
    x = signal(3, grid).float()
    torch.testing.assert_close(layer(x), standard(x), atol=1e-5, rtol=1e-5)
    taps, dims = 3 ** len(grid), len(grid)
    assert layer.motion.out_channels == taps * (dims + version - 1)
