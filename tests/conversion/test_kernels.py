"""Kernels that compute what others do, against torch's own layers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from medseg.conversion.kernels import (
    centred,
    composed,
    dilated_as_dense,
    extent,
    grouped_as_dense,
    phases_as_shuffle,
    resized,
    shuffle_as_transposed,
    shuffled_channels,
    smallest_odd,
    transposed_as_shuffle,
)
from medseg.layers.resampling import Nails, depth_to_space

from .layers import (
    CONV,
    TRANSPOSE,
    convolutions,
    odd_sizes,
    random_tensor,
    sizes,
    whole_upsamplings,
)

scaled_grids = st.integers(1, 3).flatmap(lambda d: st.tuples(sizes(d, 1, 4), sizes(d, 1, 4)))


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def same(image: Tensor, weight: Tensor) -> Tensor:
    """The convolution that keeps the grid."""
    return CONV[image.ndim - 2](image, weight, padding=[k // 2 for k in weight.shape[2:]])


@settings(max_examples=30)
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


@settings(max_examples=30)
@given(convolutions())
def test_a_dilated_convolution_has_zeros_between_its_taps(drawn) -> None:
    image, weight, options = drawn
    conv = CONV[image.ndim - 2]
    dense = dilated_as_dense(weight, options["dilation"])
    assert_equal(conv(image, dense, **options | {"dilation": 1}), conv(image, weight, **options))
    assert dense.count_nonzero() == weight.count_nonzero()


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


class TestFrames:
    @settings(max_examples=30)
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


def shuffled(image: Tensor, weight: Tensor, bias: Tensor | None, scale) -> Tensor:
    padding = [k // 2 for k in weight.shape[2:]]
    return depth_to_space(CONV[len(scale)](image, weight, bias, padding=padding), scale)


@settings(max_examples=30)
@given(whole_upsamplings())
def test_a_transposed_convolution_is_a_convolution_and_shuffle(drawn) -> None:
    image, weight, bias, options = drawn
    kernel, biases = transposed_as_shuffle(weight, bias, **options)
    expected = TRANSPOSE[image.ndim - 2](image, weight, bias, **options)
    assert all(taps % 2 for taps in kernel.shape[2:])
    assert_equal(shuffled(image, kernel, biases, options["stride"]), expected)
    assert kernel.count_nonzero() == weight.count_nonzero()
    assert transposed_as_shuffle(weight, None, **options)[1] is None


@pytest.mark.parametrize("stride", [(2,), (3, 1), (2, 2), (1, 2, 3)])
def test_with_kernel_as_large_as_the_stride_it_is_a_1x1(stride) -> None:
    weight = random_tensor(2, 3, *stride)
    kernel, _ = transposed_as_shuffle(weight, None, stride, *[(0,) * len(stride)] * 2)
    assert kernel.shape == (3 * math.prod(stride), 2, *[1] * len(stride))
    assert_equal(kernel.flatten(1), weight.movedim(0, -1).reshape(-1, 2))


@pytest.mark.parametrize(
    ("taps", "padding", "extra", "odd"), [(3, 1, 1, 3), (4, 1, 0, 3), (7, 3, 1, 5)]
)
def test_the_small_kernels_are_as_small_as_they_can_be(taps, padding, extra, odd) -> None:
    kernel, _ = transposed_as_shuffle(random_tensor(1, 1, taps), None, (2,), (padding,), (extra,))
    assert kernel.shape == (2, 1, odd)


@settings(max_examples=30)
@given(st.integers(1, 3).flatmap(lambda d: st.tuples(sizes(d, 1, 3), odd_sizes(d), sizes(d, 1, 4))))
def test_a_convolution_and_shuffle_is_a_transposed_convolution(drawn) -> None:
    scale, taps, grid = drawn
    phases = math.prod(scale)
    weight, image = random_tensor(2 * phases, 3, *taps), random_tensor(1, 3, *grid)
    bias = random_tensor(2).repeat_interleave(phases)
    kernel, one, padding = shuffle_as_transposed(weight, bias, scale)
    assert kernel.shape == (3, 2, *(s * k for s, k in zip(scale, taps, strict=True)))
    found = TRANSPOSE[len(scale)](image, kernel, one, stride=scale, padding=padding)
    assert_equal(found, shuffled(image, weight, bias, scale))
    assert shuffle_as_transposed(weight, None, scale)[1] is None
    back, biases = transposed_as_shuffle(kernel, one, scale, padding, (0,) * len(scale))
    assert torch.equal(back, weight)
    assert torch.equal(biases, bias)


@settings(max_examples=30)
@given(scaled_grids)
def test_nails_and_nearest_are_shuffles(drawn) -> None:
    scale, grid = drawn
    weight, bias = random_tensor(2, 3, *[1] * len(scale)), random_tensor(2)
    image = random_tensor(1, 3, *grid)
    coarse = CONV[len(scale)](image, weight, bias)
    ones = [1.0] * math.prod(scale)
    first = [1.0, *[0.0] * (len(ones) - 1)]
    nails = shuffled(image, *phases_as_shuffle(weight, bias, first), scale)
    assert_equal(nails, Nails(scale)(coarse))
    nearest = functional.interpolate(coarse, scale_factor=[float(s) for s in scale])
    found = shuffled(image, *phases_as_shuffle(weight, bias, ones), scale)
    assert_equal(found, nearest)
    assert phases_as_shuffle(weight, None, ones)[1] is None


class TestRefused:
    def test_groups_that_do_not_divide_the_channels(self) -> None:
        with pytest.raises(ValueError, match="groups=2 must divide the 3 output channels"):
            grouped_as_dense(random_tensor(3, 1, 3), 2)
        with pytest.raises(ValueError, match="groups=4 must divide the 6 channels"):
            shuffled_channels(6, 4, 2)

    def test_an_output_that_is_not_the_stride_times_the_input(self) -> None:
        with pytest.raises(
            ValueError, match=r"kernel 3, padding 0 .* do not make .* stride=2 times"
        ):
            transposed_as_shuffle(random_tensor(1, 1, 3), None, (2,), (0,), (0,))

    def test_phases_with_biases_of_their_own(self) -> None:
        bias = torch.tensor([0.0, 0.5])
        with pytest.raises(ValueError, match=r"2 phases differ by up to 0\.5.* keep the pixel"):
            shuffle_as_transposed(random_tensor(2, 1, 3), bias, (2,))
