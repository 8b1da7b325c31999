"""Scores on the network's grid → labels on the volume's own, slice by slice.

Linear interpolation takes, at each voxel, a weighted mean of the eight cells around it, with
weights that are at least 0 and sum to 1. Where one class L is the strongest of all eight it is the
strongest of the mean: p_L ≥ p_c in each cell gives Σ w p_L ≥ Σ w p_c for every class c. Equal
scores go to the class with the lowest number; a lower class c has p_c < p_L in each cell, and so in
the mean. Hence only voxels between cells of different labels are interpolated, and those with all
classes: a third class may win between two others. Rounding decides between scores that are equal
but for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_VOXELS_AT_ONCE = 1 << 15  # whose classes are interpolated together


@dataclass(frozen=True)
class _Slice:
    """Scores `(cells, classes)` and labels `(H, W)` of one slice."""

    cells: Tensor
    labels: Tensor


class Restoration:
    """Takes slices of scores in their order, and holds the last one only.

    Args:
        grid: The network's grid.
        size: The target grid.
        axis: Which slices lie across.
        scores: Where those of every class go, `(classes, *size)` float32; None: nowhere.
    """

    def __init__(
        self,
        grid: Sequence[int],
        size: Sequence[int],
        *,
        axis: int,
        scores: np.ndarray | None = None,
    ):
        rest = [a for a in range(3) if a != axis]
        self._axis = axis
        self._low, self._high, self._weight = _neighbours(grid[axis], size[axis])
        self._sides = [_neighbours(grid[a], size[a]) for a in rest]
        self._cross = tuple(size[a] for a in rest)
        self._labels: Tensor | None = None
        self.scores = scores
        self._moved = None if scores is None else torch.from_numpy(scores).movedim(1 + axis, 1)
        self._index = 0
        self._former: _Slice | None = None

    @property
    def labels(self) -> np.ndarray:
        """Class with the largest score at each voxel, uint8, or int32 beyond 256 classes."""
        assert self._labels is not None  # something was added
        return self._labels.movedim(0, self._axis).numpy()

    def add(self, scores: Tensor) -> None:
        """Restores the voxels whose last neighbour is the next slice.

        Args:
            scores: `(classes, H, W)` of that slice, float32.
        """
        classes, index = len(scores), self._index
        if self._labels is None:
            self._sides = [tuple(t.to(scores.device) for t in side) for side in self._sides]
            dtype = torch.uint8 if classes <= 256 else torch.int32
            self._labels = torch.zeros((len(self._low), *self._cross), dtype=dtype)
        cells = scores.flatten(1).T.contiguous()
        found = cells.argmax(1).to(self._labels.dtype).reshape(scores.shape[1:])
        last = _Slice(cells, found)
        ready = self._high == index
        for first in (self._former, last):
            low = index - (first is not last)
            here = (ready & (self._low == low)).nonzero().flatten().tolist()
            if first is not None and here:
                if self._moved is None:
                    self._restore_labels(first, last, here)
                else:
                    self._restore_all(first, last, here, scores.shape[1:])
        self._former, self._index = last, index + 1

    def _restore_labels(self, first: _Slice, last: _Slice, here: list[int]) -> None:
        assert self._labels is not None
        lowest = torch.minimum(first.labels, last.labels)
        highest = torch.maximum(first.labels, last.labels)
        for dim, (low, high, _) in enumerate(self._sides):
            lowest = torch.minimum(*(lowest.index_select(dim, each) for each in (low, high)))
            highest = torch.maximum(*(highest.index_select(dim, each) for each in (low, high)))
        self._labels[here] = lowest.cpu()
        flat = self._labels.view(len(self._labels), -1)
        for voxels in (lowest != highest).flatten().nonzero().flatten().split(_VOXELS_AT_ONCE):
            around, weights = self._around(voxels, first.labels.shape[1])
            near, far = (
                functional.embedding_bag(around, each.cells, mode="sum", per_sample_weights=weights)
                for each in (first, last)
            )
            for index in here:
                share = float(self._weight[index])
                found = (near * (1 - share) + far * share).argmax(1)
                flat[index, voxels.cpu()] = found.to(flat.dtype).cpu()

    def _around(self, voxels: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The four cells around voxels of a slice, and their weights, `(n, 4)` each."""
        cells, weights = [], []
        down, across = (
            ((low[at], 1 - weight[at]), (high[at], weight[at]))
            for (low, high, weight), at in zip(
                self._sides, (voxels // self._cross[1], voxels % self._cross[1]), strict=True
            )
        )
        for row, of_row in down:
            for column, of_column in across:
                cells.append(row * width + column)
                weights.append(of_row * of_column)
        return torch.stack(cells, 1), torch.stack(weights, 1)

    def _restore_all(
        self, first: _Slice, last: _Slice, here: list[int], shape: Sequence[int]
    ) -> None:
        assert self._labels is not None
        assert self._moved is not None
        near, far = (
            functional.interpolate(
                each.cells.T.reshape(1, -1, *shape), size=self._cross, mode="bilinear"
            )[0].cpu()
            for each in (first, last)
        )
        for index in here:
            share = float(self._weight[index])
            fine = near * (1 - share) + far * share
            self._moved[:, index] = fine
            self._labels[index] = fine.argmax(0)


def _neighbours(cells: int, voxels: int) -> tuple[Tensor, Tensor, Tensor]:
    """The cells before and after each voxel along an axis, and the weight of the second."""
    place = ((torch.arange(voxels) + 0.5) * (cells / voxels) - 0.5).clamp(min=0)
    low = place.floor().long().clamp(max=cells - 1)
    weight = (place - low).clamp(0, 1)
    high = (low + (weight > 0)).clamp(max=cells - 1)
    return low, high, weight
