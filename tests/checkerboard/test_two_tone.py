"""What networks make of one wave."""

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard.cycle_spin import cycle_spin_residual
from medseg.checkerboard.kernels import upsampling_kernel
from medseg.checkerboard.probes import tone_response
from medseg.models.description import build_network

from ..models.networks import block, unet
from .taps import CONV, DIMS, TRANSPOSED, leakage_of

WAVES = torch.tensor([0.15, 0.4, 0.9, 1.3, -0.7, 2.1, 3.0], dtype=torch.float64)
LINEAR = ["linear", "bilinear", "trilinear"]
SHARES = ("content", "imaging", "pattern", "harmonics", "mixed")


def along(dims: int, axis: int = 0) -> Tensor:
    """The waves along one axis."""
    return torch.stack([WAVES * (a == axis) for a in range(dims)], dim=1)


def noise(*space: int) -> Tensor:
    """A reference without a mean, so that linear networks have no pattern."""
    values = torch.randn(1, 1, *space, dtype=torch.float64)
    return values - values.mean()


def subsampled(dims: int, upsample: nn.Module) -> nn.Module:
    """Every second voxel, brought back by an upsampling."""
    coarse = CONV[dims - 1](1, 1, 1, 2, bias=False)
    nn.init.ones_(coarse.weight)
    return nn.Sequential(coarse, upsample).double()


def transposed(dims: int, kernel: int) -> nn.Module:
    pads = (kernel - 1) // 2
    layer = TRANSPOSED[dims - 1](
        1, 1, kernel, 2, padding=pads, output_padding=2 + 2 * pads - kernel, bias=False
    )
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    return layer


@pytest.mark.parametrize("dims", DIMS)
class TestLinear:
    @pytest.mark.parametrize("name", ["nearest", "linear", "nails", "three taps", "four taps"])
    def test_leaks_what_the_spectrum_of_its_kernel_says(self, dims, name) -> None:
        upsample = {
            "nearest": nn.Upsample(scale_factor=2),
            "linear": nn.Upsample(scale_factor=2, mode=LINEAR[dims - 1]),
            "nails": transposed(dims, 1),
            "three taps": transposed(dims, 3),
            "four taps": transposed(dims, 4),
        }[name]
        found = tone_response(subsampled(dims, upsample), noise(*[8] * dims), along(dims))
        kernel = upsampling_kernel(upsample, dims)
        expected = leakage_of(kernel, (2,) * dims, 2 * found.frequencies)
        torch.testing.assert_close(
            found.imaging / (found.imaging + found.content), expected, atol=1e-9, rtol=0
        )
        for share in (found.pattern, found.harmonics, found.mixed):
            assert share.max() < 1e-12

    def test_a_convolution_only_passes_content(self, dims) -> None:
        network = CONV[dims - 1](1, 2, 3, padding=1).double()
        found = tone_response(network, noise(*[8] * dims), along(dims), period=[4] * dims)
        torch.testing.assert_close(found.content, torch.ones(len(WAVES)).double())


class TestSplit:
    def test_a_constant_part_is_pattern(self) -> None:
        # nails on mean + a·cos: pattern mean²/4 of that and a²/2·(1/4 + 1/4)
        network = subsampled(1, transposed(1, 1))
        reference, mean = noise(8), 0.7
        found = tone_response(network, reference + mean, along(1), amplitude=1.0)
        wave = float(reference.var(correction=0)) / 2
        whole = mean**2 / 4 + wave / 2
        expected = torch.full((len(WAVES),), mean**2 / 4 / whole, dtype=torch.float64)
        torch.testing.assert_close(found.pattern, expected)
        torch.testing.assert_close(found.content, found.imaging)

    def test_a_square_by_hand(self) -> None:
        class Square(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x + x.square()

        reference = noise(8)
        reference = reference / reference.std(correction=0)
        found = tone_response(Square(), reference, along(1), period=(4,), amplitude=2.0)
        expected = (2.0**4 / 8) / (2.0**2 / 2 + 2.0**4 / 8)
        torch.testing.assert_close(found.harmonics, torch.full_like(found.harmonics, expected))
        torch.testing.assert_close(found.content, 1 - found.harmonics)

    def test_replicas_of_harmonics_are_neither(self) -> None:
        network = nn.Sequential(nn.ReLU(), subsampled(1, transposed(1, 1)))
        found = tone_response(network, noise(8), along(1))
        assert found.mixed.min() > 0.01
        total = sum(getattr(found, name) for name in SHARES)
        torch.testing.assert_close(total, torch.ones(len(WAVES)).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("upsample", ["Transposed", "PixelShuffle"])
def test_what_is_not_content_is_the_cycle_spin_residual_of_the_wave(upsample) -> None:
    unit = block("unit.Plain", norm=block("norm.Batch"))
    network = build_network(unet(unit=unit, upsample=block(f"upsample.{upsample}"))).double()
    reference, cells = noise(16, 16) + 1, 31
    found = tone_response(network, reference, torch.tensor([[0.4, 0.0], [0.5, 0.9]]))
    scale = math.sqrt(2) * float(reference.std(correction=0))
    places = torch.meshgrid(*[torch.arange(4 * cells).double()] * 2, indexing="ij")
    for index, (first, second) in enumerate(found.frequencies):
        tone = scale * torch.cos(first * places[0] + second * places[1]) + reference.mean()
        spun = cycle_spin_residual(network, tone[None, None], shifts=16)
        artifact = found.imaging[index] + found.pattern[index] + found.mixed[index]
        assert float(artifact) == pytest.approx(spun.residual, rel=0.01, abs=1e-3)
        assert float(found.pattern[index]) == pytest.approx(spun.locked, rel=0.01, abs=1e-5)


class TestUse:
    def test_the_network_is_left_as_it_was(self) -> None:
        network, image = build_network(unet()).train(), noise(16, 16).float()
        state = torch.random.get_rng_state()
        tone_response(network, image, along(2)[:1])
        assert torch.equal(torch.random.get_rng_state(), state)
        assert all(module.training for module in network.modules())

    def test_none_or_nan_without_anything_to_split(self) -> None:
        assert tone_response(nn.Conv2d(1, 1, 1), noise(8, 8).float(), along(2)) is None
        silent = subsampled(1, transposed(1, 1))
        nn.init.zeros_(silent[1].weight)
        assert tone_response(silent, noise(8), along(1)).content.isnan().all()

    @pytest.mark.parametrize(
        ("waves", "message"),
        [
            (torch.zeros(3), r"must be \(points, 1\)"),
            (torch.tensor([[1.0, 2.0]]), r"must be \(points, 1\)"),
            (torch.tensor([[math.nan]]), "frequencies are NaN"),
            (torch.tensor([[1.0], [0.0]]), r"frequency \[0.0\] is a multiple"),
            (torch.tensor([[math.pi]]), r"frequency \[3.14\d+\] is a multiple"),
        ],
    )
    def test_refused(self, waves, message) -> None:
        with pytest.raises(ValueError, match=message):
            tone_response(subsampled(1, transposed(1, 1)), noise(8), waves)
