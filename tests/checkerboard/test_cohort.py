"""Claims over cases: errors of the first kind, how faint a pattern is found, what matters not."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from medseg.checkerboard.cohort import coherence, equally_weighted, phase_lock_test, shared
from medseg.checkerboard.moments import PhaseMoments, phase_moments, window_moments
from medseg.checkerboard.phases import trapezoid, trimmed

PLANE, VOLUME = (64, 64), (20, 20, 20)
CASES, ALPHA = 12, 0.05
LEVELS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "checkerboard_levels.py"))
BORDERS = [*LEVELS["nulls"](None), LEVELS["STRIDED"]]


def of_unequal_sizes(count: int) -> list[np.ndarray]:
    """Odd and even, with a border that repeats the last voxel."""
    sizes = np.random.default_rng(5).integers(41, 75, (count, 2))
    noise = (np.random.default_rng(i).standard_normal(size) for i, size in enumerate(sizes))
    return [ndimage.gaussian_filter(one, 3, mode="nearest") for one in noise]


def masked(count: int) -> np.ndarray:
    """Zeros outside of a disc at any place."""
    texture = 1 + 0.3 * LEVELS["field"](64, 2, "reflect")(count)
    return texture * LEVELS["ellipses"](count, 64)


UNSEEN = [
    LEVELS["Null"]("unequal sizes", (4, 4), of_unequal_sizes),
    LEVELS["Null"]("masked", (4, 4), masked),
    LEVELS["Null"]("stride 3", (3, 3), LEVELS["field"](53, 3, "reflect")),
    LEVELS["Null"]("anisotropic", (1, 2, 4), LEVELS["field"](26, 2, "constant", dims=3)),
    LEVELS["Null"]("heavy tails", (4, 4), lambda count: LEVELS["field"](64, 0, "wrap")(count) ** 3),
]


def share_rejected(null, cases: int, studies: int, rule: str = "now", maps: int = 0) -> float:
    """Of maps that change towards their border, as docs/checkerboard_levels.py has them."""
    LEVELS["reseed"]()
    grams = LEVELS["grams"](null.make(maps or null.count), null.period, rule)
    tables = torch.stack([equally_weighted(one) for one in grams])
    chosen = LEVELS["samples"](len(tables), cases, studies, None)
    return LEVELS["rejected"](tables, null.period, chosen)


def white(shape=PLANE, count: int = CASES) -> torch.Tensor:
    return torch.randn(count, *shape, dtype=torch.float64)


def filtered(response, shape=PLANE, count: int = CASES) -> torch.Tensor:
    """Noise whose spectrum depends on the distance from zero frequency, in cycles per voxel."""
    frequencies = [*(torch.fft.fftfreq(n) for n in shape[:-1]), torch.fft.rfftfreq(shape[-1])]
    axes = torch.meshgrid(*(f.double() for f in frequencies), indexing="ij")
    distance = torch.stack(axes).square().sum(dim=0).sqrt()
    dims = list(range(1, 1 + len(shape)))
    spectrum = torch.fft.rfftn(white(shape, count), dim=dims)
    field = torch.fft.irfftn(spectrum * response(distance), s=shape, dim=dims)
    return field / field.flatten(1).std(dim=1).reshape(-1, *[1] * len(shape))


def blurred(shape=PLANE, count: int = CASES) -> torch.Tensor:
    return filtered(lambda f: torch.exp(-2 * (0.7 * math.pi * f) ** 2), shape, count)


def narrow_band(centre: float, shape=PLANE, count: int = CASES) -> torch.Tensor:
    """A texture of one coarseness, in all directions."""
    return filtered(lambda f: torch.exp(-(((f - centre) / 0.04) ** 2) / 2), shape, count)


def stripes(period: int, count: int = CASES) -> torch.Tensor:
    """From border to border, beginning anywhere, on a texture."""
    begin = torch.randint(period, (count, 1, 1))
    wave = torch.cos(2 * math.pi * (torch.arange(PLANE[1]) + begin) / period)
    return blurred(count=count) + 0.5 * wave.expand(-1, *PLANE)


def grid(period: tuple[int, ...], shape=PLANE) -> torch.Tensor:
    """A fixed pattern of RMS 1 that no shorter period has."""
    axes = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    waves = [torch.cos(2 * math.pi * n / s) for n, s in zip(axes, period, strict=True)]
    pattern = torch.stack(waves).prod(dim=0)
    return pattern / pattern.square().mean().sqrt()


def with_pattern(maps: torch.Tensor, share: float, period: tuple[int, ...]) -> torch.Tensor:
    residual = trimmed(maps, [s // 2 for s in period]) - trapezoid(maps, period)
    return maps + share * residual.std() * grid(period, maps.shape[1:])


def locked(maps: torch.Tensor, period: tuple[int, ...], seed: int) -> bool:
    gram = window_moments(maps, period, [0] * len(period))
    cases = [PhaseMoments(period, one) for one in gram]
    return phase_lock_test(cases, permutations=99, seed=seed).p_value <= ALPHA


def share_locked(make, period: tuple[int, ...], simulations: int) -> float:
    return sum(locked(make(), period, seed) for seed in range(simulations)) / simulations


NULL_CASES = {
    "white": (white, (2, 2)),
    "blurred": (blurred, (4, 4)),
    "coarse": (lambda: narrow_band(0.25), (4, 4)),
    "fine": (lambda: narrow_band(0.5), (2, 2)),
    "stripes": (lambda: stripes(2), (4, 4)),
    "volumes": (lambda: blurred(VOLUME, 8), (2, 2, 2)),
}


class TestPhaseLock:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", NULL_CASES)
    def test_errors_of_the_first_kind_of_each_null(self, name) -> None:
        # of so many, the standard error is 0.007
        assert share_locked(*NULL_CASES[name], 1000) <= 0.07

    def test_a_border_is_no_grid(self) -> None:
        (null,) = (n for n in BORDERS if n.name == "σ 4, reflected border")
        shares = [share_rejected(null, 52, 60, rule, maps=150) for rule in ("before", "now")]
        assert shares[0] > 0.9
        assert shares[1] <= 0.15  # three standard errors above 0.05

    @pytest.mark.slow
    @pytest.mark.parametrize("cases", LEVELS["CASES"])
    @pytest.mark.parametrize(
        "null", [*BORDERS, *UNSEEN], ids=lambda null: f"{null.name}, {null.period}"
    )
    def test_the_level_of_each_border(self, null, cases) -> None:
        # of 1,000 the standard error is 0.007; there are 60 of these tests
        assert share_rejected(null, cases, 1000) <= 0.075

    @pytest.mark.parametrize(("share", "power"), [(0.05, 0.95), (0.02, 0.2)])
    def test_power_on_a_slow_pattern(self, share, power) -> None:
        found = share_locked(lambda: with_pattern(blurred(), share, (4, 4)), (4, 4), 40)
        assert found >= power

    @pytest.mark.parametrize("share", [0.05, 0.02])
    def test_power_on_a_slow_gain(self, share) -> None:
        def amplified() -> torch.Tensor:
            smooth = filtered(lambda f: torch.exp(-2 * (3 * math.pi * f) ** 2))
            return smooth * (1 + share * grid((4, 4))) + 0.1 * white()

        assert share_locked(amplified, (4, 4), 30) >= 0.95

    def test_p_is_never_below_its_floor_and_repeats(self) -> None:
        cases = [
            phase_moments(strong, (2, 2)) for strong in with_pattern(white(count=9), 1, (2, 2))
        ]
        lock = phase_lock_test(cases, permutations=49, seed=3)
        assert lock.p_value == 1 / 50
        assert lock.cases == 9
        assert lock == phase_lock_test(cases, permutations=49, seed=3)

    def test_scale_of_a_case_changes_nothing(self) -> None:
        maps = blurred(count=8)
        scaled = [(10.0 ** (i - 4)) * z for i, z in enumerate(maps)]
        one, two = (phase_lock_test([phase_moments(z, (2, 2)) for z in s]) for s in (maps, scaled))
        assert two.p_value == one.p_value
        assert two.r_squared == pytest.approx(one.r_squared)

    @pytest.mark.parametrize("shift", [(1, 0), (2, 3)])
    def test_a_shift_of_all_cases_changes_nothing(self, shift) -> None:
        maps = with_pattern(white(count=8), 0.1, (4, 4))
        one = phase_lock_test([phase_moments(z, (4, 4)) for z in maps])
        two = phase_lock_test([phase_moments(z, (4, 4), shift) for z in maps])
        assert two.r_squared == pytest.approx(one.r_squared)

    def test_many_phases_are_worked_on_in_parts(self, monkeypatch) -> None:
        cases = [phase_moments(z, (8, 8)) for z in white((70, 70), 8)]
        whole = phase_lock_test(cases, 50)
        monkeypatch.setattr("medseg.checkerboard.cohort._TABLES_AT_ONCE", 1500)
        assert phase_lock_test(cases, 50) == whole


class TestShared:
    """Sizes of the pattern that cases share; noise of RMS 0.1 is each case's own."""

    @staticmethod
    def estimates(size: float, cases: int, phases: int = 16, studies: int = 200) -> list:
        pattern = torch.randn(phases, dtype=torch.float64)
        pattern = size * (pattern - pattern.mean()) / pattern.std(correction=0)
        noise = 0.1 * torch.randn(studies, cases, phases, dtype=torch.float64)
        return [shared(pattern + one - one.mean(dim=1, keepdim=True)) for one in noise]

    @pytest.mark.parametrize("cases", [2, 8, 52])
    @pytest.mark.parametrize("size", [0, 0.02, 0.1])
    def test_its_square_has_no_bias_and_the_interval_covers(self, size, cases) -> None:
        found = self.estimates(size, cases)
        # cut off at 0, so its mean without a pattern is that of half a distribution
        squares = torch.tensor([one.mean**2 for one in found])
        floor = 0.01 * 2**0.5 / (cases * (cases - 1)) ** 0.5 / 15**0.5
        assert -0.15 * size**2 - 1e-6 < float(squares.mean()) - size**2 < floor + 0.15 * size**2
        if cases >= 8:
            assert sum(one.low <= size <= one.high for one in found) / len(found) >= 0.92
        else:
            assert found[0].low is None

    @pytest.mark.slow
    @pytest.mark.parametrize("phases", [4, 64, 512])
    @pytest.mark.parametrize(("size", "cases"), [(0, 8), (0, 52), (0.02, 52), (0.1, 8)])
    def test_cover(self, size, cases, phases) -> None:
        found = self.estimates(size, cases, phases, 1000)
        assert sum(one.low <= size <= one.high for one in found) / 1000 >= 0.93

    def test_equal_patterns_are_certain_and_one_has_no_size(self) -> None:
        pattern = torch.tensor([1.0, -1.0]).expand(9, 2)
        found = shared(pattern)
        assert (found.mean, found.low, found.high) == pytest.approx((1, 1, 1))
        assert shared(2 * pattern, squared=True).mean == pytest.approx(4)
        assert shared(pattern[:1]) is None
        assert shared(torch.zeros(9, 2)).high == 0


class TestCoherence:
    def test_locked_patterns_agree_and_random_ones_do_not(self) -> None:
        patterns = torch.randn(24, 2, 2)
        assert coherence(patterns[:1].expand(24, 2, 2) + 5) == pytest.approx(1)
        null = sum(coherence(torch.randn(24, 2, 2)) for _ in range(100)) / 100
        assert null == pytest.approx(1 / 24, abs=0.01)

    def test_scale_and_phase_change_nothing(self) -> None:
        patterns = torch.randn(9, 4, 4)
        moved = -3 * patterns.roll((1, 2), dims=(1, 2)) + torch.arange(9.0)[:, None, None]
        assert coherence(moved) == pytest.approx(coherence(patterns), abs=1e-6)

    def test_flat_patterns_have_none(self) -> None:
        assert coherence(torch.full((5, 2, 2), 0.1)) is None
