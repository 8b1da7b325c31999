"""NRRD and MetaImage: volumes behind a text header, read through SimpleITK behind a guard.

SimpleITK turns missing bytes into zeros without a warning. So the header is read here first, the
bytes that it states are counted, and what SimpleITK returns must have their checksum; encodings
in which they cannot be counted are refused.
"""

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation gives it
from isal import isal_zlib

from medseg.volumes.container import (
    FLOAT32_BYTES,
    MILLIMETRES,
    TRANSFER_AGAIN,
    Doubt,
    Stored,
    header_of,
    open_content,
    refusal,
    require_memory,
    suffix_note,
)
from medseg.volumes.geometry import LPS_TO_RAS

_T = TypeVar("_T")

HEADER_LIMIT_BYTES = 1 << 20
_SAVE_PLAINLY = "save it again as one file with raw or gzip encoding, or as .nii.gz"
_REPAIR = "repair the header, or convert the volume again from its source"
_NO_DIRECTIONS = Doubt("states no directions; assuming that its axes run left, posterior, superior")
_LINE_LIMIT = 4000
_CHUNK_BYTES = 1 << 16  # inflates to at most 64 MiB
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
_MET_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


class _TextHeader:
    """The lines of text before the voxels; field names lose case and blanks.

    MetaImage's reader crashes the whole process on some malformed headers (`NDims = 67` is
    enough), so it is given only what was checked here.

    Attributes:
        size: bytes of the file up to the voxels.
        fields: values by name.

    Args:
        path: of the file.
        end: pattern that ends with the header.
        line: pattern of a line, with name and value as groups.
        ignored: pattern of the lines that hold no field.

    Raises:
        DataError: a line fits neither pattern, is overlong, or repeats a field.
    """

    def __init__(self, path: Path, *, end: bytes, line: str, ignored: str):
        with open_content(path) as content:
            front = content.read(HEADER_LIMIT_BYTES)
        found = re.search(end, front)
        if found is None:
            raise refusal(path, "its header has no end", TRANSFER_AGAIN)
        self._path = path
        self.size = found.end()
        self.fields: dict[str, str] = {}
        for entry in front[: self.size].decode("utf-8", errors="replace").split("\n"):
            if not re.fullmatch(ignored, entry.strip()):
                self._add(entry.strip(), line)

    def product(self, field: str, default: str = "") -> int:
        """The product of a field's whole numbers; DataError as of `integers`."""
        return math.prod(self.integers(field, default))

    def integers(self, field: str, default: str = "") -> list[int]:
        """A field's whole numbers; DataError if they are not, or not positive."""
        found = self.fields.get(field, default)
        if not re.fullmatch(r"[0-9]+(\s+[0-9]+)*", found) or 0 in map(int, found.split()):
            raise refusal(self._path, f"{field}={found!r} must be positive integers", _REPAIR)
        return [int(word) for word in found.split()]

    def choice(self, field: str, choices: Mapping[str, _T]) -> _T:
        """What `choices` holds for a field's value; DataError if it is none of them."""
        found = self.fields.get(field, "")
        if found not in choices:
            raise refusal(self._path, f"{field}={found!r} cannot be verified", _SAVE_PLAINLY)
        return choices[found]

    def require_numbers(self, count: int, *fields: str) -> None:
        """DataError if any of `fields` is present and not `count` finite numbers."""
        for field in self.fields.keys() & set(fields):
            words = self.fields[field].split()
            if len(words) != count or not all(map(_is_number, words)):
                fault = f"{field}={self.fields[field]!r} must be {count} numbers"
                raise refusal(self._path, fault, _REPAIR)

    def _add(self, entry: str, line: str) -> None:
        matched = re.fullmatch(line, entry)
        if matched is None or len(entry) > _LINE_LIMIT:
            raise refusal(self._path, f"its header line {entry[:80]!r} has no meaning", _REPAIR)
        name = matched[1].replace(" ", "").lower()
        if name in self.fields:
            raise refusal(self._path, f"its header states {name!r} twice", _REPAIR)
        self.fields[name] = matched[2].strip()


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _checksum_of_voxels(
    path: Path,
    start: int,
    *,
    values: int,
    value_bytes: int,
    encoding: Literal["raw", "gzip", "zlib"],
    stored_bytes: int | None = None,
) -> int:
    """CRC-32 of the voxels of a file, of which not one may be missing or left over.

    Args:
        path: The file that holds them.
        start: Bytes of that file before them.
        values: Their number, channels included.
        value_bytes: The size of each.
        encoding: How they are stored.
        stored_bytes: Compressed size as the header states it, if it does.

    Raises:
        DataError: other bytes than the header states, a damaged stream, or too little memory.
    """
    expected, got, checksum = values * value_bytes, 0, 0
    inflater = isal_zlib.decompressobj() if encoding == "zlib" else None
    with open_content(path, offset=start, gzipped=encoding == "gzip") as content:
        if stored_bytes not in (None, content.size):
            fault = f"its header states {stored_bytes} compressed bytes, it holds {content.size}"
            raise refusal(path, fault, TRANSFER_AGAIN)
        while stored := content.read(_CHUNK_BYTES):
            block = inflater.decompress(stored) if inflater else stored
            got += len(block)
            checksum = zlib.crc32(block, checksum)
    if got != expected:
        fault = f"its header states {expected} bytes of voxels, it holds {got}"
        raise refusal(path, fault, TRANSFER_AGAIN)
    if inflater and not inflater.eof:
        raise refusal(path, "its compressed stream is cut off", TRANSFER_AGAIN)
    simpleitk_and_own = 2 * expected
    require_memory(path, simpleitk_and_own + FLOAT32_BYTES * values)
    return checksum


