"""The kernel of a linear layer: the weights of its convolution, and what follows makes of them."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

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

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_WithinCells = DepthToSpace | Nails | nn.ChannelShuffle
_MOST_CELLS = 64  # to either side of a tap
_REASONS: list[tuple[tuple[type[nn.Module], ...], str]] = [
    ((DeformableConv,), "its taps move with the image, so that it is no linear map"),
    (
        (nn.MaxPool2d, nn.MaxPool3d, MaxUnpool),
        "it follows the maxima of the image, so that it is no linear map",
    ),
    ((BoxBlur,), "it repeats the border, where a convolution takes zeros"),
    ((SharedSmoothing,), "between it and the next taps zeros are put beyond the border"),
]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What a linear layer computes far from the border.

    A convolution has scale 1 and keeps the grid. A downsampling has one output per cell of `scale`
    voxels. An upsampling spreads every voxel over the finer grid, and perhaps blurs it.

    Args:
        taps: `(out, in, *taps)`, as torch's convolutions have them; of an upsampling
            `(in, out, *taps)`, as its transposed ones.
        first: Voxels of the finer grid from the first of a cell to the first tap, per axis.
        bias: `(out, *scale)`, of each phase; of others than upsamplings `(out, 1, …)`.
        scale: Factor, or voxels of a cell, per axis.
        blur: Whether the mean over `scale` voxels follows (`layers.resampling.BoxBlur`).
    """

    taps: Tensor
    first: tuple[int, ...]
    bias: Tensor
    scale: tuple[int, ...]
    blur: bool = False

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last tap per axis, counted from the first voxel of a cell."""
        return [(a, a + n - 1) for a, n in zip(self.first, self.taps.shape[2:], strict=True)]

    def framed(self, first: Sequence[int], size: Sequence[int]) -> Tensor:
        """The same taps in a larger frame, zeros around them: `(_, _, *size)`."""
        frame = self.taps.new_zeros(*self.taps.shape[:2], *size)
        places = zip(first, self.spans, strict=True)
        frame[(..., *(slice(a - start, b - start + 1) for start, (a, b) in places))] = self.taps
        return frame


def read_kernel(layer: nn.Module, slot: str, in_channels: int, scale: Sequence[int]) -> Kernel:
    """The kernel of a layer; whether it is one at the border too is for the caller to verify.

    Args:
        layer: Keeps the grid, or divides or multiplies it by `scale`.
        slot: `conv`, `downsample` or `upsample`.
        in_channels: Channels of its input.
        scale: Factor per axis.

    Raises:
        ValueError: it is known not to be linear or to end in other than zeros, it is no
            downsampling with taps, or it reaches too far.
    """
    blur = False
    if slot == "upsample":
        layer, blur = _without_blur(layer)
    for part in layer.modules():
        for kinds, reason in _REASONS:
            if isinstance(part, kinds):
                raise ValueError(f"{type(part).__name__}: {reason}; keep it")
    layer, dims = copy.deepcopy(layer).double().cpu().eval(), len(scale)
    if slot == "downsample":
        return _downsampling(layer, in_channels, tuple(scale))
    with torch.no_grad():
        response = layer(torch.zeros(1, in_channels, *[4] * dims, dtype=torch.float64))[0]
    bias = response[(slice(None), *(slice(2 * step, 3 * step) for step in scale))].clone()
    taps, first = impulse_response(layer, in_channels, scale)
    if slot == "conv":  # a response is the kernel from its other end
        first = tuple(1 - n - a for n, a in zip(taps.shape[2:], first, strict=True))
        taps = taps.transpose(0, 1).flip(list(range(2, taps.ndim)))
    return Kernel(taps=taps, first=first, bias=bias, scale=tuple(scale), blur=blur)


def dense_taps(weight: Tensor, groups: int, dilation: Sequence[int]) -> Tensor:
    """The kernel of one group with taps side by side that does what one of groups and gaps does.

    Args:
        weight: `(rows, columns / groups, *taps)`, as of any of torch's convolutions.
        groups: Of channels.
        dilation: Distance of taps per axis.

    Returns:
        `(rows, columns, *(dilation · (taps - 1) + 1))`, zeros between groups and taps.

    >>> dense_taps(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), 2, (2,)).tolist()
    [[[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]]
    """
    rows = weight.unflatten(0, (groups, -1))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    dense = weight.new_zeros(groups, rows.shape[1], groups, weight.shape[1], *spans)
    apart = tuple(slice(None, None, rate) for rate in dilation)
    for group, own in enumerate(rows):
        dense[(group, slice(None), group, slice(None), *apart)] = own
    return dense.flatten(2, 3).flatten(0, 1)


@torch.no_grad()
def impulse_response(
    layer: nn.Module, channels: int, scale: Sequence[int]
) -> tuple[Tensor, tuple[int, ...]]:
    """The response of a layer to impulses far from the border, less that to zeros.

    Args:
        layer: `(N, channels, *S) → (N, others, *(S · scale))`, linear but for a bias, and the same
            in every cell; in float64, if it has weights.
        channels: Of its input.
        scale: Factor per axis by which it refines the grid.

    Returns:
        `(channels, others, *taps)` without the zeros around them, and the voxels from the first of
        the impulse's cell to the first tap, per axis.

    Raises:
        ValueError: it reaches too far.
    """
    start, *others = _in_turn(layer)
    if isinstance(start, Sum) and not others:
        return _added([impulse_response(branch, channels, scale) for branch in start.branches])
    taps, first, step = _weights_of(start, channels, len(scale))
    if taps is None:
        others, eye = [start, *others], torch.eye(channels, dtype=torch.float64)
        taps = eye.reshape(channels, channels, *[1] * len(scale))
    rest = nn.Sequential(*others)
    refined = [whole // own for whole, own in zip(scale, step, strict=True)]
    apart = max((max(m.dilation) for m in rest.modules() if isinstance(m, _Conv)), default=1)
    within_cells = all(isinstance(layer, _WithinCells) for layer in others)
    margin = [0 if within_cells else apart] * len(scale)
    while True:
        images = functional.pad(taps, [m for m in reversed(margin) for _ in (0, 1)])
        response = rest(images) - rest(torch.zeros_like(images[:1]))
        own = _support(response)
        grid = zip(own, margin, refined, response.shape[2:], strict=True)
        close = [m > 0 and not f <= s.start < s.stop <= n - f for s, m, f, n in grid]
        if not any(close):
            break
        margin = [2 * m if near else m for m, near in zip(margin, close, strict=True)]
        if max(margin) > _MOST_CELLS * apart:
            raise ValueError(f"it reaches beyond {max(margin) // 2} cells; keep it")
    start_of = zip(own, first, margin, refined, strict=True)
    return response[(..., *own)], tuple(s.start + (a - m) * f for s, a, m, f in start_of)


def _support(taps: Tensor) -> tuple[slice, ...]:
    """Where any is not 0, along each axis; the middle if all are."""
    found, anywhere = [], (taps != 0).flatten(0, 1).any(0)
    for axis in range(anywhere.ndim):
        along = anywhere.movedim(axis, 0).reshape(anywhere.shape[axis], -1).any(1)
        places = along.nonzero().flatten().tolist() or [len(along) // 2]
        found.append(slice(places[0], places[-1] + 1))
    return tuple(found)


def _weights_of(
    layer: nn.Module, channels: int, dims: int
) -> tuple[Tensor | None, tuple[int, ...], tuple[int, ...]]:
    """Response of a convolution to impulses, its first tap and its stride; None of other layers."""
    unknown = None, (0,) * dims, (1,) * dims
    if not isinstance(layer, _Conv | _Transposed) or isinstance(layer.padding, str):
        return unknown
    if isinstance(layer, _Conv) and max(layer.stride) > 1:
        return unknown
    taps = dense_taps(layer.weight, layer.groups, layer.dilation)
    padding = tuple(int(p) for p in layer.padding)
    if isinstance(layer, _Transposed):
        return taps, tuple(-p for p in padding), tuple(layer.stride)
    first = tuple(p + 1 - n for p, n in zip(padding, taps.shape[2:], strict=True))
    return taps.transpose(0, 1).flip(list(range(2, taps.ndim))), first, (1,) * dims


def _in_turn(layer: nn.Module) -> list[nn.Module]:
    """What it calls one after the other."""
    if isinstance(layer, Upsampling):
        return _in_turn(layer.layers)
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
        return [inner for part in layer for inner in _in_turn(part)]
    return [layer]


def _added(responses: Sequence[tuple[Tensor, tuple[int, ...]]]) -> tuple[Tensor, tuple[int, ...]]:
    none, scale = torch.zeros(0), ()
    kernels = [Kernel(taps=t, first=a, bias=none, scale=scale) for t, a in responses]
    ends = list(zip(*(kernel.spans for kernel in kernels), strict=True))
    first = tuple(min(a for a, _ in axis) for axis in ends)
    size = [max(b for _, b in axis) - a + 1 for axis, a in zip(ends, first, strict=True)]
    return torch.stack([kernel.framed(first, size) for kernel in kernels]).sum(0), first


def _downsampling(layer: nn.Module, in_channels: int, scale: tuple[int, ...]) -> Kernel:
    parts, none = _in_turn(layer), (0,) * len(scale)
    match parts:
        case [CellMean()]:
            mean = torch.full((in_channels, 1, *scale), 1 / math.prod(scale), dtype=torch.float64)
            taps, first = dense_taps(mean, in_channels, (1,) * len(scale)), none
        case [SpaceToDepth(), nn.Conv1d() | nn.Conv2d() | nn.Conv3d() as project]:
            taps, first = project.weight.detach().reshape(-1, in_channels, *scale), none
        case [nn.Conv1d() | nn.Conv2d() | nn.Conv3d() as conv]:
            taps = dense_taps(conv.weight.detach(), conv.groups, conv.dilation)
            first = tuple(-int(p) for p in conv.padding)
        case _:
            raise ValueError(f"{type(layer).__name__}: not known as a convolution; keep it")
    bias = taps.new_zeros(len(taps), *[1] * len(scale))
    own = _support(taps)
    first = tuple(a + s.start for a, s in zip(first, own, strict=True))
    return Kernel(taps=taps[(..., *own)], first=first, bias=bias, scale=scale)


def _without_blur(layer: nn.Module) -> tuple[nn.Module, bool]:
    """An upsampling without the mean over its scale that perhaps ends it."""
    *parts, last = _in_turn(layer)
    return (nn.Sequential(*parts), True) if isinstance(last, BoxBlur) else (layer, False)
