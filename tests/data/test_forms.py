"""Every form of dataset: what is read of it."""

from pathlib import Path

import pytest

from medseg.data.forms import look_at_dataset, read_dataset
from medseg.errors import ConfigError, DataError

from .forms import CASES, FORMS, pairs, table, volume


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    make, form, channels, dims = FORMS[name]
    make(tmp_path)
    for litter in ("._p1.nii.gz", ".DS_Store", "Thumbs.db"):
        for folder in {path.parent for path in tmp_path.rglob("*.*")}:
            (folder / litter).write_bytes(b"\0")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    dataset = read_dataset(tmp_path)
    assert form in dataset.form
    assert (len(dataset.cases), dataset.in_channels, dataset.spatial_dims) == (3, channels, dims)
    assert dataset.num_classes == (3 if dims == 3 else 2)
    for case in dataset.cases:  # p1 is never taken for p10
        (own,) = {word for word in CASES if word == case.case_id or word in _words(case.case_id)}
        for path in (*case.images, case.label):
            assert own in _words(str(path.relative_to(tmp_path)))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.replace("scan", "")).split()


def test_rows_are_named_all_at_once(tmp_path: Path) -> None:
    table(tmp_path)
    path = tmp_path / "cases.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace("p2/seg.nii.gz", "")
    path.write_text("\n".join([*lines, lines[1]]))
    dataset = look_at_dataset(tmp_path)
    assert len(dataset.faults) == 2
    assert "scanp2" in dataset.faults[0]
    assert "scanp1" in dataset.faults[1]


def test_a_table_brings_folds_patients_and_covariates(tmp_path: Path) -> None:
    table(tmp_path)
    dataset = read_dataset(tmp_path)
    assert [sorted(fold.validation) for fold in dataset.folds] == [
        ["scanp1", "scanp10"],
        ["scanp2"],
    ]
    assert [case.patient for case in dataset.cases] == [*CASES]
    assert dataset.cases[0].covariates == {"age": "50"}


def test_a_patient_in_two_folds_is_refused(tmp_path: Path) -> None:
    table(tmp_path)
    path = tmp_path / "cases.csv"
    path.write_text(path.read_text().replace("scanp2,p2", "scanp2,p1"))
    with pytest.raises(DataError, match="p1"):
        read_dataset(tmp_path)


def test_a_folder_of_masks_is_one_label(tmp_path: Path) -> None:
    for case in CASES:
        volume(tmp_path / f"{case}/ct.nii.gz")
        for name in ("liver", "spleen"):
            volume(tmp_path / f"{case}/segmentations/{name}.nii.gz", label=True, values=(1,))
    (tmp_path / "p2/segmentations/spleen.nii.gz").unlink()
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("liver", "spleen")
    assert dataset.label_values == {"liver": 1, "spleen": 2}
    assert [case.label.name for case in dataset.cases] == ["segmentations"] * 3
    assert "p2" in "".join(dataset.notes)


def test_sessions_are_cases_of_one_patient(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        pairs(tmp_path, f"{{}}/{session}/t1.nii.gz", f"{{}}/{session}/seg.nii.gz")
    dataset = read_dataset(tmp_path)
    assert len(dataset.cases) == 6
    assert {case.patient for case in dataset.cases} == {*CASES}


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (["i_01L", "i_01R", "i_02L", "i_02R"], 2),
        (["sub-1_ses-1", "sub-1_ses-2", "sub-2_ses-1"], 2),
        (["a_slice_1", "a_slice_2", "b_slice_1"], 2),
        (["case_1", "case_2", "caller"], 3),
    ],
    ids=["eyes", "sessions", "slices", "none"],
)
def test_cases_of_one_patient_are_known_by_their_names(names, patients, tmp_path: Path) -> None:
    for name in names:
        volume(tmp_path / f"images/{name}.nii.gz")
        volume(tmp_path / f"labels/{name}.nii.gz", label=True)
    dataset = read_dataset(tmp_path)
    assert len({case.patient or case.case_id for case in dataset.cases}) == patients


@pytest.mark.parametrize(
    ("files", "cases"),
    [
        ({"image": "images/{case}.nii.gz", "label": "labels/{case}.nii.gz"}, [*CASES]),
        ({"image": ["**/{case}.nii.gz"], "label": "labels/{case}.nii.gz"}, None),
        ({"image": {"CT": "images/{case}.nii.gz"}, "label": "lab*/{case}.nii.gz"}, [*CASES]),
    ],
    ids=["plain", "two files match", "named channel"],
)
def test_patterns_of_the_users_go_before_what_is_recognised(files, cases, tmp_path: Path) -> None:
    pairs(tmp_path)
    if cases is None:
        with pytest.raises(DataError, match="both match"):
            read_dataset(tmp_path, files=files)
    else:
        found = read_dataset(tmp_path, files=files)
        assert sorted(case.case_id for case in found.cases) == sorted(cases)


@pytest.mark.parametrize("files", [{"image": "a.nii", "label": "b.nii"}, {"image": "{case}"}, {}])
def test_what_is_no_pattern_is_refused(files, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.files"):
        read_dataset(tmp_path, files=files)


def test_values_become_classes_in_their_order(tmp_path: Path) -> None:
    for case in CASES:
        volume(tmp_path / f"images/{case}.nii.gz")
        volume(tmp_path / f"labels/{case}.nii.gz", label=True, values=(3, 7))
    assert read_dataset(tmp_path).label_values == {3: 1, 7: 2}
    dataset = read_dataset(tmp_path, {3: 0, 7: 1})
    assert (dataset.num_classes, dataset.label_values) == (2, {3: 0, 7: 1})


def test_a_dataset_is_read_once_until_a_file_changes(tmp_path: Path) -> None:
    pairs(tmp_path)
    first = read_dataset(tmp_path)
    assert read_dataset(str(tmp_path)) is first
    assert read_dataset(tmp_path, {1: 1, 2: "ignore"}).classes == ("1",)
    volume(tmp_path / "labels/p1.nii.gz", label=True, values=(1, 2, 3))
    assert read_dataset(tmp_path).classes == ("1", "2", "3")
    volume(tmp_path / "images/new.nii.gz")
    volume(tmp_path / "labels/new.nii.gz", label=True)
    assert len(read_dataset(tmp_path).cases) == len(first.cases) + 1


def test_folders_may_be_links_that_lead_in_circles(tmp_path: Path) -> None:
    pairs(tmp_path / "store", "{}/scan/t1.nii.gz", "{}/scan/seg.nii.gz")
    root = tmp_path / "dataset"
    for case in CASES:
        (root / case).mkdir(parents=True)
        (root / case / "scan").symlink_to(tmp_path / "store" / case / "scan")
    (root / "p1/again").symlink_to(root)
    assert [case.case_id for case in read_dataset(root).cases] == ["p1", "p10", "p2"]
