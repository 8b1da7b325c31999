"""The theoretical receptive field: which voxels of the image an output voxel can look at.

Through skips and decoder, for each phase of the network's stride: what is asked of the output is
followed back through every step, as one mask per axis. That is exact unless a reshape tears an
axis or single channels go separate ways; then it may be too much, never too little. Recurrences
over layers (Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural
Networks", Distill) give an upper bound wherever a network upsamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from medseg.analysis import vocabulary as ops
from medseg.analysis.dependence import convolved_grid, needs_of
from medseg.analysis.need import Need, Question, united
from medseg.analysis.trace import Call, Trace, Value, trace
from medseg.analysis.windows import Mask
from medseg.layers.deformable import DeformableConv
from medseg.layers.resampling import Nails

_RESIZING = ops.CONVOLUTIONS | ops.POOLS | {"_adaptive_avg_pool2d", "_adaptive_avg_pool3d"}
"""Operations that make coarser grids, whose axes are batch, channels and space."""
_LARGEST_SIZE = 2**14
_FIRST_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class AxisField:
    """The receptive field along one axis.

    Args:
        period: Output voxels after which it repeats.
        first: Offset of the first voxel that is seen from the output voxel's own, of each phase.
        last: Offset of the last one.
        seen: Number of voxels that are seen; fewer than `last - first + 1` where it has holes.
    """

    period: int
    first: tuple[int, ...]
    last: tuple[int, ...]
    seen: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Voxels from the first to the last that is seen, of each phase."""
        return tuple(b - a + 1 for a, b in zip(self.first, self.last, strict=True))

    @property
    def smallest(self) -> int:
        """Extent of the phase that sees least."""
        return min(self.extents)

    @property
    def largest(self) -> int:
        """Extent of the phase that sees most."""
        return max(self.extents)

    @property
    def coverage(self) -> float:
        """Share of its extent that the worst phase sees; 1 without holes."""
        shares = (s / e if e else 1.0 for s, e in zip(self.seen, self.extents, strict=True))
        return min(shares)


def receptive_field(
    network: nn.Module, in_channels: int, size: Sequence[int]
) -> tuple[AxisField | None, ...]:
    """The receptive field of a network's output voxels, far from every border.

    Args:
        network: Image → logits, whose spatial axes come last.
        in_channels: Channels of the image.
        size: An image size that the network accepts; so must its multiples by 2.

    Returns:
        One field per axis; None for an axis along which all voxels are seen however many there are.

    Raises:
        ConfigError: the network does not accept the size.
    """
    axes = range(len(size))
    return tuple(field_along(roomy_trace(network, in_channels, size, a), a) for a in axes)


def roomy_trace(network: nn.Module, in_channels: int, size: Sequence[int], axis: int) -> Trace:
    """The trace of an image so long along an axis that its middle voxels see no border.

    That of the longest image tried, where they always do.

    Raises:
        ConfigError: the network does not accept the size.
    """
    long = list(size)
    while long[axis] < _FIRST_SIZE:
        long[axis] *= 2
    while True:
        traced = trace(network, in_channels, long)
        if long[axis] > _LARGEST_SIZE or field_along(traced, axis) is not None:
            return traced
        long[axis] *= 2


def field_along(traced: Trace, axis: int, asked_of: Value | None = None) -> AxisField | None:
    """What the middle voxels of a tensor see along an axis; None if they see a border.

    Args:
        traced: Of a network.
        axis: A spatial axis, from 0.
        asked_of: The tensor; None: the logits.
    """
    value = asked_of or traced.logits
    inputs, outputs = traced.image.shape[2 + axis], value.shape[2 + axis]
    period = max(1, round(_stride(traced, axis) * outputs / inputs))
    middle = outputs // 2 // period * period
    if middle + period > outputs:
        return None
    asked = range(middle, middle + period)
    masks = seen_voxels(traced, axis, asked, value)
    if masks[:, [0, -1]].any():
        return None
    first, last, seen = [], [], []
    for output, mask in zip(asked, masks, strict=True):
        places = np.flatnonzero(mask)
        own = output * inputs // outputs
        first.append(int(places[0]) - own if len(places) else 0)
        last.append(int(places[-1]) - own if len(places) else -1)
        seen.append(len(places))
    return AxisField(period=period, first=tuple(first), last=tuple(last), seen=tuple(seen))


def seen_voxels(
    traced: Trace, axis: int, outputs: Sequence[int], asked_of: Value | None = None
) -> Mask:
    """Which image voxels along an axis a tensor looks at, at some positions.

    Args:
        traced: Of a network.
        axis: A spatial axis, from 0.
        outputs: Positions along it, one question each; along the other axes all are asked for.
        asked_of: The tensor; None: the logits.

    Returns:
        `(len(outputs), size of the image along the axis)`.
    """
    queries = len(outputs)
    start = asked_of or traced.logits
    need = [np.ones((queries, n), dtype=bool) for n in start.shape]
    need[2 + axis][:] = False
    need[2 + axis][range(queries), list(outputs)] = True
    asked: dict[int, Need] = {start.index: tuple(need)}
    whole = {call.last: call for call in traced.calls if type(call.module) in _WHOLE_LAYERS}
    for done in range(len(traced.steps), 0, -1):
        if done in whole:
            _ask_layer(whole[done], asked)
        step = traced.steps[done - 1]
        for output, value in enumerate(step.outputs):
            part = asked.pop(value.index, None)
            if part is None or value == traced.image:
                continue
            for source, more in needs_of(step, Question(need=part, output=output, queries=queries)):
                asked[source.index] = united(asked.get(source.index), more)
    found = asked.get(traced.image.index)
    if found is None:
        return np.zeros((queries, traced.image.shape[2 + axis]), dtype=bool)
    return found[2 + axis]


def _ask_layer(call: Call, asked: dict[int, Need]) -> None:
    need = asked.pop(call.outputs[0].index, None)
    if need is None:
        return
    image = call.inputs[0]
    lead, space = _WHOLE_LAYERS[type(call.module)](call.module, image, need)
    asked[image.index] = united(asked.get(image.index), (*lead, *space))


def _of_deformable(layer: DeformableConv, image: Value, need: Need) -> tuple[Need, Need]:
    """Where its taps are depends on the data; they are followed to where training starts."""
    kernel = layer.weight.shape[2:]
    given = {"stride": 1, "padding": [k // 2 for k in kernel]}
    channels = np.ones((len(need[0]), image.shape[1]), dtype=bool)
    return (need[0], channels), convolved_grid(given, kernel, need[2:], image.shape[2:])


def _of_nails(layer: Nails, image: Value, need: Need) -> tuple[Need, Need]:
    """As one step: of each cell only the first corner comes from somewhere."""
    given = {"stride": layer.scale, "padding": 0, "transposed": True}
    taps = (1,) * len(layer.scale)
    return need[:2], convolved_grid(given, taps, need[2:], image.shape[2:])


_WHOLE_LAYERS: dict[type, Any] = {DeformableConv: _of_deformable, Nails: _of_nails}
"""Layers whose steps, one by one, would hide what the layer as a whole looks at."""


def _stride(traced: Trace, axis: int) -> int:
    """Image voxels per voxel of the coarsest grid."""
    rank = len(traced.image.shape)
    sizes = [
        step.outputs[0].shape[2 + axis]
        for step in traced.steps
        if step.operator in _RESIZING and len(step.outputs[0].shape) == rank
    ]
    sizes = [size for size in sizes if size > 1]
    return max((round(traced.image.shape[2 + axis] / n) for n in sizes), default=1)
