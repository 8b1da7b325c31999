"""Runs on disk with images, labels and predictions: two arms that err in known ways."""

from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.record import CaseRecord, RunRecord
from medseg.record.frame import case_means
from medseg.report.arms import Arm
from medseg.report.cases.files import Opened
from medseg.report.cases.pictures import Sheet
from medseg.report.sections.cases import artifact_scores, choose, draw_cases, shown_arms
from medseg.report.study import collect

AFFINE = np.array([[-1.5, 0, 0, 40], [0, 0, 2.0, -20], [0, 1.0, 0, 5], [0, 0, 0, 1]])
SHAPE = (30, 24, 20)
ORGAN = (slice(8, 18), slice(9, 16), slice(6, 13))
CASES = ("ease_0", "ease_1", "ease_2")


def label() -> np.ndarray:
    """A box of class 1 with a corner of class 2."""
    found = np.zeros(SHAPE, np.uint8)
    found[ORGAN] = 1
    found[8:11, 9:12, 6:9] = 2
    return found


def prediction(arm: str) -> np.ndarray:
    """Arm `missing` leaves the last slab of the organ out, arm `extra` adds one beyond it."""
    found = label()
    if arm == "missing":
        found[16:18, 9:16, 6:13] = 0
    else:
        found[18:20, 9:16, 6:13] = 1
    return found


def save(array: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    """Writes a NIfTI with nibabel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return path


def write_runs(folder: Path) -> Path:
    """Two arms with one run each on three cases; the folder with their records."""
    generator = np.random.default_rng(0)
    for case in CASES:
        image = generator.normal(100, 10, SHAPE).astype(np.float32) + 80 * (label() > 0)
        save(image, folder / "data" / f"{case}.nii.gz")
        save(label(), folder / "data" / f"{case}_label.nii.gz")
    for place, arm in enumerate(("missing", "extra")):
        target = folder / "runs" / arm
        for case in CASES:
            save(prediction(arm), target / "validation" / f"{case}.nii.gz")
        record(arm, folder, place).write(target)
    return folder / "runs"


def record(arm: str, folder: Path, place: int) -> RunRecord:
    """A completed run whose Dice differs by case."""
    cases = [
        CaseRecord(
            case=case,
            metrics={
                "organ": {"dice": 0.8 + 0.05 * i + 0.01 * place * i, "hd95_mm": 3.0 - i},
                "tumour": {"dice": 0.6 + 0.05 * i, "hd95_mm": None},
            },
            image=str(folder / "data" / f"{case}.nii.gz"),
            label=str(folder / "data" / f"{case}_label.nii.gz"),
            prediction=f"validation/{case}.nii.gz",
        )
        for i, case in enumerate(CASES)
    ]
    return RunRecord(
        name=arm,
        status="completed",
        started=f"2026-01-01T0{place}:00:00+00:00",
        finished=f"2026-01-01T0{place}:30:00+00:00",
        dataset="boxes",
        classes=["organ", "tumour"],
        split={"train": [], "validation": list(CASES)},
        config={"seed": 0, "data": {"in_channels": 1}},
        cases=cases,
    )


def arms_of(folder: Path) -> tuple[Arm, ...]:
    """Arms of the records below a folder."""
    return collect([folder]).arms


def drawn_cases(folder: Path) -> tuple[list[Sheet], dict[str, Opened]]:
    """Sheets of the cases that the section chooses, and their volumes."""
    data = collect([folder])
    arms, _ = shown_arms(data, data.arms[0])
    means = case_means(data.frame)
    chosen = choose(means[means["metric"] == "dice"], 1, artifact_scores(arms))
    sheets, volumes, _ = draw_cases(chosen, arms, data.frame)
    return sheets, volumes
