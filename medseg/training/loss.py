"""Losses as a configuration describes them: with weights of classes, without ignored voxels.

Most are MONAI's; here stands what it does not have.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.loss import _Loss

from medseg.build import build
from medseg.errors import ConfigError

# They compare neighbouring voxels, of which none may be left out.
_OF_NEIGHBOURHOODS = (
    "BoundaryLoss",
    "HausdorffDTLoss",
    "LogHausdorffDTLoss",
    "NACLLoss",
    "SoftDiceclDiceLoss",
    "SoftclDiceLoss",
)


def make_loss(options: Mapping[str, Any], num_classes: int, key: str = "loss") -> _Loss:
    """Builds a loss.

    Args:
        options: `_target_` and arguments of a loss. `weight` is a list of one number for
            each class, or for each foreground class, where the background has 1.
        num_classes: Background included.
        key: Where it stands in the configuration, for messages.

    Raises:
        ConfigError: an unknown loss or argument, or weights that do not fit.
    """
    weight = options.get("weight")
    rest = {name: value for name, value in options.items() if name != "weight"}
    if isinstance(parts := rest.get("losses"), Mapping):
        rest["losses"] = {
            n: make_loss(o, num_classes, f"{key}.losses.{n}") for n, o in parts.items()
        }
    if weight is None:
        return build(rest, key)
    name = str(rest.get("_target_")).rpartition(".")[2]
    # of MONAI's losses this one alone wants the background's weight even where it leaves that out
    has_background = rest.get("include_background", True) or name == "DiceCELoss"
    lengths = (num_classes - 1, num_classes) if has_background else (num_classes - 1,)
    if not isinstance(weight, list | tuple) or len(weight) not in lengths:
        raise ConfigError(
            f"{key}.weight={weight} must be a list of {' or '.join(map(str, lengths))} numbers, "
            f"one for each {'class, with or without the' if has_background else 'class but the'} "
            "background"
        )
    if not all(_is_weight(number) for number in weight) or not any(weight):
        raise ConfigError(
            f"{key}.weight={list(weight)} must be of numbers of at least 0, not all 0"
        )
    full = [1.0] * (has_background and len(weight) < num_classes) + [float(w) for w in weight]
    return build(rest | {"weight": torch.tensor(full)}, key)


class WeightedSum(_Loss):
    """Several losses together.

    Args:
        losses: Name → loss.
        weights: Name → the factor of that loss, at least 0.
    """

    def __init__(self, losses: dict[str, _Loss], weights: dict[str, float]):
        super().__init__()
        if losses.keys() != weights.keys() or not all(map(_is_weight, weights.values())):
            raise ValueError(
                f"weights={weights} must hold a number of at least 0 "
                f"for each of {', '.join(losses)}"
            )
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits `(N, classes, *S)` and labels `(N, 1, *S)` → scalar."""
        return sum(
            (self.weights[name] * loss(logits, label) for name, loss in self.losses.items()),
            start=logits.new_zeros(()),
        )


class TopKCrossEntropy(_Loss):
    """Mean of the largest cross-entropies of a batch: the voxels that are hardest.

    Args:
        share: Of the voxels, above 0, at most 1.
        weight: One number for each class, by which a voxel's cross-entropy is multiplied.
        label_smoothing: Share of the target that is spread over all classes, from 0 to 1.

    Reference: Wu, Shen & van den Hengel 2016, "Bridging category-level and instance-level semantic
    image segmentation", section 3.2; as in nnU-Net, 10 % of the voxels.
    """

    def __init__(
        self, share: float = 0.1, weight: Tensor | None = None, label_smoothing: float = 0.0
    ):
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"share={share} must be above 0 and at most 1")
        self.share = share
        self.weight: Tensor | None
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits `(N, classes, *S)` and labels `(N, 1, *S)` → scalar."""
        by_voxel = functional.cross_entropy(
            logits,
            label[:, 0].long(),
            self.weight,
            label_smoothing=self.label_smoothing,
            reduction="none",
        ).flatten()
        return by_voxel.topk(max(1, round(self.share * len(by_voxel))), sorted=False).values.mean()


class LossOfCounted(_Loss):
    """A loss over the voxels of a batch that count.

    They are taken together, or patch by patch where a part of the loss is (`batch=false`).

    Args:
        loss: Logits `(N, classes, *S)` and labels `(N, 1, *S)` → scalar.
        num_classes: Background included; the label of a voxel that is ignored.

    Raises:
        ConfigError: a loss that compares neighbouring voxels.
    """

    def __init__(self, loss: _Loss, num_classes: int):
        super().__init__()
        names = [type(part).__name__ for part in loss.modules()]
        if found := next((name for name in names if name in _OF_NEIGHBOURHOODS), None):
            raise ConfigError(
                f"loss={found} compares neighbouring voxels, and some of them are "
                "labelled ignore; use another loss, such as dice_ce"
            )
        self.by_patch = any(getattr(part, "batch", None) is False for part in loss.modules())
        self.loss = loss
        self.num_classes = num_classes

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Loss of a batch; 0, with gradient 0, where no voxel counts."""
        counts = label[:, 0] < self.num_classes
        if counts.all():
            return self.loss(logits, label)
        groups = list(counts.split(1 if self.by_patch else len(counts)))
        parts = zip(logits.split(len(groups[0])), label.split(len(groups[0])), groups, strict=True)
        values = [
            self.loss(x.movedim(1, -1)[own].T[None], y[:, 0][own][None, None])
            for x, y, own in parts
            if own.any()
        ]
        return torch.stack(values).mean() if values else logits.sum() * 0


def _is_weight(number: Any) -> bool:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return is_number and 0 <= number < math.inf
