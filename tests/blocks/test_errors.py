"""What a block refuses: the message names the value, and the remedy works."""

import re
from itertools import product
from typing import Any

import pytest

from medseg.blocks import activation, conv, downsample, norm, skip, unit, upsample

from .specs import CONVS, DOWNSAMPLES, GUIDED_UPSAMPLES, UNITS, UPSAMPLES

NOT_A_SIZE = ["3", 2.0, [], {}, [3, "3"], [3.0, 3], True, [True, 3], 0, -1, [3, 0]]
NOT_A_COUNT = [0, -1, 2.0, "4", True, [2], 10**9]
NO_RATES = [1, [], "12", None, [2.0], [1, True], {}, [1, 0], [-1]]
NO_PROBABILITY = [1, 1.5, -0.1, float("nan")]


def classes(blocks) -> list[type]:
    return list(dict.fromkeys(type(block) for block in blocks))


def refused(value: str):
    return pytest.raises(ValueError, match=re.escape(value))


ODD_KERNELS = [*(c for c in classes(CONVS) if c is not conv.Pointwise), upsample.PixelShuffle]
FREE_KERNELS = [
    downsample.Strided,
    upsample.Transposed,
    upsample.SmoothedTransposed,
    upsample.LargeKernelTransposed,
]
# block, option, values that are refused, values that are taken
OPTIONS: list[tuple[type, str, list[Any], list[Any]]] = [
    *((b, "kernel_size", [*NOT_A_SIZE, 2, [3, 2], (1, 4, 3)], [1, 3, (1, 3)]) for b in ODD_KERNELS),
    *((b, "kernel_size", NOT_A_SIZE, [4, (2, 4)]) for b in FREE_KERNELS),
    (conv.Dilated, "dilation", NOT_A_SIZE, [2, (1, 2)]),
    (conv.SmoothedDilated, "dilation", NOT_A_SIZE, [2, (1, 2)]),
    (conv.DilatedSchedule, "rates", NO_RATES, [(1, 2, 5)]),
    (conv.DepthwiseSeparable, "multiplier", NOT_A_COUNT, [4]),
    (conv.Grouped, "groups", NOT_A_COUNT, [4]),
    (conv.Deformable, "version", [0, 3, "2", None, 1.5, 2.0, True], [1, 2]),
    (unit.Residual, "convs", NOT_A_COUNT, [4]),
    (unit.Bottleneck, "reduction", NOT_A_COUNT, [4]),
    (unit.InvertedBottleneck, "expansion", NOT_A_COUNT, [4]),
    (unit.InvertedBottleneck, "conv_on", ["middle", "", None, 1], ["wide", "narrow"]),
    (unit.SeparableResidual, "repeats", NOT_A_COUNT, [4]),
    (unit.Fire, "squeeze", NOT_A_COUNT, [4]),
    (unit.Dense, "layers", NOT_A_COUNT, [4]),
    (unit.Dense, "growth", NOT_A_COUNT, [None, 4]),
    *((b, "dropout", NO_PROBABILITY, [0, 0.5]) for b in classes(UNITS)),
    (skip.Attention, "reduction", NOT_A_COUNT, [4]),
    (upsample.PixelShuffle, "init", ["zeros", "ICNR", None, 0], ["random", "icnr"]),
    *((b, "eps", [0, -1e-5], [1e-3]) for b in (norm.Instance, norm.Batch, norm.Group)),
    (activation.LeakyReLU, "negative_slope", [-0.01], [0.0, 0.2]),
    (upsample.Interpolate, "mode", ["bilinear", "cubic", "", None], ["linear", "nearest"]),
]


@pytest.mark.parametrize(("block", "name", "wrong", "right"), OPTIONS)
def test_an_option_is_checked_where_it_is_given(block, name, wrong, right) -> None:
    for value in wrong:
        with refused(f"{name}={value!r}"):
            block(**{name: value})
    for value in right:
        assert getattr(block(**{name: value}), name) == value


