"""The form of the Medical Segmentation Decathlon, and what nnU-Net's raw datasets share with it.

    folder/dataset.json    names, label values and the list of cases
    folder/imagesTr/       one file per case, several modalities along the fourth axis
    folder/labelsTr/       one file per case, values 0 (background), 1, 2, ...

An entry of the list may name its `patient`, and nnU-Net's splits_final.json may lie beside.

Reference: Antonelli et al. 2022, The Medical Segmentation Decathlon,
doi 10.1038/s41467-022-30695-9.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from medseg.data.dataset import Case, CaseFault, Dataset
from medseg.data.forms.contents import dimensions_of, with_spacing
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


class Described(Form):
    """A folder with a dataset.json, imagesTr and labelsTr.

    Attributes:
        version: of nnU-Net's form, as `nnunet_version` finds it.
        channel_key: of dataset.json, that maps numbers to the names of channels.
        unused: why a file of imagesTr is not used.
    """

    described = True
    version: ClassVar[int]
    channel_key: ClassVar[str] = "modality"
    unused: ClassVar[str]

    @abstractmethod
    def cases(
        self,
        folder: Path,
        description: Mapping[str, Any],
        channels: int,
        problems: list[str],
        notes: list[str],
    ) -> list[Case]:
        """The cases, their files there or not."""

    def evidence(self, folder: Path) -> str:
        """A dataset.json of this form."""
        is_own = (folder / DESCRIPTION).is_file() and nnunet_version(folder) == self.version
        return DESCRIPTION if is_own else ""

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        description = read_description(folder)
        problems: list[str] = []
        notes: list[str] = []
        modalities = modalities_of(description, self.channel_key, problems)
        labelling, values = classes_of(description, label_values, problems)
        cases = self.cases(folder, description, len(modalities) or 1, problems, notes)
        cases = [with_spacing(case, problems) for case in cases]
        problems += same_ids(cases)
        problems += [
            CaseFault(
                f"{path.relative_to(folder) if path.is_relative_to(folder) else path}: no such "
                "file",
                case.case_id,
            )
            for case in cases
            for path in (*case.images, case.label)
            if not path.is_file()
        ]
        folds = folds_beside(folder, cases, problems)
        dims = dimensions_of(cases, problems)
        notes += self.about(description, dims)
        used = {path.name for case in cases for path in case.images}
        images = images_in(folder / "imagesTr")
        if unused := [path.name for path in images if path.name not in used]:
            notes.append(f"imagesTr: {self.unused} and not used: {first_of(unused)}")
        return Dataset(
            form=self.title,
            folder=folder,
            modalities=modalities,
            classes=labelling.names,
            regions=labelling.regions,
            regions_class_order=labelling.order,
            cases=tuple(cases),
            label_values=values,
            spatial_dims=dims,
            folds=folds,
            folds_from=NNUNET_FOLDS if folds else "",
            faults=tuple(problems),
            notes=tuple(notes),
            **provenance(description, folder),
        )

    def about(self, description: Mapping[str, Any], dims: int) -> list[str]:
        """Notes on what else the description says."""
        return []


class Decathlon(Described):
    """A dataset.json that lists cases whose images hold all their channels."""

    name = "decathlon"
    title = "Decathlon"
    layout = "dataset.json with modality, labels and training, and the files that it lists"
    version = 0
    unused = f"not listed in {DESCRIPTION}"

    def cases(
        self,
        folder: Path,
        description: Mapping[str, Any],
        channels: int,
        problems: list[str],
        notes: list[str],
    ) -> list[Case]:
        """See `Described.cases`."""
        patients = _patients(description)
        return [
            Case(
                case_id=stem_of(Path(image)),
                images=(folder / image,),
                label=folder / label,
                patient=patients.get(image),
            )
            for image, label in listed_cases(description, problems)
        ]


def _patients(description: Mapping[str, Any]) -> dict[str, str]:
    """Image → patient, of the entries that name theirs."""
    entries = description.get("training")
    named = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return {str(e.get("image")): e["patient"] for e in named if isinstance(e.get("patient"), str)}
