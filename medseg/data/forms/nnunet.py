"""The raw datasets of nnU-Net, of version 2 and version 1.

    folder/dataset.json    channel_names (version 1: modality), labels, file_ending
    folder/imagesTr/       CASE_0000.nii.gz, CASE_0001.nii.gz: one file per case and channel
    folder/labelsTr/       CASE.nii.gz

A label may be called "ignore": its voxels neither train nor count. Classes may be regions, lists
of label values, which overlap.

Reference: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z, and its
documentation/dataset_format.md.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, Dataset
from medseg.data.forms.contents import dimensions_of, kind_of, with_spacing
from medseg.data.forms.description import (
    DESCRIPTION,
    channel_file,
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

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_READERS = {  # nnU-Net's classes, and whether they read pictures; all are read here by their bytes
    "SimpleITKIO": False,
    "NibabelIO": False,
    "NibabelIOWithReorient": False,
    "Tiff3DIO": False,
    "NaturalImage2DIO": True,
}


class NnunetV2(Form):
    """A dataset.json with `channel_names`; cases are found by their files."""

    name = "nnunet"
    title = "nnU-Net raw"
    layout = "dataset.json with channel_names and labels, imagesTr/CASE_0000.nii.gz, labelsTr/"
    described = True
    version = 2

    def evidence(self, folder: Path) -> str:
        """See `nnunet_version`."""
        if not (folder / DESCRIPTION).is_file() or nnunet_version(folder) != self.version:
            return ""
        return f"{DESCRIPTION} names channels"

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        description = read_description(folder)
        problems: list[str] = []
        notes: list[str] = []
        key = "channel_names" if self.version == 2 else "modality"
        modalities = modalities_of(description, key, problems)
        classes, values = classes_of(description, label_values, problems, notes)
        channels = len(modalities) or 1
        if isinstance(description.get("dataset"), dict):
            cases = _named_cases(folder, description["dataset"], channels, problems)
        elif "training" in description:
            cases = _listed_cases(folder, description, channels, problems)
        else:
            cases = _found_cases(folder, description, channels, problems, notes)
        cases = [with_spacing(case, problems) for case in _with_colours(cases, channels)]
        problems += same_ids(cases)
        problems += [
            f"{path.relative_to(folder) if path.is_relative_to(folder) else path}: no such file"
            for case in cases
            for path in (*case.images, case.label)
            if not path.is_file()
        ]
        folds = folds_beside(folder, cases, problems)
        dims = dimensions_of(cases, problems)
        notes += _about_reader(description.get("overwrite_image_reader_writer"), dims)
        notes += _about_channels(folder, cases, channels)
        return Dataset(
            form=f"{self.title} v{self.version}",
            folder=folder,
            modalities=modalities,
            classes=classes,
            cases=tuple(cases),
            label_values=values,
            spatial_dims=dims,
            folds=folds,
            folds_from=NNUNET_FOLDS if folds else "",
            faults=tuple(problems),
            notes=tuple(notes),
            **provenance(description, folder),
        )


class NnunetV1(NnunetV2):
    """The Decathlon's dataset.json, and one file per case and channel."""

    name = "nnunet_v1"
    layout = "dataset.json with modality, labels and training, imagesTr/CASE_0000.nii.gz, labelsTr/"
    version = 1

    def evidence(self, folder: Path) -> str:
        """See `nnunet_version`."""
        found = super().evidence(folder)
        return found and f"images that {DESCRIPTION} lists are files of one channel each, _0000"


