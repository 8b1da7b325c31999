"""A copy of a dataset in which all is put right that needs no guess.

What readers note as read the way it is meant is written so: label values, axes, units, headers,
names, channels. What they doubt is written as they took it and named; what cannot be read is left
out and named, and so is a case whose voxels are another's.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.checking.case import Seen
from medseg.checking.findings import Checked, copies_of
from medseg.data.building import build_folder, write_case, write_description
from medseg.data.dataset import Case, CaseFault, Dataset
from medseg.data.reading import read_case_of
from medseg.data.splits import NNUNET_FOLDS, FoldFault, Patients, Split, folds_text, patient_of
from medseg.errors import ConfigError, DataError
from medseg.files import write_text
from medseg.planning.fingerprint import cases_at_once
from medseg.progress import bar
from medseg.volumes import IGNORE, Doubt, Volume

REPAIRS = "repairs.json"


def write_repaired(
    checked: Checked, folder: Path, *, patient: Patients = None
) -> tuple[int, dict[str, str]]:
    """Writes the copy as the Decathlon has datasets, with patients and folds; whole or not at all.

    Args:
        checked: The dataset; nothing of it is touched.
        folder: Absent or empty, outside the dataset.
        patient: As `data.patient`; None: as the dataset says.

    Returns:
        How many cases were copied, and case → why it was not.

    Raises:
        ConfigError: something lies in the folder.
        DataError: no case can be read, or a fault leaves open what the cases are.
        ResourceError: it cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"-o {folder} is not empty; name a new folder for the repaired copy")
    left_out = dict(_left_out(checked))
    kept = [each for each in checked.seen if each.case.case_id not in left_out]
    if not kept:
        raise DataError(f"{checked.dataset.folder}: no case can be used, so that none is copied")
    build_folder(
        folder, stamp="", build=lambda part: _build(part, checked, kept, left_out, patient)
    )
    return len(kept), left_out


def _left_out(checked: Checked) -> Iterator[tuple[str, str]]:
    """Cases that are not copied, and why.

    Raises:
        DataError: faults that are of no case; what they leave open would have to be guessed.
    """
    dataset = checked.dataset
    faults = [fault for fault in dataset.faults if not isinstance(fault, FoldFault)]
    of_cases = [fault for fault in faults if isinstance(fault, CaseFault)]
    if len(of_cases) < len(faults) or not dataset.classes:
        open_faults = [fault for fault in faults if fault not in of_cases]
        raise DataError(
            f"{dataset.folder}: not copied before it is clear what it holds",
            *(open_faults or faults),
        )
    for fault in of_cases:
        yield from ((case_id, fault) for case_id in fault.cases)
    yield from ((each.case.case_id, each.problem) for each in checked.seen if each.problem)
    for first, others in copies_of(checked.seen):
        yield from ((case_id, f"the same image and label as {first}") for case_id in others)


def _names(cases: Sequence[Case]) -> dict[str, str]:
    """Names of files that all systems take, no two of them alike."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for case in cases:
        plain = re.sub(r"[^\w.+-]+", "_", case.case_id).strip(".") or "case"
        numbered = (f"{plain}_{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([plain], numbered) if n.casefold() not in taken)
        taken.add(name.casefold())
        names[case.case_id] = name
    return names


def _build(
    part: Path,
    checked: Checked,
    kept: Sequence[Seen],
    left_out: dict[str, str],
    patient: Patients,
) -> None:
    dataset, names = checked.dataset, _names([each.case for each in kept])

    def write(each: Seen) -> None:
        image, label = read_case_of(dataset, each.case)
        name = names[each.case.case_id]
        write_case(part, name, image=_nifti(image), label=_nifti(label))

    with bar(len(kept), "writing") as step, ThreadPoolExecutor(cases_at_once(dataset)) as pool:
        for _ in pool.map(write, kept):
            step()
    ignored = [IGNORE] if IGNORE in (dataset.label_values or {}).values() else []
    write_description(
        part,
        name=dataset.name,
        description=f"Repaired copy of {dataset.folder.name} ({dataset.form})",
        reference=dataset.reference,
        licence=dataset.licence,
        modalities=dataset.modalities,
        classes=[*dataset.classes, *ignored],
        regions=dataset.labelling if dataset.regions else None,
        case_ids=[*names.values()],
        patients={names[each.case.case_id]: _patient(each.case, patient) for each in kept},
    )
    if folds := [fold for fold in _folds(dataset, names) if fold.train and fold.validation]:
        write_text(part / NNUNET_FOLDS, folds_text(folds))
    cases = {names[each.case.case_id]: _history(each) for each in kept}
    history = {"dataset": str(dataset.folder), "cases": cases, "left_out": left_out}
    write_text(part / REPAIRS, json.dumps(history, indent=1, ensure_ascii=False) + "\n")


def _patient(case: Case, patient: Patients) -> str | None:
    return case.patient if patient is None else patient_of(case.case_id, patient=patient)


def _folds(dataset: Dataset, names: dict[str, str]) -> list[Split]:
    """The folds of the cases that are copied; one that trains and validates on a case is none."""

    def side(case_ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(names[case_id] for case_id in case_ids if case_id in names)

    def is_sound(fold: Split) -> bool:
        return not set(fold.train) & set(fold.validation)

    if not all(map(is_sound, dataset.folds)):
        return []
    return [Split(train=side(f.train), validation=side(f.validation)) for f in dataset.folds]


def _history(each: Seen) -> dict[str, list[str]]:
    return {
        "from": [str(path) for path in (*each.case.images, each.case.label)],
        "repaired": [note for note in each.notes if not isinstance(note, Doubt)],
        "to be judged": [str(note) for note in each.notes if isinstance(note, Doubt)],
    }


def _nifti(volume: Volume) -> nib.Nifti1Image:
    """A volume with its channels last, in the smallest type that holds its values."""
    array = volume.array if volume.array.ndim == 3 else np.moveaxis(volume.array, 0, -1)
    array = array[..., 0] if array.shape[3:] == (1,) else array
    bounds = np.iinfo(np.int16)
    if array.dtype.kind == "f" and bounds.min <= array.min() and array.max() <= bounds.max:
        whole = array.astype(np.int16)
        array = whole if np.array_equal(whole, array) else array
    nifti = nib.Nifti1Image(array, volume.geometry.affine)
    nifti.header.set_xyzt_units("mm")
    return nifti
