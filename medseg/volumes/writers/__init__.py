"""Label maps as files: every format that is written, in one registry.

A format is a module here that writes a `LabelMap`, and an entry in `FORMATS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

from medseg.volumes.dicom_files import is_dicom
from medseg.volumes.formats import describe, first_bytes
from medseg.volumes.nifti import header_file
from medseg.volumes.writers.dicom_seg import write_dicom_seg
from medseg.volumes.writers.dicom_source import fault_of_source
from medseg.volumes.writers.label_map import LabelMap
from medseg.volumes.writers.nifti import write_nifti
from medseg.volumes.writers.nrrd import write_nrrd
from medseg.volumes.writers.picture import fault_of_png, write_png
from medseg.volumes.writers.rtstruct import write_rtstruct


@dataclass(frozen=True, kw_only=True)
class LabelFormat:
    """One format of label maps.

    Attributes:
        suffixes: endings of its files; the first is given where none is asked for.
        write: writes a file whole or not at all.
        fault: why it cannot hold the labels of an image with such classes; empty where it can.
    """

    suffixes: tuple[str, ...]
    write: Callable[[Path, LabelMap], None]
    fault: Callable[[Path, Sequence[str]], str] = lambda image, classes: ""


FORMATS = {
    "nifti": LabelFormat(suffixes=(".nii.gz", ".nii"), write=write_nifti),
    "nrrd": LabelFormat(suffixes=(".seg.nrrd", ".nrrd"), write=write_nrrd),
    "dicom-seg": LabelFormat(suffixes=(".dcm",), write=write_dicom_seg, fault=fault_of_source),
    "rtstruct": LabelFormat(suffixes=(".dcm",), write=write_rtstruct, fault=fault_of_source),
    "png": LabelFormat(suffixes=(".png",), write=write_png, fault=fault_of_png),
}
"""Formats by the name that a user gives them."""

SAME = "same"
"""The format of the image, or the nearest to it that holds labels."""


def format_like(image: Path) -> str:
    """Key of the format that is nearest to an image's own.

    Raises:
        DataError: the image cannot be read.
    """
    start = b"" if isdir(image) else first_bytes(header_file(image))
    if isdir(image) or is_dicom(start):
        return "dicom-seg"
    if start.startswith(b"NRRD"):
        return "nrrd"
    return "png" if describe(image).is_picture else "nifti"


def formats_named(path: Path) -> list[str]:
    """Keys of the formats whose files end as `path` does."""
    name = path.name.lower()
    return [key for key, each in FORMATS.items() if name.endswith(each.suffixes)]


def without_suffix(path: Path) -> str:
    """The name of a file of labels without the ending of its format."""
    endings = [s for each in FORMATS.values() for s in each.suffixes]
    found = [s for s in endings if path.name.lower().endswith(s)]
    return path.name[: -len(max(found, key=len))] if found else path.name
