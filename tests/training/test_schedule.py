"""The rates of a run that is trained longer, whatever its schedule."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from monai.losses import DiceLoss
from torch import nn
from torch.optim import lr_scheduler

from medseg.labelling import Labelling
from medseg.training.module import SegmentationModule

STOPPED, LONGER = 3, 7
SCHEDULES = {
    "poly": lambda n: partial(lr_scheduler.PolynomialLR, total_iters=n, power=0.9),
    "cosine": lambda n: partial(lr_scheduler.CosineAnnealingLR, T_max=n),
    "restarts": lambda n: partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=n),
    "steps": lambda n: partial(lr_scheduler.StepLR, step_size=max(1, n // 3)),
    "milestones": lambda n: partial(lr_scheduler.MultiStepLR, milestones=[n // 2, n - 1]),
    "exponential": lambda n: partial(lr_scheduler.ExponentialLR, gamma=0.1 ** (1 / n)),
    "linear": lambda n: partial(lr_scheduler.LinearLR, end_factor=0.1, total_iters=n),
    "constant": lambda n: partial(lr_scheduler.ConstantLR, factor=0.5, total_iters=n),
    "one cycle": lambda n: partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=n + 1),
    "cyclic": lambda n: partial(
        lr_scheduler.CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=n, cycle_momentum=False
    ),
}


def module_of(name: str, epochs: int) -> SegmentationModule:
    torch.manual_seed(0)
    return SegmentationModule(
        network=nn.Conv2d(1, 2, 3, padding=1),
        loss=DiceLoss(to_onehot_y=True, softmax=True),
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        scheduler=SCHEDULES[name](epochs),
        labelling=Labelling(("a",)),
        patch_size=[8, 8],
    )


class Rates(pl.Callback):
    """Notes rate and momentum of every epoch."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        (group,) = trainer.optimizers[0].param_groups
        self.seen.append((group["lr"], group["momentum"]))


def fit(name: str, epochs: int, folder: Path, last: Path | None = None) -> list:
    """Rates of the epochs that are trained; the last checkpoint goes to the folder."""
    image = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "label": (image > 0.5).float()}
    rates = Rates()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[rates],
    )
    module = module_of(name, epochs)
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    trainer.fit(module, loader, ckpt_path=last, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return rates.seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_epochs_to_come_have_the_rates_of_the_new_length(name: str, tmp_path: Path) -> None:
    whole = fit(name, LONGER, tmp_path)
    fit(name, STOPPED, tmp_path)
    rest = fit(name, LONGER, tmp_path, tmp_path / "last.ckpt")
    assert len(rest) == LONGER - STOPPED
    assert rest == [pytest.approx(pair) for pair in whole[STOPPED:]]
