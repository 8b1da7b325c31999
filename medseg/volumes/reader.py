"""Volumes as arrays whose shape, values and geometry were checked, or a refusal with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import nibabel as nib
import numpy as np

from medseg.errors import DataError
from medseg.volumes.container import Stored, open_content, refusal
from medseg.volumes.foreign import foreign_reader, refuse_other_format
from medseg.volumes.geometry import Form, Geometry, decide_geometry, in_axes_of
from medseg.volumes.labels import (
    IGNORE,
    LARGEST_LABEL,
    classes_of,
    require_labels,
    whole_numbers,
)
from medseg.volumes.nifti import header_file, read_nifti

Nonfinite = Literal["refuse", "replace"]

_SNIFFED_BYTES = 132  # up to the signature of DICOM
_SILENT_VOXELS = 1e-3
_TOLERATED_VOXELS = 0.5


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume read from a file.

    Attributes:
        path: where it was read.
        array: float32 (channels, i, j, k) for an image, uint8 or uint16 (i, j, k) for labels.
        geometry: where its voxels lie in the patient.
        header: as found; made from the geometry if the format is not NIfTI.
        notes: what a careful reader would want to know, in words.
    """

    path: Path
    array: np.ndarray
    geometry: Geometry
    header: nib.Nifti1Header
    notes: tuple[str, ...]


def read_image(
    path: Path,
    *,
    channels: int = 1,
    nonfinite: Nonfinite = "refuse",
    prefer: Form = "sform",
) -> Volume:
    """Reads an image as float32 (channels, i, j, k), its scaling applied.

    Args:
        path: NIfTI (also compressed, or either file of a pair), NRRD or MetaImage.
        channels: how many the image must have; they are its last axis in the file.
        nonfinite: whether NaN and infinite voxels are an error, or become the smallest finite
            value of their channel.
        prefer: the form of the header to follow where both are valid.

    Raises:
        DataError: the file is damaged, incomplete, or not such an image.
    """
    if nonfinite not in get_args(Nonfinite):
        raise ValueError(f"nonfinite={nonfinite!r} must be one of {get_args(Nonfinite)}")
    path = Path(path)
    stored = _read_stored(path)
    geometry, geometry_notes = _geometry_of(stored, path, prefer)
    array = _scaled(_channels_first(stored.voxels, path, channels), stored)
    value_notes = _settle_values(array, path, nonfinite)
    notes = (*stored.notes, *geometry_notes, *value_notes)
    return Volume(path, array, geometry, stored.header, notes)


def read_labels(
    path: Path,
    *,
    num_classes: int | None,
    values: Mapping[int, int | str] | None = None,
    prefer: Form = "sform",
) -> Volume:
    """Reads labels of shape (i, j, k): uint8, or uint16 where there are more than 256 values.

    Numbers that the rounding of a header's slope or of a float leaves beside whole ones are
    rounded, with a note.

    Args:
        path: as for `read_image`.
        num_classes: with background; labels must lie in 0..num_classes-1. None: any label.
        values: label value of the file → class, or `IGNORE`, whose voxels become `num_classes`
            (65535 if that is None); a value that is not listed keeps its number.
        prefer: as for `read_image`.

    Raises:
        DataError: the file is damaged, a voxel is no whole number in the range, or a value that
            is not listed in `values` would become one with another.
    """
    path = Path(path)
    stored = _read_stored(path)
    geometry, geometry_notes = _geometry_of(stored, path, prefer)
    voxels = _channels_first(stored.voxels, path, 1)[0]
    voxels, value_notes = whole_numbers(path, voxels, stored.slope, stored.intercept)
    limit = LARGEST_LABEL if num_classes is None else num_classes - 1
    if values is not None:
        ignored = LARGEST_LABEL if num_classes is None else num_classes
        voxels = classes_of(path, voxels, values, ignored=ignored)
        limit = max(limit, ignored) if IGNORE in values.values() else limit
    require_labels(path, voxels, limit)
    largest = int(voxels.max()) if num_classes is None else limit
    is_small = largest <= np.iinfo(np.uint8).max
    labels = np.ascontiguousarray(voxels, np.uint8 if is_small else np.uint16)
    notes = (*stored.notes, *geometry_notes, *value_notes)
    return Volume(path, labels, geometry, stored.header, notes)


