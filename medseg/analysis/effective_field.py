"""The effective receptive field: how much each voxel of the image counts for an output voxel."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medseg.analysis.trace import evaluating

_NOTICEABLE = 0.0455  # of the largest gradient: two standard deviations of a Gaussian
_IMAGES = 8


class EffectiveField(NamedTuple):
    """How much each image voxel counts for the middle output voxel, averaged over images.

    Args:
        gradient: Mean absolute gradient by each image voxel, `(*S)`.
        deviation: Standard deviation of the gradient's mass along each axis, in voxels.
        extent: Edge of the cube whose voxels count at least 4.55 % of the most important one,
            in voxels.
    """

    gradient: Tensor
    deviation: tuple[float, ...]
    extent: float


def effective_field(
    network: nn.Module, in_channels: int, size: Sequence[int], *, seed: int = 0
) -> EffectiveField:
    """The gradient of the middle logits by images of unit noise, at the network's own weights.

    Args:
        network: Image → logits; left as it was.
        in_channels: Channels of the image.
        size: A valid input size, larger than the theoretical field.
        seed: Of the images.

    Reference: Luo, Li, Urtasun & Zemel 2016, "Understanding the Effective Receptive Field in Deep
    Convolutional Neural Networks", section 3 (4.55 %: section 4.1).
    """
    generator = torch.Generator().manual_seed(seed)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    total = torch.zeros(tuple(size), dtype=torch.float64)
    with evaluating(network):
        for _ in range(_IMAGES):
            image = torch.randn((1, in_channels, *size), generator=generator).to(device)
            image.requires_grad_()
            logits = network(image)
            middle = tuple(n // 2 for n in logits.shape[2:])
            weights = torch.randn(logits.shape[1], generator=generator).to(device)
            chosen = (logits[(0, slice(None), *middle)] * weights).sum()
            (gradient,) = torch.autograd.grad(chosen, image)
            total += gradient[0].abs().sum(0).double().cpu()
    return _summary(total / _IMAGES)


def _summary(gradient: Tensor) -> EffectiveField:
    noticeable = int((gradient > _NOTICEABLE * gradient.max()).sum())
    deviations = []
    for axis in range(gradient.ndim):
        others = [a for a in range(gradient.ndim) if a != axis]
        mass = gradient.sum(dim=others) if others else gradient
        mass = mass / mass.sum()
        place = torch.arange(len(mass), dtype=mass.dtype)
        mean = (mass * place).sum()
        deviations.append(float((mass * (place - mean).square()).sum().sqrt()))
    return EffectiveField(
        gradient=gradient, deviation=tuple(deviations), extent=noticeable ** (1 / gradient.ndim)
    )
