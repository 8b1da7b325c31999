"""DICOM segmentations (PS3.3 A.51) as masks on the grid of the image that they were drawn on.

A segmentation holds the drawn slices only, in any order; each frame says where it lies.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from medseg.volumes.container import foreign_faults, refusal, require_memory
from medseg.volumes.dicom import LPS_TO_RAS
from medseg.volumes.dicom_files import read_header, segments
from medseg.volumes.dicom_slices import Slice, attribute, plane, slices_of
from medseg.volumes.reader import Volume
from medseg.volumes.segments import Segment, Segmentation

_BESIDE_VOXELS = 0.25
_HALF = 0.5
_OTHER_GRID = "export the segmentation on the grid of its image"


def read_dicom_segments(path: Path, like: Volume) -> Segmentation:
    """All segments of a DICOM segmentation.

    Args:
        path: of a binary, fractional (probability of a half and more) or label map segmentation.
        like: its image.

    Raises:
        DataError: it is damaged, or its frames do not lie on the image's grid.
    """
    dataset = read_header(path, pixels=True)
    with foreign_faults(path, "pydicom"):
        frames = slices_of(path, dataset)
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        require_memory(path, 2 * rows * columns * len(frames))
        named = segments(dataset)
        kind = str(dataset.get("SegmentationType", "BINARY"))
        by_number: Mapping[int | None, list[Slice]] = {}
        for one in frames:
            found = attribute(
                dataset, one.frame, "SegmentIdentificationSequence", "ReferencedSegmentNumber"
            )
            key = None if kind == "LABELMAP" or found is None else int(found)
            by_number.setdefault(key, []).append(one)
        places = {one.frame: _place(one, like) for one in frames}
    if strange := sorted(set(by_number) - {None, *(number for number, _ in named)}, key=str):
        raise refusal(
            path, f"has frames of segment {strange[0]}, which it does not name", _OTHER_GRID
        )
    shape = like.array.shape[-3:]
    found = [
        Segment(
            name,
            number,
            partial(
                _mask,
                path,
                dataset,
                [*by_number.get(number, []), *by_number.get(None, [])],
                number,
                places,
                (shape[0], shape[1], shape[2]),
            ),
        )
        for number, name in named
    ]
    notes = ("holds probabilities; those of a half and more count",) if kind == "FRACTIONAL" else ()
    return Segmentation((shape[0], shape[1], shape[2]), like.header, found, notes)


def _mask(
    path: Path,
    dataset: Dataset,
    frames: list[Slice],
    number: int,
    places: Mapping[int, np.ndarray],
    shape: tuple[int, int, int],
) -> np.ndarray:
    mask = np.zeros(shape, bool)
    highest = int(dataset.get("MaximumFractionalValue", 1) or 1)
    kind = str(dataset.get("SegmentationType", "BINARY"))
    for one in frames:
        with foreign_faults(path, "pydicom"):
            pixels = _frame(dataset, one.frame)
        if kind == "LABELMAP":
            is_in = pixels == number
        else:
            is_in = pixels >= _HALF * highest if kind == "FRACTIONAL" else pixels != 0
        rows, columns = np.nonzero(is_in)
        indices = places[one.frame] @ np.stack([columns, rows, 0 * rows, 0 * rows + 1])
        i, j, k = np.rint(indices[:3]).astype(int)
        if (np.array([i, j, k]) < 0).any() or (np.array([i, j, k]) >= np.c_[list(shape)]).any():
            raise refusal(path, f"frame {one.frame + 1} reaches beyond its image", _OTHER_GRID)
        mask[i, j, k] = True
    return mask


def _frame(dataset: Dataset, index: int) -> np.ndarray:
    """Pixels (rows, columns) of a frame; bits are unpacked here, as frames may share a byte.

    pydicom 3.0 refuses those whose pixels are no multiple of 8.
    """
    if dataset.BitsAllocated > 1 or dataset.file_meta.TransferSyntaxUID.is_compressed:
        return pixel_array(dataset, index=index, raw=True)
    count = dataset.Rows * dataset.Columns
    start, left_over = divmod(index * count, 8)
    packed = np.frombuffer(dataset.PixelData, np.uint8)[start : start + count // 8 + 2]
    bits = np.unpackbits(packed, bitorder="little")[left_over : left_over + count]
    return bits.reshape(dataset.Rows, dataset.Columns)


def _place(one: Slice, like: Volume) -> np.ndarray:
    """The map from (column, row, 0, 1) of a frame to the image's voxel indices.

    Raises:
        DataError: they are other voxels than the image's.
    """
    if one.position is None or one.directions is None or one.spacing is None:
        raise refusal(one.path, f"frame {one.frame + 1} does not say where it lies", _OTHER_GRID)
    affine = np.linalg.solve(like.geometry.affine, LPS_TO_RAS @ plane(one, np.zeros(3)))
    corners = np.array([[0, 0, 0, 1], [one.shape[1] - 1, one.shape[0] - 1, 0, 1]]).T
    along = affine[:3, :2]
    is_same_size = np.abs(np.abs(along).max(axis=0) - 1).max() < 1e-2
    there = (affine @ corners)[:3]
    beside = float(np.abs(there - np.rint(there)).max())
    if not is_same_size or beside > _BESIDE_VOXELS:
        fault = f"frame {one.frame + 1} does not lie on the grid of {like.path}"
        raise refusal(one.path, fault, _OTHER_GRID)
    return affine
