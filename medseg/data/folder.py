"""Folders in Decathlon form, read and written.

    folder/dataset.json    names, label values and the list of cases
    folder/imagesTr/       one NIfTI file per case, several modalities along the fourth axis
    folder/labelsTr/       one NIfTI file per case, values 0 (background), 1, 2, ...

Reference: Antonelli et al. 2022, The Medical Segmentation Decathlon,
doi 10.1038/s41467-022-30695-9.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
from filelock import FileLock
from isal import igzip

from medseg.errors import DataError
from medseg.files import require_writable, write_bytes, write_text
from medseg.volumes import case_id

DESCRIPTION = "dataset.json"
_STAMP = ".complete"
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
        cases.append(Case(case_id=case_id(Path(image)), image=folder / image, label=folder / label))
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


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Any folder in Decathlon form, read where it lies.

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


def build_folder(
    target: Path, *, stamp: str, build: Callable[[Path], None], may_write: bool = True
) -> Path:
    """`target` as `build` makes it: whole or absent, and built once.

    `build` fills a hidden sibling, which is renamed when it is done; so a killed process leaves
    no half dataset under the final name, and its remains are swept by the next one. Processes
    that want the same folder at the same time wait for the first.

    Args:
        target: the folder that is wanted.
        stamp: names the rule by which it was built; another stamp has it built again.
        build: fills the empty folder it is given.
        may_write: whether a folder that is not there may be made.

    Raises:
        DataError: something that medseg did not build is in the way, or nothing may be written.
        ResourceError: the place cannot be written.
    """
    if _stamp(target) == stamp:
        return target
    if not may_write:
        raise DataError(
            f"{target} does not hold the dataset and is not built here; "
            "name the folder that receives it with data.root=FOLDER"
        )
    require_writable(target.parent)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if _stamp(target) == stamp:
            return target  # another process was faster
        outdated = _stamp(target) is not None
        if not outdated and target.exists() and (target.is_file() or any(target.iterdir())):
            raise DataError(
                f"{target} is in the way: it is not empty and medseg did not complete it, as after "
                "an interrupted extraction; move it away and start again"
            )
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            build(part)
            write_text(part / _STAMP, stamp)
            if outdated:
                _logger.info("%s was built by another rule; it is replaced", target)
                shutil.rmtree(target)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def write_case(
    folder: Path, case_id: str, *, image: nib.Nifti1Image, label: nib.Nifti1Image
) -> None:
    """Writes one case of a folder in Decathlon form; the same voxels give the same bytes."""
    for part, volume in (("imagesTr", image), ("labelsTr", label)):
        path = folder / part / f"{case_id}.nii.gz"
        write_bytes(path, igzip.compress(volume.to_bytes(), 2, mtime=0))


def write_description(
    folder: Path,
    *,
    name: str,
    description: str,
    reference: str,
    licence: str,
    modalities: Sequence[str],
    classes: Sequence[str],
    case_ids: Sequence[str],
) -> None:
    """Writes `folder`'s dataset.json for cases that `write_case` wrote.

    Args:
        folder: in Decathlon form.
        name: of the dataset.
        description: what it shows.
        reference: where it comes from.
        licence: under which it may be used.
        modalities: one name per channel.
        classes: foreground names by label value from 1.
        case_ids: in the order they shall be listed.
    """
    content = {
        "name": name,
        "description": description,
        "reference": reference,
        "licence": licence,
        "tensorImageSize": "4D" if len(modalities) > 1 else "3D",
        "modality": _numbered(modalities),
        "labels": _numbered(["background", *classes]),
        "numTraining": len(case_ids),
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{case_id}.nii.gz", "label": f"./labelsTr/{case_id}.nii.gz"}
            for case_id in case_ids
        ],
        "test": [],
    }
    write_text(folder / DESCRIPTION, json.dumps(content, indent=1) + "\n")


def _numbered(names: Sequence[str]) -> Mapping[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _stamp(folder: Path) -> str | None:
    path = folder / _STAMP
    return path.read_text() if path.is_file() else None
