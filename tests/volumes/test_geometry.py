from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import DataError
from medseg.volumes import (
    Doubt,
    Geometry,
    decide_geometry,
    from_ras,
    ras_affine,
    read_image,
    to_ras,
    write_labels,
)

from ..conftest import ORIENTATIONS


def oriented_affine(codes: str, oblique_degrees: float = 0.0) -> np.ndarray:
    """Spacing 1, 2, 3 mm along the array axes, whatever their directions."""
    start = nib.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(start):
        affine[int(world), axis] = sign * (axis + 1.0)
    angle = np.deg2rad(oblique_degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine
    affine[:, 3] = [11, -22, 33, 1]
    return affine


def header_of(**fields: object) -> nib.Nifti1Header:
    header = nib.Nifti1Header()
    header.set_data_shape((4, 5, 6))
    header["pixdim"][1:4] = (1, 2, 3)
    for field, value in fields.items():
        header[field] = value
    return header


def header_with_forms(sform: np.ndarray | None, qform: np.ndarray | None) -> nib.Nifti1Header:
    header = header_of()
    if qform is not None:
        header.set_qform(qform, code=1)
    if sform is not None:
        header.set_sform(sform, code=2)
    return header


def test_sform_is_taken_before_qform_and_the_disagreement_is_noted() -> None:
    header = header_with_forms(np.diag([1.5, 1.5, 3, 1]), np.diag([2, 2, 2, 1]))
    geometry, notes = decide_geometry(header)
    assert geometry.source == "sform"
    assert geometry.spacing == (1.5, 1.5, 3.0)
    assert any("the sform is used; to use the other, set prefer=qform" in note for note in notes)


def test_qform_is_taken_when_preferred() -> None:
    header = header_with_forms(np.diag([1.5, 1.5, 3, 1]), np.diag([2, 2, 2, 1]))
    geometry, notes = decide_geometry(header, prefer="qform")
    assert (geometry.source, geometry.spacing) == ("qform", (2.0, 2.0, 2.0))
    assert any("set prefer=sform" in note for note in notes)


@pytest.mark.parametrize("prefer", ["sform", "qform"])
def test_the_only_valid_form_is_taken_whatever_is_preferred(prefer: str) -> None:
    affine = oriented_affine("LPS")
    for form in ("sform", "qform"):
        header = header_with_forms(*((affine, None) if form == "sform" else (None, affine)))
        geometry, notes = decide_geometry(header, prefer=prefer)
        assert geometry.source == form
        assert notes == []
        np.testing.assert_allclose(geometry.affine, affine, atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 17, 179.99])
def test_agreeing_forms_are_silent(degrees: float) -> None:
    for codes in ORIENTATIONS:
        affine = oriented_affine(codes, degrees)
        assert decide_geometry(header_with_forms(affine, affine))[1] == [], codes


def test_no_form_gives_pixdim_and_a_note() -> None:
    geometry, notes = decide_geometry(header_of())
    assert geometry.source == "pixdim"
    np.testing.assert_array_equal(geometry.affine, np.diag([1, 2, 3, 1]))
    assert len(notes) == 1
    assert "no orientation" in notes[0]
    assert "assuming" in notes[0]


def test_pixdim_that_disagrees_with_the_sform_is_noted() -> None:
    header = header_with_forms(np.diag([1.5, 1.5, 1.5, 1]), None)
    header["pixdim"][1:4] = 5
    geometry, notes = decide_geometry(header)
    assert geometry.spacing == (1.5, 1.5, 1.5)
    assert ["pixdim" in note for note in notes] == [True]


def test_negative_pixdim_is_read_as_positive_with_a_note() -> None:
    geometry, notes = decide_geometry(header_of(pixdim=[1, -1, 2, -3, 0, 0, 0, 0]))
    assert geometry.spacing == (1.0, 2.0, 3.0)
    assert any("negative" in note for note in notes)


@pytest.mark.parametrize("broken", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("form", [None, np.eye(4)])
def test_voxel_size_that_is_none_is_refused(broken: float, form: np.ndarray | None) -> None:
    header = header_with_forms(form, None)
    header["pixdim"][2] = broken
    with pytest.raises(DataError, match="pixdim"):
        decide_geometry(header)


SINGULAR = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.diag([np.inf, 1, 1, 1]), "infinite"),
        (np.zeros((4, 4)), "voxel size of zero"),
        (np.diag([1, 0, 1, 1]), "voxel size of zero"),
        (SINGULAR, "singular"),
    ],
)
def test_affine_without_meaning_is_refused(affine: np.ndarray, words: str) -> None:
    header = header_with_forms(np.eye(4), None)
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    with pytest.raises(DataError, match=rf"sform affine .*{words}"):
        decide_geometry(header)
    header.set_qform(np.eye(4), code=1)
    geometry, notes = decide_geometry(header)
    assert geometry.source == "qform"
    assert any("sform" in note and not isinstance(note, Doubt) for note in notes)


def test_impossible_quaternion_is_refused() -> None:
    header = header_of(qform_code=1, quatern_b=1, quatern_c=1, quatern_d=1)
    with pytest.raises(DataError, match="qform"):
        decide_geometry(header)


