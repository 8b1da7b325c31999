"""DICOM series: voxels and places as pydicom and SimpleITK have them, or what is wrong."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import written_dicom as dicom
from audited import audited
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medseg.errors import DataError
from medseg.volumes import Described, describe, read_image, read_labels, scan_dicom

VOXELS = np.random.default_rng(0).integers(0, 4000, (6, 9, 7), np.uint16)
ANGLE = np.deg2rad(20)
ORIENTATIONS = {
    "axial": dicom.AXIAL,
    "coronal": (1.0, 0, 0, 0, 0, -1.0),
    "sagittal": (0, 1.0, 0, 0, 0, -1.0),
    "oblique": (np.cos(ANGLE), np.sin(ANGLE), 0, -np.sin(ANGLE), np.cos(ANGLE), 0),
    "feet first": (-1.0, 0, 0, 0, 1.0, 0),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_series_lies_where_simpleitk_puts_it(orientation: str, tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS, orientation=ORIENTATIONS[orientation])
    paths = dicom.save(images, tmp_path / "ct")
    volume = read_image(paths[3])
    np.testing.assert_array_equal(volume.array[0], VOXELS.T - 1024.0)
    assert volume.notes == ()
    assert describe(paths[3]) == Described(1, (7, 9, 6), is_picture=False)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, volume.array[0])
    for index in [(0, 0, 0), (6, 8, 5)]:
        ras = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose((volume.geometry.affine @ [*index, 1])[:3], ras, atol=1e-4)


def test_folder_of_one_series_is_the_series_whatever_else_lies_there(tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS)
    paths = dicom.save(images, tmp_path, ending=".IMA")
    dicom.save([dicom.segmentation(images, {"a": VOXELS > 2000})], tmp_path, ending="_seg.dcm")
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "._IM000").write_bytes(paths[0].read_bytes())
    np.testing.assert_array_equal(read_image(tmp_path).array[0], VOXELS.T - 1024.0)


def test_several_series_in_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("thin", "thick"):
        dicom.save(dicom.ct_series(VOXELS, description=name), tmp_path, ending=name)
    with pytest.raises(DataError, match=r"thick.*thin|thin.*thick"):
        read_image(tmp_path)
    found = scan_dicom(tmp_path)
    assert sorted((one.description, len(one.files)) for one in found) == [("thick", 6), ("thin", 6)]
    for one in found:
        assert read_image(one.path).array.shape == (1, 7, 9, 6)


CODECS = {
    JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True),
    JPEGLosslessSV1: lambda a: imagecodecs.ljpeg_encode(a, bitspersample=16),
    JPEGLSLossless: imagecodecs.jpegls_encode,
}


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, *CODECS],
    ids=lambda uid: uid.name,
)
def test_every_transfer_syntax_gives_the_same_voxels(
    syntax: pydicom.uid.UID, preamble: bool, tmp_path: Path
) -> None:
    if not preamble and syntax != ImplicitVRLittleEndian:
        pytest.skip("only the standard's default syntax can do without")
    for index, one in enumerate(dicom.ct_series(VOXELS)):
        path = tmp_path / f"{index}"
        if syntax in CODECS:
            one.PixelData = encapsulate([CODECS[syntax](VOXELS[index])])
        elif syntax.is_compressed:
            one.compress(syntax)
        elif syntax == ExplicitVRBigEndian:
            one.PixelData = VOXELS[index].astype(">u2").tobytes()
        if preamble:
            one.file_meta.TransferSyntaxUID = syntax
            big = syntax == ExplicitVRBigEndian
            one["PixelData"].VR = "OW"
            pydicom.dcmwrite(
                path, one, little_endian=not big, implicit_vr=syntax == ImplicitVRLittleEndian
            )
        else:
            del one.file_meta
            pydicom.dcmwrite(path, one, little_endian=True, implicit_vr=True)
    volume = read_image(tmp_path / "2")
    np.testing.assert_array_equal(volume.array[0], VOXELS.T - 1024.0)


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS)
    slopes = np.linspace(0.1, 3, len(images)).round(3)
    for one, slope in zip(images, slopes, strict=True):
        one.RescaleSlope, one.RescaleIntercept = float(slope), 5
    expected = VOXELS * slopes[:, None, None] + 5
    volume = read_image(dicom.save(images, tmp_path)[0])
    np.testing.assert_allclose(volume.array[0], expected.T, rtol=1e-6)


@pytest.mark.parametrize(("modality", "inverted"), [("MR", True), ("CT", False)])
def test_monochrome1_is_inverted_unless_values_have_a_unit(
    modality: str, inverted: bool, tmp_path: Path
) -> None:
    images = dicom.ct_series(VOXELS)
    for one in images:
        one.PhotometricInterpretation, one.Modality, one.BitsStored = "MONOCHROME1", modality, 12
    volume = read_image(dicom.save(images, tmp_path)[0])
    expected = 4095 - VOXELS.astype(int) if inverted else VOXELS
    np.testing.assert_array_equal(volume.array[0], expected.T - 1024.0)
    assert any("MONOCHROME1" in note for note in volume.notes)


def test_frames_of_one_file_are_its_slices(tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS)
    several = read_image(dicom.save(images, tmp_path / "several")[0])
    path = dicom.save([dicom.enhanced(images, [3, 0, 5, 1, 4, 2])], tmp_path / "one")[0]
    one = read_image(path)
    np.testing.assert_array_equal(one.array, several.array)
    np.testing.assert_allclose(one.geometry.affine, several.geometry.affine)


def moved(images: list[Dataset], index: int, millimetres: float, axis: int = 2) -> None:
    place = list(images[index].ImagePositionPatient)
    place[axis] += millimetres
    images[index].ImagePositionPatient = place


def without(images: list[Dataset]) -> None:
    del images[2]


def without_two(images: list[Dataset]) -> None:
    del images[2:4]


def uneven(images: list[Dataset]) -> None:
    moved(images, 3, 0.7)


def tilted(images: list[Dataset]) -> None:
    for index in range(len(images)):
        moved(images, index, 0.4 * index, axis=1)


def double(images: list[Dataset]) -> None:
    images[3].ImagePositionPatient = images[2].ImagePositionPatient


def unplaced(images: list[Dataset]) -> None:
    for one in images:
        del one.ImagePositionPatient


def one_unplaced(images: list[Dataset]) -> None:
    del images[4].ImagePositionPatient


def halves(images: list[Dataset]) -> None:
    for one in images[:3]:
        one.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def not_finite(images: list[Dataset]) -> None:
    images[1].ImagePositionPatient = ["nan", "0", "0"]


def parallel(images: list[Dataset]) -> None:
    for one in images:
        one.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]


def short(images: list[Dataset]) -> None:
    images[1].PixelData = images[1].PixelData[:-20]


def flat(images: list[Dataset]) -> None:
    for one in images:
        one.PixelSpacing = [0, 1]


FAULTS: dict[Callable[[list[Dataset]], None], str] = {
    without: "34 mm",
    without_two: "34, 36 mm",
    uneven: "uneven",
    tilted: "11.3 degrees",
    double: "different images at one position",
    unplaced: "6 of 6 slices have no ImagePositionPatient",
    one_unplaced: "1 of 6 slices",
    halves: "2 directions",
    not_finite: "ImagePositionPatient",
    parallel: "ImageOrientationPatient",
    short: "cannot read",
    flat: "PixelSpacing",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_series_that_is_no_volume_is_refused(
    fault: Callable[[list[Dataset]], None], tmp_path: Path
) -> None:
    images = dicom.ct_series(VOXELS)
    fault(images)
    path = dicom.save(images, tmp_path)[0]
    with pytest.raises(DataError, match=FAULTS[fault]) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_slice_once_more_and_a_localizer_are_left_out_with_a_note(tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS)
    again, localizer = deepcopy(images[2]), deepcopy(images[0])
    again.SOPInstanceUID = generate_uid()
    localizer.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    paths = dicom.save([*images, again, localizer], tmp_path)
    volume = read_image(paths[0])
    np.testing.assert_array_equal(volume.array[0], VOXELS.T - 1024.0)
    assert len(volume.notes) == 2
    assert any(paths[-1].name in note for note in volume.notes)


def test_positions_rounded_in_the_header_are_even(tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS)
    for index in (1, 4):
        moved(images, index, 0.04)
    volume = read_image(dicom.save(images, tmp_path)[0])
    assert volume.geometry.spacing == pytest.approx((0.8, 0.5, 2), abs=1e-6)
    assert len(volume.notes) == 1


def test_radiograph_is_a_picture(tmp_path: Path) -> None:
    one = dicom.ct_series(VOXELS[:1])[0]
    one.Modality, one.ImagerPixelSpacing = "DX", [0.2, 0.1]
    one.SOPClassUID = DigitalXRayImageStorageForPresentation
    del one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing
    other = deepcopy(one)
    other.SOPInstanceUID = generate_uid()
    path, _ = dicom.save([one, other], tmp_path)  # a view of the same series is another picture
    volume = read_image(path, channels=3, spacing=(9, 9, 9))
    assert volume.array.shape == (3, 7, 9, 1)
    assert describe(path).is_picture
    assert [one.files for one in scan_dicom(tmp_path)] == [(p,) for p in sorted(tmp_path.iterdir())]
    assert volume.geometry.spacing == pytest.approx((0.1, 0.2, 9))


def test_series_may_hold_labels(tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS % 3)
    for one in images:
        one.RescaleIntercept = 0
    labels = read_labels(dicom.save(images, tmp_path)[0], num_classes=3)
    np.testing.assert_array_equal(labels.array, (VOXELS % 3).T)


@pytest.mark.parametrize("frames", [2, 2**31 - 1])
def test_frames_without_positions_are_refused(frames: int, tmp_path: Path) -> None:
    one = dicom.ct_series(VOXELS[:1])[0]
    one.NumberOfFrames = frames
    with pytest.raises(DataError, match=f"{frames} frames"):
        read_image(dicom.save([one], tmp_path)[0])


def test_slices_without_position_or_modality_are_no_pictures(tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS)
    for one in images:
        del one.ImagePositionPatient, one.Modality
    with pytest.raises(DataError, match="ImagePositionPatient"):
        read_image(dicom.save(images, tmp_path)[0])


def test_deflated_file_is_refused_unread(tmp_path: Path) -> None:
    one = dicom.ct_series(VOXELS[:1])[0]
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "a", one)
    with pytest.raises(DataError, match="deflated"):
        read_image(tmp_path / "a")


def test_too_large_a_series_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dicom.save(dicom.ct_series(VOXELS), tmp_path)[0]
    monkeypatch.setattr("medseg.volumes.container.available_memory_bytes", lambda: 1000)
    with pytest.raises(DataError, match="GiB of memory"):
        read_image(path)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_are_data(seed: int, tmp_path: Path) -> None:
    """Whatever is overwritten, a series is read or refused; nothing is run or opened."""
    rng = np.random.default_rng(seed)
    images = dicom.ct_series(VOXELS[:3])
    for one in images:
        one.add_new(0x00091010, "UN", b"cos\nsystem\n(S'true'\ntR.")
    path = dicom.save(images, tmp_path)[0]
    content = bytearray(path.read_bytes())
    end = content.index(b"\xe0\x7f\x10\0")  # the header, and the length of the pixels
    for position in rng.integers(132, end + 12, 3):
        content[position] = rng.integers(256)
    path.write_bytes(content)
    with audited(tmp_path) as events:
        try:
            read_image(path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both ends are right
    assert not events
