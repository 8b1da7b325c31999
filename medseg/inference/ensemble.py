"""Several networks, or one at several places of its grid, segment a volume by their mean.

Probabilities are averaged, class by class name. Networks that share a grid are averaged there:
restoring is linear, so that this is the mean of what is restored of each. Those of different grids
are restored class after class and averaged on the volume's own.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import xlogy
from torch import Tensor
from torch.nn import functional

from medseg.data.preprocess import Preprocessing, strongest
from medseg.inference.predictor import Prediction, Predictor
from medseg.models.members import class_order
from medseg.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network of an ensemble.

    Args:
        predictor: Applies it.
        mirrored: Ways of the body along which it is mirrored (`medseg.inference.mirroring`).
        shifts: Voxels per axis by which the image is moved below its windows, 0 and more.
            Averaging over them is cycle spinning (Coifman and Donoho 1995).
    """

    predictor: Predictor
    mirrored: Sequence[str] = ()
    shifts: Sequence[Sequence[int]] = ((0, 0, 0),)

    def describe(self) -> dict[str, Any]:
        """What is known of it, as plain data."""
        model = self.predictor.model
        return {
            "weights": str(model.source),
            "weights_sha256": model.sha256,
            "dataset": model.card.dataset,
            "network": model.card.network,
            "preprocessing": model.card.preprocessing,
            "mirrored": list(self.mirrored),
            "shifts": [list(shift) for shift in self.shifts],
        }


@dataclass(kw_only=True)
class _Part:
    """What the networks that share a grid add to the mean.

    Args:
        preprocessing: The way back onto the volume's own grid.
        scores: `(classes, *grid)`.
    """

    preprocessing: Preprocessing
    scores: Tensor


class Ensemble:
    """Volume → label map, by the mean of the probabilities of several networks.

    Args:
        members: Of the same classes, in any order, and the same channels (as
            `medseg.models.members.load_members` has them).

    Attributes:
        classes: Names of the foreground classes, by label value from 1.
        in_channels: Of an image.
        device: On which the networks are.
    """

    def __init__(self, members: Sequence[Member]):
        self.members = list(members)
        first = self.members[0].predictor
        self.classes, self.in_channels = first.card.classes, first.card.in_channels
        self.device = first.device
        self._views = sum(len(member.shifts) for member in members)

    def predict(
        self, volume: Volume, *, probabilities: Sequence[int] = (), uncertainty: bool = False
    ) -> Prediction:
        """Segments one volume.

        Args:
            volume: The volume.
            probabilities: Classes whose probabilities are returned, in that order; 0 is background.
            uncertainty: Return the entropy of the probabilities, too.

        Raises:
            DataError: the volume does not fit the memory that is free.
        """
        every = list(range(len(self.classes) + 1))
        if self._views == 1 and not uncertainty and list(probabilities) in ([], every):
            predictor = self.members[0].predictor
            return predictor.predict(volume, probabilities=bool(probabilities))
        seconds = {"preprocess": 0.0, "network": 0.0, "restore": 0.0}
        parts = self._parts(volume, seconds)
        start = time.perf_counter()
        labels = _labels(parts, volume)
        chosen: dict[int, np.ndarray] = {}
        entropy = np.zeros(labels.shape, np.float32) if uncertainty else None
        for index in every if uncertainty else probabilities:
            share = _restored(parts, index, volume)
            if entropy is not None:
                entropy -= xlogy(share, share) / np.float32(math.log(2))
            if index in probabilities:
                chosen[index] = share
        seconds["restore"] = time.perf_counter() - start
        return Prediction(
            labels=labels,
            probabilities=np.stack([chosen[n] for n in probabilities]) if probabilities else None,
            seconds=seconds,
            uncertainty=None if entropy is None else np.maximum(entropy, 0),
        )

    def _parts(self, volume: Volume, seconds: dict[str, float]) -> list[_Part]:
        found: dict[Any, _Part] = {}
        for member in self.members:
            predictor, preprocessing = member.predictor, member.predictor.preprocessing
            predictor.require_memory(volume, probabilities=True, maps=3 + len(found))
            start = time.perf_counter()
            image = preprocessing.image(volume)
            prepared = time.perf_counter()
            order = class_order(predictor.card, self.classes)
            grid = (preprocessing.axis_names, preprocessing.grid_shape(volume))
            for shift in member.shifts:
                scores = torch.softmax(shifted_logits(predictor, image, shift), dim=0)
                scores = scores if order == sorted(order) else scores[order]
                scores /= self._views
                if grid in found:
                    found[grid].scores += scores
                else:
                    found[grid] = _Part(preprocessing=preprocessing, scores=scores)
            seconds["preprocess"] += prepared - start
            seconds["network"] += time.perf_counter() - prepared
        return [*found.values()]


def shifted_logits(predictor: Predictor, image: Tensor, shift: Sequence[int]) -> Tensor:
    """Logits `(classes, *grid)` of an image that was moved below the windows, moved back.

    Args:
        predictor: The network.
        image: `(channels, *grid)`, three axes.
        shift: Voxels per axis of the network, each at least 0.
    """
    if not any(shift):
        return predictor.logits(image).cpu()
    before = [*shift, *[0] * (image.ndim - 1 - len(shift))]
    padded = functional.pad(image, [side for step in reversed(before) for side in (step, 0)])
    logits = predictor.logits(padded).cpu()
    return logits[(slice(None), *(slice(step, None) for step in before))]


def _labels(parts: Sequence[_Part], volume: Volume) -> np.ndarray:
    first = parts[0]
    if len(parts) == 1:
        return first.preprocessing.restore_labels(first.scores, volume)
    maps = (
        torch.from_numpy(np.ascontiguousarray(_restored(parts, index, volume)))
        for index in range(len(first.scores))
    )
    return strongest(maps, volume.array.shape[1:]).numpy()


def _restored(parts: Sequence[_Part], index: int, volume: Volume) -> np.ndarray:
    """The probabilities of one class, `(i, j, k)` of the volume."""
    first, *others = (
        part.preprocessing.restore_scores(part.scores[index : index + 1], volume)[0]
        for part in parts
    )
    for other in others:
        first = first + other
    return first
