"""What the probes of a network share."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from medseg.checkerboard.weights.gains import lattice_period


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


def period_of(
    network: nn.Module, image: Tensor, period: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Voxels per axis after which a pattern repeats; None if there is one phase only."""
    if image.ndim < 3 or len(image) != 1:
        raise ValueError(
            f"image of shape {tuple(image.shape)} must be (1, channels, *space); "
            "give one case at a time"
        )
    dims = image.ndim - 2
    steps = lattice_period(network, dims) if period is None else tuple(int(p) for p in period)
    if math.prod(steps) == 1:
        return None
    if len(steps) != dims or min(steps) < 1:
        raise ValueError(
            f"period={steps} must be one whole number for each of the {dims} axes; "
            "give 1 for an axis without a pattern"
        )
    return steps


def whole_periods(image: Tensor, period: Sequence[int]) -> Tensor:
    """The image without the rest of a period at the far end of each axis."""
    if any(n < p for n, p in zip(image.shape[2:], period, strict=True)):
        raise ValueError(
            f"image of {tuple(image.shape[2:])} voxels is smaller than one period "
            f"{tuple(period)}, so that it lacks phases; take a larger one"
        )
    for axis, step in enumerate(period, start=2):
        image = image.narrow(axis, 0, image.shape[axis] // step * step)
    return image


def cell_means(signal: Tensor, period: Sequence[int]) -> Tensor:
    """Mean of each cell of one period: `(*lead, *(S · period))` → `(*lead, *S)`."""
    for axis, step in enumerate(period, start=signal.ndim - len(period)):
        signal = signal.unflatten(axis, (-1, step)).mean(dim=axis + 1)
    return signal


def by_phase(values: Tensor, period: Sequence[int]) -> Tensor:
    """`(phases, *lead)` → `(*lead, *period)`."""
    return values.movedim(0, -1).unflatten(-1, tuple(period))


def require_logits(logits: Tensor, image: Tensor) -> None:
    """Refuses logits on another grid than the image, which shifts would not be undone on."""
    if logits.shape[2:] != image.shape[2:]:
        raise ValueError(
            f"logits of {tuple(logits.shape[2:])} voxels must lie on the image's grid of "
            f"{tuple(image.shape[2:])}; measure a network that keeps the grid"
        )
