"""A network made fit for a constant: no borders, and statistics taken from a real case."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.padding import _ConstantPadNd, _ReflectionPadNd, _ReplicationPadNd

from medseg.layers.deformable import DeformableConv
from medseg.layers.fast_conv import SharedSmoothing
from medseg.layers.resampling import BoxBlur

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Padded = _Conv | BoxBlur | SharedSmoothing | DeformableConv
_Open = Transposed | nn.Upsample
_MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
_Pool = _MaxPool | nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
_Border = _ConstantPadNd | _ReflectionPadNd | _ReplicationPadNd
_CaseNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d | nn.GroupNorm
_NEIGHBOURS = {"linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards every part in the mode it had."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def fixed_statistics(network: nn.Module, reference: Tensor) -> Iterator[Tensor]:
    """Freezes norms of a case to their statistics on `reference`; yields the logits there."""
    norms = [m for m in network.modules() if isinstance(m, _CaseNorm)]
    statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        channels = inputs[0].shape[1]
        groups = module.num_groups if isinstance(module, nn.GroupNorm) else channels
        values = inputs[0].to(torch.promote_types(inputs[0].dtype, torch.float32))
        variance, mean = torch.var_mean(values.reshape(groups, -1), dim=1, correction=0)
        each = channels // groups
        statistics[module] = mean.repeat_interleave(each), variance.repeat_interleave(each)

    hooks = [norm.register_forward_pre_hook(keep) for norm in norms]
    try:
        logits = network(reference)
    finally:
        for hook in hooks:
            hook.remove()

    def frozen(norm: _CaseNorm, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        mean, variance = statistics[norm]
        scale, bias = (None if p is None else p.to(mean.dtype) for p in (norm.weight, norm.bias))
        return functional.batch_norm(inputs[0], mean, variance, scale, bias, eps=norm.eps)

    hooks = [norm.register_forward_hook(frozen) for norm in norms]
    try:
        yield logits
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def torus(network: nn.Module) -> Iterator[None]:
    """Closes the grid: what a layer would take from beyond a border comes from the other side.

    A network of these layers then commutes with circular shifts by its total stride. Left as they
    are: interpolation that puts corners on each other or to a given size, pooling that returns
    places, and functions that no module stands for.
    """
    with ExitStack() as undo:
        for module in network.modules():
            if isinstance(module, _Padded):
                undo.callback(setattr, module, "padding_mode", module.padding_mode)
                module.padding_mode = "circular"
            elif isinstance(module, Transposed) or _interpolates(module):
                undo.callback(module.register_forward_pre_hook(_extended).remove)
                undo.callback(module.register_forward_hook(_cropped).remove)
            elif isinstance(module, _Pool) and not getattr(module, "return_indices", False):
                undo.callback(module.register_forward_pre_hook(_padded(module.padding)).remove)
                undo.callback(setattr, module, "padding", module.padding)
                module.padding = 0
            elif isinstance(module, _Border):
                undo.callback(module.register_forward_hook(_repadded).remove)
        yield


def has_stride(layer: nn.Module) -> bool:
    """Whether the scale is a whole number, without which no pattern repeats with it.

    >>> has_stride(nn.Upsample(scale_factor=2)), has_stride(nn.Upsample(scale_factor=1.5))
    (True, False)
    """
    if not isinstance(layer, nn.Upsample):
        return True
    scale = layer.scale_factor
    factors = scale if isinstance(scale, tuple) else (scale,)
    return all(factor is not None and factor >= 1 and factor % 1 == 0 for factor in factors)


def _interpolates(module: nn.Module) -> TypeGuard[nn.Upsample]:
    """Whether it mixes neighbours in a way that repeats with a stride."""
    mixes = isinstance(module, nn.Upsample) and module.mode in _NEIGHBOURS
    return mixes and has_stride(module) and not module.align_corners


def _extended(layer: _Open, inputs: tuple[Tensor, ...]) -> Tensor:
    return _around(inputs[0], _margin(layer, inputs[0].ndim - 2))


def _cropped(layer: _Open, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    dims = out.ndim - 2
    sizes = zip(_margin(layer, dims), _stride(layer, dims), inputs[0].shape[2:], strict=True)
    for axis, (m, s, extended) in enumerate(sizes, start=2):
        out = out.narrow(axis, m * s, (extended - 2 * m) * s)
    return out


def _padded(padding: int | tuple[int, ...]) -> Callable[..., Tensor]:
    def before(_pool: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        dims = inputs[0].ndim - 2
        return _around(inputs[0], padding if isinstance(padding, tuple) else (padding,) * dims)

    return before


def _repadded(layer: _Border, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
    return functional.pad(inputs[0], layer.padding, mode="circular")


def _around(x: Tensor, margin: Sequence[int]) -> Tensor:
    if not any(margin):
        return x
    return functional.pad(x, [m for m in reversed(margin) for _ in range(2)], mode="circular")


def _margin(layer: _Open, dims: int) -> list[int]:
    """Input voxels that an upsampling needs from beyond each border."""
    if not isinstance(layer, Transposed):
        return [_NEIGHBOURS[layer.mode]] * dims
    sizes = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    return [-(-k * d // s) for k, d, s in sizes]


def _stride(layer: _Open, dims: int) -> list[int]:
    scale = layer.stride if isinstance(layer, Transposed) else layer.scale_factor
    return [int(s) for s in (scale if isinstance(scale, tuple) else [scale or 1] * dims)]


def reach(module: nn.Module) -> int:
    """Voxels that a layer fetches from the other side of the torus."""
    if isinstance(module, Transposed) or _interpolates(module):
        return max(_margin(module, 1))
    if isinstance(module, SharedSmoothing):
        return max(module.padding)
    if isinstance(module, BoxBlur):
        return max(module.size)
    if isinstance(module, DeformableConv):
        return max(module.weight.shape[2:])
    if isinstance(module, _Conv):
        return max(d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True))
    if isinstance(module, _Pool | _Border):
        sides = module.padding
        return max(sides) if isinstance(sides, Sequence) else int(sides)
    return 0
