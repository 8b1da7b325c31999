"""Lecture 0: what convolutions cost, and the checkerboard of a transposed one."""

from fractions import Fraction
from functools import partial

import torch

from course import closed_form, fact, kernels
from course.fact import Fact, Lecture, Topic, work

_SETTINGS = (
    {"k": 3, "f": 8, "n": 16, "m": 32},
    {"k": 5, "f": 14, "n": 3, "m": 64},
    {"k": 1, "f": 7, "n": 8, "m": 8},
    {"k": 7, "f": 5, "n": 2, "m": 9},
)
_law = partial(fact.law, _SETTINGS, lecture=0)


def lecture() -> Lecture:
    """Every formula and number of the lecture, computed."""
    return Lecture(
        number=0,
        title="BE530 – Medical Deep Learning: Convolution Operations",
        author="Byoung-Dai Lee, Division of AI Computer Science and Engineering, "
        "Kyonggi University",
        topics=(
            _conventional(),
            _pointwise(),
            _depthwise(),
            _separable(),
            _dilated(),
            _transposed(),
            _checkerboard(),
        ),
    )


def _conventional() -> Topic:
    place = "Conventional Convolutions"
    return Topic(
        title="Conventional convolution",
        text=(
            "N input maps, M output maps of F × F, and a kernel of K × K. An output voxel needs "
            "K·K·N products; a kernel is shared by all F·F places, so its weights are counted "
            "once and its work F·F times.",
        ),
        works=(work("conv", "example", "taps"),),
        facts=(
            _law(
                lambda k, f, n, m: (k * k * n) * m * f * f,
                lambda k, f, n, m: _cost(k, f, n, m).macs,
                place=place,
                printed="(K × K × N) × M × F × F = K² × F² × N × M",
                how="multiply-accumulates of the closed form",
            ),
            _law(
                lambda k, f, n, m: (k * k * n) * m,
                lambda k, f, n, m: torch.nn.Conv2d(n, m, k, bias=False).weight.numel(),
                place=place,
                printed="(K × K × N) × M = K² × N × M",
                how="weights of torch's Conv2d without biases",
            ),
        ),
    )


def _pointwise() -> Topic:
    place = "Pointwise Convolution"
    return Topic(
        title="Pointwise convolution",
        text=(
            "One tap: nothing is mixed in space, only across channels. It sets the number of "
            "feature maps, up or down.",
        ),
        works=(work("pointwise", "taps"),),
        facts=(
            _law(
                lambda k, f, n, m: (1 * 1 * n) * m * f * f,
                lambda k, f, n, m: closed_form.pointwise((f, f), n, m).macs,
                place=place,
                printed="(1 × 1 × N) × M × F × F = F² × N × M",
                how="multiply-accumulates of the closed form",
            ),
            _law(
                lambda k, f, n, m: (1 * 1 * n) * m,
                lambda k, f, n, m: torch.nn.Conv2d(n, m, 1, bias=False).weight.numel(),
                place=place,
                printed="(1 × 1 × N) × M = N × M",
                how="weights of torch's Conv2d without biases",
            ),
        ),
    )


def _depthwise() -> Topic:
    place = "Depthwise Convolution"
    return Topic(
        title="Depthwise convolution",
        text=("Every map is convolved with a kernel of its own; channels never meet.",),
        works=(work("depthwise", "taps"),),
        facts=(
            _law(
                lambda k, f, n, m: (k * k * 1) * n * f * f,
                lambda k, f, n, m: closed_form.depthwise((k, k), (f, f), n).macs,
                place=place,
                printed="(K × K × 1) × N × F × F = K² × F² × N",
                how="multiply-accumulates of the closed form",
            ),
            _law(
                lambda k, f, n, m: k * k * n,
                lambda k, f, n, m: torch.nn.Conv2d(n, n, k, groups=n, bias=False).weight.numel(),
                place=place,
                printed="(K × K × N) = K² × N",
                how="weights of torch's Conv2d with one group per channel",
            ),
        ),
    )


