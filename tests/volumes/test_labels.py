from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import DataError
from medseg.volumes import Volume, on_grid_of, read_image, read_labels

from ..conftest import ORIENTATIONS

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
Save = Callable[..., Path]


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_of_every_type_become_uint8(dtype: str, save: Save) -> None:
    labels = (np.arange(24).reshape(2, 3, 4) % 3).astype(dtype)
    volume = read_labels(save(labels), num_classes=3)
    assert volume.array.dtype == np.uint8
    assert volume.array.flags.c_contiguous
    np.testing.assert_array_equal(volume.array, labels)


def test_labels_beyond_255_become_uint16(save: Save) -> None:
    labels = np.arange(300).reshape(10, 30, 1).astype(np.int32)
    volume = read_labels(save(labels), num_classes=None)
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array, labels)


@pytest.mark.parametrize("classes", [3, 200, 300])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4"])
def test_labels_that_a_writer_scaled_to_an_integer_type_are_rounded(
    dtype: str, classes: int, tmp_path: Path
) -> None:
    if classes > 255 and np.dtype(dtype).itemsize == 1:
        pytest.skip("more classes than the type has steps")
    labels = np.random.default_rng(0).integers(0, classes, (8, 9, 10))
    image = nib.Nifti1Image(labels.astype(np.float64), np.eye(4))
    image.header.set_data_dtype(dtype)  # nibabel scales what is computed to fill the type
    nib.save(image, tmp_path / "a.nii")
    volume = read_labels(tmp_path / "a.nii", num_classes=classes)
    np.testing.assert_array_equal(volume.array, labels)
    is_rounded = not np.array_equal(nib.load(tmp_path / "a.nii").get_fdata(), labels)
    assert len([note for note in volume.notes if "rounded" in note]) == is_rounded


def test_scaled_labels_are_read_by_their_value(save_edited: Save) -> None:
    for voxels, slope in (([0, 100, 200], 0.01), ([0, 2, 4], 0.5)):  # 0.01 is no float32
        path = save_edited(np.array([[voxels]], np.uint8), scl_slope=slope, scl_inter=0)
        np.testing.assert_array_equal(read_labels(path, num_classes=3).array, [[[0, 1, 2]]])


@pytest.mark.parametrize("off", [1e-7, -1e-5, 5e-4])
def test_labels_that_were_computed_with_are_rounded(off: float, save: Save) -> None:
    labels = np.array([[[0, 1, 2]]], np.float32)
    volume = read_labels(save(labels + np.float32(off)), num_classes=3)
    np.testing.assert_array_equal(volume.array, labels)


@pytest.mark.parametrize("slope", [0.001, 0.3, 0.98])
def test_a_scaled_image_is_no_label_map(slope: float, save_edited: Save) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (8, 9, 10)).astype(np.uint8)
    with pytest.raises(DataError, match="not whole numbers"):
        read_labels(save_edited(voxels, scl_slope=slope, scl_inter=0), num_classes=300)


VALUES = [
    # values, in the file, as classes 0..2, ignored 3
    ({4: 2}, [0, 1, 4], [0, 1, 2]),
    ({1: 1, 4: 2}, [0, 1, 4], [0, 1, 2]),
    ({1: 2, 2: 1}, [0, 1, 2], [0, 2, 1]),
    ({5: 0, 7: 1, 8: 1}, [0, 5, 7, 8, 2], [0, 0, 1, 1, 2]),
    ({300: 1, 65535: "ignore"}, [0, 300, 65535], [0, 1, 3]),
    ({1: 2, 2: "ignore"}, [1, 2], [2, 3]),
    ({0: "ignore", 9: 0}, [0, 9, 1], [3, 0, 1]),
]


@pytest.mark.parametrize(("values", "stored", "classes"), VALUES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_label_values_become_classes(
    values: dict, stored: list[int], classes: list[int], dtype: type, save: Save
) -> None:
    path = save(np.array([[stored]], dtype))
    volume = read_labels(path, num_classes=3, values=values)
    np.testing.assert_array_equal(volume.array, [[classes]])
    assert volume.array.dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ({4: 2}, [0, 2, 4]),  # which 2 is meant?
        ({9: "ignore"}, [0, 9, 4]),
        ({4: 1}, [0, -1]),
        ({4: 1}, [0, 70_000]),
        (None, [0, 3]),  # the class of what is ignored, where nothing is
        ({4: 1}, [0, 3]),
    ],
    ids=str,
)
def test_label_values_that_nobody_accounts_for_are_refused(
    values: dict | None, stored: list[int], save: Save
) -> None:
    with pytest.raises(DataError, match=r"scan\.nii\.gz: holds label"):
        read_labels(save(np.array([[stored]], np.int32)), num_classes=3, values=values)


