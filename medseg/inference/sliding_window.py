"""A network applied to a grid that is larger than its patch."""

import itertools
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import ResourceError
from medseg.formatting import memory

Observer = Callable[[Tensor, Tensor, list[tuple[int, ...]]], None]
"""Windows `(n, channels, *window)`, their logits `(n, classes, *window)`, and where each starts on
the grid; below 0 where the grid is shorter than the window and was padded."""

VALIDATION_OVERLAP = 0.25  # of the windows by which training scores whole cases
WINDOWS_PER_BATCH = 4
_MAPPED_VALUES = 1 << 22  # of sums in a file
_VOXELS_PER_BATCH = 1 << 20  # from here on, more windows at once cost memory and save no time


def windows_at_once(patch_size: Sequence[int]) -> int:
    """How many windows are computed at once: several small ones, or one large one.

    >>> windows_at_once((512, 512)), windows_at_once((64, 64, 64)), windows_at_once((96, 96, 96))
    (4, 4, 1)
    """
    return min(WINDOWS_PER_BATCH, max(1, _VOXELS_PER_BATCH // math.prod(patch_size)))


def slide(
    network: nn.Module,
    image: Tensor,
    patch_size: Sequence[int],
    *,
    overlap: float,
    windows_per_batch: int | None = None,
    compute_on: torch.device | None = None,
    observe: Observer | None = None,
) -> Tensor:
    """Logits of a whole grid, windows blended with Gaussian weights.

    Args:
        network: Image → logits. A 2-D one is applied to slices along the grid's last axis.
        image: `(1, channels, *grid)`, three axes; the result is gathered on its device.
        patch_size: The window in voxels; its length is the network's dimension.
        overlap: Share of a window that it has in common with the next, in [0, 1).
        windows_per_batch: Windows that are computed at once; None: by their size.
        compute_on: Device of the network, if not the image's.
        observe: Is shown every window before it is blended with others.

    Returns:
        `(1, classes, *grid)`, float32.
    """
    grid = image.shape[2:]
    axis = band_axis(grid, patch_size)
    result: Tensor | None = None
    for index, row in enumerate(
        blended_slices(
            network,
            image[0],
            patch_size,
            overlap=overlap,
            windows_per_batch=windows_per_batch,
            compute_on=compute_on,
            observe=observe,
            reuse=not network.training,
        )
    ):
        if result is None:
            result = row.new_empty((1, len(row), *grid))
        result.select(2 + axis, index)[0] = row
    assert result is not None  # no axis is empty
    return result


def blended_slices(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    patch_size: Sequence[int],
    *,
    overlap: float,
    axis: int | None = None,
    windows_per_batch: int | None = None,
    compute_on: torch.device | None = None,
    observe: Observer | None = None,
    reuse: bool = False,
    spill: bool = False,
    step: Callable[[int], object] = int,
) -> Iterator[Tensor]:
    """The logits of `slide`, one slice across an axis after the other, each once it is finished.

    Windows go along the axis; only as many slices are held as a window is long.

    Args:
        network: As of `slide`.
        image: `(channels, *grid)`, three axes; the result is gathered on its device.
        patch_size: As of `slide`.
        axis: Of the grid, which slices lie across; None: that of `band_axis`.
        overlap: As of `slide`.
        windows_per_batch: As of `slide`.
        compute_on: As of `slide`.
        observe: As of `slide`; all windows are computed then.
        reuse: Windows whose channels are constant, such as clipped air, are not computed again if
            the one before of that kind had the same values. The network must not be in training.
        spill: Hold the sums in a temporary file, of which no more than a window's part is mapped.
        step: Is told how many windows were done.

    Yields:
        `(classes, *rest)`, float32, `rest` being the grid without the axis.
    """
    flat, device = len(patch_size) == 2, compute_on or image.device
    window, grid = _three(patch_size), image.shape[1:]
    count = windows_per_batch or windows_at_once(patch_size)
    axis = band_axis(grid, patch_size) if axis is None else axis
    length = band_length(grid, patch_size, overlap, count, axis)
    before = _padding_before(grid, window)
    order = [axis, *(a for a in range(3) if a != axis)]
    image = _padded(image, window, before)
    starts = [starts_along(n, w, overlap) for n, w in zip(grid, window, strict=True)]
    places = sorted(itertools.product(*starts), key=itemgetter(axis))
    batches = [places[n : n + count] for n in range(0, len(places), count)]
    weights = gaussian_weights(window).to(image.device)
    compute = _Windows(network, flat=flat, reuse=reuse and observe is None)
    crop = itemgetter((slice(None), *(slice(before[a], before[a] + grid[a]) for a in order[1:])))
    sums: _Sums | None = None
    for batch in batches:
        if sums is not None:
            yield from map(crop, sums.finished(batch[0][axis]))
        seen = torch.stack([image[_region(place, window)] for place in batch])
        logits = compute(seen.to(device))
        if observe is not None:
            shown = seen.squeeze(-1) if flat else seen
            at = [tuple(s - b for s, b in zip(place, before, strict=True)) for place in batch]
            observe(shown.to(device), logits.squeeze(-1) if flat else logits, at)
        if sums is None:
            cross = [image.shape[1 + a] for a in order[1:]]
            shape = (logits.shape[1] + 1, length, *cross)
            sums = _Sums(shape, image.device, first=before[axis], spill=spill)
        step(len(batch))
        for index, place in enumerate(batch):
            each = logits[index].to(image.device).movedim(1 + axis, 1)
            sums.add([place[a] for a in order], each, weights.movedim(axis, 0))
            del each
        del seen, logits  # not beside the next ones
    assert sums is not None  # there is at least one window
    yield from map(crop, sums.finished(before[axis] + grid[axis]))


class _Windows:
    """The network on windows; equal constant ones in a row are computed once."""

    def __init__(self, network: Callable[[Tensor], Tensor], *, flat: bool, reuse: bool):
        self._network = network
        self._flat = flat
        self._reuse = reuse
        self._constant: tuple[Tensor, Tensor] | None = None  # values of the channels, and logits

    def __call__(self, windows: Tensor) -> Tensor:
        """Windows `(n, channels, *window)` → logits `(n, classes, *window)`, float32."""
        values = [self._values(window) for window in windows]
        if self._constant is not None and all(self._is_known(each) for each in values):
            return self._constant[1].expand(len(windows), *self._constant[1].shape)
        logits = self._network(windows.squeeze(-1) if self._flat else windows).float()
        logits = logits.unsqueeze(-1) if self._flat else logits
        for each, found in zip(values, logits, strict=True):
            if each is not None and not self._is_known(each):
                self._constant = each, found.clone()
        return logits

    def _values(self, window: Tensor) -> Tensor | None:
        """The value of each channel, if they are constant."""
        first = window.flatten(1)[:, :1]
        if not self._reuse or not torch.equal(window.flatten(1)[:, -1:], first):
            return None  # most are told by two voxels
        return first if bool((window.flatten(1) == first).all()) else None

    def _is_known(self, values: Tensor | None) -> bool:
        known = self._constant
        return known is not None and values is not None and torch.equal(known[0], values)


class _Sums:
    """Sums of weighted logits, and of weights, over a band of slices that moves on.

    Args:
        shape: Classes + 1, slices, and the two other axes.
        device: Where.
        first: Slice of the image; those before it were padded.
        spill: In a file.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, *, first: int, spill: bool):
        self._length, self._first = shape[1], first
        self._next = 0
        self._mapped: mmap.mmap | None = None
        self._classes = mapped_classes(math.prod(shape[1:])) if spill else shape[0]  # at once
        if spill:
            self._mapped = _mapped_file(4 * math.prod(shape))
            self._sums = torch.frombuffer(self._mapped, dtype=torch.float32).reshape(shape)
        else:
            self._sums = torch.zeros(shape, device=device)

    def finished(self, until: int) -> Iterator[Tensor]:
        """The weighted means at the slices before `until` that are left; makes room for others."""
        for index in range(self._next, until):
            slice_ = self._sums[:, index % self._length]
            if index >= self._first:
                yield slice_[:-1] / slice_[-1]
            slice_.zero_()
            self._release()
        self._next = until

    def add(self, start: Sequence[int], logits: Tensor, weights: Tensor) -> None:
        """Adds a window's logits `(classes, *window)`, times weights `window`."""
        first, count = start[0] % self._length, logits.shape[1]
        split = min(count, self._length - first)  # the band goes on at its beginning
        cross = tuple(slice(s, s + n) for s, n in zip(start[1:], logits.shape[2:], strict=True))
        for here, there in ((first, slice(0, split)), (0, slice(split, count))):
            band = self._sums[(slice(None), slice(here, here + there.stop - there.start), *cross)]
            band[-1] += weights[there]
            for some in range(0, len(logits), self._classes):
                classes = slice(some, min(some + self._classes, len(logits)))
                band[classes].addcmul_(logits[classes, there], weights[there])
                self._release()

    def _release(self) -> None:
        """Gives mapped pages back; what they hold stays in the file."""
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._mapped.madvise(mmap.MADV_DONTNEED)


def mapped_classes(values: int) -> int:
    """Of how many classes sums in a file are mapped at once, if those of a class are so many.

    The system maps 64 KiB around what is read, and so nearly all of a class.
    """
    return max(1, _MAPPED_VALUES // values)


def _mapped_file(size: int) -> mmap.mmap:
    """A temporary file of zeros, which goes when its mapping does.

    Raises:
        ResourceError: the disk has no room for it.
    """
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would end the process later on
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise ResourceError(
            f"{tempfile.gettempdir()}: {memory(size)} for a temporary file: {error.strerror}; set "
            "TMPDIR to a folder with room, or allow more memory"
        ) from error


def gaussian_weights(window: Sequence[int]) -> Tensor:
    """Weights of a window's voxels, float32: a Gaussian, as MONAI's (Isensee et al. 2021).

    Its σ is an eighth of each side; no weight is below 0.001.
    """
    weights = torch.ones(())
    for size in window:
        away = torch.arange(size) - (size - 1) / 2
        weights = weights[..., None] * torch.exp(away**2 / (-2 * (size / 8) ** 2))
    return weights.clamp(min=max(float(weights.min()), 1e-3))


def band_axis(grid: Sequence[int], patch_size: Sequence[int]) -> int:
    """The axis of a grid along which the fewest voxels are held at once: where it is longest.

    >>> band_axis((239, 239, 400), (96, 96, 96)), band_axis((256, 256, 40), (256, 256))
    (2, 2)
    """
    window = _three(patch_size)
    return min(range(3), key=lambda a: min(window[a], grid[a]) / grid[a])


def band_length(
    grid: Sequence[int], patch_size: Sequence[int], overlap: float, windows: int, axis: int
) -> int:
    """How many slices `blended_slices` holds at most.

    >>> band_length((239, 239, 400), (96, 96, 96), 0.5, 1, 2)
    96
    >>> band_length((64, 64, 40), (64, 64), 0.5, 4, 2)
    4
    """
    window = _three(patch_size)
    steps = [_step(w, overlap) for w in window]
    abreast = math.prod(
        1 - (-max(0, grid[a] - window[a]) // steps[a]) for a in range(3) if a != axis
    )
    ahead = 0 if abreast % windows == 0 else -(-(windows - 1) // abreast)
    return window[axis] + min(ahead * steps[axis], max(0, grid[axis] - window[axis]))


def starts_along(size: int, window: int, overlap: float) -> list[int]:
    """Where the windows of `slide` begin along one axis.

    Args:
        size: Voxels of the grid.
        window: Voxels of the window.
        overlap: Share of a window that it has in common with the next, in [0, 1).

    >>> starts_along(11, 4, 0.5), starts_along(2, 4, 0.5)
    ([0, 2, 4, 6, 7], [0])
    """
    step, last = _step(window, overlap), max(0, size - window)
    return [min(n * step, last) for n in range(1 - (-last // step))]


def _step(window: int, overlap: float) -> int:
    return max(1, int(window * (1 - overlap)))


def _three(patch_size: Sequence[int]) -> tuple[int, int, int]:
    """A window of three axes; that of a 2-D network is one slice."""
    first, second, third = (*patch_size, 1)[:3]
    return first, second, third


def _region(place: Sequence[int], window: Sequence[int]) -> tuple[slice, ...]:
    return slice(None), *(slice(s, s + n) for s, n in zip(place, window, strict=True))


def _padding_before(size: Sequence[int], window: Sequence[int]) -> list[int]:
    return [max(0, w - n) // 2 for n, w in zip(size, window, strict=True)]


def _padded(image: Tensor, window: Sequence[int], before: Sequence[int]) -> Tensor:
    """The image with zeros on both sides of every axis that is shorter than the window."""
    sides = zip(before, image.shape[1:], window, strict=True)
    pads = [(b, max(0, w - n) - b) for b, n, w in sides]
    flat = [side for pair in reversed(pads) for side in pair]
    return functional.pad(image, flat) if any(flat) else image
