"""Faults of datasets of every form: each names the file and the case."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.data.dataset import CaseFault
from medseg.data.forms import look_at_dataset, read_dataset
from medseg.errors import DataError

from .forms import FORMS, nnunet, pairs, pictures, table, volume


def without(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def rewritten(path: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda root: (
        (root / path).write_bytes((root / path).read_bytes().replace(old.encode(), new.encode()))
        and None
    )


def copied(path: str, to: str) -> Callable[[Path], None]:
    def copy(root: Path) -> None:
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        (root / to).write_bytes((root / path).read_bytes())

    return copy


FAULTS = {
    # form, what is done to it, what the message must name
    "channel missing": ("nnU-Net", without("imagesTr/p2_0001.nii.gz"), ["p2_0001.nii.gz"]),
    "label missing": ("nnU-Net", without("labelsTr/p2.nii.gz"), ["labelsTr/p2.nii.gz"]),
    "image twice": (
        "nnU-Net", copied("imagesTr/p1_0000.nii.gz", "imagesTr/p1.nii.gz"), ["p1.nii.gz", "p1_0000"]
    ),
    "another ending": (
        "nnU-Net", copied("imagesTr/p1_0000.nii.gz", "imagesTr/p1_0000.nrrd"), ["p1_0000.nrrd"]
    ),
    "compressed or not": (
        "same names", copied("images/p1.nii.gz", "images/p1.nii"), ["p1.nii", "p1.nii.gz"]
    ),
    "two folders of labels": (
        "same names", copied("labels/p1.nii.gz", "masks/p1.nii.gz"), ["labels", "masks"]
    ),
    "two folders of images": (
        "same names", copied("images/p1.nii.gz", "scans/p1.nii.gz"), ["images", "scans"]
    ),
    "channel of a pair": ("channels behind", without("images/p2_t2.nii.gz"), ["p2", "t2"]),
    "channel of a folder": ("a folder per channel", without("flair/p2.nii.gz"), ["p2", "flair"]),
    "channel of a patient": ("patients", without("p2/t2.nii.gz"), ["p2", "t2"]),
    "two labels": (
        "patients", copied("p2/seg.nii.gz", "p2/seg_new.nii.gz"), ["seg.nii.gz", "seg_new.nii.gz"]
    ),
    "file of a table": ("table", without("p2/t2.nii.gz"), ["line 3", "p2/t2.nii.gz"]),
    "columns of one name": ("table", rewritten("cases.csv", ",t2,", ",t1,"), ["'t1'"]),
    "a cell too many": ("table", rewritten("cases.csv", ",50", ",50,5"), ["line 2", "'5'"]),
    "named after another patient": (
        "patients' names in files", copied("p1/p1_seg.nii.gz", "p10/p1_seg.nii.gz"), ["p10/p1_seg"]
    ),
    "half of a pair": ("headers and voxels apart", without("labels/p2.img"), ["p2.img"]),
    "no images": (
        "same names", lambda root: [p.unlink() for p in (root / "images").iterdir()], ["images"]
    ),
    "no labels": (
        "same names", lambda root: [p.unlink() for p in (root / "labels").iterdir()], ["labels"]
    ),
    "a value below 0": (
        "same names", lambda root: volume(root / "labels/p2.nii.gz", label=True, values=(-1, 1)),
        ["p2.nii.gz", "-1"],
    ),
    "channels in a list": ("nnU-Net", lambda root: nnunet(root, channel_names=["T1"]), ["['T1']"]),
    "two masks of a photo": (
        "photos beside masks",
        copied("p1_1stHO.png", "p1_2ndHO.png"),
        ["1stHO", "2ndHO", "data.files"],
    ),
    "two forms": ("nnU-Net", lambda root: table(root), ["dataset.json", "cases.csv", "data.form"]),
    "picture among volumes": (
        "same names",
        lambda root: pictures(root, "images/x{}.png", "labels/x{}.png"),
        ["xp1.png"],
    ),
}  # fmt: skip


OF_CASES = {  # faults that are a matter of one case, which a repaired copy leaves out
    "channel missing": "p2",
    "label missing": "p2",
    "image twice": "p1",
    "compressed or not": "p1",
    "channel of a pair": "p2",
    "channel of a folder": "p2",
    "channel of a patient": "p2",
    "two labels": "p2",
    "file of a table": "scanp2",
    "named after another patient": "p10",
    "half of a pair": "p2",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_the_file_and_the_case(name: str, tmp_path: Path) -> None:
    form, spoil, named = FAULTS[name]
    FORMS[form][0](tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    for word in named:
        assert word in str(caught.value)
    if name in OF_CASES:
        faults = look_at_dataset(tmp_path).faults
        own = {c for fault in faults if isinstance(fault, CaseFault) for c in fault.cases}
        assert own == {OF_CASES[name]}


LEFT_OUT = {
    "image without label": ("same names", without("labels/p2.nii.gz"), "p2.nii.gz"),
    "label without image": ("same names", without("images/p2.nii.gz"), "p2.nii.gz"),
    "patient without label": ("patients", without("p2/seg.nii.gz"), "p2"),
    "empty patient": ("patients", lambda root: (root / "p3").mkdir(), "p3"),
    "file of one patient": (
        "patients", copied("p2/t1.nii.gz", "p2/t1_old.nii.gz"), "t1_old.nii.gz"
    ),
    "alike": (
        "same names",
        lambda root: [
            copied(f"{p}/p1.nii.gz", f"{p}/P1.nii.gz")(root) for p in ("images", "labels")
        ],
        "P1",
    ),
    "channel too many": (
        "nnU-Net", copied("imagesTr/p1_0000.nii.gz", "imagesTr/p1_0002.nii.gz"), "p1_0002"
    ),
    "label as a channel": (
        "nnU-Net",
        lambda root: (root / "labelsTr/p1.nii.gz").rename(root / "labelsTr/p1_0000.nii.gz"),
        "p1_0000",
    ),
    "reader of nnU-Net": (
        "nnU-Net", lambda root: nnunet(root, overwrite_image_reader_writer="MyIO"), "MyIO"
    ),
    "beside images": (
        "same names", copied("images/p1.nii.gz", "previews/p1.nii.gz"), "previews"
    ),
    "for testing": (
        "same names", copied("images/p1.nii.gz", "imagesTs/p7.nii.gz"), "imagesTs"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_odd_is_said(name: str, tmp_path: Path) -> None:
    form, spoil, named = LEFT_OUT[name]
    FORMS[form][0](tmp_path)
    spoil(tmp_path)
    assert named in "".join(read_dataset(tmp_path).notes)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda root: None, "empty"),
        (lambda root: volume(root / "imagesTs/p1.nii.gz"), "label"),
        (lambda root: (root / "ages.csv").write_text("id,age\np1,50\n"), "ages.csv"),
        (lambda root: [pairs(root / name) for name in ("a", "b")], "a, b"),
    ],
    ids=["empty", "no labels", "a CSV of no images", "two datasets below"],
)
def test_what_is_no_dataset_is_told(make: Callable, named: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert named in str(caught.value)


def test_a_part_of_a_dataset_names_the_whole(tmp_path: Path) -> None:
    nnunet(tmp_path)
    with pytest.raises(DataError, match="part of") as caught:
        read_dataset(tmp_path / "labelsTr")
    assert str(tmp_path) in str(caught.value)
