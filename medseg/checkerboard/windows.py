"""Sums over the windows of one case, taken while it is predicted.

Each window is a grid of its own, whose phases start at its first voxel; after overlap-add of
several windows there are no phases any more. So every voxel is counted in the one window whose
middle it is nearest to, and only sums are kept: memory does not grow with the volume.
"""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medseg.checkerboard.boundaries import boundary_histograms
from medseg.checkerboard.moments import PhaseMoments, halo, window_moments
from medseg.checkerboard.phases import fold
from medseg.checkerboard.probes import CycleSpin
from medseg.data.patches import central_patch
from medseg.inference.sliding_window import Observer, tiles

Part = tuple[slice, ...]
"""Voxels of a window, per axis."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exemplar:
    """The window of a case with the most predicted foreground.

    Args:
        image: `(channels, *window)`.
        logits: `(classes, *window)`.
        truth: Labels `window`, or None.
        cycle_spin: How its logits change while it moves, once that was measured.
    """

    image: Tensor
    logits: Tensor
    truth: Tensor | None
    cycle_spin: CycleSpin | None = None

    @property
    def contrasts(self) -> list[Tensor]:
        """Each class's logit over that of the background: what decides between the two."""
        return [logit - self.logits[0] for logit in self.logits[1:]]


class CaseSums:
    """Sums over the windows of one case; an observer of `medseg.inference.sliding_window.slide`.

    Args:
        period: Voxels per axis after which a pattern of the network repeats.
        patch_size: The window; its length is the network's dimension.
        overlap: Share of a window that it has in common with the next.
        truth: Labels on the network's grid, three axes, or None.

    `boundaries` counts the faces of `prediction` and `truth` by axis and phase, `errors` the wrong
    voxels and all voxels by phase. `fault` is why a case has no numbers, `seconds` how long all
    that took, `middle` the window in the middle of the image, `(channels, *window)`.
    """

    def __init__(
        self,
        *,
        period: Sequence[int],
        patch_size: Sequence[int],
        overlap: float,
        truth: Tensor | None = None,
    ):
        self.period = tuple(period)
        self.patch_size = tuple(patch_size)
        self.overlap = overlap
        self.truth = truth
        self.middle: Tensor | None = None
        self._clear()

    def start(self, image: Tensor) -> Observer:
        """Begins the case anew.

        Args:
            image: `(channels, *grid)`, three axes.
        """
        self._clear()
        self.middle = central_patch(image, self.patch_size).float().cpu().clone()
        grid = image.shape[1:]
        window = [*self.patch_size, *[1] * (len(grid) - len(self.patch_size))]
        self._tiles = [tiles(n, w, self.overlap) for n, w in zip(grid, window, strict=True)]
        self._is_longer = [n > w for n, w in zip(grid, self.patch_size, strict=False)]
        return self

    def moments(self, group: str) -> list[PhaseMoments]:
        """Moments of each map of a group; empty before the first window.

        Args:
            group: `prediction` (each class's logit over that of the background), `image` (each
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
        labels, truth = _strongest(logits), self._truth_of(logits, starts)
        for part, members in self._by_part(starts):
            own = None if truth is None else truth[members]
            self._add_maps(windows[members], logits[members], own, self._with_halo(part))
            self._add_labels(labels[members], own, part)
        foreground = (labels > 0).flatten(1).sum(dim=1)
        best = int(foreground.argmax())
        if int(foreground[best]) > self._foreground:
            self._foreground = int(foreground[best])
            self.exemplar = Exemplar(
                image=windows[best].float().cpu().clone(),
                logits=logits[best].cpu().clone(),
                truth=None if truth is None else truth[best].cpu(),
            )

    def _by_part(self, starts: list[tuple[int, ...]]) -> Iterator[tuple[Part, list[int]]]:
        """The part of a window that counts, and the windows of which it is that one."""
        ends = [
            tuple(
                (tile[first][0] - first, tile[first][1] - first)
                for tile, first, _ in zip(self._tiles, start, self.period, strict=False)
            )
            for start in starts
        ]
        order = sorted(range(len(ends)), key=ends.__getitem__)
        for place, members in itertools.groupby(order, key=ends.__getitem__):
            yield tuple(slice(*pair) for pair in place), list(members)

    def _with_halo(self, part: Part) -> Part:
        """So that all of the part is scored, up to the ends of the window and of the grid."""
        sizes = zip(part, halo(self.period), self.patch_size, self._is_longer, strict=True)
        return tuple(
            slice(max(0, p.start - m), min(n, p.stop + m)) if is_longer else p
            for p, m, n, is_longer in sizes
        )

    def _add_maps(self, windows: Tensor, logits: Tensor, truth: Tensor | None, part: Part) -> None:
        if any(p.stop - p.start <= 2 * m for p, m in zip(part, halo(self.period), strict=True)):
            return
        origin, here = [p.start for p in part], (slice(None), slice(None), *part)
        seen = logits[here]
        maps = {"prediction": seen[:, 1:] - seen[:, :1], "image": windows[here].float()}
        if truth is not None:
            maps["truth"] = (truth[:, None] > 0)[here].float()
        for group, each in maps.items():
            slopes = group == "prediction"  # of which alone a staircase is measured
            grams = window_moments(each.flatten(0, 1), self.period, origin, slopes=slopes)
            self._grams[group] += grams.unflatten(0, each.shape[:2]).sum(dim=0).cpu()

    def _add_labels(self, labels: Tensor, truth: Tensor | None, part: Part) -> None:
        origin, here = [p.start for p in part], (slice(None), *part)
        maps = {"prediction": labels[here]}
        if truth is not None:
            maps["truth"] = truth[here]
            wrong = labels[here] != truth[here]
            fields = torch.cat([wrong, torch.ones_like(wrong)]).double()
            counts = fold(fields, self.period, origin).sum(dim=-1)
            self.errors += counts.unflatten(0, (2, -1)).sum(dim=1).cpu()
        if all(p.stop - p.start >= s for p, s in zip(part, self.period, strict=True)):
            for whose, each in maps.items():
                for axis, faces in boundary_histograms(each, self.period, origin).items():
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
