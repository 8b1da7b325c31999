"""The grid filter and the sums per phase: exact on grid frequencies, and over blocks."""

import itertools
import math

import pytest
import torch

from medseg.checkerboard.moments import (
    ONE,
    RESIDUAL,
    SMOOTH,
    halo,
    phase_moments,
)
from medseg.checkerboard.phases import fold, trapezoid, trimmed

PERIODS = [(2,), (3,), (4,), (2, 2), (3, 4), (1, 4), (2, 2, 2), (1, 2, 3)]


class TestTrapezoid:
    @pytest.mark.parametrize("step", [2, 3, 4, 5, 8])
    def test_every_lattice_frequency_is_stopped(self, step) -> None:
        n = torch.arange(40.0, dtype=torch.float64)
        for k in range(1, step):
            wave = torch.cos(2 * math.pi * k * n / step + 0.3)
            assert trapezoid(wave, [step]).abs().max() < 1e-14

    @pytest.mark.parametrize("step", [2, 3, 4, 5])
    def test_a_ramp_passes(self, step) -> None:
        ramp = 0.25 * torch.arange(40.0, dtype=torch.float64) - 3
        assert trapezoid(ramp, [step]) == pytest.approx(trimmed(ramp, [step // 2]), abs=1e-13)

    @pytest.mark.parametrize("step", [2, 3, 4, 5])
    @pytest.mark.parametrize("frequency", [0.1, 0.7, 2.9])
    def test_the_response_in_the_docstring(self, step, frequency) -> None:
        n = torch.arange(41.0, dtype=torch.float64) - 20
        found = trapezoid(torch.cos(frequency * n), [step])
        # an even window is the one of the formula, an odd one is the plain box
        below = math.tan(frequency / 2) if step % 2 == 0 else math.sin(frequency / 2)
        response = math.sin(step * frequency / 2) / (step * below)
        expected = response * trimmed(torch.cos(frequency * n), [step // 2])
        assert found == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("period", PERIODS)
def test_fold_agrees_with_a_loop_over_voxels(period) -> None:
    shape, origin = [7, 8, 5][: len(period)], [3, 1, 2][: len(period)]
    signal = torch.rand(*shape)
    sums = torch.zeros(*period)
    for index in itertools.product(*(range(n) for n in shape)):
        phase = tuple((i + o) % s for i, o, s in zip(index, origin, period, strict=True))
        sums[phase] += signal[index]
    found = fold(signal[None], period, origin).sum(dim=-1)[0]
    assert found == pytest.approx(sums.flatten(), abs=1e-5)


class TestMoments:
    @pytest.mark.parametrize("period", PERIODS)
    def test_count_and_sums_of_a_map(self, period) -> None:
        signal = torch.rand(*[17, 19, 13][: len(period)], dtype=torch.float64)
        total = phase_moments(signal, period).gram.sum(dim=0)
        inner = trimmed(signal, halo(period))
        square = total[RESIDUAL:3, RESIDUAL:3].sum()
        assert total[ONE, ONE] == inner.numel()
        assert float(total[ONE, RESIDUAL] + total[ONE, SMOOTH]) == pytest.approx(float(inner.sum()))
        assert float(square) == pytest.approx(float(inner.square().sum()))

    def test_an_origin_moves_the_phases(self) -> None:
        signal = torch.rand(40, dtype=torch.float64)
        at_0, at_1 = (phase_moments(signal, [4], [o]).gram for o in (0, 1))
        assert torch.equal(at_1, at_0.roll(1, dims=0))


class TestRefusals:
    @pytest.mark.parametrize(
        ("shape", "period", "message"),
        [
            ((8, 8), (1, 1), "one phase"),
            ((8, 8), (2,), "2 strides"),
            ((8, 8), (2, 0), "at least 1"),
            ((8, 8, 8, 8), (2, 2, 2, 2), "1 to 3"),
            ((6, 6), (4, 4), "no larger than its halo"),
        ],
    )
    def test_what_has_no_phases(self, shape, period, message) -> None:
        with pytest.raises(ValueError, match=message):
            phase_moments(torch.zeros(shape), period)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_values_that_are_no_numbers(self, bad) -> None:
        signal = torch.zeros(20)
        signal[3] = bad
        with pytest.raises(ValueError, match="1 of 20 values are NaN"):
            phase_moments(signal, [2])
