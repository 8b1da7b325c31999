"""One network trained on the same voxels in every form of dataset: a table of Dice.

    PYTHONPATH=tests python docs/every_form.py FOLDER [HIPPOCAMPUS]

Writes five blocks of data=mni152 in every form to FOLDER, trains a tiny network with one seed on
each, segments the raw image of one case and reports all runs on one page. HIPPOCAMPUS is the
folder of the Decathlon's task, which is laid out as nnU-Net's by links. A form is equal where Dice
and label map are those of the Decathlon's form to the last bit.
"""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import contourpy
import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image
from written_dicom import ct_series, save, segmentation, structure_set

from medseg.cli import predict, report, train
from medseg.data.building import write_case, write_description
from medseg.data.mni152 import Mni152
from medseg.record import RunRecord, from_plain

CLASSES = ("grey", "white")
_CASES = 5
ONE = "imagesTr/{}_0000.nii.gz"
TINY = [
    *("data.batch_size=4", "data.batches_per_epoch=10", "trainer.epochs=1", "plan=none"),
    *("model.encoder.channels=[8,16]", "model.encoder.strides=[1,2]", "model.encoder.depths=1"),
    *("trainer.device=cpu", "trainer.precision=fp32"),
    *("artifacts.follow=false", "artifacts.cases=0", "pictures.cases=0"),
]
PLANAR = ["data.spatial_dims=2", "data.patch_size=[64,64]"]
SPATIAL = ["data.patch_size=[32,32,32]"]


@dataclass(frozen=True)
class Sample:
    """A case: image (channels, i, j, k) and label (i, j, k), uint8, in RAS, and its affine."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray


Samples = Mapping[str, Sample]


def nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Saves voxels (i, j, k) or (i, j, k, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def by_itk(path: Path, array: np.ndarray, affine: np.ndarray, **more: str) -> None:
    """Saves in the format of the path's ending, by way of NIfTI."""
    between = path.with_name("between.nii")
    nifti(between, array, affine)
    image = sitk.ReadImage(between)
    between.unlink()
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    for key, value in more.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, path)


def decathlon(root: Path, samples: Samples) -> None:
    for case, own in samples.items():
        image = own.image[0] if len(own.image) == 1 else np.moveaxis(own.image, 0, -1)
        volumes = [nib.Nifti1Image(array, own.affine) for array in (image, own.label)]
        write_case(root, case, image=volumes[0], label=volumes[1])
    channels = tuple(f"C{n}" for n in range(len(image)))[: len(own.image)]
    words = dict.fromkeys(("name", "description", "reference", "licence"), "MNI152")
    write_description(root, **words, modalities=channels, classes=CLASSES, case_ids=list(samples))


def files(image: str, label: str) -> Callable[[Path, Samples], None]:
    """Writes by patterns of case, and of channel where there are several."""

    def write(root: Path, samples: Samples) -> None:
        for case, own in samples.items():
            for channel, array in enumerate(own.image):
                _file(root / image.format(case=case, channel=channel), array, own)
            _file(root / label.format(case=case), own.label, own)

    return write


def _file(path: Path, array: np.ndarray, own: Sample) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {}
    if path.name.endswith(".seg.nrrd"):
        for number, name in enumerate(CLASSES):
            more |= {f"Segment{number}_Name": name, f"Segment{number}_Layer": "0"}
            more[f"Segment{number}_LabelValue"] = str(number + 1)
    if path.suffix == ".gz":
        nifti(path, array, own.affine)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, _rows(array)[0])
    elif path.suffix == ".png":
        Image.fromarray(_rows(array)[0]).save(path)
    else:
        by_itk(path, array, own.affine, **more)


def _rows(array: np.ndarray) -> np.ndarray:
    """Voxels (i, j, k) in RAS as slices (k, rows, columns), seen from the feet."""
    return np.ascontiguousarray(array[::-1, ::-1].T)


def nnunet(version: int) -> Callable[[Path, Samples], None]:
    """nnU-Net's raw form."""

    def write(root: Path, samples: Samples) -> None:
        files("imagesTr/{case}_{channel:04d}.nii.gz", "labelsTr/{case}.nii.gz")(root, samples)
        channels = len(next(iter(samples.values())).image)
        names = {str(n): f"C{n}" for n in range(channels)}
        values = {"background": 0, **{name: n for n, name in enumerate(CLASSES, 1)}}
        if version == 2:
            content = {"channel_names": names, "labels": values, "file_ending": ".nii.gz"}
        else:
            listed = [
                {"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"}
                for c in samples
            ]
            labels = {str(n): name for name, n in values.items()}
            content = {"modality": names, "labels": labels, "training": listed}
        (root / "dataset.json").write_text(json.dumps(content))

    return write


