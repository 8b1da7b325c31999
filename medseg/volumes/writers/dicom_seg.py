"""DICOM segmentations (PS3.3 A.51) of the series that was segmented, made by highdicom."""

from pathlib import Path

import numpy as np

from medseg import __version__
from medseg.errors import DataError
from medseg.files import atomic_path
from medseg.formatting import one_line
from medseg.volumes.container import refusal
from medseg.volumes.writers.dicom_source import UTF8, dicom_name, source_of
from medseg.volumes.writers.label_map import LabelMap

_SERIES_NUMBER = 900  # beyond those of scanners


def write_dicom_seg(target: Path, label_map: LabelMap) -> None:
    """Writes a binary segmentation; the number of a segment is the label value of its class.

    Every class is described, also one that was not found. Frames lie on the slices of the source;
    those without a voxel of their class are left out.

    Raises:
        DataError: the series is no longer what was read, or highdicom refuses its attributes.
        ResourceError: the folder cannot be written or the disk is full.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    path = label_map.like.path
    source = source_of(path)
    if len(source) != label_map.labels.shape[2]:
        raise DataError(f"{path}: its slices changed while they were segmented; run it again")
    first = source[0][1]
    algorithm = hd.AlgorithmIdentificationSequence(
        name="medseg", family=codes.DCM.ArtificialIntelligence, version=__version__
    )
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=dicom_name(name),
            segmented_property_category=codes.SCT.Tissue,  # what a class is, its name alone says
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*colour),
        )
        for number, (name, colour) in enumerate(
            zip(label_map.classes, label_map.colours, strict=True), start=1
        )
    ]
    slices = np.moveaxis(label_map.labels, (0, 1, 2), (2, 1, 0))  # (slices, rows, columns)
    if int(first.get("NumberOfFrames", 1) or 1) > 1:
        images, frames = [first], np.zeros((int(first.NumberOfFrames), *slices.shape[1:]))
        frames = frames.astype(slices.dtype)
        frames[[one.frame for one, _ in source]] = slices
    else:
        images, frames = [header for _, header in source], slices
    try:
        made = hd.seg.Segmentation(
            source_images=images,
            pixel_array=np.ascontiguousarray(frames),
            segmentation_type="BINARY",
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="medseg",
            manufacturer_model_name="medseg",
            software_versions=__version__,
            device_serial_number="none",
            series_description="medseg",
            specific_character_set=UTF8,
        )
    except Exception as error:  # of attributes that break a rule, in many classes
        fault = f"highdicom cannot refer to it ({one_line(str(error))})"
        raise refusal(path, fault, "choose nifti, nrrd or rtstruct") from error
    with atomic_path(target) as part:
        made.save_as(part)
