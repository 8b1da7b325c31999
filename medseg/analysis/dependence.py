"""Which values of its inputs a step depends on, given a region of one of its outputs."""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from medseg.analysis import vocabulary as ops
from medseg.analysis.regions import (
    Mask,
    Region,
    anywhere,
    convolved_region,
    gathered,
    only_where,
    positions,
)
from medseg.analysis.trace import Step, Value

_LARGEST_DENOMINATOR = 1000  # of an interpolation's factor


class OutputRegion(NamedTuple):
    """The region of a step's output whose dependencies are asked for.

    Args:
        region: One mask per axis.
        output: Index of the output.
        queries: Number of regions that are followed at once.
    """

    region: Region
    output: int
    queries: int


Dependencies = Iterator[tuple[Value, Region]]
_Rule = Callable[[Step, OutputRegion], Dependencies]


def dependencies(step: Step, of: OutputRegion) -> Dependencies:
    """The inputs of a step that a region of one of its outputs depends on, and their regions.

    The statistics of a normalisation count as given, as if they were stored: otherwise every voxel
    would depend on all of them. So do the places where max-unpooling puts its values. A step that
    is not followed depends on all its inputs.
    """
    rule = _rule(step)
    if rule is not None:
        yield from rule(step, of)
    else:
        yield from ((value, _whole(value, of)) for value in step.inputs)


def is_followed(step: Step) -> bool:
    """Whether it is known what a step's outputs depend on."""
    return _rule(step) is not None


def _rule(step: Step) -> "_Rule | None":
    name = ops.base_name(step.operator)
    if name in ops.UNPOOLINGS and step.arguments.get("pooling") is None:
        return None
    return _RULES.get(name)


def largest_merge(step: Step) -> int:
    """Most values of a run of axes that a reshape merges or splits; 1 for any other step."""
    if _rule(step) is not _view:
        return 1
    runs = _equal_runs(step.outputs[0].shape, step.inputs[0].shape)
    shape = step.inputs[0].shape
    return max((math.prod(shape[inner]) for outer, inner in runs), default=1)


def _whole(value: Value, of: OutputRegion) -> Region:
    return tuple(np.ones((of.queries, size), dtype=bool) for size in value.shape)


# Operations that calculate


def _pointwise(step: Step, of: OutputRegion) -> Dependencies:
    """Of inputs that are repeated to the output's shape; of a copy's only the source."""
    for value in [step.arguments["src"]] if "src" in step.arguments else step.inputs:
        own = of.region[len(of.region) - len(value.shape) :]
        pairs = list(zip(value.shape, own, strict=False))
        if all(n in (1, mask.shape[1]) for n, mask in pairs):
            yield value, tuple(anywhere(mask) if n == 1 else mask for n, mask in pairs)
        elif not value.is_weight:
            yield value, _whole(value, of)


def _convolution(step: Step, of: OutputRegion) -> Dependencies:
    options, (batch, channels, *space) = step.arguments, of.region
    image, kernel = options["input"], options["weight"].shape[2:]
    groups = channels.reshape(len(channels), options["groups"], -1).any(axis=2)
    per_group = image.shape[1] // options["groups"]
    region = convolved_region(options, kernel, tuple(space), image.shape[2:])
    yield image, (batch, np.repeat(groups, per_group, axis=1), *region)


def _pool(step: Step, of: OutputRegion) -> Dependencies:
    if of.output:  # the places of the maxima
        return
    kernel, image = step.arguments["kernel_size"], step.inputs[0]
    dims = len(kernel)
    space = convolved_region(step.arguments, kernel, of.region[-dims:], image.shape[-dims:])
    yield image, (*of.region[:-dims], *space)


def _unpooled(step: Step, of: OutputRegion) -> Dependencies:
    """Each value may go anywhere in the window whose maximum it was."""
    options, image = step.arguments["pooling"], step.inputs[0]
    kernel = options["kernel_size"]
    space, size = of.region[-len(kernel) :], image.shape[-len(kernel) :]
    region = convolved_region(options | {"transposed": True}, kernel, space, size)
    yield image, (*of.region[: -len(kernel)], *region)


