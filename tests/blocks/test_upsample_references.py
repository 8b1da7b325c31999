"""Upsamplings against their definition, written out by hand or taken from another library."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import ndimage
from torch import nn
from torch.nn import functional

from medseg.blocks import upsample
from medseg.layers.resampling import Nails

from .helpers import array, of_axes, repeated_before, signal

CONV = {2: functional.conv2d, 3: functional.conv3d}
TRANSPOSE = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SCALES = [(2, 2), (2, 3), (2, (1, 2)), (3, 2), (3, (2, 1, 3))]
scales = pytest.mark.parametrize(("dims", "scale"), SCALES, ids=str)


def transposed_by_loops(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    """Every voxel adds `x · kernel` at `stride·n - padding`; what leaves the grid is lost."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    size = [n * s for n, s in zip(x.shape[1:], layer.stride, strict=True)]
    out = np.zeros((weight.shape[1], *size))
    for voxel in product(*map(range, x.shape[1:])):
        for tap in product(*map(range, weight.shape[2:])):
            sizes = zip(voxel, tap, layer.stride, layer.padding, strict=True)
            place = tuple(s * n + t - p for n, t, s, p in sizes)
            if all(0 <= a < n for a, n in zip(place, size, strict=True)):
                drop = x[(slice(None), *voxel)] @ weight[(slice(None), slice(None), *tap)]
                out[(slice(None), *place)] += drop
    return out + bias.reshape(-1, *[1] * len(size))


TRANSPOSED = [
    (2, None, 2), (2, 3, 2), (2, 4, 2), (2, 5, 2), (2, 5, 3), (2, None, (1, 3)), (2, 4, (3, 1)),
    (3, None, 2), (3, 3, 2), (3, 3, (1, 2, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "kernel", "scale"), TRANSPOSED, ids=str)
class TestTransposed:
    def test_every_voxel_adds_its_kernel(self, dims, kernel, scale) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 2, 3, scale).double()
        x = signal(2, (3, 2, 3)[:dims])
        expected = transposed_by_loops(x[0].numpy(), layer)
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    def test_it_is_the_adjoint_of_a_strided_convolution(self, dims, kernel, scale) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 2, 3, scale).double()
        conv_nd = (functional.conv2d, functional.conv3d)[dims - 2]
        y = signal(2, (3, 2, 3)[:dims])
        spread = layer(y) - layer.bias.reshape(-1, *[1] * dims)
        x = torch.randn_like(spread)
        gathered = conv_nd(x, layer.weight, stride=layer.stride, padding=layer.padding)
        torch.testing.assert_close((gathered * y).sum(), (x * spread).sum())


def linear_by_hand(x: np.ndarray, scale: tuple[int, ...]) -> np.ndarray:
    """Voxel centres at `(n + ½)/s - ½`, the border repeated: axis by axis."""
    for axis, s in enumerate(scale, start=1):
        at = (np.arange(x.shape[axis] * s) + 0.5) / s - 0.5
        places = np.arange(x.shape[axis])
        x = np.apply_along_axis(lambda line, at=at, p=places: np.interp(at, p, line), axis, x)
    return x


@pytest.mark.parametrize(
    ("grid", "scale"), [((4, 5), (2, 2)), ((4, 5), (3, 1)), ((3, 4, 3), (1, 2, 4))], ids=str
)
class TestInterpolate:
    def test_linear_is_scipys_map_coordinates(self, grid, scale) -> None:
        layer = upsample.Interpolate()(len(grid), 1, 1, scale).double()
        x = signal(1, grid)
        coarse = layer[0](x)[0, 0].detach().numpy()
        axes = [(np.arange(n * s) + 0.5) / s - 0.5 for n, s in zip(grid, scale, strict=True)]
        places = np.meshgrid(*axes, indexing="ij")
        expected = ndimage.map_coordinates(coarse, places, order=1, mode="nearest")
        assert_allclose(layer(x)[0, 0].detach().numpy(), expected, atol=1e-12)

    def test_nearest_repeats_every_voxel(self, grid, scale) -> None:
        layer = upsample.Interpolate(mode="nearest")(len(grid), 3, 2, scale)
        x = signal(3, grid).float()
        expected = layer[0](x)
        for axis, s in enumerate(scale, start=2):
            expected = expected.repeat_interleave(s, dim=axis)
        assert torch.equal(layer(x), expected)


@scales
class TestBilinearTransposed:
    def test_it_starts_as_linear_interpolation_of_a_1x1(self, dims, scale) -> None:
        steps = of_axes(dims, scale)
        layer = upsample.BilinearTransposed()(dims, 3, 2, scale)
        interpolate = upsample.Interpolate()(dims, 3, 2, scale)
        mixing = layer.weight.flatten(2).sum(2) / np.prod(steps)  # a kernel's taps sum to that
        with torch.no_grad():
            interpolate[0].weight.copy_(mixing.T.reshape(2, 3, *[1] * dims))
            interpolate[0].bias.copy_(layer.bias)
        x = signal(3, (5, 6, 4)[:dims]).float()
        inner = (..., *(slice(s, -s) for s in steps))
        torch.testing.assert_close(layer(x)[inner], interpolate(x)[inner])


