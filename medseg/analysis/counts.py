"""What each step of a trace calculates and moves."""

import math
from dataclasses import dataclass

from medseg.analysis import vocabulary as ops
from medseg.analysis.trace import Step


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one or several steps.

    Args:
        macs: Multiply-accumulates of convolutions and products of matrices.
        other: Operations of everything else: one per value of an activation, sum or product;
            4 per value of a normalisation whose statistics are the case's own and 2 where they
            are stored; `2^d` per interpolated value; the window per pooled value.
        bytes_moved: Read and written, each tensor of a step once; views move nothing.
        unknown: Operations that are not known, whose cost is in none of the numbers.
    """

    macs: int = 0
    other: int = 0
    bytes_moved: int = 0
    unknown: tuple[str, ...] = ()

    def __add__(self, more: "Cost") -> "Cost":
        return Cost(
            macs=self.macs + more.macs,
            other=self.other + more.other,
            bytes_moved=self.bytes_moved + more.bytes_moved,
            unknown=tuple(dict.fromkeys((*self.unknown, *more.unknown))),
        )


def cost_of(step: Step) -> Cost:
    """The cost of one step.

    Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning".
    """
    name = ops.base_name(step.operator)
    if name not in ops.KNOWN:
        return Cost(unknown=(step.operator,))
    if name in ops.VIEWS | ops.MAKERS:
        return Cost()
    return Cost(macs=_macs(name, step), other=_other(name, step), bytes_moved=_bytes_moved(step))


def _macs(name: str, step: Step) -> int:
    if name in ops.CONVOLUTIONS:
        return _convolution_macs(step)
    if name in ops.PRODUCTS:
        first, second = _matrices(step)
        return math.prod(first) * (second[-1] if len(second) > 1 else 1)
    return 0


def _convolution_macs(step: Step) -> int:
    """Every weight once per voxel of the grid that it is moved over: transposed, the input's."""
    weight = step.arguments["weight"].shape
    grid = step.arguments["input"] if step.arguments["transposed"] else step.outputs[0]
    return grid.shape[0] * math.prod(grid.shape[2:]) * math.prod(weight)


def _matrices(step: Step) -> tuple[tuple[int, ...], tuple[int, ...]]:
    names = ("mat1", "mat2") if "mat1" in step.arguments else ("batch1", "batch2")
    if names[0] not in step.arguments:
        names = ("mat", "vec") if "vec" in step.arguments else ("self", "mat2")
    if names[1] not in step.arguments:
        names = ("self", "tensor")
    return step.arguments[names[0]].shape, step.arguments[names[1]].shape


def _other(name: str, step: Step) -> int:
    values = math.prod(step.outputs[0].shape) if step.outputs else 0
    if name in ops.POINTWISE:
        return values
    if name in ops.NORMS:
        own_statistics = step.arguments.get("training", not name.endswith("no_training"))
        return values * (4 if own_statistics else 2)
    if name in ops.POOLS:
        return values * math.prod(step.arguments["kernel_size"])
    if name in ops.LINEAR_INTERPOLATIONS | ops.SAMPLERS:
        return values * 2 ** (len(step.outputs[0].shape) - 2)
    if name in ops.CUBIC_INTERPOLATIONS:
        return values * 16
    if name in ops.REDUCTIONS:
        return max(math.prod(value.shape) for value in step.inputs)
    return 3 * values if name in ops.SOFTMAXES else 0


def _bytes_moved(step: Step) -> int:
    read = {value.index: value.bytes for value in step.inputs}
    return sum(read.values()) + sum(value.bytes for value in step.outputs)
