"""A trained network on the held-out cases, as prediction segments them, and its artifacts."""

import base64
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medseg.checkerboard import Study
from medseg.checkerboard.layers import stride_grid_of
from medseg.data.dataset import Case
from medseg.data.patches import central_patch
from medseg.data.reading import read_case
from medseg.errors import ConfigError, DataError, one_volume
from medseg.experiment.largest import LargestComponents
from medseg.inference.predictor import Predictor
from medseg.metrics import score_case
from medseg.models.weights import TrainedModel
from medseg.progress import shown
from medseg.record import CaseRecord, Picture
from medseg.training.artifact_trajectory import ArtifactTrajectory
from medseg.training.module import SegmentationModule
from medseg.volumes import (
    Volume,
    best_slice,
    picture_of_case,
    to_png,
    to_ras,
    write_labels,
)

log = logging.getLogger(__name__)


def study_of(model: TrainedModel, predictor: Predictor, options: dict[str, Any]) -> Study | None:
    """The measures of the trained network's artifacts; None if it does not upsample."""
    try:
        return Study(
            predictor.network,
            model.card,
            shifts=options["shifts"],
            cycle_spun=options["cases"],
        )
    except ConfigError as error:
        log.info("%s", error)
        return None


def trajectory_of(
    module: SegmentationModule, image: Tensor, options: dict[str, Any]
) -> ArtifactTrajectory | None:
    """Follows a network in training on the middle of an image; None if it has no strides.

    Args:
        module: What is being trained.
        image: A prepared case `(channels, *S)`.
        options: `artifacts` of the configuration.
    """
    try:
        *_, period = stride_grid_of(module.network, len(module.patch_size))
    except ConfigError:
        return None
    window = central_patch(image, module.patch_size)[None]
    shifts, follows = options["shifts"], options["follow"]
    return ArtifactTrajectory(module, window, period, shifts=shifts, follows=follows)


def evaluate_cases(
    model: TrainedModel,
    predictor: Predictor,
    cases: Sequence[Case],
    *,
    folder: Path,
    tolerance_mm: float,
    pictures: int,
    study: Study | None = None,
    largest: LargestComponents | None = None,
) -> tuple[list[CaseRecord], list[Picture], dict[str, str]]:
    """Segments every case on its own grid, keeps the label map, scores it against the truth.

    A case that fails does not stop the others.

    Args:
        model: The trained network.
        predictor: The same, ready to predict.
        cases: Held-out cases.
        folder: Where label maps go, as `<case id>.nii.gz`.
        tolerance_mm: For surface Dice.
        pictures: How many cases are drawn, from the first.
        study: Is shown what is predicted.
        largest: Is shown the label maps.

    Returns:
        What is known of each case, the pictures, and the cases that failed with the reason.
    """
    records: list[CaseRecord] = []
    drawn: list[Picture] = []
    failures: dict[str, str] = {}
    for index, case in enumerate(shown(cases, "held-out cases")):
        try:
            with one_volume(case.image):
                image, label, labels = _segmented(case, model, predictor, study)
                write_labels(folder / f"{case.case_id}.nii.gz", labels, image)
                metrics = score_case(
                    labels,
                    label.array,
                    spacing=image.geometry.spacing,
                    labelling=model.card.labelling,
                    tolerance_mm=tolerance_mm,
                )
                if largest:
                    largest.add(labels, label.array)
                if index < pictures:
                    drawn.append(_picture(case.case_id, image, label, labels))
        except DataError as error:
            failures[case.case_id] = str(error)
            log.error("%s", error)
            continue
        records.append(
            CaseRecord(
                case=case.case_id,
                metrics=metrics,
                image=str(case.image.resolve()),
                label=str(case.label.resolve()),
                prediction=f"{folder.name}/{case.case_id}.nii.gz",
            )
        )
    return records, drawn, failures


def _segmented(
    case: Case, model: TrainedModel, predictor: Predictor, study: Study | None
) -> tuple[Volume, Volume, np.ndarray]:
    """Image, true labels and predicted labels of a case, shown to the study."""
    channels, classes = model.card.in_channels, model.card.labelling.ignored
    values = predictor.preprocessing.label_values
    image, label = read_case(case, values, in_channels=channels, num_classes=classes)
    watched = study and study.watch(predictor.preprocessing.truth(label, image, classes))
    labels = predictor.predict(image, observe=watched and watched.start).labels
    if study and watched:
        study.add(case.case_id, watched)
    return image, label, labels


def _picture(case_id: str, image: Volume, label: Volume, labels) -> Picture:
    affine = image.geometry.affine
    truth = to_ras(label.array, affine)
    picture = picture_of_case(
        to_ras(image.array[0], affine),
        truth,
        to_ras(labels, affine),
        image.geometry.ras_spacing,
    )
    return Picture(
        case=case_id,
        caption=f"axial slice {best_slice(truth, 2)}: label, prediction",
        png=base64.b64encode(to_png(picture)).decode(),
    )
