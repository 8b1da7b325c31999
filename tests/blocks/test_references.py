"""Blocks against their definition, written out by hand or taken from another library."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from medseg.blocks import activation, conv, downsample, norm, unit, upsample

GRIDS = [(7, 10), (5, 6, 7)]


def conv_by_loops(x: np.ndarray, weight: np.ndarray, rate: tuple[int, ...]) -> np.ndarray:
    """`y[o, n] = Σ_i Σ_t w[o, i, t] x[i, n + rate·(t - centre)]`, zero beyond the border."""
    out = np.zeros((weight.shape[0], *x.shape[1:]))
    for tap in product(*map(range, weight.shape[2:])):
        offset = [r * (t - k // 2) for r, t, k in zip(rate, tap, weight.shape[2:], strict=True)]
        shifted = np.zeros_like(x)
        here, there = [slice(None)], [slice(None)]
        for o, n in zip(offset, x.shape[1:], strict=True):
            here.append(slice(max(0, -o), max(0, min(n, n - o))))
            there.append(slice(max(0, o), max(0, min(n, n + o))))
        shifted[tuple(here)] = x[tuple(there)]
        out += np.einsum("oi,i...->o...", weight[(slice(None), slice(None), *tap)], shifted)
    return out


def signal(channels: int, grid: tuple[int, ...]) -> Tensor:
    return torch.randn(1, channels, *grid, dtype=torch.float64)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
class TestConvolution:
    @pytest.mark.parametrize("size", [1, 3, 5])
    def test_standard_is_the_sum_over_its_taps(self, size, grid) -> None:
        layer = conv.Standard(kernel_size=size)(len(grid), 3, 2).double()
        x = signal(3, grid)
        expected = conv_by_loops(x[0].numpy(), layer.weight.detach().numpy(), (1,) * len(grid))
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("rate", [1, 2, 3])
    def test_dilated_has_its_taps_apart(self, rate, grid) -> None:
        layer = conv.Dilated(dilation=rate)(len(grid), 3, 2).double()
        x = signal(3, grid)
        expected = conv_by_loops(x[0].numpy(), layer.weight.detach().numpy(), (rate,) * len(grid))
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("rate", [2, 3])
    def test_dilated_is_standard_with_a_zero_stuffed_kernel(self, rate, grid) -> None:
        dilated = conv.Dilated(dilation=rate)(len(grid), 3, 2)
        standard = conv.Standard(kernel_size=2 * rate + 1)(len(grid), 3, 2)
        with torch.no_grad():
            standard.weight.zero_()
            standard.weight[(..., *[slice(None, None, rate)] * len(grid))] = dilated.weight
        x = signal(3, grid).float()
        torch.testing.assert_close(dilated(x), standard(x))

    def test_dilation_of_one_axis_leaves_the_others(self, grid) -> None:
        rate = (1, 3, 2)[: len(grid)]
        layer = conv.Dilated(dilation=rate)(len(grid), 2, 2).double()
        x = signal(2, grid)
        expected = conv_by_loops(x[0].numpy(), layer.weight.detach().numpy(), rate)
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    def test_depthwise_separable_is_its_two_convolutions(self, grid) -> None:
        layer = conv.DepthwiseSeparable()(len(grid), 4, 3).double()
        depthwise, pointwise = (part.weight.detach().numpy() for part in layer)
        assert depthwise.shape == (4, 1, *[3] * len(grid))
        x = signal(4, grid)
        each = [conv_by_loops(x[0, c : c + 1].numpy(), depthwise[c : c + 1], (1,) * len(grid))
                for c in range(4)]  # fmt: skip
        flat = pointwise.reshape(3, 4)
        expected = np.einsum("oi,i...->o...", flat, np.concatenate(each))
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_grouped_is_standard_with_a_block_diagonal_kernel(self, groups, grid) -> None:
        grouped = conv.Grouped(groups=groups)(len(grid), 8, 4)
        standard = conv.Standard()(len(grid), 8, 4)
        with torch.no_grad():
            standard.weight.zero_()
            for g in range(groups):
                rows = slice(g * 4 // groups, (g + 1) * 4 // groups)
                columns = slice(g * 8 // groups, (g + 1) * 8 // groups)
                standard.weight[rows, columns] = grouped.weight[rows]
        x = signal(8, grid).float()
        torch.testing.assert_close(grouped(x), standard(x))


def transposed_by_loops(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    """Every voxel paints `x · kernel` at `stride·n - padding`; what leaves the grid is lost."""
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
    def test_every_voxel_paints_its_kernel(self, dims, kernel, scale) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 2, 3, scale).double()
        x = signal(2, (3, 2, 3)[:dims])
        expected = transposed_by_loops(x[0].numpy(), layer)
        assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)

    def test_it_is_the_adjoint_of_a_strided_convolution(self, dims, kernel, scale) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 2, 3, scale).double()
        conv_nd = (functional.conv2d, functional.conv3d)[dims - 2]
        y = signal(2, (3, 2, 3)[:dims])
        painted = layer(y) - layer.bias.reshape(-1, *[1] * dims)
        x = torch.randn_like(painted)
        gathered = conv_nd(x, layer.weight, stride=layer.stride, padding=layer.padding)
        torch.testing.assert_close((gathered * y).sum(), (x * painted).sum())

    def test_an_axis_that_keeps_its_size_has_one_tap(self, dims, kernel, scale) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 2, 3, scale)
        for taps, step in zip(layer.kernel_size, layer.stride, strict=True):
            assert (taps == 1) == (step == 1)


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
    def test_linear_is_linear_between_voxel_centres(self, grid, scale) -> None:
        layer = upsample.Interpolate()(len(grid), 3, 2, scale).double()
        x = signal(3, grid)
        coarse = layer[0](x)[0].detach().numpy()
        assert_allclose(layer(x)[0].detach().numpy(), linear_by_hand(coarse, scale), atol=1e-12)

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

    @pytest.mark.parametrize("mode", ["linear", "nearest"])
    def test_the_1x1_convolution_commutes_with_interpolation(self, mode, grid, scale) -> None:
        project, resize = upsample.Interpolate(mode=mode)(len(grid), 3, 2, scale).double()
        x = signal(3, grid)
        torch.testing.assert_close(resize(project(x)), project(resize(x)))

    @pytest.mark.parametrize("mode", ["linear", "nearest"])
    def test_a_constant_stays_a_constant(self, mode, grid, scale) -> None:
        out = upsample.Interpolate(mode=mode)(len(grid), 3, 1, scale)(torch.ones(1, 3, *grid))
        torch.testing.assert_close(out, out.mean().expand_as(out))


@pytest.mark.parametrize("kernel", [None, 3, 4, 5])
def test_a_constant_does_not_stay_one_in_a_learned_upsampling(kernel) -> None:
    out = upsample.Transposed(kernel_size=kernel)(2, 3, 1, 2)(torch.ones(1, 3, 8, 8))
    assert out[..., 2:-2, 2:-2].std() > 0.01


@pytest.mark.parametrize(("dims", "kernel", "scale"), [
    (2, None, 2), (2, None, 3), (2, 5, 2), (2, 5, 4), (2, None, (1, 2)), (3, None, (1, 2, 2)),
], ids=str)  # fmt: skip
def test_strided_is_a_weighted_sum_around_every_cell(dims, kernel, scale) -> None:
    layer = downsample.Strided(kernel_size=kernel)(dims, 2, scale).double()
    weight = layer.weight.detach().numpy()
    grid = [4 * s for s in layer.stride]
    x = signal(2, tuple(grid))
    # the kernel's surplus over the cell lies on both sides of it, the odd voxel before it
    before = [-(-(k - s) // 2) for k, s in zip(weight.shape[2:], layer.stride, strict=True)]
    padded = np.pad(x[0].numpy(), [(0, 0), *((b, 9) for b in before)])
    expected = np.empty((2, *[4] * dims))
    for cell in product(range(4), repeat=dims):
        window = [slice(None)]
        for c, s, k in zip(cell, layer.stride, weight.shape[2:], strict=True):
            window.append(slice(c * s, c * s + k))
        expected[(slice(None), *cell)] = np.tensordot(weight, padded[tuple(window)], dims + 1)
    assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("dims", "scale"), [(2, 2), (2, (1, 3)), (3, 2), (3, (1, 2, 2))], ids=str)
def test_max_pooling_is_the_maximum_of_every_cell(dims, scale) -> None:
    steps = scale if isinstance(scale, tuple) else (scale,) * dims
    x = signal(3, tuple(3 * s for s in steps))
    expected = np.empty((3, *[3] * dims))
    for cell in product(range(3), repeat=dims):
        box = tuple(slice(c * s, (c + 1) * s) for c, s in zip(cell, steps, strict=True))
        expected[(slice(None), *cell)] = (
            x[0].numpy()[(slice(None), *box)].max(axis=tuple(range(1, dims + 1)))
        )
    assert_allclose(downsample.MaxPool()(dims, 3, scale)(x)[0].numpy(), expected)


def test_a_norm_by_hand() -> None:
    x = signal(8, (6, 5)).expand(3, -1, -1, -1) * torch.arange(1, 4).reshape(3, 1, 1, 1)
    x = x + torch.randn_like(x)
    for spec, axes in ((norm.Instance(eps=1e-2), (2, 3)), (norm.Batch(eps=1e-2), (0, 2, 3))):
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
        expected = (x - mean) / (variance + 1e-2).sqrt()
        torch.testing.assert_close(spec(2, 8).double()(x), expected)
    pairs = x.reshape(3, 4, 2, 6, 5)
    mean = pairs.mean((2, 3, 4), keepdim=True)
    variance = pairs.var((2, 3, 4), correction=0, keepdim=True)
    expected = ((pairs - mean) / (variance + 1e-2).sqrt()).reshape(x.shape)
    torch.testing.assert_close(norm.Group(groups=4, eps=1e-2)(2, 8).double()(x), expected)


def test_a_residual_unit_by_hand() -> None:
    spec = unit.Residual(norm=norm.Instance(), activation=activation.ReLU())
    x = signal(4, (6, 5))
    for outputs in (4, 6):
        module = spec(2, 4, outputs, conv.Standard()).double()
        first, second = (m for m in module.residual if isinstance(m, nn.Conv2d))
        inner = functional.relu(functional.instance_norm(first(x)))
        residual = functional.instance_norm(second(inner))
        shortcut = x if outputs == 4 else functional.instance_norm(module.shortcut[0](x))
        torch.testing.assert_close(module(x), functional.relu(residual + shortcut))


@pytest.mark.parametrize("dims", [2, 3])
def test_dropout_drops_whole_channels_in_training_only(dims) -> None:
    for spec in (unit.Plain(dropout=0.5), unit.Residual(dropout=0.5)):
        module = spec(dims, 4, 4, conv.Standard())
        drop = next(m for m in module.modules() if "Dropout" in type(m).__name__)
        kept = drop(torch.ones(8, 4, *[3] * dims)).flatten(2)
        assert (kept == kept[..., :1]).all()
        assert {0.0, 2.0} == set(kept.flatten().tolist())
        assert not drop.eval()(torch.ones(8, 4, *[3] * dims)).eq(0).any()
    plain = unit.Plain()(dims, 4, 4, conv.Standard())
    assert not [m for m in plain.modules() if "Dropout" in type(m).__name__]