def _normalised(step: Step, of: OutputRegion) -> Dependencies:
    """Statistics count as given; weights that are calculated do not."""
    image, *others = step.inputs
    if not of.output:
        yield image, of.region
    for value in others if not of.output else step.inputs:
        if not value.is_weight:
            yield value, _whole(value, of)


def _along_axis(step: Step, of: OutputRegion) -> Dependencies:
    """All values along an axis."""
    region = list(of.region)
    axis = step.arguments["dim"] % len(region)
    region[axis] = np.broadcast_to(anywhere(region[axis]), region[axis].shape)
    yield step.inputs[0], tuple(region)


def _reduced(step: Step, of: OutputRegion) -> Dependencies:
    """All values along the axes that disappear or become one."""
    image, rest = step.inputs[0], list(of.region)
    dims = step.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    rank = len(image.shape)
    gone = {axis % rank for axis in dims} if dims else set(range(rank))
    for axis in () if step.arguments.get("keepdim") else sorted(gone):
        rest.insert(axis, np.ones((of.queries, 1), dtype=bool))
    yield image, tuple(m if a in gone else rest[a] for a, m in enumerate(_whole(image, of)))


def _product(step: Step, of: OutputRegion) -> Dependencies:
    """Rows of the first matrix, columns of the second."""
    *added, first, second = step.inputs
    *lead, rows, columns = of.region
    inner = np.ones((of.queries, first.shape[-1]), dtype=bool)
    yield first, (*lead, rows, inner)
    yield second, (*lead, inner, columns)
    for value in added:
        yield value, _whole(value, of)


# Operations that move values along single axes: step, output, axis, output positions and input size
# to sources; None for an axis that stays


_Sources = Callable[[Step, int, int, np.ndarray, int], np.ndarray | None]


def _by_axis(sources: _Sources) -> _Rule:
    def rule(step: Step, of: OutputRegion) -> Dependencies:
        image, region = step.inputs[0], list(of.region)
        for axis, (mask, size) in enumerate(zip(of.region, image.shape, strict=True)):
            taken = sources(step, of.output, axis, positions(mask), size)
            if taken is not None:
                region[axis] = gathered(mask, size, taken)
        yield image, tuple(region)

    return rule


def _all(outputs: np.ndarray, size: int) -> np.ndarray:
    """Every input for each output."""
    return np.broadcast_to(np.arange(size), (len(outputs), size))


def _axis(step: Step, rank: int) -> int:
    return (step.arguments.get("dim") or 0) % rank


def _sliced(step: Step, _output: int, axis: int, outputs: np.ndarray, size: int) -> Any:
    if axis != _axis(step, len(step.inputs[0].shape)):
        return None
    start = step.arguments["start"] or 0
    return (max(start + size, 0) if start < 0 else start) + step.arguments["step"] * outputs


def _split(step: Step, output: int, axis: int, outputs: np.ndarray, _size: int) -> Any:
    if axis != _axis(step, len(step.inputs[0].shape)):
        return None
    return outputs + sum(part.shape[axis] for part in step.outputs[:output])


def _flipped(step: Step, _output: int, axis: int, outputs: np.ndarray, size: int) -> Any:
    axes = {dim % len(step.inputs[0].shape) for dim in step.arguments["dims"]}
    return size - 1 - outputs if axis in axes else None


def _rolled(step: Step, _output: int, axis: int, outputs: np.ndarray, size: int) -> Any:
    dims, shifts = step.arguments["dims"], step.arguments["shifts"]
    if not dims:  # along all axes as if they were one
        return _all(outputs, size)
    rank = len(step.inputs[0].shape)
    shift = sum(n for n, dim in zip(shifts, dims, strict=True) if dim % rank == axis)
    return (outputs - shift) % size if shift else None


def _padded(step: Step, _output: int, axis: int, outputs: np.ndarray, size: int) -> Any:
    pads = step.arguments.get("pad") or step.arguments["padding"]
    pair = len(step.inputs[0].shape) - 1 - axis  # from the last axis on
    if pair >= len(pads) // 2:
        return None
    sources = outputs - pads[2 * pair]
    if step.operator.startswith("replication"):
        return np.clip(sources, 0, size - 1)
    if step.operator.startswith("reflection"):
        return size - 1 - np.abs(size - 1 - np.abs(sources))
    return sources


