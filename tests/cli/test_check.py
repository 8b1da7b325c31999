"""`medseg check`: each fault that is planted is found, and a sound dataset has none."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.check import main as check

SIZE = (10, 9, 8)
CLASSES = ["kidney left", "kidney right"]


def write(path: Path, array: np.ndarray, spacing: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([spacing] * 3 + [1.0])), path)


def image(case: int) -> np.ndarray:
    return np.random.default_rng(case).normal(0, 300, SIZE).astype(np.float32)


def label(case: int) -> np.ndarray:
    found = np.zeros(SIZE, np.uint8)
    found[1:3, 2 : 4 + case % 3, 1 : 3 + case // 3] = 1  # the patient's left, in RAS
    found[6:9, 2:5, 3:6] = 2
    return found


def image_of(root: Path, case: int) -> Path:
    return root / f"imagesTr/c{case}_0000.nii.gz"


def label_of(root: Path, case: int) -> Path:
    return root / f"labelsTr/c{case}.nii.gz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six cases of CT as nnU-Net has them, with two folds."""
    folder = tmp_path / "data"
    for case in range(6):
        write(image_of(folder, case), image(case))
        write(label_of(folder, case), label(case))
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {name: n for n, name in enumerate(CLASSES, start=1)},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    write_folds(folder, ["c0", "c1", "c2"], ["c3", "c4", "c5"])
    return folder


def write_folds(root: Path, first: list[str], second: list[str]) -> None:
    folds = [{"train": first, "val": second}, {"train": second, "val": first}]
    (root / "splits_final.json").write_text(json.dumps(folds))


def cut_short(root: Path) -> None:
    path = image_of(root, 1)
    path.write_bytes(path.read_bytes()[:-20])


def no_file(root: Path) -> None:
    image_of(root, 1).unlink()


def nan(root: Path) -> None:
    array = image(1)
    array[0, 0, 0] = np.nan
    write(image_of(root, 1), array)


def other_grid(root: Path) -> None:
    write(label_of(root, 1), label(1)[:-1])


def other_place(root: Path) -> None:
    write(label_of(root, 1), label(1), spacing=2.0)


def unknown_value(root: Path) -> None:
    write(label_of(root, 1), label(1) + 6)


def fraction(root: Path) -> None:
    write(label_of(root, 1), label(1) * np.float32(0.7))


def constant(root: Path) -> None:
    write(image_of(root, 1), np.full(SIZE, -7, np.float32))


def empty_label(root: Path) -> None:
    write(label_of(root, 1), np.zeros(SIZE, np.uint8))


def all_empty(root: Path) -> None:
    for case in range(6):
        write(label_of(root, case), np.zeros(SIZE, np.uint8))


def copied(root: Path) -> None:
    write(image_of(root, 1), image(0))


def copied_over_folds(root: Path) -> None:
    write(image_of(root, 1), image(4))


def copied_label(root: Path) -> None:
    write(label_of(root, 1), label(0))


def leak(root: Path) -> None:
    write_folds(root, ["c0", "c1", "c2"], ["c1", "c4", "c5"])


def all_metres(root: Path) -> None:
    for case in range(6):
        write(image_of(root, case), image(case), spacing=1000.0)
        write(label_of(root, case), label(case), spacing=1000.0)


def beside_pet(root: Path) -> None:
    """CT without air beside another channel, which has values below 0."""
    described = json.loads((root / "dataset.json").read_text())
    described["channel_names"] = {"0": "PET", "1": "CT"}
    (root / "dataset.json").write_text(json.dumps(described))
    for case in range(6):
        write(root / f"imagesTr/c{case}_0001.nii.gz", np.abs(image(case)))


def unsigned(root: Path) -> None:
    write(image_of(root, 1), image(1) + 3000)


def rescaled(root: Path) -> None:
    write(image_of(root, 1), (image(1) - image(1).min()) / np.float32(3000))


def other_unit(root: Path) -> None:
    write(image_of(root, 1), image(1), spacing=0.001)
    write(label_of(root, 1), label(1), spacing=0.001)


def class_nowhere(root: Path) -> None:
    for case in range(6):
        write(label_of(root, case), np.minimum(label(case), 1))


def class_once(root: Path) -> None:
    for case in (0, 2, 3, 4, 5):
        write(label_of(root, case), np.minimum(label(case), 1))


def flipped(root: Path) -> None:
    write(image_of(root, 1), image(1)[::-1])
    write(label_of(root, 1), label(1)[::-1])


