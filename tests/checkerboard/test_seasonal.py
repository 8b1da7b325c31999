"""Seasonal measures against closed forms: patterns, gains and staircases of known size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medseg.checkerboard.moments import phase_moments
from medseg.checkerboard.phases import trapezoid
from medseg.checkerboard.seasonal import additive, eta_squared_by_level, gain, lags, staircase

TRANSPOSED = [functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d]
LINEAR = ["linear", "bilinear", "trilinear"]
FIELDS = {1: (2048,), 2: (96, 96), 3: (32, 32, 32)}


def smooth_field(shape, sigma: float) -> torch.Tensor:
    spectrum = torch.fft.fftn(torch.randn(*shape, dtype=torch.float64))
    for axis, length in enumerate(shape):
        frequency = torch.fft.fftfreq(length, dtype=torch.float64)
        blur = torch.exp(-2 * (math.pi * sigma * frequency) ** 2)
        spectrum = spectrum * blur.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    field = torch.fft.ifftn(spectrum).real
    return (field - field.mean()) / field.std()


def checkers(*shape: int) -> torch.Tensor:
    places = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    return 1.0 - 2 * (torch.stack(places).sum(dim=0) % 2)


def upsampled(dims: int, taps: int) -> torch.Tensor:
    weight = torch.ones([1, 1] + [taps] * dims, dtype=torch.float64)
    return TRANSPOSED[dims - 1](smooth_field(FIELDS[dims], 6)[None, None], weight, stride=2)[0, 0]


class TestAdditive:
    @pytest.mark.parametrize("amplitude", [0.037, 2.5])
    @pytest.mark.parametrize("period", [(2,), (3,), (4, 3), (1, 2), (2, 3, 2)])
    def test_a_pattern_on_a_ramp_is_recovered(self, period, amplitude) -> None:
        pattern = torch.randn(*period, dtype=torch.float64)
        pattern -= pattern.mean()
        axes = torch.meshgrid(*(torch.arange(8 * s + 10) for s in period), indexing="ij")
        ramp = sum((0.3 + a) * along.double() for a, along in enumerate(axes)) + 5
        places = [along % s for along, s in zip(axes, period, strict=True)]
        found = additive(phase_moments(ramp + amplitude * pattern[tuple(places)], period))
        assert found.pattern == pytest.approx(amplitude * pattern, abs=1e-9)
        assert found.eta_squared == pytest.approx(1)

    @pytest.mark.parametrize("ratio", [0.2, 0.5, 1.0])
    def test_eta_squared_of_an_injected_ratio(self, ratio) -> None:
        texture = smooth_field((384, 384), 0.5)
        residual = (texture[1:-1, 1:-1] - trapezoid(texture, (2, 2))).std()
        found = additive(phase_moments(texture + ratio * residual * checkers(384, 384), (2, 2)))
        assert found.eta_squared == pytest.approx(ratio**2 / (1 + ratio**2), rel=0.02)
        assert found.epsilon_squared <= found.eta_squared

    def test_eta_squared_is_the_energy_on_the_lattice(self) -> None:
        e = torch.randn(8, 8, dtype=torch.float64).repeat(5, 5)  # T_s of a torus needs a halo
        moments = phase_moments(e[:38, :38], (4, 4))
        inner = (e[2:36, 2:36] - trapezoid(e[:38, :38], (4, 4)))[1:-1, 1:-1]
        spectrum = torch.fft.fftn(inner - inner.mean()).abs().square()
        share = spectrum[::8, ::8].sum() / spectrum.sum()
        assert additive(moments).eta_squared == pytest.approx(float(share), abs=1e-12)

    def test_white_noise_is_unbiased_only_after_correction(self) -> None:
        found = [additive(phase_moments(torch.randn(48, 48), (4, 4))) for _ in range(40)]
        eta = sum(f.eta_squared for f in found) / 40
        epsilon = sum(f.epsilon_squared for f in found) / 40
        assert eta > 0.005
        assert abs(epsilon) < 0.003


class TestGain:
    @pytest.mark.parametrize(("dims", "kappa"), [(1, 0.3333), (2, 0.4843), (3, 0.6097)])
    def test_taps_of_ones(self, dims, kappa) -> None:
        found = gain(phase_moments(upsampled(dims, taps=3), [2] * dims))
        assert found.kappa == pytest.approx(kappa, rel=0.01)
        assert found.r_squared_partial > 0.99

    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_a_bed_of_nails_which_the_additive_measure_misses(self, dims) -> None:
        moments = phase_moments(upsampled(dims, taps=1), [2] * dims)
        assert gain(moments).kappa == pytest.approx(math.sqrt(2**dims - 1), rel=0.01)
        assert additive(moments).eta_squared < 0.2

    def test_the_gains_themselves(self) -> None:
        gains = torch.tensor([[0.9, 1.0], [1.05, 1.05]], dtype=torch.float64)
        field = smooth_field((128, 128), 8) + 3
        found = gain(phase_moments(field * gains.repeat(64, 64), (2, 2)))
        # content of high frequency adds the same to all of them
        assert found.beta - found.beta.mean() == pytest.approx(gains - 1, abs=1e-3)


class TestStaircase:
    @pytest.mark.parametrize(
        ("dims", "step"), [(1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4), (3, 2)]
    )
    def test_nearest_and_linear(self, dims, step) -> None:
        coarse = smooth_field(FIELDS[dims], 6)[None, None]
        nearest = functional.interpolate(coarse, scale_factor=step, mode="nearest")[0, 0]
        linear = functional.interpolate(coarse, scale_factor=step, mode=LINEAR[dims - 1])[0, 0]
        found = lags(phase_moments(nearest, [step] * dims)).square().mean(dim=1).sqrt()
        assert found.tolist() == pytest.approx([math.sqrt((step**2 - 1) / 12)] * dims, rel=0.01)
        assert staircase(lags(phase_moments(linear, [step] * dims))) < 0.003

    def test_each_axis_for_itself(self) -> None:
        rows = smooth_field((96, 192), 6).repeat_interleave(2, dim=0)
        late, smooth = lags(phase_moments(rows, (2, 2))).square().mean(dim=1).sqrt().tolist()
        assert (late, smooth) == pytest.approx((0.5, 0), abs=0.006)
        (alone,) = lags(phase_moments(rows, (2, 1)))
        assert float(alone.abs().mean()) == pytest.approx(late, rel=0.01)


class TestLevels:
    def test_shares_add_up_to_the_whole(self) -> None:
        moments = phase_moments(torch.randn(40, 40, 26), (4, 4, 2))
        shares = eta_squared_by_level(moments, [(2, 2, 1), (2, 2, 2), (4, 4, 2)])
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(additive(moments).eta_squared, abs=1e-14)

    @pytest.mark.parametrize(
        ("pattern", "shares"),
        [([1, -1, 1, -1], (1, 0)), ([1, 1, -1, -1], (0, 1)), ([2, 0, 0, -2], (0.5, 0.5))],
    )
    def test_a_pattern_is_owed_to_its_level(self, pattern, shares) -> None:
        # [2, 0, 0, −2] is the sum of the other two
        moments = phase_moments(torch.tensor(pattern).repeat(20)[:70] + 3, [4])
        assert eta_squared_by_level(moments, [(2,), (4,)]) == pytest.approx(shares, abs=1e-12)


class TestNothingToMeasure:
    @pytest.mark.parametrize("constant", [0.0, 1 / 3, -7.1e5])
    @pytest.mark.parametrize("step", [2, 3])
    def test_a_constant(self, constant, step) -> None:
        moments = phase_moments(torch.full((40, 40), constant), (step, step))
        assert (additive(moments), gain(moments), lags(moments)) == (None, None, None)
        assert eta_squared_by_level(moments, [(step, step)]) is None

    def test_a_ramp_has_no_residual(self) -> None:
        moments = phase_moments(torch.arange(90.0) / 7, [3])
        found = additive(moments)
        assert (found.eta_squared, found.epsilon_squared) == (0, 0)
        assert found.kappa < 1e-6  # single precision
        assert eta_squared_by_level(moments, [(3,)]) == (0,)


@settings(max_examples=30)
@given(
    st.floats(0.01, 100),
    st.floats(-100, 100),
    st.booleans(),
    st.sampled_from([(2,), (4,), (2, 3), (2, 1, 2)]),
)
def test_scale_and_offset_change_nothing(factor, offset, negative, period) -> None:
    signal = torch.rand([40, 30, 20][: len(period)], dtype=torch.float64)
    before = phase_moments(signal, period)
    after = phase_moments((-factor if negative else factor) * signal + offset * factor, period)
    one, two = additive(before), additive(after)
    assert two.eta_squared == pytest.approx(one.eta_squared, abs=1e-9)
    assert two.kappa == pytest.approx(one.kappa, abs=1e-8)
    assert gain(after).beta == pytest.approx(gain(before).beta, abs=1e-6)
    assert lags(after) == pytest.approx(lags(before), abs=1e-6)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=2))
def test_the_place_of_the_first_phase_changes_no_size(origin) -> None:
    signal = torch.rand(50, 50, dtype=torch.float64, generator=torch.manual_seed(1))
    here, there = phase_moments(signal, (4, 4)), phase_moments(signal, (4, 4), origin)
    assert gain(there).kappa == pytest.approx(gain(here).kappa)
    moved = additive(here).pattern.roll(origin, dims=(0, 1))
    assert additive(there).pattern == pytest.approx(moved, abs=1e-12)
