"""The second half of lecture 4: unpooling and transposed convolution."""

from functools import partial

import torch
from torch import Tensor

from course.fact import Fact, Topic, rows_of, work
from course.figures import matrix
from course.transposed_matrix import column_starts, why_transposed
from medseg.explain.example import apply, image_of, kernel_of, worked
from medseg.explain.operator import (
    Operator,
    conv_output_size,
    make_operator,
    transposed_output_size,
)

_fact = partial(Fact, lecture=4)


def _unpooling() -> Topic:
    return Topic(
        title="Upsampling and unpooling",
        text=(
            "Segmentation needs an output as large as its input, so what was coarsened must be "
            "refined. Unpooling repeats each value, or puts it into the corner of its cell; max "
            "unpooling remembers where each maximum stood, layer by layer.",
        ),
        works=(
            work("nearest", "example"),
            work("bed_of_nails", "example"),
            work("max_unpool", "example"),
        ),
        facts=(
            _fact(
                place="Unpooling, nearest neighbour",
                printed="1 2 / 3 4 → 1 1 2 2 / 1 1 2 2 / 3 3 4 4 / 3 3 4 4",
                stated=((1, 1, 2, 2), (1, 1, 2, 2), (3, 3, 4, 4), (3, 3, 4, 4)),
                computed=_output(make_operator("nearest", size=2)),
                how="torch's interpolation",
            ),
            _fact(
                place="Unpooling, bed of nails",
                printed="1 2 / 3 4 → 1 0 2 0 / 0 0 0 0 / 3 0 4 0 / 0 0 0 0",
                stated=((1, 0, 2, 0), (0, 0, 0, 0), (3, 0, 4, 0), (0, 0, 0, 0)),
                computed=_output(make_operator("bed_of_nails", size=2)),
                how="the layer that networks of this workbench use",
            ),
            _fact(
                place="Unpooling",
                printed="Input: 2 x 2, Output: 4 x 4",
                stated=(4, 4),
                computed=make_operator("max_unpool", size=2).output,
                how="2·2 along each axis",
            ),
        ),
    )


def _there_and_back() -> Topic:
    return Topic(
        title="Convolution and transposed convolution",
        text=(
            "A 3×3 convolution without padding and with stride 2 takes 5×5 to 2×2; the transposed "
            "one leads back to 5×5. It has many names: deconvolution, up-convolution, "
            "fractionally strided and backward strided convolution. The last two say what it "
            "is: an ordinary convolution over an image stretched by zeros, and the gradient of a "
            "strided convolution. Both are checked here.",
        ),
        works=(
            work("conv", "example", size=5, stride=2, padding=0),
            work("transposed", "example", size=2, padding=0),
        ),
        facts=(
            _fact(
                place="Transposed convolution",
                printed="3x3 filter, padding 0, stride 2; back from the 2x2 output to 5x5",
                stated=(2, 5),
                computed=(
                    conv_output_size(5, 3, stride=2),
                    transposed_output_size(2, 3, stride=2),
                ),
                how="closed forms of both sizes",
            ),
            _fact(
                place="Names of the transposed convolution",
                printed="Fractionally strided convolution",
                stated=rows_of(_over_zeros()),
                computed=rows_of(_spread()),
                how="2×2 stretched by zeros under the mirrored kernel, beside conv_transpose2d",
            ),
            _fact(
                place="Names of the transposed convolution",
                printed="Backward strided convolution",
                stated=rows_of(_gradient()),
                computed=rows_of(_spread()),
                how="gradient of the strided convolution, beside conv_transpose2d",
            ),
            _fact(
                place="Transposed convolution",
                printed="3 x 3 transpose convolution, stride 2 pad 1: 2x2 to 4x4",
                stated=4,
                computed=transposed_output_size(2, 3, stride=2, padding=1),
                how="(2 − 1)·2 − 2·1 + (3 − 1) + 1",
                erratum="a convention: with an output padding of 1, as drawn; torch's default of 0 "
                "gives 3x3.",
            ),
        ),
    )


