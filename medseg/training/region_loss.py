"""Losses of regions that overlap: what a configuration says of classes, meant region by region."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from medseg.errors import ConfigError
from medseg.labelling import Labelling

_OWN = "medseg.training.loss.BinaryCrossEntropy"
_SUM = "medseg.training.loss.WeightedSum"
_OF_CLASSES = ("include_background", "to_onehot_y", "softmax", "use_softmax", "sigmoid")
_BY_SIGMOID = ("DiceLoss", "GeneralizedDiceLoss", "TverskyLoss", "DiceFocalLoss")
_OF_ENTROPY = ("weight", "label_smoothing")


def of_regions(options: Mapping[str, Any]) -> dict[str, Any]:
    """A loss of classes as the same loss of regions.

    Args:
        options: `_target_` and arguments.

    Raises:
        ConfigError: it has no such form.
    """
    target = str(options.get("_target_"))
    rest = {name: value for name, value in options.items() if name not in _OF_CLASSES}
    match target.rpartition(".")[2]:
        case "WeightedSum" if isinstance(parts := rest.get("losses"), Mapping):
            return rest | {"losses": {name: of_regions(part) for name, part in parts.items()}}
        case name if name in _BY_SIGMOID:
            return rest | {"sigmoid": True}
        case "FocalLoss" | "BinaryCrossEntropy":
            return rest
        case "TopKCrossEntropy":
            return {"share": 0.1} | rest | {"_target_": _OWN}
        case "DiceCELoss":  # MONAI's takes a softmax even where it is told `sigmoid`
            dice = {
                name: value
                for name, value in rest.items()
                if not name.startswith("lambda_") and name != "label_smoothing"
            }
            entropy = {name: rest[name] for name in _OF_ENTROPY if name in rest}
            weights = {"dice": rest.get("lambda_dice", 1.0), "entropy": rest.get("lambda_ce", 1.0)}
            losses = {
                "dice": dice | {"_target_": "monai.losses.DiceLoss", "sigmoid": True},
                "entropy": entropy | {"_target_": _OWN},
            }
            return {"_target_": _SUM, "weights": weights, "losses": losses}
        case name:
            raise ConfigError(
                f"loss={name} has no form for regions that overlap; choose dice_ce, dice_focal, "
                "dice_topk or tversky"
            )


class LossOfRegions(_Loss):
    """A loss that takes a mask of each region, given label values.

    Args:
        loss: Logits and masks `(N, regions, *S)` → scalar.
        labelling: Which label values a region has.
    """

    def __init__(self, loss: _Loss, labelling: Labelling):
        super().__init__()
        self.loss = loss
        self.labelling = labelling

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits `(N, regions, *S)` and labels `(N, 1, *S)` → scalar."""
        masks = [self.labelling.mask(label, index) for index in range(self.labelling.outputs)]
        return self.loss(logits, torch.cat(masks, 1).to(logits.dtype))
