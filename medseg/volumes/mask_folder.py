"""A folder of masks, one file per class and named after it, as TotalSegmentator has them."""

from functools import partial
from pathlib import Path

import numpy as np

from medseg.volumes.container import Stored, refusal
from medseg.volumes.finder import case_id
from medseg.volumes.formats import read_stored
from medseg.volumes.geometry import decide_geometry
from medseg.volumes.labels import whole_numbers
from medseg.volumes.segments import Segment, Segmentation


def mask_names(folder: Path) -> list[str]:
    """Names of the classes: those of the files, without their endings.

    Raises:
        DataError: there is no mask.
    """
    return [case_id(path) for path in _masks(folder)]


def read_masks(folder: Path) -> Segmentation:
    """All masks of a folder; what is not 0 is of the class. They are read one by one, when used.

    Raises:
        DataError: there is none, or the first cannot be read.
    """
    paths = _masks(folder)
    first = read_stored(paths[0])
    segments = [
        Segment(case_id(path), number, partial(_mask, path, paths[0], first))
        for number, path in enumerate(paths, start=1)
    ]
    i, j, k, *_ = (*first.voxels.shape, 1)
    return Segmentation((i, j, k), first.header, segments, first.notes)


def _mask(path: Path, first_path: Path, first: Stored) -> np.ndarray:
    """Where a mask is not 0.

    Raises:
        DataError: it cannot be read, lies on another grid than the first, or is no mask.
    """
    stored = first if path == first_path else read_stored(path)
    place, own = (decide_geometry(each.header)[0].affine for each in (first, stored))
    if stored.voxels.shape != first.voxels.shape or not np.allclose(place, own, atol=1e-3):
        raise refusal(
            path,
            f"its shape {stored.voxels.shape} or place differs from that of {first_path.name}, "
            f"{first.voxels.shape}",
            "resample all masks onto one grid with nearest neighbour",
        )
    voxels, _ = whole_numbers(path, stored.voxels, stored.slope, stored.intercept)
    values = np.unique(voxels)
    if len(values) > 2 or values[0] < 0:
        fault = f"holds {len(values)} values, so that it is no mask of one class"
        raise refusal(path, fault, "save 0 and 1 alone, or take it away")
    return (voxels != 0).reshape((*voxels.shape, 1)[:3])


def _masks(folder: Path) -> list[Path]:
    paths = [
        path
        for path in sorted(folder.iterdir())
        if case_id(path) != path.name and not path.name.startswith(".")
    ]
    if not paths:
        raise refusal(folder, "holds no masks", "name a label map, or a folder of one mask a class")
    return paths