def _read_verified(
    path: Path, image_io: str, checksum: int, notes: tuple[str, ...], units: Sequence[str]
) -> Stored:
    """Reads a volume whose header was checked.

    Args:
        path: Of the file that holds the header.
        image_io: SimpleITK's name of the format.
        checksum: Of the voxels, of `_checksum_of_voxels`.
        notes: What was odd about the file so far.
        units: Names of the units of length that the header states.

    Raises:
        DataError: SimpleITK cannot read it or returns other voxels.
    """
    millimetres, unit_notes = _unit(path, units)
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
    header = _nifti_header(path, image, voxels, millimetres)
    return Stored(voxels, 1.0, 0.0, header, notes + unit_notes)


def _unit(path: Path, names: Sequence[str]) -> tuple[float, tuple[str, ...]]:
    """Millimetres per unit of length, of which a header may have one for each axis."""
    known = {name: MILLIMETRES[name] for name in map(str.strip, names) if name in MILLIMETRES}
    if len(set(known.values())) > 1:
        raise refusal(path, f"its axes have different units ({', '.join(known)})", _REPAIR)
    name, millimetres = next(iter(known.items()), ("mm", 1.0))
    if millimetres == 1:
        return millimetres, ()
    return millimetres, (f"declares its lengths in {name}; they are converted to mm",)


def _checksums_of(array: np.ndarray) -> Iterator[int]:
    """CRC-32 of the array in its own byte order, then in the other."""
    yield zlib.crc32(array.data)
    yield zlib.crc32(array.byteswap().data)


def _nifti_header(
    path: Path, image: sitk.Image, voxels: np.ndarray, millimetres: float
) -> nib.Nifti1Header:
    affine = np.diag([millimetres] * 3 + [1.0]) @ itk_affine(image)
    if not np.isfinite(affine).all():
        raise refusal(path, "its geometry holds NaN or infinite numbers", _REPAIR)
    return header_of(voxels.shape[: min(image.GetDimension(), 3)], affine)


def itk_affine(image: sitk.Image) -> np.ndarray:
    """Voxel index to RAS mm; SimpleITK's own map leads to LPS."""
    axes = image.GetDimension()
    spatial = min(axes, 3)
    directions = np.array(image.GetDirection()).reshape(axes, axes) @ np.diag(image.GetSpacing())
    affine = np.eye(4)
    affine[:spatial, :spatial] = directions[:spatial, :spatial]
    affine[:spatial, 3] = image.GetOrigin()[:spatial]
    return LPS_TO_RAS @ affine


