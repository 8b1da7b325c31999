"""Blocks that a trained layer may be rewritten as, and the weights that make them equal to it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medseg.blocks import conv, downsample, upsample
from medseg.conversion.kernels import Kernel
from medseg.errors import ConfigError


class Target(NamedTuple):
    """A block that others are rewritten as.

    Args:
        slot: Of the configuration.
        option: Its name there.
        same: Blocks that are made of its layers already.
        describe: The smallest block that holds all kernels; a ValueError where none does.
        fill: Gives a layer of that block the weights with which it computes the kernel.
    """

    slot: str
    option: str
    same: tuple[type, ...]
    describe: Callable[[Sequence[Kernel]], dict[str, Any]]
    fill: Callable[[Any, Kernel], None]


def _standard(kernels: Sequence[Kernel]) -> dict[str, Any]:
    if any(kernel.bias.any() for kernel in kernels):
        raise ValueError("it has a bias and the standard convolution has none; keep it")
    return {"name": "blocks.conv.Standard", "kernel_size": _odd_for(kernels)}


def _pixel_shuffle(kernels: Sequence[Kernel]) -> dict[str, Any]:
    name, blur = "blocks.upsample.PixelShuffle", kernels[0].blur
    return {"name": name, "kernel_size": _odd_for(kernels), "blur": blur}


def _fill_pixel_shuffle(layer: Any, kernel: Kernel) -> None:
    """A transposed convolution is a convolution per phase of its stride, interlaced.

    What input voxel m adds to voxel `s·m + s·d + q` is a tap of phase q at d voxels before it.

    Reference: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"
    (arXiv:1609.07009).
    """
    project, dims = layer.layers[0], len(kernel.scale)
    sizes = list(zip(project.kernel_size, kernel.scale, strict=True))
    taps = kernel.framed([-(k // 2 * s) for k, s in sizes], [k * s for k, s in sizes])
    split = taps.reshape(*taps.shape[:2], *(n for pair in sizes for n in pair))
    phases, cells = range(3, 3 + 2 * dims, 2), range(2, 2 + 2 * dims, 2)
    _copy(project.weight, split.flip(list(cells)).permute(1, *phases, 0, *cells))
    _copy(project.bias, kernel.bias)


def _transposed(kernels: Sequence[Kernel]) -> dict[str, Any]:
    for kernel in kernels:
        phases = kernel.bias.flatten(1)
        if spread := float((phases.amax(1) - phases.amin(1)).max()):
            raise ValueError(
                f"the biases of a channel's {phases.shape[1]} phases differ by up to "
                f"{spread:.3g}, and a transposed convolution has one per channel; keep it"
            )
    name = "SmoothedTransposed" if kernels[0].blur else "Transposed"
    return {"name": f"blocks.upsample.{name}", "kernel_size": _taps_for(kernels)}


def _fill_transposed(layer: Any, kernel: Kernel) -> None:
    transposed = layer.layers[0] if kernel.blur else layer
    _fill_by_padding(transposed, kernel)
    _copy(transposed.bias, kernel.bias.flatten(1)[:, 0])


def _space_to_depth(kernels: Sequence[Kernel]) -> dict[str, Any]:
    for kernel in kernels:
        for (first, last), cell in zip(kernel.spans, kernel.scale, strict=True):
            if first < 0 or last >= cell:
                raise ValueError(
                    f"its taps {first} to {last} lie beyond the cell of {cell} voxels, of "
                    "which space to depth makes channels; keep it, or train a strided "
                    "convolution with kernel_size = stride"
                )
    return {"name": "blocks.downsample.SpaceToDepth"}


def _fill_space_to_depth(layer: Any, kernel: Kernel) -> None:
    _copy(layer[1].weight, kernel.framed([0] * len(kernel.scale), kernel.scale))


def _strided(kernels: Sequence[Kernel]) -> dict[str, Any]:
    return {"name": "blocks.downsample.Strided", "kernel_size": _taps_for(kernels)}


def _fill_by_padding(layer: Any, kernel: Kernel) -> None:
    """Of convolutions whose first tap lies their padding before the cell."""
    _copy(layer.weight, kernel.framed([-p for p in layer.padding], layer.kernel_size))


_DECONVOLUTIONS = (upsample.Transposed, upsample.BilinearTransposed, upsample.SmoothedTransposed)
_SHUFFLES = (upsample.PixelShuffle,)
TARGETS = (
    Target("conv", "standard", (conv.Standard,), _standard, _fill_by_padding),
    Target("upsample", "pixel_shuffle", _SHUFFLES, _pixel_shuffle, _fill_pixel_shuffle),
    Target("upsample", "transposed", _DECONVOLUTIONS, _transposed, _fill_transposed),
    Target(
        "downsample", "space_to_depth", (downsample.SpaceToDepth,),
        _space_to_depth, _fill_space_to_depth,
    ),
    Target("downsample", "strided", (downsample.Strided,), _strided, _fill_by_padding),
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


@torch.no_grad()
def _copy(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.copy_(value.reshape(parameter.shape))


def _odd_for(kernels: Sequence[Kernel]) -> int | list[int]:
    """Taps per axis of the smallest odd kernel, about the voxel or the cell, that holds all."""
    halves = [
        [max(-(a // s), b // s) for (a, b), s in zip(kernel.spans, kernel.scale, strict=True)]
        for kernel in kernels
    ]
    return _size([2 * max(axis) + 1 for axis in zip(*halves, strict=True)])


def _size(taps: list[int]) -> int | list[int]:
    return taps[0] if len(set(taps)) == 1 else taps


def _taps_for(kernels: Sequence[Kernel]) -> int | list[int]:
    """The smallest kernel of a resampling block that has room for every span."""
    uses = [list(zip(kernel.spans, kernel.scale, strict=True)) for kernel in kernels]
    return _size([_taps_along(axis) for axis in zip(*uses, strict=True)])


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
    before = -((step - taps) // 2)  # how the resampling blocks place a kernel about its cell
    return step == 1 or (-before <= span[0] and span[1] < taps - before)
