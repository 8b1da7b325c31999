"""`medseg check`: each fault that is planted is found, and a sound dataset has none."""

import csv
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.check import main as check

from .planted import (
    FORMS,
    OF_A_CASE,
    OF_THE_DATASET,
    Data,
    image,
    label,
    leak,
    nan,
    other_axes,
    unknown_value,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Data]:
    """Makes a sound dataset of a form, each once."""

    @cache
    def _made(form: str, cases: int) -> Data:
        return Data(tmp_path_factory.mktemp("sound") / form, form, cases).make()

    return _made


@pytest.fixture
def data(sound: Callable[..., Data], tmp_path: Path) -> Data:
    """Six cases of CT as nnU-Net has them, with two folds."""
    return sound("nii.gz", 6).copy(tmp_path / "data")


@pytest.fixture
def root(data: Data) -> Path:
    return data.root


def image_of(root: Path, case: int) -> Path:
    return Data(root).image_of(case)


def label_of(root: Path, case: int) -> Path:
    return Data(root).label_of(case)


def findings(data: Data, out: Path) -> tuple[int, list[dict[str, str]]]:
    """Exit code, and the rows of findings.csv; that a PNG states no voxel size is none."""
    code = check([*data.words(), "-o", str(out)])
    with (out / "findings.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return code, [row for row in rows if data.form != "png" or "voxel size" not in row["finding"]]


def is_found(severity: str, named: str, found: list[dict[str, str]]) -> bool:
    return any(
        each["severity"] == severity and named in f"{each['cases']} {each['finding']}"
        for each in found
    )


@pytest.mark.parametrize("form", FORMS)
def test_faults_of_every_kind_are_found_at_once(form, sound, tmp_path, capsys) -> None:
    own = {plant: severity for plant, (severity, forms) in OF_A_CASE.items() if form in forms}
    data = sound(form, len(own) + 4).copy(tmp_path / "data")
    for case, plant in enumerate(own, start=4):
        plant(data, case)
    code, found = findings(data, tmp_path / "checked")
    assert code == 3
    lacking = [
        plant.__name__
        for case, (plant, severity) in enumerate(own.items(), start=4)
        if not is_found(severity, f"c{case}", found)
    ]
    assert not lacking
    said = capsys.readouterr().out
    assert all(severity in said for severity in own.values())
    assert not [each for each in found if {"c1", "c2", "c3"} & {*each["cases"].split()}]


@pytest.mark.parametrize(
    ("form", "plant"),
    [(form, plant) for plant, (_, _, forms) in OF_THE_DATASET.items() for form in forms],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_fault_of_the_dataset_is_found(form, plant, sound, tmp_path) -> None:
    data = sound(form, 6).copy(tmp_path / "data")
    plant(data)
    severity, named, _ = OF_THE_DATASET[plant]
    code, found = findings(data, tmp_path / "checked")
    assert code == (3 if severity == "refuse" else 0)
    assert is_found(severity, named, found)


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_dataset_has_no_finding_and_is_not_touched(form, sound, tmp_path, capsys) -> None:
    data = sound(form, 6)
    before = {path: path.stat().st_mtime_ns for path in data.root.rglob("*")}
    assert findings(data, tmp_path / "checked") == (0, [])
    said = capsys.readouterr().out
    assert "6 cases" in said
    assert "kidney_left" in said
    assert {path: path.stat().st_mtime_ns for path in data.root.rglob("*")} == before


def test_structure_and_voxels_are_one_list(data, root, capsys) -> None:
    nan(data, 1)
    label_of(root, 2).unlink()
    leak(data)
    assert check([str(root)]) == 3
    said = capsys.readouterr().out
    assert all(name in said for name in ("c1_0000", "c2", "splits_final.json"))


def test_the_page_shows_every_case_and_no_name_is_markup(root, tmp_path) -> None:
    text = (root / "dataset.json").read_text().replace("kidney_left", "<b>left</b>")
    (root / "dataset.json").write_text(text)
    out = tmp_path / "out"
    assert check([str(root), "-o", str(out)]) == 0
    page = (out / "check.html").read_text()
    assert page.count("data:image/png") == 6
    assert "<b>left" not in page
    with (out / "cases.csv").open() as stream:
        assert len({row["case"] for row in csv.DictReader(stream)}) == 6


def test_nothing_of_the_users_is_replaced(root, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert check([str(root), "-o", str(out)]) == 0
    assert check([str(root), "-o", str(out)]) == 0
    (out / "check.html").write_text("mine")
    assert check([str(root), "-o", str(out)]) == 2
    assert (out / "check.html").read_text() == "mine"
    assert check([str(root), "-o", str(root / "checked")]) == 2
    assert not (root / "checked").exists()


def bad_qform(root: Path) -> None:
    written = nib.Nifti1Image(image(2), np.eye(4))
    written.header["qform_code"], written.header["quatern_b"] = 1, np.nan
    nib.save(written, image_of(root, 2))


def rounded_header(root: Path) -> None:
    affine = np.eye(4)
    affine[:3, 3] = 0.004
    nib.save(nib.Nifti1Image(label(3), affine), label_of(root, 3))


def float_labels(root: Path) -> None:
    Data(root).label(4, label(4) * np.float32(1.0001))


def empty_axis(root: Path) -> None:
    nib.save(nib.Nifti1Image(image(4)[..., None, None], np.eye(4)), image_of(root, 4))


def micrometres(root: Path) -> None:
    for path, array in ((image_of(root, 5), image(5)), (label_of(root, 5), label(5))):
        nifti = nib.Nifti1Image(array, np.diag([1000, 1000, 1000, 1]))
        nifti.header.set_xyzt_units("micron")
        nib.save(nifti, path)


def copied_whole(root: Path) -> None:
    Data(root).image(0, image(3))
    Data(root).label(0, label(3))


def test_what_needs_no_guess_is_repaired_in_a_copy(data, root, tmp_path, capsys) -> None:
    other_axes(data, 1)
    repairs = [empty_axis, bad_qform, float_labels, micrometres, copied_whole]
    for plant in repairs:
        plant(root)
    (root / "imagesTr/._c1_0000.nii.gz").write_bytes(b"litter")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    copy = tmp_path / "repaired"
    assert check([str(root), "--fix", "-o", str(copy)]) == 0
    assert "c3" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    history = json.loads((copy / "repairs.json").read_text())
    assert set(history["left_out"]) == {"c3"}
    assert all(history["cases"][c]["repaired"] for c in ("c1", "c2", "c4", "c5"))
    assert check([str(copy)]) == 0
    said = capsys.readouterr().out
    assert "5 cases" in said
    assert not [word for word in ("refuse", "warn", "repairable") if word in said]
    assert "2 folds" in said
    for case in (1, 2, 4, 5):
        for written, array in (("images", image(case)), ("labels", label(case))):
            nifti = nib.load(copy / f"{written}Tr/c{case}.nii.gz")
            np.testing.assert_array_equal(np.asarray(nifti.dataobj), array)
            np.testing.assert_allclose(nifti.header.get_zooms(), 1, rtol=1e-6)
    assert check([str(root), "--fix", "-o", str(copy)]) == 2
    assert check([str(root), "--fix"]) == 2


def test_a_guess_is_not_made_and_is_named(data, root, tmp_path, capsys) -> None:
    nan(data, 1)
    label_of(root, 2).unlink()
    rounded_header(root)
    copy = tmp_path / "repaired"
    assert check([str(root), "--fix", "-o", str(copy)]) == 3
    said = capsys.readouterr().out
    assert all(f"left out: {case}" in said for case in ("c1", "c2"))
    assert check([str(copy)]) == 0
    assert sorted(path.name for path in (copy / "labelsTr").iterdir()) == [
        f"c{case}.nii.gz" for case in (0, 3, 4, 5)
    ]


def test_no_case_of_a_copy_takes_the_name_of_another(root, tmp_path) -> None:
    (root / "splits_final.json").unlink()
    names = ["p 1", "p_1", "p_1_2", "P_1", "pä", "p-1"]
    for case, name in enumerate(names):
        image_of(root, case).rename(root / f"imagesTr/{name}_0000.nii.gz")
        label_of(root, case).rename(root / f"labelsTr/{name}.nii.gz")
    assert check([str(root), "--fix", "-o", str(tmp_path / "repaired")]) == 0
    copies = [nib.load(path) for path in (tmp_path / "repaired/imagesTr").iterdir()]
    assert len({np.asarray(copy.dataobj).tobytes() for copy in copies}) == len(names)


def test_a_row_that_stands_twice_is_not_chosen(root, tmp_path, capsys) -> None:
    rows = [f"c{n},imagesTr/c{n}_0000.nii.gz,labelsTr/c{n}.nii.gz,{n % 2}" for n in range(5)]
    rows.append("c4,imagesTr/c5_0000.nii.gz,labelsTr/c5.nii.gz,0")
    (root / "dataset.json").unlink()
    (root / "splits_final.json").unlink()
    (root / "cases.csv").write_text("\n".join(["case,image,label,fold", *rows]))
    assert check([str(root), "--fix", "-o", str(tmp_path / "repaired")]) == 3
    assert "left out: c4" in capsys.readouterr().out
    assert not (tmp_path / "repaired/imagesTr/c4.nii.gz").exists()


def test_where_it_is_open_what_the_cases_are_nothing_is_copied(root, tmp_path) -> None:
    described = json.loads((root / "dataset.json").read_text())
    described["labels"]["kidney_right"] = 3
    (root / "dataset.json").write_text(json.dumps(described))
    assert check([str(root), "--fix", "-o", str(tmp_path / "repaired")]) == 3
    assert not (tmp_path / "repaired").exists()


def test_what_does_not_show_can_be_said(data, root, tmp_path, capsys) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["c0", "c1"], "validation": ["c1", "c2"]}))
    assert check([str(root), f"data.split_file={split}"]) == 3
    assert "c1" in capsys.readouterr().out
    unknown_value(data, 1)
    assert check([str(root), "data.labels={1: 1, 2: 2, 6: 0, 7: 1, 8: 2}"]) == 0
    for word in ("trainer.epochs=1", "~data.form", "+data.form=nnunet"):
        assert check([str(root), word]) == 2
    shutil.rmtree(root)
    assert check([str(root)]) == 3
