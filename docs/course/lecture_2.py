"""Lecture 2: the same convolutions in code."""

import inspect
from functools import partial
from typing import Any

import torch
from torch import nn

from course import closed_form, fact
from course.fact import Fact, Lecture, Topic, work
from medseg.explain.operator import conv_output_size

_INPUT = (20, 16, 50, 100)
_EXAMPLES = (
    ("nn.Conv2d(16, 33, 3, stride=2)", (3, 3), (2, 2), (0, 0), (1, 1)),
    ("nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2))", (3, 5), (2, 1), (4, 2), (1, 1)),
    (
        "nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1))",
        *((3, 5), (2, 1), (4, 2), (3, 1)),
    ),
)
_OBLONG: dict[str, Any] = {
    "size": (50, 100),
    "kernel": (3, 5),
    "stride": (2, 1),
    "padding": (4, 2),
    "in_channels": 16,
    "out_channels": 33,
}
_fact = partial(Fact, lecture=2)


def lecture() -> Lecture:
    """Every formula and number of the lecture, computed."""
    return Lecture(
        number=2,
        title="Convolution techniques used in deep learning (딥러닝에서 사용되는 다양한 "
        "Convolution 기법들)",
        author="julyjuny, Jun Station, 19 August 2021",
        topics=(
            _basic(),
            _headings_without_text(),
            _depthwise(),
            _depthwise_separable(),
            _pointwise(),
        ),
    )


def _basic() -> Topic:
    facts = [
        _fact(
            place="1. Convolution, signature",
            printed="stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode='zeros'",
            stated=(1, 0, 1, 1, True, "zeros"),
            computed=_defaults("stride", "padding", "dilation", "groups", "bias", "padding_mode"),
            how="the signature of torch.nn.Conv2d that is installed",
        )
    ]
    for code, kernel, stride, padding, dilation in _EXAMPLES:
        layer = nn.Conv2d(16, 33, kernel, stride, padding, dilation, device="meta")
        size = closed_form.along_axes(
            conv_output_size, _INPUT[2:], kernel, stride, padding, dilation
        )
        facts += [
            _fact(
                place="1. Convolution, example",
                printed=f"{code} on torch.randn(20, 16, 50, 100)",
                stated=tuple(layer(torch.empty(_INPUT, device="meta")).shape),
                computed=(_INPUT[0], 33, *size),
                how="output size by the closed form, beside the shape of torch's output",
            ),
            _fact(
                place="1. Convolution, example",
                printed=f"{code}, its parameters",
                stated=sum(p.numel() for p in layer.parameters()),
                computed=closed_form.conv(kernel, size, 16, 33, bias=True).parameters,
                how="weights and biases by the closed form, beside torch's",
            ),
        ]
    return Topic(
        title="1. Basic convolution",
        text=(
            "Three layers from the manual of PyTorch 1.9.0: a square kernel with stride 2; a "
            "3×5 kernel with a stride and a padding per axis; the same dilated by 3 along the "
            "first axis. Each takes a batch of 20 images of 16 channels and 50 × 100 pixels. The "
            "notes give the code only: here are the shapes that come out.",
        ),
        works=(
            work("conv", size=(50, 100), stride=2, padding=0, in_channels=16, out_channels=33),
            work("conv", **_OBLONG),
            work("conv", "taps", **_OBLONG, dilation=(3, 1)),
        ),
        facts=facts,
    )


def _headings_without_text() -> Topic:
    return Topic(
        title="2 to 4, 8 and 9. Dilated, transposed, separable, grouped, deformable",
        text=(
            "The notes have headings for these, and a remark that a dilated U-Net put dilated "
            "convolutions into its last stage. Their sizes and weights, for completeness:",
        ),
        works=(
            work("dilated", "taps"),
            work("transposed", "example"),
            work("spatially_separable"),
            work("grouped"),
            work("deformable"),
        ),
    )


def _depthwise() -> Topic:
    layer = nn.Conv2d(6, 6 * 4, kernel_size=3, padding=1, groups=6)
    return Topic(
        title="5. Depthwise convolution",
        text=(
            "The second argument says how many outputs a layer has; groups=nin makes it "
            "depthwise, with kernels_per_layer outputs for each input channel.",
        ),
        works=(work("depthwise", "taps", in_channels=6, out_channels=24),),
        facts=(
            _fact(
                place="5. Depthwise Convolution, code",
                printed="nn.Conv2d(nin, nin * kernels_per_layer, kernel_size=3, padding=1, "
                "groups=nin)",
                stated=sum(p.numel() for p in layer.parameters()),
                computed=closed_form.depthwise((3, 3), (8, 8), 6, 4, bias=True).parameters,
                how="parameters at nin = 6, kernels_per_layer = 4, by the closed form",
            ),
            _fact(
                place="5. Depthwise Convolution, code",
                printed="kernel_size=3, padding=1: the grid is kept",
                stated=(24, 8, 8),
                computed=tuple(layer(torch.zeros(1, 6, 8, 8)).shape[1:]),
                how="shape of torch's output for 6 × 8 × 8",
            ),
            _fact(
                place="5. Depthwise Convolution, code",
                printed="the default of groups is 1",
                stated=(1,),
                computed=_defaults("groups"),
                how="the signature of torch.nn.Conv2d that is installed",
            ),
            _fact(
                place="5. Depthwise Convolution and 7. Pointwise Convolution, code",
                printed="class depthwise_conv, class pointwise_conv: "
                "super(depthwise_separable_conv, self).__init__()",
                stated=("a layer", "a layer"),
                computed=(
                    _made("depthwise_conv"),
                    _made("pointwise_conv", depthwise_separable_conv),
                ),
                how="what becomes of the classes when they are made, in the order of the notes",
                erratum="both name the class of section 6, which section 5 has not made yet "
                "(NameError) and which is not theirs (TypeError); super().__init__() is meant.",
            ),
        ),
    )


