"""`medseg predict`: members, views, cleaned classes, maps of some classes, parts and summaries."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medseg.models.weights import load_model, write_card

from .user import User

SaveScan = Callable[..., Path]
MakeModel = Callable[..., Path]
ONE, TWO = "ellipsoid 1", "ellipsoid 2"


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def report(user: User, name: str = "scan") -> dict:
    return json.loads((user.output / f"{name}.json").read_text())


def with_card(folder: Path, **changes: object) -> Path:
    model = load_model(folder)
    write_card(folder, dataclasses.replace(model.card, **changes), model.sha256)
    return folder


def renamed(folder: Path) -> Path:
    """Words in the options of a test are separated by spaces."""
    return with_card(folder, classes=["one", "two"], mirrored=["head-foot"])


@pytest.fixture
def short(make_model: MakeModel) -> Path:
    return renamed(make_model(3))


def test_a_folder_of_members_is_a_model_and_its_report_names_each(
    user: User, short: Path, make_model: MakeModel, save_scan: SaveScan, scan: np.ndarray,
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = tmp_path / "both"
    folder.mkdir()
    for number, one in enumerate([short, renamed(make_model(3, spacing=(1.0, 1.0, 2.0)))]):
        one.rename(folder / f"fold_{number}")
    (folder / "ensemble.json").write_text('{"format": 1, "members": ["fold_0", "fold_1"]}')
    source = save_scan(scan)
    options = "--uncertainty --probabilities two"
    assert user.types(source, model=folder, options=options) == 0
    assert "scan_uncertainty.nii.gz" in user.written()
    assert [Path(m["weights"]).parent.name for m in report(user)["members"]] == ["fold_0", "fold_1"]
    assert report(user)["probabilities_of"] == ["two"]
    assert voxels(user.output / "scan_probabilities.nii.gz").shape == (*scan.shape, 1)
    uncertainty = voxels(user.output / "scan_uncertainty.nii.gz")
    assert uncertainty.shape == scan.shape
    assert 0 <= uncertainty.min() < uncertainty.max() <= np.log2(3) + 1e-6
    assert user.types(source, model=folder, options=f"{options} --continue") == 0
    assert user.out[-1].endswith("already done")
    assert user.types(source, model=folder / "fold_0", options=f"{options} --continue") == 0
    assert not user.out[-1].endswith("already done")


@pytest.mark.parametrize(
    "options",
    ["--mirror", "--shifts 2", "--keep-largest two", "--min-volume one=9", "--fill-holes one"],
)
def test_a_case_is_done_only_if_every_option_was_the_same(
    options: str, user: User, short: Path, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan)
    assert user.types(source, model=short) == 0
    for words in (f"{options} --continue", "--continue"):
        assert user.types(source, model=short, options=words) == 0
        assert not user.out[-1].endswith("already done")
        assert user.types(source, model=short, options=words) == 0
        assert user.out[-1].endswith("already done")


def test_classes_are_cleaned_and_the_report_counts_what_is_left(
    user: User, short: Path, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source = save_scan(scan, affine=np.diag([1.0, 1.25, 1.5, 1]))
    assert user.types(source, model=short) == 0
    before = voxels(user.output / "scan.nii.gz")
    assert user.types(source, model=short, options="--overwrite --keep-largest two") == 0
    after = voxels(user.output / "scan.nii.gz")
    parts, _ = ndimage.label(before == 2, np.ones((3, 3, 3)))
    largest = np.bincount(parts.ravel())[1:].max()
    assert (after == 2).sum() == report(user)["classes"]["two"]["voxels"] == largest
    np.testing.assert_array_equal(after == 1, before == 1)
    assert report(user)["postprocessing"]["keep_largest"] == ["two"]


def test_the_classes_that_training_learned_to_clean_are_cleaned(
    user: User, short: Path, save_scan: SaveScan, scan: np.ndarray
) -> None:
    source, options = save_scan(scan), "--keep-largest learned"
    assert user.types(source, model=short, options=options) == 2  # its card holds no evidence
    better, worse = {"dice": 0.8, "kept": 0.9, "cases": 3}, {"dice": 0.8, "kept": 0.8, "cases": 3}
    with_card(short, largest_component={"one": worse, "two": better})
    assert user.types(source, model=short, options=options) == 0
    assert report(user)["postprocessing"]["keep_largest"] == ["two"]


@pytest.mark.parametrize(
    "options",
    [
        "--mirror left-right",  # not seen in training
        "--shifts 1",
        "--shifts 100000",
        "--keep-largest three",
        "--min-volume two",
        "--min-volume two=0",
        "--min-volume two=nan",
        "--probabilities three",
        "--num-parts 2",
        "--part-id 0",
        "--num-parts 2 --part-id 2",
        "--num-parts 2 --part-id -1",
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    options: str, user: User, short: Path, save_scan: SaveScan, scan: np.ndarray
) -> None:
    assert user.types(save_scan(scan), model=short, options=options) == 2
    assert len([line for line in user.errors if line.startswith("error: ")]) == 1
    assert user.written() == []


def test_parts_have_nothing_in_common_and_a_last_call_finds_all_done(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    folder = save_scan(scan, "in/0.nii.gz").parent
    for n in range(1, 5):
        save_scan(scan, f"in/{n}.nii.gz")
    (folder / "bad.nii.gz").write_bytes(b"")
    codes = []
    for part in range(3):
        codes.append(user.types(folder, options=f"--summary --num-parts 3 --part-id {part}"))
    assert sorted(codes) == [0, 0, 3]
    written = user.written()
    assert [f"{n}.nii.gz" in written for n in range(5)] == [True] * 5
    assert len([name for name in written if name.startswith("failures_part")]) == 1
    cases = [
        case["case"]
        for part in range(3)
        for case in json.loads((user.output / f"manifest_part{part}.json").read_text())["cases"]
    ]
    assert sorted(cases) == list("01234")
    assert user.types(folder, options="--continue") == 3
    assert sum(line.endswith("already done") for line in user.out) == 5


def test_a_case_that_is_called_like_the_summary_is_refused_not_lost(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    case, other = save_scan(scan, "manifest.nii.gz"), save_scan(scan, "b.nii.gz")
    assert user.types(case, other, options="--summary") == 3
    assert not (user.output / "manifest.nii.gz").exists()
    cases = json.loads((user.output / "manifest.json").read_text())["cases"]
    assert [one["case"] for one in cases] == ["b"]


def test_a_summary_has_a_row_for_each_case_and_class_and_the_hash_of_each_result(
    user: User, save_scan: SaveScan, scan: np.ndarray
) -> None:
    a, b = save_scan(scan, "=a.nii.gz"), save_scan(scan + 5, "b.nii.gz")
    assert user.types(a.parent / "*.nii.gz", options="--summary") == 0
    with (user.output / "statistics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == [ONE, TWO] * 2
    assert {row["case"] for row in rows} == {"'=a", "b"}  # no formula
    labels = voxels(user.output / "b.nii.gz")
    row = next(row for row in rows if (row["case"], row["class"]) == ("b", TWO))
    assert float(row["mean_intensity"]) == pytest.approx((scan + 5)[labels == 2].mean(), abs=1e-4)
    manifest = json.loads((user.output / "manifest.json").read_text())
    assert {case["input"] for case in manifest["cases"]} == {str(a), str(b)}
    assert set(manifest["shared"]) >= {"model", "window", "versions", "postprocessing"}
    assert user.types(a, b, options="--summary --continue") == 0
    again = json.loads((user.output / "manifest.json").read_text())
    assert again == manifest
