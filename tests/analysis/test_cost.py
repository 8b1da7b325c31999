"""Parameters and multiply-accumulates by hand, and patches that do not pass."""

import math

import pytest
import torch
from torch import nn

from medseg.analysis.cost import count_macs, count_parameters
from medseg.analysis.input_sizes import check_patch
from medseg.blocks import conv, downsample, upsample
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, unet

GRIDS = [(12, 16), (4, 6, 8)]
IN, OUT = 8, 12


def assert_cost(layer: nn.Module, grid: tuple[int, ...], *, parameters: int, macs: int) -> None:
    assert count_parameters(layer) == parameters
    assert count_macs(layer, IN, grid) == macs


@pytest.mark.parametrize("grid", GRIDS, ids=str)
class TestClosedForms:
    @pytest.mark.parametrize("kernel", [1, 3, 5])
    def test_standard(self, kernel, grid) -> None:
        weights = kernel ** len(grid) * IN * OUT
        layer = conv.Standard(kernel_size=kernel)(len(grid), IN, OUT)
        assert_cost(layer, grid, parameters=weights, macs=math.prod(grid) * weights)

    def test_a_kernel_per_axis(self, grid) -> None:
        kernel = (1, 3, 5)[: len(grid)]
        weights = math.prod(kernel) * IN * OUT
        layer = conv.Standard(kernel_size=kernel)(len(grid), IN, OUT)
        assert_cost(layer, grid, parameters=weights, macs=math.prod(grid) * weights)

    @pytest.mark.parametrize("rate", [1, 2, 4])
    def test_dilated_costs_what_standard_costs(self, rate, grid) -> None:
        weights = 3 ** len(grid) * IN * OUT
        layer = conv.Dilated(dilation=rate)(len(grid), IN, OUT)
        assert_cost(layer, grid, parameters=weights, macs=math.prod(grid) * weights)

    def test_depthwise_separable(self, grid) -> None:
        weights = IN * (3 ** len(grid) + OUT)
        layer = conv.DepthwiseSeparable()(len(grid), IN, OUT)
        assert_cost(layer, grid, parameters=weights, macs=math.prod(grid) * weights)
        standard = count_parameters(conv.Standard()(len(grid), IN, OUT))
        assert weights / standard == pytest.approx(1 / OUT + 1 / 3 ** len(grid))

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_grouped(self, groups, grid) -> None:
        weights = 3 ** len(grid) * IN * OUT // groups
        layer = conv.Grouped(groups=groups)(len(grid), IN, OUT)
        assert_cost(layer, grid, parameters=weights, macs=math.prod(grid) * weights)

    def test_strided_computes_only_what_it_keeps(self, grid) -> None:
        weights = 3 ** len(grid) * IN * IN
        layer = downsample.Strided()(len(grid), IN, 2)
        coarse = math.prod(grid) // 2 ** len(grid)
        assert_cost(layer, grid, parameters=weights, macs=coarse * weights)

    @pytest.mark.parametrize("kernel", [2, 3, 4])
    def test_transposed_counts_the_coarse_grid(self, kernel, grid) -> None:
        weights = kernel ** len(grid) * IN * OUT
        layer = upsample.Transposed(kernel_size=kernel)(len(grid), IN, OUT, 2)
        assert_cost(layer, grid, parameters=weights + OUT, macs=math.prod(grid) * weights)

    @pytest.mark.parametrize("mode", ["linear", "nearest"])
    def test_interpolation_costs_its_1x1_on_the_coarse_grid(self, mode, grid) -> None:
        layer = upsample.Interpolate(mode=mode)(len(grid), IN, OUT, 2)
        assert_cost(layer, grid, parameters=IN * OUT + OUT, macs=math.prod(grid) * IN * OUT)

    def test_max_pooling_costs_nothing(self, grid) -> None:
        assert_cost(downsample.MaxPool()(len(grid), IN, 2), grid, parameters=0, macs=0)


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


def test_counting_leaves_the_network_where_it_is() -> None:
    network = build_network(unet()).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_macs(network, 1, (16, 16))
    check_patch(network, 1, (16, 16), deep_supervision=True)
    assert network.training
    assert not [m for m in network.modules() if m._forward_pre_hooks]
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_counting_computes_nothing() -> None:
    # 2^30 voxels of 4 channels are 16 GiB: only an abstract tensor has room for them
    network = build_network(unet(3, channels=(4, 8), strides=(1, 2)))
    assert count_macs(network, 1, (1024,) * 3) == 2**24 * count_macs(network, 1, (4,) * 3)


class TestCheckPatch:
    @pytest.mark.parametrize("size", [(16, 16), (13, 18), (5, 5)])
    def test_a_patch_that_passes_passes(self, size) -> None:
        check_patch(build_network(unet()), 1, size, deep_supervision=False)

    def test_what_passes_the_check_passes_in_training(self) -> None:
        network = build_network(unet()).train()
        for size in [(1, 1), (4, 4), (4, 5), (2, 7), (9, 3)]:
            try:
                check_patch(network, 1, size, deep_supervision=False)
            except ConfigError:
                with pytest.raises(ValueError, match="more than 1"):
                    network(torch.randn(1, 1, *size))
            else:
                assert network(torch.randn(1, 1, *size)).isfinite().all()

    @pytest.mark.parametrize("size", [(4, 4), (1, 1), (3, 2)])
    def test_a_single_voxel_in_the_bottleneck_is_refused(self, size) -> None:
        message = rf"patch_size=\[{size[0]}, {size[1]}\] shrinks to a single voxel.*larger.*fewer"
        with pytest.raises(ConfigError, match=message):
            check_patch(build_network(unet()), 1, size, deep_supervision=False)

    def test_a_single_voxel_is_fine_without_instance_norm(self) -> None:
        unit = block("unit.Plain", norm=block("norm.Group", groups=2))
        check_patch(build_network(unet(unit=unit)), 1, (4, 4), deep_supervision=False)

    def test_deep_supervision_needs_sizes_that_the_strides_divide(self) -> None:
        network = build_network(unet(deep_supervision=True))
        check_patch(network, 1, (13, 16), deep_supervision=False)
        check_patch(network, 1, (12, 16), deep_supervision=True)
        with pytest.raises(ConfigError, match=r"patch_size=\[13, 16\].*choose \[16, 16\]"):
            check_patch(network, 1, (13, 16), deep_supervision=True)

    @pytest.mark.parametrize(("channels", "size"), [(2, (16, 16)), (1, (16, 16, 16)), (1, (16,))])
    def test_other_channels_or_dimensions_are_refused(self, channels, size) -> None:
        with pytest.raises(ConfigError, match=rf"patch_size=.* with {channels} channels does not"):
            check_patch(build_network(unet()), channels, size, deep_supervision=False)

    def test_a_network_of_monai_is_checked_too(self) -> None:
        network = build_network(MONAI_UNET)
        check_patch(network, 1, (16, 16), deep_supervision=True)
        with pytest.raises(ConfigError, match=r"patch_size=\[18, 18\].*does not pass UNet"):
            check_patch(network, 1, (18, 18), deep_supervision=False)
