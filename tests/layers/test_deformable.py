"""The deformable convolution against a loop over voxels, taps and corners."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torch.nn import functional

from medseg.layers.deformable import DeformableConv, deformable_conv

CONV = {2: functional.conv2d, 3: functional.conv3d}
CASES = [((4, 5), (3, 3)), ((5, 3), (1, 3)), ((3, 4, 2), (3, 3, 3)), ((2, 3, 4), (1, 3, 5))]
cases = pytest.mark.parametrize(("grid", "kernel"), CASES, ids=str)
versions = pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])


def between_voxels(x: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Multilinear interpolation of `(channels, *S)`; zero outside."""
    low = np.floor(place).astype(int)
    value = np.zeros(len(x))
    for corner in product((0, 1), repeat=len(place)):
        at = low + corner
        if all(0 <= a < n for a, n in zip(at, x.shape[1:], strict=True)):
            value += np.prod(1 - np.abs(place - at)) * x[(slice(None), *at)]
    return value


def by_loops(
    x: np.ndarray, weight: np.ndarray, offsets: np.ndarray, modulation: np.ndarray
) -> np.ndarray:
    out = np.zeros((len(weight), *x.shape[1:]))
    for voxel in np.ndindex(*x.shape[1:]):
        for index, tap in enumerate(np.ndindex(*weight.shape[2:])):
            centre = [k // 2 for k in weight.shape[2:]]
            moved = np.add(voxel, np.subtract(tap, centre)) + offsets[(index, slice(None), *voxel)]
            fetched = between_voxels(x, moved) * modulation[(index, *voxel)]
            out[(slice(None), *voxel)] += weight[(slice(None), slice(None), *tap)] @ fetched
    return out


def draw(grid, kernel, *, reach: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Input, weight, offsets and modulation in double precision."""
    taps, dims = int(np.prod(kernel)), len(kernel)
    x = torch.randn(2, 3, *grid, dtype=torch.float64)
    weight = torch.randn(2, 3, *kernel, dtype=torch.float64)
    offsets = reach * torch.randn(2, taps, dims, *grid, dtype=torch.float64)
    modulation = 2 * torch.rand(2, taps, *grid, dtype=torch.float64)
    return x, weight, offsets, modulation


@cases
@pytest.mark.parametrize("reach", [0.4, 5.0], ids=["near", "far"])
def test_it_is_the_sum_over_its_moved_taps(reach, grid, kernel) -> None:
    x, weight, offsets, modulation = draw(grid, kernel, reach=reach)
    for share in (None, modulation):
        out = deformable_conv(x, weight, offsets, share)
        ones = torch.ones_like(modulation) if share is None else share
        for case in range(len(x)):
            arrays = (t.numpy() for t in (x[case], weight, offsets[case], ones[case]))
            assert_allclose(out[case].numpy(), by_loops(*arrays), atol=1e-10)


@cases
def test_taps_moved_by_a_whole_voxel_are_the_convolution_of_the_moved_image(grid, kernel) -> None:
    x, weight, offsets, _ = draw(grid, kernel)
    offsets.zero_()[:, :, 0] = 1
    moved = torch.zeros_like(x)
    moved[:, :, :-1] = x[:, :, 1:]
    # the voxel before the grid's first is moved in from the grid as well
    padded = torch.cat([x[:, :, :1], moved], dim=2)
    expected = CONV[len(grid)](padded, weight, padding=tuple(k // 2 for k in kernel))[:, :, 1:]
    torch.testing.assert_close(deformable_conv(x, weight, offsets), expected)


@cases
@versions
class TestLayer:
    def layer(self, kernel, modulated) -> DeformableConv:
        return DeformableConv(3, 2, kernel, modulated=modulated).double()

    def test_its_motion_comes_from_a_convolution_of_its_input(
        self, modulated, grid, kernel
    ) -> None:
        layer = self.layer(kernel, modulated)
        for parameter in layer.motion.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        x = torch.randn(1, 3, *grid, dtype=torch.float64)
        taps, dims = int(np.prod(kernel)), len(kernel)
        motion = layer.motion(x)[0].detach().numpy()
        assert len(motion) == taps * (dims + modulated)
        offsets = motion[: taps * dims].reshape(taps, dims, *grid)
        last = motion[taps * dims :]
        shares = 2 / (1 + np.exp(-last)) if modulated else np.ones((taps, *grid))
        expected = by_loops(x[0].numpy(), layer.weight.detach().numpy(), offsets, shares)
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-10)

    def test_autocast_gives_half_precision_of_the_same(self, modulated, grid, kernel) -> None:
        layer = self.layer(kernel, modulated).float()
        torch.nn.init.normal_(layer.motion.bias, std=0.3)
        x = torch.randn(2, 3, *grid)
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.dtype == torch.bfloat16
        assert (out.float() - expected).abs().max() < 0.02 * expected.abs().max()
        out.float().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(("grid", "kernel"), [((2, 2), (1, 3)), ((2, 1, 2), (1, 3, 1))], ids=str)
def test_its_gradients_are_those_of_its_values(grid, kernel) -> None:
    inputs = [t.requires_grad_() for t in draw(grid, kernel)]
    assert torch.autograd.gradcheck(deformable_conv, inputs)


def test_what_its_taps_fetch_is_not_kept_for_the_gradients() -> None:
    x, weight, offsets, _ = draw((6, 7), (3, 3))
    weight.requires_grad_()
    own = {t.data_ptr() for t in (x, weight, offsets)}
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        deformable_conv(x, weight, offsets)
    assert not [t for t in kept if t.shape == x.shape and t.data_ptr() not in own]
