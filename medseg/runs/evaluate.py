"""A trained network on the held-out cases, by the very path that prediction takes."""

import base64
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from medseg.data.dataset import Case
from medseg.inference.predictor import Predictor
from medseg.metrics.checkerboard import constant_response, upsampling_gains
from medseg.metrics.segmentation import score_case
from medseg.models.unet import MultiscaleNetwork
from medseg.models.weights import TrainedModel
from medseg.record import CaseRecord, Picture, UpsamplingGain
from medseg.volumes import (
    Volume,
    best_slice,
    picture_of_case,
    read_image,
    read_labels,
    to_png,
    to_ras,
    write_labels,
)

log = logging.getLogger(__name__)


def evaluate_cases(
    model: TrainedModel,
    predictor: Predictor,
    cases: Sequence[Case],
    *,
    folder: Path,
    tolerance_mm: float,
    pictures: int,
) -> tuple[list[CaseRecord], list[Picture]]:
    """Segments every case on its own grid, keeps the label map, scores it against the truth.

    Args:
        model: The trained network.
        predictor: The same, ready to predict.
        cases: Held-out cases.
        folder: Where label maps go, as `<case id>.nii.gz`.
        tolerance_mm: For surface Dice.
        pictures: How many cases are drawn, from the first.
    """
    records, drawn = [], []
    for index, case in enumerate(cases):
        image = read_image(case.image, channels=model.card.in_channels)
        label = read_labels(case.label, num_classes=len(model.card.classes) + 1)
        labels = predictor.predict(image).labels
        write_labels(folder / f"{case.case_id}.nii.gz", labels, image)
        metrics = score_case(
            labels,
            label.array,
            spacing=image.geometry.spacing,
            classes=model.card.classes,
            tolerance_mm=tolerance_mm,
        )
        records.append(CaseRecord(case=case.case_id, metrics=metrics))
        if index < pictures:
            drawn.append(_picture(case.case_id, image, label, labels))
    return records, drawn


def measure_artifacts(
    model: TrainedModel, predictor: Predictor, case: Case
) -> tuple[list[UpsamplingGain], float | None]:
    """DC-gain imbalance of every upsampling layer, and the constant response on one case.

    A foreign network that takes no other size than its patch has no constant response.
    """
    network = model.network.float().cpu()
    image = predictor.preprocessing.image(read_image(case.image, channels=model.card.in_channels))
    patch = _central_patch(image, model.card.patch_size)
    try:
        period = network.total_stride if isinstance(network, MultiscaleNetwork) else None
        response = constant_response(network, patch[None], period)
    except RuntimeError as error:
        log.warning("no constant response: %s", str(error).splitlines()[0])
        response = None
    return upsampling_gains(network), response


def _central_patch(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    size = [*patch_size, 1] if len(patch_size) == 2 else list(patch_size)
    for axis, length in enumerate(size, start=1):
        missing = max(0, length - image.shape[axis])
        if missing:
            pad = [0] * (2 * (image.ndim - axis) - 1) + [missing]
            image = torch.nn.functional.pad(image, pad)
        image = image.narrow(axis, (image.shape[axis] - length) // 2, length)
    return image.squeeze(-1) if len(patch_size) == 2 else image


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
