"""Variations do what MONAI's and scipy's transforms do with the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms.intensity.array import AdjustContrast, ScaleIntensity
from monai.transforms.spatial.array import Affine, RandSimulateLowResolution
from scipy import ndimage
from torch import Tensor

from medseg.data import variation as steps
from medseg.data.augmentation import STEPS, Augmentation
from medseg.data.variation import Variation

SIZES = [(17, 12, 14), (15, 20)]
EVERYTHING: dict[str, Any] = dict.fromkeys(("flip", "affine", "elastic", *STEPS), 1.0)


def volume(size: tuple[int, ...], channels: int = 2) -> Tensor:
    noise = np.random.default_rng(0).normal(size=(channels, *size))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, *[1.0] * len(size)))).float()


def classes(size: tuple[int, ...]) -> Tensor:
    return (volume(size)[:1] > 0).to(torch.uint8) + (volume(size)[1:] > 0).to(torch.uint8)


def middle(size: tuple[int, ...]) -> list[float]:
    return [(n - 1) / 2 for n in size]


def drawn(size: tuple[int, ...], seed: int = 0, channels: int = 2, **options: Any) -> Variation:
    spacing = options.pop("spacing", (1.0,) * len(size))
    return Augmentation(**options).draw(
        np.random.default_rng(seed), patch_size=size, spacing=spacing, channels=channels
    )


def sampled(image: Tensor, places: np.ndarray, order: int) -> np.ndarray:
    return np.stack(
        [ndimage.map_coordinates(c, places, order=order, mode="nearest") for c in image.numpy()]
    )


def centred(size: tuple[int, ...]) -> np.ndarray:
    return np.indices(size) - np.reshape(middle(size), (-1, *[1] * len(size)))


def agree(found: Tensor, expected: np.ndarray, share: float = 0.995) -> bool:
    """Nearest voxels: places in the middle of two may go either way."""
    return float(np.mean(found.numpy() == expected)) >= share


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turned", [True, False])
def test_a_matrix_moves_voxels_as_scipy_and_monai_do(size: tuple[int, ...], turned: bool) -> None:
    matrix = drawn(size, affine=1, rotation=30 if turned else 0, scale=[0.7, 1.4]).matrix
    assert matrix is not None
    image, label = volume(size), classes(size)
    moved, named = Variation(matrix=matrix).apply(image, label, middle(size), size)
    places = np.tensordot(matrix, centred(size), 1) + np.reshape(
        middle(size), (-1, *[1] * len(size))
    )
    np.testing.assert_allclose(moved, sampled(image, places, 1), atol=2e-4)
    assert agree(named, sampled(label, places, 0))
    affine = np.eye(len(size) + 1)
    affine[:-1, :-1] = matrix
    monais = Affine(affine=affine, padding_mode="border", image_only=True)
    np.testing.assert_allclose(moved, np.asarray(monais(image)), atol=2e-4)


@pytest.mark.parametrize(
    "size", [(210, 250, 5), (300, 260, 3), (5, 40, 300), (1, 9, 8), (2, 1, 7), (9, 1, 1)]
)
def test_a_large_region_is_read_where_it_should_be(size: tuple[int, ...]) -> None:
    """Linear interpolation of coordinates gives the places themselves."""
    coordinates = torch.from_numpy(np.indices(size)).float()
    matrix = drawn(size, affine=1, rotation=20).matrix
    assert matrix is not None
    patch = tuple(min(n, 40) for n in size)
    label = torch.zeros(1, *size, dtype=torch.uint8)
    found, _ = Variation(matrix=matrix).apply(coordinates, label, middle(size), patch)
    places = np.tensordot(matrix, centred(patch), 1) + np.reshape(middle(size), (-1, 1, 1, 1))
    last = np.reshape(size, (-1, 1, 1, 1)) - 1
    np.testing.assert_allclose(found, np.clip(places, 0, last), atol=1 / 250)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("slope", [0.0, 0.037])
def test_an_elastic_deformation_of_a_line_of_control_points_is_a_line(
    size: tuple[int, ...], slope: float
) -> None:
    """Cubic B-splines sum to 1 and reproduce lines."""
    knots = np.indices((6,) * len(size)) - 2.5
    extent = np.reshape([(n - 1) / 3 for n in size], (-1, *[1] * len(size)))
    image, label = volume(size), classes(size)
    varied = Variation(displacement=0.63 + slope * knots * extent)
    moved, named = varied.apply(image, label, middle(size), size)
    places = np.indices(size) + 0.63 + slope * centred(size)
    np.testing.assert_allclose(moved, sampled(image, places, 1), atol=2e-4)
    assert agree(named, sampled(label, places, 0))


@pytest.mark.parametrize("size", SIZES)
def test_smoothing_is_scipys(size: tuple[int, ...]) -> None:
    image, sigmas = volume(size), [0.5, 0.9, 1.0][: len(size)]
    found = steps.smooth_gaussian(image, sigmas={1: sigmas})
    radius = [int(np.ceil(3 * sigma)) for sigma in sigmas]
    expected = ndimage.gaussian_filter(image[1].numpy(), sigmas, mode="nearest", radius=radius)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    assert torch.equal(found[0], image[0])


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("inverted", [True, False])
def test_a_gamma_curve_is_monais(exponent: float, inverted: bool) -> None:
    image = volume(SIZES[0])
    found = steps.change_gamma(image, exponents=[exponent, 1.2], inverted=inverted)
    monais = AdjustContrast(exponent, retain_stats=True, invert_image=inverted)
    np.testing.assert_allclose(found[:1], np.asarray(monais(image[:1])), atol=1e-3)


def test_brightness_is_monais_and_contrast_its_closed_form() -> None:
    image = volume(SIZES[0])
    brighter = steps.change_brightness(image, factors=[1.2, 1.0])
    np.testing.assert_allclose(
        brighter[:1],
        np.asarray(ScaleIntensity(minv=None, maxv=None, factor=0.2)(image[:1])),
        atol=1e-5,
    )
    own = image[0].numpy()
    expected = np.clip(own.mean() + 0.8 * (own - own.mean()), own.min(), own.max())
    found = steps.change_contrast(image, factors=[0.8, 1.3])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_low_resolution_is_monais(size: tuple[int, ...]) -> None:
    image = volume(size)
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    lower = RandSimulateLowResolution(
        prob=1, zoom_range=(0.6, 0.6), downsample_mode="nearest-exact", upsample_mode=mode
    )
    shares = {0: [0.6] * len(size), 1: [0.6] * len(size)}
    found = steps.lower_resolution(image, shares=shares)
    np.testing.assert_allclose(found, np.asarray(lower(image)), atol=1e-5)
    assert torch.equal(steps.lower_resolution(image, shares={0: [1.0] * len(size)}), image)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SIZES), st.booleans())
def test_a_patch_needs_no_more_than_its_region(
    seed: int, size: tuple[int, ...], thick: bool
) -> None:
    spacing = (1.0,) * (len(size) - 1) + (4.0 if thick else 1.0,)
    varied = drawn(size, seed, 1, spacing=spacing, affine=1, rotation=45, scale=0.4, elastic=0.5)
    whole = tuple(3 * n for n in size)
    image, label = volume(whole, 2)[:1], classes(whole)
    centre = middle(whole)
    region = varied.region(centre, size, whole)
    inside = [n - along.start for n, along in zip(centre, region, strict=True)]
    found = varied.apply(image[:, *region], label[:, *region], inside, size)
    expected = varied.apply(image, label, centre, size)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    assert agree(found[1], expected[1].numpy())


@given(st.integers(0, 10_000), st.sampled_from(range(3)))
def test_thick_slices_stay_whole(seed: int, axis: int) -> None:
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 3.5
    varied = drawn((8, 8, 8), seed, spacing=spacing, affine=1, scale=0, **{"elastic": 1})
    assert varied.matrix is not None
    assert varied.displacement is not None
    expected = np.eye(3)[axis]
    np.testing.assert_allclose(varied.matrix[axis], expected, atol=1e-12)
    np.testing.assert_allclose(varied.matrix[:, axis], expected, atol=1e-12)
    assert not varied.displacement[axis].any()


@given(st.integers(0, 10_000), st.sampled_from(sorted(EVERYTHING)))
def test_a_step_that_is_switched_off_leaves_the_others_as_they_were(seed: int, off: str) -> None:
    size = SIZES[0]
    some: dict[str, Any] = dict.fromkeys(EVERYTHING, 0.5)
    some["flip_axes"] = (0, 1, 2)
    full, less = drawn(size, seed, **some), drawn(size, seed, **{**some, off: 0.0})
    if off != "affine":
        np.testing.assert_equal(full.matrix, less.matrix)
    if off != "elastic":
        np.testing.assert_equal(full.displacement, less.displacement)
    if off != "flip":
        assert full.flips == less.flips
    named, left = (
        [(step.func, step.keywords) for step in each.steps]  # type: ignore[attr-defined]
        for each in (full, less)
    )
    assert [step for step in named if step in left] == left
    assert len(named) - len(left) in ((0, 1) if off in STEPS else (0,))


def test_rotations_turn_the_body_and_not_the_grid_of_uneven_voxels() -> None:
    spacing = np.array([1.0, 2.0, 1.5])
    matrix = drawn((8, 8, 8), spacing=spacing, affine=1, rotation=30, scale=0).matrix
    assert matrix is not None
    in_mm = matrix * spacing[:, None] / spacing
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(in_mm) == pytest.approx(1)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 1.0},
        {"scale": [0.5, 0.9]},
        {"scale": [-1, 2]},
        {"elastic_size": 0.5},
        {"rotation": -15.0},
    ],
    ids=str,
)
def test_impossible_ranges_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Augmentation(**options)
