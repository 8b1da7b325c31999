"""Weights of layers laid out as taps on the grid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.checkerboard.phases import require_finite


def kernel_of_weight(weight: Tensor, groups: int, dilation: Sequence[int]) -> Tensor:
    """`(inputs, outputs / groups, *kernel)` → `(inputs, outputs, *taps)`.

    Raises:
        ValueError: a weight that is not finite.

    >>> kernel_of_weight(torch.tensor([[[1.0]], [[2.0]]]), groups=2, dilation=(1,)).tolist()
    [[[1.0], [0.0]], [[0.0], [2.0]]]
    """
    weight = weight.detach().cpu().double()
    require_finite(weight, "weights")
    spread = spread_taps(weight, dilation)
    if groups == 1:
        return spread
    blocks = spread.unflatten(0, (groups, -1))
    inputs, outputs = blocks.shape[1:3]
    kernel = blocks.new_zeros(groups, inputs, groups, outputs, *blocks.shape[3:])
    group = torch.arange(groups)
    kernel[group, :, group] = blocks
    return kernel.flatten(2, 3).flatten(0, 1)


def spread_taps(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """Taps on the grid, with the zeros that dilation leaves between them.

    >>> spread_taps(torch.tensor([1.0, 2.0]), (3,)).tolist()
    [1.0, 0.0, 0.0, 2.0]
    """
    if all(rate == 1 for rate in dilation):
        return weight
    lead = weight.ndim - len(dilation)
    taps = zip(weight.shape[lead:], dilation, strict=True)
    spread = weight.new_zeros(*weight.shape[:lead], *((k - 1) * d + 1 for k, d in taps))
    spread[(..., *(slice(None, None, rate) for rate in dilation))] = weight
    return spread
