"""What a whole network prints on a constant."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.metrics.checkerboard.phases import phase_means
from medseg.metrics.checkerboard.weights.gains import lattice_period
from medseg.metrics.torus import fixed_statistics, reach, torus


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
    dims = reference.ndim - 2
    period = lattice_period(network, dims) if period is None else tuple(period)
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
    phases = phase_means(response.double(), period)[:, 0]
    spread = logits.double().std()
    return float(phases.std(dim=0, correction=0).max() / spread) if spread > 0 else None
