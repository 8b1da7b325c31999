"""The layers of a network: features before upsamplings, and after how many voxels they repeat."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.checkerboard import kernels as room
from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.imbalance import dc_gain_imbalance
from medseg.checkerboard.kernels import UpsamplingLayer
from medseg.checkerboard.layers import input_moments, stride_grid_of
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, unet
from .taps import DIMS, TRANSPOSED


def by_hand(features: Tensor) -> tuple[Tensor, Tensor]:
    voxels = features.detach().double().transpose(0, 1).flatten(1)
    return voxels.mean(dim=1), voxels @ voxels.T / voxels.shape[1]


@pytest.mark.parametrize("dims", DIMS)
def test_by_hand(dims) -> None:
    x = torch.randn(3, 4, *(7, 5, 3)[:dims]) + 2
    found = input_moments(TRANSPOSED[dims - 1](4, 2, 2, 2), [x])[""]
    mean, second = by_hand(x)
    torch.testing.assert_close(found.mean, mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.second, second, rtol=1e-6, atol=1e-6)
    assert found.voxels == x.numel() // 4
    assert found.mean.dtype == found.second.dtype == torch.float64


def test_what_the_layers_of_a_network_are_given() -> None:
    network = build_network(unet()).eval()
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.ConvTranspose2d)}
    image, seen = torch.randn(2, 1, 16, 16), {}
    hooks = [
        m.register_forward_pre_hook(lambda m, x: seen.update({m: x[0]})) for m in layers.values()
    ]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    found = input_moments(network, [image])
    assert list(found) == list(layers)
    for name, each in found.items():
        expected = by_hand(seen[layers[name]])[1]
        torch.testing.assert_close(each.second, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), cut=st.integers(1, 3), at_once=st.sampled_from([1, 7, 1 << 12]))
def test_neither_batches_nor_blocks_nor_order_matter(seed, cut, at_once) -> None:
    x = torch.randn(4, 2, 6, 4, generator=torch.Generator().manual_seed(seed))
    layer = nn.Upsample(scale_factor=2)
    whole = input_moments(layer, [x])[""]
    before, room._VOXELS_AT_ONCE = room._VOXELS_AT_ONCE, at_once
    try:
        parts = input_moments(layer, iter([x[cut:], x[:cut]]))[""]
    finally:
        room._VOXELS_AT_ONCE = before
    torch.testing.assert_close(parts.second, whole.second, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-5, atol=1e-6)
    assert parts.voxels == whole.voxels == 96
    # a covariance has no negative eigenvalue
    covariance = whole.second - torch.outer(whole.mean, whole.mean)
    assert torch.linalg.eigvalsh(covariance)[0] > -1e-6


class Twice(nn.Module):
    """Calls one layer twice, another by keyword, and a third never."""

    def __init__(self):
        super().__init__()
        self.shared, self.named, self.unused = (nn.Upsample(scale_factor=2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.named(input=self.shared(x) + self.shared(3 * x))


def test_calls_are_pooled_and_layers_without_one_are_left_out() -> None:
    found = input_moments(Twice(), [torch.ones(1, 1, 5)])
    assert list(found) == ["shared", "named"]
    assert (found["shared"].voxels, found["named"].voxels) == (10, 10)
    assert (float(found["shared"].mean), float(found["shared"].second)) == (2, 5)
    assert float(found["named"].mean) == 4


def test_the_same_images_give_the_same_moments_of_a_network_that_drops_out() -> None:
    network = build_network(MONAI_UNET | {"norm": "batch", "dropout": 0.5}).train()
    first, second = (input_moments(network, [torch.ones(1, 1, 16, 16)]) for _ in range(2))
    assert all(torch.equal(first[name].second, second[name].second) for name in first)


def test_a_network_is_left_as_it_was_even_when_it_raises() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ConvTranspose2d(1, 1, 2, 2)).train()
    with pytest.raises(RuntimeError):
        input_moments(network, [torch.ones(1, 2, 4, 4)])
    assert network.training
    assert not network[1]._forward_pre_hooks


class TestRefusal:
    def test_features_that_are_not_finite(self) -> None:
        with pytest.raises(ValueError, match=r"1 of 1 second moments before 0 are NaN"):
            input_moments(
                nn.Sequential(nn.Upsample(scale_factor=2)), [torch.full((1, 1, 4), torch.nan)]
            )

    def test_moments_of_another_network(self) -> None:
        found = input_moments(nn.ConvTranspose1d(2, 1, 2, 2), [torch.ones(1, 2, 4)])
        (row,) = upsampling_rows(nn.ConvTranspose1d(3, 1, 2, 2), found)
        assert row.values["dc_gain_mean"] is row.values["dc_gain_data"] is None
        assert row.note


class TestWeighing:
    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_measures_are_those_for_these_moments(self, groups) -> None:
        layer = nn.ConvTranspose2d(4, 4, 3, 2, groups=groups)
        x = torch.randn(1, 4, 9, 9) * torch.tensor([1.0, 2, 0, 3]).reshape(1, 4, 1, 1) + 1
        (found,) = upsampling_rows(layer, input_moments(layer, [x]))
        # what the layer makes of the mean, by its own answer far from the border
        constant = x.mean(dim=(2, 3), keepdim=True).expand(-1, -1, 8, 8)
        with torch.no_grad():
            cell = (layer(constant) - layer(torch.zeros_like(constant)))[0, :, 8:10, 8:10]
        mean = dc_gain_imbalance(cell.flatten(1).T)
        assert found.values["dc_gain_mean"] == pytest.approx(mean, abs=1e-5)
        assert found.values["dc_gain"] <= found.values["dc_gain_worst"] + 1e-9
        assert found.values["dc_gain_data"] <= found.values["dc_gain_worst"] + 1e-9
        if groups == 1:
            expected = dc_gain_imbalance(UpsamplingLayer(layer).gains, by_hand(x)[1])
            assert found.values["dc_gain_data"] == pytest.approx(expected, abs=1e-6)


def test_levels_are_the_cumulated_strides_of_the_decoder() -> None:
    network = build_network(unet(channels=[4, 4, 4], strides=[1, [2, 1], 2]))
    assert stride_grid_of(network, 2) == ((2, 1), (4, 2))


def test_a_foreign_network_has_the_product_of_its_upsamplings() -> None:
    up = nn.ConvTranspose3d(1, 1, 2, stride=(1, 2, 2))
    assert stride_grid_of(nn.Sequential(up, up), 3)[-1] == (1, 2, 2)
    assert stride_grid_of(nn.Sequential(up, nn.Upsample(scale_factor=2)), 3)[-1] == (2, 4, 4)


@pytest.mark.parametrize("network", [nn.Conv2d(1, 1, 3), nn.Upsample(scale_factor=1)])
def test_stride_1_everywhere_is_refused(network) -> None:
    with pytest.raises(ConfigError, match="stride 1 everywhere"):
        stride_grid_of(network, 2)


@pytest.mark.parametrize("decoder", ["nested", "full_scale"])
def test_decoders_with_more_upsamplings_than_stages_count_each_stage_once(decoder) -> None:
    upsample = block("upsample.Interpolate")
    network = build_network(unet(decoder=decoder, upsample=upsample))
    assert stride_grid_of(network, 2)[-1] == (4, 4)
