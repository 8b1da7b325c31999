"""Patterns on the gradient of the input."""

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.blocks.downsample import BlurPool
from medseg.checkerboard.gradients import gradient_imbalance
from medseg.checkerboard.probes import input_gradient_phases
from medseg.models.description import build_network

from ..models.networks import block, unet
from .taps import CONV, DIMS, outer, over_axes

SIZE = (4096, 96, 32)
MAX_POOL = [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d]
AVERAGE_POOL = [nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d]


def noise(*space: int, channels: int = 1) -> Tensor:
    return torch.randn(1, channels, *space)


def strided(dims: int, kernel: int) -> nn.Module:
    """All-ones taps at stride 2 that keep the grid of the cells."""
    layer = CONV[dims - 1](1, 1, kernel, 2, padding=(kernel - 1) // 2)
    nn.init.ones_(layer.weight)
    return layer


@pytest.mark.parametrize("dims", DIMS)
class TestClosedForms:
    @pytest.mark.parametrize(("kernel", "one"), [(1, 0.5), (2, 0), (3, 0.1), (4, 0), (5, 1 / 26)])
    def test_strided_convolutions(self, dims, kernel, one) -> None:
        layer = strided(dims, kernel)
        found = input_gradient_phases(layer, [noise(*[8] * dims)], [2] * dims)
        assert found.locked == pytest.approx(over_axes(one, dims), abs=1e-6)
        assert found.locked == pytest.approx(gradient_imbalance(layer), abs=1e-6)
        # the same in every cell, so that nothing else is there
        assert found.share == pytest.approx(found.locked, abs=1e-6)
        assert found.within_cell == pytest.approx(found.locked, abs=1e-6)

    def test_energy_of_three_taps(self, dims) -> None:
        found = input_gradient_phases(strided(dims, 3), [noise(*[8] * dims)], [2] * dims)
        # gradients 1 and 2 along each axis, energies 1 and 4
        torch.testing.assert_close(found.mean[0], outer([1.0, 2], dims))
        torch.testing.assert_close(found.energy[0], outer([1.0, 4], dims))
        assert found.energy_imbalance == pytest.approx(over_axes(4.5 / 17, dims), abs=1e-6)

    def test_average_pooling_has_none(self, dims) -> None:
        found = input_gradient_phases(AVERAGE_POOL[dims - 1](2), [noise(*[8] * dims)], [2] * dims)
        assert found.locked == found.share == found.energy_imbalance == 0
        assert found.within_cell == pytest.approx(0, abs=1e-6)

    def test_max_pooling_is_within_cells_but_not_locked(self, dims) -> None:
        image = noise(*[SIZE[dims - 1]] * dims)
        found = input_gradient_phases(MAX_POOL[dims - 1](2), [image], [2] * dims)
        assert found.locked < 0.01
        assert found.share < found.locked
        assert found.energy_imbalance < 0.01
        assert found.within_cell == pytest.approx(over_axes(0.5, dims), abs=1e-9)

    def test_max_pooling_of_a_constant_takes_the_first_voxel(self, dims) -> None:
        image = torch.ones(1, 1, *[8] * dims)
        found = input_gradient_phases(MAX_POOL[dims - 1](2), [image], [2] * dims)
        assert found.locked == pytest.approx(over_axes(0.5, dims))

    def test_a_stack_has_the_period_of_both(self, dims) -> None:
        stack = nn.Sequential(strided(dims, 1), strided(dims, 2))
        found = input_gradient_phases(stack, [noise(*[8] * dims)], [4] * dims)
        assert found.mean.shape == (1, *[4] * dims)
        assert found.locked == pytest.approx(over_axes(0.5, dims))


def test_is_the_gradient_of_autograd() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Sigmoid())
    image = noise(8, 6, channels=2)
    leaf = image.clone().requires_grad_()
    network(leaf)[:, 1].sum().backward()
    found = input_gradient_phases(network, [image], (2, 3), label=1)
    for i in range(2):
        for j in range(3):
            values = leaf.grad[0, :, i::2, j::3].double()
            torch.testing.assert_close(found.mean[:, i, j], values.mean(dim=(1, 2)))
            torch.testing.assert_close(found.energy[:, i, j], values.square().mean(dim=(1, 2)))


