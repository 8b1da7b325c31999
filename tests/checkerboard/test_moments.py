"""The grid filter and the sums per phase, against formulas, loops and sums written out."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medseg.checkerboard import moments as module
from medseg.checkerboard.moments import ONE, SMOOTH, halo, phase_moments, window_moments
from medseg.checkerboard.phases import fold, trapezoid, trimmed

SIZES, ORIGINS = (21, 26, 17), (3, 5, 1)
PERIODS = [(2,), (3,), (8,), (2, 2), (3, 4), (1, 4), (2, 2, 2), (1, 2, 3), (4, 1, 2)]
CONVOLUTIONS = [functional.conv1d, functional.conv2d, functional.conv3d]


def whole_numbers(*shape: int) -> torch.Tensor:
    """Numbers whose sums double precision holds exactly, at strides that are powers of 2."""
    return torch.randint(-64, 64, shape).double()


def smoothed(signal: torch.Tensor, period: tuple[int, ...]) -> torch.Tensor:
    """By one convolution with the trapezoid of all axes."""
    kernel = torch.ones([1] * len(period), dtype=torch.float64)
    for axis, step in enumerate(period):
        taps = torch.ones(2 * (step // 2) + 1, dtype=torch.float64)
        if step % 2 == 0:
            taps[0] = taps[-1] = 0.5
        kernel = kernel * taps.reshape([-1 if a == axis else 1 for a in range(len(period))]) / step
    return CONVOLUTIONS[len(period) - 1](signal[None, None], kernel[None, None])[0, 0]


def written_out(signal: torch.Tensor, period: tuple[int, ...], origin: tuple[int, ...]):
    """`Σ v vᵀ` by masks of the phases."""
    margin, wide = halo(period), smoothed(signal, period)
    cut = [min(m, 1) for m in margin]
    smooth = trimmed(wide, cut)
    slopes = [
        trimmed((wide.roll(-1, axis) - wide.roll(1, axis)) / 2, cut)
        for axis, step in enumerate(period)
        if step > 1
    ]
    fields = [torch.ones_like(smooth), trimmed(signal, margin) - smooth, smooth, *slopes]
    v = torch.stack(fields).flatten(1)
    starts = zip(smooth.shape, origin, margin, period, strict=True)
    phases = [(torch.arange(n) + o + m) % s for n, o, m, s in starts]
    rank = torch.zeros(smooth.shape, dtype=torch.long)
    for axis, (phase, step) in enumerate(zip(phases, period, strict=True)):
        rank = rank * step + phase.reshape([-1 if a == axis else 1 for a in range(rank.ndim)])
    masks = [(rank.flatten() == phase).double() for phase in range(math.prod(period))]
    return torch.stack([(v * mask) @ v.T for mask in masks])


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


@pytest.mark.parametrize("period", PERIODS)
def test_moments_agree_with_the_sum_written_out_and_with_each_map_alone(period) -> None:
    maps, origin = torch.randn(3, *SIZES[: len(period)]).double(), ORIGINS[: len(period)]
    found = window_moments(maps, period, origin)
    expected = torch.stack([written_out(z, period, origin) for z in maps])
    assert found == pytest.approx(expected, abs=1e-10)
    alone = torch.stack([phase_moments(z, period, origin).gram for z in maps])
    assert found == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("period", [(2,), (1, 4), (2, 1, 4)])
@pytest.mark.parametrize("at_once", [60, 700, 9000])
def test_large_windows_are_read_in_parts(period, at_once, monkeypatch) -> None:
    maps, origin = whole_numbers(5, *SIZES[: len(period)]), ORIGINS[: len(period)]
    whole = window_moments(maps, period, origin)
    monkeypatch.setattr(module, "_VOXELS_AT_ONCE", at_once)
    assert torch.equal(window_moments(maps, period, origin), whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_measures_the_same() -> None:
    maps = torch.randn(3, 24, 30, 20)
    here, there = (window_moments(z, (2, 4, 1), (0, 1, 0)) for z in (maps, maps.cuda()))
    assert there.device.type == "cuda"
    assert there.cpu() == pytest.approx(here, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int16])
def test_every_type_is_measured_in_double(dtype) -> None:
    maps = (8 * torch.randn(3, 24, 21)).to(dtype)
    found = window_moments(maps, (4, 2), (1, 0))
    assert found.dtype == torch.float64
    assert torch.equal(found, window_moments(maps.double(), (4, 2), (1, 0)))


@settings(max_examples=25)
@given(
    st.permutations(range(4)),
    st.floats(-8, 8),
    st.floats(-100, 100),
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
)
def test_order_scale_offset_and_origin(order, factor, offset, origin) -> None:
    maps = torch.randn(4, 19, 22, dtype=torch.float64, generator=torch.manual_seed(0))
    grams = window_moments(maps, (2, 3), (0, 0))
    # (1, e, T_s z, slopes) of a z + b
    change = torch.diag(torch.tensor([1, *[factor] * 4], dtype=torch.float64))
    change[SMOOTH, ONE] = offset
    changed = window_moments(factor * maps[order] + offset, (2, 3), origin)
    expected = (change @ grams[order] @ change.T).unflatten(1, (2, 3)).roll(origin, (1, 2))
    assert changed == pytest.approx(expected.flatten(1, 2), rel=1e-9, abs=1e-6)
