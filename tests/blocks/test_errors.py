"""What a block refuses, and that the message holds the value, the rule and a remedy."""

import re

import pytest

from medseg.blocks import conv, downsample, norm, skip, unit, upsample
from medseg.layers import ndim

NOT_A_SIZE = ["3", 2.0, None, [], {}, [3, "3"], [3.0, 3], True, [True, 3]]
ODD_KERNELS = [
    conv.Standard,
    conv.Depthwise,
    conv.DepthwiseSeparable,
    conv.SpatiallySeparable,
    conv.Dilated,
    conv.DilatedSchedule,
    conv.SmoothedDilated,
    conv.Grouped,
    conv.Deformable,
    upsample.PixelShuffle,
]
FREE_KERNELS = [
    downsample.Strided,
    upsample.Transposed,
    upsample.SmoothedTransposed,
    upsample.LargeKernelTransposed,
]
MAY_BE_NONE = [downsample.Strided, upsample.Transposed, upsample.SmoothedTransposed]
UNITS = [
    unit.Plain,
    unit.Residual,
    unit.Bottleneck,
    unit.InvertedBottleneck,
    unit.SeparableResidual,
    unit.Inception,
    unit.Fire,
    unit.Dense,
]

DOWNSAMPLES = [
    downsample.Strided,
    downsample.MaxPool,
    downsample.AveragePool,
    downsample.BlurPool,
    downsample.SpaceToDepth,
]
UPSAMPLES = [
    upsample.Transposed,
    upsample.BilinearTransposed,
    upsample.SmoothedTransposed,
    upsample.LargeKernelTransposed,
    upsample.Interpolate,
    upsample.AdditiveInterpolate,
    upsample.BedOfNails,
    upsample.MaxUnpool,
    upsample.PixelShuffle,
]


def refused(value: str, rule: str, remedy: str):
    pattern = ".*".join(map(re.escape, (value, rule, remedy)))
    return pytest.raises(ValueError, match=f"(?s){pattern}")


@pytest.mark.parametrize("block", ODD_KERNELS)
@pytest.mark.parametrize("size", [2, 4, [3, 2], (1, 4, 3)])
def test_an_even_kernel_is_refused(block, size) -> None:
    even = next(n for n in ([size] if isinstance(size, int) else size) if n % 2 == 0)
    with refused(f"kernel_size={size!r}", "odd", f"choose {even - 1} or {even + 1}"):
        block(kernel_size=size)
    for remedy in (even - 1, even + 1):
        block(kernel_size=remedy)


@pytest.mark.parametrize("block", FREE_KERNELS)
def test_an_even_kernel_may_be_a_resamplings(block) -> None:
    assert block(kernel_size=[2, 4]).kernel_size == (2, 4)


@pytest.mark.parametrize("block", [*ODD_KERNELS, *FREE_KERNELS])
class TestKernelSize:
    @pytest.mark.parametrize("size", [0, -1, [3, 0]])
    def test_less_than_one_is_refused(self, block, size) -> None:
        with refused(f"kernel_size={size!r}", "at least 1", "choose 1 or more"):
            block(kernel_size=size)
        block(kernel_size=1)

    def test_what_is_not_a_size_is_refused(self, block) -> None:
        for size in NOT_A_SIZE:
            if size is None and block in MAY_BE_NONE:
                continue
            with refused(f"kernel_size={size!r}", "whole number", "for instance 3"):
                block(kernel_size=size)

    def test_a_list_becomes_a_tuple(self, block) -> None:
        assert block(kernel_size=[1, 3, 3]) == block(kernel_size=(1, 3, 3))
        assert block(kernel_size=[1, 3, 3]).kernel_size == (1, 3, 3)
        assert isinstance(hash(block(kernel_size=[1, 3, 3])), int)


@pytest.mark.parametrize("block", ODD_KERNELS)
@pytest.mark.parametrize(("dims", "size"), [(2, (3, 3, 3)), (3, (3, 3)), (3, (3,))])
def test_a_kernel_of_other_dimensions_is_refused(block, dims, size) -> None:
    scale = (2,) if block is upsample.PixelShuffle else ()
    remedy = f"give one number, or {dims}"
    with refused(f"kernel_size={size}", f"{len(size)} axes, the network has {dims}", remedy):
        block(kernel_size=size)(dims, 4, 4, *scale)
    block(kernel_size=size[0])(dims, 4, 4, *scale)


@pytest.mark.parametrize("rate", [0, -2, [1, 0]])
def test_a_dilation_below_one_is_refused(rate) -> None:
    for block in (conv.Dilated, conv.SmoothedDilated):
        with refused(f"dilation={rate!r}", "at least 1", "choose 1 or more"):
            block(dilation=rate)


def test_a_dilation_that_is_no_size_is_refused() -> None:
    for rate in NOT_A_SIZE:
        for block in (conv.Dilated, conv.SmoothedDilated):
            with refused(f"dilation={rate!r}", "whole number", "for instance 3"):
                block(dilation=rate)


def test_a_dilation_per_axis_must_fit_the_network() -> None:
    assert conv.Dilated(dilation=[1, 2]).dilation == (1, 2)
    with refused("dilation=(1, 2)", "has 2 axes, the network has 3", "give one number, or 3"):
        conv.Dilated(dilation=[1, 2])(3, 4, 4)
    with refused("dilation=(1, 2)", "has 2 axes, the network has 3", "give one number, or 3"):
        conv.SmoothedDilated(dilation=[1, 2])(3, 4, 4)


@pytest.mark.parametrize("groups", [0, -1, 2.0, "4", None])
def test_groups_that_are_no_number_of_groups_are_refused(groups) -> None:
    with refused(f"groups={groups!r}", "whole number ≥ 1", "for instance 4"):
        conv.Grouped(groups=groups)


