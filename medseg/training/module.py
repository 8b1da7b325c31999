"""The optimisation of one network, for Lightning."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from medseg.analysis.cost import training_call
from medseg.inference.sliding_window import VALIDATION_OVERLAP, slide
from medseg.labelling import Labelling
from medseg.metrics import dice
from medseg.training.execution import executed
from medseg.training.loss import LossOfCounted
from medseg.training.ranks import are_several, gathered, of_all, whole_batch
from medseg.training.schedule import after_epochs


class SegmentationModule(pl.LightningModule):
    """Patches in, gradient steps out; validation slides over whole volumes.

    Args:
        network: Image `(N, channels, *S)` → logits `(N, outputs, *S)`.
        loss: Logits and labels `(N, 1, *S)` → scalar.
        optimizer: Parameters → optimiser.
        scheduler: Optimiser → learning-rate schedule, stepped once an epoch.
        labelling: What outputs and labels mean.
        patch_size: Window of validation in voxels.
        deep_supervision: Train on the logits of every decoder stage, each weighted half of the
            next finer one (Isensee et al. 2021); needs a `MultiscaleNetwork`.
        way: In which a step is carried out (`medseg.training.execution`).
        ignores: Whether some voxels are labelled `labelling.ignored`, which leaves them out of
            the loss; in validation they are left out in any case.
        description: Plain data that rebuilds network and preprocessing; stored in checkpoints.

    Logs `train/loss`, `val/dice` (mean over classes or regions and cases of what is defined) and
    `val/dice_<class>`.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        loss: _Loss,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        labelling: Labelling,
        patch_size: Sequence[int],
        deep_supervision: bool = False,
        way: str = "plain",
        ignores: bool = False,
        description: dict | None = None,
    ):
        super().__init__()
        self.network = network
        loss = LossOfCounted(loss, labelling.ignored) if ignores else loss
        self.loss = DeepSupervisionLoss(loss, weight_mode="exp") if deep_supervision else loss
        self._optimizer = optimizer
        self._scheduler = scheduler
        self.labelling = labelling
        self.patch_size = tuple(patch_size)
        call = training_call(network, deep_supervision=deep_supervision)
        self._call = executed(way, network, call)
        self.description = description or {}
        self._dice: list[list[float | None]] = []

    def on_train_start(self) -> None:
        """Gives a run that goes on the rate that its schedule has for the epoch to come.

        A checkpoint holds the schedule as it was: of a run that is trained longer, the rate would
        have reached its end. The epochs that are done are gone through by the new schedule.
        """
        done = self.trainer.current_epoch
        if not done:
            return
        optimizer, schedule = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0]
        planned, steps = after_epochs(self._optimizer, self._scheduler, done)
        if steps.state_dict() == schedule.scheduler.state_dict():
            return
        schedule.scheduler.load_state_dict(steps.state_dict())
        for own, new in zip(optimizer.param_groups, planned.param_groups, strict=True):
            own.update({key: value for key, value in new.items() if key != "params"})

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        """Loss of one batch of patches, those of all processes together."""
        logits, label = self._training_logits(batch["image"]), batch["label"]
        if several := are_several():
            of_each = [*map(whole_batch, logits if isinstance(logits, list) else [logits])]
            logits = of_each if isinstance(logits, list) else of_each[0]
            label = whole_batch(label)
        loss = self.loss(logits, label)
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": several}
        self.log("train/loss", loss, batch_size=len(label), **options)
        return of_all(loss) if several else loss

    def validation_step(self, batch: dict, _index: int) -> None:
        """Dice of one whole volume, per class."""
        if not batch["counts"]:
            return
        logits = slide(self.network, batch["image"], self.patch_size, overlap=VALIDATION_OVERLAP)
        label = batch["label"][:, 0]
        labelling = self.labelling
        prediction = labelling.label_map(logits, 1).masked_fill(label >= labelling.ignored, 0)
        self._dice.append(
            [
                dice(labelling.mask(prediction, index), labelling.mask(label, index))
                for index in range(len(labelling.names))
            ]
        )

    def on_validation_epoch_end(self) -> None:
        """Means over the cases in which a class is defined."""
        per_class = [_mean(values) for values in zip(*gathered(self._dice), strict=True)]
        self._dice.clear()
        several = are_several()
        for name, value in zip(self.labelling.names, per_class, strict=True):
            self.log(f"val/dice_{name}", value, sync_dist=several)
        self.log("val/dice", _mean([v for v in per_class if v == v]), sync_dist=several)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Stores what rebuilds the network: plain data, so that loading runs no code."""
        checkpoint["description"] = self.description

    def configure_optimizers(self) -> Any:
        """One optimiser, one schedule."""
        optimizer = self._optimizer(self.network.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self._scheduler(optimizer)}

    def _training_logits(self, image: Tensor) -> Tensor | list[Tensor]:
        logits = self._call(self.network, image)
        return [own.float() for own in logits] if isinstance(logits, list) else logits.float()


def _mean(values: Sequence[float | None]) -> float:
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else float("nan")
