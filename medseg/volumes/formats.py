"""Which reader a file needs: decided by its first bytes, never by its name."""

from os.path import isdir
from pathlib import Path

from medseg.volumes.container import Stored, open_content
from medseg.volumes.dicom import read_dicom
from medseg.volumes.dicom_files import is_dicom
from medseg.volumes.foreign import foreign_reader, refuse_other_format
from medseg.volumes.nifti import header_file, read_nifti
from medseg.volumes.picture import is_picture, read_picture
from medseg.volumes.tiff import is_tiff, read_tiff

_SNIFFED_BYTES = 132  # up to the signature of DICOM


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
    if isdir(path):
        return read_dicom(path)
    start = first_bytes(header_file(path))
    if is_dicom(start):
        return read_dicom(path)
    if is_picture(start):
        return read_picture(path)
    if is_tiff(start):
        return read_tiff(path)
    refuse_other_format(path, start)
    return (foreign_reader(start) or read_nifti)(path)
