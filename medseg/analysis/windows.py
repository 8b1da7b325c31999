"""Which positions along one axis an operation looks at, given those that are asked for.

A mask is boolean `(queries, positions)`; several questions are answered at once.
"""

import math
from fractions import Fraction

import numpy as np

Mask = np.ndarray


def convolved(need: Mask, size: int, kernel: int, stride: int, padding: int, rate: int) -> Mask:
    """Output o looks at inputs `s·o + d·t − p`, t < kernel."""
    found = np.zeros((len(need), size), dtype=bool)
    outputs = np.arange(need.shape[1])
    for tap in range(kernel):
        _mark(found, outputs * stride + tap * rate - padding, need)
    return found


def painted(need: Mask, size: int, kernel: int, stride: int, padding: int, rate: int) -> Mask:
    """Output o of a transposed convolution looks at inputs `(o + p − d·t) / s` that are whole."""
    found = np.zeros((len(need), size), dtype=bool)
    inputs = np.arange(size)
    for tap in range(kernel):
        outputs = inputs * stride + tap * rate - padding
        inside = (outputs >= 0) & (outputs < need.shape[1])
        found[:, inside] |= need[:, outputs[inside]]
    return found


def nearest(need: Mask, size: int, step: Fraction) -> Mask:
    """Output o looks at input `⌊o · step⌋`."""
    outputs = np.arange(need.shape[1])
    sources = outputs * step.numerator // step.denominator
    return _marked(need, size, np.minimum(sources, size - 1))


def nearest_exact(need: Mask, size: int, step: Fraction) -> Mask:
    """Output o looks at input `⌊(o + ½) · step⌋`."""
    outputs = np.arange(need.shape[1])
    sources = (2 * outputs + 1) * step.numerator // (2 * step.denominator)
    return _marked(need, size, np.minimum(sources, size - 1))


def linear(need: Mask, size: int, step: Fraction, *, align_corners: bool) -> Mask:
    """Output o looks at the two inputs around its place, at one if it lies on it."""
    below, share = _places(need.shape[1], size, step, align_corners=align_corners)
    below, share = np.maximum(below, 0), np.where(below < 0, 0, share)
    above = np.where(share > 0, np.minimum(below + 1, size - 1), below)
    return _marked(need, size, below) | _marked(need, size, above)


def cubic(need: Mask, size: int, step: Fraction, *, align_corners: bool) -> Mask:
    """Output o looks at the four inputs around its place, at one if it lies on it."""
    below, share = _places(need.shape[1], size, step, align_corners=align_corners)
    found = np.zeros((len(need), size), dtype=bool)
    for tap in (-1, 0, 1, 2):
        looked = np.where(share > 0, below + tap, below)
        found |= _marked(need, size, np.clip(looked, 0, size - 1))
    return found


def adaptive(need: Mask, size: int) -> Mask:
    """Output o looks at inputs from `⌊o · n_in / n_out⌋` to before `⌈(o + 1) · n_in / n_out⌉`."""
    found = np.zeros((len(need), size), dtype=bool)
    cells = need.shape[1]
    for output in range(cells):
        first, last = output * size // cells, math.ceil((output + 1) * size / cells)
        found[:, first:last] |= need[:, output : output + 1]
    return found


def shifted(need: Mask, size: int, start: int, step: int = 1) -> Mask:
    """Output o is input `start + step·o`."""
    return _marked(need, size, start + step * np.arange(need.shape[1]))


def fetched(need: Mask, size: int, sources: np.ndarray) -> Mask:
    """Output o is input `sources[o]`."""
    return _marked(need, size, sources)


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


def _marked(need: Mask, size: int, sources: np.ndarray) -> Mask:
    found = np.zeros((len(need), size), dtype=bool)
    _mark(found, sources, need)
    return found


def _mark(found: Mask, sources: np.ndarray, need: Mask) -> None:
    inside = (sources >= 0) & (sources < found.shape[1])
    queries, outputs = np.nonzero(need[:, inside])
    found[queries, sources[inside][outputs]] = True
