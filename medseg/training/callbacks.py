"""What happens beside the gradient steps: seeds, history, signals, signs of life, time."""

import logging
import math
import signal
import statistics
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from medseg.errors import MedsegError, SignalError
from medseg.training.schedule import schedule_factors

log = logging.getLogger(__name__)

_SECONDS = 30.0  # between two signs within an epoch
_LOOKS = 1.0  # seconds between two looks at the loss


class SeedEachEpoch(pl.Callback):
    """Makes every epoch a function of seed and epoch number: a resumed run is the same run."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Seeds dropout and whatever else draws from the global generators."""
        pl.seed_everything(self.seed + trainer.current_epoch, workers=True, verbose=False)


class History(pl.Callback):
    """Keeps one row of numbers per epoch and logs it as one plain line.

    `rows` have `epoch` from 1, `train_loss`, `val_dice`, `val_dice_<class>`, `lr`, `seconds`, and
    `waiting`, the share of them that was spent waiting for patches.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float | None]] = []
        self.step_seconds: list[float] = []
        self._epoch_start = self._step_start = self._lr = self._waited = 0.0

    @property
    def dice(self) -> list[float]:
        """Mean Dice of the validations so far in which it was defined."""
        return [dice for row in self.rows if (dice := row.get("val_dice")) is not None]

    @property
    def median_step_seconds(self) -> float | None:
        """Median time of a training step, loading included; None before the first.

        Short steps count together, by the second: a GPU is waited for about once in it
        (`StopOnDivergence`), and single steps between tell how fast work is handed to it.
        """
        means, some = [], []
        for seconds in self.step_seconds:
            some.append(seconds)
            if sum(some) >= _LOOKS:
                means.append(statistics.mean(some))
                some = []
        return statistics.median(means or self.step_seconds) if self.step_seconds else None

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, so that a resumed run keeps them."""
        return {"rows": self.rows, "step_seconds": self.step_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        rows = state_dict["rows"]
        first = 1 - int(rows[0]["epoch"]) if rows else 0  # older checkpoints count from 0
        self.rows = [row | {"epoch": row["epoch"] + first} for row in rows]
        self.step_seconds = list(state_dict["step_seconds"])

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Starts the clocks and notes the learning rate."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]
        self._epoch_start = self._step_start = time.perf_counter()
        self._waited = _waited(trainer)

    def waiting(self, trainer: pl.Trainer) -> float:
        """Share of the epoch so far in which the network waited for patches, in [0, 1]."""
        seconds = time.perf_counter() - self._epoch_start
        return min(1.0, (_waited(trainer) - self._waited) / max(seconds, 1e-9))

    def on_train_batch_end(self, *_: Any) -> None:
        """Notes a step's time."""
        now = time.perf_counter()
        self.step_seconds.append(now - self._step_start)
        self._step_start = now

    def on_train_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Adds the epoch's row."""
        row: dict[str, float | None] = {"epoch": trainer.current_epoch + 1}
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        for name, value in trainer.callback_metrics.items():
            if name.startswith("lr-") or (name.startswith("val/") and not validated):
                continue  # the monitor's own name for it; Lightning keeps the former epoch's value
            number = float(value)
            row[name.replace("/", "_")] = number if math.isfinite(number) else None
        row["lr"] = self._lr
        row["seconds"] = time.perf_counter() - self._epoch_start
        row["waiting"] = self.waiting(trainer)
        self.rows.append(row)
        numbers = "  ".join(f"{k} {_short(v)}" for k, v in row.items() if k != "epoch")
        log.info("epoch %d/%s  %s", trainer.current_epoch + 1, trainer.max_epochs, numbers)


def _waited(trainer: pl.Trainer) -> float:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return data.waited if data is not None else 0.0


class StopOnSignal(pl.Callback):
    """Ends a run on SIGINT or SIGTERM after the step in hand, by raising `SignalError`.

    Lightning ends with exit status 0 on SIGTERM, which a scheduler takes for success. A second
    signal stops at once. The last finished epoch's checkpoint stands: a checkpoint from the
    middle of an epoch could not be continued with the same patches.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def setup(self, *_: Any, **__: Any) -> None:
        """Installs the handlers."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._former[signum] = signal.signal(signum, self._note)

    def on_train_batch_end(self, *_: Any) -> None:
        """Raises `SignalError` if a signal came during the step."""
        self.raise_if_received()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Raises `SignalError` if a signal came during validation."""
        self.raise_if_received()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Gives the handlers back."""
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
        self._former.clear()

    def raise_if_received(self) -> None:
        """Raises `SignalError` if a signal was received."""
        if self.received is not None:
            raise SignalError(self.received)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self.raise_if_received()
        self.received = signum
        log.warning("signal %d: stopping after this step; once more to stop at once", signum)


class DivergedError(MedsegError):
    """The loss is no longer a number."""


class StopOnDivergence(pl.Callback):
    """Ends a run whose loss is not finite, instead of training on to a useless network.

    The sum of the losses is looked at once a second and at an epoch's end: to look at every step
    would have a GPU wait for the next.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._looked = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, _module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Raises `DivergedError` if a step's loss was NaN or infinite."""
        loss = outputs["loss"].detach()
        total = loss if self._sum is None else self._sum + loss
        if time.monotonic() - self._looked < _LOOKS and not trainer.is_last_batch:
            self._sum = total
            return
        self._sum, self._looked = None, time.monotonic()
        if not math.isfinite(found := float(total)):
            raise DivergedError(
                f"loss={found} at step {trainer.global_step}; "
                "lower optimizer.lr or set trainer.precision=fp32"
            )


class Heartbeat(pl.Callback):
    """Reports the progress of training: at its start, after every epoch, and every half minute.

    Args:
        report: Is called with the share that is done, in [0, 1], and the seconds spent on it.
        history: Knows the time of each step.
        max_seconds: Of training steps, if time ends the run; None: the trainer's epochs do.
    """

    def __init__(
        self,
        report: Callable[[float, float], None],
        history: History,
        *,
        max_seconds: float | None,
    ):
        self.report = report
        self.history = history
        self.max_seconds = max_seconds
        self._reported = self._began = 0.0
        self._before = 0.0

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Reports that training begins, or is resumed."""
        self._began = time.perf_counter()
        self._before = sum(row["seconds"] or 0.0 for row in self.history.rows)
        self._report(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Reports within a long epoch."""
        self._report_if_due(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Reports within a long validation."""
        self._report_if_due(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Reports the end of an epoch."""
        self._report(trainer)

    def _report_if_due(self, trainer: pl.Trainer) -> None:
        if time.perf_counter() - self._reported > _SECONDS:
            self._report(trainer)

    def _report(self, trainer: pl.Trainer) -> None:
        self._reported = time.perf_counter()
        if self.max_seconds is not None:
            share = sum(self.history.step_seconds) / self.max_seconds
        else:
            share = trainer.global_step / max(1.0, float(trainer.estimated_stepping_batches))
        self.report(min(1.0, share), self._before + self._reported - self._began)


def is_time_over(passed: float, done: int, seconds: float) -> bool:
    """Whether an end after `done` epochs, which took `passed` seconds, is the nearest to `seconds`.

    >>> is_time_over(8.0, 2, 10.0), is_time_over(9.0, 2, 10.0)
    (False, True)
    """
    return done > 0 and passed + 0.5 * passed / done > seconds


class TimeBudget(pl.Callback):
    """Ends training at the epoch whose end is nearest to `seconds` of training steps.

    The learning rate follows its schedule by time: it has the shape that `epochs` give it and
    ends with the time, whatever the number of epochs. Validation is not
    counted, so that it may be as frequent as wanted. The first and the last epoch
    are validated.

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

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Trains no further epoch in a run whose time is over."""
        passed, done = sum(self.history.step_seconds), trainer.current_epoch
        if is_time_over(passed, done, self.seconds):
            trainer.should_stop = True

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


def _short(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
