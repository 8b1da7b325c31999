"""DICOM: series of images with segmentations (SEG) or structures (RTSTRUCT) that refer to them.

Files are known by their bytes, whatever they are called and wherever they lie. A case is a
segmentation and the series that it refers to.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, CaseFault, Dataset
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
        series = {each.series_uid: each for each in objects if each.kind == "series"}
        drawn = [each for each in objects if each.kind in ("seg", "rtstruct")]
        by_series: dict[str, list[DicomObject]] = {}
        for label in drawn:
            uid = next((uid for uid in label.refers_to if uid in series), str(label.path))
            by_series.setdefault(uid, []).append(label)
        labels = [own[0] for own in by_series.values()]
        names = _case_ids(labels, folder)
        patients = _patients(labels, folder, found)
        for uid, case_id, patient in zip(by_series, names, patients, strict=True):
            label, *others = by_series[uid]
            if others:
                listed = " and ".join(_where(each, folder) for each in (label, *others))
                text = f"{listed}: segment one series; which one is the label? Take the others away"
                found.faults.append(CaseFault(text, case_id))
            if uid not in series:
                named = ", ".join(label.refers_to) or "none that it names"
                text = (
                    f"{_where(label, folder)}: refers to images that are not there, of the series "
                    f"{named}; add the series that it was drawn on"
                )
                found.faults.append(CaseFault(text, case_id))
                continue
            found.cases.append(
                Case(
                    case_id=case_id,
                    images=(series[uid].path,),
                    label=label.path,
                    patient=patient,
                )
            )
        found.faults.extend(_problem(each, folder, found) for each in objects if each.problem)
        unused = [each for uid, each in series.items() if uid not in by_series]
        for each in unused:
            found.notes.append(
                f"{_where(each, folder)}: a series of {len(each.files)} files to which no SEG or "
                "RTSTRUCT refers; not used"
            )
        if not drawn:
            found.faults.append("no SEG or RTSTRUCT: images without labels cannot be trained")
        modalities = Counter(series[uid].modality or "image" for uid in by_series if uid in series)
        if len(modalities) > 1:
            found.notes.append(f"modalities are mixed: {dict(modalities)}")
        usual = modalities.most_common(1)[0][0] if modalities else "image"
        dataset = dataset_of(folder, self.title, found, label_values)
        return replace(dataset, form=self.title, modalities=(usual,))


def _where(each: DicomObject, folder: Path) -> str:
    return str(each.path.relative_to(folder))


def _problem(each: DicomObject, folder: Path, found: Findings) -> str:
    """A file that cannot be read; of a case, if it lies among files of that case alone."""
    text = f"{_where(each, folder)}: {each.problem}"
    beside = [
        case.case_id
        for case in found.cases
        if each.path.parent in (case.image.parent, case.label.parent)
    ]
    return CaseFault(text, *beside) if len(beside) == 1 else text


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