def _depthwise_separable() -> Topic:
    settings = ({"c": 6, "k": 3, "m": 10}, {"c": 16, "k": 5, "m": 4}, {"c": 3, "k": 7, "m": 64})
    layer = depthwise_separable_conv(6, 4, 10)
    return Topic(
        title="6. Depthwise-separable convolution",
        text=(
            "Depthwise then pointwise: their parameters add up to K²C + CM. That is the count "
            "for one kernel per channel and without biases; the code beside it has "
            "kernels_per_layer, κ, and PyTorch's biases, so it has Cκ(K² + M) + Cκ + M.",
        ),
        works=(work("depthwise_separable", in_channels=6, out_channels=10),),
        facts=(
            fact.law(
                settings,
                lambda c, k, m: k**2 * c + c * m,
                lambda c, k, m: closed_form.depthwise_separable((k, k), (1,), c, m).parameters,
                lecture=2,
                place="6. Depthwise Separable Convolution",
                printed="K2C + CM",
                how="weights of the closed form",
            ),
            fact.law(
                settings,
                lambda c, k, m: c * (k**2 + m),
                lambda c, k, m: _without_bias(c, k, m),
                lecture=2,
                place="6. Depthwise Separable Convolution",
                printed="C(K2 + M)",
                how="weights of the two torch layers",
            ),
            _fact(
                place="6. Depthwise Separable Convolution, code",
                printed="class depthwise_separable_conv(nin, kernels_per_layer, nout)",
                stated=sum(p.numel() for p in layer.parameters()),
                computed=closed_form.depthwise_separable(
                    (3, 3), (1,), 6, 10, 4, bias=True
                ).parameters,
                how="the class as printed at (6, 4, 10): Cκ(K² + M) weights, Cκ + M biases",
            ),
        ),
    )


def _pointwise() -> Topic:
    return Topic(
        title="7. Pointwise convolution",
        text=("A Conv2d whose kernel_size is 1.",),
        works=(work("pointwise"),),
        facts=(
            _fact(
                place="7. Pointwise Convolution, code",
                printed="nn.Conv2d(nin, nout, kernel_size=1)",
                stated=sum(p.numel() for p in nn.Conv2d(16, 33, kernel_size=1).parameters()),
                computed=closed_form.pointwise((1,), 16, 33, bias=True).parameters,
                how="parameters at nin = 16, nout = 33, by the closed form",
            ),
        ),
    )


class depthwise_separable_conv(nn.Module):  # noqa: N801 - the printed name
    """The class of section 6 as it is printed."""

    def __init__(self, nin: int, kernels_per_layer: int, nout: int):
        super(depthwise_separable_conv, self).__init__()  # noqa: UP008 - as printed
        inner = nin * kernels_per_layer
        self.depthwise = nn.Conv2d(nin, inner, kernel_size=3, padding=1, groups=nin)
        self.pointwise = nn.Conv2d(inner, nout, kernel_size=1)


def _made(name: str, *known: type) -> str:
    """What becomes of a class whose `__init__` begins as printed, where others are known."""
    names = {"nn": nn, **{other.__name__: other for other in known}}
    lines = (
        f"class {name}(nn.Module):",
        "    def __init__(self):",
        "        super(depthwise_separable_conv, self).__init__()",
    )
    exec("\n".join(lines), names)
    try:
        names[name]()
    except (NameError, TypeError) as error:
        return type(error).__name__
    return "a layer"


def _without_bias(channels: int, kernel: int, outputs: int) -> int:
    depthwise = nn.Conv2d(channels, channels, kernel, groups=channels, bias=False)
    pointwise = nn.Conv2d(channels, outputs, 1, bias=False)
    return depthwise.weight.numel() + pointwise.weight.numel()


def _defaults(*names: str) -> tuple:
    parameters = inspect.signature(nn.Conv2d).parameters
    return tuple(parameters[name].default for name in names)
