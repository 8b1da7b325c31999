"""The form of the Medical Segmentation Decathlon.

    folder/dataset.json    names, label values and the list of cases
    folder/imagesTr/       one file per case, several modalities along the fourth axis
    folder/labelsTr/       one file per case, values 0 (background), 1, 2, ...

An entry of the list may name its `patient`, and nnU-Net's splits_final.json may lie beside.

Reference: Antonelli et al. 2022, The Medical Segmentation Decathlon,
doi 10.1038/s41467-022-30695-9.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, Dataset
from medseg.data.forms.contents import dimensions_of
from medseg.data.forms.description import (
    DESCRIPTION,
    classes_of,
    folds_beside,
    listed_cases,
    modalities_of,
    nnunet_version,
    provenance,
    read_description,
)
from medseg.data.forms.form import Form, images_in, same_ids, stem_of
from medseg.data.splits import NNUNET_FOLDS
from medseg.formatting import first_of


class Decathlon(Form):
    """A dataset.json that lists cases whose images hold all their channels."""

    name = "decathlon"
    title = "Decathlon"
    layout = "dataset.json with modality, labels and training, and the files that it lists"
    described = True

    def evidence(self, folder: Path) -> str:
        """A dataset.json that is not nnU-Net's."""
        if not (folder / DESCRIPTION).is_file() or nnunet_version(folder):
            return ""
        return f"{DESCRIPTION} lists its cases"

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        description = read_description(folder)
        problems: list[str] = []
        notes: list[str] = []
        modalities = modalities_of(description, "modality", problems)
        classes, values = classes_of(description, label_values, problems, notes)
        entries = listed_cases(description, problems)
        patients = _patients(description)
        cases = tuple(
            Case(
                case_id=stem_of(Path(image)),
                images=(folder / image,),
                label=folder / label,
                patient=patients.get(image),
            )
            for image, label in entries
        )
        problems += [
            f"{name}: no such file"
            for pair in entries
            for name in pair
            if not (folder / name).is_file()
        ]
        problems += same_ids(cases)
        folds = folds_beside(folder, cases, problems)
        listed = {case.image.name for case in cases}
        images = images_in(folder / "imagesTr")
        if unused := [path.name for path in images if path.name not in listed]:
            notes.append(f"imagesTr: not listed in {DESCRIPTION} and not used: {first_of(unused)}")
        dims = dimensions_of(cases, problems)
        return Dataset(
            form=self.title,
            folder=folder,
            modalities=modalities,
            classes=classes,
            cases=cases,
            label_values=values,
            spatial_dims=dims,
            folds=folds,
            folds_from=NNUNET_FOLDS if folds else "",
            faults=tuple(problems),
            notes=tuple(notes),
            **provenance(description, folder),
        )


def _patients(description: Mapping[str, Any]) -> dict[str, str]:
    """Image → patient, of the entries that name theirs."""
    entries = description.get("training")
    named = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return {str(e.get("image")): e["patient"] for e in named if isinstance(e.get("patient"), str)}
