"""NRRD and MetaImage, read through SimpleITK behind a guard.

SimpleITK turns missing bytes into zeros without a word. So the header is read here first, the
bytes that it promises are counted, and what SimpleITK returns must have their checksum; encodings
in which they cannot be counted are refused.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation gives it

from medseg.volumes.container import Stored, suffix_note
from medseg.volumes.faults import refusal
from medseg.volumes.payload import Payload
from medseg.volumes.textheader import TextHeader

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
    header = TextHeader(
        path,
        end=rb"\r?\n\r?\n",
        line=r"([\w -]{1,99}): *(.*)",
        ignored=r"NRRD000[1-5]|#.*|[^:]*:=.*|",
    )
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
    header = TextHeader(
        path,
        end=rb"(?m)^ElementDataFile[ \t]*=[^\n]*\n?",
        line=r"([\w\[\]]{1,99})\s*[=:]\s*(.*)",  # ITK passes NIfTI's own fields on: dim[0] = 3
        ignored="",
    )
    _check_metaimage_axes(path, header)
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


def _check_metaimage_axes(path: Path, header: TextHeader) -> None:
    axes = len(header.integers("dimsize"))
    if header.fields.get("ndims") != str(axes) or not 2 <= axes <= 4:
        fault = f"NDims={header.fields.get('ndims')!r} must be 2, 3 or 4 and fit DimSize"
        raise refusal(path, fault, _REPAIR)
    header.require_numbers(axes, "elementspacing", "elementsize", "centerofrotation")
    header.require_numbers(axes, "offset", "position", "origin")
    header.require_numbers(axes**2, "transformmatrix", "rotation", "orientation")


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
