"""The receptive field: which voxels of the image an output voxel depends on, and how much.

The theoretical field is followed back from the output through every step of a trace, as one mask
per axis, through skips and decoder, for each phase of the network's stride. It is exact unless a
reshape tears an axis or single channels go separate ways; then it may be too large, never too
small. Recurrences over layers (Araujo, Norris & Sim 2019, "Computing Receptive Fields of
Convolutional Neural Networks", Distill) are an upper bound wherever a network upsamples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from medseg.analysis import vocabulary as ops
from medseg.analysis.dependence import (
    Mask,
    OutputRegion,
    Region,
    convolved_region,
    dependencies,
    united,
)
from medseg.analysis.trace import Trace, Value, trace
from medseg.checkerboard.gridding import largest_gap
from medseg.layers.deformable import DeformableConv
from medseg.layers.fast_conv import SharedSmoothing
from medseg.layers.resampling import Nails
from medseg.models.stage import Stage

_RESIZING = ops.CONVOLUTIONS | ops.POOLS | ops.ADAPTIVE_POOLS
"""Operations that make coarser grids, whose axes are batch, channels and space."""
_LARGEST_SIZE = 2**14
_FIRST_SIZE = 256
_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_NOTICEABLE = 0.0455  # of the largest gradient: two standard deviations of a Gaussian
_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class AxisField:
    """The receptive field along one axis.

    Args:
        period: Output voxels after which it repeats.
        first: Offset of its first voxel from the output voxel's own, of each phase.
        last: Offset of its last voxel.
        voxels: Number of its voxels; fewer than `last - first + 1` where it has holes.
    """

    period: int
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
        network: Image → logits, whose spatial axes come last.
        in_channels: Channels of the image.
        size: An image size that the network accepts; so must its multiples by 2.

    Returns:
        One field per axis; None for an axis whose field is as large as the image at any size.

    Raises:
        ConfigError: the network does not accept the size.
    """
    axes = range(len(size))
    return tuple(field_along(roomy_trace(network, in_channels, size, a), a) for a in axes)


def roomy_trace(network: nn.Module, in_channels: int, size: Sequence[int], axis: int) -> Trace:
    """The trace of an image so long along an axis that its middle voxels depend on no border.

    Where they depend on a border at any size, it is the trace of the longest image tried.

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


def field_along(traced: Trace, axis: int, value: Value | None = None) -> AxisField | None:
    """The field of a tensor's middle voxels along an axis; None if it touches a border.

    Args:
        traced: Of a network.
        axis: A spatial axis, from 0.
        value: The tensor; None: the logits.
    """
    value = value or traced.logits
    inputs, outputs = traced.image.shape[2 + axis], value.shape[2 + axis]
    period = max(1, round(_stride(traced, axis) * outputs / inputs))
    middle = outputs // 2 // period * period
    if middle + period > outputs:
        return None
    phases = range(middle, middle + period)
    masks = input_voxels(traced, axis, phases, value)
    if masks[:, [0, -1]].any():
        return None
    first, last, voxels = [], [], []
    for output, mask in zip(phases, masks, strict=True):
        places = np.flatnonzero(mask)
        own = output * inputs // outputs
        first.append(int(places[0]) - own if len(places) else 0)
        last.append(int(places[-1]) - own if len(places) else -1)
        voxels.append(len(places))
    return AxisField(period=period, first=tuple(first), last=tuple(last), voxels=tuple(voxels))


def input_voxels(
    traced: Trace, axis: int, outputs: Sequence[int], value: Value | None = None
) -> Mask:
    """Which image voxels along an axis a tensor depends on, at some positions.

    Args:
        traced: Of a network.
        axis: A spatial axis, from 0.
        outputs: Positions along it, each followed alone; along other axes all at once.
        value: The tensor; None: the logits.

    Returns:
        `(len(outputs), size of the image along the axis)`.
    """
    queries = len(outputs)
    start = value or traced.logits
    region = [np.ones((queries, n), dtype=bool) for n in start.shape]
    region[2 + axis][:] = False
    region[2 + axis][range(queries), list(outputs)] = True
    open_regions: dict[int, Region] = {start.index: tuple(region)}

    def add(source: Value, more: Region) -> None:
        open_regions[source.index] = united(open_regions.get(source.index), more)

    layers = {call.last: call for call in traced.calls if type(call.module) in _WHOLE_LAYERS}
    for done in range(len(traced.steps), 0, -1):
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


def skipped_voxels(taps: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Voxels that a stack of convolutions skips along an axis, and the extent of its field.

    Args:
        taps: Kernel and dilation of each convolution.

    >>> skipped_voxels([(3, 2), (3, 2)]), skipped_voxels([(3, 1), (3, 2)])
    ((4, 9), (0, 7))
    """
    offsets = {0}
    for kernel, rate in taps:
        offsets = {offset + rate * tap for offset in offsets for tap in range(kernel)}
    extent = max(offsets) + 1
    return extent - len(offsets), extent


