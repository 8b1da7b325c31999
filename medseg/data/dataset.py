"""What a folder in Decathlon form holds: its classes, its modalities, its cases.

    folder/dataset.json    names, label values and the list of cases
    folder/imagesTr/       one NIfTI file per case, several modalities along the fourth axis
    folder/labelsTr/       one NIfTI file per case, values 0 (background), 1, 2, ...

Reference: Antonelli et al. 2022, The Medical Segmentation Decathlon,
doi 10.1038/s41467-022-30695-9.
"""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medseg.errors import DataError

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
        licence: as in dataset.json, else empty.
        reference: where the data come from, as in dataset.json, else empty.
    """

    name: str
    folder: Path
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
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


def read_dataset(folder: Path | str) -> Dataset:
    """Reads `folder`'s dataset.json and finds every file that it names.

    Raises:
        DataError: lists all that is wrong, not only the first.
    """
    folder = Path(folder).expanduser()
    description = _read_description(folder / DESCRIPTION)
    problems: list[str] = []
    modalities = _names(description, "modality", problems)
    labels = _names(description, "labels", problems)
    if labels and len(labels) < 2:
        problems.append("labels: no class besides the background")
    problems += [
        f"labels: value {value} is called 'background', which is value 0"
        for value, label in enumerate(labels)
        if value > 0 and label.casefold() == "background"
    ]
    cases = _cases(folder, description, problems)
    if problems:
        raise DataError(_listed(folder, problems))
    _mention_unlisted(folder, cases)
    return Dataset(
        name=str(description.get("name") or folder.name),
        folder=folder,
        modalities=modalities,
        classes=labels[1:],
        cases=cases,
        licence=str(description.get("licence") or description.get("license") or ""),
        reference=str(description.get("reference") or "").strip(),
    )


def case_id_of(file: str | Path) -> str:
    """The file's name without folder and without .nii, .nii.gz or the like."""
    return PurePosixPath(PurePosixPath(file).name.removesuffix(".gz")).stem


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


def _names(description: dict[str, Any], key: str, problems: list[str]) -> tuple[str, ...]:
    """Names by number from a mapping such as {"1": "Anterior", "0": "background"}."""
    mapping = description.get(key)
    if not isinstance(mapping, dict) or not mapping:
        problems.append(f'{key}: missing; it must map numbers to names, as in {{"0": "..."}}')
        return ()
    try:
        by_number = {int(number): str(name) for number, name in mapping.items()}
    except ValueError:
        problems.append(f"{key}: {list(mapping)} must be whole numbers")
        return ()
    if sorted(by_number) != list(range(len(mapping))):
        problems.append(f"{key}: {sorted(by_number)} must be consecutive from 0")
        return ()
    names = tuple(by_number[number] for number in range(len(by_number)))
    problems += [f"{key}: '{n}' is named {k} times" for n, k in Counter(names).items() if k > 1]
    return names


def _cases(folder: Path, description: dict[str, Any], problems: list[str]) -> tuple[Case, ...]:
    entries = description.get("training")
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
        cases.append(Case(case_id=case_id_of(image), image=folder / image, label=folder / label))
        problems += [
            f"{file}: no such file" for file in (image, label) if not (folder / file).is_file()
        ]
    if not entries:
        problems.append("training: the list is empty")
    seen = Counter(case.case_id for case in cases)
    problems += [f"{name}: {count} cases have this id" for name, count in seen.items() if count > 1]
    return tuple(cases)


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


def _listed(folder: Path, problems: list[str]) -> str:
    lines = [f"{folder}: {len(problems)} faults in the dataset; {_REMEDY}", *problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN} more")
    return "\n  ".join(lines)
