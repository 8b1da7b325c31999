"""Images of nibabel, SimpleITK and numpy as volumes, and label maps in the same kind."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation gives it
from nibabel.spatialimages import SpatialImage

from medseg.errors import DataError
from medseg.volumes import Volume, read_image
from medseg.volumes.container import Stored, header_of
from medseg.volumes.itk import itk_affine
from medseg.volumes.reader import image_of

Back = Callable[[np.ndarray], Any]
"""Label map `(i, j, k)` → the kind of image that its volume came as."""

_PATH = Path("image")  # what messages call an image without a file


def volume_of(image: Any, affine: Any, channels: int) -> tuple[Volume, Back]:
    """An image as a volume; voxels that are not finite become the channel's smallest value.

    Args:
        image: A path, an image of nibabel or SimpleITK, or an array `(i, j, k)` or
            `(channels, i, j, k)`.
        affine: Of an array, 4 × 4, voxel index to mm (right, anterior, superior).
        channels: How many it must have; the last axis of an image of nibabel.

    Returns:
        The volume, and the way from a label map to the kind of `image`: for a path, an image of
        nibabel.

    Raises:
        DataError: the image cannot be used, or is of no such kind.
    """
    if (affine is not None) != isinstance(image, np.ndarray):
        raise DataError("an array needs affine=, voxel index to mm; other images have their own")
    options: Any = {"channels": channels, "nonfinite": "replace"}
    if isinstance(image, str | PathLike):
        volume = read_image(Path(image), **options)
    elif isinstance(image, SpatialImage):
        own = image.header if isinstance(image.header, nib.Nifti1Header) else None
        header = header_of(image.shape[:3], np.asarray(image.affine)) if own is None else own.copy()
        volume = image_of(_stored(np.asanyarray(image.dataobj), header), _PATH, **options)
    elif isinstance(image, sitk.Image):
        voxels = sitk.GetArrayFromImage(image)
        is_vector = image.GetNumberOfComponentsPerPixel() > 1
        voxels = np.moveaxis(voxels, -1, 0).T if is_vector else voxels.T
        header = header_of(voxels.shape[: min(image.GetDimension(), 3)], itk_affine(image))
        volume = image_of(_stored(voxels, header), _PATH, **options)
        return volume, lambda labels: _as_itk(labels, image)
    elif isinstance(image, np.ndarray):
        voxels = np.moveaxis(image, 0, -1) if image.ndim == 4 else image
        header = header_of(voxels.shape[:3], np.asarray(affine, float))
        return image_of(_stored(voxels, header), _PATH, **options), lambda labels: labels
    else:
        raise DataError(
            f"{type(image).__name__} is no image; give a path, an image of nibabel or SimpleITK, "
            "or an array with affine="
        )
    return volume, lambda labels: _as_nifti(labels, volume)


def _stored(voxels: np.ndarray, header: nib.Nifti1Header) -> Stored:
    return Stored(voxels, 1.0, 0.0, header, ())


def _as_nifti(labels: np.ndarray, volume: Volume) -> nib.Nifti1Image:
    header = volume.header.copy()
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    header.set_xyzt_units("mm")
    kind = nib.Nifti2Image if int(header["sizeof_hdr"]) == 540 else nib.Nifti1Image
    return kind(labels, volume.geometry.affine, header)


def _as_itk(labels: np.ndarray, image: sitk.Image) -> sitk.Image:
    found = sitk.GetImageFromArray(labels.reshape(image.GetSize()).T)
    found.CopyInformation(image)
    return found
