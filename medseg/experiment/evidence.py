"""Quicker ways of prediction tried on held-out cases, at the end of training."""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from medseg.data.dataset import Case
from medseg.data.preprocess import Preprocessing
from medseg.data.reading import read_case
from medseg.errors import DataError, one_volume
from medseg.hardware import computes_in_bf16
from medseg.inference.predictor import Predictor
from medseg.labelling import Labelling
from medseg.metrics import dice
from medseg.models.evidence import Evidence
from medseg.models.weights import TrainedModel

log = logging.getLogger(__name__)


def evidence_of(model: TrainedModel, cases: Sequence[Case], device: torch.device) -> list[Evidence]:
    """What quicker ways of prediction change on cases: less overlap, and bf16 where it is computed.

    Cases that cannot be used are left out.
    """
    values = Preprocessing.from_description(model.card.preprocessing).label_values
    labelling = model.card.labelling
    ways = [(precision, overlap) for precision in ("fp32", "bf16") for overlap in (0.5, 0.25)]
    ways = ways if computes_in_bf16(device) else ways[:2]
    compared: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for case in cases:
        try:
            with one_volume(case.image):
                channels = model.card.in_channels
                known = labelling.ignored
                image, label = read_case(case, values, in_channels=channels, num_classes=known)
                predictors = (
                    Predictor(model, device=str(device), precision=precision, overlap=overlap)
                    for precision, overlap in ways
                )
                compared.append([(p.predict(image).labels, label.array) for p in predictors])
        except DataError as error:
            log.debug("%s", error)
    by_way = list(zip(*compared, strict=True))
    found = [_mean_dice(pairs, labelling) for pairs in by_way]
    return [
        Evidence(
            precision=precision,
            overlap=overlap,
            cases=len(pairs),
            changed=sum(int((a != b).sum()) for (a, _), (b, _) in zip(pairs, plain, strict=True))
            / sum(truth.size for _, truth in pairs),
            dice=score,
            plain_dice=found[0],
        )
        for plain in by_way[:1]
        for (precision, overlap), pairs, score in zip(ways[1:], by_way[1:], found[1:], strict=True)
    ]


def _mean_dice(pairs: Sequence[tuple[np.ndarray, np.ndarray]], labelling: Labelling) -> float:
    """Over cases and classes, of what is defined; 0 if nothing is."""
    scores = [
        dice(labelling.mask(labels, index), labelling.mask(truth, index))
        for labels, truth in pairs
        for index in range(len(labelling.names))
    ]
    defined = [score for score in scores if score is not None]
    return sum(defined) / len(defined) if defined else 0.0
