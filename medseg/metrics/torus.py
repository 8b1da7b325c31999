"""A network made fit for a constant: no borders, and statistics taken from a real case."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.layers.deformable import DeformableConv
from medseg.layers.pooling import BoxBlur
from medseg.layers.smoothing import SharedSmoothing

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Padded = _Conv | BoxBlur | SharedSmoothing | DeformableConv
_CaseNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d | nn.GroupNorm


@contextmanager
def fixed_statistics(network: nn.Module, reference: Tensor) -> Iterator[Tensor]:
    """Freezes norms of a case to their statistics on `reference`; yields the logits there."""
    norms = [m for m in network.modules() if isinstance(m, _CaseNorm)]
    statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        channels = inputs[0].shape[1]
        groups = module.num_groups if isinstance(module, nn.GroupNorm) else channels
        variance, mean = torch.var_mean(inputs[0].reshape(groups, -1), dim=1, correction=0)
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
        return functional.batch_norm(
            inputs[0], mean, variance, norm.weight, norm.bias, training=False, eps=norm.eps
        )

    hooks = [norm.register_forward_hook(frozen) for norm in norms]
    try:
        yield logits
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def torus(network: nn.Module) -> Iterator[None]:
    """Closes the grid: convolutions pad circularly, transposed ones wrap around."""
    with ExitStack() as undo:
        for module in network.modules():
            if isinstance(module, _Padded):
                undo.callback(setattr, module, "padding_mode", module.padding_mode)
                module.padding_mode = "circular"
            elif isinstance(module, Transposed):
                undo.callback(module.register_forward_hook(_wrapped).remove)
        yield


def _wrapped(layer: Transposed, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
    margin = _margin(layer)
    x = functional.pad(inputs[0], [m for m in reversed(margin) for _ in range(2)], mode="circular")
    out = layer.forward(x)
    for axis, (m, s) in enumerate(zip(margin, layer.stride, strict=True), start=2):
        out = out.narrow(axis, m * s, inputs[0].shape[axis] * s)
    return out


def _margin(layer: Transposed) -> list[int]:
    """Input voxels that a transposed convolution needs from beyond each border."""
    sizes = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    return [-(-k * d // s) for k, d, s in sizes]


def reach(module: nn.Module) -> int:
    """Voxels that a layer fetches from the other side of the torus."""
    if isinstance(module, Transposed):
        return max(_margin(module))
    if isinstance(module, SharedSmoothing):
        return max(module.padding)
    if isinstance(module, BoxBlur):
        return max(module.size)
    if isinstance(module, DeformableConv):
        return max(module.weight.shape[2:])
    if isinstance(module, _Conv):
        return max(d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True))
    return 0
