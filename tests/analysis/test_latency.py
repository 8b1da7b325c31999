"""Equal times by a clock that counts parameters instead of seconds."""

from typing import Any

import pytest
import torch

from medseg.analysis import latency
from medseg.analysis.latency import match_latency
from medseg.analysis.match import match
from medseg.analysis.quantity import LATENCY, Load
from medseg.analysis.timing import CpuClock
from medseg.errors import ConfigError, ResourceError

from ..models.networks import block, unet

LOAD = Load(in_channels=1, patch_size=(16, 16))
REFERENCE = unet(channels=(16, 32, 64))
OTHER = unet(channels=(16, 32, 64), conv=block("conv.DepthwiseSeparable"))


class CountingClock:
    """A step takes a millisecond, and one more for every thousand weights; noise is added."""

    def __init__(self, noise: float = 0.0):
        self.random = torch.Generator().manual_seed(0)
        self.noise, self.calls = noise, 0

    def milliseconds(self, call: Any) -> float:
        self.calls += 1
        weights = sum(leaf.numel() for leaf in call.leaves)
        return (1 + weights / 1000) * (
            1 + self.noise * float(torch.randn((), generator=self.random))
        )


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_equal_times_in_few_measurements(noise: float) -> None:
    clock = CountingClock(noise)
    found = match_latency(REFERENCE, OTHER, LOAD, clock=clock, rounds=5)
    assert abs(found.error) <= 0.05
    measurements, rest = divmod(clock.calls, 2 * (5 + 1))
    assert rest == 0
    assert 1 <= measurements <= 10


def test_without_noise_the_times_are_those_of_the_clock() -> None:
    found = match(REFERENCE, OTHER, LATENCY, LOAD, clock=CountingClock(), tolerance=0.01)
    exact = CountingClock()
    step = latency._training_step(found.description, LOAD, torch.device("cpu"))
    assert found.value == exact.milliseconds(step)
    assert abs(found.error) <= 0.01


def test_the_multiple_holds() -> None:
    found = match_latency(REFERENCE, OTHER, LOAD, clock=CountingClock(), multiple_of=8)
    assert all(width % 8 == 0 for width in found.widths[("encoder", "channels")])


def test_a_network_that_is_slower_at_any_width_is_refused() -> None:
    class Slow(CountingClock):
        def milliseconds(self, call: Any) -> float:
            weights = sum(leaf.numel() for leaf in call.leaves)
            return 1.0 if weights == self.reference else 2.0

    clock = Slow()
    step: Any = latency._training_step(REFERENCE, LOAD, torch.device("cpu"))
    clock.reference = sum(leaf.numel() for leaf in step.leaves)
    with pytest.raises(ConfigError, match=r"latency=1 is less than .* \[1, 1, 1\], 2; choose"):
        match_latency(REFERENCE, OTHER, LOAD, clock=clock)


def test_a_step_that_fails_is_said() -> None:
    class Broken(CountingClock):
        def milliseconds(self, call: Any) -> float:
            raise RuntimeError("out of memory")

    with pytest.raises(ResourceError, match="a training step failed: out of memory; choose"):
        match_latency(REFERENCE, OTHER, LOAD, clock=Broken())


def test_the_real_clock_measures_a_real_step() -> None:
    small = unet(channels=(2, 4), strides=(1, 2))
    found = match_latency(small, small, LOAD, clock=CpuClock(), rounds=1, tolerance=0.9)
    assert found.value > 0
    assert found.wanted > 0
