"""Where widths are named, how they are rounded, and which multiples blocks ask for."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.analysis.cost import Load, measure
from medseg.analysis.match import scale_for
from medseg.analysis.widths import (
    Scale,
    fitting_scale,
    levels_of,
    widths_of,
    with_levels,
)
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, unet
from .widths import scaled

LOAD = Load(in_channels=1, patch_size=(32, 32))
FACTORS = st.floats(0.01, 20)


def monai(name: str, **options: Any) -> dict[str, Any]:
    network = {"name": f"monai.{name}", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    return {"name": "models.padding.Padded", "multiple": 16, "network": network | options}


def test_both_halves_are_named() -> None:
    found = widths_of(unet(channels=(4, 8, 8)))
    assert found == {("encoder", "channels"): [4, 8, 8], ("decoder", "channels"): [4, 8, 8]}
    assert levels_of(unet(channels=(4, 8, 8))) == (4, 8)


@pytest.mark.parametrize(
    ("options", "key", "wider"),
    [
        (("UNet", {"channels": [4, 8], "strides": [2]}), "channels", [8, 16]),
        (("BasicUNet", {"features": [4, 4, 8, 8, 16, 4]}), "features", [8, 8, 16, 16, 32, 8]),
        (("MedNeXt", {"init_filters": 4}), "init_filters", 8),
        (("SegResNet", {"init_filters": 8}), "init_filters", 16),
    ],
)
def test_networks_of_monai_have_their_own_keys(options, key, wider) -> None:
    name, widths = options
    assert scaled(monai(name, **widths), 2)["network"][key] == wider


def test_a_network_without_widths_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"names no widths.*give one of channels"):
        widths_of(monai("SegResNet"))


def test_everything_but_the_widths_stays_and_the_original_too() -> None:
    before = unet(decoder="full_scale", of_decoder={"width": 4}, unit=block("unit.Dense", growth=4))
    kept = copy.deepcopy(before)
    after = scaled(before, 3)
    assert before == kept
    assert after == unet(
        decoder="full_scale",
        channels=(12, 24, 24),
        of_decoder={"width": 12},
        unit=block("unit.Dense", growth=4),
    )


@given(low=FACTORS, high=FACTORS, multiple=st.sampled_from([1, 3, 8]), ratio=st.booleans())
def test_wider_by_a_larger_factor_on_every_level_and_in_order(low, high, multiple, ratio) -> None:
    low, high = sorted((low, high))
    scale = Scale(levels=(4, 8, 20), multiple=multiple, proportional=ratio)
    narrow, wide = scale.at(low), scale.at(high)
    assert all(a <= b for a, b in zip(narrow, wide, strict=True))
    assert list(narrow) == sorted(narrow)
    assert all(width >= multiple and width % multiple == 0 for width in narrow + wide)
    if ratio:
        assert narrow[1:] == (2 * narrow[0], 5 * narrow[0])


@pytest.mark.parametrize("quantity", ["parameters", "macs"])
@settings(max_examples=8)
@given(levels=st.lists(st.integers(1, 40), min_size=3, max_size=3), step=st.integers(1, 9))
def test_a_wider_network_costs_more(quantity, levels, step) -> None:
    base = unet(channels=(4, 8, 16))
    narrow = sorted(levels)
    wide = [width + step for width in narrow]
    costs = [measure(quantity, with_levels(base, own), LOAD) for own in (narrow, wide)]
    assert costs[0] < costs[1]


@pytest.mark.parametrize(
    ("slots", "multiple", "proportional"),
    [
        ({}, 1, False),
        ({"conv": block("conv.DepthwiseSeparable")}, 1, False),
        ({"conv": block("conv.Grouped", groups=3)}, 3, False),
        ({"unit": block("unit.Plain", norm=block("norm.Group", groups=4))}, 4, False),
        ({"upsample": block("upsample.AdditiveInterpolate")}, 1, True),
        ({"conv": block("conv.Depthwise")}, 1, True),
    ],
)
def test_the_smallest_multiple_that_the_blocks_accept(slots, multiple, proportional) -> None:
    base = unet(channels=(12, 24, 48), **slots)
    scale = scale_for(base, LOAD)
    assert (scale.multiple, scale.proportional) == (multiple, proportional)
    for factor in (0.3, 0.7, 1.9):
        build_network(with_levels(base, scale.at(factor)))


def test_the_multiple_asked_for_and_that_of_the_blocks_both_hold() -> None:
    base = unet(channels=(12, 24, 48), conv=block("conv.Grouped", groups=4))
    assert scale_for(base, LOAD, multiple_of=6).multiple == 12


def test_what_no_multiple_satisfies_is_refused() -> None:
    never: Callable[..., bool] = lambda description: False  # noqa: E731
    with pytest.raises(ConfigError, match=r"\[4, 8\] can be scaled to no multiple.*fewer groups"):
        fitting_scale(MONAI_UNET, never)
