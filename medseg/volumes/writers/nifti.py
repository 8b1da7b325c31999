"""Predictions as NIfTI files on the grid of the volume that they were made from."""

import io
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from medseg.files import atomic_path
from medseg.volumes.geometry import drop_broken_forms
from medseg.volumes.reader import Volume
from medseg.volumes.writers.label_map import LabelMap

_COMPRESSION = 2
_KEPT = (
    "pixdim",
    "xyzt_units",
    "descrip",
    "qform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "sform_code",
    "srow_x",
    "srow_y",
    "srow_z",
)


def write_nifti(target: Path, label_map: LabelMap) -> None:
    """Writes a label map; as `write_labels`."""
    write_labels(target, label_map.labels, label_map.like)


def write_labels(target: Path, labels: np.ndarray, like: Volume) -> None:
    """Writes labels in uint8, or uint16 where a value exceeds 255, with the header of `like`.

    Equal labels give equal bytes, whenever and wherever they are written.

    Args:
        target: ends in .nii.gz or .nii; whole or absent, whatever happens.
        labels: whole numbers 0..65535, (i, j, k) on the grid of `like`; a file of two axes gets
            two, one with a fourth axis of one voxel gets that too.
        like: whose place in the patient, and how the header states it, are kept.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    dtype = "<u1" if labels.max() <= np.iinfo(np.uint8).max else "<u2"
    _write(target, _header(like, _shape_of(like, labels), dtype), [labels])


def write_probabilities(target: Path, probabilities: np.ndarray, like: Volume) -> None:
    """Writes one float32 volume per class, with the header of `like` and the class as last axis.

    Args:
        target: as for `write_labels`.
        probabilities: floats, (classes, i, j, k) on the grid of `like`.
        like: as for `write_labels`.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    classes, *shape = probabilities.shape
    _write(target, _header(like, (*shape, classes), "<f4"), probabilities)


def write_map(target: Path, values: np.ndarray, like: Volume) -> None:
    """Writes one number per voxel in float32, with the header of `like`.

    Args:
        target: as for `write_labels`.
        values: floats, (i, j, k) on the grid of `like`.
        like: as for `write_labels`.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    _write(target, _header(like, _shape_of(like, values), "<f4"), [values])


def _shape_of(like: Volume, labels: np.ndarray) -> tuple[int, ...]:
    """The shape that the file of `like` has, which may lack axes of one voxel or have more."""
    own = tuple(int(length) for length in like.header.get_data_shape())
    without_ones = [length for length in own if length > 1]
    same = without_ones == [length for length in labels.shape if length > 1]
    return own if same and len(own) > 1 else labels.shape


def _header(like: Volume, shape: tuple[int, ...], dtype: str) -> nib.Nifti1Header:
    """A little-endian header for one file, in the NIfTI version of `like`."""
    kind = nib.Nifti2Header if int(like.header["sizeof_hdr"]) == 540 else nib.Nifti1Header
    header = kind(endianness="<")
    for field in _KEPT:
        header[field] = like.header[field]
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(shape)
    header["pixdim"][0] = -1 if like.header["pixdim"][0] == -1 else 1
    header["pixdim"][1:4] = _sound_sizes(like)
    header["pixdim"][4:] = 1
    drop_broken_forms(header)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    return header


def _sound_sizes(like: Volume) -> np.ndarray:
    """The voxel sizes as found, except that those of absent axes and signs are put right."""
    found = np.abs(like.header["pixdim"][1:4])
    return np.where(found > 0, found, 1.0)


def _write(target: Path, header: nib.Nifti1Header, volumes: Iterable[np.ndarray]) -> None:
    """Writes the volumes, each (i, j, k), slice by slice, so that no second copy is made."""
    with atomic_path(target) as part, part.open("wb") as file:
        if target.name.lower().endswith(".gz"):
            # neither name nor time goes into the file, so that equal content is equal bytes
            with igzip.IGzipFile("", "wb", _COMPRESSION, file, mtime=0) as stream:
                _write_content(stream, header, volumes)
        else:
            _write_content(file, header, volumes)


def _write_content(
    stream: io.BufferedIOBase, header: nib.Nifti1Header, volumes: Iterable[np.ndarray]
) -> None:
    no_extensions = bytes(4)
    stream.write(header.binaryblock + no_extensions)
    dtype = header.get_data_dtype()
    for volume in volumes:
        for k in range(volume.shape[-1]):
            stream.write(volume[..., k].astype(dtype).tobytes(order="F"))