@scales
class TestComposed:
    def test_additive_is_the_sum_of_interpolated_neighbours(self, dims, scale) -> None:
        x = signal(6, (3, 4, 2)[:dims])
        fine = linear_by_hand(array(x)[0], of_axes(dims, scale))
        expected = np.stack([fine[0:3].sum(0), fine[3:6].sum(0)])
        out = upsample.AdditiveInterpolate()(dims, 6, 2, scale)(x)
        assert_allclose(array(out)[0], expected, atol=1e-12)

    @pytest.mark.parametrize("kernel", [None, 4])
    def test_smoothed_is_the_transposed_then_a_mean_over_the_scale(
        self, kernel, dims, scale
    ) -> None:
        steps = of_axes(dims, scale)
        layer = upsample.SmoothedTransposed(kernel_size=kernel)(dims, 3, 2, scale).double()
        transposed = next(m for m in layer.modules() if isinstance(m, CONVOLUTIONS))
        x = signal(3, (3, 4, 2)[:dims])
        rough = transposed_by_loops(array(x)[0], transposed)
        padded = repeated_before(rough, [s - 1 for s in steps], first_axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, steps, axis=tuple(range(1, dims + 1))
        )
        expected = windows.mean(axis=tuple(range(-dims, 0)))
        assert_allclose(array(layer(x))[0], expected, atol=1e-12)

    def test_a_large_kernel_stands_beside_a_small_one(self, dims, scale) -> None:
        layer = upsample.LargeKernelTransposed(kernel_size=5)(dims, 2, 3, scale).double()
        large, small = (m for m in layer.modules() if isinstance(m, CONVOLUTIONS))
        for part, size in ((large, 5), (small, 3)):
            wanted = tuple(1 if s == 1 else size for s in of_axes(dims, scale))
            assert part.kernel_size == wanted
        x = signal(2, (3, 2, 2)[:dims])
        expected = sum(transposed_by_loops(array(x)[0], part) for part in (large, small))
        assert_allclose(array(layer(x))[0], expected, atol=1e-12)

    def test_a_bed_of_nails_and_a_convolution_are_a_transposed_convolution(
        self, dims, scale
    ) -> None:
        steps = of_axes(dims, scale)
        layer = upsample.BedOfNails()(dims, 3, 2, scale).double()
        project = next(m for m in layer.modules() if isinstance(m, CONVOLUTIONS))
        x = signal(3, (4, 3, 2)[:dims])
        kernel = torch.randn(5, 2, *[3] * dims, dtype=torch.float64)
        spread = TRANSPOSE[dims](
            project(x), kernel.flip(*range(2, dims + 2)).transpose(0, 1),
            stride=steps, padding=1, output_padding=tuple(s - 1 for s in steps),
        )  # fmt: skip
        torch.testing.assert_close(CONV[dims](layer(x), kernel, padding=1), spread)
        torch.testing.assert_close(layer(x), Nails(steps)(project(x)))


@scales
class TestPixelShuffle:
    def test_without_neighbours_it_is_the_transposed_whose_kernel_is_its_stride(
        self, dims, scale
    ) -> None:
        phases = int(np.prod(of_axes(dims, scale)))
        transposed = upsample.Transposed()(dims, 3, 2, scale).double()
        shuffle = upsample.PixelShuffle(kernel_size=1)(dims, 3, 2, scale).double()
        project = next(m for m in shuffle.modules() if isinstance(m, CONVOLUTIONS))
        with torch.no_grad():
            rows = transposed.weight.movedim(0, -1).reshape(2 * phases, 3, *[1] * dims)
            project.weight.copy_(rows)
            project.bias.copy_(transposed.bias.repeat_interleave(phases))
        x = signal(3, (4, 3, 2)[:dims])
        torch.testing.assert_close(shuffle(x), transposed(x))

    def test_every_phase_is_a_convolution_of_its_own(self, dims, scale) -> None:
        steps = of_axes(dims, scale)
        layer = upsample.PixelShuffle()(dims, 3, 2, scale).double()
        project = next(m for m in layer.modules() if isinstance(m, CONVOLUTIONS))
        x = signal(3, (4, 3, 2)[:dims])
        out, phases = layer(x), list(np.ndindex(*steps))
        for channel, (index, phase) in product(range(2), enumerate(phases)):
            row = channel * len(phases) + index
            expected = CONV[dims](x, project.weight[[row]], project.bias[[row]], padding=1)[:, 0]
            places = [slice(p, None, s) for p, s in zip(phase, steps, strict=True)]
            torch.testing.assert_close(out[(slice(None), channel, *places)], expected)

    def test_icnr_starts_as_nearest_neighbour_interpolation(self, dims, scale) -> None:
        layer = upsample.PixelShuffle(init="icnr")(dims, 3, 2, scale)
        project = next(m for m in layer.modules() if isinstance(m, CONVOLUTIONS))
        phases = int(np.prod(of_axes(dims, scale)))
        x = signal(3, (4, 3, 2)[:dims]).float()
        expected = project(x)[:, ::phases]
        for axis, s in enumerate(of_axes(dims, scale), start=2):
            expected = expected.repeat_interleave(s, dim=axis)
        torch.testing.assert_close(layer(x), expected)


@scales
def test_max_unpooling_puts_a_1x1_where_the_maxima_were(dims, scale) -> None:
    steps = of_axes(dims, scale)
    coarse = (3, 2, 2)[:dims]
    layer = upsample.MaxUnpool()(dims, 3, 2, scale).double()
    x, pooled = signal(3, coarse), signal(2, [n * s for n, s in zip(coarse, steps, strict=True)])
    projected = array(layer.project(x))
    expected = np.zeros(pooled.shape)
    for channel, *cell in np.ndindex(2, *coarse):
        box = tuple(slice(c * s, (c + 1) * s) for c, s in zip(cell, steps, strict=True))
        patch = array(pooled)[(0, channel, *box)]
        expected[(0, channel, *box)] = (patch == patch.max()) * projected[(0, channel, *cell)]
    assert_allclose(array(layer(x, pooled)), expected)
