"""The average of the weights over the steps of a training."""

from functools import partial

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
        super().__init__(device=device, avg_fn=partial(_averaged, decay=decay))


def decay_after(steps: Tensor, decay: float) -> Tensor:
    """The decay of a step: smaller at first, `(1 + steps) / (10 + steps)`.

    So the average reaches back over a ninth of the steps done at most, and has forgotten the first
    weights however short a training is; 0.99 is reached after 890 steps.

    >>> decay_after(torch.tensor([0.0, 300.0, 2000.0]), 0.99)
    tensor([0.1000, 0.9710, 0.9900])
    """
    return ((1 + steps) / (10 + steps)).clamp(max=decay)


def _averaged(average: Tensor, current: Tensor, steps: Tensor | int, *, decay: float) -> Tensor:
    if not average.is_floating_point():
        return current
    kept = decay_after(torch.as_tensor(steps, device=average.device), decay)
    return torch.lerp(current, average, kept.to(average.dtype))
