"""Whether a network's phases change its segmentation: one prediction against many shifted ones.

The image is moved by whole voxels below the windows, so that each voxel meets another phase, and
the predictions are moved back and averaged. That also averages over where windows lie; shifts by
whole periods do only that, and are the control.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medseg.inference.predictor import Predictor
from medseg.metrics import score_case
from medseg.volumes import Volume

_METRICS = ("dice", "surface_dice")


@dataclass(frozen=True, kw_only=True, eq=False)
class Spun:
    """Predictions averaged over shifts, on the network's grid.

    Args:
        probabilities: `(classes, *grid)`.
        deviation: Root mean square over shifts of each class's logit over that of the background
            about its mean, `(classes - 1, *grid)`.
    """

    probabilities: Tensor
    deviation: Tensor


def spun_prediction(predictor: Predictor, image: Tensor, shifts: Sequence[Sequence[int]]) -> Spun:
    """Prediction averaged over shifts of the image below the windows.

    Args:
        predictor: The network.
        image: `(channels, *grid)`, three axes.
        shifts: Voxels per axis of the network, each at least 0.
    """
    first = _shifted_logits(predictor, image, shifts[0])
    probabilities = torch.softmax(first, dim=0)
    # differences from the first, so that large logits do not drown small deviations
    total = squares = torch.zeros(())
    for shift in shifts[1:]:
        logits = _shifted_logits(predictor, image, shift)
        probabilities += torch.softmax(logits, dim=0)
        moved = (logits[1:] - logits[:1]) - (first[1:] - first[:1])
        total, squares = total + moved, squares + moved.square()
    variance = squares / len(shifts) - (total / len(shifts)).square()
    return Spun(
        probabilities=probabilities / len(shifts),
        deviation=variance.clamp(min=0).sqrt().expand_as(first[1:]),
    )


def phase_shifts(period: Sequence[int], count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Different shifts below one period, the first of them 0."""
    phases = math.prod(period)
    generator = torch.Generator().manual_seed(seed)
    drawn = 1 + torch.randperm(phases - 1, generator=generator)[: count - 1]
    places = torch.cat([torch.zeros(1, dtype=torch.long), drawn])
    return [tuple(map(int, row)) for row in torch.stack(torch.unravel_index(places, period), 1)]


def whole_shifts(period: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Different shifts by whole periods along the axes that have phases, the first of them 0."""
    strided = [axis for axis, step in enumerate(period) if step > 1]
    side = math.ceil(count ** (1 / len(strided)))
    cells = torch.cartesian_prod(*[torch.arange(side)] * len(strided)).reshape(-1, len(strided))
    shifts = torch.zeros(len(cells), len(period), dtype=torch.long)
    shifts[:, strided] = cells * torch.tensor([period[axis] for axis in strided])
    return [tuple(map(int, row)) for row in shifts[:count]]


def decision_effect(
    predictor: Predictor,
    image: Volume,
    label: Volume,
    predictions: dict[str, Tensor],
    *,
    tolerance_mm: float = 1.0,
) -> dict[str, float | None]:
    """Dice and surface Dice of several predictions of one case, means over classes.

    Args:
        predictor: What predicted.
        image: The case.
        label: Its labels, on the same grid.
        predictions: Suffix → scores `(classes, *grid)`; the suffix "" is the single prediction.
        tolerance_mm: For surface Dice.
    """
    values: dict[str, float | None] = {}
    for suffix, scores in predictions.items():
        metrics = score_case(
            predictor.preprocessing.restore_labels(scores, image),
            label.array,
            spacing=image.geometry.spacing,
            classes=predictor.card.classes,
            tolerance_mm=tolerance_mm,
        )
        for name in _METRICS:
            known = [value for m in metrics.values() if (value := m[name]) is not None]
            values[name + suffix] = statistics.fmean(known) if known else None
    return values


def _shifted_logits(predictor: Predictor, image: Tensor, shift: Sequence[int]) -> Tensor:
    before = [*shift, *[0] * (image.ndim - 1 - len(shift))]
    padded = functional.pad(image, [side for step in reversed(before) for side in (step, 0)])
    logits = predictor.logits(padded).cpu()
    return logits[(slice(None), *(slice(step, None) for step in before))]