def nrrd_shape(path: Path) -> tuple[int, ...]:
    """The shape (i, j, k[, channels]) that the header states; errors as of `read_nrrd`."""
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
            raise refusal(path, f"its header field {field!r} is not supported", _SAVE_PLAINLY)
    checksum = _checksum_of_voxels(
        path,
        header.size,
        values=header.product("sizes"),
        value_bytes=header.choice("type", _NRRD_BYTES),
        encoding=header.choice("encoding", _NRRD_ENCODINGS),
    )
    notes = suffix_note(path, (".nrrd",), "NRRD")
    if "spacedirections" not in header.fields:
        notes += (_NO_DIRECTIONS,)
    units = header.fields.get("spaceunits") or header.fields.get("units", "")
    return _read_verified(path, "NrrdImageIO", checksum, notes, re.findall(r'"([^"]*)"', units))


def _nrrd_header(path: Path) -> _TextHeader:
    return _TextHeader(
        path,
        end=rb"\r?\n\r?\n",
        line=r"([\w -]{1,99}): *(.*)",
        ignored=r"NRRD000[1-5]|#.*|[^:]*:=.*|",
    )


def read_metaimage(path: Path) -> Stored:
    """Reads a MetaImage volume: a .mha file, or a .mhd file with its data file beside it.

    Raises:
        DataError: a file is damaged, incomplete, or its encoding cannot be verified.
    """
    header = _metaimage_header(path)
    _check_axes(path, header)
    for field, supported in (("headersize", "0"), ("binarydata", "true")):
        if (found := header.fields.get(field, supported)).lower() != supported:
            raise refusal(path, f"{field}={found!r} is not supported", _SAVE_PLAINLY)
    values = header.product("dimsize") * header.product("elementnumberofchannels", "1")
    value_bytes = header.choice("elementtype", _MET_BYTES)
    data_file = header.fields["elementdatafile"]
    is_local = data_file.upper() == "LOCAL"
    is_packed = header.fields.get("compresseddata", "false").lower() == "true"
    states_size = is_packed and "compresseddatasize" in header.fields
    checksum = _checksum_of_voxels(
        path if is_local else _data_file_beside(path, data_file),
        header.size if is_local else 0,
        values=values,
        value_bytes=value_bytes,
        encoding="zlib" if is_packed else "raw",
        stored_bytes=header.product("compresseddatasize") if states_size else None,
    )
    notes = suffix_note(path, (".mha", ".mhd"), "MetaImage")
    if not header.fields.keys() & {"transformmatrix", "orientation", "rotation"}:
        notes += (_NO_DIRECTIONS,)
    units = [header.fields.get("distanceunits", "")]
    return _read_verified(path, "MetaImageIO", checksum, notes, units)


def metaimage_shape(path: Path) -> tuple[int, ...]:
    """The shape (i, j, k, channels) that the header states; errors as of `read_metaimage`."""
    header = _metaimage_header(path)
    sizes = [*header.integers("dimsize"), 1][:4]
    return (*sizes, *header.integers("elementnumberofchannels", "1"))


def metaimage_files(path: Path) -> tuple[Path, ...]:
    """Header and voxels of a MetaImage by its name whose voxels lie in a second file; else nothing.

    Raises:
        DataError: one of the two is not there, or the header is damaged.
    """
    if path.suffix.lower() not in (".mhd", ".mha"):
        return ()
    name = _metaimage_header(path).fields["elementdatafile"]
    return () if name.upper() == "LOCAL" else (path, _data_file_beside(path, name))


def _metaimage_header(path: Path) -> _TextHeader:
    return _TextHeader(
        path,
        end=rb"(?m)^ElementDataFile[ \t]*=[^\n]*\n?",
        line=r"([\w\[\]]{1,99})\s*[=:]\s*(.*)",  # ITK passes NIfTI's own fields on: dim[0] = 3
        ignored="",
    )


def _check_axes(path: Path, header: _TextHeader) -> None:
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
