"""The gradient of the input by phase, against autograd and closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard.gradients import gradient_imbalance
from medseg.checkerboard.imbalance import phase_imbalance
from medseg.checkerboard.probes import input_gradient_phases
from medseg.models.description import build_network

from ..models.networks import block, unet
from .taps import CONV, DIMS, over_axes

MAX_POOL = [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d]


def noise(*space: int, channels: int = 1) -> Tensor:
    return torch.randn(1, channels, *space)


def imbalance(mean: Tensor) -> float:
    return phase_imbalance(mean.flatten(1).T)


@pytest.mark.parametrize("dims", DIMS)
def test_closed_forms(dims) -> None:
    for kernel in (1, 3, 5):
        layer = CONV[dims - 1](1, 1, kernel, 2, padding=(kernel - 1) // 2)
        nn.init.ones_(layer.weight)
        mean, energy = input_gradient_phases(layer, [noise(*[8] * dims)], [2] * dims)
        assert imbalance(mean) == pytest.approx(gradient_imbalance(layer), abs=1e-6)
        torch.testing.assert_close(energy, mean.square())  # the same in every cell
    image = noise(*[(4096, 96, 32)[dims - 1]] * dims)
    mean, energy = input_gradient_phases(MAX_POOL[dims - 1](2), [image], [2] * dims)
    assert imbalance(mean) < 0.01
    assert energy.sum() == pytest.approx(1)
    mean, _ = input_gradient_phases(MAX_POOL[dims - 1](2), [torch.ones_like(image)], [2] * dims)
    assert imbalance(mean) == pytest.approx(over_axes(0.5, dims))  # ties take the first voxel


def test_is_the_gradient_of_autograd() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Sigmoid())
    image = noise(8, 6, channels=2)
    leaf = image.clone().requires_grad_()
    network(leaf).sum().backward()
    mean, energy = input_gradient_phases(network, [image], (2, 3))
    for i in range(2):
        for j in range(3):
            values = leaf.grad[0, :, i::2, j::3].double()
            torch.testing.assert_close(mean[:, i, j], values.mean(dim=(1, 2)))
            torch.testing.assert_close(energy[:, i, j], values.square().mean(dim=(1, 2)))


def test_images_count_by_their_cells_and_are_cropped_at_the_far_end() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Tanh())
    images = [noise(9, 8), noise(16, 13)]
    one, two = (input_gradient_phases(network, [i], (2, 2)) for i in images)
    both = input_gradient_phases(network, images, (2, 2))
    for a, b, c in zip(one, two, both, strict=True):
        torch.testing.assert_close(c, (a + 3 * b) / 4)
    cropped = input_gradient_phases(network, [images[0][:, :, :8]], (2, 2))
    assert torch.equal(cropped[0], one[0])


@pytest.mark.parametrize("norm", ["Instance", "Batch"])
def test_norms_do_not_take_the_gradient_of_a_sum_away(norm) -> None:
    network = build_network(unet(unit=block("unit.Plain", norm=block(f"norm.{norm}"))))
    mean, _ = input_gradient_phases(network, [noise(16, 16)])
    assert mean.shape == (1, 4, 4)
    assert mean.abs().max() > 1e-3


def test_the_network_is_left_as_it_was() -> None:
    network = build_network(unet()).train()
    network.encoder.eval()
    image = noise(16, 16)
    with torch.no_grad():
        input_gradient_phases(network, [image])
    assert network.training
    assert not network.encoder.training
    assert all(p.grad is None for p in network.parameters())
    assert image.grad is None


def test_none_and_refusals() -> None:
    silent = nn.Conv2d(1, 1, 3, 2, 1)
    nn.init.zeros_(silent.weight)
    assert input_gradient_phases(nn.Conv2d(1, 1, 1), [noise(8, 8)]) is None
    assert input_gradient_phases(silent, [noise(8, 8)], (2, 2)) is None
    for images, message in [
        ([], "no image"),
        ([noise(1, 8)], "smaller than one period"),
        ([noise(8, 8), noise(8)], "axes"),
        ([noise(8, 8) * math.inf], "64 of 64 voxels"),
    ]:
        with pytest.raises(ValueError, match=message):
            input_gradient_phases(silent, images, (2, 2))
