"""Datasets that medseg builds itself: folders that are whole or absent, in Decathlon form."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import nibabel as nib
from filelock import FileLock
from isal import igzip

from medseg.data.forms.description import DESCRIPTION
from medseg.errors import DataError
from medseg.files import require_writable, write_bytes, write_text
from medseg.labelling import Labelling
from medseg.volumes import IGNORE

_STAMP = ".complete"

_logger = logging.getLogger(__name__)


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
    regions: Labelling | None = None,
    patients: Mapping[str, str | None] = MappingProxyType({}),
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
        regions: what overlaps of these label values, in the place of their names.
        case_ids: in the order they shall be listed.
        patients: whose the cases are, where that is known.
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
            {part: f"./{part}sTr/{case_id}.nii.gz" for part in ("image", "label")}
            | ({"patient": patients[case_id]} if patients.get(case_id) else {})
            for case_id in case_ids
        ],
        "test": [],
    }
    if regions is not None:
        own = {name: list(regions.members(n)) for n, name in enumerate(regions.names)}
        ignored = {IGNORE: regions.ignored} if IGNORE in classes else {}
        content["labels"] = {"background": 0} | own | ignored
        content["regions_class_order"] = list(regions.order)
    write_text(folder / DESCRIPTION, json.dumps(content, indent=1) + "\n")


def _numbered(names: Sequence[str]) -> Mapping[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _stamp(folder: Path) -> str | None:
    path = folder / _STAMP
    return path.read_text() if path.is_file() else None
