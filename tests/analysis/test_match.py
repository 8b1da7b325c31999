"""Networks brought to equal cost: how near, how repeatably, and what is out of range."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from medseg.analysis.cost import (
    LATENCY,
    QUANTITIES,
    Load,
    costs,
    count_macs,
    count_parameters,
    measure,
)
from medseg.analysis.match import TrainingStep, match, match_latency, solve_width
from medseg.analysis.timing import cpu_milliseconds
from medseg.analysis.widths import widths_of
from medseg.errors import ConfigError, ResourceError
from medseg.models.description import build_network

from ..models.networks import block, unet
from .widths import scaled

CHANNELS = (16, 32, 64)
# two patches: of one small one torch's CPU library keeps a copy that does not grow with the width
LOADS = {
    2: Load(in_channels=1, patch_size=(32, 32), batch=2),
    3: Load(in_channels=1, patch_size=(16, 16, 16), batch=2),
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
OTHERS: dict[str, dict[str, Any]] = {
    "separable": {"conv": block("conv.DepthwiseSeparable")},
    "dilated, deeper": {"conv": block("conv.Dilated"), "depths": 2},
    "bilinear": {"upsample": block("upsample.Interpolate")},
    "residual": {"unit": block("unit.Residual")},
    "MONAI": {},
}


def other_network(name: str, dims: int) -> dict[str, Any]:
    if name == "MONAI":
        return {**DYNUNET, "spatial_dims": dims}
    return unet(dims, **{"channels": CHANNELS, **OTHERS[name]})


@pytest.mark.parametrize(
    ("name", "quantity", "dims"),
    [
        (name, ("parameters", "macs")[place // 2 % 2], 2 + (place % 2 and name != "residual"))
        for place, name in enumerate(OTHERS)
    ],
)
def test_equal_within_a_percent(name: str, quantity: str, dims: int) -> None:
    reference, load = unet(dims, channels=CHANNELS), LOADS[dims]
    found = match(reference, other_network(name, dims), quantity, load, tolerance=0.005)
    assert abs(found.error) < 0.01
    assert found.wanted == measure(quantity, reference, load)
    network = build_network(found.description)
    counted = {
        "parameters": count_parameters(network),
        "macs": count_macs(network, 1, load.patch_size),
    }
    assert found.value == counted[quantity]


def test_the_same_question_has_the_same_answer() -> None:
    other = other_network("separable", 2)
    first, second = (solve_width(other, 54321, "parameters", LOADS[2]) for _ in range(2))
    assert first == second
    base = unet(channels=CHANNELS)
    itself = match(base, base, "parameters", LOADS[2])
    assert (itself.description, itself.error) == (base, 0)


def test_widths_stay_multiples_of_the_groups_and_halves_stay_mirrored() -> None:
    groups = 8
    other = unet(channels=CHANNELS, conv=block("conv.Grouped", groups=groups))
    found = match(unet(channels=CHANNELS), other, "parameters", LOADS[2])
    assert found.multiple == groups
    assert found.widths[("encoder", "channels")] == found.widths[("decoder", "channels")]
    assert all(width % groups == 0 for width in found.widths[("encoder", "channels")])
    assert abs(found.error) < 0.03


def test_memory_is_as_near_as_one_multiple_of_the_widths() -> None:
    other = other_network("separable", 2)
    found = match(unet(channels=CHANNELS), other, "inference_memory", LOADS[2], tolerance=0.03)
    step = 1 / min(found.widths[("encoder", "channels")])
    assert abs(found.error) < step


def test_one_number_of_widths_is_the_nearest_there_is() -> None:
    other = {
        "name": "monai.SegResNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 3,
        "init_filters": 8,
    }
    found = match(scaled(other, 3), {**other}, "parameters", LOADS[2])
    assert (found.error, found.multiple) == (0, 8)
    assert widths_of(found.description) == {("init_filters",): [24]}


class TestQuantities:
    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_every_quantity_grows_with_the_widths(self, quantity: str) -> None:
        networks = [scaled(unet(channels=CHANNELS), factor) for factor in (0.5, 1, 2)]
        found = [measure(quantity, network, LOADS[2]) for network in networks]
        assert all(a < b for a, b in pairwise(found))

    def test_deep_supervision_counts_in_training_memory(self) -> None:
        plain, deep = (
            costs(unet(channels=CHANNELS, deep_supervision=on), LOADS[2]) for on in (False, True)
        )
        assert deep["memory"] > plain["memory"]
        assert deep["macs"] == plain["macs"]
        own = {**DYNUNET, "spatial_dims": 2}
        several = measure("memory", {**own, "deep_supervision": True}, LOADS[2])
        assert several > measure("memory", own, LOADS[2])

    def test_a_batch_needs_more_memory_and_no_more_macs(self) -> None:
        twice = replace(LOADS[2], batch=4)
        one, two = (costs(unet(channels=CHANNELS), load) for load in (LOADS[2], twice))
        assert two["memory"] > 1.9 * one["memory"]
        assert two["macs"] == one["macs"]


@pytest.mark.parametrize(
    ("network", "wanted", "options", "words"),
    [
        ({}, 10, {}, r"parameters=10 is less than .* \[1, 1, 1\], \d+; choose a larger"),
        ({"unit": block("unit.Bottleneck", reduction=8)}, 40, {}, r"=40 .* \[8, 1[56], 3[0-2]\]"),
        ({}, 1e15, {}, "up to 16384; choose a smaller"),
        *(({}, bad, {}, "parameters=") for bad in (0, -5, float("nan"), float("inf"))),
        *(({}, 1000, {"tolerance": bad}, "tolerance=") for bad in (-0.1, 1, float("nan"))),
        ({}, 1000, {"load": LOADS[3]}, "does not pass"),
    ],
)
def test_amounts_out_of_reach_and_options_without_sense_are_refused(
    network: dict, wanted: float, options: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        solve_width(
            unet(channels=CHANNELS, **network),
            wanted,
            "parameters" if "load" not in options else "macs",
            **{"load": LOADS[2]} | options,
        )


def test_an_unknown_quantity_is_refused() -> None:
    with pytest.raises(ConfigError, match="quantity='speed'"):
        match(unet(), unet(), "speed", LOADS[2])


LOAD = Load(in_channels=1, patch_size=(16, 16))
REFERENCE = unet(channels=CHANNELS)
SEPARABLE = unet(channels=CHANNELS, conv=block("conv.DepthwiseSeparable"))


def weights_of(step: Any) -> int:
    return sum(parameter.numel() for parameter in step.parameters)


class CountingClock:
    """A step takes a millisecond, and one more for every thousand weights; noise is added."""

    def __init__(self, noise: float = 0.0):
        self.random = torch.Generator().manual_seed(0)
        self.noise, self.calls = noise, 0

    def __call__(self, call: Any) -> float:
        self.calls += 1
        noise = self.noise * float(torch.randn((), generator=self.random))
        return (1 + weights_of(call) / 1000) * (1 + noise)


class TestLatency:
    @pytest.mark.parametrize("noise", [0.0, 0.02])
    def test_equal_times_in_few_measurements(self, noise: float) -> None:
        clock = CountingClock(noise)
        found = match_latency(REFERENCE, SEPARABLE, LOAD, clock=clock, rounds=5)
        assert abs(found.error) <= 0.05
        measurements, rest = divmod(clock.calls, 2 * (5 + 1))
        assert rest == 0
        assert 1 <= measurements <= 10

    def test_without_noise_the_times_are_those_of_the_clock(self) -> None:
        found = match(REFERENCE, SEPARABLE, LATENCY, LOAD, clock=CountingClock(), tolerance=0.01)
        step = TrainingStep(found.description, LOAD, torch.device("cpu"))
        assert found.value == CountingClock()(step)
        assert abs(found.error) <= 0.01

    def test_a_network_that_is_slower_at_any_width_is_refused(self) -> None:
        reference = weights_of(TrainingStep(REFERENCE, LOAD, torch.device("cpu")))

        class Slow(CountingClock):
            def __call__(self, call: Any) -> float:
                return 1.0 if weights_of(call) == reference else 2.0

        with pytest.raises(ConfigError, match=r"latency=1 is less than .* \[1, 1, 1\], 2; choose"):
            match_latency(REFERENCE, SEPARABLE, LOAD, clock=Slow())

    def test_a_step_that_fails_is_refused_with_its_reason(self) -> None:
        class Broken(CountingClock):
            def __call__(self, call: Any) -> float:
                raise RuntimeError("out of memory")

        with pytest.raises(ResourceError, match="out of memory; choose"):
            match_latency(REFERENCE, SEPARABLE, LOAD, clock=Broken())

    def test_the_real_clock_measures_a_real_step(self) -> None:
        small = unet(channels=(2, 4), strides=(1, 2))
        found = match_latency(small, small, LOAD, clock=cpu_milliseconds, rounds=1, tolerance=0.9)
        assert found.value > 0
        assert found.wanted > 0
