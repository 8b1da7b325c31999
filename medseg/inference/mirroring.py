"""A network applied to the mirror images of its window as well."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from torch import Tensor, nn

from medseg.data.preprocess import BODY_AXES, Preprocessing
from medseg.data.sides import classes_of_sides
from medseg.errors import ConfigError
from medseg.models.weights import ModelCard, TrainedModel


class Mirrored(nn.Module):
    """Logits averaged over a window and its mirror images, each mirrored back.

    As nnU-Net does it (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): n axes take 2ⁿ times
    the computation of one window.

    Args:
        network: Image → logits `(batch, outputs, *window)`.
        axes: Axes of the window.
        sides: The axis that runs from left to right; mirrored along it, classes change sides.
        order: Class of the network → class that it is on the other side; empty: the same.
    """

    def __init__(
        self,
        network: nn.Module,
        axes: Sequence[int],
        *,
        sides: int | None = None,
        order: Sequence[int] = (),
    ):
        super().__init__()
        self.network = network
        self.sides, self.order = sides, list(order)
        self.axes = list(axes)
        self.views = [view for n in range(len(axes) + 1) for view in combinations(axes, n)]

    def forward(self, image: Tensor) -> Tensor:
        """Image `(batch, channels, *window)` → logits `(batch, classes, *window)`, float32."""
        first, *others = (self._logits(image, view) for view in self.views)
        for logits in others:
            first += logits
        return first / len(self.views)

    @property
    def changes_sides(self) -> bool:
        """Whether some classes are others in some of the mirror images."""
        return self.sides in self.axes and bool(self.order)

    def of(self, network: nn.Module) -> "Mirrored":
        """Another network, mirrored in the same way."""
        return Mirrored(network, self.axes, sides=self.sides, order=self.order)

    def _logits(self, image: Tensor, view: Sequence[int]) -> Tensor:
        dims = [axis + 2 for axis in view]
        logits = self.network(image.flip(dims)).flip(dims).float()
        return logits[:, self.order] if self.sides in view and self.order else logits


def mirrored(model: TrainedModel, axes: Sequence[str] = ()) -> TrainedModel:
    """The same model, applied to the mirror images of each window as well.

    Args:
        model: A trained network.
        axes: Ways of the body, as of `mirrored_axes`.
    """
    names = _axis_names(model.card)
    sides = names.index(BODY_AXES[0]) if BODY_AXES[0] in names else None
    order = list(range(model.card.labelling.outputs)) if model.card.side_pairs else []
    for left, right in model.card.side_pairs:
        order[left], order[right] = right, left
    network = Mirrored(
        model.network, [names.index(axis) for axis in axes], sides=sides, order=order
    )
    return replace(model, network=network.eval())


def mirrored_axes(model: TrainedModel, wanted: Sequence[str] = ()) -> list[str]:
    """The ways of the body along which a network may be mirrored.

    Args:
        model: A trained network.
        wanted: Ways of the body; none: all along which training mirrored.

    Raises:
        ConfigError: training mirrored along none, or not along one that is wanted; or its card does
            not tell.
    """
    card, source = model.card, model.source
    if wanted:
        crossing = [axis for axis in wanted if axis not in _axis_names(card)]
        if crossing:
            raise ConfigError(
                f"{source} segments slices, and {crossing[0]} runs across them: they cannot be "
                "mirrored along it"
            )
    if card.mirrored is None:
        if not wanted:
            raise ConfigError(
                f"{source}: its card does not say along which axes training mirrored; name those "
                f"for which you know it, of {', '.join(_axis_names(card))}"
            )
        sided = classes_of_sides(card.classes) if BODY_AXES[0] in wanted else []
        if sided:
            raise ConfigError(
                f"{source}: classes are named by side, such as {sided[0]!r}, and its card does not "
                f"say that training mirrored {BODY_AXES[0]}; leave that out"
            )
        return list(dict.fromkeys(wanted))
    unseen = [axis for axis in wanted if axis not in card.mirrored]
    if unseen or not card.mirrored:
        seen = f"along {' and '.join(card.mirrored)} alone" if card.mirrored else "no patches"
        remedy = "leave the others out" if card.mirrored else "predict without mirroring"
        raise ConfigError(
            f"{source}: training mirrored {seen}, and a network is wrong about mirror images that "
            f"it never saw; {remedy}"
        )
    return list(dict.fromkeys(wanted or card.mirrored))


def _axis_names(card: ModelCard) -> tuple[str, ...]:
    preprocessing = Preprocessing.from_description(card.preprocessing)
    return preprocessing.axis_names[: len(card.patch_size)]
