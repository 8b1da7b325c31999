"""Lecture 3: convolution as a formula, its arithmetic, and the networks it made."""

import math
from functools import partial
from typing import Any

import numpy as np
from scipy import integrate, signal

from course import alexnet, closed_form, fact, networks
from course.fact import Fact, Lecture, Topic, rows_of, work
from course.kernels import correlated, summed, summed_2d
from medseg.explain.operator import conv_output_size

_fact = partial(Fact, lecture=3)
_FIRST, _SECOND = np.array([1, 2, 3, 4]), np.array([2, 0, -1])
_IMAGE, _KERNEL = np.arange(1, 26).reshape(5, 5), np.array([[1, 2, 0], [0, -1, 3], [2, 0, 1]])


def lecture() -> Lecture:
    """Every formula and number of the lecture, computed."""
    return Lecture(
        number=3,
        title="Convolution neural networks and convolution arithmetic (untitled notes)",
        author="No author named; its pictures are dated 28 and 29 May 2023",
        topics=tuple(topic() for topic in _TOPICS),
    )


def _definition() -> Topic:
    return Topic(
        title="What a convolution is",
        text=(
            "One function is mirrored, shifted and weighted with the other; which of the two is "
            "mirrored does not matter. Networks do not mirror: what they call convolution is the "
            "cross-correlation, a convolution with the mirrored kernel. A learned kernel can be "
            "either, so nothing is lost.",
        ),
        facts=(
            fact.law(
                ({"t": 0.5}, {"t": 1.0}, {"t": 2.0}),
                lambda t: _integral(lambda tau: math.exp(-tau) * math.exp(-2 * (t - tau)), t),
                lambda t: _integral(lambda tau: math.exp(-(t - tau)) * math.exp(-2 * tau), t),
                capitals=False,
                lecture=3,
                place="Continuous convolution",
                printed="(f*g)(t) = ∫ f(τ) g(t − τ) dτ",
                how="∫ f(t − τ) g(τ) dτ for f = e^(−τ), g = e^(−2τ), τ ≥ 0, by scipy",
            ),
            _fact(
                place="Continuous convolution",
                printed="∫ f(t − τ) g(t) dτ",
                stated=_integral(lambda tau: math.exp(-(1 - tau)) * math.exp(-2), 1.0),
                computed=_integral(lambda tau: math.exp(-(1 - tau)) * math.exp(-2 * tau), 1.0),
                how="∫ f(t − τ) g(τ) dτ at t = 1 for the same functions",
                erratum="the argument of g must be τ, which is integrated over, and not t.",
            ),
            _fact(
                place="Discrete convolution",
                printed="(f*g)(t) = Σ f(i) g(t − i)",
                stated=(summed(_FIRST, _SECOND),),
                computed=(rows_of(np.convolve(_FIRST, _SECOND)),),
                how="numpy's convolution of (1, 2, 3, 4) and (2, 0, −1)",
            ),
            _fact(
                place="Discrete convolution",
                printed="Σ f(i) g(t − i) = Σ f(t − i) g(i)",
                stated=(summed(_FIRST, _SECOND),),
                computed=(summed(_SECOND, _FIRST),),
                how="both sums written out for the same sequences",
            ),
            _fact(
                place="2D image convolution",
                printed="(I*K)(i, j) = ΣΣ I(m, n) K(i − m, j − n)",
                stated=summed_2d(_IMAGE, _KERNEL),
                computed=rows_of(signal.convolve2d(_IMAGE, _KERNEL)),
                how="scipy's convolution of a 5×5 image and a 3×3 kernel",
            ),
            _fact(
                place="2D image convolution",
                printed="ΣΣ I(m, n) K(i − m, j − n) = ΣΣ I(i − m, i − n) K(m, n)",
                stated=summed_2d(_KERNEL, _IMAGE, misprint=True),
                computed=summed_2d(_KERNEL, _IMAGE),
                how="ΣΣ I(i − m, j − n) K(m, n) for the same image and kernel",
                erratum="the second index of I must be j − n, not i − n.",
            ),
        ),
    )


def _image() -> Topic:
    size = conv_output_size(7, 3)
    return Topic(
        title="A 3×3 filter on a 7×7 image",
        text=(
            "The filter is laid on the image, products are summed, and the sum is the output at "
            "that place, the first of them O₁₁. Blur, emboss and outline are such filters.",
        ),
        works=(work("conv", "example", "taps", size=7, padding=0),),
        facts=(
            _fact(
                place="2D image convolution, figure",
                printed="3x3 convolution filter on a 7x7 image, first output O₁₁",
                stated=(5, 5),
                computed=tuple(correlated(np.ones((7, 7)), _KERNEL).shape),
                how=f"shape of torch's output; 7 − 3 + 1 = {size}",
            ),
            _fact(
                place="2D image convolution",
                printed="filter values times the pixels at that place, summed: O₁₁",
                stated=rows_of(signal.convolve2d(_IMAGE, _KERNEL[::-1, ::-1], mode="valid")),
                computed=rows_of(correlated(_IMAGE, _KERNEL)),
                how="torch's conv2d is scipy's convolution with the mirrored kernel",
            ),
        ),
    )


