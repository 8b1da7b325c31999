"""Patterns that all strided layers of a network print on the gradient of its input."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import nn

from medseg.checkerboard.weights.backward import gradient_imbalance
from medseg.checkerboard.weights.imbalance import dc_gain_imbalance
from medseg.checkerboard.weights.overlap import overlap_imbalance
from medseg.checkerboard.weights.polyphase import kernel_gains
from medseg.checkerboard.weights.taps import kernel_of_weight
from medseg.layers.resampling import CellMean, SpaceToDepth, depth_to_space

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
_AveragePool = nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
_Unshuffle = SpaceToDepth | nn.PixelUnshuffle
_Coarsening = _Conv | _MaxPool | _AveragePool | CellMean | _Unshuffle
_AXES = {1: nn.MaxPool1d | nn.AvgPool1d, 2: nn.MaxPool2d | nn.AvgPool2d}
_OF_MAXIMA = (
    "expected where every voxel of a window is as likely the largest; of one image, a single "
    "voxel of each window has all of its gradient"
)


@dataclass(frozen=True, kw_only=True)
class GradientMeasures:
    """What one strided layer prints on the gradient before it; None where it has no such number.

    Args:
        layer: Its name in the network.
        operator: What it is.
        stride: Factor per axis.
        imbalance: `gradient_imbalance`, for equal gradients behind the layer.
        overlap: `overlap_imbalance` of its windows, whatever it has learned.
        note: Under what condition the imbalance holds, or why it is missing.

    >>> GradientMeasures(layer="down", operator="Conv1d()", stride=(2,)).imbalance is None
    True
    """

    layer: str
    operator: str
    stride: tuple[int, ...]
    imbalance: float | None = None
    overlap: float | None = None
    note: str | None = None


def gradient_measures(network: nn.Module) -> list[GradientMeasures]:
    """`A` of the gradient before every convolution and pooling with a stride, in network order.

    Of a convolution `gradient_imbalance`; of average pooling, whose taps are equal, the overlap
    of its windows; of max pooling the same in expectation. Layers in an `nn.Sequential` that
    move voxels into channels are measured together with the convolution that follows, as the
    strided convolution that both are. Listed with the reason is what has none.

    Reference: as of `gradient_gains`.

    >>> first = nn.Conv2d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(first.weight)
    >>> [each.imbalance for each in gradient_measures(nn.Sequential(first, nn.AvgPool2d(2)))]
    [0.19, 0.0]
    """
    followers = _followers(network)
    found = (_measures(name, m, followers.get(m)) for name, m in _coarsening_layers(network))
    return [each for each in found if max(each.stride) > 1]


def _coarsening_layers(network: nn.Module) -> Iterator[tuple[str, _Coarsening]]:
    inside: set[nn.Module] = set()
    for name, module in network.named_modules():
        if isinstance(module, _Coarsening) and module not in inside:
            inside.update(module.modules())
            yield name, module


def _followers(network: nn.Module) -> dict[nn.Module, nn.Module]:
    """What comes next in the same `nn.Sequential`."""
    rows = [list(m.children()) for m in network.modules() if isinstance(m, nn.Sequential)]
    return {one: other for row in rows for one, other in pairwise(row)}


def _measures(name: str, layer: _Coarsening, follower: nn.Module | None) -> GradientMeasures:
    kernel, stride, dilation = _window(layer)
    found = GradientMeasures(layer=name, operator=str(layer), stride=stride)
    if math.prod(stride) == 1:
        return found
    try:
        if isinstance(layer, _Unshuffle):
            return replace(found, imbalance=_together(layer, stride, follower))
        overlap = overlap_imbalance(kernel, stride, dilation)
        found = replace(found, overlap=overlap)
        imbalance = gradient_imbalance(layer) if isinstance(layer, _Conv) else overlap
        note = _OF_MAXIMA if isinstance(layer, _MaxPool) else None
        return replace(found, imbalance=imbalance, note=note)
    except (TypeError, ValueError) as error:
        return replace(found, note=str(error))


def _window(layer: _Coarsening) -> tuple[Sequence[int], tuple[int, ...], Sequence[int]]:
    """Kernel, stride and dilation."""
    if isinstance(layer, _Conv):
        return layer.kernel_size, tuple(layer.stride), layer.dilation
    if isinstance(layer, CellMean | SpaceToDepth):
        return layer.scale, layer.scale, (1,) * len(layer.scale)
    if isinstance(layer, nn.PixelUnshuffle):
        scale = (layer.downscale_factor,) * 2
        return scale, scale, (1, 1)
    axes = next((dims for dims, kinds in _AXES.items() if isinstance(layer, kinds)), 3)
    stride = layer.kernel_size if layer.stride is None else layer.stride
    dilation = layer.dilation if isinstance(layer, _MaxPool) else 1
    kernel, steps, rates = (_per_axis(size, axes) for size in (layer.kernel_size, stride, dilation))
    return kernel, steps, rates


def _per_axis(size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    each = (size,) if isinstance(size, int) else tuple(size)
    return each * axes if len(each) == 1 else each


def _together(layer: nn.Module, stride: Sequence[int], conv: nn.Module | None) -> float:
    if not isinstance(conv, _Conv) or max(conv.stride) > 1 or conv.groups > 1:
        raise TypeError(
            f"{type(layer).__name__} only moves voxels into channels, and no convolution of all "
            "of them at stride 1 follows it in an nn.Sequential; measure what follows"
        )
    adjoint = kernel_of_weight(conv.weight, conv.groups, conv.dilation)
    return dc_gain_imbalance(kernel_gains(depth_to_space(adjoint, stride), stride))
