"""Lecture 4: convolutional networks from the ground up; its upsampling is in `upsampling`."""

import math
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor

from course import closed_form, fact, kernels, networks, upsampling
from course.fact import Fact, Lecture, Topic, rows_of, work
from course.imagenet import imagenet
from medseg.explain.operator import conv_output_size

_fact = partial(Fact, lecture=4)
_IMAGE = ((1, 1, 1, 0, 0), (0, 1, 1, 1, 0), (0, 0, 1, 1, 1), (0, 0, 1, 1, 0), (0, 1, 1, 0, 0))
_FILTER = ((1, 0, 1), (0, 1, 0), (1, 0, 1))
_WINDOWS = (
    {"w": 7, "k": 3, "p": 1, "s": 1},
    {"w": 7, "k": 3, "p": 0, "s": 2},
    {"w": 32, "k": 5, "p": 2, "s": 1},
    {"w": 227, "k": 11, "p": 0, "s": 4},
)


def lecture() -> Lecture:
    """Every formula and number of the lecture, computed."""
    return Lecture(
        number=4,
        title="CNN basics, with computer vision in the focus (CNN 기초: 컴퓨터 비전을 중심으로)",
        author="No author named; December 2020",
        topics=tuple(topic() for topic in (*_TOPICS, *upsampling.TOPICS)),
    )


def _dense() -> Topic:
    return Topic(
        title="Fully connected networks",
        text=("Every output is wired to every input; where a voxel lies does not matter.",),
        works=(work("dense"),),
    )


def _convolution() -> Topic:
    feature_map = kernels.correlated(_IMAGE, _FILTER)
    return Topic(
        title="What a convolution layer does",
        text=(
            "A filter is a set of weights that finds local features; several filters find "
            "several; and each is shared over all places. On the printed 5×5 image the printed "
            "filter gives 4 at the first place, and all nine as drawn.",
        ),
        pictures=(
            kernels.grids(
                "The printed image and filter, and the whole feature map, by torch.",
                ("image", _IMAGE),
                ("filter", _FILTER),
                ("feature map", feature_map),
            ),
        ),
        facts=(
            _fact(
                place="What is a convolution?",
                printed="5x5 image, 3x3 filter 1 0 1 / 0 1 0 / 1 0 1: first value 4",
                stated=4,
                computed=int(feature_map[0, 0]),
                how=f"torch; all nine: {fact.worded(rows_of(feature_map))}",
            ),
        ),
    )


def _colour() -> Topic:
    maps = torch.nn.Conv2d(3, 6, 5)(torch.zeros(2, 3, 32, 32)).shape
    return Topic(
        title="Filters on a colour image",
        text=(
            "A filter is as deep as its input: 3×5×5 on a 3×32×32 image, one number per place, "
            "75 products each. Each filter gives one activation map, so that the depth of the "
            "output is the number of filters; a batch of two images gives two such sets. Layers "
            "are stacked with a ReLU between them.",
        ),
        works=(work("conv", size=32, kernel=5, padding=0, in_channels=3, out_channels=6),),
        facts=(
            _fact(
                place="3x32x32 image",
                printed="3x32x32 image, 3x5x5 filter",
                stated=(32 - 5 + 1, 32 - 5 + 1),
                computed=tuple(maps[2:]),
                how="torch's output, beside W − K + 1",
            ),
            _fact(
                place="Activation maps",
                printed="6 filters make 6 activation maps",
                stated=6,
                computed=maps[1],
                how="channels of torch's output",
            ),
            _fact(
                place="Activation maps",
                printed="2 images and 6 filters: 2 sets of 6 activation maps",
                stated=(2, 6),
                computed=tuple(maps[:2]),
                how="shape of torch's output, a batch of two",
            ),
            _fact(
                place="What filters look like",
                printed="AlexNet: 64 filters, each 3 × 11 × 11",
                stated=(64, 3, 11, 11),
                computed=(
                    networks.alexnet()[0].out_channels,
                    networks.alexnet()[0].in_channels,
                    *[networks.alexnet()[0].kernel] * 2,
                ),
                how="first row of the published layer table, 48 · 2 in lecture 3",
                erratum="a convention: 64 are in the one-tower variant of Krizhevsky 2014, which "
                "torchvision has under the same name; the network that won in 2012 has 96.",
            ),
        ),
    )


def _sizes() -> Topic:
    return Topic(
        title="Sizes: no padding",
        text=("A 3×3 filter has five places along seven pixels: W − K + 1.",),
        works=(work("conv", "taps", size=7, padding=0),),
        facts=(
            _fact(
                place="Spatial size",
                printed="Input: 7x7, Filter: 3x3, Output: 5x5",
                stated=5,
                computed=conv_output_size(7, 3),
                how="closed form",
            ),
            fact.law(
                [{"w": 7, "k": 3}, {"w": 32, "k": 5}, {"w": 9, "k": 1}],
                lambda w, k: w - k + 1,
                lambda w, k: torch.nn.Conv1d(1, 1, k)(torch.zeros(1, 1, w)).shape[-1],
                lecture=4,
                place="Spatial size",
                printed="W − K + 1",
                how="torch's output",
            ),
        ),
    )


