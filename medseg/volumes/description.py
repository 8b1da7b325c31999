"""What a file's header says of the image in it, for every format, without its voxels."""

from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

import numpy as np

from medseg.volumes.container import foreign_faults
from medseg.volumes.dicom import files_of_series
from medseg.volumes.dicom_files import is_dicom, read_header
from medseg.volumes.dicom_slices import is_projection, slices_of
from medseg.volumes.foreign import stated_shape
from medseg.volumes.formats import first_bytes
from medseg.volumes.nifti import header_file, nifti_shape
from medseg.volumes.picture import is_picture, picture_shape
from medseg.volumes.tiff import is_tiff, tiff_shape


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


def describe(path: Path) -> Described:
    """Reads the header of an image; `path` as for `read_image`.

    Raises:
        DataError: it cannot be read.
    """
    path = Path(path)
    start = b"" if isdir(path) else first_bytes(header_file(path))
    if isdir(path) or is_dicom(start):
        return _dicom(path)
    if is_picture(start):
        return _described(picture_shape(path), is_picture=True)
    if is_tiff(start):
        shape = tiff_shape(path)
        return _described(shape, is_picture=shape[2] == 1)
    return _described(stated_shape(path, start) or nifti_shape(path), is_picture=False)


def _described(shape: tuple[int, ...], *, is_picture: bool) -> Described:
    i, j, k = (*shape, 1, 1)[:3]
    return Described(int(np.prod(shape[3:])), (i, j, k), is_picture)


def _dicom(path: Path) -> Described:
    files = files_of_series(path)
    with foreign_faults(path, "pydicom"):
        header = read_header(files[0])
        slices = slices_of(files[0], header)
        rows, columns = slices[0].shape
        shape = (columns, rows, len(slices) * len(files))
        channels = int(header.get("SamplesPerPixel", 1))
        return Described(channels, shape, len(files) == 1 and is_projection(slices, header))
