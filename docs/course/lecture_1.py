"""Lecture 1: a tour of convolutions."""

from fractions import Fraction
from functools import partial

import torch

from course import closed_form, kernels
from course.fact import Fact, Lecture, Topic, rows_of, work
from medseg.explain.example import kernel_of, worked
from medseg.explain.operator import conv_output_size, make_operator

_fact = partial(Fact, lecture=1)


def lecture() -> Lecture:
    """Every formula and number of the lecture, computed."""
    return Lecture(
        number=1,
        title="Various convolution methods (다양한 Convolutional 방법론)",
        author="No author named; after eehoeskrap.tistory.com/431",
        topics=tuple(topic() for topic in _TOPICS),
    )


def _why() -> Topic:
    return Topic(
        title="Why there are so many",
        text=(
            "The ordinary convolution is expensive, some of its channels die out, and channels "
            "say little about one another. Vision also wants a wide receptive field. The "
            "variants below buy receptive field or cost with some loss of freedom.",
            "The contents list eight kinds, the sections are nine: depthwise-separable has its "
            "own.",
        ),
        facts=(
            _fact(
                place="Contents",
                printed="Dilated Conv2d [atrous Deconvolution]",
                stated="deconvolution",
                computed="convolution",
                how="the kind of layer that section 2 and the literature call atrous",
                erratum="atrous convolution is meant, as the heading of section 2 has it; a "
                "deconvolution is the transposed one.",
            ),
        ),
    )


def _conv() -> Topic:
    return Topic(
        title="1. Convolution",
        text=(
            "Kernel size is what is seen at once, usually 3×3; stride is the step, 1 by default "
            "and 2 to halve the grid in place of pooling; padding says what happens at the "
            "border; channels go from the number of inputs to the number of outputs.",
        ),
        works=(work("conv", "example", "taps"), work("conv", "taps", size=8, stride=2)),
        facts=(
            _fact(
                place="Conv2d, figure",
                printed="kernel size of 3, stride of 1 and padding",
                stated=5,
                computed=conv_output_size(5, 3, padding=closed_form.same_padding(3)[0]),
                how="a 5×5 image keeps its size",
            ),
            _fact(
                place="Conv2d, stride",
                printed="default stride 1",
                stated=1,
                computed=torch.nn.Conv2d(1, 1, 3).stride[0],
                how="torch's Conv2d as it is made",
            ),
            _fact(
                place="Conv2d, stride",
                printed="stride 2 to downsample, like max pooling",
                stated=conv_output_size(8, 2, stride=2),
                computed=conv_output_size(8, 3, stride=2, padding=1),
                how="8 voxels after max pooling, and after a 3×3 convolution with stride 2",
            ),
        ),
    )


def _dilated() -> Topic:
    note = partial(_fact, place="Dilated Conv2d")
    span = closed_form.receptive_field([closed_form.Layer(kernel=3, dilation=2)])
    kept = conv_output_size(7, 3, padding=2, dilation=2)
    return Topic(
        title="2. Dilated (atrous) convolution",
        text=(
            "The same number of input voxels is read, but from a wider window. Segmentation in "
            "real time uses it where several layers or large kernels cost too much.",
            "The reach grows and no resolution is lost.",
        ),
        works=(
            work("dilated", "taps", "overlap"),
            work("dilated", "field", dims=1, times=3),
        ),
        facts=(
            note(
                printed="the number of input pixels is the same",
                stated=closed_form.conv((3, 3), (1,), 1, 1).macs,
                computed=torch.nn.Conv2d(1, 1, 3, dilation=2, bias=False).weight.numel(),
                how="taps with and without dilation",
            ),
            note(
                printed="most weights are 0",
                stated=True,
                computed=1 - Fraction(3**2, span**2) > Fraction(1, 2),
                how=f"3×3 taps at rate 2 leave 16 of {span}×{span} places empty: 16/25",
            ),
            note(
                printed="a large receptive field while information loss is maximised",
                stated=Fraction(0),
                computed=Fraction(kept, 7),
                how="share of the voxels along an axis that the output keeps, 7 of 7",
                erratum="the opposite is meant: no voxel of the grid is lost.",
            ),
        ),
    )


def _transposed() -> Topic:
    note = partial(_fact, place="Transposed Conv2d")
    operator = make_operator("conv", size=5, stride=2, padding=0)
    return Topic(
        title="3. Transposed convolution",
        text=(
            "It is often called deconvolution, and is none: it restores the grid, not the "
            "values. A convolution of a 5×5 image without padding and with stride 2 leaves 2×2; "
            "the transposed one with the same numbers goes from 2×2 to 5×5. Bilinear upsampling is "
            "the alternative.",
        ),
        works=(
            work("conv", "example", size=5, stride=2, padding=0),
            work("transposed", "example", "taps", size=2, padding=0),
        ),
        facts=(
            note(
                printed="5x5 input, stride 2, no padding, kernel 3x3: 2x2 image",
                stated=(2, 2),
                computed=tuple(worked(operator)["output"].shape),
                how="shape of torch's output",
            ),
            note(
                printed="9 values from each pixel of the input",
                stated=9,
                computed=kernel_of(make_operator("transposed", size=2)).numel(),
                how="taps that one voxel spreads over",
            ),
        ),
    )


