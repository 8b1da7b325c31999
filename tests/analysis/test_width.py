"""Networks brought to equal cost: how near, how honestly, and what is out of reach."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from medseg.analysis.cost import count_macs, count_parameters
from medseg.analysis.match import match
from medseg.analysis.quantity import QUANTITIES, Load, abstract_network, cost, measure
from medseg.analysis.width import solve_width
from medseg.analysis.widths import scale_widths, widths_of
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import assert_it_trains, block, unet

CHANNELS = (16, 32, 64)
# two patches: of one small one torch's CPU library keeps a copy that does not grow with the width
LOADS = {
    2: Load(in_channels=1, patch_size=(32, 32), batch=2),
    3: Load(in_channels=1, patch_size=(16, 16, 16), batch=2),
}
OTHERS: dict[str, dict[str, Any]] = {
    "separable": {"conv": block("conv.DepthwiseSeparable")},
    "grouped": {"conv": block("conv.Grouped", groups=2)},
    "dilated, deeper": {"conv": block("conv.Dilated"), "depths": 2},
    "bilinear": {"upsample": block("upsample.Interpolate")},
    "nested": {"decoder": "nested"},
    "residual": {"unit": block("unit.Residual")},
}
DYNUNET = {
    "name": "monai.DynUNet",
    "in_channels": 1,
    "out_channels": 3,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [16, 32, 64],
}


@pytest.mark.parametrize("dims", LOADS)
@pytest.mark.parametrize("quantity", ["parameters", "macs"])
@pytest.mark.parametrize("name", [*OTHERS, "of MONAI"])
def test_equal_within_a_percent(name: str, quantity: str, dims: int) -> None:
    reference = unet(dims, channels=CHANNELS)
    slots = OTHERS.get(name)
    other = {**DYNUNET, "spatial_dims": dims} if slots is None else _other(dims, slots)
    found = match(reference, other, quantity, LOADS[dims], tolerance=0.005)
    assert abs(found.error) < 0.01
    assert found.wanted == measure(quantity, reference, LOADS[dims])
    network, load = build_network(found.description), LOADS[dims]
    counted = {
        "parameters": count_parameters(network),
        "macs": count_macs(network, 1, load.patch_size),
    }
    assert found.value == counted[quantity]


def _other(dims: int, slots: dict[str, Any]) -> dict[str, Any]:
    return unet(dims, **{"channels": CHANNELS, **slots})


def test_a_network_equals_itself_without_a_change() -> None:
    base = unet(channels=CHANNELS)
    found = match(base, base, "parameters", LOADS[2])
    assert (found.description, found.error) == (base, 0)


def test_the_same_question_has_the_same_answer() -> None:
    other = _other(2, OTHERS["separable"])
    first, second = (solve_width(other, 54321, "parameters", LOADS[2]) for _ in range(2))
    assert first == second


def test_a_matched_network_trains() -> None:
    reference, other = (
        unet(channels=(4, 8, 8)),
        unet(channels=(4, 8, 8), conv=block("conv.Dilated")),
    )
    found = match(reference, {**other, "num_classes": 3}, "macs", LOADS[2])
    assert_it_trains(build_network(found.description), torch.randn(2, 1, 16, 16))


@pytest.mark.parametrize("groups", [4, 8])
def test_widths_stay_multiples_of_the_groups_and_halves_stay_mirrored(groups: int) -> None:
    other = unet(channels=CHANNELS, conv=block("conv.Grouped", groups=groups))
    found = match(unet(channels=CHANNELS), other, "parameters", LOADS[2])
    assert found.multiple == groups
    assert found.widths[("encoder", "channels")] == found.widths[("decoder", "channels")]
    assert all(width % groups == 0 for width in found.widths[("encoder", "channels")])
    assert abs(found.error) < 0.03


@pytest.mark.parametrize("quantity", ["memory", "inference_memory"])
def test_memory_is_as_near_as_one_multiple_of_the_widths(quantity: str) -> None:
    other = _other(2, OTHERS["separable"])
    found = match(unet(channels=CHANNELS), other, quantity, LOADS[2], tolerance=0.03)
    step = 1 / min(found.widths[("encoder", "channels")])
    assert abs(found.error) < step


def test_deep_supervision_counts_in_training_memory() -> None:
    plain, deep = (
        cost(unet(channels=CHANNELS, deep_supervision=on), LOADS[2]) for on in (False, True)
    )
    assert deep.memory > plain.memory
    assert deep.macs == plain.macs


def test_a_network_of_monai_with_deep_supervision_is_costed_too() -> None:
    deep = {**DYNUNET, "spatial_dims": 2, "deep_supervision": True}
    assert cost(deep, LOADS[2]).memory > cost({**DYNUNET, "spatial_dims": 2}, LOADS[2]).memory


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_quantity_grows_with_the_factor(quantity: str) -> None:
    factors = (0.25, 0.5, 1, 1.5, 3)
    networks = [scale_widths(unet(channels=CHANNELS), factor) for factor in factors]
    found = [measure(quantity, network, LOADS[2]) for network in networks]
    assert all(a < b for a, b in pairwise(found))


def test_a_batch_needs_more_memory_and_no_more_macs() -> None:
    twice = replace(LOADS[2], batch=4)
    one, two = (cost(unet(channels=CHANNELS), load) for load in (LOADS[2], twice))
    assert two.memory > 1.9 * one.memory
    assert two.macs == one.macs


def test_an_abstract_network_holds_no_values() -> None:
    vast = unet(channels=(2**13, 2**14), strides=(1, 2))
    assert all(p.is_meta for p in abstract_network(vast).parameters())


def test_less_than_the_narrowest_network_is_refused() -> None:
    message = r"parameters=10 is less than .* smallest widths \[1, 1, 1\], \d+; choose a larger"
    with pytest.raises(ConfigError, match=message):
        solve_width(unet(channels=CHANNELS), 10, "parameters", LOADS[2])


def test_less_than_the_narrowest_network_that_can_be_built_is_refused() -> None:
    unit = block("unit.Bottleneck", reduction=8)
    with pytest.raises(ConfigError, match=r"parameters=40 is less than .* \[8, 1[56], 3[0-2]\]"):
        solve_width(unet(channels=CHANNELS, unit=unit), 40, "parameters", LOADS[2])


def test_more_than_any_width_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"is not reached by widths up to 16384; choose a smaller"
    ):
        solve_width(unet(channels=CHANNELS), 1e15, "parameters", LOADS[2])


@pytest.mark.parametrize("wanted", [0, -5, float("nan"), float("inf")])
def test_a_wanted_amount_is_positive_and_finite(wanted: float) -> None:
    with pytest.raises(ConfigError, match=r"macs=.* must be positive and finite"):
        solve_width(unet(), wanted, "macs", LOADS[2])


@pytest.mark.parametrize("tolerance", [-0.1, 1, float("nan")])
def test_a_tolerance_is_a_share(tolerance: float) -> None:
    with pytest.raises(ConfigError, match=r"tolerance=.* must lie in \[0, 1\)"):
        solve_width(unet(), 1000, "macs", LOADS[2], tolerance=tolerance)


def test_an_unknown_quantity_is_refused() -> None:
    with pytest.raises(ConfigError, match="quantity='speed' must be one of parameters, macs"):
        match(unet(), unet(), "speed", LOADS[2])


def test_a_patch_that_does_not_pass_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not pass"):
        match(unet(), unet(), "macs", LOADS[3])


def test_one_number_of_widths_is_the_nearest_there_is() -> None:
    other = {
        "name": "monai.SegResNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 3,
        "init_filters": 8,
    }
    found = match(scale_widths(other, 3), {**other}, "parameters", LOADS[2])
    assert (found.error, found.multiple) == (0, 8)
    assert widths_of(found.description) == {("init_filters",): [24]}