def _learnable_downsampling() -> Topic:
    return Topic(
        title="Stride 1, stride 2, and less than 1",
        text=(
            "With padding 1 and stride 1 a 3×3 convolution keeps 4×4; with stride 2 it gives 2×2, "
            "a downsampling that is learned. A stride below 1 would be a learned upsampling.",
        ),
        works=(
            work("conv", "example", size=4),
            work("conv", "example", "taps", size=4, stride=2),
        ),
        facts=(
            _fact(
                place="3x3 convolution, stride 1, pad 1",
                printed="Input: 4 x 4, Output: 4 x 4",
                stated=(4, 4),
                computed=make_operator("conv", size=4).output,
                how="closed form",
            ),
            _fact(
                place="3x3 convolution, stride 2, pad 1",
                printed="Input: 4 x 4, Output: 2 x 2",
                stated=(2, 2),
                computed=make_operator("conv", size=4, stride=2).output,
                how="closed form",
            ),
        ),
    )


def _spreading() -> Topic:
    trimmed = make_operator("transposed", size=2)
    whole = make_operator("transposed", size=2, padding=0)
    return Topic(
        title="A 2×2 image under a 3×3 kernel, stride 2",
        text=(
            "Each input value weights the filter, and the result is copied to the output; the "
            "filter moves two pixels there for one in the input, and overlaps are added. That "
            "makes 5×5. Trimming the first row and column leaves 4×4: in torch, padding 1 with "
            "output padding 1. In one dimension the same happens with 3×1.",
        ),
        works=(
            work("transposed", "example", "taps", "overlap", size=2),
            work("transposed", "example", "taps", "overlap", dims=1, size=2),
        ),
        facts=(
            _fact(
                place="3x3 transposed convolution, stride 2",
                printed="Filter moves 2 pixels in output for every 1 pixel in input",
                stated=2,
                computed=_step(make_operator("transposed", dims=1, size=2, padding=0)),
                how="distance between the first pixels that two neighbours reach",
            ),
            _fact(
                place="3x3 convolution transpose, stride 2",
                printed="This gives 5x5 output",
                stated=(5, 5),
                computed=tuple(worked(whole)["output"].shape),
                how="shape of torch's output",
            ),
            _fact(
                place="3x3 convolution transpose, stride 2",
                printed="trim one pixel from top and left to give 4x4 output",
                stated=rows_of(worked(whole)["output"][1:, 1:]),
                computed=_output(trimmed),
                how="torch's output with padding 1 and output padding 1",
            ),
            _fact(
                place="Transposed convolution, 1-D example",
                printed="3X1 filter, stride 2: exactly 2 × 2 = 4 needs one pixel removed",
                stated=2 * 2,
                computed=transposed_output_size(2, 3, stride=2) - 1,
                how="closed form of the size, less one",
            ),
        ),
    )


def _in_depth() -> Topic:
    return Topic(
        title="Depthwise, separable, pointwise",
        text=(
            "Depthwise convolves each channel in space only; a pointwise convolution after it "
            "mixes the channels. By itself the pointwise one reduces their number.",
        ),
        works=(
            work("depthwise", "taps"),
            work("depthwise_separable"),
            work("pointwise"),
        ),
    )


TOPICS = (
    *(_unpooling, _there_and_back, _learnable_downsampling),
    *(_spreading, why_transposed, _in_depth),
)


def _output(operator: Operator) -> tuple:
    return rows_of(worked(operator)["output"])


def _spread() -> Tensor:
    return worked(make_operator("transposed", size=2, padding=0))["output"]


def _over_zeros() -> Tensor:
    small = make_operator("transposed", size=2, padding=0)
    stretched = apply(make_operator("bed_of_nails", size=2), image_of(small))[..., :3, :3]
    mirrored = kernel_of(small).flip(0, 1)[None, None]
    return torch.conv2d(stretched, mirrored, padding=2)[0, 0]


def _gradient() -> Tensor:
    small = make_operator("transposed", size=2, padding=0)
    forward = make_operator("conv", size=5, stride=2, padding=0)
    start = torch.zeros(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(apply(forward, start), start, image_of(small))
    return gradient[0, 0]


def _step(operator: Operator) -> int:
    first, second = column_starts(rows_of(matrix(operator)))
    return second - first
