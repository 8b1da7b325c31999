"""Volumes as arrays whose shape, values and geometry were checked, or a refusal with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from medseg.errors import DataError
from medseg.volumes.container import Doubt, Stored, header_of, refusal
from medseg.volumes.formats import read_stored
from medseg.volumes.geometry import Form, Geometry, decide_geometry, in_axes_of

Nonfinite = Literal["refuse", "replace"]

_SILENT_VOXELS = 1e-3
_ROUNDED_VOXELS = 0.05
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
    channels: int | None = 1,
    spacing: Sequence[float] | None = None,
    nonfinite: Nonfinite = "refuse",
    prefer: Form = "sform",
) -> Volume:
    """Reads an image as float32 (channels, i, j, k), its scaling applied.

    Args:
        path: NIfTI (also compressed, or either file of a pair), NRRD, MetaImage, a picture (PNG,
            JPEG, BMP, GIF, PNM), a TIFF picture or stack, or DICOM: a multi-frame file, any one
            file of a series, or the folder of a single series.
        channels: how many the image must have; they are its last axis in the file. None: as many
            as it has. A grey picture has as many equal ones as are asked for.
        spacing: mm along columns, rows and pages of a picture, used where it states none.
        nonfinite: whether NaN and infinite voxels are an error, or become the smallest finite
            value of their channel.
        prefer: the form of the header to follow where both are valid.

    Raises:
        DataError: the file is damaged, incomplete, or not such an image.
    """
    path = Path(path)
    return image_of(
        read_stored(path),
        path,
        channels=channels,
        spacing=spacing,
        nonfinite=nonfinite,
        prefer=prefer,
    )


def image_of(
    stored: Stored,
    path: Path,
    *,
    channels: int | None = 1,
    spacing: Sequence[float] | None = None,
    nonfinite: Nonfinite = "refuse",
    prefer: Form = "sform",
) -> Volume:
    """An image whose voxels were read already; arguments and errors as of `read_image`."""
    header, geometry, notes = place(stored, path, spacing=spacing, prefer=prefer)
    voxels = stored.voxels if stored.palette is None else _coloured(stored, path)
    if stored.unstated is not None and channels is not None:
        voxels, grey_notes = _grey_or_colours(voxels, channels)
        notes += grey_notes
    array = _scaled(channels_first(voxels, path, channels), stored)
    value_notes = _settle_values(array, path, nonfinite)
    return Volume(path, array, geometry, header, (*stored.notes, *notes, *value_notes))


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
        note = f"lies up to {voxels:.2g} voxels away from {image.path}; taken as the same grid"
        notes.append(note if voxels <= _ROUNDED_VOXELS else Doubt(note))
    geometry = replace(labels.geometry, affine=affine)
    if geometry.axcodes != labels.geometry.axcodes:
        own, others = "".join(labels.geometry.axcodes), "".join(geometry.axcodes)
        notes.append(f"is stored in {own} orientation, its image in {others}; turned")
    return replace(labels, array=array, geometry=geometry, notes=tuple(notes))


def place(
    stored: Stored, path: Path, *, spacing: Sequence[float] | None, prefer: Form
) -> tuple[nib.Nifti1Header, Geometry, list[str]]:
    """Decides where the voxels lie, and notes what was doubtful; arguments as of `read_image`.

    Raises:
        DataError: there is no such place.
    """
    header, notes = stored.header, []
    if stored.unstated:
        sizes = np.ones(4)
        for axis in stored.unstated:
            sizes[axis] = 1.0 if spacing is None else spacing[axis]
        affine = np.asarray(header.get_best_affine()) @ np.diag(sizes)
        header = header_of(stored.voxels.shape[:3], affine)
        if spacing is None:
            notes.append(Doubt("states no voxel size; 1 mm is assumed"))
    try:
        geometry, geometry_notes = decide_geometry(header, prefer)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return header, geometry, notes + geometry_notes


def channels_first(voxels: np.ndarray, path: Path, channels: int | None) -> np.ndarray:
    """A view of shape (channels, i, j, k) of an array (i, j[, k[, 1][, channels]]).

    Raises:
        DataError: there are other axes, or other than so many channels.
    """
    if voxels.dtype.kind not in "iuf":
        raise refusal(path, f"its voxels are {voxels.dtype}", "convert to scalar")
    shape = voxels.shape
    extra = [length for length in shape[3:] if length > 1]
    found = extra[0] if extra else 1
    if len(shape) < 2 or len(extra) > 1 or channels not in (None, found):
        fault = f"shape {shape} must be {channels or 'any'} channel(s) of a volume (i, j, k)"
        raise refusal(path, fault, _remedy_of_channels(shape, extra, channels))
    volume = (*shape, 1)[:3]
    return np.moveaxis(voxels.reshape((*volume, found), order="A"), -1, 0)


def _remedy_of_channels(shape: tuple[int, ...], extra: list[int], channels: int | None) -> str:
    if len(shape) < 2 or len(extra) > 1:
        return "save it as one volume, its channels along the fourth axis"
    if channels == 1:
        return "save the volume that is meant, or each of them, as a file of its own"
    return f"stack the {channels} channels that were trained on, in their order, in one file"


def _coloured(stored: Stored, path: Path) -> np.ndarray:
    """The colours, or grey values, that the indices of a palette stand for."""
    palette = np.asarray(stored.palette)
    if int(stored.voxels.max()) >= len(palette):
        raise refusal(path, "uses an index that its palette lacks", "save it as RGB")
    is_grey = (palette == palette[:, :1]).all()
    return (palette[:, 0] if is_grey else palette)[stored.voxels]


def _grey_or_colours(voxels: np.ndarray, channels: int) -> tuple[np.ndarray, list[str]]:
    """A grey picture as the colours that are asked for, or the other way round, with a note."""
    if voxels.ndim == 3 and channels > 1:
        return np.stack([voxels] * channels, -1), [f"is grey; {channels} equal channels are made"]
    if voxels.ndim == 4 and channels == 1 and (voxels == voxels[..., :1]).all():
        return voxels[..., 0], ["its channels are equal; one is read"]
    return voxels, []


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
            notes.append(Doubt(f"{name}every voxel has the same value, {channel.flat[0]:g}"))
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
