"""Volumes as arrays whose shape, values and geometry were checked, or a refusal with the reason."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import nibabel as nib
import numpy as np

from medseg.errors import DataError
from medseg.volumes.container import Stored, open_content, refusal
from medseg.volumes.foreign import foreign_reader
from medseg.volumes.geometry import Form, Geometry, decide_geometry
from medseg.volumes.nifti import header_file, read_nifti

Nonfinite = Literal["refuse", "replace"]

_SNIFFED_BYTES = 32
_LARGEST_LABEL = np.iinfo(np.uint16).max
_LISTED_VALUES = 10
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


def read_labels(path: Path, *, num_classes: int | None, prefer: Form = "sform") -> Volume:
    """Reads labels as uint8, or uint16 where a value exceeds 255, of shape (i, j, k).

    Args:
        path: as for `read_image`.
        num_classes: with background; labels must lie in 0..num_classes-1. None: any label.
        prefer: as for `read_image`.

    Raises:
        DataError: the file is damaged, or a voxel is no whole number in the range.
    """
    path = Path(path)
    stored = _read_stored(path)
    geometry, geometry_notes = _geometry_of(stored, path, prefer)
    voxels = _channels_first(stored.voxels, path, 1)[0]
    if (stored.slope, stored.intercept) != (1.0, 0.0):
        voxels = voxels * np.float64(stored.slope) + stored.intercept
    _require_labels(voxels, path, _LARGEST_LABEL + 1 if num_classes is None else num_classes)
    dtype = np.uint8 if voxels.max() <= np.iinfo(np.uint8).max else np.uint16
    labels = np.ascontiguousarray(voxels, dtype=dtype)
    return Volume(path, labels, geometry, stored.header, (*stored.notes, *geometry_notes))


def check_same_grid(image: Volume, labels: Volume) -> str | None:
    """Proves that two volumes have the same voxels in the same places.

    Returns:
        A note if a corner of the grid is displaced by 0.001 to 0.5 voxels, else nothing.

    Raises:
        DataError: the shapes differ, or a corner is displaced further.
    """
    shape, other_shape = image.array.shape[-3:], labels.array.shape[-3:]
    if shape != other_shape:
        raise refusal(
            labels.path,
            f"its shape {other_shape} differs from {shape} of {image.path}",
            "pair it with its own image, or resample it onto that grid",
        )
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape))]).T
    there = np.linalg.solve(image.geometry.affine, labels.geometry.affine @ corners)
    voxels = float(np.linalg.norm((there - corners)[:3], axis=0).max())
    if voxels >= _TOLERATED_VOXELS:
        raise refusal(
            labels.path,
            f"its grid lies up to {voxels:.3g} voxels away from that of {image.path}",
            "resample it onto that grid, or, if only its header is wrong, copy the image's",
        )
    if voxels > _SILENT_VOXELS:
        return f"lies up to {voxels:.2g} voxels away from {image.path}; taken as the same grid"
    return None


def _read_stored(path: Path) -> Stored:
    with open_content(header_file(path)) as content:
        start = content.read(_SNIFFED_BYTES)
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
        raise refusal(
            path,
            f"shape {shape} must be {channels} channel(s) of a volume (i, j, k)",
            "split it into one file per volume, or set the number of channels",
        )
    volume = (*shape, 1)[:3]
    return np.moveaxis(voxels.reshape((*volume, channels), order="A"), -1, 0)


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


def _require_labels(voxels: np.ndarray, path: Path, num_classes: int) -> None:
    if voxels.dtype.kind == "f" and (count := np.count_nonzero(voxels != np.rint(voxels))):
        remedy = "pass a label map, not an image; resample labels with nearest neighbour"
        raise refusal(path, f"{count} of {voxels.size} voxels are not whole numbers", remedy)
    if voxels.min() >= 0 and voxels.max() < num_classes:
        return
    values, counts = np.unique(voxels[(voxels < 0) | (voxels >= num_classes)], return_counts=True)
    listed = ", ".join(
        f"{value:.15g} ({count} of {voxels.size} voxels)"
        for value, count in list(zip(values, counts, strict=True))[:_LISTED_VALUES]
    )
    rest = (
        f" and {len(values) - _LISTED_VALUES} more values" if len(values) > _LISTED_VALUES else ""
    )
    raise refusal(
        path,
        f"holds labels outside 0..{num_classes - 1}: {listed}{rest}",
        "map them to classes, or raise the number of classes",
    )
