"""NRRD and MetaImage: the same volume as SimpleITK gives, or a refusal; never zeros."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import DataError
from medseg.volumes import Described, describe, read_image, write_labels

NAMES = ["a.nrrd", "a.mha", "a.mhd"]
ANGLE = np.deg2rad(25)
DIRECTION = np.array(
    [[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, -1]]
)


@pytest.fixture
def image(voxels: np.ndarray) -> sitk.Image:
    made = sitk.GetImageFromArray(voxels.T)
    made.SetSpacing((1.5, 2, 3))
    made.SetOrigin((10, -20, 30))
    made.SetDirection(DIRECTION.ravel().tolist())
    return made


@pytest.fixture
def write(image: sitk.Image, tmp_path: Path) -> Callable[[str, bool], Path]:
    def _write(name: str, packed: bool) -> Path:
        sitk.WriteImage(image, tmp_path / name, packed)
        return tmp_path / name

    return _write


Write = Callable[[str, bool], Path]


def payload_of(path: Path) -> Path:
    """The file that holds the voxels."""
    beside = [path.with_suffix(suffix) for suffix in (".raw", ".zraw")]
    return next((p for p in beside if p.exists()), path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packed", [False, True])
def test_voxels_and_places_are_those_of_simpleitk(
    name: str, packed: bool, write: Write, image: sitk.Image, voxels: np.ndarray
) -> None:
    path = write(name, packed)
    volume = read_image(path)
    assert describe(path) == Described(1, (7, 6, 5), is_picture=False)
    np.testing.assert_array_equal(volume.array[0], voxels)
    assert volume.array.flags.c_contiguous
    assert volume.notes == ()
    np.testing.assert_allclose(volume.geometry.spacing, (1.5, 2, 3), rtol=1e-6)
    for index in [(0, 0, 0), (6, 5, 4)]:
        ras = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose((volume.geometry.affine @ [*index, 1])[:3], ras, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_prediction_for_a_foreign_volume_lies_in_the_same_place(
    name: str, write: Write, image: sitk.Image, tmp_path: Path
) -> None:
    volume = read_image(write(name, False))
    target = tmp_path / "prediction.nii.gz"
    write_labels(target, np.ones((7, 6, 5), np.uint8), volume)
    written = sitk.ReadImage(target)
    np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("share", [0.999, 0.5])
def test_missing_bytes_are_refused(name: str, packed: bool, share: float, write: Write) -> None:
    path = write(name, packed)
    payload = payload_of(path)
    content = payload.read_bytes()
    cut = int(min(len(content) - 1, len(content) - (1 - share) * 300))
    payload.write_bytes(content[:cut])
    with pytest.raises(DataError, match=re.escape(f"{payload}: ")):
        read_image(path)


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bit_in_a_compressed_volume_is_refused(name: str, write: Write) -> None:
    path = write(name, True)
    payload = payload_of(path)
    content = bytearray(payload.read_bytes())
    for position in (len(content) - 1, len(content) - 3, len(content) - 60):
        damaged = content.copy()
        damaged[position] ^= 0x04
        payload.write_bytes(damaged)
        with pytest.raises(DataError, match=re.escape(f"{payload}: ")):
            read_image(path)


EDITS = [
    ("a.nrrd", False, b"sizes: 7 6 5", b"sizes: 7 6 9", "states 756 bytes of voxels"),
    ("a.nrrd", False, b"sizes: 7 6 5", b"sizes: 9999 9999 9999", "states 1999400059998 bytes"),
    ("a.nrrd", True, b"sizes: 7 6 5", b"sizes: 9999 9999 9999", "states 1999400059998 bytes"),
    ("a.nrrd", False, b"sizes: 7 6 5", b"sizes: 7 0 5", "must be positive integers"),
    ("a.nrrd", False, b"encoding: raw", b"encoding: ascii", "'ascii' cannot be verified"),
    ("a.nrrd", False, b"encoding: raw", b"encoding: gzip", "compressed stream is damaged"),
    ("a.nrrd", False, b"encoding: raw", b"encoding: raw\nbyte skip: 2", "not supported"),
    ("a.nrrd", False, b"encoding: raw", b"encoding: raw\ndata file: x.raw", "not supported"),
    ("a.nrrd", False, b"type: short", b"type: block", "cannot be verified"),
    ("a.nrrd", False, b"\n\n", b"\n", "header has no end"),
    ("a.mha", False, b"DimSize = 7 6 5", b"DimSize = 7 6 9", "states 756 bytes of voxels"),
    ("a.mha", True, b"DimSize = 7 6 5", b"DimSize = 999 999 999", "bytes of voxels, it holds 420"),
    ("a.mha", True, b"DataSize = ", b"DataSize = 1", "compressed bytes, it holds"),
    ("a.mha", False, b"BinaryData = True", b"BinaryData = False", "not supported"),
    ("a.mha", False, b"NDims = 3", b"NDims = 3\nHeaderSize = 9", "not supported"),
    ("a.mha", False, b"ElementDataFile", b"ElementData", "header has no end"),
    ("a.mha", False, b"NDims = 3", b"NDims = 67", "NDims='67' must be 2, 3 or 4"),
    ("a.mha", False, b"NDims = 3", b"NDims = 3\nNDims : 67", "states 'ndims' twice"),
    ("a.mha", False, b"NDims = 3", b"NDims = 3\nN" + b"o" * 999 + b" = 1", "has no meaning"),
    ("a.mha", False, b"= 10 -20", b"= 1 10 -20", "must be 3 numbers"),
    ("a.mha", False, b"Matrix = ", b"Matrix = 1 ", "must be 9 numbers"),
    ("a.mha", False, b"Spacing = 1.5", b"Spacing = nan", "must be 3 numbers"),
    ("a.mhd", False, b"= a.raw", b"= LIST", "not one file beside it"),
    ("a.mhd", False, b"= a.raw", b"= a%03d.raw 1 5 1", "not one file beside it"),
    ("a.mhd", False, b"= a.raw", b"= /etc/passwd", "not one file beside it"),
    ("a.mhd", False, b"= a.raw", b"= gone.raw", "gone.raw is not beside it"),
    ("a.mhd", False, b"MET_SHORT", b"MET_STRING", "cannot be verified"),
]


@pytest.mark.parametrize(("name", "packed", "old", "new", "words"), EDITS)
def test_header_that_cannot_be_trusted_is_refused(
    name: str, packed: bool, old: bytes, new: bytes, words: str, write: Write
) -> None:
    path = write(name, packed)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(DataError, match=words) as caught:
        read_image(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mhd"])
def test_raw_voxels_that_begin_like_gzip_are_read(name: str, tmp_path: Path) -> None:
    array = np.full((2, 3, 4), 0x8B1F, np.uint16)
    array[1] = 8
    sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name).array[0], array.T)


def test_big_endian_voxels_are_read(write: Write, voxels: np.ndarray) -> None:
    path = write("a.nrrd", False)
    content = path.read_bytes().replace(b"endian: little", b"endian: big")
    start = content.find(b"\n\n") + 2
    path.write_bytes(content[:start] + voxels.astype(">i2").tobytes(order="F"))
    np.testing.assert_array_equal(read_image(path).array[0], voxels)


def test_voxels_that_simpleitk_alters_are_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.nrrd", False)
    monkeypatch.setattr(sitk, "GetArrayFromImage", lambda _: np.zeros((5, 6, 7), np.int16))
    with pytest.raises(DataError, match="SimpleITK returns other voxels than it holds"):
        read_image(path)


@pytest.mark.parametrize("name", NAMES)
def test_components_become_channels(name: str, tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), tmp_path / name)
    volume = read_image(tmp_path / name, channels=5)
    np.testing.assert_array_equal(volume.array, np.moveaxis(array, -1, 0).transpose(0, 3, 2, 1))
    with pytest.raises(DataError, match=r"shape \(4, 3, 2, 5\) must be 1 channel"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_flat_image_becomes_one_slice(name: str, tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / name)
    volume = read_image(tmp_path / name)
    np.testing.assert_array_equal(volume.array, array.T[None, :, :, None])


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_wrong_name_is_noted(name: str, write: Write, voxels: np.ndarray) -> None:
    path = write(name, False)
    renamed = path.rename(path.with_name("a.nii.gz"))
    volume = read_image(renamed)
    np.testing.assert_array_equal(volume.array[0], voxels)
    assert any("although its name does not end in" in note for note in volume.notes)


def test_nrrd_without_directions_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    header = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n\n"
    path.write_bytes(header + bytes(range(24)))
    volume = read_image(path)
    assert any("states no directions" in note for note in volume.notes)
    np.testing.assert_array_equal(volume.array[0].ravel(order="F"), np.arange(24))


@pytest.mark.parametrize(
    ("name", "line", "per_mm"),
    [
        ("a.nrrd", 'space units: "um" "um" "um"', 1000),
        ("a.nrrd", 'space units: "mm" "mm" "mm"', 1),
        ("a.nrrd", 'space units: "meters" "meters" "meters"', 0.001),
        ("a.mha", "DistanceUnits = um", 1000),
        ("a.mhd", "DistanceUnits = cm", 0.1),
        ("a.mhd", "DistanceUnits = mm", 1),
    ],
)
def test_lengths_are_converted_to_mm(name: str, line: str, per_mm: float, write: Write) -> None:
    path = write(name, False)
    plain = read_image(path)
    content = path.read_bytes()
    anchor = b"encoding:" if name.endswith("nrrd") else b"ElementType"
    path.write_bytes(content.replace(anchor, line.encode() + b"\n" + anchor, 1))
    converted = read_image(path)
    expected = np.diag([1 / per_mm] * 3 + [1]) @ plain.geometry.affine
    np.testing.assert_allclose(converted.geometry.affine, expected, rtol=1e-5)
    assert len(converted.notes) == len(plain.notes) + (per_mm != 1)


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("x.npy", b"\x93NUMPY" + bytes(400), "NIfTI"),
        ("x.mgz", b"\0\0\0\1" + bytes(400), "mri_convert"),
        ("x.mnc", b"\x89HDF" + bytes(400), "mnc2nii"),
        ("x.nii", b"PK\3\4" + bytes(400), "unpack"),
        ("x.nii", b"nothing that is known" + bytes(400), "convert"),
    ],
)
def test_other_formats_are_refused_with_the_remedy_that_fits_them(
    name: str, content: bytes, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / name)
    assert remedy in str(caught.value)
    assert ("dcm2niix" in str(caught.value)) == (name == "x.dcm")
