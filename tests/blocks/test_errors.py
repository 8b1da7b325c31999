"""What a block refuses: the message holds the value, the rule and a remedy that works."""

import ast
import re
from itertools import product

import pytest

from medseg.blocks import conv, downsample, norm, skip, unit, upsample

from .specs import CONVS, DOWNSAMPLES, GUIDED_UPSAMPLES, UNITS, UPSAMPLES

NOT_A_SIZE = ["3", 2.0, None, [], {}, [3, "3"], [3.0, 3], True, [True, 3]]
NOT_A_COUNT = [0, -1, 2.0, "4", None, True, [2]]


def classes(blocks) -> list[type]:
    return list(dict.fromkeys(type(block) for block in blocks))


ODD_KERNELS = [*(c for c in classes(CONVS) if c is not conv.Pointwise), upsample.PixelShuffle]
FREE_KERNELS = [
    downsample.Strided,
    upsample.Transposed,
    upsample.SmoothedTransposed,
    upsample.LargeKernelTransposed,
]
MAY_BE_NONE = [downsample.Strided, upsample.Transposed, upsample.SmoothedTransposed]
COUNTS = [
    (conv.DepthwiseSeparable, "multiplier"),
    (conv.Grouped, "groups"),
    (unit.Residual, "convs"),
    (unit.Bottleneck, "reduction"),
    (unit.InvertedBottleneck, "expansion"),
    (unit.SeparableResidual, "repeats"),
    (unit.Fire, "squeeze"),
    (unit.Dense, "layers"),
    (unit.Dense, "growth"),
    (skip.Attention, "reduction"),
]
CHOICES = [
    (conv.Deformable, "version", (1, 2), [0, 3, "2", None, 1.5, 2.0, True]),
    (unit.InvertedBottleneck, "conv_on", ("wide", "narrow"), ["middle", "", None, 1]),
    (upsample.PixelShuffle, "init", ("random", "icnr"), ["zeros", "ICNR", None, 0]),
    (upsample.Interpolate, "mode", ("linear", "nearest"), ["bilinear", "cubic", "", None]),
]


def refused(value: str, rule: str, remedy: str):
    pattern = ".*".join(map(re.escape, (value, rule, remedy)))
    return pytest.raises(ValueError, match=f"(?s){pattern}")


@pytest.mark.parametrize("block", [*ODD_KERNELS, *FREE_KERNELS])
def test_a_kernel_size_is_one_whole_number_or_one_per_axis(block) -> None:
    for size in (0, -1, [3, 0]):
        with refused(f"kernel_size={size!r}", "at least 1", "choose 1 or more"):
            block(kernel_size=size)
    for size in NOT_A_SIZE:
        if not (size is None and block in MAY_BE_NONE):
            with refused(f"kernel_size={size!r}", "whole number", "for instance 3"):
                block(kernel_size=size)
    assert block(kernel_size=[1, 3, 3]) == block(kernel_size=(1, 3, 3))
    assert isinstance(hash(block(kernel_size=[1, 3, 3])), int)


@pytest.mark.parametrize("block", ODD_KERNELS)
def test_an_even_kernel_is_refused(block) -> None:
    for size, even in ((2, 2), (4, 4), ([3, 2], 2), ((1, 4, 3), 4)):
        with refused(f"kernel_size={size!r}", "odd", f"choose {even - 1} or {even + 1}"):
            block(kernel_size=size)
        for remedy in (even - 1, even + 1):
            block(kernel_size=remedy)


@pytest.mark.parametrize("block", ODD_KERNELS)
def test_a_kernel_of_other_dimensions_is_refused(block) -> None:
    scale = (2,) if block is upsample.PixelShuffle else ()
    for dims, size in ((2, (3, 3, 3)), (3, (3, 3)), (3, (3,))):
        remedy = f"give one number, or {dims}"
        with refused(f"kernel_size={size}", f"{len(size)} axes, the network has {dims}", remedy):
            block(kernel_size=size)(dims, 4, 4, *scale)
        block(kernel_size=size[0])(dims, 4, 4, *scale)


@pytest.mark.parametrize("block", [conv.Dilated, conv.SmoothedDilated])
def test_a_dilation_is_a_size_that_fits_the_network(block) -> None:
    for rate in (0, -2, [1, 0]):
        with refused(f"dilation={rate!r}", "at least 1", "choose 1 or more"):
            block(dilation=rate)
    for rate in NOT_A_SIZE:
        with refused(f"dilation={rate!r}", "whole number", "for instance 3"):
            block(dilation=rate)
    assert block(dilation=[1, 2]).dilation == (1, 2)
    with refused("dilation=(1, 2)", "has 2 axes, the network has 3", "give one number, or 3"):
        block(dilation=[1, 2])(3, 4, 4)


@pytest.mark.parametrize("rates", [1, 5, [], "12", None, [2.0], [1, True], {}, [1, 0], [-1]])
def test_rates_are_a_list_of_whole_numbers(rates) -> None:
    with refused(
        f"rates={rates!r}", "must be a list of whole numbers ≥ 1", "for instance"
    ) as error:
        conv.DilatedSchedule(rates=rates)
    advised = re.search(r"for instance (.+)$", str(error.value))
    assert advised is not None
    conv.DilatedSchedule(rates=ast.literal_eval(advised[1]))


