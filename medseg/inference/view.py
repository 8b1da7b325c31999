"""A network at one place of its grid: images in, slices of logits out, wherever memory suffices."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.data.preprocess import Preprocessing
from medseg.errors import ResourceError
from medseg.inference.head import Head
from medseg.inference.memory import MemoryPlan, ViewShapes, WindowBytes
from medseg.inference.sliding_window import (
    Observer,
    band_axis,
    blended_slices,
    starts_along,
    windows_at_once,
)
from medseg.volumes import Volume

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where windows are computed, and how.

    Args:
        compute_on: The device of the network.
        gather_on: That of the sums.
        windows: Computed at once; None: by their size.
        spill: The sums lie in a temporary file.
    """

    compute_on: torch.device
    gather_on: torch.device
    windows: int | None
    spill: bool = False


@dataclass(frozen=True, kw_only=True)
class View:
    """A network at one place of its grid.

    Args:
        network: Image → logits, or the features of which a head makes them.
        preprocessing: Of its images.
        window: In voxels, as many axes as the network has.
        overlap: Of neighbouring windows.
        bf16: Whether it is computed in that precision.
        window_bytes: Memory of the network; None: not counted.
        order: Where it has the scores of the classes that are wanted; empty: in their order.
        shift: Voxels per axis by which the image is moved below the windows, 0 and more.
        head: Features → logits, once windows are blended; None: the network gives logits.
    """

    network: nn.Module
    preprocessing: Preprocessing
    window: tuple[int, ...]
    overlap: float
    bf16: bool
    window_bytes: WindowBytes | None = None
    order: Sequence[int] = ()
    shift: Sequence[int] = (0, 0, 0)
    head: Head | None = None

    @property
    def moved(self) -> list[int]:
        """Voxels by which the image is moved, along three axes."""
        return [*self.shift, 0][:3]

    def windows(self, grid: Sequence[int]) -> int:
        """How many there are on a grid."""
        sizes = zip(self._grown(grid), (*self.window, 1)[:3], strict=True)
        return math.prod(len(starts_along(n, window, self.overlap)) for n, window in sizes)

    def shapes(self, volume: Volume, axis: int) -> ViewShapes:
        """What decides its memory where slices lie across that axis of RAS."""
        return ViewShapes(
            grid=self._grown(self.preprocessing.grid_shape(volume)),
            patch_size=self.window,
            overlap=self.overlap,
            channels=len(volume.array),
            axis=self.preprocessing.ras_axes.index(axis),
            moved=any(self.shift),
            features=self.head and self.head.features,
        )

    def logits(
        self,
        image: Tensor,
        place: Place,
        *,
        axis: int | None = None,
        observe: Observer | None = None,
        step: Callable[[int], object] = int,
    ) -> Iterator[Tensor]:
        """Image `(channels, *grid)` → logits `(classes, *rest)`, slice by slice across an axis."""
        axis = band_axis(image.shape[1:], self.window) if axis is None else axis
        before = self.moved
        if any(before):
            image = functional.pad(image, [n for step in reversed(before) for n in (step, 0)])
        slices = blended_slices(
            self._on(place.compute_on),
            image.to(place.gather_on),
            self.window,
            overlap=self.overlap,
            axis=axis,
            windows_per_batch=place.windows and min(place.windows, windows_at_once(self.window)),
            compute_on=place.compute_on,
            observe=self._observed(observe),
            reuse=True,
            spill=place.spill,
            step=step,
        )
        down, across = (n for a, n in enumerate(before) if a != axis)
        for slice_ in islice(slices, before[axis], None):
            own = slice_[:, down:, across:]
            yield self.head(own) if self.head else own

    def _observed(self, observe: Observer | None) -> Observer | None:
        """An observer of logits, where the network gives features."""
        if observe is None or (head := self.head) is None:
            return observe
        return lambda windows, found, starts: observe(windows, head.of_windows(found), starts)

    def _grown(self, grid: Sequence[int]) -> list[int]:
        return [n + moved for n, moved in zip(grid, self.moved, strict=True)]

    def _on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        network = self.network.to(device)

        def compute(windows: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                return network(windows)

        return compute


def attempted(work: Callable[[Place], T], device: torch.device, plan: MemoryPlan | None) -> T:
    """What is worked out at the first place that has the memory, of which a GPU's may be short.

    Raises:
        ResourceError: not even one window fits.
    """
    for place in places(device, plan):
        try:
            return work(place)
        except torch.OutOfMemoryError:
            log.warning("GPU memory is short (%d windows at once); giving way", place.windows or 0)
            torch.cuda.empty_cache()
    raise ResourceError("not even one window fits the memory; free some, or train a smaller patch")


def places(device: torch.device, plan: MemoryPlan | None) -> Iterator[Place]:
    """From the quickest to the one that takes the least of a GPU's memory."""
    cpu = torch.device("cpu")
    if device.type == "cuda":
        for gather_on, windows in ((device, 8), (cpu, 8), (cpu, 1)):
            yield Place(compute_on=device, gather_on=gather_on, windows=windows)
    yield Place(
        compute_on=cpu,
        gather_on=cpu,
        windows=plan.windows if plan else None,
        spill=plan is not None and plan.spill and device.type == "cpu",
    )
