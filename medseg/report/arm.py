"""An arm: the runs that differ by their seed and their fold only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg.record import RunRecord
from medseg.report.sources import Run

# What an experiment or an ablation chose stands in the configuration itself.
_LAUNCH_CHOICES = ("experiment", "sweep", "ablation")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The runs that are equal apart from seed and fold.

    Args:
        number: From 1, in order of the plan, else of the first start; names the arm in the figures.
        label: Unique text; the levels, the run's name, or the options that tell the arms apart.
        runs: All of them, whatever their status.
        counted: The completed ones that the numbers come from: the newest of each fold and seed.
        settings: Leaves of the configuration, without places, seeds and folds.
        levels: Factor → level in an ablation; else empty.
        asked: Runs that an ablation wants of it; None where no plan is known.
        dropped: Whether its runs lie beside a plan that no longer has them.
    """

    number: int
    label: str
    runs: tuple[Run, ...]
    counted: tuple[Run, ...]
    settings: Mapping[str, str]
    levels: Mapping[str, str] = field(default_factory=dict)
    asked: int | None = None
    dropped: bool = False

    @property
    def dataset(self) -> str:
        """The dataset's name; empty if every run failed before it was read."""
        return self._first("dataset")

    @property
    def choices(self) -> Mapping[str, str]:
        """Slot → option."""
        return choices_of(self.runs[0].record)

    @property
    def blocks(self) -> Mapping[str, str]:
        """Slot → block with its parameters."""
        return self._first("blocks")

    @property
    def superseded(self) -> tuple[Run, ...]:
        """Completed runs whose fold and seed were run again later."""
        kept = {run.path for run in self.counted}
        return tuple(
            run for run in self.runs if run.record.status == "completed" and run.path not in kept
        )

    @property
    def wanted(self) -> int:
        """Runs that it should have: as planned, else one of every fold and seed that was tried."""
        tried = len({repetition(run.record) for run in self.runs})
        return max(self.asked or 0, tried)

    def _first(self, name: str) -> Any:
        values = [getattr(run.record, name) for run in self.runs]
        return next((value for value in values if value), values[0])


def choices_of(record: RunRecord) -> dict[str, str]:
    """Slot → option, without what chose several at once."""
    return {k: option for k, option in record.choices.items() if k not in _LAUNCH_CHOICES}


def repetition(record: RunRecord) -> tuple[int, int]:
    """Fold (-1 for a single split) and seed: what tells the runs of an arm apart."""
    return (-1 if record.fold is None else record.fold, record.seed)
