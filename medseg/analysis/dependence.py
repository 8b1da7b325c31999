"""Which values of its inputs a step depends on, given a region of one of its outputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from medseg.analysis import masks
from medseg.analysis import vocabulary as ops
from medseg.analysis.masks import Mask, Region, anywhere, broadcast, only_where, whole
from medseg.analysis.trace import Step, Value

_LARGEST_DENOMINATOR = 1000  # of an interpolation's factor


@dataclass(frozen=True, kw_only=True)
class OutputRegion:
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
    would depend on all of them. So do the places where max-unpooling puts its values. An unknown
    step depends on all its inputs.
    """
    name = ops.base_name(step.operator)
    rule = _RULES.get(name)
    if rule is not None:
        yield from rule(step, of)
    elif name in ops.POINTWISE | ops.NORMS:
        yield from _pointwise(step, of)
    elif name not in ops.MAKERS:
        yield from ((value, whole(value, of.queries)) for value in step.inputs)


def convolved_region(
    options: dict[str, Any], kernel: Sequence[int], space: Region, size: Sequence[int]
) -> Region:
    """The spatial region of a convolution's input.

    Args:
        options: Stride, padding, dilation and `transposed`, as torch names them.
        kernel: Taps per axis.
        space: Spatial region of the output.
        size: Voxels of the input per axis.
    """
    inputs = masks.transposed_inputs if options.get("transposed") else masks.convolution_inputs
    return tuple(
        inputs(
            mask,
            size[axis],
            kernel[axis],
            _along(options["stride"] or kernel, axis),
            _along(options["padding"], axis),
            _along(options.get("dilation", 1), axis),
        )
        for axis, mask in enumerate(space)
    )


def _along(option: Sequence[int] | int, axis: int) -> int:
    """An option of one axis; a single number holds for all."""
    if isinstance(option, int):
        return option
    return option[axis] if len(option) > 1 else option[0]


# Operations that calculate


def _pointwise(step: Step, of: OutputRegion) -> Dependencies:
    for value in step.inputs:
        own = of.region[len(of.region) - len(value.shape) :]
        if all(n in (1, mask.shape[1]) for n, mask in zip(value.shape, own, strict=False)):
            yield value, broadcast(of.region, value.shape)


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


def _resized(inputs: Callable[..., Mask]) -> _Rule:
    def rule(step: Step, of: OutputRegion) -> Dependencies:
        image = step.inputs[0]
        corners = step.arguments.get("align_corners")
        options = {} if corners is None else {"align_corners": corners}
        ratios = _ratios(step, [mask.shape[1] for mask in of.region[2:]])
        axes = zip(of.region[2:], image.shape[2:], ratios, strict=True)
        yield image, (*of.region[:2], *(inputs(*axis, **options) for axis in axes))

    return rule


def _ratios(step: Step, outputs: Sequence[int]) -> list[Fraction]:
    """Input voxels per output voxel, by the factor that was given or else by the sizes."""
    sizes = step.inputs[0].shape[2:]
    names = ["scales"] if len(sizes) == 1 else [f"scales_{axis}" for axis in "dhw"[-len(sizes) :]]
    factors = [step.arguments.get(name) for name in names]
    return [
        1 / Fraction(factor).limit_denominator(_LARGEST_DENOMINATOR)
        if factor
        else Fraction(size, output)
        for factor, size, output in zip(factors, sizes, outputs, strict=True)
    ]


def _adaptive_pool(step: Step, of: OutputRegion) -> Dependencies:
    if of.output:  # the places of the maxima
        return
    image, lead = step.inputs[0], len(of.region) - len(step.arguments["output_size"])
    space = map(masks.adaptive_inputs, of.region[lead:], image.shape[lead:])
    yield image, (*of.region[:lead], *space)


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
    full = whole(image, of.queries)
    if step.arguments.get("keepdim"):
        yield image, tuple(full[a] if a in gone else rest[a] for a in range(rank))
        return
    yield image, tuple(full[a] if a in gone else rest.pop(0) for a in range(rank))


def _product(step: Step, of: OutputRegion) -> Dependencies:
    """Rows of the first matrix, columns of the second."""
    *added, first, second = step.inputs
    *lead, rows, columns = of.region
    inner = np.ones((of.queries, first.shape[-1]), dtype=bool)
    yield first, (*lead, rows, inner)
    yield second, (*lead, inner, columns)
    for value in added:
        yield value, whole(value, of.queries)


# Operations that only move values


def _axis(step: Step, rank: int) -> int:
    return (step.arguments.get("dim") or 0) % rank


