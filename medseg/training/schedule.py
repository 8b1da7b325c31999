"""Learning rates of epochs that are not trained here."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
MakeSchedule = Callable[[torch.optim.Optimizer], Any]


def after_epochs(
    make_optimizer: MakeOptimizer, make_schedule: MakeSchedule, epochs: int
) -> tuple[torch.optim.Optimizer, Any]:
    """An optimiser of one number, and its schedule, as they are after so many epochs."""
    optimizer = make_optimizer([nn.Parameter(torch.zeros(1))])
    schedule = make_schedule(optimizer)
    with warnings.catch_warnings():
        # the optimiser takes no steps here: some need the loss for them
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for _ in range(epochs):
            schedule.step()
    return optimizer, schedule


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
