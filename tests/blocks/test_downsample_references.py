"""Downsamplings and skips against their definition, written out by hand."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from medseg.blocks import downsample, skip

from .helpers import array, of_axes, signal

SCALES = [(2, 2), (2, 3), (2, 4), (2, (1, 3)), (3, 2), (3, (1, 2, 2))]
scales = pytest.mark.parametrize(("dims", "scale"), SCALES, ids=str)


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


def along(x: np.ndarray, axis: int, taps: np.ndarray, step: int) -> np.ndarray:
    """`y[n] = Σ_t taps[t] x[step·n + t - 1]` along an axis, `x[-1] = x[1]`."""
    at = np.arange(x.shape[axis] // step) * step
    places = [np.abs(at + t - 1) for t in range(len(taps))]
    return sum(w * x.take(p, axis) for w, p in zip(taps, places, strict=True))


@scales
class TestFixed:
    def test_average_pooling_is_the_mean_of_every_cell(self, dims, scale) -> None:
        steps = of_axes(dims, scale)
        x = signal(3, [3 * s for s in steps])
        cells = array(x).reshape(1, 3, *(n for s in steps for n in (3, s)))
        expected = cells.mean(axis=tuple(range(3, 3 + 2 * dims, 2)))
        assert_allclose(array(downsample.AveragePool()(dims, 3, scale)(x)), expected)

    def test_blur_pooling_is_a_filter_seen_at_every_cell(self, dims, scale) -> None:
        steps = of_axes(dims, scale)
        x = signal(3, [4 * s for s in steps])
        expected = array(x)
        for axis, s in enumerate(steps, start=2):
            taps = np.convolve([1, 1], np.ones(s)) / (2 * s) if s > 1 else np.array([0.0, 1.0])
            expected = along(expected, axis, taps, s)
        assert_allclose(array(downsample.BlurPool()(dims, 3, scale)(x)), expected, atol=1e-12)


@scales
def test_space_to_depth_is_the_strided_convolution_whose_kernel_is_its_stride(dims, scale) -> None:
    steps = of_axes(dims, scale)
    strided = downsample.Strided(kernel_size=steps)(dims, 3, scale).double()
    gathered = downsample.SpaceToDepth()(dims, 3, scale).double()
    with torch.no_grad():
        gathered[1].weight.copy_(strided.weight.reshape(3, -1, *[1] * dims))
    x = signal(3, [3 * s for s in steps])
    torch.testing.assert_close(gathered(x), strided(x))


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 2)], ids=str)
class TestSkip:
    def test_the_plain_ones(self, grid) -> None:
        encoder, below = signal(3, grid), signal(3, grid)
        both = torch.cat([encoder, below], dim=1)
        assert torch.equal(skip.Concatenate()(len(grid), 3)(encoder, below), both)
        assert torch.equal(skip.Add()(len(grid), 3)(encoder, below), encoder + below)
        assert torch.equal(skip.Nothing()(len(grid), 3)(encoder, below), below)

    @pytest.mark.parametrize(("reduction", "inner"), [(2, 3), (3, 2), (100, 1)])
    def test_attention_weighs_every_voxel(self, reduction, inner, grid) -> None:
        join = skip.Attention(reduction=reduction)(len(grid), 6).double()
        encoder, below = signal(6, grid), signal(6, grid)
        gate = join.gate
        _, score, _ = gate.score
        assert gate.of_skip.weight.shape[:2] == (inner, 6)

        def mixed(conv, x):
            return np.einsum("oi,ni...->no...", array(conv.weight)[(..., *[0] * len(grid))], x)

        def bias(conv):
            return array(conv.bias).reshape(1, -1, *[1] * len(grid))

        inside = mixed(gate.of_skip, array(encoder)) + mixed(gate.of_signal, array(below))
        hidden = np.maximum(inside + bias(gate.of_signal), 0)
        weight = 1 / (1 + np.exp(-(mixed(score, hidden) + bias(score))))
        expected = np.concatenate([array(encoder) * weight, array(below)], axis=1)
        assert_allclose(array(join(encoder, below)), expected, atol=1e-12)
