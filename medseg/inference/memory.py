"""The memory that a prediction takes beside the volume and the weights, planned from shapes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from medseg.data.restore import VOXELS_AT_ONCE
from medseg.formatting import memory
from medseg.inference.sliding_window import band_length, mapped_classes, windows_at_once
from medseg.volumes.container import FLOAT32_BYTES

WindowBytes = Callable[[int], int]
"""Windows that are computed at once → bytes that the network takes for them."""

_HEAP = 144 << 20  # freed bytes that glibc keeps, up to 64 MiB, their gaps, and libraries
_SCATTERED = 0.6  # freed blocks are kept and lie between others (`keep_freed_memory`); measured
_SLICES_HELD, _SLICES_MADE = 2, 4  # of all classes
_MAPPED_AROUND = 1 << 15  # values that the system maps on both sides of what is read
_COPIES = 5  # of the classes of voxels that are interpolated at once


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a volume is predicted in the memory that is free.

    Args:
        windows: Computed at once.
        spill: The sums of logits lie in a temporary file.
        needed: Most bytes that are taken at once, beside what is held before.
    """

    windows: int
    spill: bool
    needed: int

    def __str__(self) -> str:
        """In one line."""
        where = "in a temporary file" if self.spill else "in memory"
        return f"windows at once: {self.windows}, sums {where}, at most {memory(self.needed)} more"


@dataclass(frozen=True, kw_only=True)
class ViewShapes:
    """What decides the memory of one network at one place of its grid.

    Args:
        grid: The network's grid.
        patch_size: Of a window, as many axes as the network has.
        overlap: Of neighbouring windows.
        channels: Of the image.
        axis: Of the grid, along which windows go.
        moved: Whether the image is moved below the windows, in a copy.
        features: Channels that are blended in place of logits; None: those.
    """

    grid: Sequence[int]
    patch_size: Sequence[int]
    overlap: float
    channels: int
    axis: int
    moved: bool = False
    features: int | None = None

    @property
    def window(self) -> Sequence[int]:
        """With three axes."""
        return (*self.patch_size, 1)[:3]

    @property
    def cross(self) -> int:
        """Cells of a slice."""
        return math.prod(self.grid) // self.grid[self.axis]

    def image(self) -> int:
        """Values of an image that is padded or moved; 0 where it is neither."""
        padded = [max(n, w) for n, w in zip(self.grid, self.window, strict=True)]
        is_copied = self.moved or padded != list(self.grid)
        return self.channels * math.prod(padded) if is_copied else 0

    def blended(self, classes: int) -> int:
        """Channels that the network gives, and that are blended."""
        return self.features or classes

    def sums(self, classes: int, windows: int, *, spill: bool) -> int:
        """Values of the sums that are held; of those in a file, some channels or a slice of all."""
        cross = [max(n, w) for n, w in zip(self.grid, self.window, strict=True)]
        cross[self.axis] = band_length(self.grid, self.patch_size, self.overlap, windows, self.axis)
        band = math.prod(cross)
        if spill:
            slice_ = min(band, band // cross[self.axis] + _MAPPED_AROUND)
            mapped = min(mapped_classes(band), self.blended(classes) + 1) * band
            return max(mapped, (self.blended(classes) + 1) * slice_)
        return (self.blended(classes) + 1) * band

    def at_once(self, windows: int) -> int:
        """How many of those windows it computes together."""
        return min(windows, windows_at_once(self.patch_size))

    def voxels(self, windows: int) -> int:
        """Of those that it computes together."""
        return self.at_once(windows) * math.prod(self.window)

    def constant(self, classes: int) -> int:
        """Values that are kept of a window without contrast."""
        return self.blended(classes) * math.prod(self.window)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What decides the memory of a prediction.

    Args:
        own: Of the volume, along RAS axes; of what is seen of it.
        across: Voxels of the volume in a slice.
        classes: Background included.
        views: Networks and places whose mean is taken.
        images: Voxels of the grids of images that are held, each once.
        kept: Maps on the volume's grid beside the labels.
        maps: Maps of all classes on the grid of the first view that exist as a whole.
        around: Voxels of the whole volume, where less is seen, onto which results are put back.
    """

    own: Sequence[int]
    across: int
    classes: int
    views: Sequence[ViewShapes]
    images: Sequence[int]
    kept: int = 0
    maps: int = 0
    around: int = 0

    def plans(
        self, activations: Sequence[WindowBytes], *, on_cpu: bool = True
    ) -> Iterator[MemoryPlan]:
        """Plans from the quickest to the one that takes least.

        Args:
            activations: Memory of the network of each view.
            on_cpu: Windows and sums lie in the memory that is planned.
        """
        count = max(windows_at_once(view.patch_size) for view in self.views)
        ways = [(n, False) for n in (count, count // 2, 1) if n] + [(1, True)]
        for windows, spill in dict.fromkeys(ways if on_cpu else ways[:1]):
            sums = self._sums(windows, spill=spill) if on_cpu else 0
            network = self._network(windows, activations) if on_cpu else 0
            predicting = self._held + sums + max(network, self._restoring)
            putting_back = self._held + self._results(self.around)
            needed = max(self._preparing, predicting, putting_back) + _HEAP
            yield MemoryPlan(windows=windows, spill=spill, needed=needed)

    @property
    def _channels(self) -> int:
        return self.views[0].channels

    @property
    def _preparing(self) -> int:
        """While the last image is brought onto its grid: re-oriented, resampled, normalised."""
        last = self.images[-1]
        voxels = sum(self.images[:-1]) + max(math.prod(self.own) + 2 * last, 3 * last)
        return FLOAT32_BYTES * self._channels * voxels

    @property
    def _held(self) -> int:
        """From the first window to the last: images, labels, maps, two slices of every view."""
        values = self._channels * sum(self.images) + sum(view.image() for view in self.views)
        values += self.maps * self.classes * math.prod(self.views[0].grid)
        values += self.classes * _SLICES_HELD * sum(view.cross for view in self.views)
        return FLOAT32_BYTES * values + self._results(math.prod(self.own))

    def _results(self, voxels: int) -> int:
        """Labels, and the maps beside them."""
        label = 1 if self.classes <= 256 else 4
        return (FLOAT32_BYTES * self.kept + label) * voxels

    @property
    def _restoring(self) -> int:
        """While slices are made probabilities and interpolated."""
        at_once = self.across if self.kept else min(self.across, VOXELS_AT_ONCE)
        values = _SLICES_MADE * max(view.cross for view in self.views) + _COPIES * at_once
        return FLOAT32_BYTES * self.classes * values

    def _sums(self, windows: int, *, spill: bool) -> int:
        """What all views keep from window to window."""
        return FLOAT32_BYTES * sum(
            view.sums(self.classes, view.at_once(windows), spill=spill)
            + view.constant(self.classes)
            for view in self.views
        )

    def _network(self, windows: int, activations: Sequence[WindowBytes]) -> int:
        """The windows, and the network, of the view that takes most."""
        return max(
            FLOAT32_BYTES * view.channels * view.voxels(windows)
            + _scattered(
                network(view.at_once(windows)),
                outputs=FLOAT32_BYTES * view.blended(self.classes) * view.voxels(windows),
            )
            for view, network in zip(self.views, activations, strict=True)
        )


def _scattered(taken: int, outputs: int) -> int:
    """What blocks take with the gaps between them; the outputs are one block."""
    gaps = round(_SCATTERED * max(0, taken - outputs))
    return max(taken + gaps, outputs)