def _padding() -> Topic:
    return Topic(
        title="Sizes: padding",
        text=(
            "A ring of zeros lets the filter stand on the border, and P = (K − 1)/2 of them "
            "keep the size of an odd filter.",
        ),
        works=(work("conv", "taps", size=7),),
        facts=(
            _fact(
                place="Padding",
                printed="Input: 7x7 drawn within a ring of zeros, 9x9",
                stated=9,
                computed=torch.nn.functional.pad(torch.zeros(7), (1, 1)).shape[0],
                how="7 + 2·1, by torch",
            ),
            _fact(
                place="Padding",
                printed="Input: 7x7, Filter: 3x3, Output: 5x5, beside a padding of 1",
                stated=5,
                computed=conv_output_size(7, 3, padding=1),
                how="7 + 2·1 − 3 + 1",
                erratum="5x5 is left over from the slide without padding; padding keeps the size.",
            ),
            fact.law(
                [{"w": 7, "k": 3, "p": 1}, {"w": 32, "k": 5, "p": 1}, {"w": 9, "k": 7, "p": 3}],
                lambda w, k, p: w - k + 1 + 2 * p,
                lambda w, k, p: conv_output_size(w, k, padding=p),
                lecture=4,
                place="Padding",
                printed="W − K + 1 + 2P",
                how="closed form",
            ),
            fact.law(
                [{"k": 3}, {"k": 5}, {"k": 7}],
                lambda k: (k - 1) // 2,
                lambda k: closed_form.same_padding(k)[0],
                lecture=4,
                place="Padding",
                printed="P = (K − 1) / 2 makes the output as large as the input",
                how="closed form of the padding that keeps the size",
            ),
        ),
    )


def _stride() -> Topic:
    return Topic(
        title="Sizes: stride",
        text=(
            "The filter moves by S at a time. Where S does not divide W − K + 2P the last pixels "
            "are skipped, and the quotient is rounded down.",
        ),
        works=(work("conv", "taps", size=7, padding=0, stride=2),),
        facts=(
            _fact(
                place="Stride",
                printed="Input: 7x7, Filter: 3x3, Stride: 2, Output: 3x3",
                stated=3,
                computed=conv_output_size(7, 3, stride=2),
                how="closed form",
            ),
            fact.law(
                _WINDOWS,
                lambda w, k, p, s: Fraction(w - k + 2 * p, s) + 1,
                lambda w, k, p, s: conv_output_size(w, k, s, p),
                lecture=4,
                place="Stride",
                printed="(W − K + 2P)/S + 1",
                how="closed form, where S divides W − K + 2P",
            ),
            _fact(
                place="Stride",
                printed="(W − K + 2P)/S + 1 in general",
                stated=Fraction(8 - 3, 2) + 1,
                computed=conv_output_size(8, 3, stride=2),
                how="closed form at W = 8, K = 3, P = 0, S = 2",
                erratum="a convention that is not said: the quotient is rounded down; as printed "
                "it is 7/2 here.",
            ),
        ),
    )


def _kinds() -> Topic:
    return Topic(
        title="1×1, 1-D, 2-D and 3-D convolution; pooling; dense layers",
        text=(
            "A 1×1 filter mixes channels only. The number of axes the filter moves along gives "
            "1-D, 2-D and 3-D convolutions. Pooling makes the grid coarser. At the end the maps "
            "are flattened and go through dense layers: [Conv, ReLU, Pool] × N, flatten, "
            "[FC, ReLU] × N, FC.",
        ),
        works=(
            work("pointwise"),
            work("conv", "taps", dims=1),
            work("conv", "taps", dims=3),
            work("max_pool", "example"),
            work("dense", "taps"),
        ),
    )


def _softmax() -> Topic:
    logits = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    likely = torch.softmax(logits, 0)
    return Topic(
        title="Softmax and cross-entropy",
        text=("Softmax turns scores into probabilities; the loss is the surprise at the truth.",),
        facts=(
            _fact(
                place="Softmax and cross-entropy",
                printed="softmax(yᵢ) = e^(yᵢ) / Σⱼ e^(yⱼ)",
                stated=_softmax_as_printed(logits),
                computed=tuple(likely.tolist()),
                how="torch's softmax of (1, 2, 3)",
            ),
            _fact(
                place="Softmax and cross-entropy",
                printed="J(θ) = Σᵢ y⁽ⁱ⁾ log(ŷ⁽ⁱ⁾)",
                stated=float(likely[2].log()),
                computed=float(torch.nn.functional.cross_entropy(logits, torch.tensor(2))),
                how="torch's cross-entropy of the scores (1, 2, 3), the third is true",
                erratum="the minus sign is missing: as printed, minimising it would make the truth "
                "unlikely.",
            ),
        ),
    )


def _softmax_as_printed(scores: Tensor) -> tuple[float, ...]:
    powers = [math.exp(score) for score in scores.tolist()]
    return tuple(power / sum(powers) for power in powers)


_TOPICS = (
    *(_dense, _convolution, _colour, _sizes, _padding, _stride),
    *(_kinds, _softmax, imagenet),
)