def _resized(step: Step, _output: int, axis: int, outputs: np.ndarray, size: int) -> Any:
    """Nearest: input `⌊o · ratio⌋`; linear: the inputs around the place of the output."""
    if axis < 2:
        return None
    ratio = _ratio(step, axis, len(outputs), size)
    if "linear" not in step.operator:
        return np.minimum(outputs * ratio.numerator // ratio.denominator, size - 1)
    if step.arguments["align_corners"]:
        place, unit = outputs * (size - 1), max(len(outputs) - 1, 1)
    else:
        place, unit = (2 * outputs + 1) * ratio.numerator - ratio.denominator, 2 * ratio.denominator
    place = np.maximum(place, 0)
    below, between = place // unit, place % unit > 0
    return np.hstack([below, np.minimum(below + between, size - 1)])


def _ratio(step: Step, axis: int, outputs: int, size: int) -> Fraction:
    """Input voxels per output voxel, by the factor that was given or else by the sizes."""
    rank = len(step.inputs[0].shape)
    name = "scales" if rank == 3 else f"scales_{'dhw'[axis - rank]}"
    factor = step.arguments.get(name)
    if not factor:
        return Fraction(size, outputs)
    return 1 / Fraction(factor).limit_denominator(_LARGEST_DENOMINATOR)


def _adaptive(outputs: np.ndarray, size: int) -> np.ndarray:
    """Inputs `⌊o · n_in / n_out⌋` to `⌈(o + 1) · n_in / n_out⌉ − 1`."""
    cells = len(outputs)
    first, last = outputs * size // cells, -(-(outputs + 1) * size // cells)
    sources = first + np.arange(int((last - first).max(initial=0)))
    return np.where(sources < last, sources, -1)


def _adaptive_pool(step: Step, output: int, axis: int, outputs: np.ndarray, size: int) -> Any:
    if output:  # the places of the maxima
        return outputs * 0 - 1
    spatial = len(step.inputs[0].shape) - len(step.arguments["output_size"])
    return _adaptive(outputs, size) if axis >= spatial else None


def _shuffled(step: Step, _output: int, axis: int, outputs: np.ndarray, size: int) -> Any:
    """All channels, and of the last two axes the cell."""
    channels = len(step.inputs[0].shape) - 3
    if axis == channels:
        return _all(outputs, size)
    return _adaptive(outputs, size) if axis > channels else None


# Operations that change or exchange axes


def _view(step: Step, of: OutputRegion) -> Dependencies:
    """Axes that are merged or split are treated together: perhaps too large, never too small."""
    (image,) = step.inputs
    masks: list[Mask] = []
    for outer, inner in _equal_runs([mask.shape[1] for mask in of.region], image.shape):
        group, sizes = of.region[outer], image.shape[inner]
        if len(group) == len(sizes) == 1:
            masks.extend(group)
            continue
        together = np.ones((of.queries, 1), dtype=bool)
        for mask in group:
            together = (together[:, :, None] & mask[:, None, :]).reshape(of.queries, -1)
        together = together.reshape(of.queries, *sizes)
        axes = range(1, together.ndim)
        others = [tuple(axis for axis in axes if axis != own) for own in axes]
        masks.extend(np.logical_or.reduce(together, axis=gone) for gone in others)
    yield image, tuple(masks)


def _equal_runs(first: Sequence[int], second: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The smallest runs of axes of both shapes with equally many values."""
    i = j = 0
    while i < len(first) or j < len(second):
        start, other = i, j
        i, j = min(i + 1, len(first)), min(j + 1, len(second))
        while math.prod(first[start:i]) != math.prod(second[other:j]):
            if math.prod(first[start:i]) < math.prod(second[other:j]):
                i += 1
            else:
                j += 1
        yield slice(start, i), slice(other, j)


def _permuted(step: Step, of: OutputRegion) -> Dependencies:
    """Of `permute`, `transpose` and `t`."""
    (image,) = step.inputs
    rank = len(image.shape)
    if (order := step.arguments.get("dims")) is None:
        order = list(range(rank))
        if rank > 1:
            one, other = (step.arguments.get(f"dim{n}", n) % rank for n in (0, 1))
            order[one], order[other] = other, one
    order = [axis % rank for axis in order]
    yield image, tuple(of.region[order.index(axis)] for axis in range(rank))


def _repeated(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    own = of.region[len(of.region) - len(image.shape) :]
    copies = (m.reshape(len(m), -1, n) for m, n in zip(own, image.shape, strict=True))
    yield image, tuple(np.asarray(mask.any(axis=1)) for mask in copies)


def _selected(step: Step, of: OutputRegion) -> Dependencies:
    """One position of an axis, which disappears; `unbind` makes an output of each."""
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    here = np.zeros((of.queries, image.shape[axis]), dtype=bool)
    here[:, step.arguments.get("index", of.output)] = True
    yield image, (*of.region[:axis], here, *of.region[axis:])


def _unfolded(step: Step, of: OutputRegion) -> Dependencies:
    """Windows along one axis; their voxels become the last axis."""
    image, options, (*region, within) = step.inputs[0], step.arguments, of.region
    axis = options["dimension"] % len(image.shape)
    starts = options["step"] * positions(region[axis])
    region[axis] = gathered(region[axis], image.shape[axis], starts + np.arange(options["size"]))
    yield image, only_where(anywhere(within), tuple(region))


def _joined(step: Step, of: OutputRegion) -> Dependencies:
    """Of `cat`, and of `stack`, whose parts lack the axis."""
    region, stacked = of.region, step.operator == "stack"
    axis = _axis(step, len(region))
    start = 0
    for part in step.arguments["tensors"]:
        if len(part.shape) + stacked != len(region):  # torch joins an empty tensor of any rank
            continue
        length = 1 if stacked else part.shape[axis]
        own = region[axis][:, start : start + length]
        start += length
        kept = () if stacked else (own,)
        yield part, only_where(anywhere(own), (*region[:axis], *kept, *region[axis + 1 :]))


_RULES: dict[str, _Rule] = {
    name: rule
    for names, rule in (
        (ops.CONVOLUTIONS, _convolution),
        (ops.POOLS, _pool),
        (ops.LINEAR_INTERPOLATIONS, _by_axis(_resized)),
        (ops.NEAREST_INTERPOLATIONS, _by_axis(_resized)),
        (ops.SOFTMAXES, _along_axis),
        (ops.REDUCTIONS - ops.ADAPTIVE_POOLS, _reduced),
        (ops.ADAPTIVE_POOLS, _by_axis(_adaptive_pool)),
        ({"mm", "bmm", "addmm", "baddbmm"}, _product),
        ({"view", "_unsafe_view", "reshape", "_reshape_alias"}, _view),
        ({"unsqueeze", "squeeze", "unflatten"}, _view),
        ({"permute", "transpose", "t"}, _permuted),
        ({"expand", "repeat"}, _repeated),
        ({"select", "unbind"}, _selected),
        ({"cat", "stack"}, _joined),
        ({"unfold"}, _unfolded),
        ({"slice"}, _by_axis(_sliced)),
        ({"split", "split_with_sizes", "unsafe_split"}, _by_axis(_split)),
        ({"flip"}, _by_axis(_flipped)),
        ({"roll"}, _by_axis(_rolled)),
        (ops.PADS, _by_axis(_padded)),
        (
            {"channel_shuffle", "native_channel_shuffle"},
            _by_axis(lambda _, __, axis, outputs, n: _all(outputs, n) if axis == 1 else None),
        ),
        ({"pixel_shuffle", "pixel_unshuffle"}, _by_axis(_shuffled)),
        ({"clone", "_to_copy", "detach", "alias", "contiguous", "copy"}, _pointwise),
        ({"zero"} | ops.MAKERS, lambda _step, _of: iter(())),
        ({"fill"}, lambda step, of: ((value, _whole(value, of)) for value in step.inputs[1:])),
        (ops.POINTWISE, _pointwise),
        (ops.NORMS, _normalised),
        (ops.UNPOOLINGS, _unpooled),
    )
    for name in names
}
