"""NRRD and MetaImage, read through SimpleITK behind a guard.

SimpleITK turns missing bytes into zeros without a word. So the header is read here first, the
bytes that it promises are counted, and what SimpleITK returns must have their checksum; encodings
in which they cannot be counted are refused.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation gives it

from medseg.volumes.container import Stored, open_content, suffix_note
from medseg.volumes.faults import TRANSFER_AGAIN, refusal
from medseg.volumes.payload import Payload

_T = TypeVar("_T")

_HEADER_LIMIT_BYTES = 1 << 20
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAVE_PLAINLY = "save it again as one file with raw or gzip encoding, or as .nii.gz"
_REPAIR = "repair the header, or convert the volume again from its source"
_NRRD_NAMES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, "
    "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t, ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_NRRD_BYTES = {name: size for size, names in _NRRD_NAMES.items() for name in names.split(", ")}
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


def foreign_reader(start: bytes) -> Callable[[Path], Stored] | None:
    """The reader for a file that begins with `start`, if that is NRRD or MetaImage."""
    if start.startswith(b"NRRD"):
        return read_nrrd
    if re.match(rb"\s*(ObjectType|ObjectSubType|NDims|Comment)\s*=", start):
        return read_metaimage
    return None


def read_nrrd(path: Path) -> Stored:
    """Reads a NRRD volume whose header and voxels are in one file.

    Raises:
        DataError: the file is damaged, incomplete, or its encoding cannot be verified.
    """
    header = _TextHeader(path, end=rb"\r?\n\r?\n", line=r"([^:#]+):[ \t]+(.*)")
    for field in ("datafile", "lineskip", "byteskip"):
        if field in header.fields:
            raise refusal(path, f"its header field {field!r} is not supported", _SAVE_PLAINLY)
    payload = Payload(
        path, header.size, header.product("sizes"), header.choice("type", _NRRD_BYTES)
    )
    encodings = {"raw": payload.verify_raw}
    encodings |= dict.fromkeys(("gzip", "gz"), payload.verify_gzip)
    checksum = header.choice("encoding", encodings)()
    notes = suffix_note(path, (".nrrd",), "NRRD")
    if "spacedirections" not in header.fields:
        notes += ("states no directions; assuming that its axes run left, posterior, superior",)
    return _through_simpleitk(path, "NrrdImageIO", checksum, notes)


def read_metaimage(path: Path) -> Stored:
    """Reads a MetaImage volume: a .mha file, or a .mhd file with its data file beside it.

    Raises:
        DataError: a file is damaged, incomplete, or its encoding cannot be verified.
    """
    header = _TextHeader(
        path, end=rb"(?m)^ElementDataFile[ \t]*=[^\n]*\n?", line=r"(\w+)\s*=[ \t]*(.*)"
    )
    for field, supported in (("headersize", "0"), ("binarydata", "true")):
        if (found := header.fields.get(field, supported)).lower() != supported:
            raise refusal(path, f"{field}={found!r} is not supported", _SAVE_PLAINLY)
    values = header.product("dimsize") * header.product("elementnumberofchannels", "1")
    value_bytes = header.choice("elementtype", _META_BYTES)
    data_file = header.fields["elementdatafile"]
    if data_file.upper() == "LOCAL":
        payload = Payload(path, header.size, values, value_bytes)
    else:
        payload = Payload(_data_file_beside(path, data_file), 0, values, value_bytes)
    if header.fields.get("compresseddata", "false").lower() == "true":
        declared = "compresseddatasize" in header.fields
        checksum = payload.verify_zlib(header.product("compresseddatasize") if declared else None)
    else:
        checksum = payload.verify_raw()
    notes = suffix_note(path, (".mha", ".mhd"), "MetaImage")
    if not header.fields.keys() & {"transformmatrix", "orientation", "rotation"}:
        notes += ("states no directions; assuming that its axes run left, posterior, superior",)
    return _through_simpleitk(path, "MetaImageIO", checksum, notes)


class _TextHeader:
    """The lines of text before the voxels; field names lose case and blanks.

    Attributes:
        size: bytes of the file up to the voxels.
        fields: values by name.
    """

    def __init__(self, path: Path, *, end: bytes, line: str):
        with open_content(path) as content:
            front = content.read(_HEADER_LIMIT_BYTES)
        found = re.search(end, front)
        if found is None:
            raise refusal(path, "its header has no end", TRANSFER_AGAIN)
        self._path = path
        self.size = found.end()
        lines = front[: self.size].decode("utf-8", errors="replace").splitlines()
        entries = filter(None, (re.fullmatch(line, entry.strip()) for entry in lines))
        self.fields = {e[1].replace(" ", "").lower(): e[2].strip() for e in entries}

    def product(self, field: str, default: str = "") -> int:
        """The product of a field's whole numbers."""
        found = self.fields.get(field, default)
        if not re.fullmatch(r"\d+(\s+\d+)*", found) or 0 in (lengths := _integers(found)):
            raise refusal(self._path, f"{field}={found!r} must be positive integers", _REPAIR)
        return math.prod(lengths)

    def choice(self, field: str, choices: Mapping[str, _T]) -> _T:
        """What `choices` holds for a field's value."""
        found = self.fields.get(field, "")
        if found not in choices:
            raise refusal(self._path, f"{field}={found!r} cannot be verified", _SAVE_PLAINLY)
        return choices[found]


def _integers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def _data_file_beside(path: Path, name: str) -> Path:
    if not name or name.upper().startswith("LIST") or "%" in name or Path(name).name != name:
        raise refusal(path, f"ElementDataFile={name!r} is not one file beside it", _SAVE_PLAINLY)
    beside = path.with_name(name)
    if not beside.exists():
        raise refusal(path, f"{name} is not beside it", "put both files into one folder")
    return beside


def _through_simpleitk(path: Path, image_io: str, checksum: int, notes: tuple[str, ...]) -> Stored:
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise refusal(path, f"SimpleITK cannot read it ({reason})", _REPAIR) from error
    array = sitk.GetArrayFromImage(image)  # (..., k, j, i), or (..., k, j, i, channels)
    if checksum not in _checksums_of(array):
        raise refusal(path, "SimpleITK returns other voxels than it holds", _SAVE_PLAINLY)
    channels_outermost = image.GetNumberOfComponentsPerPixel() == 1
    voxels = array.T if channels_outermost else np.moveaxis(array, -1, 0).T
    return Stored(voxels, 1.0, 0.0, _nifti_header(path, image, voxels), notes)


def _checksums_of(array: np.ndarray) -> Iterator[int]:
    """CRC-32 of the array in its own byte order, then in the other."""
    yield zlib.crc32(array.data)
    yield zlib.crc32(array.byteswap().data)


def _nifti_header(path: Path, image: sitk.Image, voxels: np.ndarray) -> nib.Nifti1Header:
    affine = _affine(image)
    if not np.isfinite(affine).all():
        raise refusal(path, "its geometry holds NaN or infinite numbers", _REPAIR)
    header = nib.Nifti1Header()
    header.set_data_shape(voxels.shape[: min(image.GetDimension(), 3)])
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    return header


def _affine(image: sitk.Image) -> np.ndarray:
    """Voxel index to RAS mm; SimpleITK's own map leads to LPS."""
    axes = image.GetDimension()
    spatial = min(axes, 3)
    directions = np.array(image.GetDirection()).reshape(axes, axes) @ np.diag(image.GetSpacing())
    affine = np.eye(4)
    affine[:spatial, :spatial] = directions[:spatial, :spatial]
    affine[:spatial, 3] = image.GetOrigin()[:spatial]
    return _LPS_TO_RAS @ affine
