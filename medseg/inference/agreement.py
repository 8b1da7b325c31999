"""How far the predictions of two networks lie apart."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from medseg.errors import ConfigError
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel
from medseg.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the predictions of two networks lie apart on one volume, on its own grid.

    Args:
        voxels: Voxels of the volume.
        changed: Voxels whose label is another.
        difference: Largest absolute difference of a class's probability, in [0, 1].
    """

    voxels: int
    changed: int
    difference: float


def agreement(first: TrainedModel, second: TrainedModel, volume: Volume) -> Agreement:
    """Segments a volume with two networks on the CPU, in fp32, by the path of prediction.

    Raises:
        ConfigError: the two have different classes.
        DataError: the volume does not fit the memory that is free.
    """
    if first.card.labelling != second.card.labelling:
        raise ConfigError(
            f"classes {first.card.labelling} and {second.card.labelling} must be the same; "
            "compare networks of one dataset"
        )
    labels, probabilities = _predicted(first, volume)
    other_labels, other_probabilities = _predicted(second, volume)
    return Agreement(
        voxels=labels.size,
        changed=int(np.count_nonzero(labels != other_labels)),
        difference=max(
            float(np.abs(one - other).max())
            for one, other in zip(probabilities, other_probabilities, strict=True)
        ),
    )


def _predicted(model: TrainedModel, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    predictor = Predictor(model, device="cpu", precision="fp32")
    found = predictor.predict(volume, probabilities=True)
    return found.labels, cast(np.ndarray, found.probabilities)
