"""Moments of many maps at once: those of each map alone, and those of a sum written out."""

import math

import pytest
import torch
from torch.nn import functional

from medseg.checkerboard import moments as module
from medseg.checkerboard.moments import (
    halo,
    phase_moments,
    window_moments,
)
from medseg.checkerboard.phases import trimmed

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


@pytest.mark.parametrize("period", PERIODS)
class TestManyMaps:
    def test_agree_with_the_sum_written_out(self, period) -> None:
        maps = torch.randn(3, *SIZES[: len(period)], dtype=torch.float64)
        origin = ORIGINS[: len(period)]
        expected = torch.stack([written_out(z, period, origin) for z in maps])
        assert window_moments(maps, period, origin) == pytest.approx(expected, abs=1e-10)

    def test_are_those_of_each_map_alone(self, period) -> None:
        maps, origin = torch.randn(4, *SIZES[: len(period)]), ORIGINS[: len(period)]
        found = window_moments(maps, period, origin)
        for gram, z in zip(found, maps, strict=True):
            assert gram == pytest.approx(phase_moments(z, period, origin).gram, rel=1e-12)


@pytest.mark.parametrize("period", [(2,), (4, 2), (1, 4), (2, 2, 4), (2, 1, 4)])
@pytest.mark.parametrize("at_once", [60, 700, 9000])
def test_large_windows_are_read_in_parts(period, at_once, monkeypatch) -> None:
    maps, origin = whole_numbers(5, *SIZES[: len(period)]), ORIGINS[: len(period)]
    whole = window_moments(maps, period, origin)
    monkeypatch.setattr(module, "_VOXELS_AT_ONCE", at_once)
    assert torch.equal(window_moments(maps, period, origin), whole)


class TestRefusals:
    @pytest.mark.parametrize(
        ("shape", "period", "message"),
        [
            ((2, 8, 8), (1, 1), "one phase"),
            ((2, 8, 8), (2,), "2 strides"),
            ((8,), (2,), "0 axes"),
            ((2, 8, 4), (2, 2), "halo"),
        ],
    )
    def test_windows_without_phases(self, shape, period, message) -> None:
        with pytest.raises(ValueError, match=message):
            window_moments(torch.zeros(shape), period, [0] * len(period))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_measures_the_same() -> None:
    maps = torch.randn(3, 24, 30, 20)
    here, there = (window_moments(z, (2, 4, 1), (0, 1, 0)) for z in (maps, maps.cuda()))
    assert there.device.type == "cuda"
    assert there.cpu() == pytest.approx(here, rel=1e-9, abs=1e-9)
