"""A study finds what a network leaves on its stride grid, and nothing where it leaves nothing."""

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
from medseg.inference.predictor import Predictor
from medseg.inference.sliding_window import slide
from medseg.record import ArtifactRecord
from medseg.record.checkerboard import band

CASES = 9
GRID = (32, 32, 16)
WINDOW = [16, 16, 16]
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


def gains_of(even: float, odd: float) -> Decoder:
    """Amplifies the even and the odd planes along the first axis."""
    up = nn.ConvTranspose3d(1, 1, 2, stride=2)
    nn.init.zeros_(up.bias)
    with torch.no_grad():
        up.weight[0, 0] = torch.tensor([even, odd]).reshape(2, 1, 1).expand(2, 2, 2)
    return Decoder(up)


def ones_of_three() -> Decoder:
    """Even voxels get one tap along an axis, odd ones two."""
    up = nn.ConvTranspose3d(1, 1, 3, stride=2, padding=1, output_padding=1, bias=False)
    nn.init.ones_(up.weight)
    return Decoder(up)


def interpolated() -> Decoder:
    """A convolution, so that there are weights, and trilinear interpolation."""
    mix = nn.Conv3d(1, 1, 1)
    nn.init.constant_(mix.weight, 0.7)
    return Decoder(nn.Sequential(mix, nn.Upsample(scale_factor=2, mode="trilinear")))


def study_of(model, network: nn.Module, images: list[Tensor], **options) -> Study:
    card = replace(model.card, patch_size=WINDOW, classes=["organ"])
    study = Study(network, card, shifts=3, **options)
    for index, image in enumerate(images):
        watched = study.watch((image[0] > 0).long())
        with torch.no_grad():
            slide(study.network, image[None], WINDOW, overlap=0.5, observe=watched.start(image))
        study.add(f"case {index}", watched)
    return study


