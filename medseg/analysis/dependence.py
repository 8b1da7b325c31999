"""Which values of its inputs a step looks at, given the values of its output that are asked for."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from medseg.analysis import rearrangement as moved
from medseg.analysis import vocabulary as ops
from medseg.analysis import windows
from medseg.analysis.need import Need, Needs, Question, anywhere, everything
from medseg.analysis.trace import Step
from medseg.analysis.windows import Mask

_FINEST = 1000  # denominator of a factor of interpolation


def needs_of(step: Step, question: Question) -> Needs:
    """What a step looks at to make what is asked of one of its outputs.

    The statistics of a normalisation are taken as given, as if they were stored: otherwise every
    voxel would look at all of them. The same holds for the places where max-unpooling puts its
    values. Of an unknown step everything is needed.
    """
    name = ops.base_name(step.operator)
    rule = _RULES.get(name)
    if rule is not None:
        yield from rule(step, question)
    elif name in ops.POINTWISE | ops.NORMS:
        yield from _pointwise(step, question)
    elif name not in ops.MAKERS:
        yield from ((value, everything(value, question.queries)) for value in step.inputs)


def convolved_grid(
    given: dict[str, Any], kernel: Sequence[int], space: Need, size: Sequence[int]
) -> Need:
    """Need of a convolution's input along its spatial axes."""
    look = windows.painted if given.get("transposed") else windows.convolved
    return tuple(
        look(
            mask,
            size[axis],
            kernel[axis],
            along(given["stride"] or kernel, axis),
            along(given["padding"], axis),
            along(given.get("dilation", 1), axis),
        )
        for axis, mask in enumerate(space)
    )


def along(option: Sequence[int] | int, axis: int) -> int:
    """An option of one axis; a single number holds for all."""
    if isinstance(option, int):
        return option
    return option[axis] if len(option) > 1 else option[0]


def _pointwise(step: Step, question: Question) -> Needs:
    need = question.need
    for value in step.inputs:
        own = need[len(need) - len(value.shape) :]
        if all(n in (1, mask.shape[1]) for n, mask in zip(value.shape, own, strict=False)):
            yield value, moved.broadcast(need, value.shape)


def _convolution(step: Step, question: Question) -> Needs:
    given, need = step.arguments, question.need
    image, kernel = given["input"], given["weight"].shape[2:]
    channels = _of_groups(need[1], given["groups"], image.shape[1])
    yield image, (need[0], channels, *convolved_grid(given, kernel, need[2:], image.shape[2:]))


def _of_groups(need: Mask, groups: int, channels: int) -> Mask:
    """All channels of a group of which one is asked for."""
    asked = need.reshape(len(need), groups, -1).any(axis=2)
    return np.repeat(asked, channels // groups, axis=1)


def _pool(step: Step, question: Question) -> Needs:
    if question.output:  # where the maxima are is no value
        return
    kernel, image, need = step.arguments["kernel_size"], step.inputs[0], question.need
    dims = len(kernel)
    space = convolved_grid(step.arguments, kernel, need[-dims:], image.shape[-dims:])
    yield image, (*need[:-dims], *space)


def _resized(look: Callable[..., Mask]) -> Callable[[Step, Question], Needs]:
    def rule(step: Step, question: Question) -> Needs:
        image, need = step.inputs[0], question.need
        corners = step.arguments.get("align_corners")
        option = {} if corners is None else {"align_corners": corners}
        ratios = _ratios(step, [mask.shape[1] for mask in need[2:]])
        axes = zip(need[2:], image.shape[2:], ratios, strict=True)
        yield image, (*need[:2], *(look(*axis, **option) for axis in axes))

    return rule


def _ratios(step: Step, outputs: Sequence[int]) -> list[Fraction]:
    """Input voxels per output voxel; a given factor counts, not what became of it by rounding."""
    sizes = step.inputs[0].shape[2:]
    names = ["scales"] if len(sizes) == 1 else [f"scales_{axis}" for axis in "dhw"[-len(sizes) :]]
    factors = [step.arguments.get(name) for name in names]
    return [
        1 / Fraction(factor).limit_denominator(_FINEST) if factor else Fraction(size, output)
        for factor, size, output in zip(factors, sizes, outputs, strict=True)
    ]


def _sampled(look: Callable[[Mask, int], Mask]) -> Callable[[Step, Question], Needs]:
    def rule(step: Step, question: Question) -> Needs:
        if question.output:  # where the maxima are is no value
            return
        image, need = step.inputs[0], question.need
        lead = len(need) - len(step.arguments["output_size"])
        yield image, (*need[:lead], *map(look, need[lead:], image.shape[lead:]))

    return rule


def _pixel_shuffled(step: Step, question: Question) -> Needs:
    image, need = step.inputs[0], question.need
    channels = np.ones((question.queries, image.shape[-3]), dtype=bool)
    yield image, (*need[:-3], channels, *map(windows.adaptive, need[-2:], image.shape[-2:]))


def _mixed_channels(step: Step, question: Question) -> Needs:
    need = question.need
    yield step.inputs[0], (need[0], np.ones_like(need[1]), *need[2:])


def _along_axis(step: Step, question: Question) -> Needs:
    """Every value along the axis is needed."""
    need = list(question.need)
    axis = step.arguments["dim"] % len(need)
    need[axis] = np.broadcast_to(anywhere(need[axis]), need[axis].shape)
    yield step.inputs[0], tuple(need)


def _reduced(step: Step, question: Question) -> Needs:
    """Every value along the axes that disappear, or become one, is needed."""
    image, rest = step.inputs[0], list(question.need)
    dims = step.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    rank = len(image.shape)
    gone = {axis % rank for axis in dims} if dims else set(range(rank))
    whole = everything(image, question.queries)
    if step.arguments.get("keepdim"):
        yield image, tuple(whole[a] if a in gone else rest[a] for a in range(rank))
        return
    yield image, tuple(whole[a] if a in gone else rest.pop(0) for a in range(rank))


def _product(step: Step, question: Question) -> Needs:
    """Rows of the first matrix, columns of the second."""
    need = question.need
    *added, first, second = (value for value in step.inputs)
    lead = need[:-2]
    inner = np.ones((question.queries, first.shape[-1]), dtype=bool)
    yield first, (*lead, need[-2], inner)
    yield second, (*lead, inner, need[-1])
    for value in added:
        yield value, everything(value, question.queries)


_RULES: dict[str, Callable[[Step, Question], Needs]] = {
    **moved.RULES,
    **dict.fromkeys(ops.CONVOLUTIONS, _convolution),
    **dict.fromkeys(ops.POOLS, _pool),
    **dict.fromkeys(ops.LINEAR_INTERPOLATIONS, _resized(windows.linear)),
    **dict.fromkeys(ops.CUBIC_INTERPOLATIONS, _resized(windows.cubic)),
    **dict.fromkeys(ops.SOFTMAXES, _along_axis),
    **dict.fromkeys(ops.REDUCTIONS, _reduced),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _product),
    **{f"upsample_nearest{d}d": _resized(windows.nearest) for d in (1, 2, 3)},
    **{f"_upsample_nearest_exact{d}d": _resized(windows.nearest_exact) for d in (1, 2, 3)},
    **{f"max_unpool{d}d": _resized(windows.nearest) for d in (2, 3)},
    **{f"_adaptive_avg_pool{d}d": _sampled(windows.adaptive) for d in (2, 3)},
    **{f"adaptive_max_pool{d}d": _sampled(windows.adaptive) for d in (2, 3)},
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _mixed_channels),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), _pixel_shuffled),
}
