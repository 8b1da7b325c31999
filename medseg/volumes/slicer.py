"""Segmentations of 3D Slicer (.seg.nrrd): names and numbers of segments stand in the header.

Segments that overlap lie in layers, which are the channels of the volume; a number counts within
its layer. Format: https://slicer.readthedocs.io, "Segmentations", "Segmentation file format".
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from medseg.volumes.container import open_content, refusal
from medseg.volumes.foreign import read_nrrd
from medseg.volumes.segments import Segment, Segmentation
from medseg.volumes.simpleitk import HEADER_LIMIT_BYTES

_REPAIR = "save it again in 3D Slicer"


def slicer_names(path: Path) -> list[str] | None:
    """Names of the segments, in the file's order; None if it is no segmentation of Slicer.

    Raises:
        DataError: the file cannot be read, or its header contradicts itself.
    """
    found = _segments(path)
    return [name for name, _, _ in found] if found else None


def read_slicer_segments(path: Path) -> Segmentation | None:
    """All segments; None if the file is no segmentation of Slicer.

    Raises:
        DataError: as of `read_nrrd`; a layer is missing, or a voxel belongs to no segment.
    """
    if not (found := _segments(path)):
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


def _segments(path: Path) -> list[tuple[str, int, int]]:
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
