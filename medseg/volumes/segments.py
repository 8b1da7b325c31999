"""Segments and structures with names: one label map from masks that may overlap.

Those of 3D Slicer (.seg.nrrd) lie in layers where they overlap, which are the channels of the
volume; a number counts within its layer. Format: https://slicer.readthedocs.io, "Segmentations",
"Segmentation file format". A folder of masks, one file per class and named after it, is what
TotalSegmentator writes.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.volumes.container import Doubt, Stored, open_content, refusal, require_memory
from medseg.volumes.finder import case_id
from medseg.volumes.formats import read_stored
from medseg.volumes.geometry import decide_geometry
from medseg.volumes.itk import HEADER_LIMIT_BYTES, read_nrrd
from medseg.volumes.labels import LARGEST_LABEL, Key, whole_numbers

_REPAIR = "save it again in 3D Slicer"


@dataclass(frozen=True)
class Segment:
    """One segment of a segmentation, or one structure of a structure set.

    Attributes:
        name: as the file spells it.
        number: the file's own.
        mask: computes a boolean array (i, j, k).
    """

    name: str
    number: int
    mask: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All segments of a file.

    Attributes:
        shape: (i, j, k) of each mask.
        header: of their grid.
        segments: in the order of the file; several may have one name.
        notes: what was odd about the file.
    """

    shape: tuple[int, int, int]
    header: nib.Nifti1Header
    segments: Sequence[Segment]
    notes: tuple[str, ...]


def label_map(
    segmentation: Segmentation, path: Path, values: Mapping[Key, int] | None
) -> tuple[np.ndarray, list[str]]:
    """Paints the segments that `values` names into one map, the largest first.

    So a voxel of two classes has the smaller one: a tumour is not lost in its organ, whatever
    the order of the file.

    Args:
        segmentation: of one file.
        path: of the file.
        values: class by name or number of a segment. None: the file's own numbers.

    Returns:
        uint16 labels (i, j, k), and notes on overlaps and on what was left out.

    Raises:
        DataError: two segments of different names have one number, or one exceeds 65535.
    """
    segments, notes = segmentation.segments, []
    classes = _own_numbers(segments, path) if values is None else _chosen(segments, values)
    if values is not None:
        notes += _differences(segments, values, classes)
    voxels = int(np.prod(segmentation.shape))
    require_memory(path, voxels * (4 + len(classes) // 8))
    masks = {value: np.zeros((voxels + 7) // 8, np.uint8) for value in sorted({*classes.values()})}
    names = defaultdict(list)
    for segment in segments:
        if (value := classes.get(segment.name)) is not None:
            masks[value] |= np.packbits(segment.mask())
            names[value].append(segment.name)
    sizes = {value: int(np.bitwise_count(mask).sum()) for value, mask in masks.items()}
    labels = np.zeros(voxels, np.uint16)
    for value in sorted(masks, key=lambda value: sizes[value], reverse=True):
        mask = np.unpackbits(masks[value], count=voxels).view(bool)
        for other, count in enumerate(np.bincount(labels[mask])):
            if other and count:
                notes.append(
                    Doubt(
                        f"{names[other][0]!r} and {names[value][0]!r} share {count} voxels, "
                        f"which are given to the smaller, {names[value][0]!r}"
                    )
                )
        labels[mask] = value
        if not sizes[value]:
            notes.append(Doubt(f"{names[value][0]!r} has no voxel"))
    return labels.reshape(segmentation.shape), notes


def _own_numbers(segments: Sequence[Segment], path: Path) -> dict[str, int]:
    classes = {segment.name: segment.number for segment in segments}
    if len(set(classes.values())) < len(classes):  # layers of Slicer count anew
        classes = {name: number for number, name in enumerate(classes, 1)}
    if classes and not 0 < min(classes.values()) <= max(classes.values()) <= LARGEST_LABEL:
        fault = f"numbers its segments {sorted(classes.values())}"
        raise refusal(
            path, fault, f"number them 1 to {LARGEST_LABEL}, or map their names to classes"
        )
    return classes


def _chosen(segments: Sequence[Segment], values: Mapping[Key, int]) -> dict[str, int]:
    """Class by name; a name goes before a number."""
    by_key = {str(key): value for key, value in values.items()}
    found = {s.name: by_key.get(s.name, by_key.get(str(s.number))) for s in segments}
    return {name: value for name, value in found.items() if value}


def _differences(
    segments: Sequence[Segment], values: Mapping[Key, int], classes: Mapping[str, int]
) -> list[str]:
    notes = []
    if left := list(dict.fromkeys(s.name for s in segments if s.name not in classes)):
        notes.append(f"no class is given for {', '.join(map(repr, left))}: left out")
    absent = {value for value in values.values() if value} - set(classes.values())
    if names := [str(key) for key, value in values.items() if value in absent]:
        notes.append(Doubt(f"has no {', '.join(map(repr, names))}"))
    return notes


def slicer_names(path: Path) -> list[str] | None:
    """Names of the segments, in the file's order; None if it is no segmentation of Slicer.

    Raises:
        DataError: the file cannot be read, or its header contradicts itself.
    """
    found = _slicer_segments(path)
    return [name for name, _, _ in found] if found else None


def read_slicer_segments(path: Path) -> Segmentation | None:
    """All segments; None if the file is no segmentation of Slicer.

    Raises:
        DataError: as of `read_nrrd`; a layer is missing, or a voxel belongs to no segment.
    """
    if not (found := _slicer_segments(path)):
        return None
    stored = read_nrrd(path)
    voxels = stored.voxels
    layers = voxels[..., None] if voxels.ndim == 3 else voxels
    if max(layer for _, _, layer in found) >= layers.shape[-1]:
        raise refusal(path, f"has {layers.shape[-1]} layers, fewer than its header names", _REPAIR)
    for index in range(layers.shape[-1]):
        known = [number for _, number, layer in found if layer == index]
        if strange := set(np.unique(layers[..., index]).tolist()) - {0, *known}:
            fault = f"holds {sorted(strange)[:5]}, which its header calls no segment"
            raise refusal(path, fault, _REPAIR)
    segments = [
        Segment(name, number, partial(np.equal, layers[..., layer], number))
        for name, number, layer in found
    ]
    return Segmentation(layers.shape[:3], stored.header, segments, stored.notes)


def _slicer_segments(path: Path) -> list[tuple[str, int, int]]:
    """Name, number and layer of each segment; before version 4.11, each had its own layer."""
    with open_content(path) as content:
        if content.read(4) != b"NRRD":
            return []
        header = re.split(rb"\r?\n\r?\n", content.read(HEADER_LIMIT_BYTES), maxsplit=1)[0]
    fields = re.findall(
        r"(?m)^Segment(\d+)_(Name|LabelValue|Layer):=(.*?)\r?$", header.decode(errors="replace")
    )
    found = {(int(index), field): value for index, field, value in fields}
    segments = []
    for index in sorted(index for index, field in found if field == "Name"):
        number = found.get((index, "LabelValue"), "1")
        layer = found.get((index, "Layer"), str(index))
        if not (number.isdecimal() and layer.isdecimal()):
            raise refusal(path, f"has segment {index} with no number or layer", _REPAIR)
        segments.append((found[index, "Name"], int(number), int(layer)))
    return segments


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
