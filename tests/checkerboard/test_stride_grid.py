"""After how many voxels the patterns of a network's stages repeat."""

import pytest
from torch import nn

from medseg.checkerboard.layers import StrideGrid, stride_grid_of
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import block, unet


def test_levels_are_the_cumulated_strides_of_the_decoder() -> None:
    network = build_network(unet(channels=[4, 4, 4], strides=[1, [2, 1], 2]))
    assert stride_grid_of(network, 2) == StrideGrid(((2, 1), (4, 2)))
    assert stride_grid_of(network, 2).period == (4, 2)


def test_a_foreign_network_has_the_product_of_its_upsamplings() -> None:
    up = nn.ConvTranspose3d(1, 1, 2, stride=(1, 2, 2))
    assert stride_grid_of(nn.Sequential(up, up), 3).period == (1, 2, 2)
    assert stride_grid_of(nn.Sequential(up, nn.Upsample(scale_factor=2)), 3).period == (2, 4, 4)


@pytest.mark.parametrize("network", [nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=1)])
def test_stride_1_everywhere_is_refused(network) -> None:
    with pytest.raises(ConfigError, match="stride 1 everywhere"):
        stride_grid_of(network, 2)


def test_a_long_period_is_tested_at_its_fine_levels() -> None:
    levels = tuple((2**n,) * 3 for n in range(1, 6))
    assert StrideGrid(levels).tested == (8, 8, 8)
    assert StrideGrid(levels).period == (32, 32, 32)
    assert StrideGrid(((32, 32, 32),)).tested == (32, 32, 32)


@pytest.mark.parametrize("decoder", ["nested", "full_scale"])
def test_decoders_with_more_upsamplings_than_stages_count_each_stage_once(decoder) -> None:
    upsample = block("upsample.Interpolate")
    network = build_network(unet(decoder=decoder, upsample=upsample))
    assert stride_grid_of(network, 2).period == (4, 4)
