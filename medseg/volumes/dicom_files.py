"""DICOM files: known by their bytes, their headers read through pydicom, grouped into series."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from os.path import isfile
from pathlib import Path
from typing import Literal

import pydicom
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.errors import DataError
from medseg.volumes.container import foreign_faults, refusal, require_file

Kind = Literal["series", "seg", "rtstruct", "other"]

# a value that breaks a rule of the standard is a matter for those who use it
config.settings.reading_validation_mode = config.IGNORE

_FRONT_BYTES = 1024  # preamble and file meta information
_DEFLATED = b"1.2.840.10008.1.2.1.99"
# no preamble: the first element is of group 2 or 8, and its VR or its length is plausible
_BARE = re.compile(rb"[\x02\x08]\0[\0-\x20]\0(?:UL|UI|CS|OB|DA|LO|SH|[\x02-\x40]\0\0\0)", re.DOTALL)
_SEGMENTATIONS = {  # by the end of the SOP class: binary or fractional, and label maps
    "1.2.840.10008.5.1.4.1.1.66.4": "seg",
    "1.2.840.10008.5.1.4.1.1.66.7": "seg",
    "1.2.840.10008.5.1.4.1.1.481.3": "rtstruct",
}
_SCANNED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "Modality",
    "SeriesDescription",
    "Rows",
    "NumberOfFrames",
    "ImagePositionPatient",
)
_SECTIONS = ("CT", "MR", "PT", "NM")
_SECTION_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "4", "128", "20"))


@dataclass(frozen=True, kw_only=True)
class DicomObject:
    """An image series, segmentation or structure set found in a folder.

    Attributes:
        path: its first file, by which it is read.
        files: all of its files, by name.
        kind: what it is; "other" is neither an image nor a segmentation.
        series_uid: of its own series.
        refers_to: of a segmentation or structure set, UIDs of the series that it was drawn on.
        patient_id: as in the header; empty if it has none.
        modality: such as CT.
        description: of the series.
        names: of the segments or structures.
        problem: why it cannot be read, or None.
    """

    path: Path
    files: tuple[Path, ...]
    kind: Kind
    series_uid: str
    refers_to: tuple[str, ...]
    patient_id: str
    modality: str
    description: str
    names: tuple[str, ...]
    problem: str | None


def is_dicom(start: bytes) -> bool:
    """Whether a file that begins with `start` (132 bytes) is DICOM, with or without preamble."""
    return start[128:132] == b"DICM" or bool(_BARE.match(start))


def starts_as_dicom(path: Path) -> bool:
    """Whether a file's bytes are DICOM's; what cannot be read is not."""
    if not isfile(path):  # a pipe would wait
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def read_header(path: Path, *, pixels: bool = False, tags: Iterable[str] | None = None) -> Dataset:
    """Reads the attributes of a file.

    Args:
        path: Of the file.
        pixels: Whether with the pixels.
        tags: Only these, by keyword; None: all.

    Raises:
        DataError: it is no DICOM, damaged, or deflated as a whole.
    """
    require_file(path)
    with foreign_faults(path, "pydicom"):
        with path.open("rb") as file:
            front = file.read(_FRONT_BYTES)
        if not is_dicom(front):
            raise refusal(path, "is no DICOM file", "name a DICOM file")
        if _DEFLATED in front:  # pydicom would inflate it without a limit
            raise refusal(path, "is deflated as a whole", "convert it with `dcmconv +te`")
        names = None if tags is None else list(tags)
        dataset = pydicom.dcmread(
            path, force=True, stop_before_pixels=not pixels, specific_tags=names
        )
        if "TransferSyntaxUID" not in dataset.file_meta:  # without preamble
            is_implicit, is_little = dataset.original_encoding
            explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if is_implicit else explicit
            )
        return dataset


def kind_of(dataset: Dataset) -> Kind:
    """What an object is, by its SOP class; an image has rows."""
    found = _SEGMENTATIONS.get(str(dataset.get("SOPClassUID", "")))
    if found is not None:
        return found  # pyright: ignore[reportReturnType]
    return "series" if dataset.get("Rows") else "other"


def is_section_image(dataset: Dataset) -> bool:
    """Whether an image is a section through the body, of which one without position is no use."""
    is_class = str(dataset.get("SOPClassUID", "")) in _SECTION_CLASSES
    return is_class or dataset.get("Modality") in _SECTIONS


def scan_dicom(folder: Path, *, recursive: bool = True) -> list[DicomObject]:
    """All image series, segmentations and structure sets of a folder.

    Files of one folder with one SeriesInstanceUID are a series; multi-frame files, radiographs and
    other pictures, segmentations and structure sets are objects by file. Hidden files, and files
    that are not DICOM, are passed over.

    Raises:
        DataError: the folder cannot be read.
    """
    series: dict[tuple[Path, str], DicomObject] = {}
    found = []
    for path in _dicom_files(folder, recursive=recursive):
        try:
            scanned, is_slice = _object_of(path)
        except DataError as error:
            found.append(replace(_empty(path), problem=str(error)))
            continue
        key = (path.parent, scanned.series_uid)
        if not is_slice:
            found.append(scanned)
        elif key in series:
            series[key] = replace(series[key], files=(*series[key].files, path))
        else:
            series[key] = scanned
    return sorted([*series.values(), *found], key=lambda one: one.path)


def series_beside(path: Path, dataset: Dataset) -> tuple[Path, ...]:
    """The files of the folder of `path` that are of the same series, `path` among them."""
    uid = str(dataset.get("SeriesInstanceUID", ""))
    files = []
    for other in _dicom_files(path.parent, recursive=False):
        tags = read_header(other, tags=("SeriesInstanceUID", "SOPClassUID", "Rows"))
        if other == path or (
            kind_of(tags) == "series" and str(tags.get("SeriesInstanceUID", "")) == uid
        ):
            files.append(other)
    return tuple(files)


def series_referred_to(dataset: Dataset) -> tuple[str, ...]:
    """UIDs of the series that a segmentation or structure set was drawn on."""
    found = [item.get("SeriesInstanceUID") for item in dataset.get("ReferencedSeriesSequence", ())]
    for frame in dataset.get("ReferencedFrameOfReferenceSequence", ()):
        for study in frame.get("RTReferencedStudySequence", ()):
            for item in study.get("RTReferencedSeriesSequence", ()):
                found.append(item.get("SeriesInstanceUID"))
    return tuple(dict.fromkeys(str(uid) for uid in found if uid))


def segments(dataset: Dataset) -> list[tuple[int, str]]:
    """Number and name of each segment of a segmentation, without a background."""
    found = [
        (int(item.SegmentNumber), str(item.get("SegmentLabel") or f"segment {item.SegmentNumber}"))
        for item in dataset.get("SegmentSequence", ())
    ]
    return [(number, name) for number, name in found if number]


def segment_names(dataset: Dataset) -> tuple[str, ...]:
    """Names of the segments, or of the structures that have closed contours, as they are spelt."""
    if kind_of(dataset) == "seg":
        return tuple(name for _, name in segments(dataset))
    drawn = {
        item.get("ReferencedROINumber")
        for item in dataset.get("ROIContourSequence", ())
        if any(is_closed(contour) for contour in item.get("ContourSequence", None) or ())
    }
    rois = dataset.get("StructureSetROISequence", ())
    return tuple(str(roi.get("ROIName", "")) for roi in rois if roi.get("ROINumber") in drawn)


def is_closed(contour: Dataset) -> bool:
    """Whether a contour encloses an area; points and open lines do not."""
    return str(contour.get("ContourGeometricType", "")).startswith(
        ("CLOSED_PLANAR", "CLOSEDPLANAR")
    )


def _dicom_files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        identity = os.path.realpath(place)
        folders[:] = sorted(folders) if recursive and identity not in seen else []
        if identity in seen:
            continue
        seen.add(identity)
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and starts_as_dicom(path):
                yield path


def _empty(path: Path) -> DicomObject:
    return DicomObject(
        path=path,
        files=(path,),
        kind="other",
        series_uid="",
        refers_to=(),
        patient_id="",
        modality="",
        description="",
        names=(),
        problem=None,
    )


def _object_of(path: Path) -> tuple[DicomObject, bool]:
    """What a file holds, and whether it is one slice of a series."""
    dataset = read_header(path, tags=_SCANNED)
    kind = kind_of(dataset)
    if kind in ("seg", "rtstruct"):
        dataset = read_header(path)
    is_section = "ImagePositionPatient" in dataset or is_section_image(dataset)
    with foreign_faults(path, "pydicom"):
        is_slice = kind == "series" and is_section and int(dataset.get("NumberOfFrames") or 1) == 1
        scanned = replace(
            _empty(path),
            kind=kind,
            series_uid=str(dataset.get("SeriesInstanceUID", "")),
            patient_id=str(dataset.get("PatientID", "") or ""),
            modality=str(dataset.get("Modality", "") or ""),
            description=str(dataset.get("SeriesDescription", "") or ""),
            refers_to=() if kind in ("series", "other") else series_referred_to(dataset),
            names=() if kind in ("series", "other") else segment_names(dataset),
        )
    return scanned, is_slice
