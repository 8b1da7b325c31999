"""What does not move with the image."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.checkerboard.probes import cycle_spin_residual
from medseg.checkerboard.torus import torus
from medseg.models.description import build_network

from ..models.networks import block, unet
from .taps import CONV, DIMS, TRANSPOSED, outer, over_axes

SIZE = (256, 64, 24)


def waves(dims: int, *, cycles: int = 1) -> Tensor:
    """A smooth image without a mean."""
    n = SIZE[dims - 1]
    line = torch.sin(2 * math.pi * cycles * torch.arange(n, dtype=torch.float64) / n)
    shapes = [[-1 if a == axis else 1 for a in range(dims)] for axis in range(dims)]
    return sum((line.reshape(s) for s in shapes), torch.zeros([n] * dims).double())[None, None]


def texture(*space: int, channels: int = 1) -> Tensor:
    return torch.randn(1, channels, *space, dtype=torch.float64)


def down_up(dims: int, down: list[float], up: list[float]) -> nn.Module:
    """A convolution at stride 2, then a transposed one."""
    coarse = CONV[dims - 1](1, 1, len(down), 2, padding=(len(down) - 1) // 2, bias=False)
    pads = (len(up) - 1) // 2
    fine = TRANSPOSED[dims - 1](
        1, 1, len(up), 2, padding=pads, output_padding=2 + 2 * pads - len(up), bias=False
    )
    coarse.weight.data, fine.weight.data = (
        outer(down, dims)[None, None],
        outer(up, dims)[None, None],
    )
    return nn.Sequential(coarse, fine)


class Printed(nn.Module):
    """The image, twice as large in the second class, and a pattern."""

    def __init__(self, pattern: Tensor):
        super().__init__()
        self.pattern = pattern

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x, 2 * x], dim=1)
        times = [n // p for n, p in zip(x.shape[2:], self.pattern.shape[1:], strict=True)]
        return both + self.pattern.repeat(1, *times)


def by_hand(network: nn.Module, image: Tensor, period: tuple[int, ...]) -> float:
    """The definition, over all shifts."""
    axes = tuple(range(2, image.ndim))
    spun = torch.stack([
        network(image.roll(shift, axes)).roll([-s for s in shift], axes).detach()
        for shift in itertools.product(*(range(p) for p in period))
    ])  # fmt: skip
    residual = (spun - spun.mean(dim=0)).square().mean()
    steady = spun.mean(dim=0)
    variance = (steady - steady.mean(dim=axes, keepdim=True)).square().mean()
    return float(residual / (residual + variance))


@pytest.mark.parametrize("dims", DIMS)
class TestClosedForms:
    def test_a_bed_of_nails(self, dims) -> None:
        found = cycle_spin_residual(down_up(dims, [1.0], [1.0]), waves(dims, cycles=3))
        assert found.residual == pytest.approx(over_axes(0.5, dims), abs=1e-12)
        assert found.locked == pytest.approx(0, abs=1e-12)

    def test_slow_waves_show_the_imbalance(self, dims) -> None:
        found = cycle_spin_residual(down_up(dims, [0.5, 0.5], [1.0, 1, 1]), waves(dims))
        assert found.residual == pytest.approx(over_axes(0.1, dims), rel=0.03)

    def test_a_constant_part_is_printed_and_so_locked(self, dims) -> None:
        # nails on a + wave: (1 − 1/P) (a² + w²) of the variance (1 − 1/P) a² + w²
        image, share = waves(dims), over_axes(0.5, dims)
        wave, mean = float(image.square().mean()), 2.0
        found = cycle_spin_residual(down_up(dims, [1.0], [1.0]), image + mean)
        whole = share * mean**2 + wave
        assert found.residual == pytest.approx(share * (mean**2 + wave) / whole)
        assert found.locked == pytest.approx(share * mean**2 / whole)
        nails = torch.zeros([2] * dims, dtype=torch.float64).flatten()
        nails[0] = mean
        expected = (nails - nails.mean()).reshape(1, *[2] * dims)
        torch.testing.assert_close(found.pattern, expected, atol=1e-9, rtol=0)

    def test_a_network_without_a_lattice_leaves_nothing(self, dims) -> None:
        network = CONV[dims - 1](1, 2, 3, padding=1).double()
        found = cycle_spin_residual(network, texture(*[12] * dims), period=[4] * dims)
        assert found.residual < 1e-25
        assert found.locked < 1e-25
        assert found.deviation.max() < 1e-12

    def test_stripes_of_the_image_are_no_artifact(self, dims) -> None:
        image = texture(*[16] * dims)
        image[..., 1::2] += 5
        found = cycle_spin_residual(nn.Identity(), image, period=[2] * dims)
        assert (found.residual, found.locked, found.self_test) == (0, 0, 0)


class TestDefinition:
    @pytest.mark.parametrize(
        ("dims", "down", "up"),
        [
            (1, [0.2, 0.5, 0.3, 1], [1.0, -2, 0.5]),
            (2, [1.0, 0.4], [0.3, 1, 0.6]),
            (3, [1.0, 2, 0.5], [1.0, -1]),
        ],
    )
    def test_of_linear_networks(self, dims, down, up) -> None:
        network, image = down_up(dims, down, up), texture(*[8] * dims) + 1
        with torus(network):
            expected = by_hand(network, image, (2,) * dims)
        assert cycle_spin_residual(network, image).residual == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("strides", [(1, 2, 2), (1, (1, 2), (3, 1))], ids=str)
    def test_of_a_unet_with_norms(self, strides) -> None:
        network = build_network(unet(strides=strides)).double().eval()
        image, period = texture(12, 20), network.total_stride
        with torus(network):
            expected = by_hand(network, image, period)
        found = cycle_spin_residual(network, image, shifts=100)
        assert found.residual == pytest.approx(expected, rel=1e-9)
        assert found.locked <= found.residual
        assert found.self_test < 1e-20

    def test_the_deviation_is_the_residual_by_voxel(self) -> None:
        network, image = down_up(2, [1.0, 0.4], [0.3, 1, 0.6]), texture(8, 12)
        found = cycle_spin_residual(network, image)
        assert found.deviation.shape == (1, 8, 12)
        whole = float(found.deviation.square().mean()) / found.residual
        with torus(network):
            spun = [network(image.roll((i, j), (2, 3))).roll((-i, -j), (2, 3))
                    for i in range(2) for j in range(2)]  # fmt: skip
        spread = torch.stack(spun).detach()
        assert whole == pytest.approx(float(spread.var(correction=0)), rel=1e-9)
        expected = spread.std(dim=0, correction=0)[0]
        torch.testing.assert_close(found.deviation, expected, atol=1e-12, rtol=1e-9)


class TestSomeShifts:
    PATTERN = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1)).double()

    def measured(self, seed: int = 0, shifts: int = 5):
        image = texture(16, 24)
        return cycle_spin_residual(Printed(self.PATTERN), image, (4, 4), shifts, seed), image

    def test_the_pattern_is_recovered_under_texture(self) -> None:
        found, _ = self.measured()
        expected = self.PATTERN - self.PATTERN.mean(dim=(1, 2), keepdim=True)
        torch.testing.assert_close(found.pattern, expected, atol=1e-9, rtol=0)

    def test_the_shares_of_the_pattern(self) -> None:
        found, image = self.measured(shifts=16)
        printed = float(self.PATTERN.var(dim=(1, 2), correction=0).sum())
        share = printed / (printed + 5 * float(image.var(correction=0)))
        assert found.residual == pytest.approx(share, rel=1e-9)
        assert found.locked == pytest.approx(share, rel=1e-9)
        rms = self.PATTERN.std(dim=(1, 2), correction=0)
        torch.testing.assert_close(found.deviation[:, 3, 7], rms, atol=1e-9, rtol=1e-9)

    @pytest.mark.parametrize("shifts", [2, 5])
    def test_numerator_and_denominator_are_unbiased(self, shifts) -> None:
        network = build_network(unet(channels=(2, 4), strides=(1, (4, 2)))).double()
        image = texture(16, 16)
        whole = cycle_spin_residual(network, image, shifts=8)
        found = [cycle_spin_residual(network, image, shifts=shifts, seed=s) for s in range(40)]
        spread = torch.stack([f.deviation.square().mean() for f in found])
        totals = spread / torch.tensor([f.residual for f in found], dtype=torch.float64)
        exact = float(whole.deviation.square().mean())
        for sample, expected in ((spread, exact), (totals, exact / whole.residual)):
            error = 4 * float(sample.std()) / math.sqrt(len(sample)) + 1e-9 * expected
            assert abs(float(sample.mean()) - expected) < error


@settings(max_examples=10)
@given(scale=st.sampled_from([-3.0, 1e-6, 1e6]), offset=st.floats(-10, 10))
def test_an_affine_map_of_the_logits_changes_nothing(scale, offset) -> None:
    network, image = down_up(2, [1.0, 0.4], [0.3, 1, 0.6]), waves(2) + 1
    affine = nn.Conv2d(1, 1, 1).double()
    affine.weight.data.fill_(scale)
    affine.bias.data.fill_(offset * abs(scale))
    plain, mapped = (
        cycle_spin_residual(n, image) for n in (network, nn.Sequential(network, affine))
    )
    assert mapped.residual == pytest.approx(plain.residual, rel=1e-7)
    assert mapped.locked == pytest.approx(plain.locked, rel=1e-7)
    torch.testing.assert_close(mapped.pattern / scale, plain.pattern, atol=1e-7, rtol=1e-7)


class TestUse:
    @pytest.mark.parametrize("upsample", ["Interpolate", "Transposed", "PixelShuffle"])
    def test_the_self_test_holds_in_single_precision(self, upsample) -> None:
        network = build_network(unet(upsample=block(f"upsample.{upsample}")))
        found = cycle_spin_residual(network, 40 * texture(30, 29).float() + 300)
        assert found.self_test < 1e-9 < found.residual
        assert found.deviation.shape == (3, 28, 28)

    def test_a_wrong_period_fails_it(self) -> None:
        network = build_network(unet()).double()
        assert cycle_spin_residual(network, texture(24, 24), (3, 3)).self_test > 1e-6

    def test_under_autocast(self) -> None:
        network, image = build_network(unet()), texture(16, 16).float()
        plain = cycle_spin_residual(network, image)
        with torch.autocast("cpu", torch.bfloat16):
            half = cycle_spin_residual(network, image)
        assert half.residual == pytest.approx(plain.residual, rel=0.1)

    def test_none_without_a_lattice_or_a_response(self) -> None:
        silent = down_up(2, [0.0], [1.0])
        assert cycle_spin_residual(nn.Conv2d(1, 1, 1), texture(8, 8)) is None
        assert cycle_spin_residual(nn.Identity(), texture(8, 8), (1, 1)) is None
        assert cycle_spin_residual(silent, texture(8, 8)) is None

    @pytest.mark.parametrize(
        ("image", "options", "message"),
        [
            (texture(8, 8), {"shifts": 1}, "shifts=1"),
            (texture(1, 8), {}, "smaller than one period"),
            (texture(8, 8) * math.nan, {}, "64 of 64 voxels"),
        ],
    )
    def test_refused(self, image, options, message) -> None:
        with pytest.raises(ValueError, match=message):
            cycle_spin_residual(down_up(2, [1.0], [1.0]), image, **options)

    def test_logits_must_be_finite_and_on_the_grid(self) -> None:
        with pytest.raises(ValueError, match="keeps the grid"):
            cycle_spin_residual(nn.Upsample(scale_factor=2), texture(8, 8))
        broken = down_up(2, [math.inf], [1.0])
        with pytest.raises(ValueError, match="logits are NaN"):
            cycle_spin_residual(broken, texture(8, 8))
