"""Blocks that a trained layer may be rewritten as, and the weights that make them equal to it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medseg.blocks import conv, downsample, upsample
from medseg.conversion.kernels import (
    centred,
    extent,
    resized,
    shuffle_as_transposed,
    smallest_odd,
    taps_of,
)
from medseg.conversion.reading import (
    Kernel,
    read_convolution,
    read_downsampling,
    read_upsampling,
)
from medseg.errors import ConfigError


class Target(NamedTuple):
    """A block that others are rewritten as.

    Args:
        slot: Of the configuration.
        option: Its name there.
        same: Blocks that are made of its layers already.
        read: What a layer of `in_channels` on a grid of `dims` axes computes; a ValueError where
            it has no exact kernel.
        describe: The smallest block that holds all kernels; a ValueError where none does.
        fill: Gives a layer of that block the weights with which it computes the kernel.
    """

    slot: str
    option: str
    same: tuple[type, ...]
    read: Callable[[nn.Module, int, int], Kernel]
    describe: Callable[[Sequence[Kernel]], dict[str, Any]]
    fill: Callable[[Any, Kernel], None]


def _standard(kernels: Sequence[Kernel]) -> dict[str, Any]:
    if any(kernel.bias is not None for kernel in kernels):
        raise ValueError("it has a bias and the standard convolution has none; keep it")
    return {"name": "blocks.conv.Standard", "kernel_size": _odd_for(kernels)}


def _fill_standard(layer: Any, kernel: Kernel) -> None:
    _copy(layer.weight, centred(kernel.weight, taps_of(layer.weight)))


def _pixel_shuffle(kernels: Sequence[Kernel]) -> dict[str, Any]:
    name, blur = "blocks.upsample.PixelShuffle", kernels[0].blur
    return {"name": name, "kernel_size": _odd_for(kernels), "blur": blur}


def _fill_pixel_shuffle(layer: Any, kernel: Kernel) -> None:
    _fill_standard(layer.layers[0], kernel)
    _copy(layer.layers[0].bias, kernel.bias)


def _transposed(kernels: Sequence[Kernel]) -> dict[str, Any]:
    spans = []
    for kernel in kernels:
        weight, _, padding = shuffle_as_transposed(kernel.weight, kernel.bias, kernel.scale)
        spans.append(_span(weight, padding))
    name = "SmoothedTransposed" if kernels[0].blur else "Transposed"
    return {"name": f"blocks.upsample.{name}", "kernel_size": _taps_for(spans, kernels)}


def _fill_transposed(layer: Any, kernel: Kernel) -> None:
    transposed = layer.layers[0] if kernel.blur else layer
    weight, bias, padding = shuffle_as_transposed(kernel.weight, kernel.bias, kernel.scale)
    _copy(transposed.weight, _reframed(weight, padding, transposed))
    _copy(transposed.bias, bias)


def _space_to_depth(kernels: Sequence[Kernel]) -> dict[str, Any]:
    for kernel in kernels:
        spans = _span(kernel.weight, kernel.padding)
        for (first, last), cell in zip(spans, kernel.scale, strict=True):
            if first < 0 or last >= cell:
                raise ValueError(
                    f"its taps {first} to {last} lie beyond the cell of {cell} voxels, of "
                    "which space to depth makes channels; keep it, or train a strided "
                    "convolution with kernel_size = stride"
                )
    return {"name": "blocks.downsample.SpaceToDepth"}


def _fill_space_to_depth(layer: Any, kernel: Kernel) -> None:
    cell = resized(kernel.weight, kernel.scale, [-p for p in kernel.padding])
    _copy(layer[1].weight, cell.reshape(layer[1].weight.shape))


def _strided(kernels: Sequence[Kernel]) -> dict[str, Any]:
    spans = [_span(kernel.weight, kernel.padding) for kernel in kernels]
    return {"name": "blocks.downsample.Strided", "kernel_size": _taps_for(spans, kernels)}


def _fill_strided(layer: Any, kernel: Kernel) -> None:
    _copy(layer.weight, _reframed(kernel.weight, kernel.padding, layer))


_DECONVOLUTIONS = (upsample.Transposed, upsample.BilinearTransposed, upsample.SmoothedTransposed)
TARGETS = (
    Target(
        "conv", "standard", (conv.Standard,), read_convolution, _standard, _fill_standard
    ),
    Target(
        "upsample", "pixel_shuffle", (upsample.PixelShuffle,),
        read_upsampling, _pixel_shuffle, _fill_pixel_shuffle,
    ),
    Target(
        "upsample", "transposed", _DECONVOLUTIONS,
        read_upsampling, _transposed, _fill_transposed,
    ),
    Target(
        "downsample", "space_to_depth", (downsample.SpaceToDepth,),
        read_downsampling, _space_to_depth, _fill_space_to_depth,
    ),
    Target(
        "downsample", "strided", (downsample.Strided,),
        read_downsampling, _strided, _fill_strided,
    ),
)  # fmt: skip


def target_of(slot: str, option: str) -> Target:
    """The target of that name.

    Raises:
        ConfigError: there is none.
    """
    for target in TARGETS:
        if (target.slot, target.option) == (slot, option):
            return target
    known = ", ".join(f"{target.slot}={target.option}" for target in TARGETS)
    raise ConfigError(
        f"{slot}={option} is no block that layers can be rewritten as; choose one of {known}"
    )


def _copy(parameter: nn.Parameter | Tensor, value: Tensor | None) -> None:
    with torch.no_grad():
        if value is None:
            parameter.zero_()
        else:
            parameter.copy_(value)


def _odd_for(kernels: Sequence[Kernel]) -> int | list[int]:
    smallest = [smallest_odd(kernel.weight) for kernel in kernels]
    return _size([max(axis) for axis in zip(*smallest, strict=True)])


def _size(taps: list[int]) -> int | list[int]:
    return taps[0] if len(set(taps)) == 1 else taps


def _span(weight: Tensor, padding: Sequence[int]) -> list[tuple[int, int]]:
    """First and last tap per axis, counted from the cell's first voxel."""
    span = []
    for axis, before in enumerate(padding):
        first, last = extent(weight, axis)
        span.append((first - before, last - before) if last >= 0 else (0, 0))
    return span


