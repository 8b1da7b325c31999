"""Outlines of masks: closed polygons that run halfway between voxels inside and outside.

A voxel is inside a polygon if its centre is. A hole is joined to the outline around it by a channel
of no width (the keyhole of DICOM PS3.3 C.8.8.6.3), so that one polygon says it all.
"""

import numpy as np


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons (points, 2) in voxel indices around what is True in a mask (i, j)."""
    from contourpy import FillType, contour_generator

    padded = np.pad(mask.T, 1).astype(np.float32)  # contourpy's first axis is its second coordinate
    found = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, 2)
    polygons = []
    for points, offsets in zip(*found, strict=True):
        rings = np.split(np.asarray(points, np.float64) - 1, np.asarray(offsets[1:-1], int))
        polygons.append(_keyhole([_corners(ring[:-1]) for ring in rings]))
    return polygons


def _corners(ring: np.ndarray) -> np.ndarray:
    """A ring without the points that lie between others on a straight line."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _keyhole(rings: list[np.ndarray]) -> np.ndarray:
    """The first ring, with the others, its holes, joined to it.

    From the rightmost point of each hole, rightmost holes first, a line to the right meets what
    surrounds it without leaving the inside (Eberly, "Triangulation by ear clipping", 2002).
    """
    outline, *holes = rings
    for hole in sorted(holes, key=lambda ring: ring[:, 0].max(), reverse=True):
        hole = np.roll(hole, -int(hole[:, 0].argmax()), axis=0)
        x, y = hole[0]
        start, end = outline, np.roll(outline, -1, axis=0)
        is_crossed = (start[:, 1] <= y) != (end[:, 1] <= y)
        rise = np.where(is_crossed, end[:, 1] - start[:, 1], 1)
        places = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
        places[~is_crossed | (places < x)] = np.inf
        edge = int(places.argmin())
        gate = [[places[edge], y]]
        outline = np.vstack([outline[: edge + 1], gate, hole, hole[:1], gate, outline[edge + 1 :]])
    return outline