def table(root: Path, samples: Samples) -> None:
    channels = range(len(next(iter(samples.values())).image))
    files("volumes/{case}-{channel}.nii.gz", "volumes/{case}-truth.nii.gz")(root, samples)
    lines = [",".join(["case", *(f"C{n}" for n in channels), "label"])]
    for case in samples:
        paths = [f"volumes/{case}-{n}.nii.gz" for n in (*channels, "truth")]
        lines.append(",".join([case, *paths]))
    (root / "cases.csv").write_text("\n".join(lines))


def masks(root: Path, samples: Samples) -> None:
    """A folder per patient, and in it one mask per class."""
    for case, own in samples.items():
        nifti(root / case / "t1.nii.gz", own.image[0], own.affine)
        for number, name in enumerate(CLASSES, 1):
            mask = (own.label == number).astype(np.uint8)
            nifti(root / case / f"segmentations/{name}.nii.gz", mask, own.affine)


def dicom(kind: str) -> Callable[[Path, Samples], None]:
    """A CT series and a SEG or RTSTRUCT per patient."""

    def write(root: Path, samples: Samples) -> None:
        for case, own in samples.items():
            corner = own.affine @ [own.label.shape[0] - 1, own.label.shape[1] - 1, 0, 1]
            origin = (-corner[0], -corner[1], corner[2])
            pixels = _rows(own.image[0]).astype(np.uint16) + 1024
            slices = ct_series(pixels, origin=origin, spacing=(1.0, 1.0, 1.0))
            save(slices, root / case / "series")
            found = {name: _rows(own.label) == n for n, name in enumerate(CLASSES, 1)}
            if kind == "SEG":
                made = segmentation(slices, found)
            else:
                drawn = [
                    (name, "CLOSED_PLANAR", _contours(mask, np.array(origin)))
                    for name, mask in found.items()
                ]
                made = structure_set(slices, drawn)
            pydicom.dcmwrite(root / case / "label", made, enforce_file_format=True)

    return write


def _contours(mask: np.ndarray, origin: np.ndarray) -> list[np.ndarray]:
    """Outlines (points, 3) in mm, half way between pixels inside and out, holes as well."""
    found = []
    for z, plane in enumerate(mask):
        padded = np.pad(plane, 1).astype(float)
        for line in contourpy.contour_generator(z=padded).lines(0.5):
            points = np.column_stack([line[:-1] - 1, np.full(len(line) - 1, z)])
            found.append(points + origin)
    return found


Form = tuple[Callable[[Path, Samples], None], str]
"""Writes a dataset; and what of a case is segmented afterwards, by its id."""

FORMS: dict[str, dict[str, Form]] = {  # the first of each group is what the others shall equal
    "one channel": {
        "Decathlon": (decathlon, "imagesTr/{}.nii.gz"),
        "nnU-Net raw v2": (nnunet(2), ONE),
        "nnU-Net raw v1": (nnunet(1), ONE),
        "table (CSV)": (table, "volumes/{}-0.nii.gz"),
        "pairs of folders": (
            files("images/{case}.nii.gz", "masks/{case}_mask.nii.gz"), "images/{}.nii.gz"
        ),
        "side by side": (files("{case}.nii.gz", "{case}_seg.nii.gz"), "{}.nii.gz"),
        "folder per patient": (files("{case}/t1.nii.gz", "{case}/seg.nii.gz"), "{}"),
        "one mask per class": (masks, "{}"),
        "NRRD and .seg.nrrd": (files("{case}/t1.nrrd", "{case}/Segmentation.seg.nrrd"), "{}"),
        "MetaImage": (files("images/{case}.mha", "labels/{case}.mha"), "images/{}.mha"),
        "DICOM and SEG": (dicom("SEG"), "{}"),
        "DICOM and RTSTRUCT": (dicom("RTSTRUCT"), "{}"),
    },
    "two channels": {
        "Decathlon": (decathlon, "imagesTr"),
        "nnU-Net raw v2": (nnunet(2), "imagesTr"),
        "nnU-Net raw v1": (nnunet(1), "imagesTr"),
        "table (CSV)": (table, "cases.csv"),
        "folder per channel": (files("C{channel}/{case}.nii.gz", "labels/{case}.nii.gz"), "."),
        "folder per patient": (files("{case}/C{channel}.nii.gz", "{case}/seg.nii.gz"), "."),
    },
    "pictures": {
        "Decathlon": (decathlon, "imagesTr/{}.nii.gz"),
        "PNG": (files("images/{case}.png", "masks/{case}.png"), "images/{}.png"),
        "TIFF": (files("images/{case}.tif", "masks/{case}.tif"), "images/{}.tif"),
    },
}  # fmt: skip


