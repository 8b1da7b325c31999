"""The receptive field: which voxels of the image an output voxel depends on.

It is followed back from the output through every step of a trace, as one mask per axis, through
skips and decoder, for many output voxels at once. It is exact unless a reshape tears an axis or
single channels go separate ways; then it may be too large. It is never too small where every step
is followed (`unfollowed`) and what a network does depends on no value of the image.

Recurrences over layers (Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional
Neural Networks", Distill) are an upper bound wherever a network upsamples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from torch.utils._pytree import tree_leaves

from medseg.analysis import vocabulary as ops
from medseg.analysis.dependence import OutputRegion, dependencies, is_followed, largest_merge
from medseg.analysis.regions import Mask, Region, convolved_region, united
from medseg.analysis.trace import Step, Trace, Value, check_time, trace
from medseg.layers.deformable import DeformableConv
from medseg.layers.resampling import Nails

_RESIZING = ops.CONVOLUTIONS | ops.POOLS | ops.ADAPTIVE_POOLS
"""Operations that make coarser grids, whose axes are batch, channels and space."""
_LARGEST_SIZE = 2**14
_FIRST_SIZE = 256
_WINDOWS = (128, 1024)  # output voxels among which a period is sought
_REPEATS = 3  # of a period, before it is believed
_AT_ONCE = 256  # queries of several tensors
_CELLS = 2**25  # of a mask; more queries are followed one part after another


class Ends(NamedTuple):
    """The fields of some output voxels along an axis, each an array with one entry per voxel.

    Args:
        first: First image voxel; `last + 1` where there is none.
        last: Last image voxel.
        voxels: Number of image voxels.
        size: Of the image along the axis.
    """

    first: np.ndarray
    last: np.ndarray
    voxels: np.ndarray
    size: int

    @property
    def extents(self) -> np.ndarray:
        """Voxels from the first to the last."""
        return self.last - self.first + 1

    @property
    def touches(self) -> np.ndarray:
        """Whether the field holds a voxel at the image's border."""
        return (self.voxels > 0) & ((self.first == 0) | (self.last == self.size - 1))

    def part(self, start: int, stop: int) -> "Ends":
        """That of some of the output voxels."""
        own = slice(start, stop)
        return Ends(self.first[own], self.last[own], self.voxels[own], self.size)


