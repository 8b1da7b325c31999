"""Every form of dataset: what is read of it, and that each fault names what it is about."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg.data.dataset import CaseFault
from medseg.data.forms import look_at_dataset, read_dataset
from medseg.errors import ConfigError, DataError

CASES = ("p1", "p2", "p10")  # p1 is the beginning of p10


def volume(path: Path, *, label: bool = False, values: tuple[int, ...] = (1, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(len(str(path))).normal(size=(6, 5, 4)).astype(np.float32)
    if label:
        array = np.zeros((6, 5, 4), np.int8 if min(values) < 0 else np.uint8)
        array.flat[: len(values)] = values
    kind = nib.Nifti1Pair if path.suffix == ".hdr" else nib.Nifti1Image
    nib.save(kind(array, np.eye(4)), path)


def picture(path: Path, *, mode: str = "L", label: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (8, 6) if mode == "L" else (8, 6, 3)
    array = np.random.default_rng(len(str(path))).integers(0, 255, shape).astype(np.uint8)
    if label:
        array = np.zeros((8, 6), np.uint8)
        array[2:4] = 255
    Image.fromarray(array).save(path)


def pairs(root: Path, image: str = "images/{}.nii.gz", label: str = "labels/{}.nii.gz") -> None:
    for case in CASES:
        for pattern in image.split(","):
            volume(root / pattern.format(case))
        volume(root / label.format(case), label=True)


def pictures(root: Path, image: str, label: str, mode: str = "L") -> None:
    for case in CASES:
        picture(root / image.format(case), mode=mode)
        picture(root / label.format(case), label=True)


def table(
    root: Path,
    delimiter: str = ",",
    end: str = ".csv",
    side: str = "/",
    first: str = "",
    more: str = "age",
    decimals: str = "",
    index: bool = False,
    encoding: str = "utf-8",
) -> None:
    rows = [["case", "patient", "t1", "t2", "label", "fold", more]]
    for number, case in enumerate(CASES):
        for name in ("t1", "t2", "seg"):
            volume(root / f"{case}/{name}.nii.gz", label=name == "seg")
        files = [f"{case}{side}{name}.nii.gz" for name in ("t1", "t2", "seg")]
        rows.append([f"scan{case}", case, *files, f"{number % 2}{decimals}", "50"])
    if index:
        rows = [[str(number or ""), *row] for number, row in enumerate(rows)]
    text = first + "\r\n".join(delimiter.join(row) for row in rows)
    (root / f"cases{end}").write_bytes(text.encode(encoding))


def nnunet(root: Path, channels: int = 2, **changes) -> None:
    names = {str(n): f"C{n}" for n in range(channels)}
    content = {"channel_names": names, "labels": {"background": 0, "a": 1, "b": 2}} | changes
    for case in CASES:
        for channel in range(channels):
            volume(root / f"imagesTr/{case}_{channel:04d}.nii.gz")
        volume(root / f"labelsTr/{case}.nii.gz", label=True)
    (root / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"} | content))


def nnunet_v1(root: Path) -> None:
    nnunet(root)
    listed = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in CASES]
    labels = {"0": "background", "1": "a", "2": "b"}
    content = {"modality": {"0": "T1", "1": "T2"}, "labels": labels, "training": listed}
    (root / "dataset.json").write_text(json.dumps(content))


FORMS: dict[str, tuple[Callable[[Path], None], str, int, int]] = {
    # how it is made, its form, channels, dimensions
    "same names": (pairs, "pairs", 1, 3),
    "a word behind": (lambda r: pairs(r, "images/{}.nii.gz", "masks/{}_seg.nii.gz"), "pairs", 1, 3),
    "a word before": (
        lambda r: pairs(r, "scan/volume-{}.nii", "gt/segmentation-{}.nii"), "pairs", 1, 3
    ),
    "words on both": (lambda r: pairs(r, "img/{}_img.nii", "label/{}_label.nii"), "pairs", 1, 3),
    "channels behind": (
        lambda r: pairs(r, "images/{}_t1.nii.gz,images/{}_t2.nii.gz"), "pairs", 2, 3
    ),
    "a folder per channel": (
        lambda r: pairs(r, "t1/{}.nii.gz,flair/{}.nii.gz", "mask/{}.nii.gz"), "pairs", 2, 3
    ),
    "a folder per modality": (
        lambda r: pairs(r, "ct/{}.nii.gz,pet/{}.nii.gz", "label/{}.nii.gz"), "pairs", 2, 3
    ),
    "one folder": (lambda r: pairs(r, "{}.nii.gz", "{}_mask.nii.gz"), "one folder", 1, 3),
    "patients": (
        lambda r: pairs(r, "{}/t1.nii.gz,{}/t2.nii.gz", "{}/seg.nii.gz"), "patient", 2, 3
    ),
    "patients' names in files": (
        lambda r: pairs(r, "{0}/{0}_flair.nii.gz,{0}/{0}_t1.nii.gz", "{0}/{0}_seg.nii.gz"),
        "patient", 2, 3,
    ),
    "patients with folders": (
        lambda r: pairs(r, "{}/anat/t1.nii.gz", "{}/label/whatever.nii.gz"), "patient", 1, 3
    ),
    "table": (table, "table", 2, 3),
    "table with semicolons": (lambda r: table(r, ";"), "table", 2, 3),
    "table with tabs": (lambda r: table(r, "\t", ".tsv"), "table", 2, 3),
    "table of Windows": (lambda r: table(r, side="\\"), "table", 2, 3),
    "table of Excel's": (lambda r: table(r, ";", encoding="utf-16"), "table", 2, 3),
    "table of an older Excel": (
        lambda r: table(r, ";", first="sep=;\r\n", more="âge", encoding="cp1252"), "table", 2, 3
    ),
    "table of pandas": (lambda r: table(r, decimals=".0", index=True), "table", 2, 3),
    "headers and voxels apart": (
        lambda r: pairs(r, "images/{}.hdr", "labels/{}.hdr"), "pairs", 1, 3
    ),
    "one level too high": (lambda r: pairs(r / "download"), "pairs", 1, 3),
    "nnU-Net": (nnunet, "nnU-Net raw v2", 2, 3),
    "nnU-Net v1": (nnunet_v1, "nnU-Net raw v1", 2, 3),
    "grey pictures": (lambda r: pictures(r, "images/{}.png", "masks/{}.png"), "PNG", 1, 2),
    "colours": (lambda r: pictures(r, "images/{}.png", "masks/{}.png", "RGB"), "PNG", 3, 2),
    "photos": (
        lambda r: pictures(r, "JPEGImages/{}.jpg", "SegmentationClass/{}.png", "RGB"), "JPEG", 3, 2
    ),
    "photos beside masks": (lambda r: pictures(r, "{}.jpg", "{}_1stHO.png"), "JPEG", 1, 2),
}  # fmt: skip


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
