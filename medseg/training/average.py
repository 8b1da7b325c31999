"""The average of the weights over the steps of a training."""

from collections.abc import Sequence
from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class AveragedWeights(WeightAveraging):
    """Keeps an exponential moving average of weights and buffers, updated after every step.

    Validation sees the average, training does not. In a checkpoint `state_dict` is the average, so
    that whatever reads a checkpoint's network has it, and `current_model_state` the raw weights
    that training goes on from. Statistics of batch norm are averaged like weights; whole numbers
    are those of the last step.

    Args:
        decay: Share that the average so far keeps at a step, between 0 and 1.
        device: Of the training. Lightning would leave the average on the CPU, as it is made before
            the network is moved, and copy all weights there at every step.

    Reference: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging"; the
    beginning as in `tf.train.ExponentialMovingAverage(num_updates=...)`.
    """

    def __init__(self, decay: float, device: torch.device):
        super().__init__(device=device, multi_avg_fn=partial(_average, decay=decay))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Counts steps on the CPU: torch asks at each whether it is the first, and would wait."""
        super().setup(trainer, pl_module, stage)
        if (average := self._average_model) is not None:
            average.n_averaged = average.n_averaged.cpu()


def decay_after(steps: Tensor, decay: float) -> Tensor:
    """The decay of a step: smaller at first, `(1 + steps) / (10 + steps)`.

    So the average reaches back over a ninth of the steps done at most, and has forgotten the first
    weights however short a training is; 0.99 is reached after 890 steps.

    >>> decay_after(torch.tensor([0.0, 300.0, 2000.0]), 0.99)
    tensor([0.1000, 0.9710, 0.9900])
    """
    return ((1 + steps) / (10 + steps)).clamp(max=decay)


def _average(
    averages: Sequence[Tensor], currents: Sequence[Tensor], steps: Tensor, *, decay: float
) -> None:
    """Takes the weights of one more step into their averages, all of one device and dtype."""
    kept = decay_after(steps, decay)
    for average, current in zip(averages, currents, strict=True):
        if average.is_floating_point():
            torch.lerp(current, average, kept.to(average.dtype), out=average)
        else:
            average.copy_(current)