def samples_of(folder: Path) -> dict[str, Samples]:
    """The cases of every group of forms."""
    mni, one, pictures = Mni152(root=folder).prepare(), {}, {}
    for path in sorted((mni / "imagesTr").iterdir())[:_CASES]:
        case, image = path.name.removesuffix(".nii.gz"), nib.load(path)
        voxels = np.asarray(image.dataobj)
        label = np.asarray(nib.load(mni / "labelsTr" / path.name).dataobj)
        one[case] = Sample(voxels[None], label, image.affine)
        for k in (3, 8):
            own = Sample(voxels[None, ..., [k]], label[..., [k]], np.eye(4))
            pictures[f"{case}-{k}"] = own
    two = {c: replace(s, image=np.concatenate([s.image, 255 - s.image])) for c, s in one.items()}
    return {"one channel": one, "two channels": two, "pictures": pictures}


def as_nnunet(task: Path, root: Path) -> None:
    """Lays a task of the Decathlon out as nnU-Net's, by links."""
    described = json.loads((task / "dataset.json").read_text())
    for case in described["training"]:
        name = Path(case["image"]).name
        for path in (f"imagesTr/{name.replace('.nii', '_0000.nii')}", f"labelsTr/{name}"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(task / path.replace("_0000", ""))
    labels = {name: int(value) for value, name in described["labels"].items()}
    content = {"channel_names": described["modality"], "labels": labels, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))


@dataclass(frozen=True)
class Trained:
    """A form's Dice, and the label map of one case; None where prediction failed."""

    name: str
    dice: float
    labels: np.ndarray | None


def trained(name: str, root: Path, raw: Path, case: str, folder: Path, words: list[str]) -> Trained:
    """Trains on a dataset and segments what is given."""
    run = folder / "runs" / name.replace(" ", "_")
    own = [f"data.root='{root}'", f"data.cache={folder}/cache", f"hydra.run.dir='{run}'"]
    output = folder / "segmented" / run.name
    with redirect_stdout(sys.stderr):
        if train.main(["data=folder", *own, f"name='{name}'", *TINY, *words]):
            sys.exit(f"{name}: was not trained")
        failed = predict.main(["-m", str(run), "-i", str(raw), "-o", str(output)])
    record = from_plain(RunRecord, json.loads((run / "record.json").read_text()))
    found = [path for path in output.glob("*.nii.gz") if path.name == f"{case}.nii.gz"]
    labels = None
    for path in found or [*output.glob("*.nii.gz")]:  # of a patient's folder, called after its file
        labels = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    return Trained(name, record.history[-1]["val_dice"], None if failed else labels)


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    groups = []
    for group, samples in samples_of(folder).items():
        groups.append([])
        for name, (write, raw) in FORMS[group].items():
            root, case = folder / "datasets" / group / name, min(samples)
            write(root, samples)
            place = root / raw.format(case)
            groups[-1].append(trained(f"{name}, {group}", root, place, case, folder, PLANAR))
    for task in map(Path, sys.argv[2:]):
        links, case = folder / "datasets" / task.name, "hippocampus_001"
        as_nnunet(task.resolve(), links)
        forms = [
            ("Decathlon", task.resolve(), f"imagesTr/{case}.nii.gz"),
            ("nnU-Net raw v2", links, ONE.format(case)),
        ]
        groups.append([
            trained(f"{name}, Hippocampus", root, root / raw, case, folder, SPATIAL)
            for name, root, raw in forms
        ])  # fmt: skip
    with redirect_stdout(sys.stderr):
        report.main([str(folder / "runs"), "-o", str(folder / "report.html"), "--overwrite"])
    page = (folder / "report.md").read_text()
    print("| form | Dice | equal | predicted | in report |")
    print("|" + " --- |" * 5)
    for first, *others in groups:
        for own in (first, *others):
            equal = own.dice == first.dice
            same = own.labels is not None and np.array_equal(own.labels, first.labels)
            cells = [own.name, repr(own.dice), *map(_said, (equal, same, own.name in page))]
            print("| " + " | ".join(cells) + " |")


def _said(is_so: bool) -> str:
    return "yes" if is_so else "no"


if __name__ == "__main__":
    main()
