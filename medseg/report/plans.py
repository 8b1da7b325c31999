"""The plans of ablations beside the records: which runs were asked for, and which are not there."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import DataError
from medseg.record import FILE_NAME, PLAN_FILE, AblationPlan, Cell, digest
from medseg.report.sources import Run, Unreadable, printable


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
    """A cell without a record."""

    found: FoundPlan
    cell: Cell

    @property
    def text(self) -> str:
        """Its levels, seed and fold."""
        fold = {} if self.cell.fold is None else {"fold": self.cell.fold}
        parts = {**self.cell.levels, "seed": self.cell.seed, **fold}
        return printable(", ".join(f"{key}={value}" for key, value in parts.items()))


def find_plans(sources: Iterable[Path]) -> list[Path]:
    """Every `ablation.json` below the given folders, each once."""
    found: dict[str, Path] = {}
    for source in map(Path, sources):
        for path in sorted(source.rglob(PLAN_FILE)) if source.is_dir() else []:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def read_plans(paths: Iterable[Path]) -> tuple[list[FoundPlan], list[Unreadable]]:
    """Reads and checks the plans; a bad one never hides the others."""
    plans, unreadable = [], []
    for path in paths:
        source = printable(str(path))
        try:
            plan = AblationPlan.read(path)
            _check(plan)
        except DataError as error:
            unreadable.append(Unreadable(source, printable(str(error)).removeprefix(f"{source}: ")))
        except (TypeError, RecursionError) as error:
            unreadable.append(Unreadable(source, f"not a plan ({error}); repeat its command"))
        else:
            plans.append(FoundPlan(path, plan))
    return plans, unreadable


def missing_cells(
    plans: Iterable[FoundPlan], runs: Sequence[Run], unreadable: Iterable[Unreadable]
) -> list[Missing]:
    """Cells without a record in their folder, and without one elsewhere that does the same.

    A cell whose record cannot be read is not missing: it is listed with the reason.
    """
    places = {os.path.realpath(run.path) for run in runs}
    places |= {os.path.realpath(file.source) for file in unreadable}
    known = {run.record.digest or digest(run.record.config) for run in runs}
    return [
        Missing(found, cell)
        for found in plans
        for cell in found.plan.cells
        if found.place(cell) not in places and cell.digest not in known
    ]


def cells_by_place(plans: Iterable[FoundPlan]) -> dict[str, tuple[FoundPlan, Cell]]:
    """Where a record belongs → the cell that it fills."""
    return {found.place(cell): (found, cell) for found in plans for cell in found.plan.cells}


def _check(plan: AblationPlan) -> None:
    """Types of what is read from it; the rest is shown as text.

    Raises:
        TypeError: a field of another type.
    """
    texts = (plan.name, plan.budget, *plan.command, *plan.reference, *plan.reference.values())
    for cell in plan.cells:
        texts += (cell.folder, cell.digest, *cell.levels, *cell.levels.values())
        if type(cell.seed) is not int or (cell.fold is not None and type(cell.fold) is not int):
            raise TypeError(f"seed {cell.seed!r} or fold {cell.fold!r} is no whole number")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{text!r:.60} is no text")
    if type(plan.margin) not in (int, float):
        raise TypeError(f"margin {plan.margin!r:.60} is no number")
