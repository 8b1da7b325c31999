"""An ablation from its plan to its last run: prepare the data, launch, try again."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medseg.experiment.ledger import Entry, Ledger, unfinished
from medseg.experiment.plan import make_data
from medseg.record import PLAN_FILE, AblationPlan

log = logging.getLogger(__name__)

Launch = Callable[[Sequence[Sequence[str]]], None]
"""Starts jobs, each given by its overrides, and waits for them."""


def former_plan(folder: Path) -> AblationPlan | None:
    """The plan that lies in a folder; None if there is none.

    Raises:
        DataError: a file of its name is there that is no plan.
    """
    path = folder / PLAN_FILE
    return AblationPlan.read(path) if path.exists() else None


def carry_out(
    folder: Path, *, launch: Launch, configs: Callable[[Entry], dict[str, Any]], retries: int
) -> Ledger:
    """Launches what is not completed, and up to `retries` times more what is retryable.

    Args:
        folder: Of the ablation; its plan lies there.
        launch: Starts jobs and waits for them.
        configs: A run → its resolved configuration.
        retries: Further rounds for runs that were killed, or failed for lack of a resource.
    """
    ledger = Ledger.of(folder)
    waiting = unfinished(ledger.entries)
    log.info("%s", ledger.counts())
    if waiting:
        prepare_data([configs(entry) for entry in _one_of_each_arm(waiting)])
    for _ in range(1 + retries):
        if not waiting:
            break
        launch(
            [
                [*entry.cell.overrides, f"hydra.sweep.subdir={entry.cell.folder}"]
                for entry in waiting
            ]
        )
        ledger = Ledger.of(folder)
        waiting = [entry for entry in unfinished(ledger.entries) if entry.is_retryable]
    log.info("%s", ledger.counts())
    return ledger


def prepare_data(configs: Sequence[dict[str, Any]]) -> None:
    """Obtains and prepares every dataset of the grid once, before runs would wait for each other.

    Raises:
        DataError: a dataset that cannot be used; no run was started.
    """
    done: list[dict[str, Any]] = []
    for config in configs:
        if config["data"] not in done:
            done.append(config["data"])
            make_data(config).setup()


def _one_of_each_arm(entries: Sequence[Entry]) -> list[Entry]:
    first: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        first.setdefault(tuple(entry.cell.levels.values()), entry)
    return list(first.values())
