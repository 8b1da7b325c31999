"""Figures hold the values they are given, exactly."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medseg.report.artifacts.figures import (
    constant_response,
    crack_histogram,
    gradient_table,
    kernel_sheet,
    phase_heat_map,
    png,
    residual_overlay,
    spectrum,
    trajectory,
    two_tone,
)
from medseg.report.artifacts.figures.panels import shown, written
from medseg.report.artifacts.figures.phases import unrolled

EPOCHS = [
    {
        "epoch": epoch,
        "dc_gain": 0.05 * (1 - math.exp(-epoch)),
        "constant_response": math.nan if epoch % 2 else 0.01,
        "cycle_spin": 0.3,
    }
    for epoch in range(6)
]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.manual_seed(0))


@settings(deadline=None, max_examples=8)
@given(
    period=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_the_heat_map_holds_both_patterns_on_scales_about_0_and_the_mean(period, seed) -> None:
    alpha, beta = torch.randn(2, *period, generator=torch.manual_seed(seed)).double()
    figure = phase_heat_map(alpha, beta.flatten(), period)
    for part, pattern, centre in zip(figure.subfigs, (alpha, beta), (0, beta.mean()), strict=True):
        images = [axes.images[0] for axes in part.axes if axes.images]
        planes = pattern.reshape(-1, *pattern.shape[-2:]) if len(period) > 1 else [pattern[None]]
        for image, plane in zip(images, planes, strict=True):
            assert image.get_array().tolist() == plane.tolist()
            assert (image.norm.vmin + image.norm.vmax) / 2 == pytest.approx(float(centre), abs=1e-9)
            assert image.norm.vmax == images[0].norm.vmax


def test_a_note_says_which_slices_are_left_out() -> None:
    figure = phase_heat_map(noise(16, 2, 2), noise(16, 2, 2), (16, 2, 2))
    assert len(figure.subfigs[0].axes) == 8 + 1  # and the colour bar
    assert figure.get_supxlabel() == "The first 8 of 16 slices along axis 0."
    assert [shown(n) for n in (3, 8, 9, 10, 12, 16, 32)] == [3, 8, 8, 5, 6, 8, 8]


def test_hatched_are_the_cells_whose_interval_contains_0() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    figure = phase_heat_map(noise(2, 2), noise(2, 2), (2, 2), [mask, ~mask])
    masked = [part.axes[0].collections[0].get_array().mask for part in figure.subfigs]
    assert [cells.tolist() for cells in masked] == [(~mask).tolist(), mask.tolist()]


def test_numbers_stand_in_cells_that_hold_them() -> None:
    figure = gradient_table(torch.tensor([1.5, 2.0, -1.0, 0.25]), torch.ones(4), (2, 2))
    texts = [text.get_text() for text in figure.subfigs[0].axes[0].texts]
    assert texts == ["1.50", "2.00", "−1.00", "0.25"]
    crowded = gradient_table(noise(8, 8), noise(8, 8), (8, 8))
    assert not crowded.subfigs[0].axes[0].texts


@pytest.mark.parametrize(
    ("value", "span", "text"),
    [(0, 0.3, "0"), (-2, 4, "−2"), (1.00234, 0.004, "1.00234"), (1e-6, 1e-6, "1.0e−6")],
)
def test_a_number_has_the_digits_that_tell_it_from_others(value, span, text) -> None:
    assert written(value, span) == text


def test_the_kernel_sheet_holds_taps_gains_and_counts_of_the_ones_kernel() -> None:
    kernel = torch.ones(2, 3, 3, 3)
    axes = kernel_sheet([("up", kernel, (2, 2))]).subfigs[0].axes
    taps, gains, departures, counts = (a.images[0].get_array().tolist() for a in axes)
    assert taps == [[1.0] * 3] * 3
    assert gains == counts == [[4.0, 2.0], [2.0, 1.0]]
    assert departures == [[1.75, 0.25], [0.25, 1.25]]


def test_signs_that_norms_hide_show_as_departure() -> None:
    axes = kernel_sheet([("up", torch.tensor([[[1.0, -1.0]]]), (2,))]).subfigs[0].axes
    gains, departures = (axes[i].images[0].get_array().tolist() for i in (1, 2))
    assert gains == departures == [[1.0, 1.0]]


def test_slices_of_taps_stand_beside_each_other() -> None:
    values = np.arange(8.0).reshape(2, 2, 2)
    wide = unrolled(values)
    assert wide[:, :2].tolist() == values[0].tolist()
    assert wide[:, 3:].tolist() == values[1].tolist()
    assert np.isnan(wide[:, 2]).all()


@pytest.mark.parametrize("cells", [(4, 4), (3, 5)])
def test_the_spectrum_of_a_pattern_has_its_lines_in_the_rings(cells) -> None:
    period = (4, 3)
    signal = noise(*period).tile(*cells)
    power = torch.fft.fftshift(torch.fft.fftn(signal).abs().square())
    axes = spectrum(10 * torch.log10(power + 1e-20), period).subfigs[0].axes[0]
    left, right, bottom, top = axes.images[0].get_extent()
    rows, columns = power.shape
    offsets = axes.collections[0].get_offsets()
    assert len(offsets) == 11
    x, y = torch.tensor(np.asarray(offsets)).T
    column = ((x - left) / (right - left) * columns - 0.5).round().long()
    row = ((y - top) / (bottom - top) * rows - 0.5).round().long()
    inside = power[row, column].sum() + power[rows // 2, columns // 2]
    assert float(inside) == pytest.approx(float(power.sum()), rel=1e-5)


def test_the_difference_is_to_the_reference() -> None:
    power, reference = noise(8, 8).double(), torch.ones(8, 8).double()
    parts = spectrum(power, (2, 2), reference).subfigs
    assert parts[0].axes[0].images[0].get_array().tolist() == power.tolist()
    assert parts[1].axes[0].images[0].get_array().tolist() == (power - 1).tolist()


@pytest.mark.parametrize("shape", [(8, 8), (3, 7), (64, 33), (1, 5), (100, 70)])
def test_each_voxel_of_a_constant_response_is_a_square_of_one_colour(shape) -> None:
    response = noise(*shape).double()
    figure = constant_response(response)
    with Image.open(io.BytesIO(png(figure))) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    axes = figure.axes[0]
    crop = response[:64, :64].numpy()
    box = axes.get_window_extent()
    left, bottom, right, top = (round(edge) for edge in (box.x0, box.y0, box.x1, box.y1))
    block = pixels[len(pixels) - top : len(pixels) - bottom, left:right]
    scale = block.shape[0] // crop.shape[0]
    assert block.shape[:2] == (scale * crop.shape[0], scale * crop.shape[1])
    assert scale >= 11
    image = axes.images[0]
    wanted = image.cmap(image.norm(crop), bytes=True)[..., :3]
    assert np.array_equal(block, wanted.repeat(scale, axis=0).repeat(scale, axis=1))


def test_the_overlay_holds_image_and_size_of_deviation() -> None:
    image, deviation = noise(6, 5).double(), -noise(6, 5).double()
    axes = residual_overlay(image, deviation, image > 0, image > 1).axes[0]
    assert axes.images[0].get_array().tolist() == image.tolist()
    assert axes.images[1].get_array().tolist() == deviation.abs().tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["truth", "prediction"]


def test_each_label_but_the_smallest_has_an_outline() -> None:
    labels = torch.zeros(12, 12)
    labels[2:9, 2:9], labels[4:6, 4:6] = 1, 2
    axes = residual_overlay(labels, labels, truth=labels).axes[0]
    assert len(axes.collections) == 2


def test_a_trajectory_leaves_0_from_a_line_of_its_own() -> None:
    axes = trajectory(EPOCHS).axes[0]
    gain, constant, spin = axes.lines
    floor = axes.get_yticks()[0]
    values = [row["dc_gain"] for row in EPOCHS]
    assert axes.get_yticklabels()[0].get_text() == "0"
    assert gain.get_ydata().tolist() == [floor, *values[1:]]
    assert 0 < floor < min(values[1:])
    assert constant.get_xdata().tolist() == [0, 2, 4]
    assert spin.get_ydata().tolist() == [0.3] * 6


def test_what_rounding_leaves_counts_as_0() -> None:
    axes = two_tone(np.arange(3.0), {"clean": np.array([0.0, 1e-7, -1e-9])}).axes[0]
    assert len(set(axes.lines[0].get_ydata())) == 1


def test_cracks_are_shares_beside_the_even_share() -> None:
    figure = crack_histogram(
        [torch.tensor([3, 1]), None], [torch.tensor([2, 2]), None], ["depth", "height"]
    )
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.5, 0.75, 0.25]
    assert list(axes.lines[0].get_ydata()) == [0.5, 0.5]
