"""`medseg predict --format`, `-o FILE` and what is written besides: the files a user gets."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import written_dicom as dicom
from PIL import Image

from medseg.models.weights import load_model, save_model
from medseg.volumes import read_image, read_labels

from .user import User

SaveScan = Callable[..., Path]


@pytest.fixture
def source(save_scan: SaveScan, scan: np.ndarray) -> Path:
    return save_scan(scan, "case.nii.gz")


@pytest.fixture
def slices(scan: np.ndarray, tmp_path: Path) -> Path:
    """A folder of a DICOM series of the phantom, with zeros around it."""
    pixels = np.round(1124 + 100 * scan).astype(int).T  # stored ones are 1024 more
    pixels = np.pad(pixels, [(1, 2), (0, 3), (2, 0)], constant_values=1024)
    dicom.save(dicom.ct_series(pixels), tmp_path / "series", ending=".dcm")
    return tmp_path / "series"


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


@pytest.mark.parametrize("crop", [None, "nonzero"])
def test_a_series_becomes_what_is_asked_for_and_all_forms_agree(
    crop: str | None, user: User, slices: Path, make_model: Callable[..., Path]
) -> None:
    user.model = make_model(crop=crop)
    assert user.types(slices) == 0
    wanted, volume = voxels(user.output / "series.nii.gz"), read_image(slices)
    assert len(np.unique(wanted)) == 3
    for kind, modality in (("dicom-seg", "SEG"), ("rtstruct", "RTSTRUCT"), ("same", "SEG")):
        user.output = user.output.with_name(kind)
        assert user.types(slices, options=f"--format {kind}") == 0
        assert user.written() == ["series.dcm", "series.json"]
        found = user.output / "series.dcm"
        assert pydicom.dcmread(found).Modality == modality
        back = read_labels(found, num_classes=None, like=volume)
        np.testing.assert_array_equal(back.array, wanted)


@pytest.mark.parametrize("name", ["a b.nii", "x.NII.GZ", "s.seg.nrrd", "deep/new/s.nrrd"])
def test_one_volume_becomes_the_file_that_is_named(name: str, user: User, source: Path) -> None:
    assert user.types(source) == 0
    wanted = voxels(user.output / "case.nii.gz")
    folder = user.output.with_name("named")
    user.output = folder / name
    assert user.types(source, options="--probabilities") == 0
    assert user.output.is_file()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(user.output)).T, wanted)
    stem = user.output.name.split(".")[0]
    beside = {p.name for p in user.output.parent.glob("[!.]*")} - {user.output.name}
    assert beside == {f"{stem}.json", f"{stem}_probabilities.nii.gz"}
    before = user.output.stat()
    assert user.types(source) == 3
    assert "--overwrite" in user.errors[-1]
    assert user.types(source, options="--continue --probabilities") == 0
    assert "already done" in user.out[-1]
    assert user.output.stat() == before


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", "--format nifti"),
        ("a.nii.gz", "--format dicom-seg"),
        ("a.mha", ""),
        ("a", "--format nift"),
        ("a", "--format"),
    ],
)
def test_what_contradicts_itself_is_refused(
    name: str, options: str, user: User, source: Path
) -> None:
    user.output = user.output / name
    assert user.types(source, options=options) == 2
    assert not user.output.parent.exists()


def test_a_file_is_refused_for_several_volumes(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    user.output = user.output / "one.nii.gz"
    assert user.types(*(save_scan(scan, f"{n}.nii.gz") for n in "ab")) == 2
    assert not user.output.parent.exists()


@pytest.mark.parametrize("name", ["out", "out.dcm"])
def test_a_format_that_cannot_hold_the_labels_is_refused_before_work(
    name: str, user: User, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr("medseg.inference.ensemble.Ensemble.predict", never)
    user.output = user.output / name
    for kind in ("dicom-seg", "rtstruct") if name == "out" else ("dicom-seg",):
        assert user.types(source, options=f"--format {kind}") == 3
        assert "--format nifti" in user.errors[0]
    assert not list(user.output.parent.rglob("*.dcm"))


def test_the_rest_is_done_where_one_volume_has_no_such_form(
    user: User, source: Path, slices: Path
) -> None:
    assert user.types(source, slices, options="--format dicom-seg") == 3
    assert user.written() == ["failures.json", "series.dcm", "series.json"]
    assert list(json.loads((user.output / "failures.json").read_text())) == [str(source)]


def test_a_file_that_fails_leaves_nothing(user: User, tmp_path: Path) -> None:
    (tmp_path / "bad.nii").write_bytes(b"no volume")
    user.output = user.output / "a.nii.gz"
    assert user.types(tmp_path / "bad.nii") == 3
    assert not user.output.exists()
    assert user.written() == []


def test_extras_are_written_found_done_and_taken_away_again(user: User, source: Path) -> None:
    options = "--overlay --label-names --split-classes"
    assert user.types(source, options=options) == 0, user.errors
    own = ["case", "case.ctbl", "case.json", "case.label", "case.nii.gz", "case_overlay.png"]
    assert user.written() == own
    labels = voxels(user.output / "case.nii.gz")
    masks = sorted((user.output / "case").glob("[!.]*"))
    assert [path.name for path in masks] == ["ellipsoid 1.nii.gz", "ellipsoid 2.nii.gz"]
    for value, path in enumerate(masks, start=1):
        np.testing.assert_array_equal(voxels(path), labels == value)
    names = {path.name.removesuffix(".nii.gz"): n for n, path in enumerate(masks, start=1)}
    folder = read_labels(user.output / "case", num_classes=3, values=names)
    np.testing.assert_array_equal(folder.array, labels)
    assert np.ptp(np.asarray(Image.open(user.output / "case_overlay.png")), axis=-1).any()
    assert user.types(source, options=f"{options} --continue") == 0
    assert "already done" in user.out[0]
    (user.output / "case" / "ellipsoid 1.nii.gz").unlink()
    assert user.types(source, options=f"{options} --continue") == 0
    assert "already done" not in user.out[0]
    assert user.types(source, options="--overwrite") == 0
    assert user.written() == ["case", "case.json", "case.nii.gz"]
    assert not list((user.output / "case").glob("[!.]*"))


def test_names_of_classes_never_leave_the_folder(user: User, source: Path, tmp_path: Path) -> None:
    trained = load_model(user.model)
    trained.card.classes[:] = ["../../out of it", "..\n/.."]
    save_model(tmp_path / "hostile", trained.network, trained.card)
    before = set(tmp_path.rglob("*"))
    options = "--split-classes --label-names"
    assert user.types(source, model=tmp_path / "hostile", options=options) == 0
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert len([p for p in written if p.name[0] != "."]) == 6
    assert all(path.is_relative_to(user.output) for path in written)
    table = (user.output / "case.ctbl").read_text().splitlines()
    assert [line.split()[0] for line in table[1:]] == ["0", "1", "2"]


def test_classes_that_are_spelt_alike_have_files_of_their_own(
    user: User, source: Path, tmp_path: Path
) -> None:
    trained = load_model(user.model)
    trained.card.classes[:] = ["Liver", "liver"]
    save_model(tmp_path / "alike", trained.network, trained.card)
    assert user.types(source, model=tmp_path / "alike", options="--split-classes") == 0
    names = sorted(path.name for path in (user.output / "case").glob("[!.]*"))
    assert names == ["1_Liver.nii.gz", "2_liver.nii.gz"]


def test_a_picture_becomes_a_mask_and_an_overlay_of_its_own_size(
    user: User, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (20, 600, 3), dtype=np.uint8)
    pixels[:, :300, 0] = 0  # what is red lies on the right
    Image.fromarray(pixels).save(tmp_path / "a.png")
    user.model = make_model(2, in_channels=3)
    assert user.types(tmp_path / "a.png", options="--format same --overlay") == 0
    mask = Image.open(user.output / "a.png")
    assert (mask.mode, mask.size) == ("P", (600, 20))
    user.output = user.output.with_name("nifti")
    assert user.types(tmp_path / "a.png") == 0
    np.testing.assert_array_equal(np.asarray(mask), voxels(user.output / "a.nii.gz")[..., 0].T)
    overlay = np.asarray(Image.open(user.output.with_name("out") / "a_overlay.png"))
    assert overlay.shape == (20, 600, 3)
    free = np.asarray(mask) == 0
    if free[:, :300].any() and free[:, 300:].any():
        left, right = (overlay[:, s, 0][free[:, s]].mean() for s in (slice(300), slice(300, None)))
        assert left < right


def test_the_help_names_every_format(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    from medseg.cli.predict import main
    from medseg.volumes.writers import FORMATS, SAME

    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in (*FORMATS, SAME))
