"""An ablation as plain data: every cell of its grid, so that what is missing can be named."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.record.run import FILE_NAME, Matched, Stored

PLAN_FILE = "ablation.json"
PLAN_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the grid.

    Args:
        folder: Its run, from the folder of the plan.
        levels: Factor → level.
        seed: Its seed.
        fold: Which fold is held out, from 0; None for a single split.
        digest: Of its configuration (`medseg.record.digest`).
        data: Of its dataset's files (`medseg.record.data_digest`); empty if not known.
        overrides: What composes it.
        matched: What its widths were scaled for, if they were.
    """

    folder: str
    levels: dict[str, str]
    seed: int
    digest: str
    data: str = ""
    fold: int | None = None
    overrides: list[str] = field(default_factory=list)
    matched: Matched | None = None


@dataclass(frozen=True, kw_only=True)
class AblationPlan(Stored):
    """What an ablation asks for.

    Args:
        name: Of the ablation.
        factors: Factor → its levels, the first of which is the reference's unless that is said.
        reference: Factor → level of the arm that all others are compared with.
        equal: In what the arms were made equal by their widths; None: not.
        budget: What a run may spend: `iterations`, or `seconds` of training steps.
        margin: Differences of Dice up to this one are of no consequence.
        cells: Every run.
        command: The command line that asked for it.
        widths: Digest of an arm as written → the overrides that make it equal, kept so that an
            arm whose widths were found by measuring times is the same arm tomorrow.
    """

    FILE = PLAN_FILE
    REMEDY = "move it away, then repeat the command"
    name: str
    factors: dict[str, list[str]]
    reference: dict[str, str]
    cells: list[Cell]
    equal: str | None = None
    budget: str = "iterations"
    margin: float = 0.01
    command: list[str] = field(default_factory=list)
    widths: dict[str, Any] = field(default_factory=dict)
    schema: int = PLAN_SCHEMA

    @property
    def is_cross_validation(self) -> bool:
        """Whether it trains one arm with one seed, once for every fold."""
        folds = {cell.fold for cell in self.cells}
        return not self.factors and None not in folds and len(folds) == len(self.cells)

    def place(self, cell: Cell) -> str:
        """Where the record of a cell belongs."""
        return os.path.realpath(self.path.parent / cell.folder / FILE_NAME)

    def holds(self, path: Path) -> bool:
        """Whether a file lies below the folder of the plan."""
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path.parent))
