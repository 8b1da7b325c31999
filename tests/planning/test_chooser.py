"""How memory and time are traded: a network whose bytes and seconds are known."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from medseg.errors import ResourceError
from medseg.planning.network import PlannedNetwork
from medseg.planning.planner import WIDTHS, Chooser, choose_like_nnunet, grid_of
from medseg.planning.rules import Shape

from .fingerprints import made

DATA = {"spatial_dims": 3, "slice_axis": 2, "spacing": None}
FACTS = made((1.0,) * 3, (300, 280, 200), cases=40)
GRID = grid_of(FACTS, DATA, ())
OWN = choose_like_nnunet(GRID, num_classes=2, memory_gb=8)


@dataclass(frozen=True, kw_only=True)
class Known(PlannedNetwork):
    """Takes a byte and `seconds` for each voxel and channel of the finest stage."""

    seconds: float = 0.0
    asked: list = field(default_factory=list)

    def training_bytes(self, shape: Shape, first_width: int, batch: int) -> int:
        self.asked.append(shape)
        return math.prod(shape.patch) * first_width * batch

    def seconds_per_voxel(self, shape: Shape, first_width: int) -> float:
        return self.seconds * first_width


def chosen(memory: float, seconds: float = 0.0, limit: float = math.inf, **given):
    network = Known(
        description={},
        in_channels=1,
        device=torch.device("cpu"),
        precision="fp32",
        is_free=True,
        seconds=seconds,
    )
    chooser = Chooser(
        grid=GRID,
        network=network,
        num_classes=2,
        memory_bytes=int(memory),
        step_seconds=limit,
        **given,
    )
    choice = chooser.choose()
    assert len(network.asked) < 25
    return choice


@pytest.mark.parametrize("memory", [1e7 / 2, 1e8, 1e9, 1e10])
def test_patch_is_the_largest_that_memory_holds_two_of(memory) -> None:
    choice = chosen(memory)
    assert choice.bytes is not None
    assert choice.bytes <= memory
    fits = math.prod(choice.shape.patch) * 32 * 2
    assert fits <= memory
    larger = chosen(memory * 4)
    assert math.prod(larger.shape.patch) >= math.prod(choice.shape.patch)


def test_no_room_is_refused() -> None:
    with pytest.raises(ResourceError, match="--memory"):
        chosen(1e3)


@pytest.mark.parametrize(
    "given", [{"patch": [9999] * 3}, {"batch": 10**6}, {"patch": [48] * 3, "batch": 10**6}], ids=str
)
def test_what_no_memory_holds_is_refused_although_it_is_given(given) -> None:
    with pytest.raises(ResourceError, match="--memory"):
        chosen(1e9, **given)


def test_a_patch_or_batch_that_is_given_stays() -> None:
    assert chosen(1e9, patch=[48, 40, 32]).shape.patch == (48, 40, 32)
    assert chosen(1e12, batch=3).batch == 3


def test_speed_first_costs_what_is_beyond_nnunets_own_plan() -> None:
    step = 2 * math.prod(OWN.shape.patch) * 32
    choice = chosen(1e12, seconds=1 / step, limit=1.01)
    assert choice.shape == OWN.shape
    assert (choice.first_width, choice.batch) == (WIDTHS[0], OWN.batch)


def test_then_the_width_and_at_last_the_patch() -> None:
    step = 2 * math.prod(OWN.shape.patch) * 32
    narrow = chosen(1e12, seconds=1 / step, limit=0.6)
    assert (narrow.shape, narrow.first_width) == (OWN.shape, WIDTHS[1])
    small = chosen(1e12, seconds=1 / step, limit=0.1)
    assert small.first_width == WIDTHS[1]
    assert small.batch == 2
    assert math.prod(small.shape.patch) < math.prod(OWN.shape.patch)
    assert small.seconds is not None
    assert small.seconds <= 0.1


def test_what_is_too_slow_at_any_size_is_planned_and_its_time_is_known() -> None:
    choice = chosen(1e12, seconds=1.0, limit=0.1)
    assert choice.seconds is not None
    assert choice.seconds > 0.1
