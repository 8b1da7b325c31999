"""Label maps in every format: each value in its place, read back without the package's readers."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.path
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import written_dicom as dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydicom.dataset import Dataset

from medseg.volumes import Volume, class_colours, read_image, read_labels
from medseg.volumes.writers import FORMATS, LabelMap, format_like, formats_named, without_suffix
from medseg.volumes.writers.contours import outlines
from medseg.volumes.writers.tables import write_colour_table, write_label_descriptions

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NAMES = ["liver", "Größe 脳", "never"]
SHAPE = (5, 4, 3)
DTYPES = [np.uint8, np.uint16, np.int16, np.int32, np.int64, bool]
DICOM_FORMATS = ["dicom-seg", "rtstruct"]
SPACING = (2.0, 0.5, 0.8)


def turned(rng: np.random.Generator) -> np.ndarray:
    """A rotation by up to 30 degrees about any axis."""
    axis = rng.normal(size=3)
    return np.asarray(
        sitk.VersorTransform(
            (axis / np.linalg.norm(axis)).tolist(), np.deg2rad(rng.uniform(-30, 30))
        ).GetMatrix()
    ).reshape(3, 3)


def random_labels(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Values 0..2, of which the last name has none; whole blocks, holes and lone voxels."""
    labels = rng.integers(0, 2 if dtype is bool else 3, shape)
    return np.where(rng.random(shape) < 0.3, labels, labels.max()).astype(dtype)


def values_in_space(labels: np.ndarray, affine: np.ndarray) -> dict[tuple[float, ...], int]:
    """Place in mm, rounded → label, without the background."""
    index = np.argwhere(labels)
    places = np.c_[index, np.ones(len(index))] @ affine.T
    keys = map(tuple, np.round(places[:, :3], 2) + 0.0)
    return dict(zip(keys, labels[tuple(index.T)].astype(int).tolist(), strict=True))


