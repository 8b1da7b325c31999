"""DICOM segmentations and structure sets: the masks that highdicom and matplotlib have."""

from pathlib import Path

import numpy as np
import pytest
import written_dicom as dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset

from medseg.errors import DataError
from medseg.volumes import Volume, label_keys, read_image, read_labels, scan_dicom
from medseg.volumes.dicom_labels import rasterise

VOXELS = np.random.default_rng(0).integers(0, 4000, (6, 12, 10), np.uint16)
LIVER, TUMOUR = np.zeros((2, *VOXELS.shape), bool)
LIVER[1:5, 2:9, 1:8], TUMOUR[2:4, 4:6, 3:5] = True, True
OBLIQUE = (0.8, 0.6, 0, -0.6, 0.8, 0)
VALUES = {"Liver": 1, "Tumour": 2}
EXPECTED = np.where(TUMOUR, 2, LIVER).T


@pytest.fixture(params=[dicom.AXIAL, OBLIQUE], ids=["axial", "oblique"])
def series(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[Dataset], Volume]:
    images = dicom.ct_series(VOXELS, orientation=request.param)
    return images, read_image(dicom.save(images, tmp_path / "ct")[0])


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segmentation_holds_drawn_slices_on_the_grid_of_its_image(
    kind: str, series: tuple[list[Dataset], Volume], tmp_path: Path
) -> None:
    images, image = series
    masks = {"Liver": LIVER & ~TUMOUR, "Tumour": TUMOUR}
    dtype = float if kind == "FRACTIONAL" else np.uint8
    made = dicom.segmentation(images, {n: m.astype(dtype) for n, m in masks.items()}, kind)
    path = dicom.save([made], tmp_path / "seg")[0]
    assert label_keys(path) == {"Liver": "Liver", "Tumour": "Tumour"}
    labels = read_labels(path, num_classes=3, values=VALUES, like=image)
    np.testing.assert_array_equal(labels.array, EXPECTED)
    np.testing.assert_allclose(labels.geometry.affine, image.geometry.affine, atol=1e-5)
    own = read_labels(path, num_classes=None, like=image)
    np.testing.assert_array_equal(own.array, EXPECTED)


def test_frames_of_a_segmentation_may_share_bytes(tmp_path: Path) -> None:
    images, mask = dicom.ct_series(VOXELS[:, :9, :7]), VOXELS[:, :9, :7] > 2000
    path = dicom.save([dicom.segmentation(images, {"Liver": mask})], tmp_path / "seg")[0]
    image = read_image(dicom.save(images, tmp_path / "ct")[0])
    np.testing.assert_array_equal(read_labels(path, num_classes=2, like=image).array, mask.T)


def test_segments_that_overlap_give_the_voxel_to_the_smaller(
    series: tuple[list[Dataset], Volume], tmp_path: Path
) -> None:
    images, image = series
    made = dicom.segmentation(images, {"Tumour": TUMOUR, "Liver": LIVER})
    path = dicom.save([made], tmp_path / "seg")[0]
    labels = read_labels(path, num_classes=3, values=VALUES, like=image)
    np.testing.assert_array_equal(labels.array, EXPECTED)
    assert any(f"{TUMOUR.sum()} voxels" in note for note in labels.notes)


def test_segmentation_belongs_to_the_series_that_it_refers_to(tmp_path: Path) -> None:
    images, others = dicom.ct_series(VOXELS), dicom.ct_series(VOXELS, description="thick")
    dicom.save(images, tmp_path, ending="a")
    other = dicom.save(others, tmp_path, ending="b")[0]
    dicom.save([dicom.segmentation(images, {"Liver": LIVER})], tmp_path, ending=".dcm")
    found = scan_dicom(tmp_path)
    seg = next(one for one in found if one.kind == "seg")
    named = {one.series_uid: one for one in found if one.kind == "series"}
    assert seg.names == ("Liver",)
    assert seg.refers_to == (images[0].SeriesInstanceUID,)
    image = read_image(named[seg.refers_to[0]].path)
    assert read_labels(seg.path, num_classes=2, like=image).array.any()
    for like in (read_image(other), None):
        with pytest.raises(DataError):
            read_labels(seg.path, num_classes=2, like=like)
    with pytest.raises(DataError, match="segmentation"):
        read_image(seg.path)


@pytest.mark.parametrize("shift", [0.4, 40.0], ids=["between the voxels", "outside the image"])
def test_segmentation_on_another_grid_is_refused(shift: float, tmp_path: Path) -> None:
    images = dicom.ct_series(VOXELS)
    image = read_image(dicom.save(images, tmp_path / "ct")[0])
    made = dicom.segmentation(images, {"Liver": LIVER})
    for frame in made.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = [v + shift for v in place.ImagePositionPatient]
    with pytest.raises(DataError):
        read_labels(dicom.save([made], tmp_path)[0], num_classes=2, like=image)


def in_mm(image: Volume, outline: list[tuple[float, float]], k: float) -> np.ndarray:
    """Points in voxels (i, j) of slice k as DICOM's mm."""
    indices = np.array([(i, j, k, 1) for i, j in outline])
    return (image.geometry.affine @ indices.T)[:3].T * (-1, -1, 1)


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (low, high), (high, high), (high, low)]


