"""DICOM series, segmentations and structure sets as pydicom and highdicom write them."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

SPACING = (2.0, 0.5, 0.8)  # between slices, rows, columns
_WHO = ("PatientBirthDate", "PatientSex", "ReferringPhysicianName")
_WHEN = ("AccessionNumber", "StudyDate", "StudyTime")
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ct_series(
    voxels: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.0, 10.0, 30.0),
    spacing: Sequence[float] = SPACING,
    description: str = "thin",
) -> list[Dataset]:
    """A CT series; `voxels` are stored pixels (slices, rows, columns), value = pixel - 1024."""
    series, frame, study = generate_uid(), generate_uid(), generate_uid()
    row, column = np.reshape(orientation, (2, 3))
    slices = []
    for index, pixels in enumerate(voxels):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.FrameOfReferenceUID = frame
        one.Modality, one.PatientID, one.PatientName = "CT", "p1", "A^B"
        one.StudyID, one.SeriesNumber, one.InstanceNumber = "1", 1, 99 - index
        one.SeriesDescription = description
        for empty in (*_WHO, *_WHEN, "Manufacturer", "Laterality", "PositionReferenceIndicator"):
            setattr(one, empty, "")
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.Rows, one.Columns = pixels.shape
        one.PixelSpacing, one.SliceThickness = list(spacing[1:]), spacing[0]
        one.ImageOrientationPatient = list(orientation)
        place = np.array(origin) + index * spacing[0] * np.cross(row, column)
        one.ImagePositionPatient = [float(f"{value:.10g}") for value in place]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelRepresentation = 0
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelData = pixels.astype("<u2").tobytes()
        slices.append(one)
    return slices


def enhanced(images: Sequence[Dataset], shuffled: Sequence[int]) -> Dataset:
    """The series as one multi-frame file, whose frames say where they lie."""
    made = deepcopy(images[0])
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    made.NumberOfFrames = len(images)
    made.PixelData = b"".join(images[index].PixelData for index in shuffled)
    frames = []
    for index in shuffled:
        place, groups = Dataset(), Dataset()
        place.ImagePositionPatient = images[index].ImagePositionPatient
        groups.PlanePositionSequence = Items([place])
        frames.append(groups)
    direction, measures, scaling, shared = Dataset(), Dataset(), Dataset(), Dataset()
    direction.ImageOrientationPatient = made.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = made.PixelSpacing, made.SliceThickness
    scaling.RescaleSlope, scaling.RescaleIntercept = 1, -1024
    shared.PlaneOrientationSequence = Items([direction])
    shared.PixelMeasuresSequence = Items([measures])
    shared.PixelValueTransformationSequence = Items([scaling])
    for keyword in ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]:
        delattr(made, keyword)
    del made.RescaleSlope, made.RescaleIntercept
    made.SharedFunctionalGroupsSequence = Items([shared])
    made.PerFrameFunctionalGroupsSequence = Items(frames)
    return made


def save(datasets: Sequence[Dataset], folder: Path, *, ending: str = "") -> list[Path]:
    """Saves each under a name whose order is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(len(datasets)).permutation(len(datasets))
    paths = [folder / f"IM{number:03d}{ending}" for number in order]
    for one, path in zip(datasets, paths, strict=True):
        pydicom.dcmwrite(path, one, enforce_file_format=True)
    return paths


def segmentation(
    images: Sequence[Dataset], masks: dict[str, np.ndarray], kind: str = "BINARY", **options: Any
) -> Dataset:
    """A SEG of masks (slices, rows, columns) by name, as highdicom makes it of the images."""
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(masks, 1)
    ]
    return hd.seg.Segmentation(
        source_images=list(images),
        pixel_array=np.stack(list(masks.values()), -1),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def structure_set(
    images: Sequence[Dataset],
    structures: Sequence[tuple[str, str, list[np.ndarray]]],
) -> Dataset:
    """An RTSTRUCT of (name, type of contour, contours (points, 3) in mm) on the images' series."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID, made.Modality, made.PatientID = generate_uid(), "RTSTRUCT", "p1"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, kind, contours) in enumerate(structures, 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.10g}" for value in points.ravel()]
            drawn.ContourSequence.append(contour)
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(drawn)
    return made
