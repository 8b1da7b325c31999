from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import written_dicom as dicom

from medseg.errors import DataError
from medseg.volumes import case_id, files_of, find_volumes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["b.nii.gz", "a.nii", "C.NII.GZ", "d.mha", "e.nrrd", "f.hdr", "f.img", "g.mhd", "g.raw"]
    hidden = [".hidden.nii", "._a.nii", "notes.txt", "sub/h.nii"]
    (tmp_path / "sub.nii").mkdir()
    (tmp_path / "sub").mkdir()
    for name in names + hidden:
        (tmp_path / name).touch()
    return tmp_path


def names(paths: Iterable[Path]) -> list[str]:
    return [path.name for path in paths]


def test_folder_gives_its_visible_volumes_in_order_and_names_the_rest(folder: Path) -> None:
    found = find_volumes([folder])
    wanted = ["C.NII.GZ", "a.nii", "b.nii.gz", "d.mha", "e.nrrd", "f.hdr", "g.mhd"]
    assert names(found.volumes) == wanted
    assert not found.unusable
    skipped = [".hidden.nii", "._a.nii", "g.raw", "notes.txt", "sub", "sub.nii"]
    assert sorted(names(found.skipped)) == sorted(skipped)


def test_the_second_file_of_a_pair_is_neither_skipped_nor_a_volume(folder: Path) -> None:
    (folder / "g.mhd").write_text("NDims = 3\nElementDataFile = g.raw\n")
    skipped = names(find_volumes([folder]).skipped)
    assert not {"g.raw", "f.img"} & set(skipped)
    assert files_of(folder / "g.mhd") == (folder / "g.mhd", folder / "g.raw")
    assert files_of(folder / "f.img") == files_of(folder / "f.hdr")
    assert files_of(folder / "a.nii") == (folder / "a.nii",)


def test_files_and_folders_mix_and_each_volume_comes_once(folder: Path) -> None:
    (folder / "link.nii").symlink_to(folder / "a.nii")
    inputs = [folder / "b.nii.gz", folder / "sub" / "h.nii", folder / "link.nii", folder]
    found = find_volumes(inputs)
    assert names(found.volumes)[:4] == ["b.nii.gz", "h.nii", "link.nii", "C.NII.GZ"]
    assert len(names(found.volumes)) == len(set(names(found.volumes))) == 8
    assert "link.nii" in found.skipped[folder / "a.nii"]


def test_both_files_of_a_pair_are_one_volume(folder: Path) -> None:
    found = find_volumes([folder / "f.img", folder / "f.hdr"])
    assert found.volumes == [folder / "f.img"]
    assert not found.skipped


def test_named_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    assert find_volumes([folder / "notes.txt"]).volumes == [folder / "notes.txt"]


def test_what_cannot_be_used_does_not_stop_the_rest(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "l1.nii").symlink_to("l2.nii")
    (folder / "l2.nii").symlink_to("l1.nii")
    gone = [folder / name for name in ("gone.nii", "empty", "l1.nii", "x" * 300 + ".img")]
    found = find_volumes([folder / "a.nii", *gone])
    assert found.volumes == [folder / "a.nii"]
    assert list(found.unusable) == gone
    assert all(str(path) in reason for path, reason in found.unusable.items())
    with pytest.raises(DataError, match=r"gone\.nii: does not exist"):
        find_volumes(gone)


def test_folder_without_volumes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match="folder without volumes"):
        find_volumes([tmp_path])


def test_links_that_lead_nowhere_are_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to(tmp_path / "gone.nii")
    (tmp_path / "b.nii").symlink_to("c.nii")
    (tmp_path / "c.nii").symlink_to("b.nii")
    assert names(find_volumes([tmp_path]).volumes) == ["a.nii", "b.nii", "c.nii"]


def test_volumes_of_one_case_id_are_both_unusable_and_the_others_are_not(folder: Path) -> None:
    other = folder / "sub" / "a.nii.gz"
    other.touch()
    found = find_volumes([folder, other])
    assert set(found.unusable) == {folder / "a.nii", other}
    assert "b.nii.gz" in names(found.volumes)
    with pytest.raises(DataError, match="both called 'a'") as caught:
        find_volumes([folder / "a.nii", other])
    assert str(folder / "a.nii") in str(caught.value)
    assert str(other) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("la_003.nii.gz", "la_003"),
        ("case_0000.nii.gz", "case_0000"),
        ("v1.2.nii", "v1.2"),
        ("A.NII.GZ", "A"),
        ("x.hdr", "x"),
        ("x.img.gz", "x"),
        ("x.nrrd", "x"),
        ("x.mha", "x"),
        ("x.dat", "x.dat"),
        (".nii.gz", ".nii.gz"),
        ("a b.nii", "a b"),
    ],
)
def test_case_id_is_the_name_without_volume_suffix(name: str, expected: str) -> None:
    assert case_id(Path("/some/folder") / name) == expected


def test_pictures_are_taken_where_there_are_no_volumes(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.tiff"):
        (tmp_path / name).touch()
    assert names(find_volumes([tmp_path]).volumes) == ["a.JPG", "b.png", "c.tiff"]
    (tmp_path / "d.nii").touch()
    found = find_volumes([tmp_path])
    assert names(found.volumes) == ["d.nii"]
    assert len(found.skipped) == 3


def test_folder_of_a_dicom_series_is_one_volume_and_of_two_is_refused(tmp_path: Path) -> None:
    voxels = np.zeros((3, 4, 5), np.uint16)
    scan = tmp_path / "scan.1"
    paths = dicom.save(dicom.ct_series(voxels), scan, ending=".img")
    (scan / "readme.txt").touch()
    found = find_volumes([scan])
    assert found.volumes == [scan]
    assert names(found.skipped) == ["readme.txt"]
    assert set(files_of(scan)) == set(files_of(paths[1])) == set(paths)
    assert find_volumes([paths[0], scan]).volumes == [paths[0]]
    assert case_id(scan) == "scan.1"
    dicom.save(dicom.ct_series(voxels, description="other"), scan)
    with pytest.raises(DataError, match="other"):
        find_volumes([scan])
