from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from isal import igzip

from medseg.errors import ResourceError
from medseg.volumes import (
    Volume,
    on_grid_of,
    read_image,
    read_labels,
    write_labels,
    write_probabilities,
)

Save = Callable[..., Path]
SUFFIXES = [".nii", ".nii.gz"]


@pytest.fixture
def scan(voxels: np.ndarray, affine: np.ndarray, save: Save) -> Volume:
    header = nib.Nifti1Header()
    shifted = affine.copy()
    shifted[0, 3] += 0.25
    header.set_sform(affine, code=4)
    header.set_qform(shifted, code=1)
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"from the scanner"
    header["cal_max"], header["cal_min"] = 900, -900
    header.set_intent("t test", (3,))
    header.set_slope_inter(2, 5)
    image = nib.Nifti1Image(voxels * 2 + 5, None, header, dtype=np.int16)
    path = save(voxels).with_name("with_header.nii")
    image.to_filename(path)
    return read_image(path)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4, (7, 6, 5))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint64])
def test_labels_come_back(
    suffix: str, dtype: type, labels: np.ndarray, scan: Volume, tmp_path: Path
) -> None:
    target = tmp_path / f"out/case{suffix}"
    write_labels(target, labels.astype(dtype), scan)
    written = nib.load(target)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.get_fdata(), labels.astype(dtype))
    back = read_labels(target, num_classes=4)
    assert on_grid_of(scan, back).notes == back.notes
    assert not [note for note in back.notes if "name" in note]


def test_header_is_kept_and_what_described_the_intensities_is_not(
    labels: np.ndarray, scan: Volume, tmp_path: Path
) -> None:
    target = tmp_path / "a.nii.gz"
    write_labels(target, labels, scan)
    header = nib.load(target).header
    for field in ("sform_code", "qform_code", "xyzt_units", "descrip", "pixdim"):
        np.testing.assert_array_equal(header[field], scan.header[field])
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 1)
    np.testing.assert_array_equal(header.get_sform(), scan.header.get_sform())
    np.testing.assert_array_equal(header.get_qform(), scan.header.get_qform())
    stored = nib.Nifti1Header(igzip.decompress(target.read_bytes())[:348])
    assert (float(stored["scl_slope"]), float(stored["scl_inter"])) == (1, 0)
    assert (float(stored["cal_max"]), float(stored["cal_min"])) == (0, 0)
    assert int(stored["intent_code"]) == 0
    assert stored["dim"].tolist() == [3, 7, 6, 5, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_version_is_kept_and_byte_order_is_little(
    kind: type, order: str, voxels: np.ndarray, save: Save, tmp_path: Path
) -> None:
    scan = read_image(save(voxels, kind=kind, header=kind.header_class(endianness=order)))
    target = tmp_path / "a.nii"
    write_labels(target, voxels, scan)
    written = nib.load(target)
    assert type(written) is kind
    assert written.header.endianness == "<"
    np.testing.assert_array_equal(written.get_fdata(), voxels)
    np.testing.assert_array_equal(written.affine, scan.geometry.affine)


def test_no_orientation_stays_no_orientation(
    voxels: np.ndarray, save_edited: Save, tmp_path: Path
) -> None:
    scan = read_image(save_edited(voxels, sform_code=0, qform_code=0))
    write_labels(tmp_path / "a.nii", voxels, scan)
    back = read_image(tmp_path / "a.nii")
    assert back.geometry.source == "pixdim"
    np.testing.assert_array_equal(back.geometry.affine, scan.geometry.affine)


@pytest.mark.parametrize(
    "shape",
    [(4, 5), (4, 5, 1), (4, 1, 5), (1, 4, 5), (4, 5, 1, 1), (4, 5, 3, 1), (1, 1)],
    ids=str,
)
def test_label_files_have_the_shape_of_the_image_file(
    shape: tuple[int, ...], save_edited: Save, tmp_path: Path
) -> None:
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    scan = read_image(save_edited(voxels, pixdim=[1, 1.5, 2, 1, 1, 0, 0, 0]))
    write_labels(tmp_path / "a.nii", scan.array[0].astype(np.uint8), scan)
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "a.nii").dataobj), voxels)
    back = read_labels(tmp_path / "a.nii", num_classes=100)
    np.testing.assert_array_equal(back.array, scan.array[0])


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_label_type_is_the_smallest_that_fits(
    highest: int, dtype: type, labels: np.ndarray, scan: Volume, tmp_path: Path
) -> None:
    labels[0, 0, 0] = highest
    write_labels(tmp_path / "a.nii", labels, scan)
    written = nib.load(tmp_path / "a.nii")
    assert written.get_data_dtype() == dtype
    np.testing.assert_array_equal(written.get_fdata(), labels)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_labels_give_equal_bytes(
    suffix: str, labels: np.ndarray, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_labels(first, labels, scan)
    monkeypatch.setattr("time.time", lambda: 4e9)
    write_labels(second, np.asfortranarray(labels.astype(np.int16)), scan)
    assert first.read_bytes() == second.read_bytes()
    labels[0, 0, 0] += 1
    write_labels(second, labels, scan)
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_probabilities_come_back_with_the_class_last(
    suffix: str, scan: Volume, tmp_path: Path
) -> None:
    probabilities = np.random.default_rng(4).random((3, 7, 6, 5))
    target = tmp_path / f"p{suffix}"
    write_probabilities(target, probabilities, scan)
    written = nib.load(target)
    assert written.get_data_dtype() == np.float32
    expected = np.moveaxis(probabilities, 0, -1).astype(np.float32)
    np.testing.assert_array_equal(written.get_fdata(dtype=np.float32), expected)
    np.testing.assert_array_equal(
        read_image(target, channels=3).array, probabilities.astype(np.float32)
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_write_leaves_the_old_file_and_no_part(
    suffix: str, labels: np.ndarray, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    target = folder / f"a{suffix}"
    write_labels(target, labels, scan)
    before = target.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        write_labels(target, labels + 1, scan)
    assert list(folder.iterdir()) == [target]
    assert target.read_bytes() == before


@pytest.mark.parametrize("field", ["srow_y", "quatern_b"])
def test_a_broken_form_is_not_passed_on(field: str, labels, scan: Volume, tmp_path: Path) -> None:
    nifti = nib.load(scan.path)
    nifti.header[field] = np.nan
    path = tmp_path / "broken.nii"
    path.write_bytes(nifti.header.binaryblock + scan.path.read_bytes()[348:])
    image = read_image(path)
    write_labels(tmp_path / "out.nii", labels, image)
    written = nib.load(tmp_path / "out.nii")
    assert np.isfinite(written.affine).all()
    np.testing.assert_allclose(written.affine, image.geometry.affine, atol=1e-5)