def _padding_of(taps: int, step: int) -> int:
    """How the resampling blocks place a kernel about its cell."""
    return -((step - taps) // 2)


def _taps_for(
    spans: Sequence[Sequence[tuple[int, int]]], kernels: Sequence[Kernel]
) -> int | list[int]:
    """The smallest kernel of a resampling block that has room for every span."""
    scales = zip(*(kernel.scale for kernel in kernels), strict=True)
    by_axis = zip(zip(*spans, strict=True), scales, strict=True)
    return _size([_taps_along(list(zip(span, steps, strict=True))) for span, steps in by_axis])


def _taps_along(uses: Sequence[tuple[tuple[int, int], int]]) -> int:
    for (first, last), step in uses:
        if step == 1 and (first, last) != (0, 0):
            raise ValueError(
                f"it has taps {first} to {last} along an axis that keeps its size, where a "
                "resampling has one; keep it, or train it with one tap there"
            )
    taps = max(step for _, step in uses)
    while not all(_fits(span, taps, step) for span, step in uses):
        taps += 1
    return taps


def _fits(span: tuple[int, int], taps: int, step: int) -> bool:
    before = _padding_of(taps, step)
    return step == 1 or (-before <= span[0] and span[1] < taps - before)


def _reframed(weight: Tensor, padding: Sequence[int], layer: Any) -> Tensor:
    """The same taps in the frame of a layer whose padding may be another."""
    first = [there - here for there, here in zip(layer.padding, padding, strict=True)]
    return resized(weight, layer.kernel_size, first)
