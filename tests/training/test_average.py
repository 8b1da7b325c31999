"""The average of the weights: its closed form, and what sees it."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from medseg.training.callbacks import History, StopOnSignal
from medseg.training.ranks import Rank
from medseg.training.trainer import LAST, TrainingPlan, make_trainer

DECAY = 0.5
STEPS = 6


class Counter(pl.LightningModule):
    """Its only weight is the number of steps done, so is a buffer; notes what validation sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("statistic", torch.zeros(1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.long))
        self.trained: list[float] = []
        self.validated: list[float] = []

    def training_step(self, *_: Any) -> torch.Tensor:
        self.trained.append(self.weight.item())
        self.statistic += 1
        self.count += 1
        return -self.weight.sum()

    def validation_step(self, *_: Any) -> None:
        self.validated.append(self.weight.item())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Counter, dict[str, Any]]:
    module = Counter()
    trainer = make_trainer(
        TrainingPlan(epochs=2, ema=DECAY, device="cpu", gradient_clip=None),
        folder=tmp_path,
        precision="fp32",
        seed=0,
        history=History(),
        callbacks=[StopOnSignal()],
        loggers=[],
        rank=Rank(),
    )
    batches = DataLoader(torch.zeros(STEPS // 2, 1))
    trainer.fit(module, batches, DataLoader(torch.zeros(1, 1)))
    return module, torch.load(tmp_path / LAST, weights_only=True)


def averages() -> list[float]:
    """After each step: the first is copied, then `min(decay, (1 + t) / (10 + t))` of it is kept."""
    found = [1.0]
    for step in range(1, STEPS):
        kept = min(DECAY, (1 + step) / (10 + step))
        found.append(kept * found[-1] + (1 - kept) * (step + 1))
    return found


def test_training_goes_on_from_the_raw_weights_and_validation_sees_the_average(
    fitted: tuple[Counter, dict[str, Any]],
) -> None:
    module, checkpoint = fitted
    assert module.trained == list(range(STEPS))
    assert module.validated == pytest.approx([averages()[STEPS // 2 - 1], averages()[-1]])
    average, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    for key in ("weight", "statistic"):
        assert average[key].item() == pytest.approx(averages()[-1])
    assert average["count"].item() == STEPS  # a whole number is no mean
    assert module.weight.item() == pytest.approx(averages()[-1])
    assert raw["weight"].item() == raw["statistic"].item() == raw["count"].item() == STEPS
