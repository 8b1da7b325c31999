"""Claims over cases: errors of the first kind under nulls, power under injected patterns."""

import math

import pytest
import torch

from medseg.checkerboard.cohort import phase_lock_test
from medseg.checkerboard.moments import phase_moments
from medseg.checkerboard.phases import trapezoid

SIZE = 40


def white(size: int = SIZE) -> torch.Tensor:
    return torch.randn(size, size, dtype=torch.float64)


def texture(sigma: float, size: int = SIZE) -> torch.Tensor:
    frequency = torch.fft.fftfreq(size, dtype=torch.float64)
    blur = torch.exp(-2 * (math.pi * sigma * frequency) ** 2)
    field = torch.fft.ifft2(torch.fft.fft2(white(size)) * blur * blur[:, None]).real
    return field / field.std()


def checkers(size: int) -> torch.Tensor:
    n = torch.arange(size)
    return (-1.0) ** (n + n[:, None])


def with_pattern(share: float, size: int = 64) -> torch.Tensor:
    signal = white(size)
    residual = signal[1:-1, 1:-1] - trapezoid(signal, (2, 2))
    return signal + share * residual.std() * checkers(size)


class TestPhaseLock:
    def test_p_is_never_below_its_floor_and_repeats(self) -> None:
        cases = [phase_moments(with_pattern(1), (2, 2)) for _ in range(9)]
        lock = phase_lock_test(cases, permutations=49, seed=3)
        assert lock.p_value == 1 / 50
        assert lock.cases == 9
        assert lock == phase_lock_test(cases, permutations=49, seed=3)

    def test_scale_of_a_case_changes_nothing(self) -> None:
        maps = [texture(0.7) for _ in range(8)]
        scaled = [(10.0 ** (i - 4)) * z for i, z in enumerate(maps)]
        one, two = (phase_lock_test([phase_moments(z, (2, 2)) for z in s]) for s in (maps, scaled))
        assert two.p_value == one.p_value
        assert two.r_squared == pytest.approx(one.r_squared)

    @pytest.mark.parametrize("shift", [(1, 0), (2, 3)])
    def test_a_shift_of_all_cases_changes_nothing(self, shift) -> None:
        maps = [with_pattern(0.1, 40) for _ in range(8)]
        one = phase_lock_test([phase_moments(z, (4, 4)) for z in maps])
        two = phase_lock_test([phase_moments(z, (4, 4), shift) for z in maps])
        assert two.r_squared == pytest.approx(one.r_squared)

    def test_many_phases_are_worked_on_in_parts(self, monkeypatch) -> None:
        cases = [phase_moments(white(70), (8, 8)) for _ in range(8)]
        whole = phase_lock_test(cases, 50)
        monkeypatch.setattr("medseg.checkerboard.cohort._TABLES_AT_ONCE", 1500)
        assert phase_lock_test(cases, 50) == whole

    def test_flat_cases_are_left_out(self) -> None:
        flat = phase_moments(torch.full((SIZE, SIZE), 0.3), (2, 2))
        pattern = phase_moments(0.3 + checkers(SIZE), (2, 2))
        varying = [phase_moments(white(), (2, 2)) for _ in range(8)]
        assert phase_lock_test([*varying, flat, pattern], 9) == phase_lock_test(varying, 9)
        with pytest.raises(ValueError, match="0 cases of 9 with logits that vary"):
            phase_lock_test([flat] * 9)

    def test_refusals(self) -> None:
        cases = [phase_moments(white(), (2, 2)) for _ in range(8)]
        with pytest.raises(ValueError, match=r"7 cases .* at least 8 .* add cases"):
            phase_lock_test(cases[:7])
        with pytest.raises(ValueError, match="at least 1"):
            phase_lock_test(cases, permutations=0)
        with pytest.raises(ValueError, match="cases of one test share one"):
            phase_lock_test([*cases, phase_moments(white(), (4, 4))])
