"""What a need becomes when axes are merged or split."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from medseg.analysis.windows import Mask


def reshaped(need: Sequence[Mask], shape: Sequence[int], queries: int) -> tuple[Mask, ...]:
    """The need of a tensor of the given shape whose reshaping is asked for.

    Axes that are merged or split are treated together: a value is needed if any of its images is,
    and the need of each axis is what any of its values has.
    """
    masks: list[Mask] = []
    for outer, inner in _groups([mask.shape[1] for mask in need], shape):
        group, sizes = need[outer], shape[inner]
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


def _groups(first: Sequence[int], second: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The smallest runs of axes of both shapes that hold equally many values."""
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
