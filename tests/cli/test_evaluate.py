"""`medseg evaluate`: scores against independent references, matching, and what is refused."""

import csv
import json
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.evaluate import main as evaluate

SPACING = (0.5, 0.7, 4.0)
CUBE = np.zeros((14, 12, 10), np.uint8)
CUBE[3:9, 2:8, 3:7] = 1
PART = np.where(np.arange(14)[:, None, None] < 6, CUBE, 0).astype(np.uint8)


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*SPACING, 1.0]) if affine is None else affine), path)
    return path


def rows(folder: Path, name: str = "scores.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((folder / name).read_text().splitlines()))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Predictions, truth, output."""
    return tmp_path / "pred", tmp_path / "truth", tmp_path / "scores"


def dataset(root: Path, labels: dict[str, np.ndarray], names: dict) -> Path:
    """An nnU-Net raw dataset of these labels."""
    for case, array in labels.items():
        write(root / f"imagesTr/{case}_0000.nii.gz", array.astype(np.float32) * 100)
        write(root / f"labelsTr/{case}.nii.gz", array)
    described = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0} | names,
        "numTraining": len(labels),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(described))
    return root


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_values_are_those_of_deepminds_package_and_of_counting(folders):
    surface_distance = pytest.importorskip("surface_distance")
    pred, truth, out = folders
    shifted = np.roll(PART, (1, -1, 1), (0, 1, 2))
    write(pred / "a b.nii.gz", shifted)
    write(truth / "a b.nii.gz", CUBE)
    assert evaluate([*map(str, (pred, truth)), "--tolerance", "0.6", "-o", str(out)]) == 0
    (row,) = rows(out)
    distances = surface_distance.compute_surface_distances(CUBE > 0, shifted > 0, SPACING)
    agreement = surface_distance.compute_surface_dice_at_tolerance(distances, 0.6)
    overlap = 2 * ((CUBE > 0) & (shifted > 0)).sum() / (CUBE.sum() + shifted.sum())
    assert float(row["dice"]) == pytest.approx(overlap)
    assert float(row["surface_dice"]) == pytest.approx(agreement, abs=1e-5)
    millilitres = (int(shifted.sum()) - int(CUBE.sum())) * np.prod(SPACING) / 1000
    assert float(row["volume_error_ml"]) == pytest.approx(millilitres)


def test_the_volume_error_is_a_share_of_the_truth_and_maps_beside_labels_are_no_cases(
    folders, capsys
):
    pred, truth, out = folders
    write(pred / "a.nii.gz", PART)
    for name in ("probabilities", "uncertainty"):
        write(pred / f"a_{name}.nii.gz", PART.astype(np.float32))
    write(truth / "a.nii.gz", CUBE)
    assert evaluate([str(pred), str(truth), "-o", str(out)]) == 0
    (row,) = rows(out)
    assert float(row["volume_error_percent"]) == pytest.approx(-50)
    assert capsys.readouterr().err == ""


def test_a_class_in_neither_map_is_left_out_and_one_in_a_single_map_counts(folders):
    pred, truth, out = folders
    other = np.where(CUBE[::-1], 2, 0).astype(np.uint8)
    for case, found, true in (("a", PART, CUBE), ("b", CUBE, CUBE), ("c", other, 0 * CUBE)):
        write(pred / f"{case}.nii.gz", found)
        write(truth / f"{case}.nii.gz", true)
    assert evaluate([str(pred), str(truth), "-o", str(out)]) == 0
    dice = {(row["case"], row["class"]): row["dice"] for row in rows(out)}
    assert dice[("c", "1")] == ""
    assert float(dice[("c", "2")]) == 0.0
    means = {(r["class"], r["measure"]): r for r in rows(out, "classes.csv")}
    assert float(means[("1", "dice")]["mean"]) == pytest.approx((2 / 3 + 1) / 2)
    assert (means[("1", "dice")]["cases"], means[("1", "dice")]["undefined"]) == ("2", "1")
    diagonal = np.linalg.norm(np.multiply(CUBE.shape, SPACING))
    assert float(means[("2", "hd95_mm")]["max"]) == pytest.approx(diagonal)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_axes_in_another_order_are_turned(folders, order):
    pred, truth, out = folders
    affine = np.diag([*SPACING, 1.0])
    turned = affine[:, [*order, 3]]
    turned[:, 3] += turned[:, 0] * (CUBE.shape[order[0]] - 1)
    turned[:, 0] *= -1
    write(pred / "x.nii.gz", PART.transpose(order)[::-1], turned)
    write(truth / "x.nii.gz", CUBE)
    assert evaluate([str(pred), str(truth), "-o", str(out)]) == 0
    assert float(rows(out)[0]["dice"]) == pytest.approx(2 / 3)


