"""NIfTI-1 and NIfTI-2, either byte order, one file or a .hdr/.img pair, compressed or not."""

import math
from os.path import exists
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1PairHeader
from nibabel.nifti2 import Nifti2PairHeader

from medseg.volumes.container import (
    TRANSFER_AGAIN,
    Content,
    Stored,
    open_content,
    refusal,
    suffix_note,
)

_SINGLE_SUFFIXES = (".nii",)
_PAIR_SUFFIXES = (".hdr", ".img")
_EXTENSION_FLAG_BYTES = 4
_MAGIC_AT = {348: slice(344, 347), 540: slice(4, 7)}  # by sizeof_hdr: NIfTI-1, NIfTI-2
_HEADERS = {
    (348, b"n+1"): nib.Nifti1Header,
    (348, b"ni1"): Nifti1PairHeader,
    (540, b"n+2"): nib.Nifti2Header,
    (540, b"ni2"): Nifti2PairHeader,
}
_REPAIR = "repair the header, or convert the volume again from its source"


def read_nifti(path: Path) -> Stored:
    """Reads a NIfTI volume, every byte and every checksum of it.

    Args:
        path: of a single file, or of either file of a pair.

    Raises:
        DataError: the file is not NIfTI, damaged, incomplete, or has no scalar voxels.
    """
    with open_content(header_file(path)) as content:
        header = _read_header(content)
        if header.is_single:
            return _read_voxels(content, header, path)
        content.finish()
    voxel_path = _beside(path, ".img")
    with open_content(voxel_path, gzipped=voxel_path.suffix.lower() == ".gz") as content:
        return _read_voxels(content, header, path)


def nifti_shape(path: Path) -> tuple[int, ...]:
    """The shape that the header of a volume states; `path` and errors as of `read_nifti`."""
    with open_content(header_file(path)) as content:
        return _shape(_read_header(content), path)


def header_file(path: Path) -> Path:
    """The file in which a volume's header is: `path` itself, or the .hdr beside an .img.

    Raises:
        DataError: there is no .hdr beside the .img.
    """
    return _beside(path, ".hdr") if _stem_and_suffix(path)[1] == ".img" else path


def pair_files(path: Path) -> tuple[Path, ...]:
    """Header and voxels of the pair that `path` belongs to by its name; else nothing.

    Raises:
        DataError: one of the two is not there.
    """
    if _stem_and_suffix(path)[1] not in _PAIR_SUFFIXES:
        return ()
    return header_file(path), _beside(path, ".img")


def _read_header(content: Content) -> nib.Nifti1Header:
    start = content.read(4)
    sizes = {int.from_bytes(start, "little"): "<", int.from_bytes(start, "big"): ">"}
    size = next((size for size in sizes if size in _MAGIC_AT), None)
    if size is None:
        raise refusal(
            content.path,
            f"is no NIfTI, NRRD or MetaImage file (starts with {start!r})",
            "convert it to NIfTI with the program that wrote it",
        )
    block = start + content.read(size - len(start))
    if len(block) < size:
        raise refusal(
            content.path,
            f"ends within its header ({len(block)} of {size} bytes)",
            TRANSFER_AGAIN,
        )
    magic = block[_MAGIC_AT[size]]
    if (size, magic) not in _HEADERS:
        raise refusal(
            content.path,
            f"has no NIfTI signature (magic={magic!r}); Analyze files do not state left or right",
            "convert it to NIfTI from its source",
        )
    return _HEADERS[size, magic](block, sizes[size], check=False)


def _read_voxels(content: Content, header: nib.Nifti1Header, path: Path) -> Stored:
    """Reads the voxels from `content`, which is the header's own file or the .img beside it."""
    shape, dtype = _shape(header, path), _scalar_type(header, path)
    slope, intercept = _scaling(header, path)
    start, count = _voxel_offset(header, path), math.prod(shape)
    content.require_size(start + count * dtype.itemsize, count)
    content.skip_to(start)
    voxels = np.empty(shape, dtype, order="F")
    content.fill(voxels)
    notes = _name_notes(path, content, header)
    if left_over := content.finish():
        notes += (f"holds {left_over} bytes after its last voxel; they are ignored",)
    if len(shape) > 3 and set(shape[3:]) == {1}:
        notes += (f"has {len(shape)} axes, of one voxel beyond the third; they are left out",)
    return Stored(voxels, slope, intercept, header, notes)


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[int, ...]:
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise refusal(path, f"dim[0]={axes} must be 1 to 7", _REPAIR)
    shape = tuple(int(length) for length in header["dim"][1 : axes + 1])
    if min(shape) < 1:
        raise refusal(path, f"shape {shape} has an axis without voxels", _REPAIR)
    return shape


def _scalar_type(header: nib.Nifti1Header, path: Path) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except KeyError as error:
        code = int(header["datatype"])
        raise refusal(path, f"datatype={code} is not known to NIfTI", _REPAIR) from error
    if dtype.kind not in "iuf":
        kind = {"c": "complex"}.get(dtype.kind, "colours or structures")
        remedy = "convert to scalar, one number per voxel"
        raise refusal(path, f"its voxels are {kind} ({dtype})", remedy)
    return dtype


def _scaling(header: nib.Nifti1Header, path: Path) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise refusal(path, f"scl_inter={intercept} must be finite", _REPAIR)
    return slope, intercept


def _voxel_offset(header: nib.Nifti1Header, path: Path) -> int:
    offset = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + _EXTENSION_FLAG_BYTES if header.is_single else 0
    if offset == 0:
        return least
    if not math.isfinite(offset) or offset < least:
        fault = f"vox_offset={offset:g} must be 0 or at least {least}"
        raise refusal(path, fault, _REPAIR)
    return int(offset)


def _name_notes(path: Path, content: Content, header: nib.Nifti1Header) -> tuple[str, ...]:
    suffixes = _SINGLE_SUFFIXES if header.is_single else _PAIR_SUFFIXES
    if not content.compressed:
        return suffix_note(path, suffixes, "uncompressed NIfTI")
    packed = tuple(f"{suffix}.gz" for suffix in suffixes)
    return suffix_note(path, packed, "gzip-compressed NIfTI")


def _stem_and_suffix(path: Path) -> tuple[str, str]:
    """The name without compression and format suffix, and the latter in lower case."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.stem, plain.suffix.lower()


def _beside(path: Path, suffix: str) -> Path:
    """The other file of a pair: the same stem with `suffix`, compressed or not.

    Raises:
        DataError: there is none.
    """
    stem, own = _stem_and_suffix(path)
    if own == suffix:
        return path
    spellings = [stem + s for s in (suffix, f"{suffix}.gz", suffix.upper())]
    for candidate in (path.with_name(name) for name in spellings):
        if exists(candidate):  # `Path.exists` raises on too long a name before Python 3.12
            return candidate
    raise refusal(
        path,
        f"is half of a NIfTI pair, and {spellings[0]} is not beside it",
        "put both files into one folder",
    )