def test_all_classes_are_the_sum_of_each() -> None:
    network, image = build_network(unet()), noise(16, 16)
    each = [input_gradient_phases(network, [image], label=c).mean for c in range(3)]
    together = input_gradient_phases(network, [image]).mean
    torch.testing.assert_close(sum(each), together, atol=1e-5, rtol=1e-4)


class TestImages:
    def test_weigh_by_their_cells(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Tanh())
        images = [noise(8, 8), noise(16, 12)]
        one, two = (input_gradient_phases(network, [i], (2, 2)) for i in images)
        both = input_gradient_phases(network, images, (2, 2))
        torch.testing.assert_close(both.mean, (one.mean + 3 * two.mean) / 4)
        torch.testing.assert_close(both.energy, (one.energy + 3 * two.energy) / 4)

    def test_what_is_not_locked_averages_out(self) -> None:
        pool = nn.MaxPool2d(2)
        few, many = (
            input_gradient_phases(pool, [noise(8, 8) for _ in range(count)], (2, 2))
            for count in (1, 40)
        )
        assert many.share < few.share / 4
        assert many.within_cell == pytest.approx(few.within_cell)

    def test_are_cropped_at_the_far_end(self) -> None:
        image = noise(9, 11)
        one, two = (
            input_gradient_phases(nn.MaxPool2d(2), [i], (2, 2))
            for i in (image, image[..., :8, :10])
        )
        assert torch.equal(one.energy, two.energy)


@pytest.mark.parametrize("norm", ["Instance", "Batch"])
def test_norms_do_not_take_the_gradient_of_a_sum_away(norm) -> None:
    network = build_network(unet(unit=block("unit.Plain", norm=block(f"norm.{norm}"))))
    found = input_gradient_phases(network, [noise(16, 16)])
    assert found.mean.shape == (1, 4, 4)
    assert found.mean.abs().max() > 1e-3


def test_a_blur_before_the_stride_leaves_no_pattern() -> None:
    pool = BlurPool()(2, 1, 2)
    found = input_gradient_phases(pool, [noise(16, 16)], (2, 2))
    assert found.within_cell < 1e-9


class TestUse:
    def test_the_network_is_left_as_it_was(self) -> None:
        network = build_network(unet()).train()
        network.encoder.eval()
        image = noise(16, 16)
        input_gradient_phases(network, [image])
        assert network.training
        assert not network.encoder.training
        assert all(p.grad is None for p in network.parameters())
        assert image.grad is None
        assert not image.requires_grad

    def test_under_no_grad_and_autocast(self) -> None:
        network, image = build_network(unet()), noise(16, 16)
        plain = input_gradient_phases(network, [image])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            half = input_gradient_phases(network, [image])
        assert half.within_cell == pytest.approx(plain.within_cell, rel=0.1)

    def test_none_without_a_lattice_or_a_gradient(self) -> None:
        silent = nn.Conv2d(1, 1, 3, 2, 1)
        nn.init.zeros_(silent.weight)
        assert input_gradient_phases(nn.Conv2d(1, 1, 1), [noise(8, 8)]) is None
        assert input_gradient_phases(silent, [noise(8, 8)], (2, 2)) is None

    @pytest.mark.parametrize(
        ("images", "options", "message"),
        [
            ([], {}, "no image"),
            ([noise(1, 8)], {}, "smaller than one period"),
            ([noise(8, 8), noise(8)], {}, "axes"),
            ([noise(8, 8) * math.inf], {}, "64 of 64 voxels"),
            ([noise(8, 8)], {"label": 1}, "label=1 must be one of the 1 classes"),
            ([noise(8, 8)], {"label": -1}, "label=-1"),
        ],
    )
    def test_refused(self, images, options, message) -> None:
        with pytest.raises(ValueError, match=message):
            input_gradient_phases(strided(2, 3), images, (2, 2), **options)
