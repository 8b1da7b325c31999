"""Scores on the network's grid → labels on the volume's own, slice by slice.

Linear interpolation takes, at each voxel, a weighted mean of the eight cells around it, with
weights that are at least 0 and sum to 1. Where one class L is the strongest of all eight it is the
strongest of the mean: p_L ≥ p_c in each cell gives Σ w p_L ≥ Σ w p_c for every class c. Equal
scores go to the class with the lowest number; a lower class c has p_c < p_L in each cell, and so in
the mean. Hence only voxels between cells of different labels are interpolated, and those with all
classes: a third class may win between two others. The same holds for a sum over several grids,
where L is the strongest of the eight cells of each. Rounding decides between scores that are equal
but for it.

Regions overlap, and a voxel counts by the last whose probability exceeds one half. Where that is
region R in all eight cells, p_R > ½ and p_r ≤ ½ for every later r in each cell, and so in the mean:
it is R there. Of several grids, whose scores are shares s of the mean, it is so where p_R > s/2 and
p_r ≤ s/2 in the cells of each. The number of the region decides, not the label value that it is
written as, which others may share.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medseg.labelling import Labelling

VOXELS_AT_ONCE = 1 << 15  # whose classes are interpolated together


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores on a grid that covers what the target grid covers, one slice after the other.

    Args:
        grid: Its voxels along the axes of the target grid.
        slices: `(outputs, H, W)`, float32, at least 0 in sum; in their order, each taken once.
        share: Of the probabilities that all parts add up to, in (0, 1].
    """

    grid: Sequence[int]
    slices: Iterable[Tensor]
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What scores become on the target grid.

    Args:
        labels: Label values, uint8, or int32 beyond 256 of them.
        scores: `(outputs, *size)` float32, of those that were wanted; None if none was.
        entropy: In bits, float32; None unless wanted.
    """

    labels: np.ndarray
    scores: np.ndarray | None
    entropy: np.ndarray | None


def restore(
    parts: Sequence[Scores],
    size: Sequence[int],
    *,
    labelling: Labelling,
    axis: int,
    wanted: Sequence[int] = (),
    entropy: bool = False,
) -> Restored:
    """Interpolates scores linearly to the target grid, voxel edges aligned, and adds them up.

    Of each part two slices are held.

    Args:
        parts: Of the same classes or regions.
        size: The target grid.
        labelling: What the scores are of; of regions the sums must be probabilities.
        axis: Of the target grid, which slices lie across.
        wanted: Outputs whose scores are kept, in that order.
        entropy: Whether the entropy of the sums, which must be probabilities, is kept; of regions
            the sum of theirs.
    """
    rest = [a for a in range(3) if a != axis]
    cross = size[rest[0]], size[rest[1]]
    sources = [_Source(part, size, axis, rest, labelling) for part in parts]
    found = _Found(size, axis, labelling, wanted, entropy=entropy)
    for _, each in groupby(range(size[axis]), lambda t: [s.between(t) for s in sources]):
        here = list(each)
        for source in sources:
            source.go_to(here[0])
        if wanted or entropy:
            found.keep_all(sources, here, cross)
        else:
            found.keep_labels(sources, here)
    for source in sources:
        source.finish()
    return found.result()


@dataclass(frozen=True)
class _Slice:
    """Scores `(cells, outputs)` of one slice, and the `strongest` `(H, W)`."""

    cells: Tensor
    labels: Tensor

    @classmethod
    def of(cls, scores: Tensor, labelling: Labelling, share: float) -> "_Slice":
        cells = scores.flatten(1).T.contiguous()
        labels = labelling.strongest(cells, 1, share=share).to(_label_type(labelling))
        return cls(cells, labels.reshape(scores.shape[1:]))


class _Source:
    """The two slices of a part between which the target's next one lies."""

    def __init__(
        self,
        part: Scores,
        size: Sequence[int],
        axis: int,
        rest: Sequence[int],
        labelling: Labelling,
    ):
        self._labelling, self._of_mean = labelling, part.share
        self._low, self._high, self._weight = _neighbours(part.grid[axis], size[axis])
        self._sides = [_neighbours(part.grid[a], size[a]) for a in rest]
        self._width = size[rest[1]]
        self._slices = iter(part.slices)
        self._next = 0
        self._two: deque[_Slice] = deque(maxlen=2)

    def between(self, index: int) -> tuple[int, int]:
        """The slices before and after one of the target."""
        return int(self._low[index]), int(self._high[index])

    def share(self, index: int) -> float:
        """The weight of the slice after one of the target."""
        return float(self._weight[index])

    def go_to(self, index: int) -> None:
        """Takes the slices up to the one after a slice of the target."""
        while self._next <= self._high[index]:
            self._two.append(_Slice.of(next(self._slices), self._labelling, self._of_mean))
            self._next += 1
        device = self._two[-1].cells.device
        self._sides = [tuple(t.to(device) for t in side) for side in self._sides]
        self._first = self._two[0 if self._low[index] < self._high[index] else -1]
        self._last = self._two[-1]

    def finish(self) -> None:
        """Takes what is left, so that whoever makes the slices comes to an end."""
        self._two.clear()
        deque(self._slices, maxlen=0)

    def extremes(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest label of the cells around each voxel of a slice."""
        lowest = torch.minimum(self._first.labels, self._last.labels)
        highest = torch.maximum(self._first.labels, self._last.labels)
        for dim, (low, high, _) in enumerate(self._sides):
            lowest = torch.minimum(*(lowest.index_select(dim, each) for each in (low, high)))
            highest = torch.maximum(*(highest.index_select(dim, each) for each in (low, high)))
        return lowest.cpu(), highest.cpu()

    def at(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores `(n, outputs)` in both slices at voxels of the target, by number in a slice."""
        around, weights = self._around(voxels.to(self._last.cells.device))
        near, far = (
            functional.embedding_bag(around, each.cells, mode="sum", per_sample_weights=weights)
            for each in (self._first, self._last)
        )
        return near.cpu(), far.cpu()

    def everywhere(self, cross: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Scores `(outputs, *cross)` in both slices."""
        near, far = (
            functional.interpolate(
                each.cells.T.reshape(1, -1, *each.labels.shape), size=tuple(cross), mode="bilinear"
            )[0].cpu()
            for each in (self._first, self._last)
        )
        return near, far

    def _around(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """The four cells around voxels of a slice, and their weights, `(n, 4)` each."""
        cells, weights = [], []
        row_cells = self._last.labels.shape[1]
        down, across = (
            ((low[at], 1 - weight[at]), (high[at], weight[at]))
            for (low, high, weight), at in zip(
                self._sides, (voxels // self._width, voxels % self._width), strict=True
            )
        )
        for row, of_row in down:
            for column, of_column in across:
                cells.append(row * row_cells + column)
                weights.append(of_row * of_column)
        return torch.stack(cells, 1), torch.stack(weights, 1)


class _Found:
    """What is kept of the target's slices."""

    def __init__(
        self,
        size: Sequence[int],
        axis: int,
        labelling: Labelling,
        wanted: Sequence[int],
        *,
        entropy: bool,
    ):
        self._axis, self._labelling, self._wanted = axis, labelling, list(wanted)
        shape = [size[a] for a in (axis, *(a for a in range(3) if a != axis))]
        self._labels = torch.zeros(shape, dtype=_label_type(labelling))
        self._scores = torch.empty(len(wanted), *size).movedim(1 + axis, 0) if wanted else None
        self._entropy = torch.empty(*size).movedim(axis, 0) if entropy else None

    def keep_labels(self, sources: Sequence[_Source], here: Sequence[int]) -> None:
        """Labels of slices that lie between the same ones; all classes where it is needed."""
        lowest, highest = sources[0].extremes()
        for source in sources[1:]:
            low, high = source.extremes()
            lowest, highest = torch.minimum(lowest, low), torch.maximum(highest, high)
        self._labels[here] = lowest
        flat = self._labels.view(len(self._labels), -1)
        for voxels in (lowest != highest).flatten().nonzero().flatten().split(VOXELS_AT_ONCE):
            pairs = [source.at(voxels) for source in sources]
            for index in here:
                found = self._labelling.strongest(_sum(sources, pairs, index), 1)
                flat[index, voxels] = found.to(flat.dtype)

    def keep_all(
        self, sources: Sequence[_Source], here: Sequence[int], cross: Sequence[int]
    ) -> None:
        """Labels, and what else is wanted, of slices that lie between the same ones."""
        pairs = [source.everywhere(cross) for source in sources]
        for index in here:
            fine = _sum(sources, pairs, index)
            self._labels[index] = self._labelling.strongest(fine)
            if self._scores is not None:
                self._scores[index] = fine[self._wanted]
            if self._entropy is not None:
                bits = torch.special.entr(fine).sum(0)
                if self._labelling.overlap:
                    bits += torch.special.entr((1 - fine).clamp(min=0)).sum(0)
                self._entropy[index] = (bits / math.log(2)).clamp(min=0)

    def result(self) -> Restored:
        """Everything, along the axes of the target."""
        scores, entropy = self._scores, self._entropy
        return Restored(
            labels=self._labelling.written_as(self._labels.movedim(0, self._axis).numpy()),
            scores=None if scores is None else scores.movedim(0, 1 + self._axis).numpy(),
            entropy=None if entropy is None else entropy.movedim(0, self._axis).numpy(),
        )


def _sum(sources: Sequence[_Source], pairs: Sequence[tuple[Tensor, Tensor]], index: int) -> Tensor:
    """The scores of all parts at a slice of the target, between those before and after it."""
    total: Tensor | None = None
    for source, (near, far) in zip(sources, pairs, strict=True):
        share = source.share(index)
        fine = near * (1 - share) + far * share
        total = fine if total is None else total.add_(fine)
    assert total is not None  # there is a part
    return total


def _label_type(labelling: Labelling) -> torch.dtype:
    return torch.uint8 if labelling.ignored <= 256 else torch.int32


def _neighbours(cells: int, voxels: int) -> tuple[Tensor, Tensor, Tensor]:
    """The cells before and after each voxel along an axis, and the weight of the second."""
    place = ((torch.arange(voxels) + 0.5) * (cells / voxels) - 0.5).clamp(min=0)
    low = place.floor().long().clamp(max=cells - 1)
    weight = (place - low).clamp(0, 1)
    high = (low + (weight > 0)).clamp(max=cells - 1)
    return low, high, weight
