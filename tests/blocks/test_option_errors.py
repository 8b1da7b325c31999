"""What a block refuses of its own options, with a remedy that works."""

import ast
import re

import pytest

from medseg.blocks import conv, skip, unit, upsample

from .test_errors import refused

NOT_A_COUNT = [0, -1, 2.0, "4", None, True, [2]]
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
    (upsample.Interpolate, "mode", ("linear", "nearest"), ["bilinear", None]),
]
TOO_NARROW = [
    (unit.Bottleneck, "reduction", 8, 4),
    (unit.Fire, "squeeze", 5, 4),
    (unit.Dense, "layers", 7, 6),
]


@pytest.mark.parametrize(("block", "name"), COUNTS)
def test_what_is_no_number_of_things_is_refused(block, name) -> None:
    for value in NOT_A_COUNT:
        if (name, value) == ("growth", None):
            continue
        with refused(f"{name}={value!r}", "whole number ≥ 1", "for instance 4"):
            block(**{name: value})
    assert getattr(block(**{name: 4}), name) == 4


@pytest.mark.parametrize(("block", "name", "choices", "wrong"), CHOICES)
def test_what_is_none_of_the_choices_is_refused(block, name, choices, wrong) -> None:
    listed = ", ".join(map(str, choices))
    for value in wrong:
        with refused(f"{name}={value!r}", f"one of {listed}", f"choose {choices[0]}"):
            block(**{name: value})
    for choice in choices:
        assert getattr(block(**{name: choice}), name) == choice


@pytest.mark.parametrize(("block", "name", "value", "channels"), TOO_NARROW)
def test_a_divisor_that_leaves_no_channel_is_refused(block, name, value, channels) -> None:
    remedy = f"choose {name}={channels} or less"
    with refused(f"{name}={value}", f"leaves no channel of out_channels={channels}", remedy):
        block(**{name: value})(2, 4, channels, conv.Standard())
    block(**{name: channels})(2, 4, channels, conv.Standard())


@pytest.mark.parametrize(("block", "least"), [(unit.Inception, 4), (unit.Fire, 2)])
def test_a_unit_of_branches_names_the_channels_that_it_needs(block, least) -> None:
    options = {"squeeze": 1} if block is unit.Fire else {}
    with pytest.raises(ValueError, match=f"{least - 1}.*choose") as error:
        block(**options)(2, 4, least - 1, conv.Standard())
    advised = re.search(r"choose (\w+)=", str(error.value))
    fields = {"in_channels", "out_channels", "channels", *vars(block(**options))}
    assert advised is None or advised[1] in fields, str(error.value)
    block(**options)(2, 4, least, conv.Standard())


@pytest.mark.parametrize("rates", [1, 2, 5])
def test_rates_that_are_one_number_are_refused(rates) -> None:
    with refused(f"rates={rates}", "must be a list", "for instance [1, 2, 5]"):
        conv.DilatedSchedule(rates=rates)
    conv.DilatedSchedule(rates=[rates])
    conv.Dilated(dilation=rates)


@pytest.mark.parametrize("rates", [[], "12", None, [2.0], [1, True], {}])
def test_rates_that_are_no_list_of_numbers_are_refused(rates) -> None:
    with refused(f"rates={rates!r}", "must", "for instance") as error:
        conv.DilatedSchedule(rates=rates)
    advised = re.search(r"for instance (.+)$", str(error.value))
    assert advised is not None
    conv.DilatedSchedule(rates=ast.literal_eval(advised[1]))


@pytest.mark.parametrize("rates", [[1, 0], [-1]])
def test_a_rate_below_one_is_refused(rates) -> None:
    with refused(f"rates={rates!r}", "whole numbers ≥ 1", "for instance [1, 2, 5]"):
        conv.DilatedSchedule(rates=rates)
    conv.DilatedSchedule(rates=[1, 1])


@pytest.mark.parametrize(
    ("inputs", "outputs", "nearest"), [(4, 6, 4), (12, 5, 4), (12, 7, 6), (7, 3, 1)]
)
def test_channels_that_do_not_add_up_are_refused(inputs, outputs, nearest) -> None:
    rule = f"must be a multiple of out_channels={outputs}"
    with refused(f"in_channels={inputs}", rule, f"choose channels={nearest} there"):
        upsample.AdditiveInterpolate()(2, inputs, outputs, 2)
    upsample.AdditiveInterpolate()(2, inputs, nearest, 2)


def test_an_attention_gate_has_a_channel_whatever_its_reduction() -> None:
    assert skip.Attention(reduction=64)(2, 4).out_channels == 8


@pytest.mark.parametrize("block", [conv.Deformable, conv.SmoothedDilated])
def test_a_kernel_must_fit_the_dimension_of_the_network(block) -> None:
    with refused("kernel_size=(3, 3)", "has 2 axes, the network has 3", "give one number, or 3"):
        block(kernel_size=(3, 3))(3, 4, 4)
