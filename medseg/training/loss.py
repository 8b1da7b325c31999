"""Losses as a configuration describes them: with weights of classes, without ignored voxels.

Most are MONAI's; here stands what it does not have. Of regions that overlap (`medseg.labelling`),
the same options mean the same losses region by region: a sigmoid in place of the softmax, binary
cross-entropy in place of cross-entropy, and no background.
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
from medseg.labelling import Labelling
from medseg.training.region_loss import LossOfRegions, of_regions

# They compare neighbouring voxels, of which none may be left out.
_OF_NEIGHBOURHOODS = (
    "BoundaryLoss",
    "HausdorffDTLoss",
    "LogHausdorffDTLoss",
    "NACLLoss",
    "SoftDiceclDiceLoss",
    "SoftclDiceLoss",
)


def make_loss(options: Mapping[str, Any], labelling: Labelling) -> _Loss:
    """Builds a loss: logits `(N, outputs, *S)` and labels `(N, 1, *S)` → scalar.

    Args:
        options: `_target_` and arguments of a loss. `weight` is a list of one number for
            each class, or for each foreground class, where the background has 1; or for each
            region.
        labelling: What outputs and labels mean.

    Raises:
        ConfigError: an unknown loss or argument, one that has no form for regions, or weights
            that do not fit.
    """
    if labelling.overlap:
        return LossOfRegions(_made(of_regions(options), labelling, "loss"), labelling)
    return _made(options, labelling, "loss")


def _made(options: Mapping[str, Any], labelling: Labelling, key: str) -> _Loss:
    weight = options.get("weight")
    rest = {name: value for name, value in options.items() if name != "weight"}
    if isinstance(parts := rest.get("losses"), Mapping):
        rest["losses"] = {n: _made(o, labelling, f"{key}.losses.{n}") for n, o in parts.items()}
    if weight is None:
        return build(rest, key)
    name = str(rest.get("_target_")).rpartition(".")[2]
    # of MONAI's losses this one alone wants the background's weight even where it leaves that out
    has_background = rest.get("include_background", True) or name == "DiceCELoss"
    has_background = has_background and not labelling.overlap
    classes = len(labelling.names)
    lengths = (classes, classes + 1) if has_background else (classes,)
    if not isinstance(weight, list | tuple) or len(weight) not in lengths:
        each = "class, with or without the" if has_background else "class but the"
        raise ConfigError(
            f"{key}.weight={weight} must be a list of {' or '.join(map(str, lengths))} numbers, "
            f"one for each {'region' if labelling.overlap else f'{each} background'}"
        )
    # where every voxel of a batch weighs 0, the mean over weights is 0 / 0
    if not all(_is_weight(number) and number for number in weight):
        raise ConfigError(
            f"{key}.weight={list(weight)} must be of numbers above 0; voxels of a class are left "
            "out with data.labels={2: ignore} for instance"
        )
    full = [1.0] * (has_background and len(weight) == classes) + [float(w) for w in weight]
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


class _OfHardest(_Loss):
    """Mean of the largest values of a batch."""

    def __init__(self, share: float, weight: Tensor | None, label_smoothing: float):
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"share={share} must be above 0 and at most 1")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing} must be from 0 to 1")
        self.share = share
        self.weight: Tensor | None
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    def _mean(self, values: Tensor) -> Tensor:
        if self.share == 1:
            return values.mean()
        count = max(1, round(self.share * values.numel()))
        return values.flatten().topk(count, sorted=False).values.mean()


class TopKCrossEntropy(_OfHardest):
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
        super().__init__(share, weight, label_smoothing)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Logits `(N, classes, *S)` and labels `(N, 1, *S)` → scalar."""
        by_voxel = functional.cross_entropy(
            logits,
            label[:, 0].long(),
            self.weight,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        return self._mean(by_voxel)


class BinaryCrossEntropy(_OfHardest):
    """Mean over voxels and regions of the binary cross-entropy, or over its largest values.

    Args:
        share: Of the values, the largest of which are taken, above 0, at most 1.
        weight: One number for each region, by which its values are multiplied.
        label_smoothing: How far targets are drawn from 0 and 1 to one half, from 0 to 1.
    """

    def __init__(
        self, share: float = 1.0, weight: Tensor | None = None, label_smoothing: float = 0.0
    ):
        super().__init__(share, weight, label_smoothing)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Logits and masks, 0 or 1, `(N, regions, *S)` → scalar."""
        target = masks * (1 - self.label_smoothing) + self.label_smoothing / 2
        weight = None
        if self.weight is not None:
            weight = self.weight.reshape(-1, *[1] * (logits.ndim - 2))
        values = functional.binary_cross_entropy_with_logits(
            logits, target, weight, reduction="none"
        )
        return self._mean(values)


class LossOfCounted(_Loss):
    """A loss over the voxels of a batch that count.

    They are taken together, or patch by patch where a part of the loss is (`batch=false`).

    Args:
        loss: Logits `(N, outputs, *S)` and labels `(N, 1, *S)` → scalar.
        ignored: The label of a voxel that does not count; those above are ignored as well.

    Raises:
        ConfigError: a loss that compares neighbouring voxels.
    """

    def __init__(self, loss: _Loss, ignored: int):
        super().__init__()
        names = [type(part).__name__ for part in loss.modules()]
        if found := next((name for name in names if name in _OF_NEIGHBOURHOODS), None):
            raise ConfigError(
                f"loss={found} compares neighbouring voxels, and some of them are "
                "labelled ignore; use another loss, such as dice_ce"
            )
        self.by_patch = any(getattr(part, "batch", None) is False for part in loss.modules())
        self.loss = loss
        self.ignored = ignored

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Loss of a batch; 0, with gradient 0, where no voxel counts."""
        counts = label[:, 0] < self.ignored
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
