"""Every block's layer against the kernel that is read from it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.blocks import conv, downsample, upsample
from medseg.conversion.reading import (
    Kernel,
    read_convolution,
    read_downsampling,
    read_upsampling,
)
from medseg.layers.fast_conv import SharedSmoothing
from medseg.layers.parallel import Sum
from medseg.layers.resampling import BoxBlur, DepthToSpace, Nails, SpaceToDepth, depth_to_space

from ..blocks.helpers import of_axes
from ..blocks.specs import (
    ANISOTROPIC_CONVS,
    CONVS,
    DOWNSAMPLES,
    EVERY_SCALE,
    UPSAMPLES,
    smallest_kernel,
)
from .layers import CONV, random_tensor

NONLINEAR = (conv.Deformable, downsample.MaxPool, upsample.MaxUnpool)
CUT = (conv.SmoothedDilated, downsample.BlurPool, upsample.AdditiveInterpolate)
GRID = (5, 4, 3)


def is_exact(block: object) -> bool:
    linear = isinstance(block, upsample.Interpolate) and block.mode == "linear"
    return not isinstance(block, (*NONLINEAR, *CUT)) and not linear


def randomised(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.double()


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def applied(kernel: Kernel, x: Tensor) -> Tensor:
    padding = [taps // 2 for taps in kernel.weight.shape[2:]]
    return CONV[x.ndim - 2](x, kernel.weight, kernel.bias, padding=padding)


def convs_of(dims: int) -> list:
    return [block for block in [*CONVS, *ANISOTROPIC_CONVS[dims]] if is_exact(block)]


@pytest.mark.parametrize(("dims", "block"), [(d, b) for d in (2, 3) for b in convs_of(d)], ids=repr)
def test_a_convolution_is_its_dense_kernel(dims, block) -> None:
    layer, x = randomised(block(dims, 4, 8)), random_tensor(1, 4, *GRID[:dims])
    kernel = read_convolution(layer, 4, dims)
    assert kernel.weight.shape[:2] == (8, 4)
    assert not kernel.weight.requires_grad
    assert_equal(applied(kernel, x), layer(x))


UPSAMPLINGS = [
    (block, dims, of_axes(dims, scale))
    for block in UPSAMPLES
    for dims, scale in EVERY_SCALE
    if is_exact(block) and smallest_kernel(block) >= max(of_axes(dims, scale))
]


@pytest.mark.parametrize(("block", "dims", "steps"), UPSAMPLINGS, ids=repr)
def test_an_upsampling_is_its_convolution_and_shuffle(block, dims, steps) -> None:
    layer, x = randomised(block(dims, 4, 2, steps)), random_tensor(1, 4, *GRID[:dims])
    kernel = read_upsampling(layer, 4, dims)
    assert kernel.scale == steps
    found = depth_to_space(applied(kernel, x), steps)
    assert_equal(BoxBlur(steps)(found) if kernel.blur else found, layer(x))


@pytest.mark.parametrize(("dims", "scale"), [(2, 2), (2, (1, 2)), (3, 2), (3, (2, 1, 2))], ids=str)
@pytest.mark.parametrize(
    "block", [*filter(is_exact, DOWNSAMPLES), downsample.Strided(kernel_size=2)], ids=repr
)
def test_a_downsampling_is_its_strided_convolution(block, dims, scale) -> None:
    layer, x = randomised(block(dims, 3, scale)), random_tensor(1, 3, *(6, 4, 8)[:dims])
    kernel = read_downsampling(layer, 3, dims)
    found = CONV[dims](x, kernel.weight, stride=kernel.scale, padding=kernel.padding)
    assert_equal(found, layer(x))


class TestBias:
    def test_it_passes_through_a_1x1(self) -> None:
        row = randomised(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 2, 1)))
        x = random_tensor(1, 2, 4, 5)
        assert_equal(applied(read_convolution(row, 2, 2), x), row(x))

    def test_before_taps_it_is_refused(self) -> None:
        row = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 3, padding=1))
        with pytest.raises(
            ValueError, match=r"takes zeros and not the bias beyond .*; keep the two"
        ):
            read_convolution(row, 2, 2)

    def test_those_of_a_sum_are_added_and_one_may_be_missing(self) -> None:
        branches = [nn.ConvTranspose2d(2, 3, 2, 2, bias=bias) for bias in (True, False, True)]
        layer, x = randomised(Sum(*branches)), random_tensor(1, 2, 4, 5)
        found = depth_to_space(applied(read_upsampling(layer, 2, 2), x), (2, 2))
        assert_equal(found, layer(x))


def test_a_smoothing_that_is_still_the_identity_does_no_harm() -> None:
    layer = conv.SmoothedDilated()(2, 4, 4).double()
    x = random_tensor(1, 4, 5, 6)
    assert_equal(applied(read_convolution(layer, 4, 2), x), layer(x))


def test_a_shared_smoothing_alone_is_a_diagonal_kernel() -> None:
    layer, x = randomised(SharedSmoothing([3, 5])), random_tensor(1, 4, 5, 6)
    assert_equal(applied(read_convolution(layer, 4, 2), x), layer(x))


MOVES, MAXIMA, BORDER = "its taps move", "follows the maxima", "repeats the border"
REFUSED = [
    (read_convolution, conv.Deformable()(2, 4, 4), MOVES),
    (read_convolution, randomised(conv.SmoothedDilated()(2, 4, 4)), "zeros are put beyond"),
    (read_convolution, nn.Conv2d(4, 4, 3), "not known"),
    (read_convolution, nn.Conv2d(4, 4, 3, padding="same"), "not known"),
    (read_convolution, nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "not known"),
    (read_convolution, nn.Conv2d(4, 4, 3, padding=1, stride=2), "not known"),
    (read_convolution, nn.ReLU(), "not known"),
    (read_upsampling, upsample.MaxUnpool()(2, 4, 4, 2), MAXIMA),
    (read_upsampling, upsample.Interpolate()(2, 4, 4, 2), BORDER),
    (read_upsampling, nn.Sequential(nn.Conv2d(4, 4, 1), Nails((2, 2)), BoxBlur((3, 3))), BORDER),
    (read_upsampling, nn.ConvTranspose2d(4, 4, 2, 2, groups=2), "not known"),
    (read_upsampling, nn.ConvTranspose2d(4, 4, 3, 2), "do not make the grid stride=2 times"),
    (read_downsampling, downsample.MaxPool()(2, 4, 2), MAXIMA),
    (read_downsampling, downsample.BlurPool()(2, 4, 2), BORDER),
    (read_downsampling, nn.Conv2d(4, 4, 2, 2), "not known"),
    (read_downsampling, nn.Sequential(SpaceToDepth((2, 2)), nn.Conv2d(16, 4, 1)), "not known"),
]


@pytest.mark.parametrize(("read", "layer", "reason"), REFUSED)
def test_what_is_no_fixed_kernel_is_refused(read, layer, reason) -> None:
    with pytest.raises(ValueError, match=rf"{reason}.*; (keep|choose)"):
        read(layer, 4, 2)


def test_upsamplings_by_different_factors_cannot_be_added() -> None:
    both = Sum(nn.ConvTranspose2d(1, 1, 2, 2), nn.ConvTranspose2d(1, 1, 3, 3))
    with pytest.raises(ValueError, match=r"by \(2, 2\) and \(3, 3\) cannot be added"):
        read_upsampling(both, 1, 2)


def test_a_fractional_factor_is_refused() -> None:
    layer = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=1.5))
    with pytest.raises(ValueError, match=r"scale_factor=1\.5 must be whole numbers"):
        read_upsampling(layer, 1, 2)


def test_one_factor_stands_for_all_axes() -> None:
    layer = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Upsample(scale_factor=2)).double()
    x = random_tensor(1, 1, 3, 4)
    found = depth_to_space(applied(read_upsampling(layer, 1, 2), x), (2, 2))
    assert_equal(found, functional.interpolate(layer[0](x), scale_factor=2))


def test_weights_in_single_precision_are_read_in_double() -> None:
    layer = nn.Sequential(nn.Conv2d(2, 4, 1), DepthToSpace((2, 2)))
    assert read_upsampling(layer, 2, 2).weight.dtype == torch.float64
