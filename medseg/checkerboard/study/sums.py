"""Sums per phase over the windows of a case."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.checkerboard.cases.cracks import crack_histograms
from medseg.checkerboard.cases.lattice import fold
from medseg.checkerboard.cases.phase_moments import PhaseMoments, window_moments


class MapSums:
    """Moments of each channel of maps; `moments` is empty before the first window.

    Args:
        period: Voxels per axis after which a pattern repeats.
        slopes: Whether a staircase is to be told.
    """

    def __init__(self, period: Sequence[int], *, slopes: bool):
        self.period = tuple(period)
        self.slopes = slopes
        self.moments: list[PhaseMoments] = []

    def add(self, maps: Tensor, origin: Sequence[int]) -> None:
        """Adds windows `(n, channels, *space)` with their halo."""
        grams = window_moments(maps.flatten(0, 1), self.period, origin, slopes=self.slopes)
        grams = grams.unflatten(0, maps.shape[:2]).sum(dim=0).cpu()
        new = [PhaseMoments(self.period, gram) for gram in grams]
        old = self.moments
        self.moments = [a + b for a, b in zip(old, new, strict=True)] if old else new


class CrackCounts:
    """Label boundaries by phase: `histograms` has one per axis, None for an axis of stride 1."""

    def __init__(self, period: Sequence[int]):
        self.period = tuple(period)
        self.histograms: list[Tensor | None] = [None] * len(self.period)

    def add(self, labels: Tensor, origin: Sequence[int]) -> None:
        """Adds windows `(n, *space)`; boundaries between two windows are not counted."""
        if any(n < s for n, s in zip(labels.shape[1:], self.period, strict=True)):
            return
        for window in labels:
            new = crack_histograms(window, self.period, origin)
            self.histograms = [_added(a, b) for a, b in zip(self.histograms, new, strict=True)]


class ErrorCounts:
    """Wrong voxels and all voxels by phase; None before the first window."""

    def __init__(self, period: Sequence[int]):
        self.period = tuple(period)
        self.wrong: Tensor | None = None
        self.voxels: Tensor | None = None

    def add(self, labels: Tensor, truth: Tensor, origin: Sequence[int]) -> None:
        """Adds windows `(n, *space)`."""
        wrong = labels != truth
        fields = torch.cat([wrong, torch.ones_like(wrong)]).double()
        counts = fold(fields, self.period, origin).sum(dim=-1)
        errors, voxels = counts.unflatten(0, (2, -1)).sum(dim=1)
        self.wrong, self.voxels = _added(self.wrong, errors), _added(self.voxels, voxels)


def _added(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    if new is None:
        return old
    return new.cpu() if old is None else old + new.cpu()
