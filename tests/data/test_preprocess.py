import json
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms.intensity.array import ScaleIntensityRange
from PIL import Image
from scipy import ndimage

from medseg.data.phantom import phantom_case
from medseg.data.preprocess import (
    MinMax,
    PerChannel,
    Preprocessing,
    Unchanged,
    Window,
    ZScore,
)
from medseg.data.resampling import cubic, resample, strongest
from medseg.errors import ConfigError
from medseg.labelling import Labelling
from medseg.metrics import dice
from medseg.volumes import Volume

from ..pairwise import covering

AsVolume = Callable[..., Volume]
Turn = Callable[..., tuple[np.ndarray, np.ndarray]]
CLASSES = Labelling(("one", "two"))
AFFINE = np.diag([1.0, 1.25, 1.5, 1.0])
GRIDS = [
    {},
    {"spatial_dims": 2, "slice_axis": 0},
    {"spatial_dims": 2, "slice_axis": 1},
    {"spatial_dims": 2, "slice_axis": 2},
]
SPACING = (1.4, 0.9, None)


def test_a_window_is_monais_to_the_bit() -> None:
    image = 800 * torch.randn(1, 9, 8, 7)
    for low, high in ((-1000, 400), (-160.3, 240.7)):
        monais = ScaleIntensityRange(low, high, -1.0, 1.0, clip=True)(image)
        assert torch.equal(Window(low=low, high=high)(image), torch.as_tensor(monais))


def quadratic(shape: tuple[int, ...]) -> torch.Tensor:
    """A polynomial of degree 2 in the places of voxels, in the extent of the grid."""
    x, y, z = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    return torch.tensor(1 + 2 * x - y + 3 * x * y - 2 * z**2 + x**2)[None].float()


@covering(first=[20, 33], second=[13, 40], third=[16, 27])
def test_cubic_interpolation_is_exact_for_quadratics(first: int, second: int, third: int) -> None:
    # Keys 1981, section III: third-order convergence; two voxels at the border are repeated ones
    shape, size = (24, 24, 24), (first, second, third)
    inside = tuple(slice(n // 6, -(n // 6)) for n in size)
    difference = (cubic(quadratic(shape), size) - quadratic(size))[0][inside]
    assert difference.abs().max() < 1e-5
    assert torch.allclose(cubic(torch.full((2, 5, 6, 7), 3.0), size), torch.tensor(3.0))


def test_cubic_interpolation_is_pillows_where_an_image_grows() -> None:
    image = torch.rand(18, 22)
    grown = Image.fromarray(image.numpy()).resize((50, 45), Image.Resampling.BICUBIC)
    ours = cubic(image[None, :, :, None], (45, 50, 1))[0, :, :, 0]
    inside = slice(8, -8)  # at a border Pillow leaves voxels out
    assert np.allclose(np.asarray(grown)[inside, inside], ours[inside, inside], atol=1e-6)


def test_cubic_interpolation_brings_more_of_an_image_back() -> None:
    image = torch.tensor(ndimage.gaussian_filter(np.random.default_rng(0).normal(size=[40] * 3), 1))
    image = image[None].float()
    errors = [
        (way(way(image, (31, 52, 40)), (40, 40, 40)) - image).square().mean()
        for way in (cubic, resample)
    ]
    assert errors[0] < 0.5 * errors[1]


def oblique() -> np.ndarray:
    angle = np.deg2rad(20)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return rotation @ AFFINE


def one_hot(labels: torch.Tensor, classes: int = 3) -> torch.Tensor:
    return torch.stack([labels == value for value in range(classes)]).float()


@covering(grid=GRIDS, spacing=[None, SPACING], affine=[AFFINE, oblique()])
def test_a_turned_copy_gives_the_same_tensors_to_the_bit(
    grid: dict,
    spacing: tuple | None,
    affine: np.ndarray,
    orientations: list[str],
    as_volume: AsVolume,
    turn: Turn,
) -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 4, 5, 6)).astype(np.float32)
    labels = random.integers(0, 3, (4, 5, 6)).astype(np.uint8)
    preprocessing = Preprocessing(intensity=ZScore(), spacing=spacing, **grid)
    expected_image = preprocessing.image(as_volume(image, affine))
    expected_labels = preprocessing.labels(as_volume(labels, affine))
    assert len(orientations) == 48
    for codes in orientations:
        turned_image, turned_labels = (
            as_volume(*turn(array, affine, codes)) for array in (image, labels)
        )
        assert "".join(turned_image.geometry.axcodes) == codes
        assert torch.equal(preprocessing.image(turned_image), expected_image)
        assert torch.equal(preprocessing.labels(turned_labels), expected_labels)


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_come_back_exactly_where_the_spacing_is_kept(
    grid: dict, orientations: list[str], as_volume: AsVolume, turn: Turn
) -> None:
    stored = np.random.default_rng(0).integers(0, 3, (3, 4, 5)).astype(np.uint8)
    preprocessing = Preprocessing(intensity=ZScore(), **grid)
    for codes in orientations:
        volume = as_volume(*turn(stored, AFFINE, codes))
        scores = one_hot(preprocessing.labels(volume))
        restored = preprocessing.restore_labels(scores, volume, CLASSES)
        assert restored.dtype == np.uint8
        np.testing.assert_array_equal(restored, volume.array)
        np.testing.assert_array_equal(
            preprocessing.restore_scores(scores, volume).argmax(0), volume.array
        )


