from pathlib import Path

import pytest

from medseg.errors import DataError
from medseg.volumes import case_id, find_volumes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["b.nii.gz", "a.nii", "C.NII.GZ", "d.mha", "e.nrrd", "f.hdr", "f.img", "g.mhd", "g.raw"]
    hidden = [".hidden.nii", "._a.nii", "notes.txt", "sub/h.nii"]
    (tmp_path / "sub.nii").mkdir()
    (tmp_path / "sub").mkdir()
    for name in names + hidden:
        (tmp_path / name).touch()
    return tmp_path


def test_folder_gives_its_visible_volumes_in_order(folder: Path) -> None:
    found = [path.name for path in find_volumes([folder])]
    assert found == ["C.NII.GZ", "a.nii", "b.nii.gz", "d.mha", "e.nrrd", "f.hdr", "g.mhd"]


def test_files_and_folders_mix_and_each_volume_comes_once(folder: Path) -> None:
    (folder / "link.nii").symlink_to(folder / "a.nii")
    inputs = [folder / "b.nii.gz", folder / "sub" / "h.nii", folder / "link.nii", folder]
    found = [path.name for path in find_volumes(inputs)]
    assert found[:4] == ["b.nii.gz", "h.nii", "link.nii", "C.NII.GZ"]
    assert len(found) == len(set(found)) == 8
    assert "a.nii" not in found


def test_both_files_of_a_pair_are_one_volume(folder: Path) -> None:
    assert find_volumes([folder / "f.img", folder / "f.hdr"]) == [folder / "f.img"]


def test_named_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    assert find_volumes([folder / "notes.txt"]) == [folder / "notes.txt"]


def test_missing_input_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.nii: cannot be read"):
        find_volumes([folder / "a.nii", folder / "gone.nii"])


def test_folder_without_volumes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError, match="folder without volumes"):
        find_volumes([tmp_path])


def test_broken_link_is_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to(tmp_path / "gone.nii")
    assert find_volumes([tmp_path]) == [tmp_path / "a.nii"]


def test_same_case_id_of_different_files_is_refused(folder: Path) -> None:
    other = folder / "sub" / "a.nii.gz"
    other.touch()
    with pytest.raises(DataError, match="both called 'a'") as caught:
        find_volumes([folder, other])
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
