"""nnU-Net's rules: the published plans, and what is odd about spacings and sizes."""

import math

import numpy as np
import pytest

from medseg.planning import rules
from medseg.planning.planner import Choice, choose_like_nnunet, grid_of

from .fingerprints import made, mixed

DATA = {"spatial_dims": 3, "slice_axis": 2, "spacing": None}
# task: spacing and median size along RAS axes, cases, classes with background; patch as published
# (Isensee et al. 2021, supplement; MONAI's dynunet_pipeline/task_params.py). Colon: 192 where
# version 1 has 160; version 2 plans 192 as well (docs/planning.md).
PUBLISHED = {
    "brain tumour": ((1, 1, 1), (138, 169, 138), 484, 4, (128, 128, 128)),
    "heart": ((1.25, 1.25, 1.37), (232, 320, 115), 20, 2, (160, 192, 80)),
    "liver": ((0.77, 0.77, 1), (512, 512, 482), 131, 3, (128, 128, 128)),
    "hippocampus": ((1, 1, 1), (35, 50, 36), 260, 3, (40, 56, 40)),
    "prostate": ((0.62, 0.62, 3.6), (319, 320, 20), 32, 3, (256, 320, 20)),
    "lung": ((0.79, 0.79, 1.24), (512, 512, 252), 63, 2, (160, 192, 80)),
    "pancreas": ((0.8, 0.8, 2.5), (512, 512, 96), 281, 3, (224, 224, 40)),
    "hepatic vessel": ((0.8, 0.8, 1.5), (494, 494, 150), 303, 3, (192, 192, 64)),
    "spleen": ((0.79, 0.79, 1.6), (512, 512, 187), 41, 2, (160, 192, 64)),
    "colon": ((0.78, 0.78, 3), (512, 512, 150), 126, 2, (192, 192, 56)),
}


def like_nnunet(facts, classes: int, **given) -> Choice:
    data = DATA | given
    fixed = {f"data.{key}" for key in given}
    return choose_like_nnunet(grid_of(facts, data, fixed), num_classes=classes, memory_gb=8)


@pytest.mark.parametrize("task", PUBLISHED)
def test_decathlon_as_published(task) -> None:
    spacing, size, cases, classes, patch = PUBLISHED[task]
    choice = like_nnunet(made(spacing, size, cases=cases), classes)
    assert choice.shape.patch == patch
    assert choice.batch == (9 if task == "hippocampus" else 2)
    assert all(n % s == 0 for n, s in zip(patch, choice.shape.total_stride, strict=True))


def test_hippocampus_has_three_halvings_and_prostate_is_halved_in_plane_first() -> None:
    spacing, size, cases, classes, _ = PUBLISHED["hippocampus"]
    assert like_nnunet(made(spacing, size, cases=cases), classes).shape.strides == (
        (1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)
    )  # fmt: skip
    spacing, size, cases, classes, _ = PUBLISHED["prostate"]
    shape = like_nnunet(made(spacing, size, cases=cases), classes).shape
    assert shape.strides[:4] == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert shape.kernels[:3] == ((3, 3, 1), (3, 3, 1), (3, 3, 3))
    assert len(shape.strides) == 7


def test_left_atrium_gets_six_stages() -> None:
    shape = like_nnunet(made((0.625,) * 3, (190, 126, 94), cases=20), 2).shape
    assert shape.patch == (192, 128, 96)
    assert len(shape.strides) == 6
    assert shape.channels == (32, 64, 128, 256, 320, 320)


def test_pictures_get_a_plan_in_two_dimensions() -> None:
    facts = made((1.0, 1.0, 1.0), (512, 384, 1), cases=100)
    grid = grid_of(facts, DATA, ())
    choice = choose_like_nnunet(grid, num_classes=2, memory_gb=8)
    assert (grid.spatial_dims, grid.slice_axis, grid.spacing[2]) == (2, 2, None)
    assert choice.shape.patch == (512, 384)
    assert max(choice.shape.channels) == 512


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_any_axis(axis) -> None:
    size = [96, 96, 96]
    size[axis] = 1
    grid = grid_of(made((1.0, 1.0, 1.0), tuple(size)), DATA, ())
    assert (grid.spatial_dims, grid.slice_axis) == (2, axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_along_any_axis_are_not_halved_at_first(axis) -> None:
    spacing, size = [0.5] * 3, [128] * 3
    spacing[axis], size[axis] = 5.0, 16
    shape = like_nnunet(made(tuple(spacing), tuple(size)), 2).shape
    others = [a for a in range(3) if a != axis]
    assert shape.strides[1][axis] == 1 == shape.kernels[0][axis]
    assert all(shape.strides[1][a] == 2 and shape.kernels[0][a] == 3 for a in others)
    assert shape.patch[axis] == 16


def test_spacing_is_the_median_and_along_a_coarse_axis_the_finest_tenth() -> None:
    few = made((1.0, 1.0, 5.0), (200, 200, 20), cases=4)
    many = made((1.0, 1.0, 10.0), (200, 200, 12), cases=16)
    facts = mixed(few, many)
    target = rules.target_spacing(facts.spacings, facts.sizes)
    assert np.allclose(target[:2], 1)
    assert target[2] == pytest.approx(np.percentile(facts.spacings[:, 2], 10))
    alike = mixed(made((1.0,) * 3, (64,) * 3), made((0.25,) * 3, (256,) * 3))
    assert np.allclose(rules.target_spacing(alike.spacings, alike.sizes), 0.625)


@pytest.mark.parametrize("size", [(5, 5, 5), (9, 30, 17), (1, 7, 64), (3, 200, 3)])
def test_small_and_odd_volumes_have_a_patch_hardly_larger_than_they_are(size) -> None:
    grid = grid_of(made((1.0,) * 3, size), DATA, ())
    shape = choose_like_nnunet(grid, num_classes=2, memory_gb=8).shape
    own = [grid.median_size[axis] for axis in sorted(grid.axes)]
    for n, m, step in zip(shape.patch, own, shape.total_stride, strict=True):
        assert m <= n < m + step


def test_patches_become_smaller_until_nothing_is_left() -> None:
    every = list(rules.shapes((1, 1, 1), (300, 200, 100)))
    volumes = [math.prod(shape.patch) for shape in every]
    assert volumes == sorted(volumes, reverse=True)
    assert len(set(volumes)) == len(volumes)
    assert math.prod(every[0].patch) <= 1.2 * 256**3
    for shape in every:
        assert all(n % s == 0 for n, s in zip(shape.patch, shape.total_stride, strict=True))


def test_a_given_spacing_stays() -> None:
    facts = made((1.0,) * 3, (100,) * 3)
    grid = grid_of(facts, DATA | {"spacing": [2.0, None, 2.0]}, {"data.spacing"})
    assert grid.spacing == (2.0, 1.0, 2.0)
    assert grid.median_size == (50, 100, 50)


@pytest.mark.parametrize("size", [(7, 7, 7), (4, 7, 1), (5, 5), (1, 1, 1)], ids=str)
def test_however_small_the_volumes_are_the_network_has_two_stages(size) -> None:
    every = list(rules.shapes((1.0,) * len(size), size))
    assert all(len(shape.strides) == len(shape.kernels) > 1 for shape in every)
    assert all(len(shape.channels) == len(shape.strides) for shape in every)
    assert all(n < 2 * max(own, 1) for n, own in zip(every[0].patch, size, strict=True) if own > 1)
