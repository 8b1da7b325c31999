"""NRRD and MetaImage by their first bytes, and formats that are not read, by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from medseg.volumes.container import Stored, refusal, suffix_note
from medseg.volumes.metaimage import metaimage_shape, read_metaimage
from medseg.volumes.simpleitk import (
    NO_DIRECTIONS,
    SAVE_PLAINLY,
    TextHeader,
    checksum_of_voxels,
    read_verified,
)

_NRRD_NAMES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, "
    "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t, ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_NRRD_BYTES = {name: size for size, names in _NRRD_NAMES.items() for name in names.split(", ")}
_NRRD_ENCODINGS: dict[str, Literal["raw", "gzip"]] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_PICTURE = "save the scan as NIfTI, NRRD or MetaImage, which state the size of its voxels"
_OTHER_FORMATS = {  # signature → its position, name, remedy
    b"\x93NUMPY": (0, "a NumPy array", _PICTURE),
    b"%PDF": (0, "a PDF document", _PICTURE),
    b"\x89HDF": (0, "an HDF5 file, such as MINC", "convert it to NIfTI, for MINC with mnc2nii"),
    b"CDF": (0, "a NetCDF file, such as MINC", "convert it to NIfTI, for MINC with mnc2nii"),
    b"\0\0\0\1": (0, "an MGH file of FreeSurfer", "convert it to NIfTI with mri_convert"),
    b"PK\3\4": (0, "a zip archive", "unpack it"),
}


def refuse_other_format(path: Path, start: bytes) -> None:
    """Refuses a file that begins like a format which is not read here, by its name.

    Args:
        path: Of the file.
        start: Its first 132 bytes, decompressed.

    Raises:
        DataError: it is of such a format.
    """
    for signature, (position, name, remedy) in _OTHER_FORMATS.items():
        if start[position:].startswith(signature):
            raise refusal(path, f"is {name}", remedy)


def foreign_reader(start: bytes) -> Callable[[Path], Stored] | None:
    """The reader for a file that begins with `start`, if that is NRRD or MetaImage."""
    if start.startswith(b"NRRD"):
        return read_nrrd
    if re.match(rb"\s*(ObjectType|ObjectSubType|NDims|Comment)\s*=", start):
        return read_metaimage
    return None


def stated_shape(path: Path, start: bytes) -> tuple[int, ...] | None:
    """The shape (i, j, k[, channels]) that the header of a volume states.

    Args:
        path: Of the file.
        start: Its first bytes.

    Returns:
        None if it is neither NRRD nor MetaImage.

    Raises:
        DataError: the file is damaged, or of a format that is not read.
    """
    refuse_other_format(path, start)
    reader = foreign_reader(start)
    if reader is None:
        return None
    if reader is read_metaimage:
        return metaimage_shape(path)
    header = _nrrd_header(path)
    sizes = header.integers("sizes")
    if header.fields.get("kinds", "domain").split()[:1] in (["domain"], ["space"], ["???"]):
        return tuple(sizes)
    return (*[*sizes[1:], 1][:3], sizes[0])


def read_nrrd(path: Path) -> Stored:
    """Reads a NRRD volume whose header and voxels are in one file.

    Raises:
        DataError: the file is damaged, incomplete, or its encoding cannot be verified.
    """
    header = _nrrd_header(path)
    for field in ("datafile", "lineskip", "byteskip"):
        if field in header.fields:
            raise refusal(path, f"its header field {field!r} is not supported", SAVE_PLAINLY)
    checksum = checksum_of_voxels(
        path,
        header.size,
        values=header.product("sizes"),
        value_bytes=header.choice("type", _NRRD_BYTES),
        encoding=header.choice("encoding", _NRRD_ENCODINGS),
    )
    notes = suffix_note(path, (".nrrd",), "NRRD")
    if "spacedirections" not in header.fields:
        notes += (NO_DIRECTIONS,)
    units = header.fields.get("spaceunits") or header.fields.get("units", "")
    return read_verified(path, "NrrdImageIO", checksum, notes, re.findall(r'"([^"]*)"', units))


def _nrrd_header(path: Path) -> TextHeader:
    return TextHeader(
        path,
        end=rb"\r?\n\r?\n",
        line=r"([\w -]{1,99}): *(.*)",
        ignored=r"NRRD000[1-5]|#.*|[^:]*:=.*|",
    )