def test_labels_outside_the_classes_are_listed_with_counts(save: Save) -> None:
    labels = np.zeros((3, 4, 5), np.int16)
    labels[0, 0, :2], labels[1, 1, 1] = -1, 4
    with pytest.raises(DataError) as caught:
        read_labels(save(labels), num_classes=4)
    assert "outside 0..3: -1 (2 of 60 voxels), 4 (1 of 60 voxels); map" in str(caught.value)


def test_many_wrong_labels_are_not_all_listed(save: Save) -> None:
    labels = np.arange(60).reshape(3, 4, 5).astype(np.int16)
    with pytest.raises(DataError, match=r"2 \(1 of 60 voxels\), .* and 48 more values"):
        read_labels(save(labels), num_classes=2)


@pytest.mark.parametrize("value", [-1, 65536, 2**40])
def test_labels_beyond_any_label_type_are_refused(value: int, save: Save) -> None:
    labels = np.full((2, 2, 2), value, np.int64)
    with pytest.raises(DataError, match=rf"outside 0\.\.65535: {value} \(8 of 8"):
        read_labels(save(labels), num_classes=None)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_labels_that_are_no_whole_numbers_are_refused(value: float, save: Save) -> None:
    labels = np.ones((2, 3, 4), np.float32)
    labels[0, 0, 0] = value
    with pytest.raises(DataError, match="1 of 24 voxels are not whole numbers"):
        read_labels(save(labels), num_classes=2)


def test_labels_of_several_volumes_are_refused(save: Save) -> None:
    with pytest.raises(DataError, match=r"shape \(2, 3, 4, 2\)"):
        read_labels(save(np.zeros((2, 3, 4, 2), np.uint8)), num_classes=2)


def pair_on(save: Save, affine: np.ndarray, moved: np.ndarray) -> tuple[Volume, Volume]:
    image = save(np.arange(60).reshape(3, 4, 5).astype(np.float32), "i.nii", affine)
    labels = save(np.zeros((3, 4, 5), np.uint8), "l.nii", moved)
    return read_image(image), read_labels(labels, num_classes=2)


@pytest.mark.parametrize(
    ("voxels_moved", "outcome"), [(0, "same"), (5e-4, "same"), (0.1, "note"), (0.6, "refused")]
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_moved_against_their_image(
    voxels_moved: float, outcome: str, axis: int, affine: np.ndarray, save: Save
) -> None:
    moved = affine.copy()
    moved[:3, 3] += voxels_moved * affine[:3, axis]
    image, labels = pair_on(save, affine, moved)
    if outcome == "refused":
        with pytest.raises(DataError, match=r"l\.nii: its grid lies up to 0\.6 voxels .*i\.nii"):
            on_grid_of(image, labels)
    else:
        assert len(on_grid_of(image, labels).notes) == (outcome == "note")


def test_labels_turned_over_are_refused(affine: np.ndarray, save: Save) -> None:
    turned = affine @ np.diag([-1, -1, 1, 1])
    with pytest.raises(DataError, match="voxels away"):
        on_grid_of(*pair_on(save, affine, turned))


def test_labels_of_another_shape_are_refused(voxels: np.ndarray, save: Save) -> None:
    image = read_image(save(voxels, "i.nii"))
    labels = read_labels(save(np.zeros((7, 6, 4), np.uint8), "l.nii"), num_classes=2)
    with pytest.raises(DataError, match=r"l\.nii: its shape \(7, 6, 4\) differs .*i\.nii"):
        on_grid_of(image, labels)


@pytest.mark.parametrize("degrees", [0, 20, 45])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (3, 4, 1)], ids=str)
def test_labels_in_another_order_of_axes_are_turned_onto_their_image(
    shape: tuple[int, ...], degrees: float, affine: np.ndarray, as_volume, turn
) -> None:
    angle = np.deg2rad(degrees)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = rotation @ affine
    labels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    for codes in ORIENTATIONS:
        image = as_volume(labels[None].astype(np.float32), affine)
        turned = as_volume(*turn(labels, affine, codes))
        found = on_grid_of(image, turned)
        np.testing.assert_array_equal(found.array, labels)
        np.testing.assert_allclose(found.geometry.affine, affine, atol=1e-6)
        assert bool(found.notes) == (found.geometry.axcodes != turned.geometry.axcodes)


@pytest.mark.parametrize("mirrored", [0, 1, 2])
def test_mirrored_labels_are_not_taken_for_labels_in_another_order(
    mirrored: int, affine: np.ndarray, as_volume
) -> None:
    moved = affine.copy()
    moved[:, mirrored] *= -1  # the axis runs the other way from the same corner
    image = as_volume(np.zeros((1, 3, 4, 5), np.float32), affine)
    with pytest.raises(DataError, match="voxels away"):
        on_grid_of(image, as_volume(np.zeros((3, 4, 5), np.uint8), moved))
