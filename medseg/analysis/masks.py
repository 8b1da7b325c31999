"""Regions of a tensor as one mask per axis, and how they move through windows and reshapes.

A mask is boolean, `(queries, positions)`: several regions are followed at once.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from medseg.analysis.trace import Value

Mask = np.ndarray

Region = tuple[Mask, ...]
"""One mask per axis. It holds the values whose index lies in the mask of every axis."""


def whole(value: Value, queries: int) -> Region:
    """The region of all values of a tensor."""
    return tuple(np.ones((queries, size), dtype=bool) for size in value.shape)


def united(first: Region | None, second: Region) -> Region:
    """The smallest region that holds both; a region with an empty axis is empty."""
    second = only_where(np.logical_and.reduce([anywhere(mask) for mask in second]), second)
    if first is None:
        return second
    return tuple(a | b for a, b in zip(first, second, strict=True))


def anywhere(mask: Mask) -> Mask:
    """Whether the mask holds any position, `(queries, 1)`."""
    return np.asarray(mask.any(axis=1, keepdims=True))


def only_where(queries: Mask, region: Region) -> Region:
    """The region for some queries, nothing for the others; `queries` is `(queries, 1)`."""
    return tuple(mask & queries for mask in region)


def broadcast(region: Region, shape: Sequence[int]) -> Region:
    """The region of a tensor that was repeated to a larger shape."""
    own = region[len(region) - len(shape) :]
    return tuple(anywhere(m) if n == 1 else m for m, n in zip(own, shape, strict=True))


def reshaped(region: Region, shape: Sequence[int], queries: int) -> Region:
    """The region of a tensor before it was reshaped.

    Axes that a reshape merges or splits are treated together. The result may be too large, never
    too small.

    Args:
        region: Of the reshaped tensor.
        shape: Of the tensor before.
        queries: Number of regions.
    """
    masks: list[Mask] = []
    for outer, inner in _equal_runs([mask.shape[1] for mask in region], shape):
        group, sizes = region[outer], shape[inner]
        if len(group) == len(sizes) == 1:
            masks.extend(group)
            continue
        together = np.ones((queries, 1), dtype=bool)
        for mask in group:
            together = (together[:, :, None] & mask[:, None, :]).reshape(queries, -1)
        together = together.reshape(queries, *sizes)
        axes = range(1, together.ndim)
        others = [tuple(axis for axis in axes if axis != own) for own in axes]
        masks.extend(np.logical_or.reduce(together, axis=gone) for gone in others)
    return tuple(masks)


def _equal_runs(first: Sequence[int], second: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The smallest runs of axes of both shapes with equally many values."""
    i = j = 0
    while i < len(first) or j < len(second):
        start, other = i, j
        i, j = min(i + 1, len(first)), min(j + 1, len(second))
        while math.prod(first[start:i]) != math.prod(second[other:j]):
            if math.prod(first[start:i]) < math.prod(second[other:j]):
                i += 1
            else:
                j += 1
        yield slice(start, i), slice(other, j)


# Windows along one axis: from a mask of outputs to the mask of `size` inputs that they depend on.


def convolution_inputs(
    mask: Mask, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> Mask:
    """Output o depends on inputs `s·o + d·t − p`, t < kernel."""
    outputs = np.arange(mask.shape[1])
    found = np.zeros((len(mask), size), dtype=bool)
    for tap in range(kernel):
        found |= gathered(mask, size, outputs * stride + tap * dilation - padding)
    return found


def transposed_inputs(
    mask: Mask, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> Mask:
    """Output o of a transposed convolution depends on the whole numbers in `(o + p − d·t) / s`."""
    found = np.zeros((len(mask), size), dtype=bool)
    inputs = np.arange(size)
    for tap in range(kernel):
        outputs = inputs * stride + tap * dilation - padding
        inside = (outputs >= 0) & (outputs < mask.shape[1])
        found[:, inside] |= mask[:, outputs[inside]]
    return found


def nearest_inputs(mask: Mask, size: int, step: Fraction) -> Mask:
    """Output o depends on input `⌊o · step⌋`."""
    outputs = np.arange(mask.shape[1])
    sources = outputs * step.numerator // step.denominator
    return gathered(mask, size, np.minimum(sources, size - 1))


def nearest_exact_inputs(mask: Mask, size: int, step: Fraction) -> Mask:
    """Output o depends on input `⌊(o + ½) · step⌋`."""
    outputs = np.arange(mask.shape[1])
    sources = (2 * outputs + 1) * step.numerator // (2 * step.denominator)
    return gathered(mask, size, np.minimum(sources, size - 1))


def linear_inputs(mask: Mask, size: int, step: Fraction, *, align_corners: bool) -> Mask:
    """Output o depends on the two inputs around its place, on one if it lies on it."""
    below, share = _places(mask.shape[1], size, step, align_corners=align_corners)
    below, share = np.maximum(below, 0), np.where(below < 0, 0, share)
    above = np.where(share > 0, np.minimum(below + 1, size - 1), below)
    return gathered(mask, size, below) | gathered(mask, size, above)


def cubic_inputs(mask: Mask, size: int, step: Fraction, *, align_corners: bool) -> Mask:
    """Output o depends on the four inputs around its place, on one if it lies on it."""
    below, share = _places(mask.shape[1], size, step, align_corners=align_corners)
    found = np.zeros((len(mask), size), dtype=bool)
    for tap in (-1, 0, 1, 2):
        sources = np.where(share > 0, below + tap, below)
        found |= gathered(mask, size, np.clip(sources, 0, size - 1))
    return found


def adaptive_inputs(mask: Mask, size: int) -> Mask:
    """Output o depends on inputs `⌊o · n_in / n_out⌋` to `⌈(o + 1) · n_in / n_out⌉ − 1`."""
    found = np.zeros((len(mask), size), dtype=bool)
    cells = mask.shape[1]
    for output in range(cells):
        first, last = output * size // cells, math.ceil((output + 1) * size / cells)
        found[:, first:last] |= mask[:, output : output + 1]
    return found


def shifted(mask: Mask, size: int, start: int, step: int = 1) -> Mask:
    """Output o is input `start + step·o`."""
    return gathered(mask, size, start + step * np.arange(mask.shape[1]))


def gathered(mask: Mask, size: int, sources: np.ndarray) -> Mask:
    """Output o is input `sources[o]`; a source outside the input is none."""
    found = np.zeros((len(mask), size), dtype=bool)
    inside = (sources >= 0) & (sources < size)
    queries, outputs = np.nonzero(mask[:, inside])
    found[queries, sources[inside][outputs]] = True
    return found


def _places(
    outputs: int, size: int, step: Fraction, *, align_corners: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The input at or below each output's place, and the rest in fractions of a common unit."""
    index = np.arange(outputs)
    if align_corners:
        numerator, denominator = index * (size - 1), max(outputs - 1, 1)
    else:
        numerator = (2 * index + 1) * step.numerator - step.denominator
        denominator = 2 * step.denominator
    return numerator // denominator, numerator % denominator