@pytest.mark.parametrize("block", [*ODD_KERNELS, *FREE_KERNELS])
def test_a_size_per_axis_may_be_a_list(block) -> None:
    listed = block(kernel_size=[1, 3, 3])
    assert hash(listed) == hash(block(kernel_size=(1, 3, 3)))


@pytest.mark.parametrize("block", ODD_KERNELS)
def test_a_kernel_of_other_dimensions_is_refused(block) -> None:
    scale = (2,) if block is upsample.PixelShuffle else ()
    for dims, size in ((2, (3, 3, 3)), (3, (3, 3)), (3, (3,))):
        with refused(f"kernel_size={size}"):
            block(kernel_size=size)(dims, 4, 4, *scale)
        block(kernel_size=size[0])(dims, 4, 4, *scale)


STANDARD = conv.Standard()
# what does not fit its channels or scale, its arguments, and arguments or a block that do
UNFIT: list[tuple[object, tuple, object, tuple]] = [
    (conv.Grouped(groups=4), (2, 6, 8), conv.Grouped(groups=3), (2, 6, 6)),
    (conv.Grouped(groups=4), (2, 8, 6), conv.Grouped(groups=3), (2, 6, 6)),
    (norm.Group(groups=3), (2, 8), norm.Group(groups=3), (2, 9)),
    (unit.Bottleneck(reduction=8), (2, 4, 4, STANDARD), unit.Bottleneck(), (2, 4, 4, STANDARD)),
    (unit.Fire(squeeze=5), (2, 4, 4, STANDARD), unit.Fire(squeeze=4), (2, 4, 4, STANDARD)),
    (unit.Fire(squeeze=1), (2, 4, 1, STANDARD), unit.Fire(squeeze=1), (2, 4, 2, STANDARD)),
    (unit.Dense(layers=7), (2, 4, 6, STANDARD), unit.Dense(layers=6), (2, 4, 6, STANDARD)),
    (unit.Inception(), (2, 4, 3, STANDARD), unit.Inception(), (2, 4, 4, STANDARD)),
    *(
        (upsample.AdditiveInterpolate(), (2, a, b, 2), upsample.AdditiveInterpolate(), (2, a, c, 2))
        for a, b, c in [(4, 6, 4), (12, 5, 4), (12, 7, 6), (7, 3, 1)]
    ),
    (
        upsample.LargeKernelTransposed(),
        (2, 4, 4, 8),
        upsample.LargeKernelTransposed(kernel_size=8, small_kernel_size=8),
        (2, 4, 4, 8),
    ),
]


@pytest.mark.parametrize(("block", "arguments", "better", "fitting"), UNFIT, ids=repr)
def test_what_does_not_fit_is_refused_with_a_remedy(block, arguments, better, fitting) -> None:
    with pytest.raises(ValueError, match="choose"):
        block(*arguments)
    better(*fitting)


@pytest.mark.parametrize("block", classes([*DOWNSAMPLES, *UPSAMPLES, *GUIDED_UPSAMPLES]))
def test_a_scale_that_does_not_fit_is_refused(block) -> None:
    widths = (4,) if block in classes(DOWNSAMPLES) else (4, 4)
    for scale in ((2, 2, 2), 0, -2, (2, 0), 2.0, (2.0, 2)):
        with refused(f"scale={scale!r}"):
            block()(2, *widths, scale)


def test_four_dimensions_are_refused_by_every_block() -> None:
    calls = [
        *product(classes(CONVS), [(4, 4, 4)]),
        *product(classes(DOWNSAMPLES), [(4, 2, 2)]),
        *product(classes([*UPSAMPLES, *GUIDED_UPSAMPLES]), [(4, 2, 2, 2)]),
        *product(classes(UNITS), [(4, 8, 8, STANDARD)]),
        *product([skip.Attention, norm.Batch, norm.Instance], [(4, 2)]),
    ]
    for block, arguments in calls:
        with refused("spatial_dims=4"):
            block()(*arguments)