def other_axes(root: Path) -> None:
    turned = nib.Nifti1Image(np.swapaxes(label(1), 0, 1), np.eye(4)[[1, 0, 2, 3]])
    nib.save(turned, label_of(root, 1))


@pytest.mark.parametrize(
    ("plant", "severity", "named"),
    [
        (cut_short, "refuse", "c1"),
        (no_file, "refuse", "c1"),
        (nan, "refuse", "c1"),
        (other_grid, "refuse", "c1"),
        (other_place, "refuse", "c1"),
        (unknown_value, "refuse", "c1"),
        (fraction, "refuse", "c1"),
        (all_empty, "refuse", "data.labels"),
        (copied_over_folds, "refuse", "c1 c4"),
        (leak, "refuse", "c1"),
        (constant, "warn", "c1"),
        (empty_label, "warn", "c1"),
        (copied, "warn", "c0 c1"),
        (copied_label, "warn", "c0 c1"),
        (unsigned, "warn", "c1"),
        (all_metres, "warn", "mm"),
        (beside_pet, "warn", "HU"),
        (rescaled, "warn", "c1"),
        (other_unit, "warn", "c1"),
        (class_nowhere, "warn", "kidney right"),
        (class_once, "warn", "c1"),
        (flipped, "warn", "c1"),
        (other_axes, "repairable", "c1"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_planted_fault_is_found(
    plant: Callable[[Path], None], severity: str, named: str, root: Path, tmp_path: Path, capsys
) -> None:
    plant(root)
    code = check([str(root), "-o", str(tmp_path / "checked")])
    assert code == (3 if severity == "refuse" else 0)
    with (tmp_path / "checked/findings.csv").open(encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert [f for f in found if f["severity"] == severity and named in f["cases"] + f["finding"]]
    assert severity in capsys.readouterr().out


def test_a_sound_dataset_has_no_finding_and_nothing_is_written(root, tmp_path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert check([str(root)]) == 0
    said = capsys.readouterr().out
    assert "6 cases" in said
    assert "kidney left" in said
    assert not [word for word in ("refuse", "warn", "repairable") if word in said]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_structure_and_voxels_are_one_list(root, capsys) -> None:
    nan(root)
    label_of(root, 2).unlink()
    leak(root)
    assert check([str(root)]) == 3
    said = capsys.readouterr().out
    assert all(name in said for name in ("c1_0000", "c2", "splits_final.json"))


def test_the_page_shows_every_case_and_no_name_is_markup(root, tmp_path) -> None:
    text = (root / "dataset.json").read_text().replace("kidney left", "<b>left</b>")
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
    write(label_of(root, 4), label(4) * np.float32(1.0001))


def empty_axis(root: Path) -> None:
    write(image_of(root, 4), image(4)[..., None, None])


def micrometres(root: Path) -> None:
    for path, array in ((image_of(root, 5), image(5)), (label_of(root, 5), label(5))):
        nifti = nib.Nifti1Image(array, np.diag([1000, 1000, 1000, 1]))
        nifti.header.set_xyzt_units("micron")
        nib.save(nifti, path)


def copied_whole(root: Path) -> None:
    write(image_of(root, 0), image(3))
    write(label_of(root, 0), label(3))


def test_what_needs_no_guess_is_repaired_in_a_copy(root, tmp_path, capsys) -> None:
    repairs = [other_axes, empty_axis, bad_qform, float_labels, micrometres, copied_whole]
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


def test_a_guess_is_not_made_and_is_named(root, tmp_path, capsys) -> None:
    nan(root)
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
    described["labels"]["kidney right"] = 3
    (root / "dataset.json").write_text(json.dumps(described))
    assert check([str(root), "--fix", "-o", str(tmp_path / "repaired")]) == 3
    assert not (tmp_path / "repaired").exists()


def test_what_does_not_show_can_be_said(root, tmp_path, capsys) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["c0", "c1"], "validation": ["c1", "c2"]}))
    assert check([str(root), f"data.split_file={split}"]) == 3
    assert "c1" in capsys.readouterr().out
    unknown_value(root)
    assert check([str(root), "data.labels={1: 1, 2: 2, 6: 0, 7: 1, 8: 2}"]) == 0
    for word in ("trainer.epochs=1", "~data.form", "+data.form=nnunet"):
        assert check([str(root), word]) == 2
    shutil.rmtree(root)
    assert check([str(root)]) == 3
