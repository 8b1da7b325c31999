"""RT structure sets (DICOM PS3.3 A.19): a closed contour around each part of a class on a slice."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy import ndimage

from medseg import __version__
from medseg.errors import DataError
from medseg.files import atomic_path
from medseg.volumes.container import foreign_faults
from medseg.volumes.dicom_slices import Slice, plane
from medseg.volumes.writers.contours import outlines
from medseg.volumes.writers.dicom_source import PATIENT_AND_STUDY, UTF8, dicom_name, source_of
from medseg.volumes.writers.label_map import LabelMap

_SERIES_NUMBER = 901  # beyond those of scanners
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # retired, and still what the standard asks for here


def write_rtstruct(target: Path, label_map: LabelMap) -> None:
    """Writes a structure of each class, its number the label value; holes are keyholes.

    Contours lie in the slices of the source, in mm (left, posterior, superior). A class that was
    not found is a structure without contours.

    Raises:
        DataError: the series is no longer what was read.
        ResourceError: the folder cannot be written or the disk is full.
    """
    path = label_map.like.path
    source = source_of(path)
    if len(source) != label_map.labels.shape[2]:
        raise DataError(f"{path}: its slices changed while they were segmented; run it again")
    with foreign_faults(path, "pydicom"):
        made = _structure_set(source)
        boxes = ndimage.find_objects(label_map.labels, len(label_map.classes))
        for number, (name, colour, box) in enumerate(
            zip(label_map.classes, label_map.colours, boxes, strict=True), start=1
        ):
            _add(made, number, dicom_name(name), colour)
            if box:
                contours = _contours(label_map.labels, number, box, source)
                made.ROIContourSequence[-1].ContourSequence = contours
        with atomic_path(target) as part:
            dcmwrite(part, made, enforce_file_format=True)


def _item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def _structure_set(source: list[tuple[Slice, Dataset]]) -> Dataset:
    """Patient, study, references and equipment; no structures yet."""
    first, now = source[0][1], datetime.now()
    made = _item(SpecificCharacterSet=UTF8)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword in PATIENT_AND_STUDY:
        if keyword in first:
            setattr(made, keyword, first.get(keyword))
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    made.SeriesNumber, made.InstanceNumber, made.OperatorsName = _SERIES_NUMBER, 1, ""
    made.SeriesDescription = made.StructureSetLabel = "medseg"
    made.Manufacturer = made.ManufacturerModelName = "medseg"
    made.SoftwareVersions, made.ApprovalStatus = __version__, "UNAPPROVED"
    made.StructureSetDate, made.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    made.FrameOfReferenceUID = first.FrameOfReferenceUID
    made.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    series = _item(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[_reference(*each) for each in source],
    )
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    frame = _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    made.RTROIObservationsSequence = []
    return made


def _reference(one: Slice, header: Dataset) -> Dataset:
    made = _item(
        ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID
    )
    if int(header.get("NumberOfFrames", 1) or 1) > 1:
        made.ReferencedFrameNumber = one.frame + 1
    return made


def _add(made: Dataset, number: int, name: str, colour: tuple[int, int, int]) -> None:
    """Adds a structure without contours."""
    made.StructureSetROISequence.append(
        _item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=made.FrameOfReferenceUID,
            ROIName=name,
            ROIGenerationAlgorithm="AUTOMATIC",
        )
    )
    made.ROIContourSequence.append(_item(ROIDisplayColor=list(colour), ReferencedROINumber=number))
    made.RTROIObservationsSequence.append(
        _item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            RTROIInterpretedType="",
            ROIInterpreter="",
        )
    )


def _contours(
    labels: np.ndarray, value: int, box: tuple[slice, ...], source: list[tuple[Slice, Dataset]]
) -> list[Dataset]:
    """Contours of a class, which lies within `box`."""
    made, (columns, rows, slices) = [], box
    for k in range(slices.start, slices.stop):
        one, header = source[k]
        to_mm = plane(one, np.zeros(3))
        for polygon in outlines(labels[columns, rows, k] == value):
            corner = np.array([columns.start, rows.start])
            indices = np.insert(polygon + corner, 2, [[0], [1]], axis=1)  # (column, row, 0, 1)
            made.append(
                _item(
                    ContourImageSequence=[_reference(one, header)],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(polygon),
                    ContourData=[f"{mm:.10g}" for mm in (indices @ to_mm.T)[:, :3].ravel()],
                )
            )
    return made