def _layers() -> Topic:
    return Topic(
        title="Colour images, stacks and networks",
        text=(
            "A filter has as many channels as its input, and there are as many filters as "
            "feature maps come out: two channel counts give the number of filters. Between "
            "layers stands a non-linearity. Convolution and pooling extract features, dense "
            "layers decide. As parameters make training harder and generalisation worse, newer "
            "networks go deep with convolutions and drop the dense layers. Stride is how far the "
            "filter moves at a time; padding is what surrounds the image.",
        ),
        works=(work("conv", in_channels=3, out_channels=4, size=32), work("max_pool", "example")),
    )


def _arithmetic() -> Topic:
    return Topic(
        title="Convolution arithmetic",
        text=("A layer from 128 to 64 channels with 3×3 taps:",),
        works=(work("conv", in_channels=128, out_channels=64, size=40),),
        facts=(
            _fact(
                place="Convolution Arithmetic",
                printed="3 x 3 x 128 x 64 = 73,728",
                stated=73_728,
                computed=closed_form.conv((3, 3), (40, 40), 128, 64).parameters,
                how="weights of the closed form",
            ),
        ),
    )


def _one_by_one() -> Topic:
    direct, reduced = networks.inception_cost(False), networks.inception_cost(True)
    return Topic(
        title="1×1 convolution",
        text=(
            "It reduces the number of channels, so that a network can be deeper and yet have "
            "fewer parameters; the bottleneck is built on it. In the 5×5 branch of GoogLeNet's "
            f"first inception module it saves: {direct.parameters:,} weights without, "
            f"{reduced.parameters:,} with a reduction to 16 channels.",
        ),
        works=(work("pointwise", in_channels=192, out_channels=16, size=28),),
        facts=(
            _fact(
                place="1 X 1 Convolution; GoogLeNet",
                printed="1 X 1 convolution reduces the number of parameters",
                stated=True,
                computed=reduced.parameters < direct.parameters and reduced.macs < direct.macs,
                how=f"{direct.parameters:,} → {reduced.parameters:,} weights, "
                f"{direct.macs:,} → {reduced.macs:,} multiply-accumulates on 28 × 28",
            ),
        ),
    )


def _history() -> Topic:
    two_small, one_large = _stack(3, 2), _stack(5, 1)
    return Topic(
        title="AlexNet, VGG, GoogLeNet",
        text=(
            "AlexNet brought ReLU, two GPUs, local response normalisation (given up since), "
            "overlapping pooling, data augmentation and dropout. ReLU keeps what is good about a "
            "linear model: its gradient neither vanishes nor needs care. VGG uses 3×3 "
            "convolutions only, and 1×1 where others are dense: two of 3×3 see what one of 5×5 "
            "sees, with 18 weights per pair of channels in place of 25.",
        ),
        works=(work("conv", "field", dims=1, times=2),),
        facts=(
            _fact(
                place="AlexNet, key ideas",
                printed="2 GPUs",
                stated=2,
                computed=max(row.groups for row in networks.alexnet()),
                how="groups of its split convolutions",
            ),
            _fact(
                place="VGGNet",
                printed="only 3 X 3 convolution filters",
                stated=(3,),
                computed=tuple(sorted({row.kernel for row in networks.vgg19() if row.kernel})),
                how="kernel sizes in configuration E of the published table",
            ),
            _fact(
                place="VGGNet, receptive field",
                printed="a larger filter takes in more of the input: receptive field",
                stated=one_large[0],
                computed=two_small[0],
                how="two of 3×3 beside one of 5×5; weights per pair of channels "
                f"{two_small[1]} and {one_large[1]}",
            ),
        ),
    )


def _stack(kernel: int, depth: int) -> tuple[int, int]:
    layers = [closed_form.Layer(kernel=kernel)] * depth
    weights = depth * closed_form.conv((kernel, kernel), (1,), 1, 1).parameters
    return closed_form.receptive_field(layers), weights


def _integral(integrand: Any, end: float) -> float:
    return float(integrate.quad(integrand, 0, end)[0])


_TOPICS = (
    *(_definition, _image, _layers, _arithmetic),
    *(alexnet.convolutions, alexnet.dense_layers, _one_by_one, _history),
)
