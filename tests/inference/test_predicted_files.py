import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import written_dicom as dicom
from nibabel.nifti2 import Nifti2Image

from medseg import __version__
from medseg.data.dataset import Scan
from medseg.errors import DataError
from medseg.files import sha256
from medseg.inference.ensemble import Ensemble, Member
from medseg.inference.files import read_input, write_outputs
from medseg.inference.outputs import Outputs, Wanted
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import case_id, range_of, read_image

from ..pairwise import covering

SaveScan = Callable[..., Path]
Turn = Callable[..., tuple[np.ndarray, np.ndarray]]
MakeModel = Callable[..., Path]
PLAIN, PROBABILITIES = Wanted(), Wanted(probabilities=(0, 1, 2))
AFFINE = np.diag([1.0, 1.25, 1.5, 1.0])


def scan_of(source: Path) -> Scan:
    return Scan(case_id=case_id(source), images=(source,))


def predicted(
    source: Path, model: TrainedModel, folder: Path | None = None, wanted: Wanted = PLAIN
) -> tuple[Outputs, dict[str, Any]]:
    outputs = Outputs.of(scan_of(source), folder or source.parent / "out")
    return outputs, written(scan_of(source), outputs, model, wanted)


def written(
    scan: Scan, outputs: Outputs, model: TrainedModel, wanted: Wanted = PLAIN
) -> dict[str, Any]:
    ensemble = alone(model)
    read = read_input(scan, outputs, ensemble=ensemble, wanted=wanted)
    found = ensemble.predict(read.volume, probabilities=wanted.probabilities)
    return write_outputs(read, found, outputs, ensemble=ensemble, wanted=wanted)


def alone(model: TrainedModel) -> Ensemble:
    return Ensemble([Member(predictor=Predictor(model, device="cpu"))])


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def oblique(degrees: float = 25.0) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned = np.eye(4)
    turned[:3, :3] = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    return turned @ AFFINE


def assert_same_place(output: Path, source: Path) -> None:
    """The same grid in the same place, for nibabel and for SimpleITK."""
    one, other = nib.load(output), nib.load(source)
    assert one.shape[:3] == other.shape[:3]
    np.testing.assert_array_equal(one.affine, other.affine)
    for form in ("get_sform", "get_qform"):
        (matrix, code), (wanted, wanted_code) = (getattr(i, form)(coded=True) for i in (one, other))
        assert code == wanted_code
        if wanted is not None:
            np.testing.assert_array_equal(matrix, wanted)
    image, reference = sitk.ReadImage(str(output)), sitk.ReadImage(str(source))
    for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, place)() == pytest.approx(getattr(reference, place)(), abs=1e-5)


@pytest.mark.parametrize(
    ("codes", "name"), [((1, 1), "LPS"), ((2, 0), "SRA"), ((0, 3), "LPS"), ((4, 2), "SRA")]
)
def test_labels_lie_on_the_grid_of_the_input_with_its_header_codes(
    codes: tuple[int, int],
    name: str,
    scan: np.ndarray,
    model: TrainedModel,
    turn: Turn,
    tmp_path: Path,
) -> None:
    array, affine = turn(scan, AFFINE, name)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    source = tmp_path / "scan.nii.gz"
    image.to_filename(source)
    outputs, _ = predicted(source, model)
    assert_same_place(outputs.labels, source)
    labels = nib.load(outputs.labels)
    assert labels.get_data_dtype() == np.uint8
    assert len(np.unique(voxels(outputs.labels))) > 1
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(outputs.labels))).T, voxels(outputs.labels)
    )


@covering(dims=[2, 3], spacing=[None, (1.4, None, 1.2)], affine=[AFFINE, oblique()])
def test_a_turned_file_gets_the_turned_labels_exactly(
    dims: int,
    spacing: tuple | None,
    affine: np.ndarray,
    scan: np.ndarray,
    make_model: MakeModel,
    turn: Turn,
    save_scan: SaveScan,
) -> None:
    model = load_model(make_model(dims, spacing=spacing, slice_axis=1))
    straight = predicted(save_scan(scan, affine=affine), model, wanted=PROBABILITIES)[0]
    labels, probabilities = voxels(straight.labels), voxels(straight.probabilities)
    for codes in ("LPS", "PIR", "IAR"):
        array, moved = turn(scan, affine, codes)
        source = save_scan(array, f"{codes}.nii.gz", moved)
        found = predicted(source, model, wanted=PROBABILITIES)[0]
        np.testing.assert_array_equal(voxels(found.labels), turn(labels, affine, codes)[0])
        turned = turn(np.moveaxis(probabilities, -1, 0), affine, codes)[0]
        np.testing.assert_array_equal(np.moveaxis(voxels(found.probabilities), -1, 0), turned)