def smooth_noise(seed: int) -> Tensor:
    noise = torch.randn(1, *GRID, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool3d(noise, 5, stride=1, padding=2)


def texture(seed: int, *shape: int) -> Tensor:
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise + torch.linspace(0, 9, shape[-1], dtype=torch.float64)


def ramp(slopes: tuple[float, ...], size: int = 32) -> Tensor:
    axes = torch.meshgrid(*[torch.arange(float(size))] * 3, indexing="ij")
    return torch.einsum("a,aijk->ijk", torch.tensor(slopes), torch.stack(axes))[None]


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    return [smooth_noise(seed) for seed in range(CASES)]


@pytest.fixture(scope="module")
def uneven(model, images) -> ArtifactRecord:
    return study_of(model, gains_of(1.2, 0.8), images).record()


@pytest.fixture(scope="module")
def even(model, images) -> ArtifactRecord:
    """Equal phases; the images bring a grid along."""
    pattern = 0.3 * (torch.arange(GRID[0]) % 2).reshape(-1, 1, 1)
    return study_of(model, gains_of(1, 1), [image + pattern for image in images]).record()


def test_unequal_phases_are_found_and_claimed(uneven) -> None:
    assert uneven.period == [2, 2, 2]
    # gains 1.2 and 0.8: the coefficient of variation is 0.2, a share of 0.04 / 1.04
    assert uneven.layers[0].values["dc_gain"] == pytest.approx(0.04 / 1.04)
    assert uneven.layers[0].values["dc_gain_mean"] == pytest.approx(0.04 / 1.04, rel=1e-3)
    assert uneven.means["gain"] == uneven.prediction.gain
    assert uneven.means["gain"].low < 0.2 < uneven.means["gain"].high
    assert band(uneven.means["gain"].low) == "severe"
    assert uneven.image.gain.low == 0
    assert uneven.prediction.p_value < 0.01
    assert uneven.prediction.coherence > 0.9
    assert uneven.image.p_value > 0.05
    assert uneven.notes == []


def test_equal_phases_are_clean(even) -> None:
    assert even.layers[0].values["dc_gain"] == 0
    assert even.constant_response < 1e-6
    assert even.prediction.coherence < 0.6
    spun = [case.values["cycle_spin"] for case in even.cases]
    assert max(values["cycle_spin_locked"] for values in spun) < 0.02
    assert max(values["cycle_spin_self_test"] for values in spun) < 1e-9


def test_a_grid_that_the_images_bring_along_is_not_the_networks(even) -> None:
    assert even.image.p_value < 0.05
    assert even.image.r_squared > 0.01


def test_few_cases_have_sizes_and_no_claims_and_few_are_spun_and_kept(model, images) -> None:
    study = study_of(model, gains_of(1.2, 0.8), images[:7], cycle_spun=2, kept=1)
    record = study.record()
    assert record.means["gain"].cases == 7
    assert record.means["gain"].low is None
    assert record.prediction.p_value is None
    assert ["cycle_spin" in case.values for case in record.cases] == [True] * 2 + [False] * 5
    assert len(study.exemplars) == 1


def test_a_case_without_numbers_is_noted_and_the_others_count(model, images) -> None:
    broken, small = torch.full((1, *GRID), torch.nan), torch.zeros(1, 2, 2, 2)
    record = study_of(model, gains_of(1.2, 0.8), [images[0], broken, small]).record()
    assert record.prediction.cases == 1
    assert "gain" not in record.means  # what cases share needs two
    assert ["case 1" in record.notes[0], "case 2" in record.notes[1]] == [True, True]
    assert "not finite" in record.notes[0]
    assert "smaller than" in record.notes[1]


class OneSize(nn.Module):
    """Takes windows of its own size and nothing else, as some networks with attention do."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = gains_of(1.2, 0.8)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (16, 16, 16):
            raise RuntimeError(f"expected (16, 16, 16), got {tuple(x.shape[2:])}")
        return self.decoder(x)


def test_what_a_foreign_network_does_not_allow_is_noted(model, images) -> None:
    record = study_of(model, OneSize(), images[:1]).record()
    assert record.constant_response is None
    assert record.notes == ["no constant response: expected (16, 16, 16), got (8, 8, 8)"]
    assert record.cases[0].get("cycle_spin", "cycle_spin") > 0


def test_a_network_that_does_not_repeat_with_its_strides_is_said_to(model, images) -> None:
    corners = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)
    network = nn.Sequential(gains_of(1, 1), nn.AvgPool3d(2), corners)
    notes = study_of(model, network, images[:1]).record().notes
    assert any("does not repeat with it" in note for note in notes)


def test_logits_of_a_predictor_are_the_watched_ones(model, scan, as_volume) -> None:
    predictor = Predictor(model, device="cpu")
    study = Study(predictor.network, model.card)
    watched = study.watch()
    predictor.predict(as_volume(scan[None]), observe=watched.start)
    study.add("scan", watched)
    assert study.record().prediction.cases == 1


def test_a_kernel_of_three_has_the_map_of_its_taps(model) -> None:
    found = study_of(model, ones_of_three(), [ramp(slopes) for slopes in RAMPS]).record().phase_map
    assert found is not None
    assert (found.period, found.cases) == ([2, 2, 2], len(RAMPS))
    taps = np.array([1.0, 2.0]) / 1.5
    closed = np.einsum("i,j,k->ijk", taps, taps, taps)
    np.testing.assert_allclose(np.reshape(found.values, (2, 2, 2)), closed, atol=2e-4)
    assert found.noise == pytest.approx(0, abs=2e-4)


def test_a_study_has_the_power_of_every_strided_axis(model) -> None:
    images = [texture(seed, 1, 32, 32, 32).float() for seed in range(2)]
    bad, clean = (
        study_of(model, n, images).record().spectra for n in (ones_of_three(), interpolated())
    )
    assert [(s.axis, s.period, s.bins, len(s.decibel)) for s in bad] == [
        (axis, 2, 14, 8) for axis in range(3)
    ]
    for uneven, even in zip(bad, clean, strict=True):
        assert uneven.decibel[-1] > uneven.decibel[4] + 3
        assert even.decibel[-1] < even.decibel[4]


def test_logits_that_do_not_vary_have_neither(model) -> None:
    record = study_of(model, interpolated(), [torch.full((1, *GRID), 2.0)] * 2).record()
    assert (record.phase_map, record.spectra) == (None, [])
    assert not any("spectra" in note for note in record.notes)


@settings(max_examples=10)
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


@settings(max_examples=40)
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
