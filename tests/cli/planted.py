"""A dataset of kidneys in CT in several forms, and faults that are planted in one of its cases."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import written_dicom as dicom
from PIL import Image

SIZE = (10, 9, 8)
CLASSES = ["kidney_left", "kidney_right"]
FORMS = ("nii.gz", "nrrd", "png", "dicom")


def image(case: int) -> np.ndarray:
    return np.random.default_rng(case).normal(0, 300, SIZE).astype(np.float32)


def label(case: int) -> np.ndarray:
    found = np.zeros(SIZE, np.uint8)
    found[1:3, 2 : 4 + case % 4, 1:4] = 1  # the patient's left, in RAS
    found[6:9, 2 : 5 + case // 4, 3:6] = 2
    return found


@dataclass
class Data:
    """Cases c0, c1, … as nnU-Net has them, or as DICOM with segmentations, in two folds."""

    root: Path
    form: str = "nii.gz"
    cases: int = 6
    written: dict[tuple[str, int], tuple[np.ndarray, float]] = field(default_factory=dict)

    def make(self) -> "Data":
        for case in range(self.cases):
            self.label(case, label(case))
            self.image(case, image(case))
        names = [f"c{case}" for case in range(self.cases)]
        self.folds(names[: self.cases // 2], names[self.cases // 2 :])
        if self.form != "dicom":
            described = {
                "channel_names": {"0": "grey" if self.form == "png" else "CT"},
                "labels": {"background": 0} | {name: n for n, name in enumerate(CLASSES, start=1)},
                "numTraining": self.cases,
                "file_ending": f".{self.form}",
            }
            (self.root / "dataset.json").write_text(json.dumps(described))
        return self

    def copy(self, root: Path) -> "Data":
        shutil.copytree(self.root, root)
        return Data(root, self.form, self.cases, dict(self.written))

    def words(self) -> list[str]:
        """The dataset as `medseg check` takes it."""
        if self.form != "dicom":
            return [str(self.root)]
        numbers = ", ".join(f"{name}: {n}" for n, name in enumerate(CLASSES, start=1))
        split = self.root / "split.json"
        return [str(self.root), f"data.labels={{{numbers}}}", f"data.split_file={split}"]

    def image_of(self, case: int) -> Path:
        """The file of an image, or one of its slices."""
        if self.form == "dicom":
            paths = sorted((self.root / f"c{case}/series").iterdir())
            return paths[np.random.default_rng(SIZE[2]).permutation(SIZE[2])[SIZE[2] // 2]]
        return self.root / f"imagesTr/c{case}_0000.{self.form}"

    def label_of(self, case: int) -> Path:
        if self.form == "dicom":
            return self.root / f"c{case}/label"
        return self.root / f"labelsTr/c{case}.{self.form}"

    def image(self, case: int, array: np.ndarray, spacing: float = 1.0) -> None:
        self._write("image", case, array, spacing)

    def label(self, case: int, array: np.ndarray, spacing: float = 1.0) -> None:
        self._write("label", case, array, spacing)

    def folds(self, first: list[str], second: list[str]) -> None:
        if self.form == "dicom":
            split = {"train": first, "validation": second}
            (self.root / "split.json").write_text(json.dumps(split))
            return
        folds = [{"train": first, "val": second}, {"train": second, "val": first}]
        (self.root / "splits_final.json").write_text(json.dumps(folds))

    def _write(self, kind: str, case: int, array: np.ndarray, spacing: float) -> None:
        self.written[kind, case] = array, spacing
        if self.form == "dicom":
            if ("image", case) in self.written:
                self._write_dicom(case)
            return
        path = self.image_of(case) if kind == "image" else self.label_of(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.form == "png":
            flat = array.max(axis=2) if kind == "label" else array[..., 3] / 8 + 128
            Image.fromarray(np.clip(flat, 0, 255).astype(np.uint8)).save(path)
        elif self.form == "nrrd":
            made = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
            made.SetSpacing([spacing] * 3)
            made.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # to right, front and head
            sitk.WriteImage(made, path)
        else:
            nib.save(nib.Nifti1Image(array, np.diag([spacing] * 3 + [1.0])), path)

    def _write_dicom(self, case: int) -> None:
        voxels, spacing = self.written["image", case]
        towards_left_and_back = (slice(None, None, -1),) * 2
        pixels = np.clip(np.round(voxels[towards_left_and_back].T + 1024), 0, None)
        slices = dicom.ct_series(pixels, spacing=(spacing,) * 3)
        values = self.written["label", case][0][towards_left_and_back].T
        masks = {name: values == n for n, name in enumerate(CLASSES, 1) if (values == n).any()}
        made = dicom.segmentation(slices, masks)
        shutil.rmtree(self.root / f"c{case}", ignore_errors=True)
        for one in (*slices, made):
            one.PatientID = f"c{case}"
        dicom.save(slices, self.root / f"c{case}/series")
        dicom.save([made], self.root / f"c{case}").pop().rename(self.label_of(case))


Plant = Callable[[Data, int], None]


def cut_short(data: Data, case: int) -> None:
    path = data.image_of(case)
    path.write_bytes(path.read_bytes()[:-20])


def no_file(data: Data, case: int) -> None:
    """In DICOM a slice is missing."""
    data.image_of(case).unlink()


def no_image(data: Data, case: int) -> None:
    shutil.rmtree(data.image_of(case).parent)


def two_labels(data: Data, case: int) -> None:
    shutil.copy(data.label_of(case), data.root / f"c{case}/again")


def slice_twice(data: Data, case: int) -> None:
    path = data.image_of(case)
    shutil.copy(path, path.with_name("again"))


def lossy(data: Data, case: int) -> None:
    """A mask that is JPEG, whatever its name says."""
    Image.fromarray(label(case).max(axis=2)).save(data.label_of(case), format="jpeg")


def nan(data: Data, case: int) -> None:
    array = image(case)
    array[0, 0, 0] = np.nan
    data.image(case, array)


def other_grid(data: Data, case: int) -> None:
    data.label(case, label(case)[:-1])


def other_place(data: Data, case: int) -> None:
    data.label(case, label(case), spacing=2.0)


def unknown_value(data: Data, case: int) -> None:
    data.label(case, label(case) + 6)


def fraction(data: Data, case: int) -> None:
    data.label(case, label(case) * np.float32(0.7))


def constant(data: Data, case: int) -> None:
    data.image(case, np.full(SIZE, -7, np.float32))


def empty_label(data: Data, case: int) -> None:
    data.label(case, np.zeros(SIZE, np.uint8))


def masked(data: Data, case: int) -> None:
    """The image is 0 in every channel where some of the foreground lies."""
    array = image(case)
    array[:2] = 0
    data.image(case, array)


def copied(data: Data, case: int) -> None:
    data.image(case, image(0))


def copied_label(data: Data, case: int) -> None:
    data.label(case, label(0))


def unsigned(data: Data, case: int) -> None:
    data.image(case, image(case) + 3000)


def rescaled(data: Data, case: int) -> None:
    data.image(case, (image(case) - image(case).min()) / np.float32(3000))


def other_unit(data: Data, case: int) -> None:
    data.image(case, image(case), spacing=0.001)
    data.label(case, label(case), spacing=0.001)


def flipped(data: Data, case: int) -> None:
    data.image(case, image(case)[::-1])
    data.label(case, label(case)[::-1])


def other_axes(data: Data, case: int) -> None:
    turned = nib.Nifti1Image(np.swapaxes(label(case), 0, 1), np.eye(4)[[1, 0, 2, 3]])
    nib.save(turned, data.label_of(case))


VOLUMES = ("nii.gz", "nrrd")
OF_A_CASE: dict[Plant, tuple[str, tuple[str, ...]]] = {
    copied: ("warn", FORMS),  # the first, so that it is in the fold of case 0
    cut_short: ("refuse", FORMS),
    no_file: ("refuse", FORMS),
    no_image: ("refuse", ("dicom",)),
    two_labels: ("refuse", ("dicom",)),
    slice_twice: ("repairable", ("dicom",)),
    lossy: ("refuse", ("png",)),
    nan: ("refuse", VOLUMES),
    other_grid: ("refuse", (*VOLUMES, "png")),
    other_place: ("refuse", VOLUMES),
    unknown_value: ("refuse", (*VOLUMES, "png")),
    fraction: ("refuse", VOLUMES),
    constant: ("warn", FORMS),
    empty_label: ("warn", (*VOLUMES, "png")),
    masked: ("warn", VOLUMES),
    copied_label: ("warn", FORMS),
    unsigned: ("warn", (*VOLUMES, "dicom")),
    rescaled: ("warn", VOLUMES),
    other_unit: ("warn", (*VOLUMES, "dicom")),
    flipped: ("warn", (*VOLUMES, "dicom")),
    other_axes: ("repairable", ("nii.gz",)),
}
"""What is planted in a case: how severe that is, and the forms that can have it."""


def all_empty(data: Data) -> None:
    for case in range(data.cases):
        data.label(case, np.zeros(SIZE, np.uint8))


def copied_over_folds(data: Data) -> None:
    data.image(1, image(4))


def leak(data: Data) -> None:
    data.folds(["c0", "c1", "c2"], ["c1", "c4", "c5"])


def all_metres(data: Data) -> None:
    for case in range(data.cases):
        data.image(case, image(case), spacing=1000.0)
        data.label(case, label(case), spacing=1000.0)


def beside_pet(data: Data) -> None:
    """CT without air beside another channel, which has values below 0."""
    described = json.loads((data.root / "dataset.json").read_text())
    described["channel_names"] = {"0": "PET", "1": "CT"}
    (data.root / "dataset.json").write_text(json.dumps(described))
    for case in range(data.cases):
        first = data.image_of(case)
        kept = first.read_bytes()
        data.image(case, np.abs(image(case)))
        first.rename(first.with_name(first.name.replace("_0000", "_0001")))
        first.write_bytes(kept)


def class_nowhere(data: Data) -> None:
    for case in range(data.cases):
        data.label(case, np.minimum(label(case), 1))


def class_once(data: Data) -> None:
    for case in range(data.cases):
        if case != 1:
            data.label(case, np.minimum(label(case), 1))


OF_THE_DATASET: dict[Callable[[Data], None], tuple[str, str, tuple[str, ...]]] = {
    all_empty: ("refuse", "data.labels", (*VOLUMES, "png")),
    copied_over_folds: ("refuse", "c1 c4", FORMS),
    leak: ("refuse", "c1", FORMS),
    all_metres: ("warn", "mm", VOLUMES),
    beside_pet: ("warn", "HU", VOLUMES),
    class_nowhere: ("warn", "kidney_right", (*VOLUMES, "png")),
    class_once: ("warn", "c1", FORMS),
}
"""What is planted in several cases: how severe that is, what is named, the forms that have it."""