def _view(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    yield image, masks.reshaped(of.region, image.shape, of.queries)


def _permuted(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    order = [axis % len(image.shape) for axis in step.arguments["dims"]]
    yield image, tuple(of.region[order.index(axis)] for axis in range(len(order)))


def _transposed(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    region, rank = list(of.region), len(image.shape)
    one, other = step.arguments.get("dim0", 0), step.arguments.get("dim1", 1)
    if rank > 1:
        region[one % rank], region[other % rank] = region[other % rank], region[one % rank]
    yield image, tuple(region)


def _repeated(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    own = of.region[len(of.region) - len(image.shape) :]
    copies = (m.reshape(len(m), -1, n) for m, n in zip(own, image.shape, strict=True))
    yield image, tuple(np.asarray(mask.any(axis=1)) for mask in copies)


def _selected(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    index = step.arguments["index"] % image.shape[axis]
    yield image, _with_index(of, axis, image.shape[axis], index)


def _unbound(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    yield image, _with_index(of, axis, image.shape[axis], of.output)


def _with_index(of: OutputRegion, axis: int, size: int, index: int) -> Region:
    here = masks.shifted(np.ones((of.queries, 1), dtype=bool), size, index)
    return *of.region[:axis], here, *of.region[axis:]


def _sliced(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    size, start = image.shape[axis], step.arguments["start"] or 0
    start = max(start + size, 0) if start < 0 else start
    yield image, _shifted(of.region, axis, size, start, step.arguments["step"])


def _split(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    start = sum(part.shape[axis] for part in step.outputs[: of.output])
    yield image, _shifted(of.region, axis, image.shape[axis], start, 1)


def _shifted(region: Region, axis: int, size: int, start: int, stride: int) -> Region:
    here = masks.shifted(region[axis], size, start, stride)
    return *region[:axis], here, *region[axis + 1 :]


def _joined(step: Step, of: OutputRegion) -> Dependencies:
    region = of.region
    axis = _axis(step, len(region))
    start = 0
    for part in step.arguments["tensors"]:
        if len(part.shape) != len(region):  # torch joins an empty tensor of any rank
            continue
        own = region[axis][:, start : start + part.shape[axis]]
        start += part.shape[axis]
        yield part, only_where(anywhere(own), (*region[:axis], own, *region[axis + 1 :]))


def _stacked(step: Step, of: OutputRegion) -> Dependencies:
    region = of.region
    axis = _axis(step, len(region))
    for index, part in enumerate(step.arguments["tensors"]):
        own = region[axis][:, index : index + 1]
        yield part, only_where(own, (*region[:axis], *region[axis + 1 :]))


def _padded(step: Step, of: OutputRegion) -> Dependencies:
    image, region = step.inputs[0], list(of.region)
    pads = step.arguments.get("pad") or step.arguments["padding"]
    for pair in range(len(pads) // 2):  # from the last axis on
        axis = len(image.shape) - 1 - pair
        size = image.shape[axis]
        sources = np.arange(region[axis].shape[1]) - pads[2 * pair]
        if step.operator.startswith("replication"):
            sources = np.clip(sources, 0, size - 1)
        elif step.operator.startswith("reflection"):
            sources = size - 1 - np.abs(size - 1 - np.abs(sources))
        region[axis] = masks.gathered(region[axis], size, sources)
    yield image, tuple(region)


def _flipped(step: Step, of: OutputRegion) -> Dependencies:
    (image,) = step.inputs
    axes = {axis % len(image.shape) for axis in step.arguments["dims"]}
    yield image, tuple(m[:, ::-1] if a in axes else m for a, m in enumerate(of.region))


def _rolled(step: Step, of: OutputRegion) -> Dependencies:
    image, region = step.inputs[0], list(of.region)
    if not step.arguments["dims"]:  # along all axes as if they were one
        yield image, whole(image, of.queries)
        return
    for shift, axis in zip(step.arguments["shifts"], step.arguments["dims"], strict=True):
        region[axis] = np.roll(region[axis], -shift, axis=1)
    yield image, tuple(region)


def _same(step: Step, of: OutputRegion) -> Dependencies:
    yield step.inputs[0], of.region


def _copied(step: Step, of: OutputRegion) -> Dependencies:
    source = step.arguments["src"]
    yield source, broadcast(of.region, source.shape)


def _filled(_step: Step, _of: OutputRegion) -> Dependencies:
    return iter(())


def _pixel_shuffled(step: Step, of: OutputRegion) -> Dependencies:
    image, region = step.inputs[0], of.region
    channels = np.ones((of.queries, image.shape[-3]), dtype=bool)
    space = map(masks.adaptive_inputs, region[-2:], image.shape[-2:])
    yield image, (*region[:-3], channels, *space)


def _shuffled_channels(step: Step, of: OutputRegion) -> Dependencies:
    batch, channels, *space = of.region
    yield step.inputs[0], (batch, np.ones_like(channels), *space)


_PADS = [f"{kind}_pad{dims}d" for kind in ("replication", "reflection") for dims in (1, 2, 3)]

_RULES: dict[str, _Rule] = {
    **dict.fromkeys(ops.CONVOLUTIONS, _convolution),
    **dict.fromkeys(ops.POOLS, _pool),
    **dict.fromkeys(ops.LINEAR_INTERPOLATIONS, _resized(masks.linear_inputs)),
    **dict.fromkeys(ops.CUBIC_INTERPOLATIONS, _resized(masks.cubic_inputs)),
    **{f"upsample_nearest{d}d": _resized(masks.nearest_inputs) for d in (1, 2, 3)},
    **{f"_upsample_nearest_exact{d}d": _resized(masks.nearest_exact_inputs) for d in (1, 2, 3)},
    **{f"max_unpool{d}d": _resized(masks.nearest_inputs) for d in (2, 3)},
    **dict.fromkeys(ops.SOFTMAXES, _along_axis),
    **dict.fromkeys(ops.REDUCTIONS, _reduced),  # adaptive pools are among them
    **{f"_adaptive_avg_pool{d}d": _adaptive_pool for d in (2, 3)},
    **{f"adaptive_max_pool{d}d": _adaptive_pool for d in (2, 3)},
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _product),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("unsqueeze", "squeeze", "unflatten"), _view),
    **dict.fromkeys(("transpose", "t"), _transposed),
    **dict.fromkeys(("expand", "repeat"), _repeated),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("clone", "_to_copy", "detach", "alias", "contiguous"), _same),
    **dict.fromkeys(("constant_pad_nd", *_PADS), _padded),
    **dict.fromkeys(("fill", "zero"), _filled),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _shuffled_channels),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), _pixel_shuffled),
    "permute": _permuted,
    "select": _selected,
    "slice": _sliced,
    "copy": _copied,
    "unbind": _unbound,
    "cat": _joined,
    "stack": _stacked,
    "flip": _flipped,
    "roll": _rolled,
}
