"""One bar for a whole training: epoch, loss, Dice and the time left."""

from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl

from medseg.progress import bar
from medseg.training.callbacks import History


class TrainingBar(pl.Callback):
    """Shows steps done and the time left, those of a resumed run's earlier starts included.

    Args:
        history: Knows the time of each step.
        max_seconds: Of training steps, if time ends the run; None: the trainer's epochs do.
    """

    def __init__(self, history: History, *, max_seconds: float | None):
        self.history = history
        self.max_seconds = max_seconds
        self._stack = ExitStack()
        self._step: Any = None

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Begins where the run is."""
        if self.max_seconds is None:
            total, done = float(trainer.estimated_stepping_batches), trainer.global_step
            own = bar(total, "training", unit="step", done=done)
        else:
            done = sum(self.history.step_seconds)
            own = bar(round(self.max_seconds), "training", unit="s", done=done)
        self._step = self._stack.enter_context(own)

    def on_train_batch_end(
        self, trainer: pl.Trainer, _module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Goes on by a step."""
        last = trainer.max_epochs if self.max_seconds is None else None
        epoch = f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last else "")
        dice = trainer.callback_metrics.get("val/dice")
        note = f"loss {float(outputs['loss']):.4g}"
        note += "" if dice is None else f", Dice {float(dice):.3f}"
        amount = 1 if self.max_seconds is None else self.history.step_seconds[-1]
        self._step(amount, what=epoch, note=note)

    def teardown(self, *_: Any, **__: Any) -> None:
        """Removes the bar, however training ends."""
        self._stack.close()