@covering(
    grid=GRIDS,
    codes=["RAS", "PIR", "AIL"],
    spacing=[(1.5, 1.5, 1.5), (0.8, None, 1.0), (1.1, 1.3, 1.9)],
)
def test_smooth_shapes_survive_a_change_of_spacing(
    grid: dict, codes: str, spacing: tuple, as_volume: AsVolume, turn: Turn
) -> None:
    _, labels = phantom_case(1, shape=(50, 44, 38), spacing=(1, 1.25, 1.5))
    volume = as_volume(*turn(labels, AFFINE, codes))
    preprocessing = Preprocessing(intensity=ZScore(), spacing=spacing, **grid)
    scores = one_hot(preprocessing.labels(volume))
    restored = preprocessing.restore_labels(scores, volume, CLASSES)
    assert restored.shape == volume.array.shape
    assert preprocessing.restore_scores(scores, volume).shape == (3, *volume.array.shape)
    for value in (1, 2):
        agreement = dice(torch.tensor(restored == value), torch.tensor(volume.array == value))
        assert agreement is not None
        assert agreement > 0.95


def test_the_grid_spacing_follows_the_axes_of_the_network(as_volume: AsVolume, turn: Turn) -> None:
    array, affine = turn(np.zeros((1, 20, 24, 30), np.float32), AFFINE, "SRA")
    volume = as_volume(array, affine)
    assert volume.geometry.spacing == (1.5, 1.0, 1.25)
    kept = Preprocessing(intensity=ZScore())
    assert kept.grid_spacing(volume) == (1.0, 1.25, 1.5)
    sagittal = Preprocessing(
        intensity=ZScore(), spacing=(2.0, None, 3.0), spatial_dims=2, slice_axis=0
    )
    assert sagittal.grid_spacing(volume) == (1.25, 3.0, 2.0)
    assert sagittal.image(volume).shape == (1, 24, 15, 10)


def test_the_grid_has_the_whole_number_of_voxels_that_fits_best(as_volume: AsVolume) -> None:
    volume = as_volume(np.ones((1, 20, 20, 20), np.float32))  # 20 x 25 x 30 mm
    preprocessing = Preprocessing(intensity=ZScore(), spacing=(1.06, 1.7, 2.9))
    assert preprocessing.image(volume).shape == (1, 19, 15, 10)


def test_between_two_classes_no_third_one_appears(as_volume: AsVolume) -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 2
    fine = Preprocessing(intensity=ZScore(), spacing=(0.4, 0.4, 0.4)).labels(as_volume(labels))
    assert fine.shape == (20, 25, 30)
    assert fine.unique().tolist() == [0, 2]


def test_no_axis_vanishes_under_a_coarse_spacing(as_volume: AsVolume) -> None:
    volume = as_volume(np.ones((1, 3, 4, 5), np.float32))
    coarse = Preprocessing(intensity=ZScore(), spacing=(50, 50, 50))
    assert coarse.image(volume).shape == (1, 1, 1, 1)
    assert coarse.restore_labels(torch.ones(2, 1, 1, 1), volume, CLASSES).shape == (3, 4, 5)


