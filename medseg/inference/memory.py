"""The memory that a prediction takes beside the volume and the weights, planned from shapes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from medseg.formatting import memory
from medseg.inference.sliding_window import band, windows_at_once
from medseg.volumes.container import FLOAT32_BYTES

WindowBytes = Callable[[int], int]
"""Windows that are computed at once → bytes that the network takes for them."""

_HEAP = 80 << 20  # freed bytes that glibc keeps, up to 64 MiB, and libraries
_SCATTERED = 1.25  # freed blocks lie between others; measured
_SLICES = 6  # of all classes, while one is restored
_VOXELS = 5 * (1 << 15)  # whose classes are interpolated at once, and what they are made of


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
class Shapes:
    """What decides the memory of a prediction.

    Args:
        grid: The network's grid.
        own: Of the volume, along the same axes.
        patch_size: Of a window, as many axes as the network has.
        overlap: Of neighbouring windows.
        channels: Of the image.
        classes: Background included.
        probabilities: Those of every class are wanted, on the volume's own grid.
        maps: Maps of all classes on the network's grid that exist as a whole.
    """

    grid: Sequence[int]
    own: Sequence[int]
    patch_size: Sequence[int]
    overlap: float
    channels: int
    classes: int
    probabilities: bool = False
    maps: int = 0

    def plans(self, activations: WindowBytes, *, on_cpu: bool = True) -> Iterator[MemoryPlan]:
        """Plans from the quickest to the one that takes least.

        Args:
            activations: Memory of the network.
            on_cpu: Windows and sums lie in the memory that is planned.
        """
        count = windows_at_once(self.patch_size)
        ways = [(n, False) for n in (count, count // 2, 1) if n] + [(1, True)]
        for windows, spill in dict.fromkeys(ways if on_cpu else ways[:1]):
            window = self._window_bytes(windows, activations, spill) if on_cpu else 0
            needed = max(self._preparing, self._held + window) + _HEAP
            yield MemoryPlan(windows=windows, spill=spill, needed=needed)

    @property
    def _preparing(self) -> int:
        """While the volume is brought onto the grid: re-oriented, resampled, normalised."""
        voxels = math.prod(self.own) + 3 * math.prod(self.grid)
        return FLOAT32_BYTES * self.channels * voxels

    @property
    def _held(self) -> int:
        """From the first window to the last: the image, the labels, whole maps, a slice's cells."""
        padded = [max(n, w) for n, w in zip(self.grid, self._window, strict=True)]
        grids = 1 if padded == list(self.grid) else 2
        values = grids * self.channels * math.prod(padded)
        values += self.maps * self.classes * math.prod(self.grid)
        values += self.probabilities * (self.classes + 2) * math.prod(self.own)
        axis, _ = band(self.grid, self.patch_size, self.overlap, 1)
        slice_ = math.prod(self.grid) // self.grid[axis] + self.probabilities * (
            math.prod(self.own) // self.own[axis]
        )
        values += self.classes * (_SLICES * slice_ + _VOXELS)
        label = 1 if self.classes <= 256 else 4
        return FLOAT32_BYTES * values + label * math.prod(self.own)

    def _window_bytes(self, windows: int, activations: WindowBytes, spill: bool) -> int:
        """Windows that are computed at once, one that is constant, and the sums."""
        axis, length = band(self.grid, self.patch_size, self.overlap, windows)
        cross = [max(n, w) for n, w in zip(self.grid, self._window, strict=True)]
        cross[axis] = length
        voxels = math.prod(self._window)
        sums = (self.classes + 1) * (voxels if spill else math.prod(cross))
        tiles = windows * (self.channels + self.classes) * voxels + self.classes * voxels
        return FLOAT32_BYTES * (sums + tiles) + round(_SCATTERED * activations(windows))

    @property
    def _window(self) -> Sequence[int]:
        return (*self.patch_size, 1)[:3]
