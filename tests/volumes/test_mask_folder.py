from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import DataError
from medseg.volumes import files_of, label_keys, read_labels


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    liver, tumour = np.zeros((2, 5, 4, 3), np.uint8)
    liver[:3], tumour[2:4] = 1, 255
    write(tmp_path / "masks/liver.nii.gz", liver)
    write(tmp_path / "masks/tumour.nii.gz", tumour)
    (tmp_path / "masks/._liver.nii.gz").touch()
    return tmp_path / "masks"


def test_files_name_the_classes_and_the_smaller_wins(folder: Path) -> None:
    assert label_keys(folder) == {"liver": "liver", "tumour": "tumour"}
    labels = read_labels(folder, num_classes=3, values={"tumour": 1, "liver": 2})
    assert [*labels.array[:, 0, 0]] == [2, 2, 1, 1, 0]
    assert "share" in " ".join(labels.notes)
    assert len(files_of(folder)) == 3


@pytest.mark.parametrize(
    ("array", "affine"),
    [
        (np.ones((5, 4, 2), np.uint8), None),
        (np.ones((5, 4, 3), np.uint8), np.diag([2, 1, 1, 1])),
        (np.arange(60, dtype=np.uint8).reshape(5, 4, 3), None),
    ],
    ids=["shape", "place", "values"],
)
def test_what_is_no_mask_beside_the_others_is_named(array, affine, folder: Path) -> None:
    write(folder / "tumour.nii.gz", array, affine)
    with pytest.raises(DataError, match=r"tumour\.nii\.gz"):
        read_labels(folder, num_classes=3, values={"tumour": 1, "liver": 2})


def test_an_empty_folder_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        label_keys(tmp_path)