def test_zscore_has_mean_0_and_variance_1_in_every_channel() -> None:
    scale = torch.tensor([3.0, 0.01, 50.0])[:, None, None, None]
    image = torch.randn(3, 20, 20, 20, generator=torch.Generator().manual_seed(0)) * scale + 5
    kept = image.clone()
    normalised = ZScore()(image)
    assert type(normalised) is torch.Tensor
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.mean((1, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    variance = normalised.var((1, 2, 3), correction=0)
    torch.testing.assert_close(variance, torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(image, kept, rtol=0, atol=0)


@settings(max_examples=50)
@given(
    value=st.floats(-(2.0**100), 2.0**100, width=32),
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    nonzero=st.booleans(),
)
def test_zscore_of_a_constant_image_is_zero(
    value: float, shape: tuple[int, ...], nonzero: bool
) -> None:
    assert not ZScore(nonzero=nonzero)(torch.full((1, *shape), value)).any()


def test_zscore_can_leave_the_zeros_alone() -> None:
    image = torch.zeros(2, 12, 12, 12)
    inside = torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(0)) + 100
    image[0, 3:9, 3:9, 3:9] = inside
    normalised = ZScore(nonzero=True)(image)
    assert not normalised[1].any()
    assert not normalised[0][image[0] == 0].any()
    counted = normalised[0, 3:9, 3:9, 3:9]
    torch.testing.assert_close(counted, (inside - inside.mean()) / inside.std(correction=0))
    assert ZScore()(image)[0, 0, 0, 0] < 0


def test_window_clips_and_maps_linearly_to_plus_minus_1() -> None:
    image = torch.tensor([-3000.0, -100, 0, 150, 400, 3000]).reshape(1, 1, 1, 6)
    mapped = Window(low=-100, high=400)(image)
    assert type(mapped) is torch.Tensor
    torch.testing.assert_close(mapped.flatten(), torch.tensor([-1, -1, -0.6, 0, 1, 1]))


@pytest.mark.parametrize("low", [400.0, 500.0, float("nan")])
def test_a_window_without_width_is_refused(low: float) -> None:
    with pytest.raises(ValueError, match=r"low=.* must be smaller than high=400"):
        Window(low=low, high=400.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": (1, 1)}, r"spacing=\(1, 1\) must be three positive numbers in mm"),
        ({"spacing": (1, 0, 1)}, "spacing=.* must be three positive numbers in mm"),
        ({"spacing": (1, -1.0, 1)}, "spacing=.* must be three positive numbers"),
        ({"spacing": (1, float("nan"), 1)}, "spacing=.* must be three positive numbers"),
        ({"spacing": (1, float("inf"), 1)}, "spacing=.* must be three positive numbers"),
        ({"spacing": (1, "wide", 1)}, "spacing=.*wide.* must be three positive numbers"),
        ({"spacing": 2.0}, "spacing=2.0 must be three positive numbers"),
        ({"slice_axis": 3}, r"slice_axis=3 must be 0, 1 or 2 \(2 is axial\)"),
        ({"spatial_dims": 4}, r"spatial_dims=4 must be 2 \(slices\) or 3 \(volumes\)"),
    ],
)
def test_impossible_grids_are_refused_with_value_and_rule(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(intensity=ZScore(), **options)


def test_each_channel_has_its_own_mapping() -> None:
    image = torch.from_numpy(np.random.default_rng(0).normal(5, 3, (4, 3, 4, 5))).float()
    mappings = [Window(low=0, high=10), ZScore(nonzero=True), MinMax(), Unchanged()]
    found = PerChannel(channels=mappings)(image)
    for channel, (mapping, own) in enumerate(zip(mappings, found, strict=True)):
        assert torch.equal(own, mapping(image[[channel]])[0])
    assert (found[2].min(), found[2].max()) == (0, 1)
    assert torch.equal(found[3], image[3])
    assert not MinMax()(torch.full((1, 2, 2, 2), 7.0)).any()


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(intensity=ZScore()),
        Preprocessing(intensity=ZScore(nonzero=True), spacing=(1, None, 2.5)),
        Preprocessing(intensity=Window(low=-20, high=30), spatial_dims=2, slice_axis=1),
        Preprocessing(
            intensity=PerChannel(channels=[Window(low=-20, high=30), MinMax(), Unchanged()])
        ),
        Preprocessing(intensity=ZScore(), crop="nonzero"),
    ],
)
def test_a_description_survives_json(preprocessing: Preprocessing) -> None:
    plain = json.loads(json.dumps(preprocessing.describe()))
    again = Preprocessing.from_description(plain)
    assert again == preprocessing
    assert again.describe() == preprocessing.describe() == plain
    # what was not cropped is described, and its hash made, as before there was a crop
    assert ("crop" in plain) == (preprocessing.crop is not None)


