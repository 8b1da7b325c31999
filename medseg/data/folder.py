"""Folders in Decathlon form, or in nnU-Net's, read where they lie.

    folder/dataset.json    names, label values and the list of cases
    folder/imagesTr/       one NIfTI file per case, several modalities along the fourth axis
    folder/labelsTr/       one NIfTI file per case, values 0 (background), 1, 2, ...

nnU-Net's dataset.json has `channel_names` for `modality`, maps names to label values, and lists no
cases: the image of labelsTr/CASE is imagesTr/CASE_0000. In both forms a label value may be called
"ignore": its voxels neither train nor count.

References: Antonelli et al. 2022, The Medical Segmentation Decathlon,
doi 10.1038/s41467-022-30695-9; Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medseg.errors import ConfigError, DataError
from medseg.volumes import IGNORE, case_id, checked_label_values

DESCRIPTION = "dataset.json"
_SHOWN = 20
_REMEDY = "correct the folder or dataset.json (data/README.md has an example) and start again"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One patient's image and its label map, as files."""

    case_id: str
    image: Path
    label: Path


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder's description; no voxel of it has been read.

    Attributes:
        name: as in dataset.json, else the folder's name.
        folder: holds dataset.json.
        modalities: one name per image channel, in channel order.
        classes: one name per foreground class; `classes[0]` has label value 1.
        cases: in the order of dataset.json.
        label_values: label value of the files → class, or "ignore"; other values are classes as
            they are; None: all are.
        licence: as in dataset.json, else empty.
        reference: where the data come from, as in dataset.json, else empty.
    """

    name: str
    folder: Path
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
    label_values: Mapping[int, int | str] | None
    licence: str
    reference: str

    @property
    def in_channels(self) -> int:
        """Image channels: the number of modalities."""
        return len(self.modalities)

    @property
    def num_classes(self) -> int:
        """Classes with the background."""
        return len(self.classes) + 1


def read_dataset(folder: Path | str, label_values: Mapping[Any, Any] | None = None) -> Dataset:
    """Reads `folder`'s dataset.json and finds every file that it names.

    Args:
        folder: In Decathlon form or in nnU-Net's.
        label_values: `data.labels` of the configuration: label value of the files → class, or
            "ignore". A class bears the names of the values that become it.

    Raises:
        DataError: lists all that is wrong, not only the first.
        ConfigError: `label_values` is something else.
    """
    folder = Path(folder).expanduser()
    description = _read_description(folder / DESCRIPTION)
    problems: list[str] = []
    channels = "channel_names" if _is_nnunet(description) else "modality"
    modalities = _in_order(_numbered(description, channels, problems), channels, problems)
    classes, values = _classes(_named_values(description, problems), label_values, problems)
    if _is_nnunet(description) and "training" not in description:
        entries: Any = _nnunet_entries(folder, description)
    else:
        entries = description.get("training")
    cases = _cases(folder, entries, len(modalities), problems)
    if problems:
        raise DataError(*_listed(folder, problems))
    _mention_unlisted(folder, cases)
    return Dataset(
        name=str(description.get("name") or folder.name),
        folder=folder,
        modalities=modalities,
        classes=classes,
        cases=cases,
        label_values=values,
        licence=str(description.get("licence") or description.get("license") or ""),
        reference=str(description.get("reference") or "").strip(),
    )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; every dataset needs one: {_REMEDY}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable JSON ({error}); {_REMEDY}") from error
    if not isinstance(description, dict):
        raise DataError(f"{path} holds no JSON object; {_REMEDY}")
    return description


def _is_nnunet(description: Mapping[str, Any]) -> bool:
    return "channel_names" in description


def _numbered(description: Mapping[str, Any], key: str, problems: list[str]) -> dict[int, str]:
    """Name by number from a mapping such as {"1": "Anterior", "0": "background"}."""
    mapping = description.get(key)
    if not isinstance(mapping, dict) or not mapping:
        problems.append(f'{key}: missing; it must map numbers to names, as in {{"0": "..."}}')
        return {}
    try:
        return {int(number): str(name) for number, name in mapping.items()}
    except ValueError:
        problems.append(f"{key}: {list(mapping)} must be whole numbers")
        return {}


def _named_values(description: Mapping[str, Any], problems: list[str]) -> dict[int, str]:
    """Name by label value; nnU-Net maps names to values."""
    labels = description.get("labels")
    if not isinstance(labels, dict):
        return _numbered(description, "labels", problems)
    values = list(labels.values())
    if any(isinstance(value, list) for value in values):
        problems.append("labels: classes of several values (regions) are not read; name each value")
        return {}
    if values and all(type(value) is int for value in values):
        if repeated := _repeated(values):
            problems.append(f"labels: value {repeated[0]} has several names")
        return {value: str(name) for name, value in labels.items()}
    return _numbered(description, "labels", problems)


def _in_order(by_number: Mapping[int, str], key: str, problems: list[str]) -> tuple[str, ...]:
    if sorted(by_number) != list(range(len(by_number))):
        problems.append(f"{key}: {sorted(by_number)} must be consecutive from 0")
        return ()
    names = tuple(by_number[number] for number in range(len(by_number)))
    problems += [f"{key}: '{name}' is named several times" for name in _repeated(names)]
    return names


def _classes(
    names: Mapping[int, str], label_values: Mapping[Any, Any] | None, problems: list[str]
) -> tuple[tuple[str, ...], Mapping[int, int | str] | None]:
    """Names of the foreground classes, and what label values become."""
    if not names:
        return (), None
    if label_values is None:
        values: dict[int, int | str] = {v: IGNORE for v, n in names.items() if _is_ignore(n)}
    else:
        try:
            values = checked_label_values(label_values)
        except ValueError as error:
            raise ConfigError(f"data.{error}") from error
        problems += [
            f"labels: value {value} is called {name!r}; say data.labels={{{value}: {IGNORE}}} too"
            for value, name in names.items()
            if _is_ignore(name) and value not in values
        ]
    merged: dict[int, list[str]] = {}
    for value, name in names.items():
        to = values.get(value, value)
        if not isinstance(to, str):
            merged.setdefault(to, []).append(name)
    if sorted(merged) != list(range(len(merged))) and label_values is None and 0 in merged:
        listed = [f"{v}: {to}" for to, v in enumerate(sorted(merged)) if v != to]
        wanted = ", ".join([*listed, *(f"{value}: {IGNORE}" for value in values)])
        problems.append(
            f"labels: {sorted(merged)} must be consecutive from 0; with data.labels={{{wanted}}} "
            "they are"
        )
        return (), None
    classes = _in_order({to: "+".join(merged[to]) for to in merged}, "labels", problems)
    if len(classes) == 1:
        problems.append("labels: no class besides the background")
    problems += [
        f"labels: value {value} is called 'background', which is value 0"
        for value, name in enumerate(classes)
        if value > 0 and name.casefold() == "background"
    ]
    problems += [
        f"labels: data.labels makes {value} to {to}, and the classes are 0 to {len(classes) - 1}"
        for value, to in values.items()
        if isinstance(to, int) and classes and to >= len(classes)
    ]
    return classes[1:], values or None


def _is_ignore(name: str) -> bool:
    return name.strip().casefold() == IGNORE


def _repeated(items: Iterable[Any]) -> list[Any]:
    return [item for item, count in Counter(items).items() if count > 1]


def _nnunet_entries(folder: Path, description: Mapping[str, Any]) -> list[dict[str, str]]:
    """The cases of nnU-Net's form as entries of Decathlon form: every label and its image."""
    ending = str(description.get("file_ending") or ".nii.gz")
    labels = folder / "labelsTr"
    names = sorted(p.name for p in labels.iterdir()) if labels.is_dir() else []
    return [
        {"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"}
        for name in names
        if name.endswith(ending) and not name.startswith(".")
    ]


