"""Losses as a configuration describes them: with weights of classes, without ignored voxels."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from medseg.build import build
from medseg.errors import ConfigError

# They compare neighbouring voxels, of which none may be left out.
_OF_NEIGHBOURHOODS = (
    "HausdorffDTLoss",
    "LogHausdorffDTLoss",
    "NACLLoss",
    "SoftDiceclDiceLoss",
    "SoftclDiceLoss",
)


def make_loss(options: Mapping[str, Any], num_classes: int) -> _Loss:
    """Builds a loss.

    Args:
        options: `_target_` and arguments of a loss of MONAI. `weight` is a list of one number for
            each class, or for each foreground class, where the background has 1.
        num_classes: Background included.

    Raises:
        ConfigError: an unknown loss or argument, or weights that do not fit.
    """
    weight = options.get("weight")
    rest = {key: value for key, value in options.items() if key != "weight"}
    if weight is None:
        return build(rest, "loss")
    name = str(rest.get("_target_")).rpartition(".")[2]
    # of MONAI's losses this one alone wants the background's weight even where it leaves that out
    has_background = rest.get("include_background", True) or name == "DiceCELoss"
    lengths = (num_classes - 1, num_classes) if has_background else (num_classes - 1,)
    if not isinstance(weight, list | tuple) or len(weight) not in lengths:
        raise ConfigError(
            f"loss.weight={weight} must be a list of {' or '.join(map(str, lengths))} numbers, "
            f"one for each {'class, with or without the' if has_background else 'class but the'} "
            "background"
        )
    if not all(_is_weight(number) for number in weight) or not any(weight):
        raise ConfigError(f"loss.weight={list(weight)} must be of numbers of at least 0, not all 0")
    full = [1.0] * (has_background and len(weight) < num_classes) + [float(w) for w in weight]
    return build(rest | {"weight": torch.tensor(full)}, "loss")


class LossOfCounted(_Loss):
    """A loss over the voxels of a batch that count, taken together.

    Args:
        loss: Logits `(N, classes, *S)` and labels `(N, 1, *S)` → scalar.
        num_classes: Background included; the label of a voxel that is ignored.

    Raises:
        ConfigError: a loss that compares neighbouring voxels.
    """

    def __init__(self, loss: _Loss, num_classes: int):
        super().__init__()
        if type(loss).__name__ in _OF_NEIGHBOURHOODS:
            raise ConfigError(
                f"loss={type(loss).__name__} compares neighbouring voxels, and some of them are "
                "labelled ignore; use another loss, such as dice_ce"
            )
        self.loss = loss
        self.num_classes = num_classes

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Loss of a batch; 0, with gradient 0, where no voxel counts."""
        counts = label[:, 0] < self.num_classes
        if counts.all():
            return self.loss(logits, label)
        if not counts.any():
            return logits.sum() * 0
        return self.loss(logits.movedim(1, -1)[counts].T[None], label[:, 0][counts][None, None])


def _is_weight(number: Any) -> bool:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return is_number and 0 <= number < math.inf
