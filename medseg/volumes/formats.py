"""Which reader a file needs: decided by its first bytes, never by its name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

import numpy as np

from medseg.volumes.container import Stored, foreign_faults, open_content, refusal
from medseg.volumes.dicom import files_of_series, read_dicom
from medseg.volumes.dicom_files import is_dicom, read_header
from medseg.volumes.dicom_slices import is_projection, slices_of
from medseg.volumes.itk import metaimage_shape, nrrd_shape, read_metaimage, read_nrrd
from medseg.volumes.nifti import header_file, nifti_shape, read_nifti
from medseg.volumes.picture import is_picture, picture_shape, read_picture
from medseg.volumes.tiff import is_tiff, read_tiff, tiff_shape

_SNIFFED_BYTES = 132  # up to the signature of DICOM
_PICTURE = "save the scan as NIfTI, NRRD or MetaImage, which state the size of its voxels"
_OTHER_FORMATS = {  # signature → name, remedy
    b"\x93NUMPY": ("a NumPy array", _PICTURE),
    b"%PDF": ("a PDF document", _PICTURE),
    b"\x89HDF": ("an HDF5 file, such as MINC", "convert it to NIfTI, for MINC with mnc2nii"),
    b"CDF": ("a NetCDF file, such as MINC", "convert it to NIfTI, for MINC with mnc2nii"),
    b"\0\0\0\1": ("an MGH file of FreeSurfer", "convert it to NIfTI with mri_convert"),
    b"PK\3\4": ("a zip archive", "unpack it"),
}


@dataclass(frozen=True)
class Described:
    """An image by its header.

    Attributes:
        channels: number of them; the palette of a picture counts as its colours.
        shape: voxels (i, j, k); of a DICOM series, k files or frames, whatever they turn out to be.
        is_picture: whether it is a single picture rather than a volume.
    """

    channels: int
    shape: tuple[int, int, int]
    is_picture: bool


_Shape = Callable[[Path], tuple[int, ...]]
_FORMATS: list[tuple[Callable[[bytes], object], Callable[[Path], Stored], _Shape]] = [
    (is_picture, read_picture, picture_shape),
    (is_tiff, read_tiff, tiff_shape),
    (lambda start: start.startswith(b"NRRD"), read_nrrd, nrrd_shape),
    (re.compile(rb"\s*(ObjectType|ObjectSubType|NDims|Comment)\s*=").match,
     read_metaimage, metaimage_shape),
]  # fmt: skip
"""Whether a file that begins so is of a format, its reader, and what states its shape."""


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file, decompressed: enough to tell its format.

    Raises:
        DataError: the file cannot be read.
    """
    with open_content(path) as content:
        return content.read(_SNIFFED_BYTES)


def read_stored(path: Path) -> Stored:
    """Reads an image of any format, its values not yet scaled or checked.

    Raises:
        DataError: the file is damaged, incomplete, or no image.
    """
    start = _start(path)
    return read_dicom(path) if is_dicom(start) else _format_of(path, start)[0](path)


def describe(path: Path) -> Described:
    """Reads the header of an image; `path` as for `read_image`.

    Raises:
        DataError: it cannot be read.
    """
    path = Path(path)
    start = _start(path)
    if is_dicom(start):
        return _described_dicom(path)
    _, shape_of = _format_of(path, start)
    shape = shape_of(path)
    i, j, k = (*shape, 1, 1)[:3]
    is_flat = k == 1 and shape_of in (picture_shape, tiff_shape)
    return Described(int(np.prod(shape[3:])), (i, j, k), is_flat)


def _start(path: Path) -> bytes:
    """The first bytes; of a folder, which can only hold a series, those of DICOM."""
    return bytes(128) + b"DICM" if isdir(path) else first_bytes(header_file(path))


def _format_of(path: Path, start: bytes) -> tuple[Callable[[Path], Stored], _Shape]:
    """Reader, and what states the shape; NIfTI where nothing else is recognised.

    Raises:
        DataError: it begins like a format that is not read.
    """
    for recognises, read, shape in _FORMATS:
        if recognises(start):
            return read, shape
    for signature, (name, remedy) in _OTHER_FORMATS.items():
        if start.startswith(signature):
            raise refusal(path, f"is {name}", remedy)
    return read_nifti, nifti_shape


def _described_dicom(path: Path) -> Described:
    files = files_of_series(path)
    with foreign_faults(path, "pydicom"):
        header = read_header(files[0])
        slices = slices_of(files[0], header)
        rows, columns = slices[0].shape
        shape = (columns, rows, len(slices) * len(files))
        channels = int(header.get("SamplesPerPixel", 1))
        return Described(channels, shape, len(files) == 1 and is_projection(slices, header))
