"""Signs of life of a run, for whoever waits for it."""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from medseg.training.callbacks import History

_SECONDS = 30.0  # between two signs within an epoch


class Heartbeat(pl.Callback):
    """Tells how far training has come: when it starts, after every epoch, and every half minute.

    Args:
        tell: Is called with the share that is done, in [0, 1], and the seconds spent on it.
        history: Knows the time of each step.
        max_seconds: Of training steps, if time ends the run; None: the trainer's epochs do.
    """

    def __init__(
        self,
        tell: Callable[[float, float], None],
        history: History,
        *,
        max_seconds: float | None,
    ):
        self.tell = tell
        self.history = history
        self.max_seconds = max_seconds
        self._told = self._began = 0.0
        self._before = 0.0

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Says that training begins, or goes on."""
        self._began = time.perf_counter()
        self._before = sum(row["seconds"] or 0.0 for row in self.history.rows)
        self._tell(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Says so within a long epoch."""
        self._tell_now_and_then(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Says so within a long validation."""
        self._tell_now_and_then(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Says that an epoch is over."""
        self._tell(trainer)

    def _tell_now_and_then(self, trainer: pl.Trainer) -> None:
        if time.perf_counter() - self._told > _SECONDS:
            self._tell(trainer)

    def _tell(self, trainer: pl.Trainer) -> None:
        self._told = time.perf_counter()
        if self.max_seconds is not None:
            share = sum(self.history.step_seconds) / self.max_seconds
        else:
            share = trainer.global_step / max(1.0, float(trainer.estimated_stepping_batches))
        self.tell(min(1.0, share), self._before + self._told - self._began)