@dataclass(frozen=True, kw_only=True)
class AxisField:
    """The receptive field along one axis, far from every border.

    Args:
        period: Output voxels after which it repeats; None if it does not, as where grids are
            aligned at their corners. It then holds output voxels of the middle, one after another.
        first: Offset of its first voxel from the output voxel's own, of each phase.
        last: Offset of its last voxel.
        voxels: Number of its voxels; fewer than `last - first + 1` where it has holes.
    """

    period: int | None
    first: tuple[int, ...]
    last: tuple[int, ...]
    voxels: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Voxels from its first to its last, of each phase."""
        return tuple(b - a + 1 for a, b in zip(self.first, self.last, strict=True))

    @property
    def smallest(self) -> int:
        """Extent of the phase with the smallest field."""
        return min(self.extents)

    @property
    def largest(self) -> int:
        """Extent of the phase with the largest field."""
        return max(self.extents)

    @property
    def coverage(self) -> float:
        """Share of its extent that the field of the worst phase holds; 1 without holes."""
        shares = (n / e if e else 1.0 for n, e in zip(self.voxels, self.extents, strict=True))
        return min(shares)


def receptive_field(
    network: nn.Module, in_channels: int, size: Sequence[int]
) -> tuple[AxisField | None, ...]:
    """The receptive field of a network's output voxels, far from every border.

    Args:
        network: Image → logits, whose spatial axes come last; it does the same at every size.
        in_channels: Channels of the image.
        size: An image size that the network accepts; so must its multiples by 2.

    Returns:
        One field per axis; None for an axis whose field is as large as the image at any size.

    Raises:
        ConfigError: the network does not accept the size.
    """
    at = partial(trace, network, in_channels)
    return tuple(far_field(at, size, axis)[1] for axis in range(len(size)))


def far_field(
    at: Callable[[Sequence[int]], Trace], size: Sequence[int], axis: int
) -> tuple[Trace, AxisField | None]:
    """The field in an image so long along an axis that its middle voxels depend on no border.

    Args:
        at: Gives the trace at a size.
        size: An image size that the network accepts.
        axis: Along which the image is made longer.

    Returns:
        The trace of the long image, and the field; None where the middle voxels depend on a border
        at any size.
    """
    long = list(size)
    while long[axis] < _FIRST_SIZE:
        long[axis] *= 2
    while True:
        traced = at(long)
        field = field_along(traced, axis)
        if field is not None or long[axis] > _LARGEST_SIZE:
            return traced, field
        long[axis] *= 2


def field_along(traced: Trace, axis: int) -> AxisField | None:
    """The field of the logits' middle voxels along an axis; None if it touches a border."""
    value = traced.logits
    inputs, outputs = traced.image.shape[2 + axis], value.shape[2 + axis]
    middle = outputs // 2
    if field_ends(traced, axis, [(value, middle)]).touches[0]:
        return None
    start, ends = middle, None
    for width in _WINDOWS:
        around = range(max(0, middle - width // 2), min(outputs, middle + width // 2))
        all_ends = field_ends(traced, axis, [(value, place) for place in around])
        start, ends = _untouched(all_ends, middle, around.start)
        stop = start + len(ends.first)
        if repeated := _period(ends):
            period, shift = repeated
            begin = min(middle // period, stop // period - 1) * period
            begin += period if begin < start else 0
            own = begin * inputs // outputs + np.arange(period) * shift // period
            return _axis_field(period, ends.part(begin - start, begin - start + period), own)
    if ends is None or len(ends.first) < _WINDOWS[-1]:
        return None  # a longer image may show a period
    own = (start + np.arange(len(ends.first))) * inputs // outputs
    return _axis_field(None, ends, own)


def _untouched(ends: Ends, middle: int, start: int) -> tuple[int, Ends]:
    """Where the run of output voxels around the middle begins that see no border, and their ends.

    Args:
        ends: Of output voxels from `start` on.
        middle: An output voxel that sees no border.
        start: The first output voxel.
    """
    touching = np.flatnonzero(ends.touches)
    before, after = touching[touching < middle - start], touching[touching > middle - start]
    begin = int(before[-1]) + 1 if len(before) else 0
    end = int(after[0]) if len(after) else len(ends.first)
    return start + begin, ends.part(begin, end)


def _period(ends: Ends) -> tuple[int, int] | None:
    """Output voxels after which fields repeat, and image voxels by which they have moved then."""
    count = len(ends.first)
    for period in range(1, count // _REPEATS + 1):
        seen = ends.voxels[period:] > 0
        if (ends.voxels[period:] != ends.voxels[:-period]).any():
            continue
        moves = [(end[period:] - end[:-period])[seen] for end in (ends.first, ends.last)]
        shift = int(moves[0][0]) if seen.any() else period
        if shift > 0 and all((move == shift).all() for move in moves):
            return period, shift
    return None


def _axis_field(period: int | None, ends: Ends, own: np.ndarray) -> AxisField:
    """Offsets from each output voxel's own place in the image."""
    seen = ends.voxels > 0
    first, last = np.where(seen, ends.first - own, 0), np.where(seen, ends.last - own, -1)
    numbers = (tuple(map(int, array)) for array in (first, last, ends.voxels))
    return AxisField(period=period, **dict(zip(("first", "last", "voxels"), numbers, strict=True)))


def is_clipped(field: AxisField, here: Ends) -> bool:
    """Whether the fields of all output voxels of an image are the far one, cut at the borders.

    Args:
        field: Far from every border.
        here: Of all output voxels of the image.
    """
    if field.period is None:
        return False
    outputs, seen = np.arange(len(here.first)), here.voxels > 0
    own, phase = outputs * here.size // len(outputs), outputs % field.period
    first = np.maximum(own + np.array(field.first)[phase], 0)
    last = np.minimum(own + np.array(field.last)[phase], here.size - 1)
    return bool(((first == here.first) & (last == here.last))[seen].all())


def largest_extents(
    traced: Trace, axis: int, values: Sequence[Value], voxels: int
) -> Iterator[int | None]:
    """The largest extent of the fields of each tensor's middle; None if one touches a border.

    Args:
        traced: Of a network.
        axis: A spatial axis, from 0.
        values: The tensors.
        voxels: Of the image, whose part of each tensor is its middle.
    """
    size, waiting = traced.image.shape[2 + axis], list(values)
    while waiting:  # several tensors at once, since most time goes into walking through the steps
        starts: list[tuple[Value, int]] = []
        counts = []
        while waiting and len(starts) < _AT_ONCE:
            value = waiting.pop(0)
            outputs = value.shape[2 + axis]
            counts.append(min(outputs, max(1, round(voxels * outputs / size))))
            first = (outputs - counts[-1]) // 2
            starts += [(value, place) for place in range(first, first + counts[-1])]
        ends = field_ends(traced, axis, starts)
        for stop, count in zip(accumulate(counts), counts, strict=True):
            own = ends.part(stop - count, stop)
            yield None if own.touches.any() else int(own.extents.max())


def field_ends(traced: Trace, axis: int, starts: Sequence[tuple[Value, int]]) -> Ends:
    """The fields of some positions of tensors along an axis; see `input_voxels`."""
    size = traced.image.shape[2 + axis]
    largest = max(size, *(largest_merge(step) for step in traced.steps), 1)
    at_once = max(1, _CELLS // largest)
    found = []
    for start in range(0, len(starts), at_once):
        masks = input_voxels(traced, axis, starts[start : start + at_once])
        last = size - 1 - masks[:, ::-1].argmax(axis=1)
        voxels = masks.sum(axis=1)
        found.append((masks.argmax(axis=1), np.where(voxels, last, -1), voxels))
    first, last, voxels = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return Ends(first, last, voxels, size)


def ends_here(traced: Trace, axis: int) -> Ends:
    """The fields of all output voxels of the image that was traced."""
    places = range(traced.logits.shape[2 + axis])
    return field_ends(traced, axis, [(traced.logits, place) for place in places])


def input_voxels(traced: Trace, axis: int, starts: Sequence[tuple[Value, int]]) -> Mask:
    """Which image voxels along an axis some positions of tensors depend on.

    Args:
        traced: Of a network.
        axis: A spatial axis, from 0.
        starts: Tensors and positions along it, each followed alone; along other axes all at once.

    Returns:
        `(len(starts), size of the image along the axis)`.
    """
    queries = len(starts)
    open_regions: dict[int, Region] = {}

    def add(source: Value, more: Region) -> None:
        open_regions[source.index] = united(open_regions.get(source.index), more)

    for query, (value, place) in enumerate(starts):
        if value.index not in open_regions:
            add(value, tuple(np.zeros((queries, n), dtype=bool) for n in value.shape))
        for own, mask in enumerate(open_regions[value.index]):
            mask[query, place if own == 2 + axis else slice(None)] = True

    layers = {call.last: call for call in traced.calls if type(call.module) in _WHOLE_LAYERS}
    for done in range(len(traced.steps), 0, -1):
        check_time()
        if done in layers:
            call = layers[done]
            part = open_regions.pop(call.outputs[0].index, None)
            if part is not None:
                image = call.inputs[0]
                add(image, _WHOLE_LAYERS[type(call.module)](call.module, image, part))
        step = traced.steps[done - 1]
        for output, made in enumerate(step.outputs):
            part = open_regions.pop(made.index, None)
            if part is None:
                continue
            of = OutputRegion(region=part, output=output, queries=queries)
            for source, more in dependencies(step, of):
                add(source, more)
    found = open_regions.get(traced.image.index)
    if found is None:
        return np.zeros((queries, traced.image.shape[2 + axis]), dtype=bool)
    return found[2 + axis]


def _deformable_region(layer: DeformableConv, image: Value, region: Region) -> Region:
    """Its taps move with the data; they count where they lie when training starts."""
    batch, _, *space = region
    kernel = layer.weight.shape[2:]
    options = {"stride": 1, "padding": [k // 2 for k in kernel]}
    channels = np.ones((len(batch), image.shape[1]), dtype=bool)
    return batch, channels, *convolved_region(options, kernel, tuple(space), image.shape[2:])


def _nails_region(layer: Nails, image: Value, region: Region) -> Region:
    """Of each cell only the first corner depends on the input."""
    batch, channels, *space = region
    options = {"stride": layer.scale, "padding": 0, "transposed": True}
    taps = (1,) * len(layer.scale)
    return batch, channels, *convolved_region(options, taps, tuple(space), image.shape[2:])


_WHOLE_LAYERS: dict[type, Callable[[Any, Value, Region], Region]] = {
    DeformableConv: _deformable_region,
    Nails: _nails_region,
}
"""Layers that are followed as a whole; their single steps would hide what they depend on."""


def stride(traced: Trace, axis: int) -> int:
    """Image voxels per voxel of the coarsest grid along an axis."""
    rank = len(traced.image.shape)
    sizes = [
        step.outputs[0].shape[2 + axis]
        for step in traced.steps
        if step.operator in _RESIZING and len(step.outputs[0].shape) == rank
    ]
    sizes = [size for size in sizes if size > 1]
    return max((round(traced.image.shape[2 + axis] / n) for n in sizes), default=1)


def unfollowed(traced: Trace) -> list[Step]:
    """Steps from the image to the logits of which nobody knows what their outputs depend on.

    They count as if each value depended on all; a field that passes through them is an upper bound.
    So do steps that mask values with −∞, as attention does: those count as read.
    """
    seen, wanted = {traced.image.index}, {traced.logits.index}
    for step in traced.steps:
        if any(value.index in seen for value in step.inputs):
            seen.update(value.index for value in step.outputs)
    found = []
    for step in reversed(traced.steps):
        if any(value.index in wanted & seen for value in step.outputs):
            wanted.update(value.index for value in step.inputs)
            if not is_followed(step):
                found.append(step)
    return found[::-1] + [step for step in traced.steps if _masks(step)]


def _masks(step: Step) -> bool:
    given = tree_leaves(step.arguments)
    return ops.base_name(step.operator) not in ops.PADS and any(
        value == -math.inf for value in given
    )