def _cases(folder: Path, entries: Any, channels: int, problems: list[str]) -> tuple[Case, ...]:
    if not isinstance(entries, list):
        problems.append("training: missing; it must list the cases")
        return ()
    cases = []
    for number, entry in enumerate(entries):
        files = entry if isinstance(entry, dict) else {"image": entry}
        image, label = files.get("image"), files.get("label")
        if isinstance(image, str) and PurePosixPath(image).name.startswith("._"):
            continue  # macOS puts such a companion beside every file of an archive
        if not isinstance(image, str) or not isinstance(label, str):
            lacking = "label" if isinstance(image, str) else "image"
            problems.append(f"training[{number}]: {image or label or entry} has no {lacking}")
            continue
        found = _image_file(folder / image, channels, problems)
        cases.append(Case(case_id=case_id(Path(image)), image=found, label=folder / label))
        named = ((image, found), (label, folder / label))
        problems += [f"{name}: no such file" for name, file in named if not file.is_file()]
    if not entries:
        problems.append("training: the list is empty")
    problems += [
        f"{name}: {count} cases have this id"
        for name, count in Counter(case.case_id for case in cases).items()
        if count > 1
    ]
    return tuple(cases)


def _image_file(image: Path, channels: int, problems: list[str]) -> Path:
    """The image as listed, or as nnU-Net names it, with the number of its channel."""
    stem = case_id(image)
    numbered = image.with_name(f"{stem}_0000{image.name.removeprefix(stem)}")
    if image.is_file() or not numbered.is_file():
        return image
    if channels > 1:
        problems.append(
            f"{numbered.name}: nnU-Net's files of one channel each are not read where there are "
            "several; stack the channels of a case along the fourth axis of one file"
        )
    return numbered


def _mention_unlisted(folder: Path, cases: tuple[Case, ...]) -> None:
    listed = {case.image.name for case in cases}
    images = folder / "imagesTr"
    present = {p.name for p in images.glob("*.nii*")} if images.is_dir() else set()
    unused = sorted(name for name in present - listed if not name.startswith("."))
    if unused:
        _logger.warning(
            "%s: %d images are not listed in dataset.json and are not used, first %s",
            images, len(unused), unused[0],
        )  # fmt: skip


def _listed(folder: Path, problems: list[str]) -> list[str]:
    lines = [f"{folder}: {len(problems)} faults in the dataset; {_REMEDY}", *problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN} more")
    return lines


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Any folder in Decathlon form or in nnU-Net's, read where it lies.

    Attributes:
        root: holds dataset.json.
    """

    root: Path | str

    def prepare(self, *, may_write: bool = True) -> Path:
        """The folder itself; nothing is written to it.

        Raises:
            DataError: it holds no dataset.json.
        """
        root = Path(self.root).expanduser()
        if not (root / DESCRIPTION).is_file():
            raise DataError(
                f"data.root={root} holds no {DESCRIPTION}; name a folder in Decathlon form "
                "(data/README.md shows one)"
            )
        return root
