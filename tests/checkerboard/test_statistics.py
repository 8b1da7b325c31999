"""Claims over cases: errors of the first kind under nulls, power under injected patterns."""

import math

import pytest
import torch

from medseg.checkerboard.cohort import coherence, phase_lock_test
from medseg.checkerboard.moments import phase_moments
from medseg.checkerboard.phases import trapezoid
from medseg.checkerboard.seasonal import additive
from medseg.checkerboard.spectrum import lattice_line

SIZE = 40


def white(size: int = SIZE) -> torch.Tensor:
    return torch.randn(size, size, dtype=torch.float64)


def texture(sigma: float, size: int = SIZE) -> torch.Tensor:
    frequency = torch.fft.fftfreq(size, dtype=torch.float64)
    blur = torch.exp(-2 * (math.pi * sigma * frequency) ** 2)
    field = torch.fft.ifft2(torch.fft.fft2(white(size)) * blur * blur[:, None]).real
    return field / field.std()


def stripes(size: int = SIZE) -> torch.Tensor:
    """Of period 2 from border to border, beginning light or dark by chance."""
    return 0.5 * (-1.0) ** (torch.arange(size) + torch.randint(2, (1,))).expand(size, size)


def checkers(size: int) -> torch.Tensor:
    n = torch.arange(size)
    return (-1.0) ** (n + n[:, None])


def with_pattern(share: float, size: int = 64) -> torch.Tensor:
    signal = white(size)
    residual = signal[1:-1, 1:-1] - trapezoid(signal, (2, 2))
    return signal + share * residual.std() * checkers(size)


def with_gain(share: float, size: int = 64) -> torch.Tensor:
    signal = texture(3, size)
    return signal * (1 + share * checkers(size)) + 0.1 * white(size)


def rejected(make, simulations: int, cases: int, period=(2, 2)) -> float:
    found = [
        phase_lock_test([phase_moments(make(), period) for _ in range(cases)], 99, seed)
        for seed in range(simulations)
    ]
    return sum(lock.p_value <= 0.05 for lock in found) / simulations


class TestPhaseLock:
    @pytest.mark.parametrize(
        ("null", "period"),
        [
            (white, (2, 2)),
            (white, (4, 4)),
            (lambda: texture(0.7), (2, 2)),
            (lambda: texture(2), (2, 2)),
            (lambda: texture(0.7) + stripes(), (2, 2)),
        ],
        ids=["white", "white-4", "blurred", "smooth", "stripes"],
    )
    def test_errors_of_the_first_kind(self, null, period) -> None:
        assert rejected(null, 200, cases=8, period=period) <= 0.1

    @pytest.mark.parametrize(("share", "power"), [(0.05, 0.95), (0.02, 0.5)])
    def test_power_on_white_noise(self, share, power) -> None:
        assert rejected(lambda: with_pattern(share), 60, cases=12) >= power

    @pytest.mark.parametrize(("share", "power"), [(0.05, 0.95), (0.02, 0.9)])
    def test_power_on_a_gain_that_changes_sign(self, share, power) -> None:
        assert rejected(lambda: with_gain(share), 30, cases=12) >= power

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
        assert two.r_squared_partial == pytest.approx(one.r_squared_partial)

    @pytest.mark.parametrize("shift", [(1, 0), (2, 3)])
    def test_a_shift_of_all_cases_changes_nothing(self, shift) -> None:
        maps = [with_pattern(0.1, 40) for _ in range(8)]
        one = phase_lock_test([phase_moments(z, (4, 4)) for z in maps])
        two = phase_lock_test([phase_moments(z, (4, 4), shift) for z in maps])
        assert two.r_squared_partial == pytest.approx(one.r_squared_partial)

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


def test_stripes_of_a_scene_are_a_line_but_not_locked() -> None:
    light_or_dark = stripes(64)
    maps = [texture(0.7, 64) + (-1) ** case * light_or_dark for case in range(12)]
    assert max(lattice_line(z, (2, 2)).p_value for z in maps) < 0.01
    assert phase_lock_test([phase_moments(z, (2, 2)) for z in maps]).p_value > 0.05


def test_coherence_of_real_patterns() -> None:
    def of(make) -> float | None:
        found = [additive(phase_moments(make(), (2, 2))) for _ in range(24)]
        return coherence(torch.stack([f.pattern for f in found]))

    assert of(lambda: texture(0.7) + stripes()) < 0.2
    assert of(lambda: with_pattern(0.1)) > 0.8