def test_qfac_of_zero_counts_as_one() -> None:
    header = header_with_forms(None, np.diag([1, 2, 3, 1]))
    header["pixdim"][0] = 0
    np.testing.assert_array_equal(decide_geometry(header)[0].affine, np.diag([1, 2, 3, 1]))


@pytest.mark.parametrize(("shear", "noted"), [(0.6, True), (0.01, True), (0.0001, False)])
def test_shear_is_noted_and_never_a_crash(shear: float, noted: bool) -> None:
    affine = np.eye(4)
    affine[0, 1] = shear
    header = header_with_forms(affine, None)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    _, notes = decide_geometry(header)
    assert any("sheared" in note for note in notes) == noted


@pytest.mark.parametrize("forms", [(), ("sform",), ("qform",), ("sform", "qform")], ids=str)
@pytest.mark.parametrize(("unit", "per_mm"), [("micron", 1000), ("meter", 0.001), ("mm", 1)])
def test_lengths_of_the_header_are_converted_to_mm(
    unit: str, per_mm: float, forms: tuple[str, ...]
) -> None:
    affine = oriented_affine("LPS") if forms else np.diag([1.0, 2, 3, 1])
    own = np.diag([per_mm] * 3 + [1]) @ affine
    header = header_with_forms(*(own if form in forms else None for form in ("sform", "qform")))
    header["pixdim"][1:4] = np.array([1, 2, 3]) * per_mm
    header.set_xyzt_units(unit)
    geometry, notes = decide_geometry(header)
    np.testing.assert_allclose(geometry.affine, affine, rtol=1e-5)
    assert len(notes) == (unit != "mm") + (not forms)


def test_a_unit_that_is_none_is_noted_and_read_as_mm() -> None:
    header = header_with_forms(np.diag([1, 2, 3, 1]), None)
    header["xyzt_units"] = 5
    geometry, notes = decide_geometry(header)
    assert geometry.spacing == (1, 2, 3)
    assert len(notes) == 1


def test_missing_third_axis_needs_no_voxel_size() -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((4, 5))
    header["pixdim"][1:4] = (1, 2, 0)
    assert decide_geometry(header)[0].spacing == (1.0, 2.0, 1.0)


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("degrees", [0, 20])
def test_ras_round_trip_is_exact_and_agrees_with_nibabel(codes: str, degrees: float) -> None:
    affine = oriented_affine(codes, degrees)
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    turned = to_ras(array, affine)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(array[1].astype(np.int16), affine))
    np.testing.assert_array_equal(turned[1], canonical.get_fdata())
    np.testing.assert_allclose(ras_affine(affine, (3, 4, 5)), canonical.affine, atol=1e-12)
    np.testing.assert_array_equal(from_ras(turned, affine), array)
    assert Geometry(affine, "sform").axcodes == tuple(codes)
    np.testing.assert_allclose(Geometry(affine, "sform").spacing, (1, 2, 3))


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 5), (1, 1, 1)], ids=str)
def test_axes_of_one_voxel_never_run_backwards_in_memory(shape: tuple[int, int, int]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for codes in ORIENTATIONS:
        affine = oriented_affine(codes)
        turned = to_ras(array, affine)
        torch.from_numpy(np.ascontiguousarray(turned))  # refuses a negative stride
        np.testing.assert_array_equal(from_ras(turned, affine), array)


@given(
    numbers=st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    shape=st.tuples(*[st.integers(1, 4)] * 3),
    leading=st.lists(st.integers(1, 2), max_size=2),
)
def test_ras_round_trip_for_any_affine(
    numbers: list[float], shape: tuple[int, int, int], leading: list[int]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(numbers, (3, 3)) + 4 * np.eye(3)[[1, 2, 0]]
    if abs(np.linalg.det(affine)) < 1e-3:
        return
    array = np.arange(np.prod([*leading, *shape])).reshape(*leading, *shape)
    turned = to_ras(array, affine)
    np.testing.assert_array_equal(from_ras(turned, affine), array)
    axcodes = nib.aff2axcodes(ras_affine(affine, shape))
    assert axcodes == ("R", "A", "S")


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_survives_write_and_read_by_three_readers(
    codes: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    affine = oriented_affine(codes, 10)
    labels = np.random.default_rng(2).integers(0, 4, (3, 4, 5)).astype(np.uint8)
    header = nib.Nifti1Header()
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    scan = read_image(save(labels, affine=affine, header=header))
    written = tmp_path / "labels.nii.gz"
    write_labels(written, labels, scan)

    ours, theirs, itk = read_image(written), nib.load(written), sitk.ReadImage(written)
    np.testing.assert_array_equal(ours.array[0], labels)
    np.testing.assert_array_equal(theirs.get_fdata(), labels)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, labels)
    np.testing.assert_allclose(ours.geometry.affine, affine, atol=1e-5)
    np.testing.assert_allclose(theirs.affine, affine, atol=1e-5)
    for index in [(0, 0, 0), (2, 3, 4)]:
        left_posterior = np.array(itk.TransformIndexToPhysicalPoint(index))
        ras = left_posterior * (-1, -1, 1)
        np.testing.assert_allclose(ras, (affine @ [*index, 1])[:3], atol=1e-4)
