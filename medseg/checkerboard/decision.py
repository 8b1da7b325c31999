"""One volume examined, and whether the phases of a network change its segmentation.

The image is moved by whole voxels below the windows, so that each voxel meets another phase, and
the predictions are moved back and averaged. That also averages over where windows lie; shifts by
whole periods do only that, and are the control.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from medseg.checkerboard.registry import measure
from medseg.checkerboard.study import Study
from medseg.data.dataset import Scan
from medseg.data.reading import read_scan
from medseg.inference.predictor import Predictor
from medseg.metrics import score_case
from medseg.record import CaseRow
from medseg.volumes import Form, Volume, on_grid_of, read_labels, write_probabilities

_TOLERANCE_MM = 1.0  # of surface Dice


def examine(
    scan: Scan,
    label: Path | None,
    *,
    study: Study,
    predictor: Predictor,
    spin: Path | None = None,
    prefer: Form = "sform",
) -> CaseRow:
    """Predicts a volume and scores it.

    Args:
        scan: The volume's files.
        label: Its labels, or None.
        study: Collects its numbers, and the time they took.
        predictor: The network.
        spin: File for the map of the cycle-spin deviation; None leaves it and the effect on
            decisions out, which take as many predictions as there are shifts, twice with labels.
        prefer: Which orientation of a NIfTI header to believe.

    Raises:
        DataError: a volume that cannot be used, or labels on another grid.
    """
    card = predictor.card
    image = read_scan(scan, card.in_channels, nonfinite="replace", prefer=prefer)
    classes, preprocessing = card.labelling.ignored, predictor.preprocessing
    truth = None
    if label is not None:
        truth = read_labels(
            label,
            num_classes=classes,
            values=preprocessing.label_values,
            like=image,
            spacing=scan.spacing,
            prefer=prefer,
        )
        truth = on_grid_of(image, truth)
    watched = study.watch(None if truth is None else preprocessing.truth(truth, image, classes))
    seconds = predictor.predict(image, observe=watched.start).seconds
    study.seconds["prediction"] += seconds["network"] - watched.seconds
    case = study.add(scan.case_id, watched)
    if spin is not None:
        case = _cycle_spun(case, image, truth, study=study, predictor=predictor, target=spin)
        study.amend(case)
    return case


def cycle_spun_prediction(
    predictor: Predictor, image: Tensor, shifts: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Prediction averaged over shifts of the image below the windows.

    Args:
        predictor: The network.
        image: `(channels, *grid)`, three axes.
        shifts: Voxels per axis of the network, each at least 0.

    Returns:
        Probabilities `(outputs, *grid)`, and the root mean square over shifts of each class's logit
        over that of the background, or of each region's, about its mean.
    """
    labelling = predictor.card.labelling
    logits = predictor.logits(image, shift=shifts[0]).cpu()
    first, probabilities = labelling.contrasts(logits), labelling.probabilities(logits)
    # differences from the first, so that large logits do not drown small deviations
    total = squares = torch.zeros(())
    for shift in shifts[1:]:
        logits = predictor.logits(image, shift=shift).cpu()
        probabilities += labelling.probabilities(logits)
        moved = labelling.contrasts(logits) - first
        total, squares = total + moved, squares + moved.square()
    variance = squares / len(shifts) - (total / len(shifts)).square()
    return probabilities / len(shifts), variance.clamp(min=0).sqrt().expand_as(first)


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


def _cycle_spun(
    case: CaseRow,
    image: Volume,
    truth: Volume | None,
    *,
    study: Study,
    predictor: Predictor,
    target: Path,
) -> CaseRow:
    predictor.require_memory(image, maps=14)
    preprocessing, period = predictor.preprocessing, study.period
    box = preprocessing.box(image)
    seen = box.cut(image)
    grid = preprocessing.image(seen)
    spun, deviation = cycle_spun_prediction(predictor, grid, phase_shifts(period, study.shifts))
    deviation = box.put_back(preprocessing.restore_scores(deviation, seen))
    write_probabilities(target, deviation, image)
    if truth is None:
        return case
    control, _ = cycle_spun_prediction(predictor, grid, whole_shifts(period, study.shifts))
    labelling = predictor.card.labelling
    plain = labelling.probabilities(predictor.logits(grid).cpu())
    scores = {
        suffix: score_case(
            box.put_back(preprocessing.restore_labels(probabilities, seen, labelling)),
            truth.array,
            spacing=image.geometry.spacing,
            labelling=labelling,
            tolerance_mm=_TOLERANCE_MM,
        )
        for suffix, probabilities in (("", plain), ("_spun", spun), ("_control", control))
    }
    return replace(case, values=case.values | {"decision": measure("decision", scores)[0]})