def filled(low: int, high: int) -> np.ndarray:
    mask = np.zeros((10, 12), bool)
    mask[low : high + 1, low : high + 1] = True
    return mask


RING = filled(1, 8) & ~filled(4, 5)
OUTLINES = {  # of slice 2: contours in voxels, and what is inside
    "between voxels": ([square(0.5, 8.5)], filled(1, 8)),
    "through their centres": ([square(1, 8)], filled(1, 8)),
    "hole as a second contour": ([square(0.5, 8.5), square(3.5, 5.5)], RING),
    "hole traced through the voxels around it": ([square(1, 8), square(3, 6)], RING),
    "hole by a bridge": ([[*square(0.5, 8.5), (0.5, 0.5), *square(3.5, 5.5), (3.5, 3.5)]], RING),
    "line": ([[(2, 3), (6, 3)]], np.isin(np.arange(120).reshape(10, 12), range(27, 80, 12))),
    "beyond the image": ([square(-40.5, 60.5)], np.ones((10, 12), bool)),
}


@pytest.mark.parametrize("kind", OUTLINES)
def test_contours_are_filled_by_the_even_odd_rule(
    kind: str, series: tuple[list[Dataset], Volume], tmp_path: Path
) -> None:
    images, image = series
    outlines, expected = OUTLINES[kind]
    contours = [in_mm(image, outline, 2) for outline in outlines]
    made = dicom.structure_set(images, [("Liver", "CLOSED_PLANAR", contours)])
    path = dicom.save([made], tmp_path / "rt")[0]
    assert label_keys(path) == {"Liver": "Liver"}
    labels = read_labels(path, num_classes=2, like=image)
    np.testing.assert_array_equal(labels.array[:, :, 2], expected)
    assert not labels.array[:, :, [0, 1, 3, 4, 5]].any()
    assert labels.notes == ()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-2, 13), st.floats(-2, 13)), min_size=3, max_size=9))
def test_filling_is_that_of_matplotlib_but_for_voxels_on_a_contour(
    outline: list[tuple[float, float]],
) -> None:
    points = np.array(outline)
    mask = rasterise([np.c_[points, np.zeros(len(points))]], (10, 12, 1))[:, :, 0]
    centres = np.stack(np.meshgrid(np.arange(10), np.arange(12), indexing="ij"), -1).reshape(-1, 2)
    closed = Outline(np.r_[points, points[:1]], closed=True)
    inside = closed.contains_points(centres)
    is_clear = (_distances(centres, points, np.roll(points, -1, axis=0)) > 0.01).all(axis=1)
    np.testing.assert_array_equal(mask.ravel()[is_clear], inside[is_clear])


def _distances(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Of each point to each edge."""
    edges, from_start = ends - starts, points[:, None] - starts
    squares = np.maximum((edges**2).sum(-1), 1e-12)
    share = np.clip((from_start * edges).sum(-1) / squares, 0, 1)
    return np.linalg.norm(from_start - share[..., None] * edges, axis=-1)


def test_points_are_no_structure_and_contours_between_slices_go_to_the_nearest(
    tmp_path: Path,
) -> None:
    images = dicom.ct_series(VOXELS)
    image = read_image(dicom.save(images, tmp_path / "ct")[0])
    made = dicom.structure_set(
        images,
        [
            ("Isocenter", "POINT", [in_mm(image, [(3, 3)], 2)]),
            ("Liver", "CLOSED_PLANAR", [in_mm(image, square(0.5, 8.5), k) for k in (1.9, 2.2)]),
        ],
    )
    path = dicom.save([made], tmp_path / "rt")[0]
    assert label_keys(path) == {"Liver": "Liver"}
    labels = read_labels(path, num_classes=2, values={"Liver": 1}, like=image)
    np.testing.assert_array_equal(labels.array[:, :, 2], filled(1, 8))
    assert [next(n for n in ("Isocenter", "Liver") if n in note) for note in labels.notes] == [
        "Isocenter",
        "Liver",
    ]


FAULTS = {
    "points alone": lambda image: [("A", "POINT", [in_mm(image, [(3, 3)], 2)])],
    "outside": lambda image: [("A", "CLOSED_PLANAR", [in_mm(image, square(1, 5), 99)])],
    "across the slices": lambda image: [
        ("A", "CLOSED_PLANAR", [np.array([[0, 0, 0], [0, 9, 9], [0, 9, 0.0]])])
    ],
    "half a point": lambda image: [("A", "CLOSED_PLANAR", [np.arange(8.0).reshape(2, 4)])],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_structure_set_without_a_structure_in_the_image_is_refused(
    fault: str, tmp_path: Path
) -> None:
    images = dicom.ct_series(VOXELS)
    image = read_image(dicom.save(images, tmp_path / "ct")[0])
    made = dicom.structure_set(images, FAULTS[fault](image))
    with pytest.raises(DataError) as caught:
        read_labels(dicom.save([made], tmp_path / "rt")[0], num_classes=2, like=image)
    assert "\n" not in str(caught.value)
