"""Images that are in memory already, against the file that holds the same."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import DataError
from medseg.inference.predictor import Predictor
from medseg.volumes import read_image

OBLIQUE = nib.affines.from_matvec(
    np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.3, 1, 0.2], [0, -0.1, 1]]))[0] * [0.9, 1.3, 2.5],
    [5, -7, 11],
)


@pytest.fixture(scope="module")
def predictor(make_model: Callable[..., Path]) -> Predictor:
    return Predictor.from_run(str(make_model(3, spacing=(1.2, 1.2, 1.7))), device="cpu")


@pytest.fixture
def path(save_scan: Callable[..., Path], scan: np.ndarray) -> Path:
    scan[3, 4, 5] = np.nan
    return save_scan(scan, affine=OBLIQUE)


@pytest.fixture
def wanted(predictor: Predictor, path: Path) -> np.ndarray:
    labels = predictor.predict(read_image(path, nonfinite="replace")).labels
    assert len(np.unique(labels)) > 1
    return labels


def test_a_path_and_an_image_of_nibabel_become_one_of_nibabel(
    predictor: Predictor, path: Path, wanted: np.ndarray
) -> None:
    for image in (str(path), path, nib.load(path)):
        got = predictor(image)
        np.testing.assert_array_equal(got.dataobj, wanted)
        np.testing.assert_allclose(got.affine, OBLIQUE, atol=1e-5)
        assert got.get_data_dtype() == np.uint8


def test_another_image_of_nibabel_has_its_affine(
    predictor: Predictor, path: Path, wanted: np.ndarray
) -> None:
    image = nib.load(path)
    other = nib.MGHImage(np.asarray(image.dataobj, np.float32), image.affine)
    got = predictor(other)
    np.testing.assert_array_equal(got.dataobj, wanted)
    np.testing.assert_allclose(got.affine, OBLIQUE, atol=1e-4)


def test_an_image_of_simpleitk_becomes_one(
    predictor: Predictor, path: Path, wanted: np.ndarray
) -> None:
    image = sitk.ReadImage(str(path))
    got = predictor(image)
    differ = wanted != sitk.GetArrayFromImage(got).T
    assert np.count_nonzero(differ) <= 2  # its geometry has other last digits
    assert got.GetOrigin() == image.GetOrigin()
    assert got.GetDirection() == image.GetDirection()
    assert got.GetSpacing() == image.GetSpacing()


def test_an_array_becomes_an_array(
    predictor: Predictor, path: Path, scan: np.ndarray, wanted: np.ndarray
) -> None:
    np.testing.assert_array_equal(predictor(scan, affine=OBLIQUE), wanted)
    np.testing.assert_array_equal(predictor(scan[None], affine=OBLIQUE), wanted)


def test_channels_come_first_in_arrays_and_last_in_images(
    make_model: Callable[..., Path], scan: np.ndarray
) -> None:
    predictor = Predictor.from_run(make_model(3, in_channels=2), device="cpu")
    array = np.stack([scan, 1 - scan])
    wanted = predictor(array, affine=OBLIQUE)
    image = nib.Nifti1Image(np.moveaxis(array, 0, -1), OBLIQUE)
    np.testing.assert_array_equal(predictor(image).dataobj, wanted)
    lps = np.diag([-1, -1, 1, 1]) @ OBLIQUE
    own = sitk.GetImageFromArray(np.moveaxis(array, 0, -1).transpose(2, 1, 0, 3), isVector=True)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    own.SetSpacing(spacing.tolist())
    own.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    own.SetOrigin(lps[:3, 3].tolist())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(predictor(own)).T, wanted)


@pytest.mark.parametrize("image", [7, np.zeros((4, 4, 4)), [[1.0]]])
def test_what_is_no_image_is_refused(image: object, predictor: Predictor) -> None:
    with pytest.raises(DataError):
        predictor(image)


def test_what_has_an_affine_of_its_own_is_given_none(predictor: Predictor, path: Path) -> None:
    with pytest.raises(DataError):
        predictor(path, affine=OBLIQUE)