@pytest.mark.parametrize(
    "description",
    [
        None,
        {},
        {"intensity": "ZScore"},
        {"intensity": {"name": "os.system"}},
        {"intensity": {"name": "Window", "low": 1}},
        {"intensity": {"name": "Window", "low": 2, "high": 1}},
        {"intensity": {"name": "ZScore", "sigma": 1}},
        {"intensity": {"name": "ZScore"}, "crop": "brain"},
        {"intensity": {"name": "ZScore"}, "mystery": 1},
        {"intensity": {"name": "ZScore"}, "spacing": [1, 1]},
    ],
)
def test_a_strange_description_is_refused(description: dict) -> None:
    with pytest.raises(ConfigError, match="cannot be rebuilt"):
        Preprocessing.from_description(description)


@pytest.mark.parametrize("size", [(9, 5, 16), (3, 11, 8), (1, 1, 1)])
def test_resample_equals_scipy(size: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).normal(size=(2, 6, 7, 8))
    fine = resample(torch.from_numpy(image), size)
    factors = np.divide(size, image.shape[1:])
    for channel, found in zip(image, fine, strict=True):
        reference = ndimage.zoom(channel, factors, order=1, grid_mode=True, mode="nearest")
        np.testing.assert_allclose(found.numpy(), reference, atol=1e-10)


def test_ties_go_to_the_lowest_class() -> None:
    scores = torch.tensor([[0.0, 2, 1, 1], [0, 2, 1, 2], [0, 1, 3, 2]])[:, :, None, None]
    assert strongest(scores, (4, 1, 1)).flatten().tolist() == [0, 0, 2, 1]


@pytest.mark.parametrize("size", [(4, 5, 6), (8, 4, 7)])
def test_strongest_equals_the_argmax_of_resampled_scores(size: tuple[int, int, int]) -> None:
    scores = torch.randn(5, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    labels = strongest(scores, size)
    assert labels.dtype == torch.uint8
    torch.testing.assert_close(labels.long(), resample(scores, size).argmax(0))


@pytest.mark.parametrize("size", [(4, 5, 6), (8, 4, 7)])
def test_strongest_never_holds_more_than_two_of_the_maps(size: tuple[int, int, int]) -> None:
    alive: list[weakref.ref] = []
    most = 0

    def one_after_the_other():
        nonlocal most
        for _ in range(6):
            score = torch.rand(4, 5, 6)
            alive.append(weakref.ref(score))
            most = max(most, sum(ref() is not None for ref in alive))
            yield score

    strongest(one_after_the_other(), size)
    assert len(alive) == 6
    assert most <= 2


def test_slices_lie_along_the_last_axis_in_2d(as_volume: AsVolume) -> None:
    image = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)
    window = Window(low=-1.0, high=1.0 + 2 * 3 * 4)
    whole = Preprocessing(intensity=window).image(as_volume(image))
    for axis, shape in ((0, (3, 4, 2)), (1, (2, 4, 3)), (2, (2, 3, 4))):
        flat = Preprocessing(intensity=window, spatial_dims=2, slice_axis=axis)
        tensor = flat.image(as_volume(image))
        assert tensor.shape == (1, *shape)
        torch.testing.assert_close(tensor[0, ..., 1], whole[0].select(axis, 1), rtol=0, atol=0)
