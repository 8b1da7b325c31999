"""The DICOM series that a result refers to: its slices, patient and study."""

from collections.abc import Sequence
from os.path import isdir
from pathlib import Path

from pydicom.dataset import Dataset

from medseg.volumes.dicom import files_of_series, placed_slices
from medseg.volumes.dicom_files import read_header, starts_as_dicom
from medseg.volumes.dicom_slices import Slice

UTF8 = "ISO_IR 192"
_NAME_CHARACTERS = 64  # of the value representation LO
_MAY_BE_EMPTY = (  # of patient and study; a result has them, with or without a value
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
PATIENT_AND_STUDY = (*_MAY_BE_EMPTY, "StudyInstanceUID", "StudyDescription")
_MUST_BE_THERE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def fault_of_source(image: Path, classes: Sequence[str]) -> str:
    """Why no DICOM object can refer to an image; empty where it can.

    Raises:
        DataError: the image cannot be read.
    """
    if not (isdir(image) or starts_as_dicom(image)):
        return "it must refer to a DICOM series, and this image is none"
    header = read_header(files_of_series(image)[0] if isdir(image) else image)
    lacking = [keyword for keyword in _MUST_BE_THERE if not header.get(keyword)]
    return f"it must refer to the series by {lacking[0]}, which is missing" if lacking else ""


def source_of(image: Path) -> list[tuple[Slice, Dataset]]:
    """The slices of a series in the order of its voxels, each with the header of its file.

    Raises:
        DataError: as of `read_dicom`.
    """
    slices = placed_slices(image)
    headers = {path: _header(path) for path in dict.fromkeys(one.path for one in slices)}
    return [(one, headers[one.path]) for one in slices]


def dicom_name(name: str) -> str:
    """A name as a segment's label or a structure's: at most 64 characters, no backslash."""
    return name.replace("\\", "/")[:_NAME_CHARACTERS]


def _header(path: Path) -> Dataset:
    header = read_header(path)
    for keyword in _MAY_BE_EMPTY:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    return header
