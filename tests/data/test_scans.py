"""What prediction takes for a case, in every form in which datasets have images."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import written_dicom as dicom

from medseg.data.forms.scans import find_scans
from medseg.errors import DataError

NAMES = ("FLAIR", "t1 post")


def save(root: Path, *names: str, channels: int = 1) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.zeros((4, 3, 2, channels) if channels > 1 else (4, 3, 2), np.uint8)
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def cases(root: Path, inputs: Sequence[Path], channels: int = 2) -> dict[str, list[str]]:
    """Case → files, from `root`."""
    names = NAMES if channels == 2 else ("FLAIR",)
    _, scans = find_scans(inputs, channels=channels, names=names)
    return {s.case_id: [str(p.relative_to(root)) for p in s.images] for s in scans.values()}


ENDS = ("0000", "0001")
TWO = {  # files, by case and channel, as they lie in the folder that is named
    "numbers": "{case}_{n:04d}.nii.gz",
    "names": "{case}_{name}.nii.gz",
    "numbers within": "a_0000_{case}_{n:04d}.nii.gz",
    "patients": "{case}/{name}.nii.gz",
    "patients with their names": "{case}/{case}_{name}.nii.gz",
    "patients with numbers": "{case}/{case}_{n:04d}.nii.gz",
    "patients with folders": "{case}/anat/{name}.nii.gz",
    "sessions": "{case}/ses-1/{name}.nii.gz",
    "channels": "{name}/{case}.nii.gz",
    "a folder of images": "imagesTs/{case}_{n:04d}.nii.gz",
}
SPELT = ("flair", "T1_post")


def test_a_folder_per_modality(tmp_path: Path) -> None:
    save(tmp_path, "CT/a.nii.gz", "PET/a.nii.gz", "CT/b.nii.gz", "PET/b.nii.gz")
    _, scans = find_scans([tmp_path], channels=2, names=["pet", "ct"])
    files = {s.case_id: [p.parent.name for p in s.images] for s in scans.values()}
    assert files == {key: ["PET", "CT"] for key in "ab"}


@pytest.mark.parametrize("form", TWO)
def test_files_of_one_channel_are_joined_in_the_order_of_training(
    form: str, tmp_path: Path
) -> None:
    wanted = {}
    for case in ("p1", "p10"):
        files = [TWO[form].format(case=case, n=n, name=name) for n, name in enumerate(SPELT)]
        save(tmp_path, *files)
        wanted[f"a_0000_{case}" if "within" in form else case] = files
    save(tmp_path, "p1/p1_seg.nii.gz" if "{case}/" in TWO[form] else "labels/p1.nii.gz")
    assert cases(tmp_path, [tmp_path]) == wanted


def test_a_file_of_all_channels_is_a_case_of_its_own(tmp_path: Path) -> None:
    save(tmp_path, "b.nii.gz", channels=2)
    save(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    files = {"b": ["b.nii.gz"], "a": ["a_0000.nii.gz", "a_0001.nii.gz"]}
    assert cases(tmp_path, [tmp_path]) == files
    assert cases(tmp_path, sorted(tmp_path.iterdir())) == files


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["a_0000.nii.gz"], "_0001"),
        (["a_0001.nii.gz"], "_0000"),
        (["p1_0000.nii.gz", "p10_0000.nii.gz", "p10_0001.nii.gz"], "p1_0000.nii.gz"),
        (["a_0000.nii.gz", "a_0000.nii", "a_0001.nii.gz"], "a_0000.nii and"),
        (["a_x.nii.gz", "a_y.nii.gz"], "a_x.nii.gz"),
        (["a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"], "a_0002.nii.gz"),
    ],
)
def test_a_case_that_is_not_whole_is_named(files: list[str], named: str, tmp_path: Path) -> None:
    save(tmp_path, *files)
    save(tmp_path, "good_0000.nii.gz", "good_0001.nii.gz")
    found, scans = find_scans([tmp_path], channels=2, names=NAMES)
    assert any(named in text for text in found.unusable.values())
    assert "good" in {scan.case_id for scan in scans.values()}
    with pytest.raises(DataError):
        find_scans([tmp_path / files[0]], channels=2, names=NAMES)


ONE = {  # files → cases of one channel
    "as they are called": (["a.nii.gz", "b_0001.nii.gz"], ["a", "b_0001"]),
    "nnU-Net's": (["a_0000.nii.gz", "b_0000.nii.gz"], ["a", "b"]),
    "frames": (["a_0000.nii.gz", "a_0001.nii.gz"], ["a_0000", "a_0001"]),
    "a label beside": (["a.nii.gz", "a_seg.nii.gz", "b.nii.gz"], ["a", "b"]),
    "called so, all": (["mask_1.nii.gz", "mask_2.nii.gz"], ["mask_1", "mask_2"]),
    "patients": (["p1/flair.nii.gz", "p1/t2.nii.gz", "p1/seg.nii.gz"], ["p1"]),
    "visits": (["p1/v1/a.nii.gz", "p1/v2/a.nii.gz"], ["p1_v1", "p1_v2"]),
    "several in a folder": (["p1/a.nii.gz", "p1/b.nii.gz"], ["p1_a", "p1_b"]),
    "one mask per class": (["p1/t.nii.gz", "p1/segmentations/liver.nii.gz"], ["p1"]),
}  # fmt: skip


@pytest.mark.parametrize("form", ONE)
def test_cases_of_one_channel(form: str, tmp_path: Path) -> None:
    files, wanted = ONE[form]
    save(tmp_path, *files)
    assert sorted(cases(tmp_path, [tmp_path], channels=1)) == wanted


def test_labels_are_said_to_be_skipped_but_taken_where_they_are_named(tmp_path: Path) -> None:
    save(tmp_path, "a.nii.gz", "a_label.nii.gz")
    found, _ = find_scans([tmp_path], channels=1)
    assert list(found.skipped) == [tmp_path / "a_label.nii.gz"]
    assert list(cases(tmp_path, [tmp_path / "a_label.nii.gz"], channels=1)) == ["a_label"]


NAMED = {  # files, folders that are named → cases of one channel
    "a folder in each": (["P1/s/a.nii.gz", "P2/s/b.nii.gz"], ["P1", "P2"], ["P1", "P2"]),
    "a file in each": (["P1/a.nii.gz", "P2/a.nii.gz"], ["P1", "P2"], ["P1", "P2"]),
    "one of them": (["P1/series/a.nii.gz", "P2/series/a.nii.gz"], ["P2"], ["P2"]),
    "all above": (["P1/series/a.nii.gz", "P2/series/a.nii.gz"], ["."], ["P1", "P2"]),
    "several in one": (
        ["P1/v1/a.nii.gz", "P1/v2/a.nii.gz", "P2/v1/a.nii.gz"], ["P1", "P2"],
        ["P1_v1", "P1_v2", "P2"],
    ),
    "another name": (
        ["P1/v1/a.nii.gz", "P2/v1/a.nii.gz", "P3/v2/a.nii.gz"], ["P1", "P2", "P3"],
        ["P1", "P2", "v2"],
    ),
    "folders called alike": (
        ["x/P1/s/a.nii.gz", "y/P1/s/a.nii.gz", "z/P2/s/a.nii.gz"], ["x/P1", "y/P1", "z"], ["P2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", NAMED)
def test_folders_that_are_named_tell_cases_apart(form: str, tmp_path: Path) -> None:
    files, named, wanted = NAMED[form]
    save(tmp_path, *files)
    assert sorted(cases(tmp_path, [tmp_path / name for name in named], channels=1)) == wanted


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        (["x/p1.nii.gz", "y/p1.nii.gz", "y/p2.nii.gz"], ["p2", "x_p1", "y_p1"]),
        (["a/x/p1.nii.gz", "b/x/p1.nii.gz", "b/x/p2.nii.gz"], ["p2"]),
    ],
)
def test_files_of_one_name_are_called_after_their_folders_or_refused(
    inputs: list[str], wanted: list[str], tmp_path: Path
) -> None:
    save(tmp_path, *inputs)
    found, scans = find_scans([tmp_path / name for name in inputs], channels=1)
    assert sorted(scan.case_id for scan in scans.values()) == wanted
    assert len(found.unusable) == len(inputs) - len(wanted)


def test_series_of_dicom_in_folders_are_cases_and_segmentations_are_none(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        slices = dicom.ct_series(np.zeros((3, 4, 5)))
        dicom.save(slices, tmp_path / patient / "series")
        made = dicom.segmentation(slices, {"Liver": np.ones((3, 4, 5), bool)})
        dicom.save([made], tmp_path / patient / "label")
    for inputs in ([tmp_path], [tmp_path / "p1", tmp_path / "p2"]):
        found, scans = find_scans(inputs, channels=1, names=["CT"])
        assert [scan.case_id for scan in scans.values()] == ["p1", "p2"]
        assert len(found.skipped) == 2


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_names_its_images(delimiter: str, tmp_path: Path) -> None:
    save(tmp_path, "v/a.nii.gz", "v/b.nii.gz", "v/c.nii.gz", "v/d.nii.gz")
    rows = [
        "case,t1 post,FLAIR,label",
        "x,v/a.nii.gz,v/b.nii.gz,",
        "y,v\\c.nii.gz,v/d.nii.gz,v/a.nii.gz",
    ]
    table = tmp_path / "cases.csv"
    table.write_text("\ufeff" + "\r\n".join(rows).replace(",", delimiter), encoding="utf-8")
    wanted = {"x": ["v/b.nii.gz", "v/a.nii.gz"], "y": ["v/d.nii.gz", "v/c.nii.gz"]}
    assert cases(tmp_path, [table]) == wanted
    with pytest.raises(DataError, match="3 channels"):
        find_scans([table], channels=3)
