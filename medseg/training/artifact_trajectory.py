"""How artifacts that are locked to the strides come and go while a network learns."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.layers import input_moments
from medseg.checkerboard.probes import constant_response, cycle_spin_residual
from medseg.training.module import SegmentationModule

log = logging.getLogger(__name__)

Row = dict[str, float | None]


class ArtifactTrajectory(pl.Callback):
    """Measures the network before training and at every validation.

    `rows` have `epoch`, 0 before training; `dc_gain` and `dc_gain_mean`, the largest of the
    layers; `constant_response`; and `cycle_spin`. What a network does not allow is None.

    Args:
        module: What is being trained.
        window: A window of a real case, `(1, channels, *patch)`.
        period: Voxels per axis after which its patterns repeat.
        shifts: Forward passes of the cycle-spin residual.
        follows: Whether it measures; a run that goes on without keeps the rows that it has.
    """

    def __init__(
        self,
        module: SegmentationModule,
        window: Tensor,
        period: Sequence[int],
        *,
        shifts: int,
        follows: bool = True,
    ):
        self.follows = follows
        self.module = module
        self.window = window
        self.period = period
        self.shifts = shifts
        self.rows: list[Row] = []

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, so that a resumed run keeps them."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.rows = list(state_dict["rows"])

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Measures what initialisation makes."""
        if self.follows and not self.rows and trainer.global_step == 0:
            self._measure(trainer, 0)

    def on_validation_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        """Measures what was learned."""
        if self.follows and not trainer.sanity_checking:
            self._measure(trainer, trainer.current_epoch + 1)

    def _measure(self, trainer: pl.Trainer, epoch: int) -> None:
        values = self._values()
        self.rows.append({"epoch": epoch} | values)
        known = {f"artifacts/{key}": value for key, value in values.items() if value is not None}
        for logger in trainer.loggers:
            logger.log_metrics(known, step=trainer.global_step)

    @torch.no_grad()
    def _values(self) -> Row:
        network, period = self.module.network, self.period
        window = self.window.to(self.module.device)
        moments = _attempt(lambda: input_moments(network, [window]))
        layers = upsampling_rows(network, moments, only=["dc_gain", "dc_gain_mean"])
        spin = _attempt(lambda: cycle_spin_residual(network, window, period, shifts=self.shifts))
        return {
            "dc_gain": _largest(row.values["dc_gain"] for row in layers),
            "dc_gain_mean": _largest(row.values["dc_gain_mean"] for row in layers),
            "constant_response": _attempt(lambda: constant_response(network, window, period)),
            "cycle_spin": None if spin is None else spin.residual,
        }


def _largest(values: Any) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _attempt(measure: Callable[[], Any]) -> Any:
    """None where a foreign network does not allow a measure, for instance takes one size only."""
    try:
        return measure()
    except (RuntimeError, ValueError) as error:
        log.warning("not measured: %s", next(iter(str(error).splitlines()), "no reason given"))
        return None
