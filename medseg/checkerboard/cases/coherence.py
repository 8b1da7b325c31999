"""Whether the cases agree on one pattern: the weights print alike, texture does not."""

import torch
from jaxtyping import Float
from torch import Tensor


def coherence(patterns: Float[Tensor, " cases *period"]) -> float | None:
    """`C = ‖Σᵢ pᵢ‖² / (n Σᵢ ‖pᵢ‖²)` in [0, 1], each pattern less its own mean.

    1 iff all patterns are the same; `1/n` on average for patterns of independent random phase.
    Unchanged by one scale, one shift of phases and by a constant on any of the patterns.

    Args:
        patterns: Phase pattern of each case: of a residual, or `alpha` or `beta` of its gains.

    Returns:
        The coherence; None if no pattern varies.

    Raises:
        ValueError: fewer than two cases, or values that are not finite.

    >>> coherence(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
    1.0
    >>> coherence(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    0.0
    """
    if len(patterns) < 2:
        raise ValueError(f"{len(patterns)} case: agreement needs at least two; add cases")
    if not bool(torch.isfinite(patterns).all()):
        raise ValueError("a pattern is not finite: agreement needs numbers; leave its case out")
    flat = patterns.double().flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    energy = centred.square().sum()
    if energy <= 1e-24 * flat.square().sum():
        return None
    return float(centred.sum(dim=0).square().sum() / (len(patterns) * energy))