def on_grid_of(image: Volume, labels: Volume) -> Volume:
    """The labels with their axes in the image's order and direction, on whose grid they must lie.

    Nothing is interpolated. A note tells of axes in another order, and of a corner of the grid
    that is displaced by 0.001 to 0.5 voxels.

    Raises:
        DataError: the shapes differ, or a corner is displaced further.
    """
    array, affine = in_axes_of(labels.array, labels.geometry.affine, image.geometry.affine)
    shape, notes = image.array.shape[-3:], list(labels.notes)
    if array.shape != shape:
        raise refusal(
            labels.path,
            f"its shape {labels.array.shape} differs from {shape} of {image.path}",
            "pair it with its own image, or resample it onto that grid with nearest neighbour",
        )
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape))]).T
    there = np.linalg.solve(image.geometry.affine, affine @ corners)
    voxels = float(np.linalg.norm((there - corners)[:3], axis=0).max())
    if voxels >= _TOLERATED_VOXELS:
        raise refusal(
            labels.path,
            f"its grid lies up to {voxels:.3g} voxels away from that of {image.path}",
            "look at both in a viewer; where the label lies right, resample it onto the image's "
            "grid with nearest neighbour, else export it again",
        )
    if voxels > _SILENT_VOXELS:
        notes.append(
            f"lies up to {voxels:.2g} voxels away from {image.path}; taken as the same grid"
        )
    geometry = replace(labels.geometry, affine=affine)
    if geometry.axcodes != labels.geometry.axcodes:
        own, others = "".join(labels.geometry.axcodes), "".join(geometry.axcodes)
        notes.append(f"is stored in {own} orientation, its image in {others}; turned")
    return replace(labels, array=array, geometry=geometry, notes=tuple(notes))


def _read_stored(path: Path) -> Stored:
    with open_content(header_file(path)) as content:
        start = content.read(_SNIFFED_BYTES)
    refuse_other_format(path, start)
    return (foreign_reader(start) or read_nifti)(path)


def _geometry_of(stored: Stored, path: Path, prefer: Form) -> tuple[Geometry, list[str]]:
    try:
        return decide_geometry(stored.header, prefer)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _channels_first(voxels: np.ndarray, path: Path, channels: int) -> np.ndarray:
    """A view of shape (channels, i, j, k) of an array (i, j[, k[, 1][, channels]])."""
    if voxels.dtype.kind not in "iuf":
        raise refusal(path, f"its voxels are {voxels.dtype}", "convert to scalar")
    shape = voxels.shape
    extra = [length for length in shape[3:] if length > 1]
    found = extra[0] if extra else 1
    if len(shape) < 2 or len(extra) > 1 or found != channels:
        fault = f"shape {shape} must be {channels} channel(s) of a volume (i, j, k)"
        raise refusal(path, fault, _remedy_of_channels(shape, extra, channels))
    volume = (*shape, 1)[:3]
    return np.moveaxis(voxels.reshape((*volume, channels), order="A"), -1, 0)


def _remedy_of_channels(shape: tuple[int, ...], extra: list[int], channels: int) -> str:
    if len(shape) < 2 or len(extra) > 1:
        return "save it as one volume, its channels along the fourth axis"
    if channels == 1:
        return "save the volume that is meant, or each of them, as a file of its own"
    return f"stack the {channels} channels that were trained on, in their order, in one file"


def _scaled(voxels: np.ndarray, stored: Stored) -> np.ndarray:
    """Values as float32, computed as float64 slab by slab to save memory."""
    array = np.empty(voxels.shape, np.float32)
    slope, intercept = np.float64(stored.slope), np.float64(stored.intercept)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is counted as infinite later
        for i in range(voxels.shape[1]):
            slab = voxels[:, i]
            array[:, i] = slab if (slope, intercept) == (1, 0) else slab * slope + intercept
    return array


def _settle_values(array: np.ndarray, path: Path, nonfinite: Nonfinite) -> list[str]:
    """Replaces or refuses non-finite voxels in place and notes what is odd about the rest."""
    notes = []
    for index, channel in enumerate(array):
        name = f"channel {index}: " if len(array) > 1 else ""
        if not np.isfinite(channel.min()) or not np.isfinite(channel.max()):
            notes.append(name + _replace_nonfinite(channel, path, nonfinite))
        if channel.min() == channel.max():
            notes.append(f"{name}every voxel has the same value, {channel.flat[0]:g}")
    return notes


def _replace_nonfinite(channel: np.ndarray, path: Path, nonfinite: Nonfinite) -> str:
    finite = np.isfinite(channel)
    count = channel.size - int(np.count_nonzero(finite))
    if count == channel.size:
        raise refusal(path, f"all {count} voxels are NaN or infinite", "export it again")
    if nonfinite == "refuse":
        remedy = "export it again, or set nonfinite=replace"
        raise refusal(path, f"{count} of {channel.size} voxels are NaN or infinite", remedy)
    smallest = channel.min(where=finite, initial=np.inf)
    channel[~finite] = smallest
    return f"{count} of {channel.size} voxels were NaN or infinite; replaced by {smallest:g}"
