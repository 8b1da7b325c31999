"""Resamplings that are others in disguise, against torch's own layers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from medseg.conversion.resamplings import (
    linear_as_transposed,
    nails_as_shuffle,
    nearest_as_shuffle,
    nearest_as_transposed,
    shuffle_as_transposed,
    transposed_as_nails,
    transposed_as_shuffle,
)
from medseg.layers.resampling import Nails, depth_to_space

from .layers import (
    CONV,
    LINEAR,
    TRANSPOSE,
    odd_sizes,
    random_tensor,
    sizes,
    transposed_convolutions,
    whole_upsamplings,
)

scaled_grids = st.integers(1, 3).flatmap(lambda d: st.tuples(sizes(d, 1, 4), sizes(d, 1, 4)))


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def shuffled(image: Tensor, weight: Tensor, bias: Tensor | None, scale) -> Tensor:
    padding = [k // 2 for k in weight.shape[2:]]
    return depth_to_space(CONV[len(scale)](image, weight, bias, padding=padding), scale)


@settings(deadline=None)
@given(transposed_convolutions(plain=True))
def test_a_transposed_convolution_is_a_bed_of_nails_and_a_convolution(drawn) -> None:
    image, weight, options = drawn
    steps = {key: options[key] for key in ("stride", "padding", "output_padding")}
    kernel, sides = transposed_as_nails(weight, **steps)
    nails = Nails(steps["stride"])(image)
    padded = functional.pad(nails, [side for pair in reversed(sides) for side in pair])
    dims = image.ndim - 2
    assert_equal(CONV[dims](padded, kernel), TRANSPOSE[dims](image, weight, **steps))


@settings(deadline=None)
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
    kernel, _ = transposed_as_shuffle(weight, None, stride)
    assert kernel.shape == (3 * math.prod(stride), 2, *[1] * len(stride))
    assert_equal(kernel.flatten(1), weight.movedim(0, -1).reshape(-1, 2))


@pytest.mark.parametrize(
    ("taps", "padding", "extra", "odd"), [(3, 1, 1, 3), (4, 1, 0, 3), (7, 3, 1, 5)]
)
def test_the_small_kernels_are_as_small_as_they_can_be(taps, padding, extra, odd) -> None:
    kernel, _ = transposed_as_shuffle(random_tensor(1, 1, taps), None, 2, padding, extra)
    assert kernel.shape == (2, 1, odd)


@settings(deadline=None)
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
    back, biases = transposed_as_shuffle(kernel, one, scale, padding)
    assert torch.equal(back, weight)
    assert torch.equal(biases, bias)


@settings(deadline=None)
@given(scaled_grids)
def test_nails_and_nearest_are_shuffles(drawn) -> None:
    scale, grid = drawn
    weight, bias = random_tensor(2, 3, *[1] * len(scale)), random_tensor(2)
    image = random_tensor(1, 3, *grid)
    coarse = CONV[len(scale)](image, weight, bias)
    nails = shuffled(image, *nails_as_shuffle(weight, bias, scale), scale)
    assert_equal(nails, Nails(scale)(coarse))
    nearest = functional.interpolate(coarse, scale_factor=[float(s) for s in scale])
    found = shuffled(image, *nearest_as_shuffle(weight, bias, scale), scale)
    assert_equal(found, nearest)
    assert nails_as_shuffle(weight, None, scale)[1] is nearest_as_shuffle(weight, None, scale)[1]


@settings(deadline=None)
@given(scaled_grids)
def test_nearest_is_a_transposed_convolution_of_ones(drawn) -> None:
    scale, grid = drawn
    image = random_tensor(1, 2, *grid)
    found = TRANSPOSE[len(scale)](image, nearest_as_transposed(2, scale), stride=scale, groups=2)
    expected = functional.interpolate(image, scale_factor=[float(s) for s in scale])
    assert torch.equal(found, expected)


@settings(deadline=None)
@given(scaled_grids)
def test_linear_is_a_fixed_transposed_convolution_with_its_border_repeated(drawn) -> None:
    scale, grid = drawn
    dims = len(scale)
    image = random_tensor(1, 2, *grid)
    fixed = linear_as_transposed(2, scale)
    padded = functional.pad(image, [fixed.border] * 2 * dims, mode="replicate")
    found = TRANSPOSE[dims](padded, fixed.weight, stride=scale, groups=2)
    for axis, (first, n, s) in enumerate(zip(fixed.crop, grid, scale, strict=True), start=2):
        found = found.narrow(axis, first, n * s)
    factors = [float(s) for s in scale]
    expected = functional.interpolate(
        image, scale_factor=factors, mode=LINEAR[dims], align_corners=False
    )
    assert_equal(found, expected)


class TestRefused:
    def test_an_output_that_is_not_the_stride_times_the_input(self) -> None:
        with pytest.raises(
            ValueError, match=r"kernel 3, padding 0 .* do not make .* stride=2 times"
        ):
            transposed_as_shuffle(random_tensor(1, 1, 3), None, 2)

    def test_phases_with_biases_of_their_own(self) -> None:
        bias = torch.tensor([0.0, 0.5])
        with pytest.raises(ValueError, match=r"2 phases differ by up to 0\.5.* keep the pixel"):
            shuffle_as_transposed(random_tensor(2, 1, 3), bias, 2)
