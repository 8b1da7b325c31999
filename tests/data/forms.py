"""One small dataset of every form."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

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
