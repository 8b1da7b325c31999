"""What every downsampling, upsampling and skip obeys, whichever it is."""

import pytest
import torch

from medseg.blocks import skip as skips
from medseg.blocks import upsample as up

from .helpers import assert_every_parameter_learns, image, of_axes
from .specs import (
    DOWNSAMPLES,
    EVERY_GRID,
    EVERY_SCALE,
    GUIDED_UPSAMPLES,
    SKIPS,
    UPSAMPLES,
    smallest_kernel,
)

INPUTS, OUTPUTS = 12, 6  # every channel of the output may be a sum of two


def can(block: object, scale: tuple[int, ...]) -> bool:
    return max(scale) <= smallest_kernel(block)


@pytest.mark.parametrize(("dims", "scale"), EVERY_SCALE, ids=str)
class TestResampling:
    @pytest.mark.parametrize("downsample", DOWNSAMPLES, ids=repr)
    def test_downsampling_divides_the_grid(self, downsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        if not can(downsample, steps):
            with pytest.raises(ValueError, match="skipped"):
                downsample(dims, 4, scale)
            return
        coarse = (3, 5, 2)[:dims]
        x = image(4, [n * s for n, s in zip(coarse, steps, strict=True)])
        module = downsample(dims, 4, scale)
        assert module(x).shape == (2, 4, *coarse)
        assert_every_parameter_learns(module, x)

    @pytest.mark.parametrize("upsample", UPSAMPLES, ids=repr)
    def test_upsampling_multiplies_the_grid(self, upsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        if not can(upsample, steps):
            with pytest.raises(ValueError, match="holes"):
                upsample(dims, INPUTS, OUTPUTS, scale)
            return
        coarse = (3, 5, 2)[:dims]
        module = upsample(dims, INPUTS, OUTPUTS, scale)
        x = image(INPUTS, coarse)
        fine = [n * s for n, s in zip(coarse, steps, strict=True)]
        assert module(x).shape == (2, OUTPUTS, *fine)
        assert_every_parameter_learns(module, x)

    @pytest.mark.parametrize("upsample", GUIDED_UPSAMPLES, ids=repr)
    def test_guided_upsampling_multiplies_the_grid(self, upsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        coarse = (3, 5, 2)[:dims]
        module = upsample(dims, INPUTS, OUTPUTS, scale)
        x = image(INPUTS, coarse)
        pooled = image(OUTPUTS, [n * s for n, s in zip(coarse, steps, strict=True)])
        assert module(x, pooled).shape == pooled.shape
        assert_every_parameter_learns(module, x, pooled)

    @pytest.mark.parametrize("downsample", DOWNSAMPLES, ids=repr)
    def test_downsampling_looks_at_every_voxel(self, downsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        if not can(downsample, steps):
            return
        x = image(1, [2 * s for s in steps]).detach()
        module = downsample(dims, 1, scale)
        # max-pooling passes one voxel per cell, so each voxel gets its turn at being the largest
        for voxel in range(x[0].numel()):
            raised = x.clone()
            raised[0].view(-1)[voxel] += 100
            assert not torch.equal(module(raised), module(x)), voxel


@pytest.mark.parametrize("upsample", [*UPSAMPLES, *GUIDED_UPSAMPLES], ids=repr)
@pytest.mark.parametrize("dims", [2, 3])
def test_an_upsampling_by_one_keeps_the_grid(upsample, dims) -> None:
    x = image(4, (3, 2, 4)[:dims])
    inputs = (x, x) if upsample in GUIDED_UPSAMPLES else (x,)
    assert upsample(dims, 4, 4, 1)(*inputs).shape == x.shape


CONSTANTS = [(2, 2), (2, 3), (2, (1, 2)), (3, 2), (3, (2, 1, 3))]
AT_THE_BORDER_TOO = [
    up.Interpolate(),
    up.Interpolate(mode="nearest"),
    up.AdditiveInterpolate(),
]
WHATEVER_IS_LEARNED = [
    *AT_THE_BORDER_TOO,
    up.SmoothedTransposed(),
    up.SmoothedTransposed(kernel_size=4),
    up.PixelShuffle(blur=True),
    up.PixelShuffle(kernel_size=1, init="icnr", blur=True),
]
AT_THE_START = [
    *WHATEVER_IS_LEARNED,
    up.BilinearTransposed(),
    up.PixelShuffle(init="icnr"),
    up.PixelShuffle(kernel_size=1, init="icnr"),
]
NEVER = [
    up.Transposed(),
    up.Transposed(kernel_size=3),
    up.Transposed(kernel_size=4),
    up.LargeKernelTransposed(),
    up.PixelShuffle(),
    up.PixelShuffle(kernel_size=1),
    up.BedOfNails(),
]
LOSES_IT = [block for block in AT_THE_START if block not in WHATEVER_IS_LEARNED]


def spread_of_a_constant(upsample, dims, scale, *, learned: bool, cut: int = 0) -> float:
    """Largest deviation of the output for a constant input, `cut` voxels from the border."""
    module = upsample(dims, INPUTS, OUTPUTS, scale).double()
    if learned:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
    steps = of_axes(dims, scale)
    # an axis that keeps its size has no pattern, but may have a border
    inner = [slice(cut, -cut if cut else None) for _ in steps]
    size = 8 if dims == 2 else 6
    grid = [2 * size if s == 1 else size for s in steps]
    constant = torch.randn(1, INPUTS, *[1] * dims, dtype=torch.float64).expand(-1, -1, *grid)
    out = module(constant)[(..., *inner)].flatten(2)
    return float((out - out.mean(2, keepdim=True)).detach().abs().max())


@pytest.mark.parametrize(("dims", "scale"), CONSTANTS, ids=str)
class TestConstant:
    @pytest.mark.parametrize("upsample", AT_THE_BORDER_TOO, ids=repr)
    def test_stays_one_up_to_the_border(self, upsample, dims, scale) -> None:
        assert spread_of_a_constant(upsample, dims, scale, learned=True) < 1e-9

    @pytest.mark.parametrize("upsample", WHATEVER_IS_LEARNED, ids=repr)
    def test_stays_one_whatever_is_learned(self, upsample, dims, scale) -> None:
        if can(upsample, of_axes(dims, scale)):
            assert spread_of_a_constant(upsample, dims, scale, learned=True, cut=5) < 1e-9

    def test_stays_one_up_to_the_border_after_a_mean_over_the_cell(self, dims, scale) -> None:
        block = up.SmoothedTransposed()  # without overlaps a border has no fewer of them
        assert spread_of_a_constant(block, dims, scale, learned=True) < 1e-9

    @pytest.mark.parametrize("upsample", AT_THE_START, ids=repr)
    def test_stays_one_at_the_start(self, upsample, dims, scale) -> None:
        if can(upsample, of_axes(dims, scale)):
            # weights start in single precision
            assert spread_of_a_constant(upsample, dims, scale, learned=False, cut=5) < 1e-6

    @pytest.mark.parametrize("upsample", LOSES_IT, ids=repr)
    def test_may_cease_to_be_one_by_learning(self, upsample, dims, scale) -> None:
        assert spread_of_a_constant(upsample, dims, scale, learned=True, cut=5) > 1e-2

    @pytest.mark.parametrize("upsample", NEVER, ids=repr)
    def test_does_not_stay_one_in_the_others(self, upsample, dims, scale) -> None:
        assert spread_of_a_constant(upsample, dims, scale, learned=False, cut=5) > 1e-2


def test_a_nearest_start_without_neighbours_is_constant_up_to_the_border() -> None:
    block = up.PixelShuffle(kernel_size=1, init="icnr")
    assert spread_of_a_constant(block, 2, 3, learned=False) < 1e-6


def test_the_law_of_constants_speaks_of_every_upsampling() -> None:
    assert {type(block) for block in UPSAMPLES} == {type(block) for block in AT_THE_START + NEVER}


@pytest.mark.parametrize("grid", EVERY_GRID, ids=str)
@pytest.mark.parametrize("channels", [1, 4, 7])
@pytest.mark.parametrize("skip", SKIPS, ids=repr)
def test_a_skip_keeps_the_grid_and_says_its_channels(skip, channels, grid) -> None:
    join = skip(len(grid), channels)
    doubled = isinstance(skip, skips.Concatenate | skips.Attention)
    assert join.out_channels == (2 * channels if doubled else channels)
    from_encoder, from_below = image(channels, grid), image(channels, grid)
    assert join(from_encoder, from_below).shape == (2, join.out_channels, *grid)
    assert_every_parameter_learns(join, from_encoder, from_below)


@pytest.mark.parametrize("skip", SKIPS, ids=repr)
def test_what_comes_from_below_goes_on_and_the_encoder_matters_unless_there_is_none(skip) -> None:
    join = skip(2, 4)
    from_encoder, from_below = image(4, (5, 6)), image(4, (5, 6))
    out = join(from_encoder, from_below)
    out.square().sum().backward()
    assert from_below.grad.abs().sum() > 0
    seen = from_encoder.grad is not None and bool(from_encoder.grad.abs().sum() > 0)
    assert seen == (not isinstance(skip, skips.Nothing))
