"""What a study keeps of all cases together: the gain by phase and the power by frequency."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal, stats
from torch import Tensor, nn

from medseg.checkerboard import Study
from medseg.checkerboard.cohort import phase_map
from medseg.checkerboard.figure_data import axis_spectra
from medseg.checkerboard.moments import phase_moments
from medseg.checkerboard.seasonal import gain
from medseg.inference.sliding_window import slide
from medseg.record import ArtifactRecord

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW = (16, 16, 16)
RAMPS = [(1.0, 0.3, -0.2), (-0.4, 0.7, 0.5), (0.1, -0.9, 0.3)]


class Decoder(nn.Module):
    """Halves the grid by means and brings it back by `up`; logits of the background are 0."""

    def __init__(self, up: nn.Module):
        super().__init__()
        self.down = nn.AvgPool3d(2)
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        found = self.up(self.down(x))
        return torch.cat([torch.zeros_like(found[:, :1]), found], dim=1)


class Interpolated(nn.Module):
    """A convolution, so that there are weights, and trilinear interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv3d(1, 1, 1)
        nn.init.constant_(self.mix.weight, 0.7)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear")

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.mix(x))


def ones_of_three(classes: int = 1) -> nn.ConvTranspose3d:
    """Even voxels get one tap along an axis, odd ones two."""
    up = nn.ConvTranspose3d(1, classes, 3, stride=2, padding=1, output_padding=1, bias=False)
    nn.init.ones_(up.weight)
    return up


def ramp(slopes: tuple[float, ...], size: int = 32) -> Tensor:
    axes = torch.meshgrid(*[torch.arange(float(size))] * 3, indexing="ij")
    return torch.einsum("a,aijk->ijk", torch.tensor(slopes), torch.stack(axes))[None]


def record_of(model, up: nn.Module, images: list[Tensor]) -> ArtifactRecord:
    card = replace(model.card, patch_size=list(WINDOW), classes=["organ"])
    study = Study(Decoder(up), card, overlap=0.5, shifts=2)
    for index, image in enumerate(images):
        watched = study.watch()
        with torch.no_grad():
            slide(study.network, image[None], WINDOW, overlap=0.5, observe=watched.start(image))
        study.add(f"case {index}", watched)
    return study.record()


def texture(seed: int, *shape: int) -> Tensor:
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise + torch.linspace(0, 9, shape[-1], dtype=torch.float64)


def test_a_kernel_of_three_has_the_map_of_its_taps(model) -> None:
    found = record_of(model, ones_of_three(), [ramp(slopes) for slopes in RAMPS]).phase_map
    assert found is not None
    assert (found.period, found.cases) == ([2, 2, 2], len(RAMPS))
    taps = np.array([1.0, 2.0]) / 1.5
    closed = np.einsum("i,j,k->ijk", taps, taps, taps)
    np.testing.assert_allclose(np.reshape(found.values, (2, 2, 2)), closed, atol=2e-4)
    assert found.noise == pytest.approx(0, abs=2e-4)


def test_a_study_has_the_power_of_every_strided_axis(model) -> None:
    images = [texture(seed, 1, 32, 32, 32).float() for seed in range(3)]
    bad, clean = (record_of(model, up, images).spectra for up in (ones_of_three(), Interpolated()))
    assert [(s.axis, s.period, s.bins, len(s.decibel)) for s in bad] == [
        (axis, 2, 14, 8) for axis in range(3)
    ]
    for uneven, even in zip(bad, clean, strict=True):
        assert uneven.decibel[-1] > uneven.decibel[4] + 3
        assert even.decibel[-1] < even.decibel[4]


def test_logits_that_do_not_vary_have_neither(model) -> None:
    record = record_of(model, Interpolated(), [torch.full((1, 32, 32, 32), 2.0)] * 2)
    assert (record.phase_map, record.spectra) == (None, [])
    assert not any("spectra" in note for note in record.notes)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    cases=st.integers(2, 5),
    classes=st.integers(1, 3),
    period=st.sampled_from([(2, 1), (3, 2), (4, 4)]),
)
def test_a_map_is_the_mean_of_its_cases(seed, cases, classes, period) -> None:
    maps = texture(seed, cases, classes, 40, 36)
    moments = [[phase_moments(m, period) for m in case] for case in maps]
    found = phase_map(moments)
    assert found is not None
    betas = np.array([[gain(m).beta.numpy() for m in case] for case in moments])  # pyright: ignore[reportOptionalMemberAccess]
    by_case = betas.mean(axis=1)
    centred = by_case - by_case.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found.values, 1 + centred.mean(axis=0).ravel(), atol=1e-5)
    error = np.sqrt(np.mean(np.square(stats.sem(centred, axis=0))))
    assert found.noise == pytest.approx(error, abs=1e-5)
    assert np.mean(found.values) == pytest.approx(1, abs=1e-5)


def test_a_class_without_a_gain_counts_for_nothing() -> None:
    varies, flat = (phase_moments(m, [2, 2]) for m in (texture(0, 20, 20), torch.ones(20, 20)))
    assert phase_map([[varies, flat], [flat, flat]]) == phase_map([[varies]])
    assert phase_map([[varies]]).noise is None  # pyright: ignore[reportOptionalMemberAccess]
    assert phase_map([[flat]]) is None
    assert phase_map([]) is None


@pytest.mark.parametrize("length", [39, 50, 201])
def test_a_spectrum_is_the_periodogram_of_the_residual(length) -> None:
    maps = texture(3, 4, length).numpy()
    weights = np.array([0.25, 0.5, 0.25])  # the trapezoid of stride 2
    residual = (maps - ndimage.convolve1d(maps, weights, axis=1))[:, 1:-1]
    residual = residual[:, : residual.shape[1] // 2 * 2]
    no_trend: Any = False
    _, power = signal.periodogram(residual, window="hann", detrend=no_trend, return_onesided=False)
    [found] = axis_spectra(torch.from_numpy(maps), [2])
    decibel = (10 * np.log10(power)).mean(axis=0)
    np.testing.assert_allclose(found.decibel, decibel[: len(found.decibel)], atol=0.006)
    assert (found.bins, len(found.decibel)) == (residual.shape[1], residual.shape[1] // 2 + 1)


def test_a_pattern_is_seen_along_every_axis_it_varies_along() -> None:
    rows, columns = torch.meshgrid(torch.arange(34), torch.arange(42), indexing="ij")
    board = (-1.0) ** (rows + columns)
    for spectrum in axis_spectra([board + 0.1 * texture(1, 34, 42)], [2, 2]):
        assert int(np.argmax(spectrum.decibel)) == len(spectrum.decibel) - 1
    stripes = (-1.0) ** rows
    along, across = axis_spectra([stripes + 0.001 * texture(1, 34, 42)], [2, 2])
    assert int(np.argmax(along.decibel)) == len(along.decibel) - 1
    assert int(np.argmax(across.decibel)) == 0


@settings(max_examples=40, deadline=None)
@given(length=st.integers(260, 1500), period=st.integers(2, 32), harmonic=st.integers(1, 16))
def test_long_axes_are_kept_short_and_harmonics_in_the_middle_of_a_bin(
    length, period, harmonic
) -> None:
    k = 1 + harmonic % max(1, period // 2)
    line = torch.cos(2 * torch.pi * k * torch.arange(float(length), dtype=torch.float64) / period)
    [found] = axis_spectra([line], [period])
    assert len(found.decibel) <= 128
    assert found.bins % period == 0
    assert int(np.argmax(found.decibel)) == k * found.bins // period
