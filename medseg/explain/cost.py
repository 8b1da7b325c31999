"""What an operator costs, by the closed form of its kind."""

import math
from collections.abc import Callable

from medseg.analysis import closed_form as costs
from medseg.analysis.closed_form import Cost
from medseg.explain.operator import Operator

FREE = Cost()


def cost_of(operator: Operator) -> Cost:
    """Parameters without biases, and what one application to one sample computes."""
    return _COSTS.get(operator.kind, _nothing)(operator)


def separable_channels(operator: Operator) -> tuple[int, ...]:
    """Channels before, between and after the factors of a spatially separable convolution."""
    return (operator.in_channels, *[operator.out_channels] * operator.dims)


def biases_of(operator: Operator) -> int:
    """Numbers that biases of all its convolutions would add."""
    out = operator.out_channels
    return {
        "depthwise_separable": operator.in_channels + out,
        "spatially_separable": operator.dims * out,
        "pixel_shuffle": math.prod(operator.stride) * out,
        "deformable": costs.offset_channels(operator.kernel, modulated=False) + out,
    }.get(operator.kind, out)


def traffic_of(operator: Operator) -> int:
    """Bytes of one sample in single precision: inputs, outputs and weights, once each."""
    return costs.compulsory_traffic(
        operator.in_channels * math.prod(operator.size),
        operator.out_channels * math.prod(operator.output),
        cost_of(operator).parameters,
    )


def ordinary(operator: Operator) -> Cost:
    """The ordinary convolution with the same kernel, output and channels."""
    return costs.conv(operator.kernel, operator.output, operator.in_channels, operator.out_channels)


def _nothing(operator: Operator) -> Cost:
    return FREE


def _conv(o: Operator) -> Cost:
    return costs.conv(o.kernel, o.output, o.in_channels, o.out_channels, o.groups)


def _transposed(o: Operator) -> Cost:
    return costs.transposed(o.kernel, o.size, o.in_channels, o.out_channels, o.groups)


def _depthwise_separable(o: Operator) -> Cost:
    return costs.depthwise_separable(o.kernel, o.output, o.in_channels, o.out_channels)


def _spatially_separable(o: Operator) -> Cost:
    return costs.spatially_separable(o.kernel, o.output, separable_channels(o))


def _deformable(o: Operator) -> Cost:
    return costs.deformable(o.kernel, o.output, o.in_channels, o.out_channels)


def _pixel_shuffle(o: Operator) -> Cost:
    return costs.pixel_shuffle(o.kernel, o.size, o.in_channels, o.out_channels, o.stride)


def _linear(o: Operator) -> Cost:
    fetched = math.prod(o.output) * o.in_channels * 2**o.dims
    return Cost(other=fetched)


def _dense(o: Operator) -> Cost:
    return costs.dense(o.in_channels * math.prod(o.size), o.out_channels)


_COSTS: dict[str, Callable[[Operator], Cost]] = {
    "conv": _conv,
    "pointwise": _conv,
    "depthwise": _conv,
    "grouped": _conv,
    "dilated": _conv,
    "transposed": _transposed,
    "depthwise_separable": _depthwise_separable,
    "spatially_separable": _spatially_separable,
    "deformable": _deformable,
    "pixel_shuffle": _pixel_shuffle,
    "linear": _linear,
    "dense": _dense,
}
