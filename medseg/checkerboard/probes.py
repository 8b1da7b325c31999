"""Probes of a whole network by a constant image."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.layers import upsampling_period
from medseg.checkerboard.phases import (
    phase_means,
)
from medseg.checkerboard.torus import evaluating, fixed_statistics, reach, torus


@torch.no_grad()
def constant_response(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    period: Sequence[int] | None = None,
) -> float | None:
    """Pattern in the response to a constant: `std_φ(mean of phase φ) / std(logits on reference)`.

    The constant is each channel's mean over `reference`. The grid is closed to a torus, so that
    there is no border, and instance and group norms keep the statistics they have on `reference`,
    since a constant has no variance of its own. 0 for every network whose upsamplings have
    imbalance 0.

    Args:
        network: Image → logits; left as it was.
        reference: A patch of a real case, in the network's intensities.
        period: Voxels per axis after which a pattern repeats; None: `upsampling_period`.

    Returns:
        The largest value over the logits' channels, as a fraction of the logits' spread; None
        for a network without upsampling or with logits that do not vary.

    >>> nails = nn.ConvTranspose1d(1, 1, 2, stride=2, bias=False)
    >>> _ = nails.weight.data.copy_(torch.tensor([[[1.0, 0.0]]]))
    >>> image = torch.tensor([[[1.0, 3.0]]])  # its mean becomes (2, 0), itself (1, 0, 3, 0)
    >>> round(constant_response(nails, image), 6)  # 1 / √2
    0.707107
    """
    period = _period(network, reference, period)
    found = _response(network, reference, period)
    if found is None:
        return None
    response, logits = found
    phases = phase_means(response, period)[:, 0]
    spread = logits.double().std()
    return float(phases.std(dim=0, correction=0).max() / spread) if spread > 0 else None


@torch.no_grad()
def response_to_constant(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    period: Sequence[int] | None = None,
) -> Float[Tensor, " classes *space"] | None:
    """The logits of a constant, of which `constant_response` is the periodic part, for a picture.

    Args:
        network: Image → logits; left as it was.
        reference: A patch of a real case, in the network's intensities.
        period: Voxels per axis after which a pattern repeats; None: `upsampling_period`.

    Returns:
        Logits on a torus of some periods, on the CPU; None for a network without upsampling.

    >>> nearest = nn.Upsample(scale_factor=2)
    >>> response_to_constant(nearest, torch.tensor([[[1.0, 3.0]]]), (2,)).unique().tolist()
    [2.0]
    """
    found = _response(network, reference, _period(network, reference, period))
    return None if found is None else found[0][0].cpu()


def _period(network: nn.Module, reference: Tensor, period: Sequence[int] | None) -> tuple[int, ...]:
    return upsampling_period(network, reference.ndim - 2) if period is None else tuple(period)


def _response(
    network: nn.Module, reference: Tensor, period: tuple[int, ...]
) -> tuple[Tensor, Tensor] | None:
    """Logits of the constant, and of the reference."""
    if math.prod(period) == 1:
        return None
    with evaluating(network), fixed_statistics(network, reference) as logits, torus(network):
        # the coarsest grid is as long as the longest way around that a layer takes
        cells = max([4, *(reach(m) for m in network.modules())])
        size = [p * math.ceil(cells * max(period) / p) for p in period]
        constant = reference.mean(dim=tuple(range(2, reference.ndim)), keepdim=True)
        return network(constant.expand(-1, -1, *size).contiguous()).double(), logits
