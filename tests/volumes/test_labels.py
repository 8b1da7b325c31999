from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import DataError
from medseg.volumes import Volume, check_same_grid, read_image, read_labels

HIPPOCAMPUS = Path(__file__).parents[3] / "shared/data/Task04_Hippocampus"
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


def test_scaled_labels_are_read_by_their_value(save_edited: Save) -> None:
    path = save_edited(np.array([[[0, 100, 200]]], np.uint8), scl_slope=0.01, scl_inter=0)
    with pytest.raises(DataError, match="not whole numbers"):  # 0.01 is no float32
        read_labels(path, num_classes=3)
    path = save_edited(np.array([[[0, 2, 4]]], np.uint8), scl_slope=0.5, scl_inter=0)
    np.testing.assert_array_equal(read_labels(path, num_classes=3).array, [[[0, 1, 2]]])


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
            check_same_grid(image, labels)
    elif outcome == "note":
        assert "0.1 voxels" in str(check_same_grid(image, labels))
    else:
        assert check_same_grid(image, labels) is None


def test_labels_turned_over_are_refused(affine: np.ndarray, save: Save) -> None:
    turned = affine @ np.diag([-1, -1, 1, 1])
    with pytest.raises(DataError, match="voxels away"):
        check_same_grid(*pair_on(save, affine, turned))


def test_labels_of_another_shape_are_refused(voxels: np.ndarray, save: Save) -> None:
    image = read_image(save(voxels, "i.nii"))
    labels = read_labels(save(np.zeros((7, 6, 4), np.uint8), "l.nii"), num_classes=2)
    with pytest.raises(DataError, match=r"l\.nii: its shape \(7, 6, 4\) differs .*i\.nii"):
        check_same_grid(image, labels)
