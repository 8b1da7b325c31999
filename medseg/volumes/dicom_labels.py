"""DICOM segmentations (PS3.3 A.51) and RT structure sets (A.19) on the grid of their image.

A segmentation holds the drawn slices only, in any order; each frame says where it lies. Of closed
contours a voxel is inside if its centre is, by the even-odd rule over all contours of a plane (so
that a contour within another is a hole, as C.8.8.6.3 has it), or if it lies on a contour: programs
that trace the outermost voxels write their centres.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from medseg.volumes.container import Doubt, foreign_faults, refusal, require_memory
from medseg.volumes.dicom_files import is_closed, read_header, segments
from medseg.volumes.dicom_slices import Slice, attribute, plane, slices_of
from medseg.volumes.geometry import LPS_TO_RAS
from medseg.volumes.reader import Volume
from medseg.volumes.segments import Segment, Segmentation

_BESIDE_VOXELS = 0.25
_HALF = 0.5
_OTHER_GRID = "export the segmentation on the grid of its image"
_ON_CONTOUR = 1e-3  # voxels
_FLAT = 0.5
_BETWEEN = 0.05
_PLANE_DIGITS = 2
_DRAW_AGAIN = "draw the structures on the slices of this image, or name the image they belong to"


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


def read_structures(path: Path, like: Volume) -> Segmentation:
    """All structures with closed contours.

    Args:
        path: of the structure set.
        like: its image.

    Raises:
        DataError: it is damaged, or its contours do not lie in the image's slices.
    """
    dataset = read_header(path)
    shape = like.array.shape[-3:]
    grid = (shape[0], shape[1], shape[2])
    with foreign_faults(path, "pydicom"):
        names = {
            int(roi.ROINumber): str(roi.get("ROIName", ""))
            for roi in dataset.get("StructureSetROISequence", ())
        }
        contours = {
            int(item.ReferencedROINumber): list(item.get("ContourSequence") or ())
            for item in dataset.get("ROIContourSequence", ())
        }
        segments, notes = [], []
        for number, name in names.items():
            closed = [_points(c, path, like) for c in contours.get(number, ()) if is_closed(c)]
            if not closed:
                kinds = {str(c.get("ContourGeometricType", "")) for c in contours.get(number, ())}
                what = "/".join(sorted(kinds)) or "without contours"
                notes.append(f"{name!r} is {what} and no structure with an inside: left out")
                continue
            notes += _notes_of(name, closed, path, grid)
            segments.append(Segment(name, number, partial(rasterise, closed, grid)))
    if not segments:
        raise refusal(path, "holds no closed contour", "export the structures as contours")
    return Segmentation(grid, like.header, segments, tuple(notes))


def rasterise(contours: list[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """The voxels inside closed planar contours.

    Args:
        contours: Each (points, 3) in voxel indices, all points of one in one plane k.
        shape: (i, j, k) of the mask; a plane between two slices counts for the nearest.
    """
    planes: dict[float, list[np.ndarray]] = defaultdict(list)
    for points in contours:
        planes[round(float(points[:, 2].mean()), _PLANE_DIGITS)].append(points[:, :2])
    mask = np.zeros(shape, bool, order="F")  # a slice lies in one piece
    for k, outlines in planes.items():
        if 0 <= round(k) < shape[2]:
            mask[:, :, round(k)] |= _filled(outlines, shape[:2])
    return mask


def _filled(outlines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    starts = np.concatenate(outlines)
    ends = np.concatenate([np.roll(points, -1, axis=0) for points in outlines])
    lines, places = _crossings(starts, ends, margin=0.0)
    first_inside = np.clip(np.ceil(places), 0, shape[0]).astype(int)
    is_there = (lines >= 0) & (lines < shape[1])
    toggles = np.zeros((shape[0] + 1, shape[1]), bool)
    np.logical_xor.at(toggles, (first_inside[is_there], lines[is_there]), True)
    mask = np.logical_xor.accumulate(toggles, axis=0)[:-1]
    for axis in (0, 1):  # rows that contours cross, then columns
        if axis:
            starts, ends = starts[:, ::-1], ends[:, ::-1]
        lines, places = _crossings(starts, ends, margin=_ON_CONTOUR)
        nearest = np.rint(places).astype(int)
        i, j = (lines, nearest) if axis else (nearest, lines)
        is_on = (np.abs(places - nearest) <= _ON_CONTOUR) & (i >= 0) & (i < shape[0])
        is_on &= (j >= 0) & (j < shape[1])
        mask[i[is_on], j[is_on]] = True
    return mask


def _crossings(
    starts: np.ndarray, ends: np.ndarray, *, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where edges cross the lines of constant whole second coordinate.

    Args:
        starts: (edges, 2).
        ends: (edges, 2).
        margin: 0: a line through an end counts for one of two edges that meet there. Above: for
            both, also if it passes them by that much.

    Returns:
        The line's coordinate and the first coordinate of each crossing.
    """
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first = np.ceil(low - margin).astype(int)
    stop = (np.floor(high + margin) + 1 if margin else np.ceil(high)).astype(int)
    counts = np.maximum(stop - first, 0)
    edges = np.repeat(np.arange(len(starts)), counts)
    lines = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    rise = ends[edges, 1] - starts[edges, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(rise == 0, 0.0, (lines - starts[edges, 1]) / rise)
    places = starts[edges, 0] + np.clip(share, 0, 1) * (ends[edges, 0] - starts[edges, 0])
    return lines, places


def _points(contour: Dataset, path: Path, like: Volume) -> np.ndarray:
    """A contour (points, 3) in the image's voxel indices.

    Raises:
        DataError: it has no three coordinates a point, or does not run within a slice.
    """
    found = np.asarray(contour.get("ContourData") or (), np.float64)
    if not len(found) or len(found) % 3 or not np.isfinite(found).all():
        raise refusal(path, f"has a contour of {len(found)} coordinates", "export it again")
    points = np.c_[found.reshape(-1, 3), np.ones(len(found) // 3)].T
    indices = np.linalg.solve(like.geometry.affine, LPS_TO_RAS @ points)[:3].T
    if np.ptp(indices[:, 2]) > _FLAT:
        raise refusal(path, f"has contours across the slices of {like.path}", _DRAW_AGAIN)
    return indices


def _notes_of(
    name: str, contours: list[np.ndarray], path: Path, grid: tuple[int, int, int]
) -> list[str]:
    """What is doubtful about the planes of a structure.

    Raises:
        DataError: all of them lie outside the image.
    """
    planes = np.array([points[:, 2].mean() for points in contours])
    notes = []
    if (between := np.abs(planes - np.rint(planes)).max()) > _BETWEEN:
        notes.append(
            Doubt(
                f"{name!r} was drawn up to {between:.2g} slices beside those of the image; "
                "each contour goes to the nearest slice"
            )
        )
    outside = np.count_nonzero((np.rint(planes) < 0) | (np.rint(planes) >= grid[2]))
    if outside == len(planes):
        raise refusal(path, f"{name!r} lies outside the image", _DRAW_AGAIN)
    if outside:
        notes.append(Doubt(f"{outside} contours of {name!r} lie outside the image: left out"))
    return notes
