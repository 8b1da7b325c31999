"""Patterns that a network prints on the gradient of its input."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.network.probing import (
    by_phase,
    cell_means,
    evaluating,
    period_of,
    whole_periods,
)
from medseg.checkerboard.phases import phase_sums, require_finite
from medseg.checkerboard.torus import fixed_statistics, torus
from medseg.checkerboard.weights.imbalance import phase_imbalance


@dataclass(frozen=True, eq=False)
class InputGradient:
    """The gradient of logits by their image, split by phase of the network's grid.

    Args:
        mean: `E[g]` of each channel and phase, in logits per unit of intensity.
        energy: `E[g²]` of the same.
        locked: `A(E[g])`, what a mean over images leaves of the pattern, in [0, 1]. Where the mean
            itself is near 0 this is noise: compare it with `share`.
        share: Energy of the pattern `E[g_φ] − mean` over all energy, in [0, 1]; gradients
            without a pattern leave less than 1/n of it on n cells.
        energy_imbalance: `A(E[g²])`, how unevenly phases are looked at, in [0, 1 − 1/P].
        within_cell: `1 − E[(mean of a cell)²] / E[g²]`, energy inside cells of one period, in
            [0, 1]: `1 − 1/P` where each cell is seen by one voxel, locked or not.
    """

    mean: Float[Tensor, " channels *period"]
    energy: Float[Tensor, " channels *period"]
    locked: float
    share: float
    energy_imbalance: float
    within_cell: float


def input_gradient_phases(
    network: nn.Module,
    images: Sequence[Float[Tensor, "1 channels *space"]],
    period: Sequence[int] | None = None,
    label: int | None = None,
) -> InputGradient | None:
    """`g = ∂ Σ logits / ∂x` by phase: what saliency maps show of strides and pooling.

    On the torus, so that no border is seen less often; instance and group norms keep the
    statistics they have on each image, without which the gradient of a sum is 0. Means run over
    all voxels of all images. Of a single strided convolution, `locked` is `gradient_imbalance`;
    max pooling prints no pattern, but leaves all energy within its cells.

    Args:
        network: Image → logits; left as it was.
        images: Cases in the network's intensities, of any sizes, cropped to whole periods.
        period: Voxels per axis after which a pattern repeats, the network's total stride; None:
            `lattice_period`.
        label: The class whose logits are summed; None: all.

    Returns:
        What was measured, in double precision on the CPU; None for a period of one voxel or
        logits that do not depend on the images.

    Raises:
        ValueError: no image, one of another shape, smaller than one period or not finite, a class
            that the network does not have, or a gradient that is not finite.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts",
    on artifacts in gradients.

    >>> layer = nn.Conv2d(1, 1, 3, stride=2, padding=1)
    >>> _ = nn.init.ones_(layer.weight)
    >>> input_gradient_phases(layer, [torch.zeros(1, 1, 8, 8)], period=(2, 2)).locked
    0.19
    """
    if not images:
        raise ValueError("no image leaves nothing to look at; give at least one")
    steps = period_of(network, images[0], period)
    if steps is None:
        return None
    parts = []
    with evaluating(network), torus(network):
        for image in images:
            period_of(network, image, steps)
            parts.append(_moments(_gradient(network, whole_periods(image, steps), label), steps))
    cells, first, second, of_cells = (
        torch.stack(part).sum(dim=0) for part in zip(*parts, strict=True)
    )
    if not second.any():
        return None
    mean, energy = first / cells, second / cells
    whole = float(energy.sum())
    return InputGradient(
        mean=by_phase(mean, steps),
        energy=by_phase(energy, steps),
        locked=phase_imbalance(mean) if mean.any() else 0.0,
        share=float((mean - mean.mean(dim=0)).square().sum()) / whole,
        energy_imbalance=phase_imbalance(energy),
        within_cell=max(0.0, 1 - float(of_cells / cells) * len(mean) / whole),
    )


def _moments(gradient: Tensor, period: Sequence[int]) -> tuple[Tensor, ...]:
    """Cells; sums of the gradient and its square by phase; sum of the squared means of cells."""
    means = cell_means(gradient, period)
    return (
        torch.tensor(means[0].numel()),
        phase_sums(gradient, period),
        phase_sums(gradient.square(), period),
        means.square().sum(),
    )


def _gradient(network: nn.Module, image: Tensor, label: int | None) -> Tensor:
    """`(channels, *space)`."""
    require_finite(image, "voxels of an image")
    with torch.no_grad(), fixed_statistics(network, image) as logits:
        if label is not None and not 0 <= label < logits.shape[1]:
            raise ValueError(
                f"label={label} must be one of the {logits.shape[1]} classes of the network, "
                "counted from 0; choose one, or None for all"
            )
        with torch.enable_grad():
            leaf = image.detach().clone().requires_grad_()
            logits = network(leaf)
            chosen = logits if label is None else logits[:, label]
            (gradient,) = torch.autograd.grad(chosen.sum(), leaf)
    require_finite(gradient, "gradients")
    return gradient[0].cpu().double()
