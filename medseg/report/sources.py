"""From folders to checked records and plans; a bad file never hides the others."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medseg.errors import DataError
from medseg.formatting import printable
from medseg.record import FILE_NAME, PLAN_FILE, AblationPlan, Cell, RunRecord, digest

Found = TypeVar("Found", RunRecord, AblationPlan)


@dataclass(frozen=True)
class Unreadable:
    """A file called `record.json` or `ablation.json` that is none, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class FoundPlan:
    """A plan and the file that it came from."""

    path: Path
    plan: AblationPlan

    @property
    def source(self) -> str:
        """The path as text that any encoding can print."""
        return printable(str(self.path))

    def place(self, cell: Cell) -> str:
        """Where the record of a cell belongs."""
        return os.path.realpath(self.path.parent / cell.folder / FILE_NAME)

    def holds(self, path: Path) -> bool:
        """Whether a file lies below the folder of the plan."""
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path.parent))


@dataclass(frozen=True)
class Missing:
    """A cell of a plan without a record."""

    found: FoundPlan
    cell: Cell

    @property
    def text(self) -> str:
        """Its levels, seed and fold."""
        fold = {} if self.cell.fold is None else {"fold": self.cell.fold}
        parts = {**self.cell.levels, "seed": self.cell.seed, **fold}
        return printable(", ".join(f"{key}={value}" for key, value in parts.items()))


def read_runs(sources: Sequence[Path]) -> tuple[list[RunRecord], list[Unreadable]]:
    """Reads every record below the given folders, oldest first; a given file is taken as it is.

    Raises:
        DataError: a source does not exist, there is no record, or not one can be read.
    """
    for source in sources:
        if not source.exists():
            raise DataError(
                f"{printable(str(source))}: no such file or folder; "
                "give a folder with runs or a record.json"
            )
    paths = _find(sources, FILE_NAME)
    if not paths:
        places = ", ".join(printable(str(source)) for source in sources)
        if _find(sources, PLAN_FILE):
            raise DataError(
                f"{places}: an {PLAN_FILE} is there, but no {FILE_NAME}; "
                "start the ablation, and report once its first run has begun"
            )
        raise DataError(
            f"{places}: no {FILE_NAME} in there; give the folder that training wrote to"
        )
    found, unreadable = _read(paths, RunRecord.read)
    if not found:
        first = unreadable[0]
        raise DataError(
            f"{first.source}: {first.reason} "
            f"({len(unreadable)} found, not one can be read, so there is nothing to report)"
        )
    runs = [run for _, run in found]
    return sorted(runs, key=lambda run: (run.started, run.source)), unreadable


def read_plans(sources: Sequence[Path]) -> tuple[list[FoundPlan], list[Unreadable]]:
    """Reads every `ablation.json` below the given folders, each once."""
    folders = [source for source in sources if source.is_dir()]
    found, unreadable = _read(_find(folders, PLAN_FILE), AblationPlan.read)
    return [FoundPlan(path, plan) for path, plan in found], unreadable


def missing_cells(
    plans: Iterable[FoundPlan], runs: Sequence[RunRecord], unreadable: Iterable[Unreadable]
) -> list[Missing]:
    """Cells without a record in their folder, and without one elsewhere that does the same.

    A cell whose record cannot be read is not missing: it is listed with the reason.
    """
    places = {os.path.realpath(run.path) for run in runs}
    places |= {os.path.realpath(file.source) for file in unreadable}
    known = {run.digest or digest(run.config) for run in runs}
    return [
        Missing(found, cell)
        for found in plans
        for cell in found.plan.cells
        if found.place(cell) not in places and cell.digest not in known
    ]


def cells_by_place(plans: Iterable[FoundPlan]) -> dict[str, tuple[FoundPlan, Cell]]:
    """Where a record belongs → the cell that it fills."""
    return {found.place(cell): (found, cell) for found in plans for cell in found.plan.cells}


def number(value: object) -> float:
    """A finite number as float; anything else as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:  # an integer that no float holds
        return math.nan


def _find(sources: Iterable[Path], name: str) -> list[Path]:
    found: dict[str, Path] = {}
    for source in sources:
        for path in sorted(source.rglob(name)) if source.is_dir() else [source]:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _read(
    paths: Iterable[Path], read: Callable[[Path], Found]
) -> tuple[list[tuple[Path, Found]], list[Unreadable]]:
    found, unreadable = [], []
    for path in paths:
        source = printable(str(path))
        try:
            found.append((path, read(path)))
        except DataError as error:
            reason = printable(str(error)).removeprefix(f"{source}: ")
            unreadable.append(Unreadable(source, reason))
    return found, unreadable