def _separable() -> Topic:
    place = "Depthwise Separable convolution"
    return Topic(
        title="Depthwise-separable convolution",
        text=(
            "Space first, channels second: a depthwise convolution followed by a pointwise one. "
            "The saving is 1/K² + 1/M; it comes near 1/K² only where M is far above K².",
        ),
        works=(work("depthwise_separable"),),
        facts=(
            _law(
                lambda k, f, n, m: (f**2 * n * m) + (k**2 * f**2 * n),
                lambda k, f, n, m: _separable_cost(k, f, n, m).macs,
                place=place,
                printed="(F² × N × M) + (K² × F² × N)",
                how="multiply-accumulates of the closed form",
            ),
            _law(
                lambda k, f, n, m: Fraction(1, k**2) + Fraction(1, m),
                lambda k, f, n, m: Fraction(
                    _separable_cost(k, f, n, m).macs, _cost(k, f, n, m).macs
                ),
                place=place,
                printed="((F²·N·M) + (K²·F²·N)) / (K²·F²·N·M) = 1/K² + 1/M",
                how="quotient of the two counts",
            ),
            Fact(
                lecture=0,
                place=place,
                printed="K = 3, M ≥ 32: the cost falls to 1/9",
                stated=Fraction(1, 9),
                computed=closed_form.separable_ratio((3, 3), 32),
                how="1/K² + 1/M at K = 3, M = 32",
                erratum="1/9 is the limit for many channels; at M = 32 the ratio is 41/288, about "
                "1/7.02, and at M = 1,024 it is still above 1/9.",
            ),
        ),
    )


def _dilated() -> Topic:
    return Topic(
        title="Dilated convolution",
        text=(
            "The dilation rate D is the distance between taps. Setting zeros between the taps of "
            "an ordinary kernel gives the same operator: a longer reach, no weight more.",
        ),
        works=(
            work("dilated", "taps"),
            work("dilated", "field", dims=1, times=3),
        ),
        facts=(
            Fact(
                lecture=0,
                place="Dilated Convolution",
                printed="Zeros put into the filter widen its receptive field",
                stated=fact.rows_of(kernels.with_zeros_between(dilation=2)),
                computed=fact.rows_of(kernels.dilated(dilation=2)),
                how="a 3×3 kernel with zeros between its taps, beside torch's dilation 2",
            ),
        ),
    )


def _transposed() -> Topic:
    return Topic(
        title="Transposed convolution",
        text=(
            "To bring an image back to its size one can interpolate, or learn the upsampling. "
            "A transposed convolution reverses the wiring of a convolution: where that gathers, "
            "this one scatters. Below, one and the other on small numbers.",
        ),
        works=(
            work("conv", "example", "matrix", size=4, padding=0),
            work("transposed", "example", "matrix", size=2, stride=1, padding=0),
            work("linear", "example"),
        ),
    )


def _checkerboard() -> Topic:
    return Topic(
        title="Checkerboard artifact",
        text=(
            "The slide shows generated images with a regular pattern, from Radford et al. 2015, "
            "Salimans et al. 2016, Donahue et al. 2016 and Dumoulin et al. 2016. Where the stride "
            "does not divide the kernel, some output voxels get more taps than others; "
            "the counts below are that pattern. With kernel 4 and stride 2 they are flat.",
        ),
        works=(
            work("transposed", "overlap", kernel=3),
            work("transposed", "overlap", kernel=4),
            work("transposed", "overlap", kernel=3, dims=1),
        ),
    )


def _cost(kernel: int, size: int, ins: int, outs: int) -> closed_form.Cost:
    return closed_form.conv((kernel, kernel), (size, size), ins, outs)


def _separable_cost(kernel: int, size: int, ins: int, outs: int) -> closed_form.Cost:
    return closed_form.depthwise_separable((kernel, kernel), (size, size), ins, outs)
