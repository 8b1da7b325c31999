"""Artifacts that are locked to the stride of an upsampling.

An upsampling with stride s treats the `P = Π sᵢ` phases of its output grid by different taps.
If their DC gains differ, a constant comes out as a pattern: the checkerboard.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.record import UpsamplingGain

_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Upsampling = _Transposed | nn.Upsample
_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_CaseNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d | nn.GroupNorm


def dc_gain_imbalance(gains: Float[Tensor, " phases *channels"]) -> float:
    """`Σ_φ ‖G_φ − Ḡ‖² / Σ_φ ‖G_φ‖²`: the share of DC energy off the mean phase, in [0, 1].

    0 iff all phases have equal gain, that is iff a constant stays a constant. Independent of
    scale, bias and the order of phases. A learned kernel with independent zero-mean weights
    expects `1 − 1/P` at any size; all-ones taps 3 at stride 2 give 0.19 in 2-D, 0.271 in 3-D.

    Args:
        gains: DC gain of each phase, from every input to every output channel.

    Returns:
        The imbalance; 0 for a layer that passes no DC at all.

    Reference: Sugawara, Shiota & Kiya 2019, APSIPA Trans. SIP 8:e9 (the condition that it is 0).

    >>> dc_gain_imbalance(torch.tensor([1.0, 2.0]))
    0.1
    """
    gains = gains.double()
    total = gains.square().sum()
    spread = (gains - gains.mean(dim=0, keepdim=True)).square().sum()
    return round(float(spread / total), 12) if total > 0 else 0.0


def phase_gains(layer: nn.Module) -> Float[Tensor, " phases inputs outputs"]:
    """DC gain of each output phase of a transposed convolution or an interpolation.

    Raises:
        TypeError: any other layer.
    """
    if isinstance(layer, _Transposed):
        return _transposed_gains(layer)
    if isinstance(layer, nn.Upsample):
        return _interpolation_gains(layer)
    raise TypeError(f"{type(layer).__name__} is neither a transposed convolution nor nn.Upsample")


def upsampling_gains(network: nn.Module) -> list[UpsamplingGain]:
    """DC-gain imbalance of every upsampling layer of a network, in its own order."""
    return [
        UpsamplingGain(
            layer=name, operator=str(layer), imbalance=dc_gain_imbalance(phase_gains(layer))
        )
        for name, layer in network.named_modules()
        if isinstance(layer, _Upsampling)
    ]


def lattice_period(network: nn.Module) -> tuple[int, ...]:
    """Product of the strides of all upsampling layers, per axis; empty if there is none."""
    strides = [_strides(m) for m in network.modules() if isinstance(m, _Upsampling)]
    return tuple(math.prod(steps) for steps in zip(*strides, strict=True))


@torch.no_grad()
def constant_response(
    network: nn.Module, reference: Float[Tensor, "1 channels *space"]
) -> float | None:
    """What a network prints on a constant: `std_φ(mean of phase φ) / std(logits on data)`.

    The constant is each channel's mean over `reference`. The grid is closed to a torus, so that
    there is no border, and instance and group norms keep the statistics they have on `reference`,
    since a constant has no variance of its own. 0 for every network whose upsamplings have
    imbalance 0.

    Args:
        network: Image → logits; left as it was.
        reference: A patch of a real case, in the network's intensities.

    Returns:
        The largest value over the logits' channels, as a fraction of the logits' spread; None
        for a network without upsampling or with logits that do not vary.
    """
    period = lattice_period(network)
    if not period:
        return None
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with _fixed_statistics(network, reference) as logits, _torus(network):
            # the coarsest grid is as long as the longest way around that a layer takes
            cells = max([4, *(_reach(m) for m in network.modules())])
            size = [p * math.ceil(cells * max(period) / p) for p in period]
            constant = reference.mean(dim=tuple(range(2, reference.ndim)), keepdim=True)
            response = network(constant.expand(-1, -1, *size).contiguous())
    finally:
        for module, mode in modes.items():
            module.training = mode
    phases = _fold(response.double(), period)
    spread = logits.double().std()
    return float(phases.std(dim=0, correction=0).max() / spread) if spread > 0 else None


def _transposed_gains(layer: _Transposed) -> Tensor:
    weight = layer.weight.detach().double()  # (in, out / groups, *kernel)
    stride, dilation = layer.stride, layer.dilation
    phase = torch.zeros(weight.shape[2:], dtype=torch.long)
    for axis, (taps, step, rate) in enumerate(zip(weight.shape[2:], stride, dilation, strict=True)):
        along = (torch.arange(taps) * rate) % step
        shape = [-1 if a == axis else 1 for a in range(phase.ndim)]
        phase = phase * step + along.reshape(shape)
    taps_of_phase = functional.one_hot(phase.flatten(), math.prod(stride)).double()
    return torch.einsum("iot,tp->pio", weight.flatten(2).cpu(), taps_of_phase)


def _interpolation_gains(layer: nn.Upsample) -> Tensor:
    steps = _strides(layer)
    response = layer(torch.ones((1, 1, *[4] * len(steps)), dtype=torch.float64))
    return _fold(response, steps)[:, None]


def _strides(layer: _Upsampling) -> tuple[int, ...]:
    if not isinstance(layer, nn.Upsample):
        return layer.stride
    scale = layer.scale_factor
    if isinstance(scale, tuple):
        return tuple(int(s) for s in scale)
    return (int(scale or 1),) * {"linear": 1, "bilinear": 2, "trilinear": 3}[layer.mode]


def _fold(signal: Tensor, period: Sequence[int]) -> Tensor:
    """Mean of each phase: `(1, channels, *S)` → `(phases, channels)`."""
    for axis, step in enumerate(period, start=2):
        # axis of length n·s → (n, s), the n are averaged away
        split = signal.unflatten(axis, (-1, step))
        signal = split.mean(dim=axis)
    return signal[0].flatten(1).T


@contextmanager
def _fixed_statistics(network: nn.Module, reference: Tensor) -> Iterator[Tensor]:
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
def _torus(network: nn.Module) -> Iterator[None]:
    """Closes the grid: convolutions pad circularly, transposed ones wrap around."""
    with ExitStack() as undo:
        for module in network.modules():
            if isinstance(module, _Conv):
                undo.callback(setattr, module, "padding_mode", module.padding_mode)
                module.padding_mode = "circular"
            elif isinstance(module, _Transposed):
                undo.callback(module.register_forward_hook(_wrapped).remove)
        yield


def _wrapped(layer: _Transposed, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
    margin = _margin(layer)
    x = functional.pad(inputs[0], [m for m in reversed(margin) for _ in range(2)], mode="circular")
    out = layer.forward(x)
    for axis, (m, s) in enumerate(zip(margin, layer.stride, strict=True), start=2):
        out = out.narrow(axis, m * s, inputs[0].shape[axis] * s)
    return out


def _margin(layer: _Transposed) -> list[int]:
    """Input voxels that a transposed convolution needs from beyond each border."""
    sizes = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    return [-(-k * d // s) for k, d, s in sizes]


def _reach(module: nn.Module) -> int:
    """Voxels that a layer fetches from the other side of the torus."""
    if isinstance(module, _Transposed):
        return max(_margin(module))
    if isinstance(module, _Conv):
        return max(d * (k - 1) for k, d in zip(module.kernel_size, module.dilation, strict=True))
    return 0