@pytest.mark.parametrize(("block", "name"), COUNTS)
def test_a_number_of_things_is_a_whole_number(block, name) -> None:
    for value in NOT_A_COUNT:
        if (name, value) != ("growth", None):
            with refused(f"{name}={value!r}", "whole number ≥ 1", "for instance 4"):
                block(**{name: value})
    assert getattr(block(**{name: 4}), name) == 4


@pytest.mark.parametrize(("block", "name", "choices", "wrong"), CHOICES)
def test_a_choice_is_one_of_those_listed(block, name, choices, wrong) -> None:
    listed = ", ".join(map(str, choices))
    for value in wrong:
        with refused(f"{name}={value!r}", f"one of {listed}", f"choose {choices[0]}"):
            block(**{name: value})
    for choice in choices:
        assert getattr(block(**{name: choice}), name) == choice


@pytest.mark.parametrize(
    ("name", "channels", "nearest"),
    [("in_channels", (6, 8), 3), ("out_channels", (8, 6), 3), ("in_channels", (1, 8), 1)],
)
def test_groups_divide_the_channels(name, channels, nearest) -> None:
    remedy = f"choose groups={nearest} or channels that are multiples of 4"
    with refused("groups=4", f"must divide {name}={min(channels)}", remedy):
        conv.Grouped(groups=4)(2, *channels)
    conv.Grouped(groups=nearest)(2, min(channels), 6)


@pytest.mark.parametrize("groups", [3, 0, -1])
def test_the_groups_of_a_norm_divide_the_channels(groups) -> None:
    with refused(f"norm groups={groups}", "must divide channels=8", "fewer groups"):
        norm.Group(groups=groups)(2, 8)


@pytest.mark.parametrize("block", classes(UNITS))
def test_a_dropout_is_a_probability_below_one(block) -> None:
    for dropout in (1, 1.5, -0.1, float("nan")):
        with refused(f"dropout={dropout!r}", "[0, 1)", "for instance 0.1"):
            block(dropout=dropout)


@pytest.mark.parametrize(
    ("block", "name", "value", "channels"),
    [
        (unit.Bottleneck, "reduction", 8, 4),
        (unit.Fire, "squeeze", 5, 4),
        (unit.Dense, "layers", 7, 6),
    ],
)
def test_a_divisor_leaves_at_least_one_channel(block, name, value, channels) -> None:
    remedy = f"choose {name}={channels} or less"
    with refused(f"{name}={value}", f"leaves no channel of out_channels={channels}", remedy):
        block(**{name: value})(2, 4, channels, conv.Standard())
    block(**{name: channels})(2, 4, channels, conv.Standard())


@pytest.mark.parametrize(
    ("block", "least"), [(unit.Inception(), 4), (unit.Fire(squeeze=1), 2)], ids=repr
)
def test_a_unit_of_branches_names_the_channels_that_it_needs(block, least) -> None:
    with pytest.raises(ValueError, match=f"={least - 1}; choose {least} channels or more"):
        block(2, 4, least - 1, conv.Standard())
    block(2, 4, least, conv.Standard())


@pytest.mark.parametrize(
    ("inputs", "outputs", "nearest"), [(4, 6, 4), (12, 5, 4), (12, 7, 6), (7, 3, 1)]
)
def test_channels_that_do_not_add_up_are_refused(inputs, outputs, nearest) -> None:
    rule = f"must be a multiple of out_channels={outputs}"
    with refused(f"in_channels={inputs}", rule, f"choose channels={nearest} there"):
        upsample.AdditiveInterpolate()(2, inputs, outputs, 2)
    upsample.AdditiveInterpolate()(2, inputs, nearest, 2)


class TestResampling:
    def test_a_large_kernel_or_its_neighbour_that_would_leave_holes_is_refused(self) -> None:
        with refused("kernel_size=7", "smaller than the scale 8", "choose kernel_size=8 or more"):
            upsample.LargeKernelTransposed()(2, 4, 4, 8)
        rule, remedy = "smaller than the scale 4", "choose small_kernel_size=4 or more"
        with refused("small_kernel_size=3", rule, remedy):
            upsample.LargeKernelTransposed()(2, 4, 4, 4)
        upsample.LargeKernelTransposed(kernel_size=8, small_kernel_size=8)(2, 4, 4, 8)

    @pytest.mark.parametrize("block", classes([*DOWNSAMPLES, *UPSAMPLES, *GUIDED_UPSAMPLES]))
    def test_a_scale_that_does_not_fit_is_refused(self, block) -> None:
        widths = (4,) if block in classes(DOWNSAMPLES) else (4, 4)
        with refused("scale=(2, 2, 2)", "3 axes, the network has 2", "give one number, or 2"):
            block()(2, *widths, (2, 2, 2))
        for scale in (0, -2, (2, 0), 2.0, (2.0, 2)):
            with refused(f"scale={scale!r}", "whole numbers of at least 1", "for instance 2"):
                block()(2, *widths, scale)


def test_four_dimensions_are_refused_by_every_block() -> None:
    calls = [
        *product(classes(CONVS), [(4, 4, 4)]),
        *product(classes(DOWNSAMPLES), [(4, 2, 2)]),
        *product(classes([*UPSAMPLES, *GUIDED_UPSAMPLES]), [(4, 2, 2, 2)]),
        *product(classes(UNITS), [(4, 8, 8, conv.Standard())]),
        *product([skip.Attention, norm.Batch, norm.Instance], [(4, 2)]),
    ]
    for block, arguments in calls:
        with refused("spatial_dims=4", "must be", "choose 2 or 3"):
            block()(*arguments)