@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
def test_volumes_of_every_direction_come_back_in_their_place(
    kind: str, orientations: list[str], turn: Callable, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index, codes in enumerate(orientations):
        affine, dtype = np.diag([0.9, 1.3, 2.5, 1.0]), DTYPES[index % len(DTYPES)]
        affine[:3, :3] = (turned(rng) if rng.random() < 0.7 else np.eye(3)) @ affine[:3, :3]
        affine[:3, 3] = rng.uniform(-99, 99, 3)
        labels = random_labels(rng, SHAPE, dtype)
        array, moved = turn(labels.astype(np.uint16), affine, codes)
        nib.save(nib.Nifti1Image(array, moved), tmp_path / "image.nii")
        target = tmp_path / f"out{FORMATS[kind].suffixes[0]}"
        found = LabelMap.of(array.astype(dtype), NAMES, read_image(tmp_path / "image.nii"))
        FORMATS[kind].write(target, found)
        image = sitk.ReadImage(str(target))
        place = np.eye(4)
        place[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        place[:3, 3] = image.GetOrigin()
        stored = sitk.GetArrayFromImage(image).T
        assert values_in_space(stored, LPS @ place) == values_in_space(labels, affine), codes


def test_segments_of_slicer_have_name_value_colour_and_extent(
    as_volume: Callable[..., Volume], tmp_path: Path
) -> None:
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[2:4, 1:6, 3], labels[8, 7, 0:2] = 1, 2
    target = tmp_path / "a.seg.nrrd"
    FORMATS["nrrd"].write(target, LabelMap.of(labels, NAMES, as_volume(labels[None])))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(target))
    reader.ReadImageInformation()
    field = {
        (n, key): reader.GetMetaData(f"Segment{n}_{key}")
        for n in range(3)
        for key in ("ID", "Name", "LabelValue", "Layer", "Color", "Extent")
    }
    assert [field[n, "Name"] for n in range(3)] == NAMES
    assert [field[n, "LabelValue"] for n in range(3)] == ["1", "2", "3"]
    assert [field[n, "Extent"] for n in range(2)] == ["2 3 1 5 3 3", "8 8 7 7 0 1"]
    assert all(field[n, "Layer"] == "0" for n in range(3))
    assert len({field[n, "ID"] for n in range(3)}) == 3
    for n, colour in enumerate(class_colours(3)):
        shares = [float(share) for share in field[n, "Color"].split()]
        np.testing.assert_allclose(shares, np.divide(colour, 255), atol=1e-5)
    assert not reader.HasMetaDataKey("Segment3_Name")


def placed(labels: np.ndarray, one: Dataset) -> np.ndarray:
    """Voxels (rows, columns) of a slice as their places (rows, columns, 3) in mm."""
    row, column = np.reshape(np.array(one.ImageOrientationPatient, float), (2, 3))
    down, along = map(float, one.PixelSpacing)
    rows, columns = np.indices(labels.shape)
    start = np.array(one.ImagePositionPatient, float)
    return start + columns[..., None] * along * row + rows[..., None] * down * column


def frames_in_space(found: Dataset) -> dict[tuple[float, ...], int]:
    """Place in mm, rounded → segment number, as the frames of a DICOM segmentation say."""
    values, shared = {}, found.SharedFunctionalGroupsSequence[0]
    frames = found.pixel_array.reshape(-1, found.Rows, found.Columns)
    for pixels, own in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        plane = Dataset()
        plane.ImagePositionPatient = own.PlanePositionSequence[0].ImagePositionPatient
        plane.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        plane.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
        number = own.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for place in placed(pixels, plane)[pixels > 0]:
            assert values.setdefault(tuple(np.round(place, 2) + 0.0), number) == number
    return values


def contours_in_space(found: Dataset, images: list[Dataset]) -> dict[tuple[float, ...], int]:
    """Place in mm, rounded → structure, of all voxels within its contours, each taken by itself."""
    values, by_uid = {}, {one.SOPInstanceUID: one for one in images}
    for roi in found.ROIContourSequence:
        for contour in roi.get("ContourSequence", ()):
            one = by_uid[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            row, column = np.reshape(np.array(one.ImageOrientationPatient, float), (2, 3))
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            beside = (points - np.array(one.ImagePositionPatient, float)) @ np.cross(row, column)
            np.testing.assert_allclose(beside, 0, atol=1e-4)
            assert len(points) == contour.NumberOfContourPoints >= 4
            places = placed(np.zeros((one.Rows, one.Columns)), one).reshape(-1, 3)
            in_plane = np.c_[row, column]
            outline = matplotlib.path.Path(points @ in_plane)
            for place in places[outline.contains_points(places @ in_plane)]:
                key = tuple(np.round(place, 2) + 0.0)
                assert values.setdefault(key, roi.ReferencedROINumber) == roi.ReferencedROINumber
    return values


def axis_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Directions of rows and columns along any two axes, either way."""
    axes = [sign * axis for axis in np.eye(3) for sign in (1, -1)]
    return [(row, column) for row in axes for column in axes if not row @ column]


@given(seed=st.integers(0, 2**32 - 1), oblique=st.booleans(), pair=st.sampled_from(axis_pairs()))
@settings(max_examples=12)
@pytest.mark.parametrize("kind", DICOM_FORMATS)
def test_series_of_every_direction_get_their_labels_in_place(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    oblique: bool,
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("series")
    turn = turned(rng) if oblique else np.eye(3)
    orientation = np.round([*(turn @ pair[0]), *(turn @ pair[1])], 9).tolist()
    labels = random_labels(rng, (3, 6, 8), np.uint8)
    images = dicom.ct_series(
        rng.integers(0, 99, labels.shape), orientation=orientation, spacing=SPACING
    )
    volume = read_image(dicom.save(images, folder / "in")[0])
    FORMATS[kind].write(folder / "out.dcm", LabelMap.of(labels.T, NAMES, volume))
    found = pydicom.dcmread(folder / "out.dcm")
    wanted = {
        tuple(np.round(place, 2) + 0.0): int(value)
        for one, plane in zip(images, labels, strict=True)
        for place, value in zip(placed(plane, one)[plane > 0], plane[plane > 0], strict=True)
    }
    got = frames_in_space(found) if kind == "dicom-seg" else contours_in_space(found, images)
    assert got == wanted
    assert found.StudyInstanceUID == images[0].StudyInstanceUID
    assert found.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    assert found.SeriesInstanceUID != images[0].SeriesInstanceUID


@pytest.fixture
def images() -> list[Dataset]:
    return dicom.ct_series(np.random.default_rng(0).integers(0, 99, (4, 9, 7)))


@pytest.mark.parametrize("kind", DICOM_FORMATS)
def test_every_class_is_described_whatever_the_series_lacks(
    kind: str, images: list[Dataset], tmp_path: Path
) -> None:
    for one in images:
        del one.PatientBirthDate, one.AccessionNumber, one.StudyTime
        one.SpecificCharacterSet, one.PatientName = "ISO_IR 100", "Müller^Jörg"
        one.PatientSex = "U"
    volume = read_image(dicom.save(images, tmp_path / "in")[0])
    names = [*NAMES[:2], "a\\b" + "x" * 99]
    labels = np.zeros(volume.array.shape[1:], np.uint8)
    labels[2:4, 3:5, 1:3] = 1
    for found_map in (labels, np.zeros_like(labels)):
        target = tmp_path / "out.dcm"
        FORMATS[kind].write(target, LabelMap.of(found_map, names, volume))
        found = pydicom.dcmread(target)
        assert str(found.PatientName) == "Müller^Jörg"
        if kind == "dicom-seg":
            segments = {s.SegmentNumber: s.SegmentLabel for s in found.SegmentSequence}
            assert (
                found.ReferencedSeriesSequence[0].SeriesInstanceUID == images[0].SeriesInstanceUID
            )
        else:
            segments = {s.ROINumber: s.ROIName for s in found.StructureSetROISequence}
        assert list(segments) == [1, 2, 3]
        assert [segments[n] for n in (1, 2)] == NAMES[:2]
        assert segments[3] == ("a/b" + "x" * 99)[:64]
        if found_map.any():
            back = read_labels(target, num_classes=None, like=volume)
            np.testing.assert_array_equal(back.array, labels)


@pytest.mark.parametrize("kind", DICOM_FORMATS)
@pytest.mark.parametrize("lacking", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_series_that_cannot_be_referred_to_is_refused_in_advance(
    kind: str, lacking: str, images: list[Dataset], tmp_path: Path
) -> None:
    for one in images:
        delattr(one, lacking)
    path = dicom.save(images, tmp_path / "in")[0]
    assert lacking in FORMATS[kind].fault(path, NAMES)
    assert FORMATS[kind].fault(path.parent, NAMES)


def test_frames_of_one_file_are_referred_to(images: list[Dataset], tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    path = dicom.save([dicom.enhanced(images, order)], tmp_path / "in")[0]
    labels = random_labels(np.random.default_rng(1), (7, 9, 4), np.uint8)
    volume = read_image(path)
    for kind in DICOM_FORMATS:
        target = tmp_path / f"{kind}.dcm"
        FORMATS[kind].write(target, LabelMap.of(labels, NAMES, volume))
        back = read_labels(target, num_classes=None, like=volume)
        np.testing.assert_array_equal(back.array, labels)
    roi = pydicom.dcmread(target).ROIContourSequence[0]
    for contour in roi.ContourSequence:
        frame = contour.ContourImageSequence[0].ReferencedFrameNumber
        place = images[order[frame - 1]].ImagePositionPatient[2]
        assert float(contour.ContourData[2]) == pytest.approx(float(place), abs=1e-6)


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_outlines_hold_the_voxels_of_a_mask_and_no_hole(mask: np.ndarray) -> None:
    centres = np.argwhere(np.ones_like(mask))
    inside = np.zeros(len(centres), bool)
    for polygon in outlines(mask):
        own = matplotlib.path.Path(polygon).contains_points(centres)
        assert not (own & inside).any()
        inside |= own
    np.testing.assert_array_equal(inside.reshape(mask.shape), mask)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_mask_of_a_picture_has_its_pixels_and_is_visible(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)).save(tmp_path / f"a{suffix}")
    volume = read_image(tmp_path / f"a{suffix}", channels=3)
    labels = random_labels(rng, (9, 6, 1), np.uint8)
    assert not FORMATS["png"].fault(volume.path, NAMES)
    FORMATS["png"].write(tmp_path / "out.png", LabelMap.of(labels, NAMES, volume))
    found = Image.open(tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(found), labels[:, :, 0].T)
    shown = {tuple(colour) for colour in np.asarray(found.convert("RGB"))[labels[:, :, 0].T > 0]}
    assert shown == set(class_colours(2))


def test_what_a_png_cannot_hold_is_refused_in_advance(save: Callable, tmp_path: Path) -> None:
    assert FORMATS["png"].fault(save(np.zeros((4, 4, 4))), NAMES)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert FORMATS["png"].fault(tmp_path / "a.png", [str(n) for n in range(256)])
    assert not FORMATS["png"].fault(tmp_path / "a.png", [str(n) for n in range(255)])


def test_the_format_of_an_image_is_found_by_its_bytes(
    images: list[Dataset], save: Callable, tmp_path: Path
) -> None:
    volume = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.int16))
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(volume, tmp_path / name)
    Image.new("L", (4, 4)).save(tmp_path / "picture", format="PNG")
    slices = dicom.save(images, tmp_path / "series")
    wanted = {
        save(np.zeros((4, 4, 4))): "nifti",
        tmp_path / "a.nrrd": "nrrd",
        tmp_path / "a.mha": "nifti",
        tmp_path / "picture": "png",
        slices[0]: "dicom-seg",
        slices[0].parent: "dicom-seg",
    }
    assert {path: format_like(path) for path in wanted} == wanted


def test_endings_name_formats() -> None:
    for name, formats in [("a.nii.GZ", ["nifti"]), ("a.b.dcm", DICOM_FORMATS), ("a.txt", [])]:
        assert formats_named(Path(name)) == formats
    for name, stem in [("a.seg.nrrd", "a"), ("a.b.nii", "a.b"), ("a.x", "a.x")]:
        assert without_suffix(Path("x") / name) == stem


def test_tables_hold_value_name_and_colour(
    as_volume: Callable[..., Volume], tmp_path: Path
) -> None:
    names = ["left lung", 'a "b"', "100"]
    labels = np.zeros((2, 2, 2), np.uint8)
    label_map = LabelMap.of(labels, names, as_volume(labels[None]))
    write_colour_table(tmp_path / "a.ctbl", label_map)
    write_label_descriptions(tmp_path / "a.label", label_map)
    slicer = [line.split() for line in (tmp_path / "a.ctbl").read_text().splitlines()[1:]]
    snap = [line.split(None, 7) for line in (tmp_path / "a.label").read_text().splitlines()]
    for value, colour in enumerate(class_colours(3), start=1):
        assert slicer[value][0] == snap[value][0] == str(value)
        assert [*map(int, slicer[value][2:])] == [*colour, 255]
        assert [*map(int, snap[value][1:4])] == [*colour]
    assert slicer[1][1] == "left_lung"
    assert [line[7] for line in snap] == ['"Clear Label"', '"left lung"', "\"a 'b'\"", '"100"']


def test_colours_of_many_classes_differ() -> None:
    assert len(set(class_colours(2000))) == 2000
