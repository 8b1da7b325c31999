"""Convolutions that are others in disguise, against torch's own layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.conversion.convolutions import (
    centred,
    composed,
    depthwise_separable_as_dense,
    dilated_as_dense,
    extent,
    grouped_as_dense,
    resized,
    shuffled_channels,
    smallest_odd,
    space_to_depth_as_strided,
    spatially_separable_as_dense,
    strided_as_space_to_depth,
)
from medseg.layers.resampling import space_to_depth

from .layers import CONV, convolutions, odd_sizes, random_tensor, sizes


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def same(image: Tensor, weight: Tensor) -> Tensor:
    """The convolution that keeps the grid."""
    return CONV[image.ndim - 2](image, weight, padding=[k // 2 for k in weight.shape[2:]])


@settings(deadline=None)
@given(convolutions())
def test_a_grouped_convolution_is_block_diagonal(drawn) -> None:
    image, weight, options = drawn
    conv, groups = CONV[image.ndim - 2], options["groups"]
    dense = grouped_as_dense(weight, groups)
    assert_equal(conv(image, dense, **options | {"groups": 1}), conv(image, weight, **options))
    rows, columns = len(dense) // groups, dense.shape[1] // groups
    for group in range(groups):
        others = dense[group * rows : (group + 1) * rows].clone()
        others[:, group * columns : (group + 1) * columns] = 0
        assert not others.any()


@settings(deadline=None)
@given(convolutions())
def test_a_dilated_convolution_has_zeros_between_its_taps(drawn) -> None:
    image, weight, options = drawn
    conv = CONV[image.ndim - 2]
    dense = dilated_as_dense(weight, options["dilation"])
    assert_equal(conv(image, dense, **options | {"dilation": 1}), conv(image, weight, **options))
    assert dense.count_nonzero() == weight.count_nonzero()


@settings(deadline=None)
@given(st.integers(1, 3).flatmap(lambda d: st.tuples(odd_sizes(d), sizes(d, 1, 5))), st.data())
def test_a_depthwise_separable_convolution_is_dense(drawn, data) -> None:
    taps, grid = drawn
    channels, multiplier, out = (data.draw(st.integers(1, 3)) for _ in range(3))
    image = random_tensor(1, channels, *grid)
    depthwise = random_tensor(channels * multiplier, 1, *taps)
    pointwise = random_tensor(out, channels * multiplier, *[1] * len(taps))
    inner = CONV[len(taps)](image, depthwise, padding=[k // 2 for k in taps], groups=channels)
    dense = depthwise_separable_as_dense(depthwise, pointwise, channels)
    assert dense.shape == (out, channels, *taps)
    assert_equal(same(image, dense), same(inner, pointwise))


@settings(deadline=None)
@given(st.integers(1, 3).flatmap(lambda d: st.tuples(odd_sizes(d), sizes(d, 1, 5))))
def test_a_spatially_separable_convolution_is_dense(drawn) -> None:
    taps, grid = drawn
    along = [[k if a == axis else 1 for a in range(len(taps))] for axis, k in enumerate(taps)]
    factors = [random_tensor(2, 2, *size) for size in along]
    image = random_tensor(1, 2, *grid)
    expected = image
    for factor in factors:
        expected = same(expected, factor)
    dense = spatially_separable_as_dense(factors)
    assert dense.shape == (2, 2, *taps)
    assert_equal(same(image, dense), expected)


def test_with_one_channel_between_it_has_rank_1() -> None:
    first, second = random_tensor(1, 1, 3, 1), random_tensor(1, 1, 1, 5)
    dense = spatially_separable_as_dense([first, second])
    assert torch.linalg.matrix_rank(dense[0, 0]) == 1
    assert_equal(dense[0, 0], torch.outer(first.flatten(), second.flatten()))


def test_two_that_cross_one_axis_are_refused_unless_one_has_its_middle_tap_alone() -> None:
    first, second = random_tensor(2, 1, 3, 3), random_tensor(1, 2, 1, 3)
    message = r"both cross axis 1, .* zeros are put beyond the border; keep the two convolutions"
    with pytest.raises(ValueError, match=message):
        composed(first, second)
    second[..., [0, 2]] = 0
    image = random_tensor(1, 1, 5, 7)
    assert_equal(same(image, composed(first, second)), same(same(image, first), second))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_channel_shuffle_is_a_permutation(dims, groups) -> None:
    image = random_tensor(1, 6, *(2, 3, 4)[:dims])
    shuffled = nn.ChannelShuffle(groups)(image) if dims > 1 else None
    expected = image.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    assert torch.equal(same(image, shuffled_channels(6, groups, dims)), expected)
    assert shuffled is None or torch.equal(shuffled, expected)


@settings(deadline=None)
@given(st.integers(1, 3).flatmap(lambda d: st.tuples(sizes(d, 1, 3), sizes(d, 1, 3))))
def test_a_kernel_as_large_as_the_stride_is_a_1x1_on_the_voxels_of_a_cell(drawn) -> None:
    scale, coarse = drawn
    image = random_tensor(1, 2, *(n * s for n, s in zip(coarse, scale, strict=True)))
    weight = random_tensor(3, 2, *scale)
    flat = strided_as_space_to_depth(weight)
    expected = CONV[len(scale)](image, weight, stride=scale)
    assert_equal(same(space_to_depth(image, scale), flat), expected)
    assert torch.equal(space_to_depth_as_strided(flat, scale), weight)


class TestFrames:
    @settings(deadline=None)
    @given(st.integers(1, 3).flatmap(lambda d: st.tuples(odd_sizes(d, 3), odd_sizes(d))))
    def test_a_kernel_in_the_middle_of_a_larger_one_is_the_same(self, drawn) -> None:
        taps, more = drawn
        frame = [max(pair) for pair in zip(taps, more, strict=True)]
        weight, image = random_tensor(2, 1, *taps), random_tensor(1, 1, *(4, 5, 3)[: len(taps)])
        larger = centred(weight, frame)
        assert list(larger.shape[2:]) == frame
        assert_equal(same(image, larger), same(image, weight))
        assert smallest_odd(larger) == taps
        assert torch.equal(centred(larger, taps), weight)

    def test_the_smallest_keeps_the_middle_where_it_is(self) -> None:
        weight = torch.zeros(1, 1, 7)
        weight[..., 5] = 1
        assert extent(weight, 0) == (5, 5)
        assert smallest_odd(weight) == (5,)
        assert smallest_odd(torch.zeros(1, 1, 5, 3)) == (1, 1)

    def test_a_tap_is_never_lost(self) -> None:
        with pytest.raises(ValueError, match=r"does not fit a frame of \(1,\) from \(-1,\)"):
            resized(random_tensor(1, 1, 3), [1], [-1])


class TestRefused:
    def test_groups_that_do_not_divide_the_channels(self) -> None:
        with pytest.raises(ValueError, match="groups=2 must divide the 3 output channels"):
            grouped_as_dense(random_tensor(3, 1, 3), 2)
        with pytest.raises(ValueError, match="groups=4 must divide the 6 channels"):
            shuffled_channels(6, 4, 2)

    def test_a_pointwise_kernel_with_taps(self) -> None:
        with pytest.raises(ValueError, match=r"one tap, not \(3,\); use `composed`"):
            depthwise_separable_as_dense(random_tensor(2, 1, 3), random_tensor(2, 2, 3), 2)
