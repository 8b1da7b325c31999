"""Blocks that a trained layer may be rewritten as, and the weights that make them equal to it."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from medseg.blocks import conv, downsample, upsample
from medseg.conversion.kernels import (
    centred,
    extent,
    resized,
    shuffle_as_transposed,
    smallest_odd,
    strided_as_space_to_depth,
    taps_of,
)
from medseg.conversion.reading import (
    DenseKernel,
    ShuffleKernel,
    StridedKernel,
    read_convolution,
    read_downsampling,
    read_upsampling,
)
from medseg.errors import ConfigError


class Target(Protocol):
    """A block that others are rewritten as.

    `slot` and `option` are its names in the configuration, `same` the blocks that are made of
    its layers already.
    """

    slot: str
    option: str
    same: tuple[type, ...]

    def read(self, layer: nn.Module, in_channels: int, dims: int) -> Any:
        """What a layer computes; a ValueError where it has no exact kernel."""
        ...

    def describe(self, kernels: Sequence[Any]) -> dict[str, Any]:
        """Description of the smallest block that holds all; a ValueError where none does."""
        ...

    def fill(self, layer: nn.Module, kernel: Any) -> None:
        """Gives a layer of that block the weights with which it computes the kernel."""
        ...


class ToStandard:
    """Any fixed convolution that keeps the grid → one dense kernel."""

    slot, option = "conv", "standard"
    same = (conv.Standard,)
    read = staticmethod(read_convolution)

    def describe(self, kernels: Sequence[DenseKernel]) -> dict[str, Any]:
        """Description of `blocks.conv.Standard`."""
        if any(kernel.bias is not None for kernel in kernels):
            raise ValueError("it has a bias and the standard convolution has none; keep it")
        return {
            "name": "blocks.conv.Standard",
            "kernel_size": _odd_for([k.weight for k in kernels]),
        }

    def fill(self, layer: nn.Module, kernel: DenseKernel) -> None:
        """The dense kernel, in the middle."""
        weight = layer.get_parameter("weight")
        _copy(weight, centred(kernel.weight, taps_of(weight)))


class ToPixelShuffle:
    """Any upsampling by a fixed kernel → a convolution and shuffle, with the blur it may have."""

    slot, option = "upsample", "pixel_shuffle"
    same = (upsample.PixelShuffle,)
    read = staticmethod(read_upsampling)

    def describe(self, kernels: Sequence[ShuffleKernel]) -> dict[str, Any]:
        """Description of `blocks.upsample.PixelShuffle`."""
        return {
            "name": "blocks.upsample.PixelShuffle",
            "kernel_size": _odd_for([kernel.weight for kernel in kernels]),
            "blur": kernels[0].blur,
        }

    def fill(self, layer: nn.Module, kernel: ShuffleKernel) -> None:
        """Every phase's kernel, in the middle, and its bias."""
        convolution = layer.get_submodule("layers.0")
        weight = convolution.get_parameter("weight")
        _copy(weight, centred(kernel.weight, taps_of(weight)))
        _copy(convolution.get_parameter("bias"), kernel.bias)


class ToTransposed:
    """Any upsampling by a fixed kernel and one bias per channel → a transposed convolution."""

    slot, option = "upsample", "transposed"
    same = (upsample.Transposed, upsample.BilinearTransposed, upsample.SmoothedTransposed)
    read = staticmethod(read_upsampling)

    def describe(self, kernels: Sequence[ShuffleKernel]) -> dict[str, Any]:
        """Description of `blocks.upsample.Transposed`, or of the smoothed one for a blur."""
        spans = []
        for kernel in kernels:
            weight, _, padding = shuffle_as_transposed(kernel.weight, kernel.bias, kernel.scale)
            spans.append(_span(weight, padding))
        name = "SmoothedTransposed" if kernels[0].blur else "Transposed"
        taps = _taps_for(spans, [kernel.scale for kernel in kernels])
        return {"name": f"blocks.upsample.{name}", "kernel_size": taps}

    def fill(self, layer: nn.Module, kernel: ShuffleKernel) -> None:
        """The interlaced kernel and the bias that all phases share."""
        transposed: Any = layer.get_submodule("layers.0") if kernel.blur else layer
        weight, bias, padding = shuffle_as_transposed(kernel.weight, kernel.bias, kernel.scale)
        _copy(transposed.weight, _reframed(weight, padding, transposed))
        _copy(transposed.bias, bias)


class ToSpaceToDepth:
    """A downsampling whose kernel stays in its cell → space to depth and a 1×1."""

    slot, option = "downsample", "space_to_depth"
    same = (downsample.SpaceToDepth,)
    read = staticmethod(read_downsampling)

    def describe(self, kernels: Sequence[StridedKernel]) -> dict[str, Any]:
        """Description of `blocks.downsample.SpaceToDepth`."""
        for kernel in kernels:
            for (first, last), cell in zip(
                _span(kernel.weight, kernel.padding), kernel.scale, strict=True
            ):
                if first < 0 or last >= cell:
                    raise ValueError(
                        f"its taps {first} to {last} lie beyond the cell of {cell} voxels, of "
                        "which space to depth makes channels; keep it, or train a strided "
                        "convolution with kernel_size = stride"
                    )
        return {"name": "blocks.downsample.SpaceToDepth"}

    def fill(self, layer: nn.Module, kernel: StridedKernel) -> None:
        """The kernel of the cell as a 1×1 of its voxels."""
        cell = resized(kernel.weight, kernel.scale, [-p for p in kernel.padding])
        _copy(layer.get_parameter("1.weight"), strided_as_space_to_depth(cell))


class ToStrided:
    """Any downsampling by a fixed kernel → a strided convolution."""

    slot, option = "downsample", "strided"
    same = (downsample.Strided,)
    read = staticmethod(read_downsampling)

    def describe(self, kernels: Sequence[StridedKernel]) -> dict[str, Any]:
        """Description of `blocks.downsample.Strided`."""
        spans = [_span(kernel.weight, kernel.padding) for kernel in kernels]
        taps = _taps_for(spans, [kernel.scale for kernel in kernels])
        return {"name": "blocks.downsample.Strided", "kernel_size": taps}

    def fill(self, layer: nn.Module, kernel: StridedKernel) -> None:
        """The kernel, where the block has its cell."""
        _copy(layer.get_parameter("weight"), _reframed(kernel.weight, kernel.padding, layer))


TARGETS: tuple[Target, ...] = (
    ToStandard(),
    ToPixelShuffle(),
    ToTransposed(),
    ToSpaceToDepth(),
    ToStrided(),
)


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


def _odd_for(weights: Sequence[Tensor]) -> int | list[int]:
    return _size([max(axis) for axis in zip(*map(smallest_odd, weights), strict=True)])


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
    spans: Sequence[Sequence[tuple[int, int]]], scales: Sequence[Sequence[int]]
) -> int | list[int]:
    """The smallest kernel of a resampling block that has room for every span."""
    by_axis = zip(zip(*spans, strict=True), zip(*scales, strict=True), strict=True)
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