def _separable() -> Topic:
    note = partial(_fact, place="Separable Conv2d")
    return Topic(
        title="4. Spatially separable convolution",
        text=(
            "A kernel that is an outer product, K = k₁ · k₂, can be applied as two 1-D kernels "
            "one after the other. A 3×3 kernel then takes 3 + 3 products per output in place of "
            "9. Few kernels are outer products: learned in this form, the layer can do less.",
        ),
        works=(work("spatially_separable", "example", "taps"),),
        facts=(
            note(
                printed="y = Conv(x, k), K = k1·dot(k2): the same result with k1 and k2",
                stated=rows_of(kernels.at_once()),
                computed=rows_of(kernels.by_axes()),
                how="a 5×5 image with (1, 2, 1)ᵀ(1, 2, 1), at once and by axes, in torch",
            ),
            note(
                printed="two convolutions with 3 multiplications each",
                stated=2 * 3,
                computed=closed_form.spatially_separable((3, 3), (1,), (1, 1, 1)).macs,
                how="3 + 3 in place of 9 products per output",
            ),
        ),
    )


def _depthwise() -> Topic:
    layer = torch.nn.Conv2d(3, 3, 3, groups=3, bias=False)
    return Topic(
        title="5. Depthwise convolution",
        text=(
            "An ordinary filter always mixes all channels, so it cannot look at space alone. "
            "Here each channel has its own filter and the number of channels stays. MobileNet "
            "runs in real time on it. It is the grouped convolution with a group per channel.",
        ),
        works=(work("depthwise", "taps", size=8, in_channels=3, padding=0),),
        facts=(
            _fact(
                place="Depthwise Conv2d, figure",
                printed="3x8x8 matrix, 3x3x3 kernel",
                stated=3 * 3 * 3,
                computed=closed_form.depthwise((3, 3), (6, 6), 3).parameters,
                how="weights of three 3×3 kernels",
            ),
            _fact(
                place="Depthwise Conv2d",
                printed="3x3 two-dimensional kernels on separate 8x8 matrices",
                stated=(3, *[conv_output_size(8, 3)] * 2),
                computed=tuple(layer(torch.zeros(1, 3, 8, 8)).shape[1:]),
                how="shape of torch's output, 6×6 without padding",
            ),
            _fact(
                place="Depthwise Conv2d",
                printed="as many output as input channels",
                stated=3,
                computed=layer(torch.zeros(1, 3, 8, 8)).shape[1],
                how="channels of torch's output",
            ),
        ),
    )


def _depthwise_separable() -> Topic:
    pointwise = torch.nn.Conv2d(3, 1, 1)
    return Topic(
        title="6. Depthwise-separable convolution",
        text=(
            "The depthwise result is then merged by a 1×1 convolution; the figure of the notes "
            "merges it into one channel. Each further output channel is one 1×1 filter more.",
        ),
        works=(work("depthwise_separable", size=8, in_channels=3, out_channels=1, padding=0),),
        facts=(
            _fact(
                place="Depthwise Separable Conv2d",
                printed="the channels are compressed into 1 channel",
                stated=1,
                computed=pointwise(torch.zeros(1, 3, 6, 6)).shape[1],
                how="channels of torch's output after one 1×1 filter",
            ),
        ),
    )


def _pointwise() -> Topic:
    channels = 16
    return Topic(
        title="7. Pointwise convolution",
        text=(
            "A filter has one coefficient per channel and is a linear combination of them. "
            "Fewer outputs make the next layer cheaper; useless channels get small coefficients. "
            "Inception, Xception, SqueezeNet and MobileNet all use it.",
        ),
        works=(work("pointwise"),),
        facts=(
            _fact(
                place="Pointwise Conv2d",
                printed="a kernel of size 1x1xC compresses into 1 channel",
                stated=1 * 1 * channels,
                computed=closed_form.pointwise((1,), channels, 1).parameters,
                how=f"weights of one filter at C = {channels}",
            ),
        ),
    )


def _grouped() -> Topic:
    ordinary = closed_form.conv((3, 3), (8, 8), 16, 32)
    grouped = closed_form.conv((3, 3), (8, 8), 16, 32, 4)
    return Topic(
        title="8. Grouped convolution",
        text=(
            "Channels are dealt into groups that are convolved apart, which parallelises well. "
            "The number of groups is one more hyperparameter, and too many groups hurt.",
        ),
        works=(work("grouped", "taps"),),
        facts=(
            _fact(
                place="Grouped Conv2d",
                printed="fewer parameters and operations than Conv2d",
                stated=(Fraction(1, 4), Fraction(1, 4)),
                computed=(
                    Fraction(grouped.parameters, ordinary.parameters),
                    Fraction(grouped.macs, ordinary.macs),
                ),
                how="share of parameters and of operations at four groups",
            ),
        ),
    )


def _deformable() -> Topic:
    return Topic(
        title="9. Deformable convolution",
        text=(
            "A fixed grid of taps copes badly with complex transformations. Each tap of the grid "
            "gets a 2-D offset; scale, aspect ratio and rotation are special cases.",
        ),
        works=(work("deformable", "taps"),),
        facts=(
            _fact(
                place="Deformable Conv2d, figures 1 and 2",
                printed="3×3 deformable convolution, 2-D offsets",
                stated=3 * 3 * 2,
                computed=closed_form.offset_channels((3, 3), modulated=False),
                how="offset channels: two numbers for each of nine taps",
            ),
        ),
    )


_TOPICS = (
    *(_why, _conv, _dilated, _transposed, _separable, _depthwise),
    *(_depthwise_separable, _pointwise, _grouped, _deformable),
)
