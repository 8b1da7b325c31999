"""How far an ablation has come, from what its runs have left on disk."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medseg.errors import ConfigError, DataError
from medseg.record import (
    FILE_NAME,
    PLAN_FILE,
    AblationPlan,
    Cell,
    RunRecord,
    RunStatus,
    digest,
)
from medseg.record.lock import is_at_work

State = Literal["completed", "running", "waiting", "failed", "interrupted", "silent"]

_OTHER = "{}: holds a run of another configuration, as after resume=; move it away"
_LASTING = (2, 3)  # exit codes of what another try does not change: configuration, data


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of the grid.

    Args:
        cell: What was asked for.
        state: `waiting` was never started; `silent` says that it runs, but gives no sign of life.
        share: Of its training that is done, in [0, 1].
        seconds: Spent on it so far; the whole run's where it is completed.
        error: Why it failed.
        exit_code: What its process ended with.
    """

    cell: Cell
    state: State
    share: float = 0.0
    seconds: float = 0.0
    error: str | None = None
    exit_code: int | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether it is not completed, and no living process works on it."""
        return self.state not in ("completed", "running")

    @property
    def is_retryable(self) -> bool:
        """Whether trying again may help: not if the configuration or the data are at fault."""
        return self.is_unfinished and self.exit_code not in _LASTING


class Ledger:
    """Every run of an ablation with its state.

    Args:
        folder: Of the ablation.

    Raises:
        DataError: no plan is there.
    """

    def __init__(self, folder: Path):
        path = Path(folder) / PLAN_FILE
        if not path.is_file():
            raise DataError(
                f"{folder}: no {PLAN_FILE} is there; name the folder that an ablation writes to"
            )
        self.plan = AblationPlan.read(path)
        self.entries = [entry_of(cell, Path(folder)) for cell in self.plan.cells]

    def count(self, state: str) -> int:
        """How many runs are in a state."""
        return Counter(entry.state for entry in self.entries)[state]

    def counts(self) -> str:
        """How many runs there are, and how many in each state, as text."""
        states = dict.fromkeys(entry.state for entry in self.entries)
        counted = ", ".join(f"{self.count(state)} {state}" for state in states)
        return f"{len(self.entries)} runs: {counted}"

    def seconds_left(self, workers: int) -> float | None:
        """What unfinished runs will take, side by side; None before the pace of any run is known.

        A run that has begun takes what follows from its share of epochs; one that has not, as long
        as the completed runs of its arm, else as all of them.
        """
        completed = [entry for entry in self.entries if entry.state == "completed"]
        known = [entry.seconds for entry in completed]
        paces = [e.seconds / e.share for e in self.entries if e.state == "running" and e.share > 0]
        if not known and not paces:
            return None
        left = []
        for entry in self.entries:
            if entry.state == "running" or entry.is_retryable:
                same = [e.seconds for e in completed if e.cell.levels == entry.cell.levels]
                left.append(statistics.fmean(same or known or paces) * (1 - entry.share))
        return max(sum(left) / max(1, workers), max(left, default=0.0))


def entry_of(cell: Cell, folder: Path) -> Entry:
    """The state of one run below the folder of its ablation."""
    place = folder / cell.folder
    status = RunStatus.read(place)
    if status is None:
        return Entry(cell=cell, state="waiting")
    if status.status != "completed" and is_completed(place, cell.digest):
        return Entry(cell=cell, state="completed", share=1.0, seconds=status.seconds)
    state: State = status.status
    if state == "completed" and not (place / FILE_NAME).is_file():
        return Entry(cell=cell, state="waiting")
    if state == "completed" and status.digest not in ("", cell.digest):
        return Entry(cell=cell, state="failed", error=_OTHER.format(place), exit_code=2)
    if state == "running" and not is_at_work(place, status.machine):
        state = "silent"
    return Entry(
        cell=cell,
        state=state,
        share=status.share if state in ("running", "completed") else 0.0,
        seconds=status.seconds,
        error=status.error,
        exit_code=status.exit_code,
    )


def require_own(place: Path, config: Mapping[str, Any]) -> None:
    """Checks that what lies in the folder of a run is of its configuration.

    Raises:
        ConfigError: it is of another one.
    """
    status = RunStatus.read(place)
    if status is not None and status.digest not in ("", digest(config)):
        raise ConfigError(_OTHER.format(place))


def is_completed(place: Path, digest: str) -> bool:
    """Whether a run's folder holds the record of a completed run of that configuration."""
    try:
        record = RunRecord.read(place / FILE_NAME)
    except DataError:
        return False
    return record.status == "completed" and record.digest == digest
