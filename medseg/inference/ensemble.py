"""Several networks, or one at several places of its grid, segment a volume by their mean.

Probabilities are averaged, class by class name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medseg.errors import ConfigError
from medseg.inference.memory import MemoryPlan
from medseg.inference.predictor import Predictor
from medseg.inference.segment import Prediction, plan_memory, segment
from medseg.labelling import Labelling
from medseg.models.members import output_order
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


class Ensemble:
    """Volume → label map, by the mean of the probabilities of several networks.

    Args:
        members: Of the same classes, in any order, and the same channels (as
            `medseg.models.members.load_members` has them).

    Attributes:
        labelling: What label values and probabilities are of.
        in_channels: Of an image.
        device: On which the networks are.

    Raises:
        ConfigError: some crop volumes and others do not.
    """

    def __init__(self, members: Sequence[Member]):
        self.members = list(members)
        first = self.members[0].predictor
        for other in (member.predictor for member in self.members):
            _require_same_crop(first, other)
        self.labelling, self.in_channels = first.card.labelling, first.card.in_channels
        self.device = first.device
        self._views = [
            replace(
                member.predictor.view,
                order=_order(member.predictor.card.labelling, self.labelling),
                shift=shift,
            )
            for member in self.members
            for shift in member.shifts
        ]

    def plan(
        self, volume: Volume, *, maps: int = 0, make_room: Callable[[], object] = int
    ) -> MemoryPlan:
        """Plans the memory of a prediction, before any of it is taken.

        Args:
            volume: The volume.
            maps: Of probabilities and uncertainty, which are kept.
            make_room: Gives back what other threads hold, where memory may be short.

        Raises:
            DataError: the volume does not fit the memory that is free.
        """
        return plan_memory(
            self._views,
            volume,
            self.device,
            classes=self.labelling.outputs,
            kept=maps,
            make_room=make_room,
        )

    def predict(
        self,
        volume: Volume,
        *,
        probabilities: Sequence[int] = (),
        uncertainty: bool = False,
        plan: MemoryPlan | None = None,
    ) -> Prediction:
        """Segments one volume.

        Args:
            volume: The volume.
            probabilities: Outputs whose probabilities are returned, in that order; of classes, 0
                is the background.
            uncertainty: Return the entropy of the probabilities, too; of regions the sum of theirs.
            plan: Of `plan`; None: is made.

        Raises:
            DataError: the volume does not fit the memory that is free.
        """
        return segment(
            self._views,
            volume,
            self.device,
            labelling=self.labelling,
            probabilities=probabilities,
            uncertainty=uncertainty,
            plan=plan,
        )


def _require_same_crop(one: Predictor, other: Predictor) -> None:
    """Around a box there are no scores of which a mean could be taken."""
    crops = one.preprocessing.crop, other.preprocessing.crop
    if crops[0] != crops[1]:
        said = " and ".join(f"data.crop={crop or 'null'}" for crop in crops)
        raise ConfigError(
            f"{one.model.source} and {other.model.source} were trained with {said}: only networks "
            "of the same crop predict together; predict with each by itself"
        )


def _order(own: Labelling, wanted: Labelling) -> list[int]:
    """Where a network has the outputs of another; none if they are in its order."""
    order = output_order(own, wanted)
    return [] if order == sorted(order) else order
