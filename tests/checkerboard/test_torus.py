"""On the torus a network commutes with shifts by its stride; far from borders nothing changes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard.torus import fixed_statistics, torus
from medseg.models.description import build_network

from ..models.networks import block, unet
from .taps import CONV, DIMS, TRANSPOSED

MAX_POOL = [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d]
AVERAGE_POOL = [nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d]
PAD = [nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d]
LINEAR = ["linear", "bilinear", "trilinear"]
CELLS = 6


def open_layers(dims: int) -> list[nn.Module]:
    """Layers that look beyond the border, all of one channel."""
    return [
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode=LINEAR[dims - 1]),
        nn.Upsample(scale_factor=(3, 1, 2)[:dims], mode=LINEAR[dims - 1]),
        MAX_POOL[dims - 1](3, 2, 1),
        AVERAGE_POOL[dims - 1](3, 2, 1),
        AVERAGE_POOL[dims - 1](2),
        CONV[dims - 1](1, 1, 5, padding="same"),
        CONV[dims - 1](1, 1, 3, stride=2, padding=1),
        TRANSPOSED[dims - 1](1, 1, 3, stride=2, padding=1, output_padding=1),
        TRANSPOSED[dims - 1](1, 1, 5, stride=2, padding=2, output_padding=1, dilation=1),
        nn.Sequential(PAD[dims - 1]((1, 0) * dims, 0.0), AVERAGE_POOL[dims - 1](2, 1)),
    ] + ([nn.Upsample(scale_factor=2, mode="bicubic")] if dims == 2 else [])


@torch.no_grad()
def on_torus(network: nn.Module, x: Tensor) -> Tensor:
    with torus(network):
        return network(x)


def assert_commutes(network: nn.Module, x: Tensor, shift: tuple[int, ...]) -> None:
    """Shifts of the input by so many voxels come out as shifts by the same part of the grid."""
    axes = tuple(range(2, x.ndim))
    still, moved = on_torus(network, x), on_torus(network, x.roll(shift, axes))
    out = [s * m // n for s, m, n in zip(shift, still.shape[2:], x.shape[2:], strict=True)]
    torch.testing.assert_close(moved, still.roll(out, axes), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("dims", DIMS)
class TestLayers:
    def test_commute_with_shifts(self, dims) -> None:
        x = torch.randn(1, 1, *[2 * CELLS] * dims, dtype=torch.float64)
        for layer in open_layers(dims):
            assert_commutes(layer.double(), x, (2, -4, 6)[:dims])

    def test_are_unchanged_far_from_borders(self, dims) -> None:
        x = torch.randn(1, 1, *[4 * CELLS] * dims)
        for layer in open_layers(dims):
            plain, closed = layer(x).detach(), on_torus(layer, x)
            assert plain.shape == closed.shape
            inner = tuple(slice(n // 4, -n // 4) for n in plain.shape[2:])
            torch.testing.assert_close(plain[(..., *inner)], closed[(..., *inner)])

    def test_are_left_as_they_were(self, dims) -> None:
        x = torch.randn(1, 1, *[2 * CELLS] * dims)
        for layer in open_layers(dims):
            before = copy.deepcopy(layer)(x)
            on_torus(layer, x)
            torch.testing.assert_close(layer(x), before, atol=0, rtol=0)
            for module in layer.modules():
                assert not module._forward_hooks
                assert not module._forward_pre_hooks


class TestLeftOpen:
    @pytest.mark.parametrize(
        "layer",
        [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Upsample(scale_factor=1.5, mode="bilinear"),
            nn.Upsample(size=(17, 19), mode="bilinear"),
            nn.Upsample(scale_factor=2),
        ],
        ids=str,
    )
    def test_interpolations_without_a_stride(self, layer) -> None:
        x = torch.randn(1, 1, 8, 8)
        torch.testing.assert_close(on_torus(layer, x), layer(x), atol=0, rtol=0)

    def test_pooling_that_returns_places(self) -> None:
        layer, x = nn.MaxPool2d(3, 2, 1, return_indices=True), torch.randn(1, 1, 8, 8)
        for closed, plain in zip(on_torus(layer, x), layer(x), strict=True):
            assert torch.equal(closed, plain)


@pytest.mark.parametrize("downsample", ["Strided", "MaxPool", "AveragePool", "BlurPool"])
@pytest.mark.parametrize(
    "upsample",
    [
        block("upsample.Interpolate"),
        block("upsample.Interpolate", mode="nearest"),
        block("upsample.Transposed", kernel_size=3),
        block("upsample.PixelShuffle", blur=True),
        block("upsample.SmoothedTransposed", kernel_size=4),
    ],
    ids=str,
)
def test_whole_networks_commute_with_shifts_by_their_total_stride(upsample, downsample) -> None:
    description = unet(upsample=upsample, downsample=block(f"downsample.{downsample}"))
    assert_commutes(build_network(description).double().eval(), image(16, 24), (4, -8))


@pytest.mark.parametrize("upsample", ["deconv", "pixelshuffle"])
def test_the_basic_unet_of_monai(upsample) -> None:
    description = {
        "name": "monai.BasicUNet",
        "spatial_dims": 2,
        "features": [4, 4, 4, 8, 8, 4],
        "upsample": upsample,
    }
    network = build_network(description).double().eval()
    assert_commutes(network, image(32, 32), (16, 0))


def test_statistics_stay_those_of_the_reference() -> None:
    norm = nn.InstanceNorm2d(1, affine=True)
    reference = 3 * torch.randn(1, 1, 8, 8) + 5
    with fixed_statistics(norm, reference) as logits:
        torch.testing.assert_close(norm(reference), logits)
        assert norm(torch.full((1, 1, 4, 4), 5.0)).abs().max() < 1


def image(*space: int) -> Tensor:
    return torch.randn(1, 1, *space, dtype=torch.float64)
