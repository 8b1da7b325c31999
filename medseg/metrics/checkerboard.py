"""Artifacts that are locked to the stride of an upsampling.

An upsampling with stride s treats the `P = Π sᵢ` phases of its output grid by different taps.
If their DC gains differ, a constant comes out as a pattern: the checkerboard.
"""

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.layers.upsampling import Upsampling
from medseg.metrics.torus import Transposed, fixed_statistics, reach, torus
from medseg.record import UpsamplingGain

_Upsampling = Transposed | nn.Upsample | Upsampling
_INPUTS_AT_ONCE = 32


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
    """DC gain of each output phase of an upsampling layer.

    Of a transposed convolution from its weights; of an interpolation, or of several layers that
    `medseg.layers.upsampling.Upsampling` holds together, from what they make of constants.

    Raises:
        TypeError: any other layer.
    """
    if isinstance(layer, Transposed):
        return _transposed_gains(layer)
    if isinstance(layer, nn.Upsample):
        return _interpolation_gains(layer)
    if isinstance(layer, Upsampling):
        return _gains_of_constants(layer)
    raise TypeError(f"{type(layer).__name__} is no upsampling that is linear and stride-periodic")


def upsampling_gains(network: nn.Module) -> list[UpsamplingGain]:
    """DC-gain imbalance of every upsampling layer of a network, in its own order."""
    return [
        UpsamplingGain(
            layer=name, operator=str(layer), imbalance=dc_gain_imbalance(phase_gains(layer))
        )
        for name, layer in _upsamplings(network)
    ]


def lattice_period(network: nn.Module) -> tuple[int, ...]:
    """Product of the strides of all upsampling layers, per axis; empty if there is none.

    That is the period of a network whose upsamplings follow one another.
    """
    strides = [_strides(layer) for _, layer in _upsamplings(network)]
    return tuple(math.prod(steps) for steps in zip(*strides, strict=True))


@torch.no_grad()
def constant_response(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    period: Sequence[int] | None = None,
) -> float | None:
    """What a network prints on a constant: `std_φ(mean of phase φ) / std(logits on data)`.

    The constant is each channel's mean over `reference`. The grid is closed to a torus, so that
    there is no border, and instance and group norms keep the statistics they have on `reference`,
    since a constant has no variance of its own. 0 for every network whose upsamplings have
    imbalance 0.

    Args:
        network: Image → logits; left as it was.
        reference: A patch of a real case, in the network's intensities.
        period: Voxels per axis after which a pattern repeats; None: `lattice_period`.

    Returns:
        The largest value over the logits' channels, as a fraction of the logits' spread; None
        for a network without upsampling or with logits that do not vary.
    """
    period = lattice_period(network) if period is None else tuple(period)
    if math.prod(period) == 1:
        return None
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with fixed_statistics(network, reference) as logits, torus(network):
            # the coarsest grid is as long as the longest way around that a layer takes
            cells = max([4, *(reach(m) for m in network.modules())])
            size = [p * math.ceil(cells * max(period) / p) for p in period]
            constant = reference.mean(dim=tuple(range(2, reference.ndim)), keepdim=True)
            response = network(constant.expand(-1, -1, *size).contiguous())
    finally:
        for module, mode in modes.items():
            module.training = mode
    phases = _fold(response.double(), period)[:, 0]
    spread = logits.double().std()
    return float(phases.std(dim=0, correction=0).max() / spread) if spread > 0 else None


def _transposed_gains(layer: Transposed) -> Tensor:
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
    return _fold(response, steps)


@torch.no_grad()
def _gains_of_constants(layer: Upsampling) -> Tensor:
    cells = max(1, *(reach(m) for m in layer.modules()))
    probe = copy.deepcopy(layer).double().cpu().eval()
    grid = [cells] * len(layer.scale)
    constants = torch.eye(layer.in_channels, dtype=torch.float64)
    with torus(probe):
        bias = probe(torch.zeros(1, layer.in_channels, *grid, dtype=torch.float64))
        responses = [
            probe(some.reshape(*some.shape, *[1] * len(grid)).expand(-1, -1, *grid)) - bias
            for some in constants.split(_INPUTS_AT_ONCE)
        ]
    return torch.cat([_fold(response, layer.scale) for response in responses], dim=1)


def _upsamplings(network: nn.Module) -> Iterator[tuple[str, _Upsampling]]:
    """The upsampling layers in their own order; what a composite one is made of is not another."""
    inside: set[nn.Module] = set()
    for name, module in network.named_modules():
        if isinstance(module, _Upsampling) and module not in inside:
            inside.update(module.modules())
            yield name, module


def _strides(layer: _Upsampling) -> tuple[int, ...]:
    if isinstance(layer, Upsampling):
        return layer.scale
    if not isinstance(layer, nn.Upsample):
        return layer.stride
    scale = layer.scale_factor
    if isinstance(scale, tuple):
        return tuple(int(s) for s in scale)
    return (int(scale or 1),) * {"linear": 1, "bilinear": 2, "trilinear": 3}[layer.mode]


def _fold(signal: Tensor, period: Sequence[int]) -> Tensor:
    """Mean of each phase: `(N, channels, *S)` → `(phases, N, channels)`."""
    for axis, step in enumerate(period, start=2):
        # axis of length n·s → (n, s), the n are averaged away
        signal = signal.unflatten(axis, (-1, step)).mean(dim=axis)
    return signal.flatten(2).movedim(-1, 0)