@pytest.mark.parametrize(
    ("name", "channels", "nearest"),
    [("in_channels", (6, 8), 3), ("out_channels", (8, 6), 3), ("in_channels", (1, 8), 1)],
)
def test_groups_must_divide_the_channels(name, channels, nearest) -> None:
    wrong = min(channels)
    remedy = f"choose groups={nearest} or channels that are multiples of 4"
    with refused("groups=4", f"must divide {name}={wrong}", remedy):
        conv.Grouped(groups=4)(2, *channels)


def test_the_remedy_for_groups_works() -> None:
    conv.Grouped(groups=3)(2, 6, 9)


@pytest.mark.parametrize("groups", [3, 0, -1])
def test_a_norms_groups_must_divide_the_channels(groups) -> None:
    with refused(f"norm groups={groups}", "must divide channels=8", "fewer groups"):
        norm.Group(groups=groups)(2, 8)


@pytest.mark.parametrize("block", UNITS)
@pytest.mark.parametrize("dropout", [1, 1.5, -0.1, float("nan")])
def test_a_dropout_that_is_no_probability_is_refused(block, dropout) -> None:
    with refused(f"dropout={dropout!r}", "[0, 1)", "for instance 0.1"):
        block(dropout=dropout)


@pytest.mark.parametrize("mode", ["cubic", "bilinear", "", None])
def test_an_unknown_mode_is_refused(mode) -> None:
    with refused(f"mode={mode!r}", "one of linear, nearest", "choose linear"):
        upsample.Interpolate(mode=mode)


class TestResampling:
    @pytest.mark.parametrize(("kernel", "scale", "least"), [(3, 4, 4), (1, 2, 2), ((3, 1), 2, 2)])
    def test_a_strided_kernel_that_would_skip_voxels_is_refused(self, kernel, scale, least) -> None:
        small = min(kernel) if isinstance(kernel, tuple) else kernel
        rule = f"smaller than the stride {scale}"
        with refused(f"kernel_size={small}", rule, f"choose kernel_size={least}"):
            downsample.Strided(kernel_size=kernel)(2, 4, scale)
        downsample.Strided(kernel_size=least)(2, 4, scale)

    @pytest.mark.parametrize(("kernel", "scale"), [(3, 4), (1, 2), (2, (1, 3))])
    def test_a_transposed_kernel_that_would_leave_holes_is_refused(self, kernel, scale) -> None:
        step = max(scale) if isinstance(scale, tuple) else scale
        rule = f"smaller than the scale {step}"
        for block in (upsample.Transposed, upsample.SmoothedTransposed):
            with refused(f"kernel_size={kernel}", rule, f"choose kernel_size={step} or more"):
                block(kernel_size=kernel)(2, 4, 4, scale)
            block(kernel_size=step)(2, 4, 4, scale)

    def test_a_large_kernel_or_its_neighbour_that_would_leave_holes_is_refused(self) -> None:
        with refused("kernel_size=7", "smaller than the scale 8", "choose kernel_size=8 or more"):
            upsample.LargeKernelTransposed()(2, 4, 4, 8)
        rule, remedy = "smaller than the scale 4", "choose small_kernel_size=4 or more"
        with refused("small_kernel_size=3", rule, remedy):
            upsample.LargeKernelTransposed()(2, 4, 4, 4)
        upsample.LargeKernelTransposed(kernel_size=8, small_kernel_size=8)(2, 4, 4, 8)

    @pytest.mark.parametrize(
        "make",
        [
            *(lambda scale, b=b: b()(2, 4, scale) for b in DOWNSAMPLES),
            *(lambda scale, b=b: b()(2, 4, 4, scale) for b in UPSAMPLES),
        ],
        ids=[block.__name__ for block in (*DOWNSAMPLES, *UPSAMPLES)],
    )
    def test_a_scale_that_does_not_fit_is_refused(self, make) -> None:
        with refused("scale=(2, 2, 2)", "3 axes, the network has 2", "give one number, or 2"):
            make((2, 2, 2))
        for scale in (0, -2, (2, 0), 2.0, (2.0, 2)):
            with refused(f"scale={scale!r}", "whole numbers of at least 1", "for instance 2"):
                make(scale)


@pytest.mark.parametrize("dims", [0, 4, "two"])
@pytest.mark.parametrize(
    "lookup",
    [
        ndim.conv_nd,
        ndim.depthwise_nd,
        ndim.transposed_nd,
        ndim.max_pool_nd,
        ndim.average_pool_nd,
        ndim.instance_norm_nd,
        ndim.batch_norm_nd,
        ndim.dropout_nd,
        ndim.linear_mode,
    ],
)
def test_other_dimensions_are_refused(lookup, dims) -> None:
    with refused(f"spatial_dims={dims!r}", "1, 2 or 3", "choose 2 or 3"):
        lookup(dims)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda b=b: b()(4, 4, 4) for b in ODD_KERNELS if b is not upsample.PixelShuffle),
        lambda: conv.Pointwise()(4, 2, 2),
        *(lambda b=b: b()(4, 2, 2) for b in DOWNSAMPLES),
        *(lambda b=b: b()(4, 2, 2, 2) for b in UPSAMPLES),
        *(lambda b=b: b()(4, 8, 8, conv.Standard()) for b in UNITS),
        lambda: skip.Attention()(4, 2),
        lambda: norm.Batch()(4, 2),
        lambda: norm.Instance()(4, 2),
    ],
)
def test_four_dimensions_are_refused_by_every_block(make) -> None:
    with refused("spatial_dims=4", "must be", "choose 2 or 3"):
        make()
