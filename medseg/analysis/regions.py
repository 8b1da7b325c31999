"""Regions of tensors, and how they pass through windows that move along axes.

A region is one mask per axis, `(queries, positions)`: it holds the values whose index lies in the
mask of every axis, and several regions are followed at once. What an operation does along one axis
is an array of sources, `(outputs, taps)`: the input positions that each output position takes;
positions outside the input are none.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Mask = np.ndarray
Region = tuple[Mask, ...]


def united(first: Region | None, second: Region) -> Region:
    """The smallest region that holds both; a region with an empty axis is empty."""
    second = only_where(np.logical_and.reduce([anywhere(mask) for mask in second]), second)
    if first is None:
        return second
    return tuple(a | b for a, b in zip(first, second, strict=True))


def convolved_region(
    options: dict[str, Any], kernel: Sequence[int], space: Region, size: Sequence[int]
) -> Region:
    """The spatial region of a convolution's input.

    Args:
        options: Stride, padding, dilation and `transposed`, as torch names them.
        kernel: Taps per axis.
        space: Spatial region of the output.
        size: Voxels of the input per axis.
    """
    return tuple(
        gathered(mask, size[axis], _window(options, kernel, axis, positions(mask)))
        for axis, mask in enumerate(space)
    )


def _window(
    options: dict[str, Any], kernel: Sequence[int], axis: int, outputs: np.ndarray
) -> np.ndarray:
    """Inputs `s·o + d·t − p`; of a transposed convolution the whole numbers `(o + p − d·t) / s`."""

    def along(option: Sequence[int] | int) -> int:
        if isinstance(option, int):
            return option
        return option[axis] if len(option) > 1 else option[0]

    stride, padding = along(options["stride"] or kernel), along(options["padding"])
    offsets = along(options.get("dilation", 1)) * np.arange(kernel[axis]) - padding
    if not options.get("transposed"):
        return outputs * stride + offsets
    places = outputs - offsets
    return np.where(places % stride == 0, places // stride, -1)


def positions(mask: Mask) -> np.ndarray:
    """Of the outputs, `(outputs, 1)`."""
    return np.arange(mask.shape[1])[:, None]


def gathered(mask: Mask, size: int, sources: np.ndarray) -> Mask:
    """The mask of `size` inputs that an output mask takes."""
    found = np.zeros((len(mask), size), dtype=bool)
    queries, outputs = np.nonzero(mask)
    for taken in sources[outputs].T:
        inside = (taken >= 0) & (taken < size)
        found[queries[inside], taken[inside]] = True
    return found


def anywhere(mask: Mask) -> Mask:
    """Whether the mask holds any position, `(queries, 1)`."""
    return np.asarray(mask.any(axis=1, keepdims=True))


def only_where(queries: Mask, region: Region) -> Region:
    """The region for some queries, nothing for the others; `queries` is `(queries, 1)`."""
    return tuple(mask & queries for mask in region)
