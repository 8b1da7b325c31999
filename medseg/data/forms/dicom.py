"""DICOM: series of images with segmentations (SEG) or structures (RTSTRUCT) that refer to them.

Files are known by their bytes, whatever they are called and wherever they lie. A case is a
segmentation and the series that it refers to.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, Dataset
from medseg.data.forms.contents import dataset_of
from medseg.data.forms.form import Form, files_below, stem_of
from medseg.data.forms.matching import Findings
from medseg.formatting import first_of
from medseg.volumes import DicomObject, scan_dicom
from medseg.volumes.dicom_files import starts_as_dicom

_LOOKED_AT = 20  # files without another ending, before a folder is taken to hold no DICOM


class Dicom(Form):
    """Files of DICOM in any folders, known by their bytes."""

    name = "dicom"
    title = "DICOM"
    layout = "series in any folders, and for each a SEG or RTSTRUCT that refers to it"

    def evidence(self, folder: Path) -> str:
        """The first file that is DICOM by its bytes."""
        unknown = (path for path in files_below(folder) if stem_of(path) == path.name)
        for path, _ in zip(unknown, range(_LOOKED_AT), strict=False):
            if starts_as_dicom(path):
                return f"{path.relative_to(folder)} is DICOM"
        return ""

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        found = Findings()
        objects = scan_dicom(folder)
        found.faults.extend(
            f"{_where(each, folder)}: {each.problem}" for each in objects if each.problem
        )
        series = {each.series_uid: each for each in objects if each.kind == "series"}
        labels = [each for each in objects if each.kind in ("seg", "rtstruct")]
        names = _case_ids(labels, folder)
        patients = _patients(labels, folder, found)
        used: dict[str, str] = {}
        for label, case_id, patient in zip(labels, names, patients, strict=True):
            image = next((series[uid] for uid in label.refers_to if uid in series), None)
            if image is None:
                named = ", ".join(label.refers_to) or "none that it names"
                found.faults.append(
                    f"{_where(label, folder)}: refers to images that are not there, of the series "
                    f"{named}; add the series that it was drawn on"
                )
                continue
            if image.series_uid in used:
                found.faults.append(
                    f"{used[image.series_uid]} and {_where(label, folder)}: both segment one "
                    "series; which one is the label? Take the other away"
                )
                continue
            used[image.series_uid] = _where(label, folder)
            found.cases.append(
                Case(case_id=case_id, images=(image.path,), label=label.path, patient=patient)
            )
        unused = [each for uid, each in series.items() if uid not in used]
        for each in unused:
            found.notes.append(
                f"{_where(each, folder)}: a series of {len(each.files)} files to which no SEG or "
                "RTSTRUCT refers; not used"
            )
        if not labels:
            found.faults.append("no SEG or RTSTRUCT: images without labels cannot be trained")
        modalities = Counter(series[uid].modality or "image" for uid in used)
        if len(modalities) > 1:
            found.notes.append(f"modalities are mixed: {dict(modalities)}")
        usual = modalities.most_common(1)[0][0] if modalities else "image"
        dataset = dataset_of(folder, self.title, found, label_values)
        return replace(dataset, form=self.title, modalities=(usual,))


def _where(each: DicomObject, folder: Path) -> str:
    return str(each.path.relative_to(folder))


def _case_ids(labels: Sequence[DicomObject], folder: Path) -> list[str]:
    """By the patient's folder, else by the patient's id, else by the label's path."""
    places = [label.path.relative_to(folder) for label in labels]
    folders = [place.parts[0] if len(place.parts) > 1 else "" for place in places]
    patients = [label.patient_id or "" for label in labels]
    paths = ["_".join([*place.parent.parts, stem_of(place)]) for place in places]
    for names in (folders, patients):
        if all(names) and len(set(names)) == len(names):
            return names
    return paths


def _patients(labels: Sequence[DicomObject], folder: Path, found: Findings) -> list[str | None]:
    """By their ids, unless all have one and lie in folders of their own."""
    ids = [label.patient_id or "" for label in labels]
    folders = [label.path.relative_to(folder).parts[0] for label in labels]
    if len(set(folders)) > 1 and (len(set(ids)) == 1 or not all(ids)):
        named = f"the PatientID {ids[0]!r}" if len(set(ids)) == 1 else "no PatientID in some"
        found.notes.append(
            f"all have {named}: patients go by folder, {first_of(sorted(set(folders)))}"
        )
        return [*folders]
    return [patient or None for patient in ids]
