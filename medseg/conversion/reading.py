"""Layers read as the linear kernel that they compute, in float64.

Whatever a layer is made of: a convolution that keeps the grid has one dense kernel, an upsampling
is a convolution and shuffle, a downsampling a strided convolution; or it is refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn

from medseg.conversion.kernels import (
    centred,
    composed,
    dilated_as_dense,
    grouped_as_dense,
    phases_as_shuffle,
    shuffled_channels,
    taps_of,
    transposed_as_shuffle,
)
from medseg.layers.deformable import DeformableConv
from medseg.layers.fast_conv import SharedSmoothing
from medseg.layers.parallel import Sum
from medseg.layers.resampling import (
    BoxBlur,
    CellMean,
    DepthToSpace,
    MaxUnpool,
    Nails,
    SpaceToDepth,
    Upsampling,
)

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MAX_POOL = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_REASONS: list[tuple[tuple[type[nn.Module], ...], str]] = [
    ((DeformableConv,), "its taps move with the image, so that it is no linear map"),
    ((*_MAX_POOL, MaxUnpool), "it follows the maxima of the image, so that it is no linear map"),
    ((BoxBlur, nn.Upsample), "it repeats the border, where a convolution takes zeros"),
]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What a linear layer computes, with zeros beyond the border.

    A convolution has odd taps, stride 1 and keeps the grid. An upsampling is such a convolution,
    then depth to space, then perhaps a blur. A downsampling has one output per cell and no bias.

    Args:
        weight: `(out, in, *taps)`; of an upsampling `(out · Π scale, in, *taps)`.
        bias: `(out,)` or `(out · Π scale,)`.
        scale: Factor, or voxels of a cell, per axis; of a resampling.
        padding: Taps per axis before the first voxel of the cell; of a downsampling.
        blur: Whether the mean over `scale` voxels follows (`layers.resampling.BoxBlur`).
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    blur: bool = False


def read_convolution(layer: nn.Module, in_channels: int, dims: int) -> Kernel:
    """The dense kernel of a layer that keeps the grid.

    Args:
        layer: A convolution, a channel shuffle, a shared smoothing, or a row of them.
        in_channels: Channels of its input.
        dims: Axes of the grid.

    Raises:
        ValueError: it is no fixed convolution with zeros beyond the border.
    """
    match layer:
        case nn.Sequential() if _is_in_turn(layer):
            return _read_row([*layer], in_channels, dims)
        case nn.ChannelShuffle():
            return Kernel(weight=shuffled_channels(in_channels, layer.groups, dims))
        case SharedSmoothing() if layer.padding_mode == "zeros":
            same = _weight(layer).expand(in_channels, *layer.weight.shape[1:])
            return Kernel(weight=grouped_as_dense(same, in_channels))
        case _ if isinstance(layer, _CONV) and _keeps_the_grid(layer):
            grouped = dilated_as_dense(_weight(layer), layer.dilation)
            return Kernel(weight=grouped_as_dense(grouped, layer.groups), bias=_bias(layer))
    raise _not_linear(layer)


def read_upsampling(layer: nn.Module, in_channels: int, dims: int) -> Kernel:
    """The convolution and shuffle that an upsampling is.

    Args:
        layer: A transposed convolution, a sum of them, or a convolution followed by what puts
            its values in place; perhaps blurred.
        in_channels: Channels of its input.
        dims: Axes of the grid.

    Raises:
        ValueError: it is no fixed linear map with zeros beyond the border.
    """
    match layer:
        case Upsampling():
            return read_upsampling(layer.layers, in_channels, dims)
        case Sum():
            parts = [read_upsampling(part, in_channels, dims) for part in layer.branches]
            return reduce(_added, parts)
        case nn.Sequential() if _is_in_turn(layer) and len(layer) == 1:
            return read_upsampling(layer[0], in_channels, dims)
        case nn.Sequential() if _is_in_turn(layer):
            return _placed([*layer][:-1], layer[-1], in_channels, dims)
        case _ if isinstance(layer, _TRANSPOSED) and _is_plain(layer):
            scale, *pads = (_sizes(layer, o) for o in ("stride", "padding", "output_padding"))
            weight, bias = transposed_as_shuffle(_weight(layer), _bias(layer), scale, *pads)
            return Kernel(weight=weight, bias=bias, scale=scale)
    raise _not_linear(layer)


def read_downsampling(layer: nn.Module, in_channels: int, dims: int) -> Kernel:
    """The strided convolution that a downsampling is.

    Args:
        layer: A strided convolution, the mean of cells, or space to depth and a 1×1.
        in_channels: Channels of its input.
        dims: Axes of the grid.

    Raises:
        ValueError: it is no fixed linear map with zeros beyond the border.
    """
    none = (0,) * dims
    match layer:
        case CellMean():
            mean = torch.full((in_channels, 1, *layer.scale), 1 / math.prod(layer.scale))
            weight = grouped_as_dense(mean.double(), in_channels)
            return Kernel(weight=weight, scale=layer.scale, padding=none)
        case nn.Sequential() if (
            _is_in_turn(layer) and isinstance(layer[0], SpaceToDepth) and len(layer) == 2
        ):
            project = read_convolution(layer[1], in_channels, dims)
            if project.bias is None and math.prod(taps_of(project.weight)) == 1:
                scale = _sizes(layer[0], "scale")
                weight = project.weight.reshape(len(project.weight), -1, *scale)
                return Kernel(weight=weight, scale=scale, padding=none)
        case _ if isinstance(layer, _CONV) and _is_plain(layer) and layer.bias is None:
            return Kernel(
                weight=_weight(layer),
                scale=_sizes(layer, "stride"),
                padding=_sizes(layer, "padding"),
            )
    raise _not_linear(layer)


def _read_row(row: Sequence[nn.Module], in_channels: int, dims: int) -> Kernel:
    kernels: list[Kernel] = []
    for layer in row:
        channels = len(kernels[-1].weight) if kernels else in_channels
        kernels.append(read_convolution(layer, channels, dims))
    return reduce(_one_after_the_other, kernels)


def _one_after_the_other(first: Kernel, second: Kernel) -> Kernel:
    weight = composed(first.weight, second.weight)
    if first.bias is None:
        return Kernel(weight=weight, bias=second.bias)
    if math.prod(taps_of(second.weight)) > 1:
        raise ValueError(
            f"a bias stands before a kernel of {taps_of(second.weight)} taps, which takes zeros "
            "and not the bias beyond the border; keep the two convolutions"
        )
    carried = second.weight.flatten(1) @ first.bias
    return Kernel(weight=weight, bias=_sum_of(carried, second.bias))


def _placed(row: Sequence[nn.Module], last: nn.Module, in_channels: int, dims: int) -> Kernel:
    """A row of convolutions whose values the last layer puts in place, or blurs."""
    if isinstance(last, BoxBlur):
        whole = row[0] if len(row) == 1 else nn.Sequential(*row)
        rough = read_upsampling(whole, in_channels, dims)
        if rough.blur or rough.scale != last.size or last.padding_mode != "repeat":
            raise _not_linear(last)
        return replace(rough, blur=True)
    kernel = _read_row(row, in_channels, dims)
    if isinstance(last, DepthToSpace):
        return Kernel(weight=kernel.weight, bias=kernel.bias, scale=last.scale)
    if isinstance(last, Nails):
        scale, others = last.scale, 0
    elif isinstance(last, nn.Upsample) and last.mode == "nearest":
        scale, others = _whole_scale(last, dims), 1
    else:
        raise _not_linear(last)
    factors = [1] + [others] * (math.prod(scale) - 1)
    weight, bias = phases_as_shuffle(kernel.weight, kernel.bias, factors)
    return Kernel(weight=weight, bias=bias, scale=scale)


def _added(first: Kernel, second: Kernel) -> Kernel:
    both = zip(taps_of(first.weight), taps_of(second.weight), strict=True)
    taps = [max(pair) for pair in both]
    if first.scale != second.scale or first.blur or second.blur:
        raise ValueError(
            f"upsamplings by {first.scale} and {second.scale} cannot be added as one kernel; "
            "keep the two"
        )
    return Kernel(
        weight=centred(first.weight, taps) + centred(second.weight, taps),
        bias=_sum_of(first.bias, second.bias),
        scale=first.scale,
    )


def _sum_of(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _whole_scale(layer: nn.Upsample, dims: int) -> tuple[int, ...]:
    factors = layer.scale_factor
    scale = factors if isinstance(factors, tuple) else (factors or 0.0,) * dims
    if any(int(step) != step or step < 1 for step in scale):
        raise ValueError(f"scale_factor={factors} must be whole numbers; keep the interpolation")
    return tuple(int(step) for step in scale)


def _weight(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight").detach().double()


def _bias(layer: nn.Module) -> Tensor | None:
    bias = getattr(layer, "bias", None)
    return None if bias is None else bias.detach().double()


def _keeps_the_grid(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    sizes = zip(layer.kernel_size, layer.dilation, layer.padding, layer.stride, strict=True)
    return all(k % 2 == 1 and 2 * p == d * (k - 1) and s == 1 for k, d, p, s in sizes)


def _is_plain(layer: nn.Module) -> bool:
    """One group, taps side by side, zeros beyond the border."""
    return (
        getattr(layer, "padding_mode", None) == "zeros"
        and not isinstance(layer.padding, str)
        and getattr(layer, "groups", None) == 1
        and set(_sizes(layer, "dilation")) == {1}
    )


def _is_in_turn(layer: nn.Sequential) -> bool:
    """Whether it calls its layers one after the other and does nothing else."""
    return len(layer) > 0 and type(layer).forward is nn.Sequential.forward


def _sizes(layer: nn.Module, option: str) -> tuple[int, ...]:
    return tuple(getattr(layer, option))


def _not_linear(layer: nn.Module) -> ValueError:
    for part in layer.modules():
        for kinds, reason in _REASONS:
            if isinstance(part, kinds):
                return ValueError(f"{type(part).__name__}: {reason}; keep it")
    return ValueError(
        f"{type(layer).__name__}: not known as a convolution with zeros beyond the border; keep it"
    )