def scaled(scan: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image((scan * 1000).astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.001, 0.25)
    image.to_filename(path)


def big_endian(scan: np.ndarray, path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    nib.Nifti1Image(scan.astype(">f4"), AFFINE, header).to_filename(path)
    assert nib.load(path).header.endianness == ">"


def nifti2(scan: np.ndarray, path: Path) -> None:
    Nifti2Image(scan, AFFINE).to_filename(path)


def float64(scan: np.ndarray, path: Path) -> None:
    nib.Nifti1Image(scan.astype(np.float64), AFFINE).to_filename(path)


def with_a_fourth_axis_of_one(scan: np.ndarray, path: Path) -> None:
    nib.Nifti1Image(scan[..., None], AFFINE).to_filename(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("store", [scaled, big_endian, nifti2, float64, with_a_fourth_axis_of_one])
def test_however_the_voxels_are_stored_the_labels_are_the_same(
    store: Callable, suffix: str, scan: np.ndarray, model: TrainedModel, tmp_path: Path
) -> None:
    source, plain = tmp_path / f"stored{suffix}", tmp_path / "plain.nii.gz"
    store(scan, source)
    nib.Nifti1Image(scan, AFFINE).to_filename(plain)
    stored = predicted(source, model)[0].labels
    assert nib.load(stored).shape == nib.load(source).shape
    np.testing.assert_array_equal(nib.load(stored).affine, AFFINE)
    agreement = voxels(stored).reshape(scan.shape) == voxels(predicted(plain, model)[0].labels)
    assert agreement.mean() > (0.99 if store is scaled else 1 - 1e-12)  # three digits are kept


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_are_predicted_in_their_place(
    suffix: str, scan: np.ndarray, model: TrainedModel, save_scan: SaveScan, turn: Turn
) -> None:
    array, affine = turn(scan, oblique(), "LPS")
    nifti = save_scan(array, "a.nii.gz", affine)
    read = sitk.ReadImage(str(nifti))
    plain = sitk.GetImageFromArray(sitk.GetArrayFromImage(read))  # without the NIfTI header
    plain.CopyInformation(read)
    other = nifti.with_name(f"b{suffix}")
    sitk.WriteImage(plain, str(other))
    one, two = (predicted(path, model)[0].labels for path in (nifti, other))
    np.testing.assert_array_equal(voxels(one), voxels(two))
    np.testing.assert_allclose(nib.load(one).affine, nib.load(two).affine, atol=1e-4)


@pytest.mark.parametrize("kind", ["DICOM series", "ImageJ stack"])
def test_folder_of_slices_and_stack_of_pages_are_predicted_in_their_place(
    kind: str, scan: np.ndarray, model: TrainedModel, save_scan: SaveScan, tmp_path: Path
) -> None:
    whole = np.rint(100 * (scan - scan.min())).astype(np.int16)
    between, rows, columns = dicom.SPACING
    affine = np.diag([-columns, -rows, between, 1])
    if kind == "DICOM series":
        source = tmp_path / "series"
        dicom.save(dicom.ct_series(whole.T + 1024, origin=(0, 0, 0)), source)
    else:
        source = tmp_path / "stack.tif"
        metadata = {"axes": "ZYX", "spacing": between, "unit": "mm"}
        resolution = (1 / columns, 1 / rows)
        tifffile.imwrite(source, whole.T, imagej=True, resolution=resolution, metadata=metadata)
    outputs, report = predicted(source, model, tmp_path / "out")
    nifti = predicted(save_scan(whole, "same.nii.gz", affine), model, tmp_path / "out")[0]
    np.testing.assert_array_equal(voxels(outputs.labels), voxels(nifti.labels))
    np.testing.assert_allclose(nib.load(outputs.labels).affine, affine, atol=1e-5)
    assert len(report["files_sha256"]) == (scan.shape[2] if kind == "DICOM series" else 1)
    assert outputs.labels.name.startswith(source.stem)


@pytest.mark.parametrize("spacing", [None, (1.5, 1.0, 1.2)])
def test_probabilities_are_written_beside_the_labels(
    spacing: tuple | None, scan: np.ndarray, make_model: MakeModel, save_scan: SaveScan
) -> None:
    source = save_scan(scan, affine=oblique())
    model = load_model(make_model(3, spacing=spacing))
    outputs, report = predicted(source, model, wanted=PROBABILITIES)
    stored = nib.load(outputs.probabilities)
    assert stored.shape == (*scan.shape, 3)
    assert stored.get_data_dtype() == np.float32
    np.testing.assert_array_equal(stored.affine, nib.load(source).affine)
    assert voxels(outputs.probabilities).min() >= 0
    np.testing.assert_allclose(voxels(outputs.probabilities).sum(-1), 1, atol=1e-5)
    labels = voxels(outputs.labels)
    np.testing.assert_array_equal(voxels(outputs.probabilities).argmax(-1), labels)
    assert report["probabilities"] == "scan_probabilities.nii.gz"


def test_the_report_names_input_result_and_model(
    scan: np.ndarray, model: TrainedModel, save_scan: SaveScan
) -> None:
    source = save_scan(scan)
    outputs, report = predicted(source, model)
    assert json.loads(outputs.report.read_text()) == report
    assert report["input"] == str(source)
    assert report["input_sha256"] == sha256(source)
    assert report["output"] == outputs.labels.name == "scan.nii.gz"
    assert report["probabilities"] is None
    assert report["geometry"] == {
        "source": "sform",
        "shape": [20, 22, 18],
        "spacing_mm": [1.0, 1.25, 1.5],
        "axes": "RAS",
    }
    assert report["notes"] == []
    labels = voxels(outputs.labels)
    for value, name in ((1, "ellipsoid 1"), (2, "ellipsoid 2")):
        size = int((labels == value).sum())
        millilitres = pytest.approx(size * 1.875 / 1000, abs=1e-4)
        assert report["classes"][name] == {
            "label": value,
            "voxels": size,
            "millilitres": millilitres,
            "mean_intensity": [pytest.approx(scan[labels == value].mean(), abs=1e-5)],
        }
    assert report["model"]["weights"] == str(model.source)
    assert report["model"]["weights_sha256"] == sha256(model.source)
    assert report["model"]["network"] == model.card.network
    assert report["model"]["preprocessing"] == model.card.preprocessing
    assert report["window"] == {"patch_size": [16, 16, 16], "overlap": 0.5}
    assert report["device"] == "cpu"
    assert report["versions"]["medseg"] == __version__
    stages = {"read", "preprocess", "network", "restore", "write", "total"}
    assert set(report["seconds"]) == stages


def test_equal_inputs_give_equal_bytes(
    scan: np.ndarray, model: TrainedModel, save_scan: SaveScan, tmp_path: Path
) -> None:
    source = save_scan(scan)
    one, two = (
        predicted(source, model, tmp_path / name, wanted=PROBABILITIES)[0] for name in ("a", "b")
    )
    assert one.labels.read_bytes() == two.labels.read_bytes()
    assert one.probabilities.read_bytes() == two.probabilities.read_bytes()


def test_voxels_that_are_no_numbers_are_replaced_with_a_note(
    scan: np.ndarray, model: TrainedModel, save_scan: SaveScan
) -> None:
    replaced, broken = scan.copy(), scan.copy()
    replaced[2:5, 3, 4] = scan.min()
    broken[2:5, 3, 4] = [np.nan, np.inf, -np.inf]
    outputs, report = predicted(save_scan(broken, "broken.nii.gz"), model)
    (note,) = report["notes"]
    assert f"3 of {scan.size} voxels were NaN or infinite" in note
    expected = predicted(save_scan(replaced, "replaced.nii.gz"), model)[0].labels
    np.testing.assert_array_equal(voxels(outputs.labels), voxels(expected))


def test_an_empty_label_map_is_written_with_a_note(
    scan: np.ndarray, model_folder: Path, save_scan: SaveScan
) -> None:
    model = load_model(model_folder)
    model.network.heads[0].bias.data[0] = 1e6  # type: ignore[index,union-attr]
    outputs, report = predicted(save_scan(scan), model)
    assert report["notes"] == ["nothing was segmented: the label map is empty"]
    assert not voxels(outputs.labels).any()


@pytest.mark.parametrize(("factor", "notes"), [(1, 0), (4, 1)])
def test_an_image_unlike_those_of_training_has_a_note(
    factor: float, notes: int, scan: np.ndarray, model: TrainedModel, save_scan: SaveScan
) -> None:
    known = range_of(read_image(save_scan(scan, "known.nii.gz")))
    taught = replace(model, card=replace(model.card, trained_on=known))
    _, report = predicted(save_scan(factor * scan, "other.nii.gz"), taught)
    assert len(report["notes"]) == notes


def test_another_number_of_channels_is_refused_before_anything_is_written(
    scan: np.ndarray, make_model: MakeModel, model: TrainedModel, save_scan: SaveScan
) -> None:
    two = load_model(make_model(3, in_channels=2))
    pair = save_scan(np.stack([scan, scan], -1), "pair.nii.gz")
    single = save_scan(scan, "single.nii.gz")
    assert voxels(predicted(pair, two)[0].labels).shape == scan.shape
    for source, other in ((pair, model), (single, two)):
        with pytest.raises(DataError, match=rf"{source}: shape .* must be \d channel"):
            predicted(source, other, source.parent / "nothing")
    assert not (pair.parent / "nothing").exists()


def test_files_of_one_channel_are_predicted_as_one_image(
    scan: np.ndarray, make_model: MakeModel, save_scan: SaveScan
) -> None:
    model, other = load_model(make_model(in_channels=2)), scan[::-1]
    whole = save_scan(np.stack([scan, other], -1), "whole.nii.gz")
    parts = (save_scan(scan, "x/case.nii.gz"), save_scan(other, "y/case.nii.gz"))
    wanted, _ = predicted(whole, model)
    case = Scan(case_id="case", images=parts)
    outputs = Outputs.of(case, whole.parent / "out")
    report = written(case, outputs, model)
    np.testing.assert_array_equal(voxels(outputs.labels), voxels(wanted.labels))
    assert report["files_sha256"] == {f"{p.parent.name}/case.nii.gz": sha256(p) for p in parts}
