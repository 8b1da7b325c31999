"""What images are like in numbers, and which one is unlike the others."""

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.record import ImageRange
from medseg.volumes import range_of, read_image

MR = ImageRange(
    spacing=[[1.0, 1.0]] * 3, extent=[[30, 43], [40, 59], [24, 47]], intensity=[0, 500], tilt=0
)


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("signs", [*product((1, -1), repeat=3)], ids=str)
def test_a_volume_is_the_same_in_every_order_of_its_axes(tmp_path, order, signs) -> None:
    voxels = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    start = nib.orientations.io_orientation(np.eye(4))
    moved = nib.Nifti1Image(voxels, affine).as_reoriented(
        np.column_stack([order, signs]).astype(start.dtype)
    )
    nib.save(moved, tmp_path / "x.nii")
    found = range_of(read_image(tmp_path / "x.nii"))
    assert found.spacing == [[0.5, 0.5], [2, 2], [3, 3]]
    assert found.extent == [[1, 1], [6, 6], [12, 12]]
    assert found.intensity == [0, 23]
    assert found.tilt == 0


@pytest.mark.parametrize("degrees", [5.0, 20.0, 40.0])
def test_the_tilt_of_a_turned_volume_is_its_angle(tmp_path, degrees: float) -> None:
    turn, angle = np.eye(4), np.radians(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), turn), tmp_path / "x.nii")
    assert range_of(read_image(tmp_path / "x.nii")).tilt == pytest.approx(degrees, abs=0.05)


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({}, 0),
        ({"spacing": [[1.4, 1.4]] * 3}, 0),
        ({"spacing": [[6.0, 6.0]] * 3}, 3),
        ({"spacing": [[1, 1], [1, 1], [0.5, 0.5]]}, 1),
        ({"extent": [[140, 140], [50, 50], [30, 30]]}, 1),
        ({"intensity": [-1000, 500]}, 1),
        ({"intensity": [0, 549]}, 0),
        ({"intensity": [0, 560]}, 1),
        ({"intensity": [7, 7]}, 1),
        ({"tilt": 16}, 1),
    ],
    ids=str,
)
def test_what_differs_from_the_images_of_training_is_said(change: dict, differences: int) -> None:
    usual = replace(MR, extent=[[35, 35], [50, 50], [36, 36]], intensity=[10, 400])
    assert len(MR.differences(replace(usual, **change))) == differences


AXES = st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)).map(sorted), min_size=3, max_size=3)
RANGES = st.builds(
    ImageRange,
    spacing=AXES,
    extent=AXES,
    intensity=st.tuples(st.floats(-9, 0), st.floats(1, 9)).map(list),
    tilt=st.floats(0, 50),
)


@given(st.lists(RANGES, min_size=1, max_size=4))
def test_no_image_is_unlike_those_that_it_is_one_of(ranges: list[ImageRange]) -> None:
    joined = ImageRange.joined(ranges)
    assert [joined.differences(one) for one in ranges] == [[]] * len(ranges)
    assert ImageRange.joined([joined, *ranges]) == joined
