"""An ablation from its grid to its last run: plan, prepare the data, launch, try again."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medseg.errors import DataError
from medseg.experiment.ledger import Entry, Ledger, unfinished
from medseg.experiment.plan import make_data
from medseg.record import PLAN_FILE, AblationPlan

log = logging.getLogger(__name__)

Launch = Callable[[Sequence[Sequence[str]]], None]


def former_plan(folder: Path) -> AblationPlan | None:
    """The plan that lies in a folder; None if there is none, or none that can be read."""
    path = folder / PLAN_FILE
    if not path.is_file():
        return None
    try:
        return AblationPlan.read(path)
    except DataError as error:
        log.warning("%s", error)
        return None


def carry_out(
    folder: Path, *, launch: Launch, configs: Callable[[Entry], dict[str, Any]], retries: int
) -> Ledger:
    """Launches what is not completed, and once more, up to `retries` times, what may mend.

    Args:
        folder: Of the ablation; its plan lies there.
        launch: Starts jobs, each given by its overrides, and waits for them.
        configs: A run → its resolved configuration.
        retries: Further rounds for runs that were killed, or failed for lack of a resource.
    """
    ledger = Ledger.of(folder)
    waiting = unfinished(ledger.entries)
    say(ledger)
    if waiting:
        prepare_data([configs(entry) for entry in one_of_each_arm(waiting)])
    for _ in range(1 + retries):
        if not waiting:
            break
        launch([_job(entry) for entry in waiting])
        ledger = Ledger.of(folder)
        waiting = [entry for entry in unfinished(ledger.entries) if entry.may_mend]
    say(ledger)
    return ledger


def one_of_each_arm(entries: Sequence[Entry]) -> list[Entry]:
    """The first run of every arm."""
    first: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        first.setdefault(tuple(entry.cell.levels.values()), entry)
    return list(first.values())


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


def say(ledger: Ledger) -> None:
    """One line of what is done and what is not."""
    states = dict.fromkeys(entry.state for entry in ledger.entries)
    counts = ", ".join(f"{ledger.count(state)} {state}" for state in states)
    log.info("%d runs: %s", len(ledger.entries), counts)


def _job(entry: Entry) -> list[str]:
    return [*entry.cell.overrides, f"hydra.sweep.subdir={entry.cell.folder}"]
