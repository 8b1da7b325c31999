"""MetaImage: a .mha file, or a .mhd file with its voxels in a file beside it."""

from pathlib import Path

from medseg.volumes.container import Stored, refusal, suffix_note
from medseg.volumes.simpleitk import (
    NO_DIRECTIONS,
    REPAIR,
    SAVE_PLAINLY,
    TextHeader,
    checksum_of_voxels,
    read_verified,
)

_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


def read_metaimage(path: Path) -> Stored:
    """Reads a MetaImage volume: a .mha file, or a .mhd file with its data file beside it.

    Raises:
        DataError: a file is damaged, incomplete, or its encoding cannot be verified.
    """
    header = _header(path)
    _check_axes(path, header)
    for field, supported in (("headersize", "0"), ("binarydata", "true")):
        if (found := header.fields.get(field, supported)).lower() != supported:
            raise refusal(path, f"{field}={found!r} is not supported", SAVE_PLAINLY)
    values = header.product("dimsize") * header.product("elementnumberofchannels", "1")
    value_bytes = header.choice("elementtype", _BYTES)
    data_file = header.fields["elementdatafile"]
    is_local = data_file.upper() == "LOCAL"
    is_packed = header.fields.get("compresseddata", "false").lower() == "true"
    states_size = is_packed and "compresseddatasize" in header.fields
    checksum = checksum_of_voxels(
        path if is_local else _data_file_beside(path, data_file),
        header.size if is_local else 0,
        values=values,
        value_bytes=value_bytes,
        encoding="zlib" if is_packed else "raw",
        stored_bytes=header.product("compresseddatasize") if states_size else None,
    )
    notes = suffix_note(path, (".mha", ".mhd"), "MetaImage")
    if not header.fields.keys() & {"transformmatrix", "orientation", "rotation"}:
        notes += (NO_DIRECTIONS,)
    units = [header.fields.get("distanceunits", "")]
    return read_verified(path, "MetaImageIO", checksum, notes, units)


def metaimage_shape(path: Path) -> tuple[int, ...]:
    """The shape (i, j, k, channels) that the header states; errors as of `read_metaimage`."""
    header = _header(path)
    sizes = [*header.integers("dimsize"), 1][:4]
    return (*sizes, *header.integers("elementnumberofchannels", "1"))


def metaimage_files(path: Path) -> tuple[Path, ...]:
    """Header and voxels of a MetaImage by its name whose voxels lie in a second file; else nothing.

    Raises:
        DataError: one of the two is not there, or the header is damaged.
    """
    if path.suffix.lower() not in (".mhd", ".mha"):
        return ()
    name = _header(path).fields["elementdatafile"]
    return () if name.upper() == "LOCAL" else (path, _data_file_beside(path, name))


def _header(path: Path) -> TextHeader:
    return TextHeader(
        path,
        end=rb"(?m)^ElementDataFile[ \t]*=[^\n]*\n?",
        line=r"([\w\[\]]{1,99})\s*[=:]\s*(.*)",  # ITK passes NIfTI's own fields on: dim[0] = 3
        ignored="",
    )


def _check_axes(path: Path, header: TextHeader) -> None:
    axes = len(header.integers("dimsize"))
    if header.fields.get("ndims") != str(axes) or not 2 <= axes <= 4:
        fault = f"NDims={header.fields.get('ndims')!r} must be 2, 3 or 4 and fit DimSize"
        raise refusal(path, fault, REPAIR)
    header.require_numbers(axes, "elementspacing", "elementsize", "centerofrotation")
    header.require_numbers(axes, "offset", "position", "origin")
    header.require_numbers(axes**2, "transformmatrix", "rotation", "orientation")


def _data_file_beside(path: Path, name: str) -> Path:
    if not name or name.upper().startswith("LIST") or "%" in name or Path(name).name != name:
        raise refusal(path, f"ElementDataFile={name!r} is not one file beside it", SAVE_PLAINLY)
    beside = path.with_name(name)
    if not beside.exists():
        raise refusal(path, f"{name} is not beside it", "put both files into one folder")
    return beside
