"""Training for a given time instead of a given number of epochs."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from medseg.training.callbacks import History


class TimeBudget(pl.Callback):
    """Ends training at the epoch whose end is nearest to `seconds` of training steps.

    The schedule of the learning rate is walked by time: it has the shape that `epochs` give it,
    and reaches its end when the time is up, however many epochs that were. Validation is not
    counted, so that arms may be looked at as closely as one likes. The first and the last epoch
    are validated, so that there is always a best checkpoint.

    Args:
        seconds: Of training steps, those before a restart included.
        history: Knows the time of each step.
        schedule: Optimiser → schedule, as it would be for `epochs` epochs.
        epochs: Over which the schedule is laid out.
        validate_every: Epochs between validations.
    """

    def __init__(
        self,
        seconds: float,
        history: History,
        schedule: Callable[[torch.optim.Optimizer], Any],
        *,
        epochs: int,
        validate_every: int,
    ):
        self.seconds = seconds
        self.history = history
        self.validate_every = validate_every
        self.factors = schedule_factors(schedule, epochs)

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Sets the learning rate for the time that has passed, and notices the last epoch."""
        passed, done = sum(self.history.step_seconds), trainer.current_epoch
        place = min(int(passed / self.seconds * len(self.factors)), len(self.factors) - 1)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self.factors[place]
        is_last = done > 0 and passed + 1.5 * passed / done > self.seconds
        if is_last:
            trainer.fit_loop.max_epochs = done + 1
        trainer.check_val_every_n_epoch = 1 if is_last or done == 0 else self.validate_every

    def on_train_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Stops after a first epoch that took all the time there was."""
        if sum(self.history.step_seconds) >= self.seconds:
            trainer.should_stop = True


def schedule_factors(schedule: Callable[[torch.optim.Optimizer], Any], epochs: int) -> list[float]:
    """The learning rate of each epoch, as a multiple of the first one.

    >>> from functools import partial
    >>> from torch.optim.lr_scheduler import PolynomialLR
    >>> schedule_factors(partial(PolynomialLR, total_iters=4, power=1.0), 4)
    [1.0, 0.75, 0.5, 0.25]
    """
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    steps = schedule(optimizer)
    factors = []
    for _ in range(epochs):
        factors.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        steps.step()
    return factors
