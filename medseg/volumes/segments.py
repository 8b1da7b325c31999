"""Segments and structures with names: one label map from masks that may overlap."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.volumes.container import Doubt, refusal, require_memory
from medseg.volumes.labels import LARGEST_LABEL, Key


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