def gridding(taps: Sequence[tuple[int, int]]) -> str | None:
    """What is wrong with a stack of dilated convolutions, in words; None if nothing is.

    Args:
        taps: Kernel and dilation of each convolution.
    """
    skipped, extent = skipped_voxels(taps)
    if not skipped:
        return None
    rates = [rate for _, rate in taps]
    factor = math.gcd(*rates)
    reason = (
        f"they have the common factor {factor}"
        if factor > 1
        else f"their largest gap (HDC) is {largest_gap(rates)}"
    )
    listed = ", ".join(map(str, rates))
    return (
        f"dilations {listed} skip {skipped} of the {extent} voxels of their receptive field: "
        f"{reason}"
    )


def gridding_warnings(network: nn.Module) -> list[str]:
    """One sentence for every row of stages whose convolutions leave holes in their field.

    The convolutions of a stage are taken one after the other; those of other stages, which may
    fill the holes, do not count.
    """
    found = [
        (problem, name)
        for name, stage in network.named_modules()
        if isinstance(stage, Stage)
        for problem in [_gridding_of(stage)]
        if problem
    ]
    return [
        f"{', '.join(name for _, name in stages)}: {problem}; "
        "choose conv=dilated_schedule, or rates without a common factor such as 1, 2, 5"
        for problem, stages in groupby(sorted(found), key=lambda pair: pair[0])
    ]


def _gridding_of(stage: Stage) -> str | None:
    for axis in zip(*_taps(stage), strict=True):
        if problem := gridding([(kernel, rate) for kernel, rate in axis if kernel > 1]):
            return problem
    return None


def _taps(stage: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """Kernel and dilation of each axis, of one convolution after the other."""
    for module in stage.modules():
        if isinstance(module, _CONV):
            yield list(zip(module.kernel_size, module.dilation, strict=True))
        elif isinstance(module, SharedSmoothing):
            yield [(taps, 1) for taps in module.weight.shape[2:]]


class EffectiveField(NamedTuple):
    """How much each image voxel counts for the middle output voxel, averaged over images.

    Args:
        gradient: Mean absolute gradient by each image voxel, `(*S)`.
        deviation: Standard deviation of the gradient's mass along each axis, in voxels.
        extent: Edge of the cube whose voxels count at least 4.55 % of the most important one,
            in voxels.
    """

    gradient: Tensor
    deviation: tuple[float, ...]
    extent: float


def effective_field(
    network: nn.Module, in_channels: int, size: Sequence[int], *, seed: int = 0
) -> EffectiveField:
    """The gradient of the middle logits by images of unit noise, at the network's own weights.

    Args:
        network: Image → logits; left as it was.
        in_channels: Channels of the image.
        size: A valid input size, larger than the theoretical field.
        seed: Of the images.

    Reference: Luo, Li, Urtasun & Zemel 2016, "Understanding the Effective Receptive Field in Deep
    Convolutional Neural Networks", section 3 (4.55 %: section 4.1).
    """
    generator = torch.Generator().manual_seed(seed)
    modes = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    network.eval()
    total = torch.zeros(tuple(size), dtype=torch.float64)
    try:
        for _ in range(_IMAGES):
            image = torch.randn((1, in_channels, *size), generator=generator).to(device)
            image.requires_grad_()
            logits = network(image)
            middle = tuple(n // 2 for n in logits.shape[2:])
            weights = torch.randn(logits.shape[1], generator=generator).to(device)
            chosen = (logits[(0, slice(None), *middle)] * weights).sum()
            (gradient,) = torch.autograd.grad(chosen, image)
            total += gradient[0].abs().sum(0).double().cpu()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return _summary(total / _IMAGES)


def _summary(gradient: Tensor) -> EffectiveField:
    noticeable = int((gradient > _NOTICEABLE * gradient.max()).sum())
    deviations = []
    for axis in range(gradient.ndim):
        others = [a for a in range(gradient.ndim) if a != axis]
        mass = gradient.sum(dim=others) if others else gradient
        mass = mass / mass.sum()
        place = torch.arange(len(mass), dtype=mass.dtype)
        mean = (mass * place).sum()
        deviations.append(float((mass * (place - mean).square()).sum().sqrt()))
    return EffectiveField(
        gradient=gradient, deviation=tuple(deviations), extent=noticeable ** (1 / gradient.ndim)
    )
