"""Which stacks of dilated convolutions leave holes, by formula and by counting voxels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from medseg.analysis.gridding import gridding, gridding_warnings, skipped_voxels
from medseg.blocks import conv, unit
from medseg.checkerboard.convolutions import largest_gap
from medseg.models.description import build_network
from medseg.models.stage import make_stage

from ..models.networks import block, unet


def is_reached(rates: list[int], kernel: int) -> torch.Tensor:
    """Which voxels along an axis one output depends on, by the gradient."""
    extent = sum(rates) * (kernel - 1) + 1
    line = torch.zeros(1, 1, extent, requires_grad=True)
    out = line
    for rate in rates:
        out = functional.conv1d(out, torch.ones(1, 1, kernel), dilation=rate)
    out.sum().backward()
    assert out.numel() == 1
    assert line.grad is not None
    return line.grad.flatten() > 0


@pytest.mark.parametrize(
    ("rates", "gap"),
    [([1, 2, 5], 2), ([1, 2, 9], 5), ([2, 4, 8], 4), ([2, 2, 2], 2), ([3, 3, 3], 3), ([4], 4)],
)
def test_the_gaps_of_the_paper(rates, gap) -> None:
    assert largest_gap(rates) == gap


@given(rates=st.lists(st.integers(1, 9), min_size=1, max_size=4), kernel=st.sampled_from([3, 5, 7]))
def test_skipped_voxels_are_those_without_a_gradient(rates, kernel) -> None:
    found = is_reached(rates, kernel)
    expected = int((~found).sum()), len(found)
    taps = [(kernel, rate) for rate in rates]
    assert skipped_voxels(taps) == expected
    assert (gridding(taps) is None) == (expected[0] == 0)


@pytest.mark.parametrize("rates", [[2], [2, 2, 2], [3, 3], [2, 4, 8], [6, 3]])
def test_a_common_factor_is_named(rates) -> None:
    assert f"the common factor {min(rates)}" in str(gridding([(3, rate) for rate in rates]))


def test_a_gap_without_a_common_factor_is_named() -> None:
    problem = str(gridding([(3, 1), (3, 2), (3, 9)]))
    assert "skip 4 of the 25 voxels" in problem
    assert problem.endswith("gap (HDC) is 5")
    assert gridding([(5, 1), (5, 2), (5, 9)]) is None


class TestWarnings:
    def test_a_fixed_dilation_is_named_with_its_stages_and_a_remedy(self) -> None:
        network = build_network(unet(conv=block("conv.Dilated"), depths=2))
        (warning,) = [w for w in gridding_warnings(network) if "dilations 2, 2" in w]
        assert "encoder.stages.1" in warning
        assert "decoder.stages.0" in warning
        assert "common factor 2" in warning
        assert "conv=dilated_schedule" in warning

    @pytest.mark.parametrize(
        "spec", [conv.Standard(), conv.DilatedSchedule(), conv.SmoothedDilated(), conv.Depthwise()]
    )
    def test_others_are_not_warned_of(self, spec) -> None:
        assert not gridding_warnings(make_stage(unit.Plain(), spec, 2, 8, 8, 3))

    def test_an_axis_with_one_tap_does_not_count(self) -> None:
        flat = conv.Dilated(kernel_size=(1, 3), dilation=(4, 1))
        assert not gridding_warnings(make_stage(unit.Plain(), flat, 2, 4, 4, 2))
        steep = conv.Dilated(kernel_size=(1, 3), dilation=(1, 4))
        assert gridding_warnings(make_stage(unit.Plain(), steep, 2, 4, 4, 2))

    def test_the_schedule_is_judged_at_the_depth_of_the_stage(self) -> None:
        spec = conv.DilatedSchedule(rates=(2, 1))
        assert gridding_warnings(make_stage(unit.Plain(), spec, 2, 4, 4, 1))
        assert not gridding_warnings(make_stage(unit.Plain(), spec, 2, 4, 4, 2))
