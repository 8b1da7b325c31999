"""The line test: finds a pattern at its harmonic, and nothing in noise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.checkerboard.spectrum import grid_line

SHAPES = {1: (200,), 2: (60, 64), 3: (26, 28, 30)}


def wave(shape, period, harmonic) -> torch.Tensor:
    places = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    parts = zip(places, period, harmonic, strict=True)
    return torch.cos(2 * math.pi * sum(k * n / s for n, s, k in parts) + 0.4)


class TestFinding:
    @pytest.mark.parametrize(
        ("period", "harmonic"),
        [
            ((2,), (1,)),
            ((4,), (1,)),
            ((4,), (2,)),
            ((3,), (1,)),
            ((2, 2), (1, 1)),
            ((2, 4), (0, 2)),
            ((4, 4), (1, 3)),
            ((1, 3), (0, 1)),
            ((2, 2, 2), (1, 0, 1)),
        ],
    )
    def test_a_pattern_at_its_harmonic(self, period, harmonic) -> None:
        shape = SHAPES[len(period)]
        line = grid_line(torch.randn(shape) + 2 * wave(shape, period, harmonic), period)
        assert line.harmonic == harmonic
        assert line.p_value < 0.01
        assert line.decibel > 10

    def test_a_faint_pattern_in_most_maps(self) -> None:
        pattern = 0.06 * math.sqrt(2) * wave((64, 64), (2, 2), (1, 1)) / math.cos(0.4)
        found = [grid_line(torch.randn(64, 64) + pattern, (2, 2)).p_value for _ in range(50)]
        assert sum(p <= 0.05 for p in found) >= 40

    @settings(deadline=None, max_examples=20)
    @given(st.floats(0.01, 100), st.floats(-10, 10), st.integers(0, 5))
    def test_scale_and_offset_change_nothing(self, factor, offset, seed) -> None:
        generator = torch.manual_seed(seed)
        signal = torch.rand(40, 40, dtype=torch.float64, generator=generator)
        one, two = (grid_line(z, (2, 3)) for z in (signal, -factor * signal + factor * offset))
        assert two.harmonic == one.harmonic
        assert two.p_value == pytest.approx(one.p_value, rel=1e-6)


class TestNothingToFind:
    @pytest.mark.parametrize("constant", [0.0, 1 / 3])
    @pytest.mark.parametrize("step", [2, 3])
    def test_a_constant_and_a_ramp(self, constant, step) -> None:
        flat = torch.full((50, 50), constant)
        assert grid_line(flat, (step, step)) is None
        assert grid_line(flat + torch.arange(50.0) / 3, (step, step)) is None

    @pytest.mark.parametrize(
        ("shape", "period", "message"),
        [((25, 40), (2, 2), "12 periods"), ((40,), (1,), "one phase"), ((51,), (4,), "12 periods")],
    )
    def test_maps_that_are_too_small(self, shape, period, message) -> None:
        with pytest.raises(ValueError, match=message):
            grid_line(torch.rand(shape), period)

    @pytest.mark.parametrize("period", [(2,), (8,), (2, 2), (1, 2), (3, 2), (2, 2, 2)])
    def test_the_smallest_map_has_neighbours_enough(self, period) -> None:
        shape = [12 * s + 2 * (s // 2) if s > 1 else 1 for s in period]
        assert 0 < grid_line(torch.rand(shape), period).p_value <= 1

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_gpu_finds_the_same(self) -> None:
        signal = torch.rand(40, 50)
        here, there = grid_line(signal, (2, 3)), grid_line(signal.cuda(), (2, 3))
        assert there.harmonic == here.harmonic
        assert there.p_value == pytest.approx(here.p_value)
