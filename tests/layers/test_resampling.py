"""Rearrangements between channels and space, and fixed filters, against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional

from medseg.layers.resampling import (
    BoxBlur,
    CellMean,
    MaxUnpool,
    Nails,
    depth_to_space,
    space_to_depth,
)

MAX_POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}
SCALES = [(2, 2), (3, 1), (1, 4), (2, 2, 2), (1, 2, 3)]


@st.composite
def coarse_tensors(draw):
    """A scale, and a tensor with as many channels as it needs."""
    dims = draw(st.integers(1, 3))
    scale = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    grid = tuple(draw(st.integers(1, 4)) for _ in range(dims))
    cases, channels = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    size = (cases, channels * int(np.prod(scale)), *grid)
    return scale, torch.arange(float(np.prod(size))).reshape(size)


@given(coarse_tensors())
def test_depth_to_space_and_space_to_depth_undo_each_other(drawn) -> None:
    scale, coarse = drawn
    fine = depth_to_space(coarse, scale)
    cells = [n * s for n, s in zip(coarse.shape[2:], scale, strict=True)]
    assert fine.shape == (len(coarse), coarse.shape[1] // int(np.prod(scale)), *cells)
    assert torch.equal(space_to_depth(fine, scale), coarse)
    assert torch.equal(depth_to_space(space_to_depth(fine, scale), scale), fine)


@given(coarse_tensors())
def test_every_channel_is_a_phase_of_its_cell(drawn) -> None:
    scale, coarse = drawn
    fine, phases = depth_to_space(coarse, scale), list(np.ndindex(*scale))
    for channel in range(coarse.shape[1]):
        group, phase = divmod(channel, len(phases))
        steps = [slice(p, None, s) for p, s in zip(phases[phase], scale, strict=True)]
        assert torch.equal(fine[(slice(None), group, *steps)], coarse[:, channel])


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_in_2d_it_is_torchs_pixel_shuffle(scale, channels, rows, columns) -> None:
    x = torch.arange(float(channels * scale**2 * rows * columns))
    x = x.reshape(1, channels * scale**2, rows, columns)
    fine = depth_to_space(x, (scale, scale))
    assert torch.equal(fine, functional.pixel_shuffle(x, scale))
    assert torch.equal(space_to_depth(fine, (scale,) * 2), functional.pixel_unshuffle(fine, scale))


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_nails_stand_at_the_first_corner_of_every_cell(scale) -> None:
    x = torch.randn(2, 3, *(3, 2, 4)[: len(scale)])
    expected = torch.zeros(2, 3, *(n * s for n, s in zip(x.shape[2:], scale, strict=True)))
    expected[(..., *(slice(None, None, s) for s in scale))] = x
    assert torch.equal(Nails(scale)(x), expected)


@pytest.mark.parametrize("size", SCALES, ids=str)
def test_the_box_blur_is_the_mean_of_a_voxel_and_those_before_it(size) -> None:
    x = torch.randn(2, 3, *(5, 4, 3)[: len(size)], dtype=torch.float64)
    padded = x.numpy()
    for axis, s in enumerate(size, start=2):
        padded = np.concatenate([padded.take(range(1, s), axis), padded], axis)
    expected = np.empty(x.shape)
    for voxel in np.ndindex(*x.shape[2:]):
        box = tuple(slice(n, n + s) for n, s in zip(voxel, size, strict=True))
        expected[(..., *voxel)] = padded[(..., *box)].mean(axis=tuple(range(2, x.ndim)))
    assert_allclose(BoxBlur(size)(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_box_blur_erases_what_repeats_with_its_size(size) -> None:
    pattern = torch.randn(1, 1, size, size, dtype=torch.float64).repeat(1, 1, 4, 4)
    blurred = BoxBlur((size, size))(pattern)
    torch.testing.assert_close(blurred, pattern.mean().expand_as(blurred))


@pytest.mark.parametrize("scale", [*SCALES, (1, 1)], ids=str)
class TestMaxUnpool:
    def test_what_was_pooled_comes_back_to_its_place(self, scale) -> None:
        pooled = torch.randn(2, 3, *(4 * s for s in scale))
        pool = MAX_POOL[len(scale)]
        peaks = pool(pooled, scale)
        out = MaxUnpool(nn.Identity(), scale)(peaks, pooled)
        stands = out != 0
        assert torch.equal(out[stands], pooled[stands])
        assert int(stands.sum()) == peaks.numel()
        assert torch.equal(pool(out.clamp(min=0), scale), peaks.clamp(min=0))


def test_a_max_unpooling_hands_gradients_to_the_coarse_tensor_alone() -> None:
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    pooled = torch.randn(1, 2, 6, 9, requires_grad=True)
    MaxUnpool(nn.Identity(), (2, 3))(x, pooled).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert pooled.grad is None


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_the_mean_of_cells_is_torchs_average_pooling_in_both_directions(scale, last) -> None:
    grid = [3 * s for s in scale]
    x = torch.randn(2, 5, *grid, dtype=torch.float64)
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    x.requires_grad_()
    pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(scale)]
    found, expected = CellMean(scale)(x), pool(x, scale)
    torch.testing.assert_close(found, expected)
    seed = torch.randn_like(expected)
    (ours,), (torchs,) = (torch.autograd.grad(out, x, seed) for out in (found, expected))
    torch.testing.assert_close(ours, torchs)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = CellMean(scale)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected.detach(), atol=0.03, rtol=0.02)


@pytest.mark.parametrize("size", SCALES, ids=str)
def test_the_gradient_of_the_box_blur(size) -> None:
    x = torch.randn(1, 2, *(4, 5, 4)[: len(size)], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(BoxBlur(size), (x,))


def test_lines_and_other_devices_are_left_to_torch() -> None:
    line = torch.randn(1, 2, 8)
    torch.testing.assert_close(CellMean((2,))(line), functional.avg_pool1d(line, 2))
    assert BoxBlur((2,))(line).shape == line.shape
    assert CellMean((2, 2))(torch.empty(1, 3, 4, 4, device="meta")).shape == (1, 3, 2, 2)
    assert BoxBlur((2, 2))(torch.empty(1, 3, 4, 4, device="meta")).shape == (1, 3, 4, 4)
