"""Sums over the windows of one case, taken while it is predicted.

Each window is a grid of its own, whose phases start at its first voxel; after overlap-add of
several windows there are no phases any more. Only sums are kept, of the middle of each window:
memory does not grow with the volume.
"""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medseg.checkerboard.boundaries import boundary_histograms
from medseg.checkerboard.moments import PhaseMoments, halo, window_moments
from medseg.checkerboard.phases import fold
from medseg.checkerboard.probes import CycleSpin
from medseg.data.patches import central_patch
from medseg.inference.sliding_window import Observer
from medseg.labelling import Labelling

_LEAST_VOXELS = 8  # per phase, as many as a fit needs
_MOST_PHASES = 512  # of more, each has too few voxels to tell


@dataclass(frozen=True, kw_only=True, eq=False)
class Exemplar:
    """The window of a case with the most predicted foreground.

    Args:
        image: `(channels, *window)`.
        logits: `(outputs, *window)`.
        labelling: What they mean.
        truth: Labels `window`, or None.
        cycle_spin: How its logits change while it moves, once that was measured.
    """

    image: Tensor
    logits: Tensor
    labelling: Labelling
    truth: Tensor | None
    cycle_spin: CycleSpin | None = None

    @property
    def contrasts(self) -> list[Tensor]:
        """Each class's logit over that of the background, or each region's: what decides on it."""
        return [*self.labelling.contrasts(self.logits)]

    @property
    def labels(self) -> Tensor:
        """Label map `window`."""
        return self.labelling.label_map(self.logits)


