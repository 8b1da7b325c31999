"""Volumes: files of every kind in and out, geometry decided once, pictures of slices.

`read_image` and `read_labels` return a `Volume` whose every byte was verified and whose place in
the patient is settled, or refuse with one line that names the file, the fault and the remedy.
`to_ras` and `from_ras` turn arrays to the common orientation and back without interpolation,
`write_labels` and `write_probabilities` put results on the grid of the volume they came from as
NIfTI, `writers` in every other format.
"""

from medseg.volumes.box import Box
from medseg.volumes.colours import OKABE_ITO, class_colours
from medseg.volumes.container import Doubt
from medseg.volumes.dicom_files import DicomObject, scan_dicom
from medseg.volumes.finder import Found, case_id, files_of, find_volumes, sharing_a_case
from medseg.volumes.formats import Described, describe
from medseg.volumes.geometry import Form, Geometry, decide_geometry, from_ras, ras_affine, to_ras
from medseg.volumes.label_reader import label_keys, read_labels
from medseg.volumes.labels import IGNORE, checked_label_values
from medseg.volumes.likeness import range_of
from medseg.volumes.overlay import (
    best_slice,
    draw_planes,
    draw_slice,
    picture_of_case,
    side_by_side,
    to_png,
)
from medseg.volumes.reader import Volume, on_grid_of, read_image
from medseg.volumes.writers.nifti import write_labels, write_map, write_probabilities

__all__ = [
    "IGNORE",
    "OKABE_ITO",
    "Box",
    "Described",
    "DicomObject",
    "Doubt",
    "Form",
    "Found",
    "Geometry",
    "Volume",
    "best_slice",
    "case_id",
    "checked_label_values",
    "class_colours",
    "decide_geometry",
    "describe",
    "draw_planes",
    "draw_slice",
    "files_of",
    "find_volumes",
    "from_ras",
    "label_keys",
    "on_grid_of",
    "picture_of_case",
    "range_of",
    "ras_affine",
    "read_image",
    "read_labels",
    "scan_dicom",
    "sharing_a_case",
    "side_by_side",
    "to_png",
    "to_ras",
    "write_labels",
    "write_map",
    "write_probabilities",
]
