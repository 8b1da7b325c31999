"""Taps of composite layers, composed exactly from those of their parts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from monai.networks.blocks.upsample import SubpixelUpsample
from torch import Tensor, nn
from torch.nn import functional

from medseg.checkerboard.phases import require_finite
from medseg.checkerboard.torus import Transposed
from medseg.conversion.kernels import dilated_as_dense, grouped_as_dense
from medseg.layers.parallel import Sum
from medseg.layers.resampling import BoxBlur, DepthToSpace, Nails, Upsampling, depth_to_space

Composite = Upsampling | SubpixelUpsample
_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_AveragePool = nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
_ConstantPad = nn.ConstantPad1d | nn.ConstantPad2d | nn.ConstantPad3d


def kernel_of_weight(weight: Tensor, groups: int, dilation: Sequence[int]) -> Tensor:
    """`(inputs, outputs / groups, *kernel)` → `(inputs, outputs, *taps)`, in double precision.

    Raises:
        ValueError: a weight that is not finite.

    >>> import torch
    >>> kernel_of_weight(torch.tensor([[[1.0]], [[2.0]]]), groups=2, dilation=(1,)).tolist()
    [[[1.0], [0.0]], [[0.0], [2.0]]]
    """
    weight = weight.detach().cpu().double()
    require_finite(weight, "weights")
    return grouped_as_dense(dilated_as_dense(weight, dilation), groups)


@dataclass(frozen=True)
class _Response:
    """Response to an impulse at voxel 0."""

    kernel: Tensor  # (inputs, outputs, *taps)
    origin: tuple[int, ...]  # voxel of the first tap


def scale_of(layer: Composite) -> tuple[int, ...]:
    """Factor per axis.

    >>> scale_of(SubpixelUpsample(spatial_dims=2, in_channels=1, scale_factor=3))
    (3, 3)
    """
    if isinstance(layer, SubpixelUpsample):
        return (layer.scale_factor,) * layer.dimensions
    return layer.scale


def composed_kernel_of(layer: Composite) -> Tensor | None:
    """`(inputs, outputs, *taps)` with the first tap of phase 0; None if it has other layers.

    Known are a convolution with stride 1 and then a shuffle or nails, transposed convolutions,
    sums of these, and means over boxes behind them.

    Raises:
        ValueError: a weight that is not finite.

    >>> conv = nn.Conv1d(1, 2, kernel_size=1)
    >>> _ = nn.init.ones_(conv.weight)
    >>> shuffle = nn.Sequential(conv, DepthToSpace((2,)), BoxBlur((2,)))
    >>> composed_kernel_of(Upsampling(shuffle, 1, (2,))).tolist()
    [[[0.5, 1.0, 0.5]]]
    """
    response = _through_all(_parts(layer), None)
    if response is None:
        return None
    before = [at % step for at, step in zip(response.origin, scale_of(layer), strict=True)]
    return _padded(response.kernel, before, [0] * len(before))


def _parts(layer: Composite) -> list[nn.Module]:
    if isinstance(layer, Upsampling):
        return [layer.layers]
    before, after = (layer.get_submodule(name) for name in ("conv_block", "pad_pool"))
    return [before, DepthToSpace(scale_of(layer)), after]


def _through_all(layers: Sequence[nn.Module], response: _Response | None) -> _Response | None:
    """None if a layer is not known, or has no kernel before it that it could act on."""
    for layer in layers:
        response = _started(layer) if response is None else _through(layer, response)
        if response is None:
            return None
    return response


def _started(layer: nn.Module) -> _Response | None:
    if _is_in_turn(layer):
        return _through_all(list(layer.children()), None)
    if isinstance(layer, Sum):
        return _sum([_started(branch) for branch in layer.branches])
    if isinstance(layer, Transposed):
        kernel = kernel_of_weight(layer.weight, layer.groups, layer.dilation)
        return _Response(kernel, tuple(-int(pad) for pad in layer.padding))
    if isinstance(layer, _Conv):
        return _of_conv(layer)
    return None


def _of_conv(layer: _Conv) -> _Response | None:
    padding = layer.padding
    if not isinstance(padding, str) and max(layer.stride) == 1:
        kernel = kernel_of_weight(layer.weight, layer.groups, layer.dilation).transpose(0, 1)
        taps = kernel.shape[2:]
        origin = tuple(int(pad) - n + 1 for pad, n in zip(padding, taps, strict=True))
        return _Response(kernel.flip(list(range(2, kernel.ndim))), origin)
    return None


def _through(layer: nn.Module, response: _Response) -> _Response | None:
    """The response of a layer to a response, which it treats like any image."""
    if isinstance(layer, nn.Identity):
        return response
    if size := _box(layer, response):
        return _blurred(response, size)
    if _is_in_turn(layer):
        return _through_all(list(layer.children()), response)
    if isinstance(layer, DepthToSpace | Nails):
        return _refined(layer(response.kernel), response, layer.scale)
    if isinstance(layer, nn.PixelShuffle):
        scale = (layer.upscale_factor,) * 2
        return _refined(depth_to_space(response.kernel, scale), response, scale)
    return None


def _is_in_turn(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward


def _refined(kernel: Tensor, response: _Response, scale: Sequence[int]) -> _Response:
    return _Response(
        kernel, tuple(at * step for at, step in zip(response.origin, scale, strict=True))
    )


def _box(layer: nn.Module, response: _Response) -> tuple[int, ...]:
    """Voxels per axis of a mean over the voxel and those before it; empty for another layer."""
    if isinstance(layer, BoxBlur):
        return layer.size
    if not isinstance(layer, nn.Sequential) or len(layer) != 2:
        return ()
    pad, pool = layer
    if not isinstance(pad, _ConstantPad) or not isinstance(pool, _AveragePool):
        return ()
    size = _per_axis(pool.kernel_size, response)
    before = [side for step in reversed(size) for side in (step - 1, 0)]
    strides, padding = (_per_axis(option, response) for option in (pool.stride, pool.padding))
    keeps_grid = max(strides) == 1 and not any(padding) and pad.value == 0
    return size if keeps_grid and list(pad.padding) == before else ()


def _blurred(response: _Response, size: Sequence[int]) -> _Response:
    kernel = response.kernel
    for axis, taps in enumerate(size, start=2):
        wide = list(kernel.shape)
        wide[axis] += taps - 1
        out = kernel.new_zeros(wide)
        for start in range(taps):
            out.narrow(axis, start, kernel.shape[axis]).add_(kernel)
        kernel = out
    return _Response(kernel / math.prod(size), response.origin)


def _sum(responses: Sequence[_Response | None]) -> _Response | None:
    known = [response for response in responses if response is not None]
    if not known or len(known) < len(responses):
        return None
    origin = [min(along) for along in zip(*(a.origin for a in known), strict=True)]
    ends = [[at + n for at, n in zip(a.origin, a.kernel.shape[2:], strict=True)] for a in known]
    last = [max(along) for along in zip(*ends, strict=True)]
    aligned = [
        _padded(
            a.kernel,
            [at - first for at, first in zip(a.origin, origin, strict=True)],
            [far - near for far, near in zip(last, end, strict=True)],
        )
        for a, end in zip(known, ends, strict=True)
    ]
    return _Response(sum(aligned[1:], start=aligned[0]), tuple(origin))


def _padded(kernel: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    # torch lists the sides of the last axis first
    sides = [s for pair in zip(reversed(before), reversed(after), strict=True) for s in pair]
    return functional.pad(kernel, sides) if any(sides) else kernel


def _per_axis(size: int | Sequence[int], response: _Response) -> tuple[int, ...]:
    return (size,) * len(response.origin) if isinstance(size, int) else tuple(size)