def test_a_datasets_classes_have_names_values_and_ignored_voxels(folders):
    pred, truth, out = folders
    label = CUBE.copy()
    label[10:] = 3  # ignored
    dataset(truth, {"p1": label, "p2": CUBE}, {"whole": [1, 2], "core": 2, "ignore": 3})
    described = json.loads((truth / "dataset.json").read_text())
    described["labels"] = {"background": 0, "organ": 1, "ignore": 3, "tumour": 2}
    (truth / "dataset.json").write_text(json.dumps(described))
    found = CUBE.copy()
    found[11:] = 2
    write(pred / "p1.nii.gz", found)
    assert evaluate([str(pred), str(truth), "-o", str(out)]) == 0
    dice = {row["class"]: row["dice"] for row in rows(out)}
    assert dice == {"organ": "1.0", "tumour": ""}


@pytest.mark.parametrize("fault", ["more classes", "other names"])
def test_predictions_of_other_classes_are_refused(folders, fault, capsys):
    pred, truth, out = folders
    dataset(truth, {"p1": CUBE}, {"organ": 1, "tumour": 2})
    found = np.where(CUBE, 3, 0).astype(np.uint8) if fault == "more classes" else CUBE
    write(pred / "p1.nii.gz", found)
    own = {"output": "p1.nii.gz", "classes": {"tumour": {"label": 1}, "organ": {"label": 2}}}
    if fault == "other names":
        (pred / "p1.json").write_text(json.dumps(own))
    assert evaluate([str(pred), str(truth), "-o", str(out)]) == 3
    assert "p1.nii.gz" in capsys.readouterr().err


def test_one_bad_case_does_not_stop_the_others(folders, capsys):
    pred, truth, out = folders
    for case in "abcd":
        write(pred / f"{case}.nii.gz", PART)
        write(truth / f"{case}.nii.gz", CUBE)
    write(pred / "b.nii.gz", PART[:-1])
    (pred / "c.nii.gz").write_bytes(b"no volume")
    (pred / "d.nii.gz").unlink()
    write(pred / "e.nii.gz", PART)
    (pred / "._a.nii.gz").write_bytes(b"litter")
    (pred / "a.json").write_text("{}")
    assert evaluate([str(pred), str(truth), "-o", str(out)]) == 3
    said = capsys.readouterr().err
    assert all(word in said for word in ("b.nii.gz", "c.nii.gz", " d", " e"))
    assert [row["case"] for row in rows(out)] == ["a"]
    assert "._a" not in said


def test_two_files_need_no_common_name(folders):
    pred, truth, out = folders
    write(pred / "mine.nii.gz", PART)
    write(truth / "gold.nii.gz", CUBE)
    words = [str(pred / "mine.nii.gz"), str(truth / "gold.nii.gz")]
    assert evaluate([*words, "-o", str(out)]) == 0
    assert float(rows(out)[0]["dice"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("fault", ["no such folder", "no common name", "an image as truth"])
def test_what_cannot_be_scored_is_refused_and_nothing_is_written(folders, fault, capsys):
    pred, truth, out = folders
    write(pred / "a.nii.gz", PART)
    name = "b" if fault == "no common name" else "a"
    array = np.arange(CUBE.size, dtype=np.int16).reshape(CUBE.shape)
    write(truth / f"{name}.nii.gz", array if fault == "an image as truth" else CUBE)
    where = truth / "gone" if fault == "no such folder" else truth
    assert evaluate([str(pred), str(where), "-o", str(out)]) == 3
    assert "Traceback" not in capsys.readouterr().err
    assert not (out / "scores.csv").exists()


def test_a_users_file_stays(folders):
    pred, truth, _ = folders
    write(pred / "a.nii.gz", PART)
    write(truth / "a.nii.gz", CUBE)
    (pred / "scores.csv").write_text("by hand")
    assert evaluate([str(pred), str(truth), "-o", str(pred)]) == 2
    assert (pred / "scores.csv").read_text() == "by hand"
    assert not (pred / "evaluation.html").exists()
    assert evaluate([str(pred), str(truth), "-o", str(truth / "scores")]) == 2
    assert [path.name for path in truth.iterdir()] == ["a.nii.gz"]