def _found_cases(
    folder: Path,
    description: Mapping[str, Any],
    channels: int,
    problems: list[str],
    notes: list[str],
) -> list[Case]:
    """Every case of which there is an image or a label."""
    labels, images = images_in(folder / "labelsTr"), images_in(folder / "imagesTr")
    ending = _ending(description, [*labels, *images], problems)
    labels = {p.name.removesuffix(ending): p for p in labels if p.name.endswith(ending)}
    stems = [p.name.removesuffix(ending) for p in images if p.name.endswith(ending)]
    numbered = {found[1] for found in map(_CHANNEL.fullmatch, stems) if found}
    for name in sorted(labels):
        found = _CHANNEL.fullmatch(name)
        if name not in numbered and found and found[1] in numbered and found[1] not in labels:
            labels[found[1]] = labels.pop(name)
            notes.append(
                f"labelsTr/{name}{ending}: is named like a channel, taken as the label of "
                f"{found[1]}; better named {found[1]}{ending}"
            )
    whole = {stem for stem in stems if stem in labels or not _CHANNEL.fullmatch(stem)}
    names = sorted({*labels, *numbered, *whole})
    if not names:
        problems.append(f"imagesTr and labelsTr: no files that end in {ending}")
    cases = []
    for name in names:
        label = labels.get(name, folder / f"labelsTr/{name}{ending}")
        cases.append(_case(folder / f"imagesTr/{name}{ending}", label, channels, problems))
    return cases


def _ending(description: Mapping[str, Any], files: list[Path], problems: list[str]) -> str:
    """What the names of images and labels end in; others among them are faults."""
    ending = str(description.get("file_ending") or "")
    endings = {path.name.removeprefix(stem_of(path)) for path in files}
    if not ending:
        ending = endings.pop() if len(endings) == 1 else ".nii.gz"
    ending = ending if ending.startswith(".") else f".{ending}"
    problems += [
        f"{path.parent.name}/{path.name}: does not end in {ending}, the file_ending"
        for path in files
        if not path.name.endswith(ending)
    ]
    return ending


def _listed_cases(
    folder: Path, description: Mapping[str, Any], channels: int, problems: list[str]
) -> list[Case]:
    return [
        _case(folder / image, folder / label, channels, problems)
        for image, label in listed_cases(description, problems)
    ]


def _named_cases(
    folder: Path, entries: Mapping[str, Any], channels: int, problems: list[str]
) -> list[Case]:
    """The cases of `dataset`, which names all files of each."""
    cases = []
    for name, files in entries.items():
        images = files.get("images") if isinstance(files, dict) else None
        label = files.get("label") if isinstance(files, dict) else None
        if not isinstance(images, list) or not isinstance(label, str):
            problems.append(f"dataset: {name} needs the list `images` and the file `label`")
            continue
        if len(images) != channels:
            problems.append(f"dataset: {name} has {len(images)} images for {channels} channels")
        paths = tuple(folder / str(image) for image in images)
        cases.append(Case(case_id=name, images=paths, label=folder / label))
    return cases


def _case(image: Path, label: Path, channels: int, problems: list[str]) -> Case:
    """A case of numbered files, or of one file that holds all channels."""
    numbered = tuple(channel_file(image, number) for number in range(channels))
    is_whole = image.is_file()
    if is_whole and numbered[0].is_file():
        problems.append(
            f"{stem_of(image)}: {image.name} and {numbered[0].name} in {image.parent.name}; which "
            "one is the image? Take the other away"
        )
    images = (image,) if is_whole else numbered
    return Case(case_id=stem_of(image), images=images, label=label)


def _with_colours(cases: list[Case], channels: int) -> list[Case]:
    """Cases whose first file holds all channels, as nnU-Net has pictures in colours."""
    files = [path for case in cases for path in case.images[1:]]
    pictures = all("pictures" in kind_of(case.image) for case in cases)
    if channels == 1 or not pictures or any(path.is_file() for path in files):
        return cases
    return [replace(case, images=case.images[:1]) for case in cases]


def _about_channels(folder: Path, cases: list[Case], channels: int) -> list[str]:
    """Numbered files beyond the channels that are named."""
    used = {path.name for case in cases for path in case.images}
    unused = [path.name for path in images_in(folder / "imagesTr") if path.name not in used]
    if not unused:
        return []
    return [
        f"imagesTr: not one of the {channels} channels of a case and not used: {first_of(unused)}"
    ]


def _about_reader(reader: Any, dims: int) -> list[str]:
    if reader is None:
        return []
    named = f"overwrite_image_reader_writer={reader}"
    if reader not in _READERS:
        return [f"{named}: no reader of nnU-Net; files are read by what their bytes are"]
    if _READERS[reader] != (dims == 2):
        return [f"{named}: files are read by what their bytes are, here {dims}-D"]
    return []