@dataclass(frozen=True)
class Region:
    """The part of each window of a case that is analysed: `start`, `length` voxels per axis.

    What a border does, fixed padding as well as the end of the analysed part itself, is at the same
    phase in every case, so it passes for a grid. Two things part it from one:

    - an eighth of the window is left out at both ends, where padding shows most;
    - the part begins at `margin + U + U'`, U and U' uniform on 0 … s − 1 and drawn for each case,
      and is as long for all. Its phase is uniform, so what its ends do has no phase in common. Nor
      has it where that changes along the axis like a line: `E[U + U' | U + U' ≡ φ mod s]` is the
      same for each phase φ, the sum rule of a linear B-spline. One uniform draw has an order less.

    Args:
        start: First voxel of the window that is analysed.
        length: Voxels, whole periods where the stride is above 1.
    """

    start: tuple[int, ...]
    length: tuple[int, ...]

    @classmethod
    def drawn(
        cls, period: Sequence[int], window: Sequence[int], grid: Sequence[int], seed: int
    ) -> "Region | None":
        """The region of one case; None where its windows have no room.

        Args:
            period: Voxels per axis after which a pattern repeats.
            window: Voxels per axis.
            grid: Of the image, which is padded at both ends where it is shorter.
            seed: Of the place.

        >>> Region.drawn((4, 1), (64, 64), (90, 90), seed=0)
        Region(start=(11, 0), length=(40, 64))
        """
        sizes = [min(pair) for pair in zip(window, grid, strict=True)]
        length = tuple(_periods(s, n) * s for s, n in zip(period, sizes, strict=True))
        if math.prod(n // s for n, s in zip(length, period, strict=True)) < _LEAST_VOXELS:
            return None
        generator = torch.Generator().manual_seed(seed)
        start = [
            (whole - size) // 2
            + _margin(step, size)
            + int(torch.randint(step, (2,), generator=generator).sum())
            for step, size, whole in zip(period, sizes, window, strict=True)
        ]
        return cls(tuple(start), length)

    def within(self, before: Sequence[int], after: Sequence[int]) -> tuple[slice, ...]:
        """Its voxels, and so many before and after them."""
        sides = zip(self.start, self.length, before, after, strict=True)
        return tuple(slice(s - b, s + n + a) for s, n, b, a in sides)


def _margin(step: int, size: int) -> int:
    """Voxels left out at both ends of an axis; an axis without phases is analysed whole."""
    return max(*halo([step]), size // 8) if step > 1 else 0


def _periods(step: int, size: int) -> int:
    """Whole periods of a region, wherever it begins."""
    return max(0, size - 2 * _margin(step, size) - 2 * (step - 1)) // step


def analysed_levels(
    levels: Sequence[tuple[int, ...]], window: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """The levels of a stride grid that are looked for: the finest, and all with room enough.

    That is at most 512 phases, and 4 periods to a window, so that images smaller than it have some.

    >>> analysed_levels([(2, 2), (4, 4), (8, 8), (16, 16)], (64, 64))
    ((2, 2), (4, 4), (8, 8))
    """
    return tuple(
        level
        for place, level in enumerate(levels)
        if place == 0
        or (
            math.prod(level) <= _MOST_PHASES
            and all(_periods(s, n) >= 4 for s, n in zip(level, window, strict=True) if s > 1)
        )
    )


class CaseSums:
    """Sums over the windows of one case; an observer of `medseg.inference.sliding_window.slide`.

    Args:
        period: Voxels per axis after which a pattern repeats.
        patch_size: The window; its length is the network's dimension.
        labelling: What the network's outputs and labels mean.
        truth: Labels on the network's grid, three axes, or None.
        seed: Of the region's place.

    `boundaries` counts the faces of `prediction` and `truth` by axis and phase, `errors` the wrong
    voxels and all voxels by phase. `fault` is why a case has no numbers, `seconds` how long all
    that took, `middle` the window in the middle of the image, `(channels, *window)`.
    """

    def __init__(
        self,
        *,
        period: Sequence[int],
        patch_size: Sequence[int],
        labelling: Labelling,
        truth: Tensor | None = None,
        seed: int = 0,
    ):
        self.period = tuple(period)
        self.labelling = labelling
        self.patch_size = tuple(patch_size)
        self.truth = truth
        self.seed = seed
        self.region: Region | None = None
        self.middle: Tensor | None = None
        self._clear()

    def start(self, image: Tensor) -> Observer:
        """Begins the case anew.

        Args:
            image: `(channels, *grid)`, three axes.
        """
        self._clear()
        self.middle = central_patch(image, self.patch_size).float().cpu().clone()
        grid = image.shape[1 : 1 + len(self.patch_size)]
        self.region = Region.drawn(self.period, self.patch_size, grid, self.seed)
        return self

    def moments(self, group: str) -> list[PhaseMoments]:
        """Moments of each map of a group; empty before the first window.

        Args:
            group: `prediction` (`Labelling.contrasts` of the logits), `image` (each
                channel) or `truth` (the mask of the foreground).
        """
        return [PhaseMoments(self.period, gram) for gram in self._grams.get(group, ())]

    def _clear(self) -> None:
        self._grams: dict[str, Any] = defaultdict(int)
        self.boundaries: dict[str, dict[int, Any]] = {
            whose: defaultdict(int) for whose in ("prediction", "truth")
        }
        self.errors = torch.zeros(2, math.prod(self.period), dtype=torch.float64)
        self.exemplar: Exemplar | None = None
        self.fault = ""
        self.seconds = 0.0
        self._foreground = -1

    def __call__(self, windows: Tensor, logits: Tensor, starts: list[tuple[int, ...]]) -> None:
        """Adds the windows of one pass."""
        start = time.perf_counter()
        if bool(logits.sum(dtype=torch.float64).isfinite()):  # faster than one by one
            self._add(windows, logits.contiguous(), starts)  # one class after the other
        else:
            self.fault = "the logits are not finite"
        self.seconds += time.perf_counter() - start

    def _add(self, windows: Tensor, logits: Tensor, starts: list[tuple[int, ...]]) -> None:
        truth = self._truth_of(logits, starts)
        overlap = self.labelling.overlap
        labels = self.labelling.label_map(logits, 1) if overlap else _strongest(logits)
        if self.region is not None:
            self._add_maps(windows, logits, truth, self.region)
            self._add_labels(labels, truth, self.region)
        foreground = (labels > 0).flatten(1).sum(dim=1)
        best = int(foreground.argmax())
        if int(foreground[best]) > self._foreground:
            self._foreground = int(foreground[best])
            self.exemplar = Exemplar(
                image=windows[best].float().cpu().clone(),
                logits=logits[best].cpu().clone(),
                labelling=self.labelling,
                truth=None if truth is None else truth[best].cpu(),
            )

    def _add_maps(
        self, windows: Tensor, logits: Tensor, truth: Tensor | None, region: Region
    ) -> None:
        margin = halo(self.period)
        here = (..., *region.within(margin, margin))
        origin = [start - m for start, m in zip(region.start, margin, strict=True)]
        seen = logits[here]
        contrasts = self.labelling.contrasts(seen, 1)
        maps = {"prediction": contrasts, "image": windows[here].float()}
        if truth is not None:
            maps["truth"] = (truth[:, None] > 0)[here].float()
        for group, each in maps.items():
            slopes = group == "prediction"  # of which alone a staircase is measured
            grams = window_moments(each.flatten(0, 1), self.period, origin, slopes=slopes)
            self._grams[group] += grams.unflatten(0, each.shape[:2]).sum(dim=0).cpu()

    def _add_labels(self, labels: Tensor, truth: Tensor | None, region: Region) -> None:
        none, one = [0] * len(self.period), [1 if step > 1 else 0 for step in self.period]
        here = (..., *region.within(none, none))
        if truth is not None:
            wrong = labels[here] != truth[here]
            fields = torch.cat([wrong, torch.ones_like(wrong)]).double()
            counts = fold(fields, self.period, region.start).sum(dim=-1)
            self.errors += counts.unflatten(0, (2, -1)).sum(dim=1).cpu()
        # a face lies before its voxel, and as many of each phase are looked at
        faces_of = (..., *region.within(one, none))
        origin = [start - side for start, side in zip(region.start, one, strict=True)]
        for whose, each in {"prediction": labels, "truth": truth}.items():
            if each is not None:
                found = boundary_histograms(each[faces_of], self.period, origin)
                for axis, faces in found.items():
                    self.boundaries[whose][axis] += faces.cpu()

    def _truth_of(self, logits: Tensor, starts: list[tuple[int, ...]]) -> Tensor | None:
        if self.truth is None:
            return None
        size = [*logits.shape[2:], *[1] * (self.truth.ndim - len(self.patch_size))]
        found = [_window_of(self.truth, size, start) for start in starts]
        return torch.stack(found).reshape(len(starts), *logits.shape[2:]).to(logits.device)


def _strongest(logits: Tensor) -> Tensor:
    """Class with the largest logit, `(n, *window)`; torch's argmax over channels is slow."""
    best, labels = logits[:, 0], torch.zeros_like(logits[:, 0], dtype=torch.int16)
    for index, rival in enumerate(logits.unbind(1)[1:], start=1):
        labels.masked_fill_(rival > best, index)
        best = torch.maximum(best, rival)
    return labels


def _window_of(labels: Tensor, size: Sequence[int], start: Sequence[int]) -> Tensor:
    """Labels of a window, 0 where it reaches beyond the grid."""
    window = torch.zeros(tuple(size), dtype=torch.int16)
    ends = zip(start, size, labels.shape, strict=True)
    there = [(max(0, s), min(s + w, n)) for s, w, n in ends]
    here = tuple(slice(a - s, b - s) for (a, b), s in zip(there, start, strict=True))
    window[here] = labels[tuple(slice(a, b) for a, b in there)].to(torch.int16)
    return window
