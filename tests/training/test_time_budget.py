"""Training for a given time: when it ends, and how its learning rate falls."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, PolynomialLR

from medseg.training.callbacks import History, TimeBudget
from medseg.training.schedule import schedule_factors

POLY = partial(PolynomialLR, total_iters=10, power=1.0)


def simulate(seconds: float, epoch_seconds: list[float], **changes: Any) -> list[dict]:
    """One row per epoch of a training whose epochs take so many seconds."""
    history = History()
    budget = TimeBudget(seconds, history, POLY, **{"epochs": 10, "validate_every": 3} | changes)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    trainer: Any = SimpleNamespace(
        current_epoch=0,
        optimizers=[optimizer],
        fit_loop=SimpleNamespace(max_epochs=-1),
        check_val_every_n_epoch=3,
        should_stop=False,
    )
    rows = []
    for epoch, length in enumerate(epoch_seconds):
        trainer.current_epoch = epoch
        module: Any = None
        budget.on_train_epoch_start(trainer, module)
        history.step_seconds += [length / 4] * 4
        budget.on_train_epoch_end(trainer, module)
        validated = (epoch + 1) % trainer.check_val_every_n_epoch == 0
        rows.append({"lr": optimizer.param_groups[0]["lr"], "validated": validated})
        if trainer.fit_loop.max_epochs == epoch + 1 or trainer.should_stop:
            break
    return rows


def test_equal_epochs_end_at_the_nearest_one() -> None:
    assert len(simulate(10.0, [1.0] * 99)) == 10
    assert len(simulate(10.4, [1.0] * 99)) == 10
    assert len(simulate(10.6, [1.0] * 99)) == 11


def test_the_learning_rate_falls_with_time_not_with_epochs() -> None:
    fast, slow = simulate(10.0, [0.5] * 99), simulate(10.0, [2.0] * 99)
    assert len(fast) == 20
    assert len(slow) == 5
    assert [row["lr"] for row in fast[::4]] == pytest.approx([row["lr"] for row in slow])
    assert slow[0]["lr"] == 0.5


@given(
    lengths=st.lists(st.floats(0.2, 3.0), min_size=60, max_size=60),
    seconds=st.floats(0.1, 20.0),
    every=st.integers(1, 9),
)
def test_the_first_and_the_last_epoch_are_validated_and_time_is_kept(
    lengths, seconds, every
) -> None:
    rows = simulate(seconds, lengths, validate_every=every)
    assert rows[0]["validated"]
    spent = sum(lengths[: len(rows)])
    assert rows[-1]["validated"] or spent >= seconds
    # half an epoch too early where all take as long; the last one may be shorter than those before
    assert seconds - spent <= 1.5 * max(lengths) - min(lengths) + 1e-9
    assert sum(lengths[: len(rows) - 1]) < seconds


@pytest.mark.parametrize("schedule", [POLY, partial(CosineAnnealingLR, T_max=10)])
def test_the_shape_is_that_of_the_schedule_itself(schedule) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.25)
    steps, rates = schedule(optimizer), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    assert [0.25 * factor for factor in schedule_factors(schedule, 10)] == pytest.approx(rates)
