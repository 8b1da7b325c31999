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

from medseg.data.dataset import Case, CaseFault
from medseg.data.forms.contents import kind_of
from medseg.data.forms.decathlon import Described
from medseg.data.forms.description import channel_file, listed_cases
from medseg.data.forms.form import images_in, stem_of

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_READERS = {  # nnU-Net's classes, and whether they read pictures; all are read here by their bytes
    "SimpleITKIO": False,
    "NibabelIO": False,
    "NibabelIOWithReorient": False,
    "Tiff3DIO": False,
    "NaturalImage2DIO": True,
}


class NnunetV2(Described):
    """A dataset.json with `channel_names`; cases are found by their files."""

    name = "nnunet"
    title = "nnU-Net raw v2"
    layout = "dataset.json with channel_names and labels, imagesTr/CASE_0000.nii.gz, labelsTr/"
    version = 2
    channel_key = "channel_names"
    unused = "no channel of a case"

    def cases(
        self,
        folder: Path,
        description: Mapping[str, Any],
        channels: int,
        problems: list[str],
        notes: list[str],
    ) -> list[Case]:
        """See `Described.cases`."""
        if isinstance(description.get("dataset"), dict):
            cases = _named_cases(folder, description["dataset"], channels, problems)
        elif "training" in description:
            cases = [
                _case(folder / image, folder / label, channels, problems)
                for image, label in listed_cases(description, problems)
            ]
        else:
            cases = _found_cases(folder, description, channels, problems, notes)
        return _with_colours(cases, channels)

    def about(self, description: Mapping[str, Any], dims: int) -> list[str]:
        """Notes on a reader of nnU-Net's that is named."""
        reader = description.get("overwrite_image_reader_writer")
        if reader is None or _READERS.get(reader) == (dims == 2):
            return []
        named = f"overwrite_image_reader_writer={reader}"
        known = f"here {dims}-D" if reader in _READERS else "which is no reader of nnU-Net"
        return [f"{named}: files are read by what their bytes are, {known}"]


class NnunetV1(NnunetV2):
    """The Decathlon's dataset.json, and one file per case and channel."""

    name = "nnunet_v1"
    title = "nnU-Net raw v1"
    layout = "dataset.json with modality, labels and training, imagesTr/CASE_0000.nii.gz, labelsTr/"
    version = 1
    channel_key = "modality"


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


def _named_cases(
    folder: Path, entries: Mapping[str, Any], channels: int, problems: list[str]
) -> list[Case]:
    """The cases of `dataset`, which names all files of each."""
    cases = []
    for name, files in entries.items():
        images = files.get("images") if isinstance(files, dict) else None
        label = files.get("label") if isinstance(files, dict) else None
        if not isinstance(images, list) or not isinstance(label, str):
            text = f"dataset: {name} needs the list `images` and the file `label`"
            problems.append(CaseFault(text, name))
            continue
        if len(images) != channels:
            text = f"dataset: {name} has {len(images)} images for {channels} channels"
            problems.append(CaseFault(text, name))
        paths = tuple(folder / str(image) for image in images)
        cases.append(Case(case_id=name, images=paths, label=folder / label))
    return cases


def _case(image: Path, label: Path, channels: int, problems: list[str]) -> Case:
    """A case of numbered files, or of one file that holds all channels."""
    numbered = tuple(channel_file(image, number) for number in range(channels))
    is_whole = image.is_file()
    if is_whole and numbered[0].is_file():
        text = (
            f"{stem_of(image)}: {image.name} and {numbered[0].name} in {image.parent.name}; which "
            "one is the image? Take the other away"
        )
        problems.append(CaseFault(text, stem_of(image)))
    images = (image,) if is_whole else numbered
    return Case(case_id=stem_of(image), images=images, label=label)


def _with_colours(cases: list[Case], channels: int) -> list[Case]:
    """Cases whose first file holds all channels, as nnU-Net has pictures in colours."""
    files = [path for case in cases for path in case.images[1:]]
    pictures = all("pictures" in kind_of(case.image) for case in cases)
    if channels == 1 or not pictures or any(path.is_file() for path in files):
        return cases
    return [replace(case, images=case.images[:1]) for case in cases]
