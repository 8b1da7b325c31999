"""From folders to arms: records and plans are read, and runs that repeat one another grouped.

A file that cannot be read never hides the others.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from medseg.errors import DataError
from medseg.formatting import printable
from medseg.record import FILE_NAME, PLAN_FILE, AblationPlan, Cell, RunRecord, content, digest

Found = TypeVar("Found", RunRecord, AblationPlan)

# What an experiment or an ablation chose stands in the configuration itself.
_LAUNCH_CHOICES = ("experiment", "sweep", "ablation")
_FOLDS = ("data.fold", "fold")
_SPLIT = "split_seed"  # other cases are another experiment


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


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The runs that are equal apart from seed and fold.

    Args:
        number: From 1, in order of the plan, else of the first start; names the arm in figures.
        label: Unique text; the levels, the run's name, or the options that tell the arms apart.
        runs: All of them, whatever their status.
        counted: The completed ones that the numbers come from: the newest of each fold and seed.
        settings: Leaves of the configuration, without places, seeds and folds.
        levels: Factor → level in an ablation; else empty.
        asked: Runs that an ablation wants of it; None where no plan is known.
        dropped: Whether its runs lie beside a plan that no longer has them.
    """

    number: int
    label: str = ""
    runs: tuple[RunRecord, ...]
    counted: tuple[RunRecord, ...]
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
        return _choices(self.runs[0])

    @property
    def blocks(self) -> Mapping[str, str]:
        """Slot → block with its parameters."""
        return self._first("blocks")

    @property
    def superseded(self) -> tuple[RunRecord, ...]:
        """Completed runs whose fold and seed were run again later."""
        kept = {run.path for run in self.counted}
        return tuple(run for run in self.runs if run.status == "completed" and run.path not in kept)

    @property
    def wanted(self) -> int:
        """Runs that it should have: as planned, else one of every fold and seed that was tried."""
        return max(self.asked or 0, len({_repetition(run) for run in self.runs}))

    def values(self, read: Callable[[RunRecord], float | None]) -> list[float]:
        """One quantity of every counted run that knows it."""
        return [float(v) for run in self.counted if (v := read(run)) is not None]

    def _first(self, name: str) -> Any:
        values = [getattr(run, name) for run in self.runs]
        return next((value for value in values if value), values[0])


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


def arms_of(runs: Sequence[RunRecord], plans: Sequence[FoundPlan] = ()) -> list[Arm]:
    """Groups runs by name, dataset, choices, blocks and configuration without seed and fold.

    The configuration is part of the key because two learning rates under one name would otherwise
    be averaged as if they were seeds. Groups of other names whose configurations are equal in all
    that makes a digest, seed and fold aside, are one arm.
    """
    seeds = _seed_leaves(runs)
    settings = {run.path: _settings(run, seeds) for run in runs}
    groups = _groups(runs, settings, seeds)
    order = {place: number for number, place in enumerate(cells_by_place(plans))}
    ordered = sorted(groups, key=lambda group: _place(group, order))
    arms = [_arm(number, group, settings) for number, group in enumerate(ordered, start=1)]
    return _planned(arms, plans)


def _groups(
    runs: Sequence[RunRecord], settings: Mapping[Path, Mapping[str, str]], seeds: frozenset[str]
) -> list[list[RunRecord]]:
    groups: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    early: list[tuple[tuple[str, ...], RunRecord]] = []
    for run in runs:
        record = run
        parts = (_choices(record), record.blocks, settings[run.path])
        key = (
            record.name,
            record.dataset,
            *(json.dumps(part, sort_keys=True) for part in parts),
        )
        if record.status == "completed" or (record.blocks and record.config and record.dataset):
            groups[key].append(run)
        else:
            early.append((key, run))
    for key, run in early:
        # A run that died before the network was built knows less of itself than its siblings.
        fits = [k for k in groups if all(a in ("", "{}", b) for a, b in zip(key, k, strict=True))]
        groups[fits[0] if len(fits) == 1 else key].append(run)
    merged: dict[object, list[RunRecord]] = {}
    for key, group in groups.items():
        same = next((found for run in group if (found := _identity(run, seeds))), key)
        merged.setdefault(same, []).extend(group)
    return [sorted(group, key=runs.index) for group in merged.values()]


def _identity(record: RunRecord, seeds: frozenset[str]) -> str:
    """Equal for runs of one digest, seed and fold aside; empty without a configuration."""
    leaves = content(record.config)
    kept = {k: v for k, v in leaves.items() if k not in seeds and k not in _FOLDS}
    known = kept and record.blocks and record.dataset
    return json.dumps([record.dataset, record.blocks, kept], sort_keys=True) if known else ""


def _seed_leaves(records: Iterable[RunRecord]) -> frozenset[str]:
    """Leaves of the configuration called `…seed` that equal the run's seed in every record.

    A phantom's own seed, say, is 0 in all runs, whatever their seeds: it stays a setting.
    """
    follow: dict[str, bool] = {}
    for record in records:
        for leaf, value in content(record.config).items():
            name = leaf.rpartition(".")[2]
            if name.endswith("seed") and name != _SPLIT:
                follow[leaf] = follow.get(leaf, True) and value == record.seed
    return frozenset(leaf for leaf, follows in follow.items() if follows) | {"seed"}


def _settings(record: RunRecord, seeds: frozenset[str]) -> dict[str, str]:
    """Leaf → text of everything that makes the run's arm: neither places, nor seeds, nor folds."""
    found = {}
    for leaf, value in content(record.config).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        # A slash marks a place on one machine; the place that matters, the data, has a name.
        if leaf not in seeds and leaf not in _FOLDS and "/" not in text:
            found[printable(leaf)] = printable(text)
    return found


def _choices(record: RunRecord) -> dict[str, str]:
    return {k: option for k, option in record.choices.items() if k not in _LAUNCH_CHOICES}


def _repetition(record: RunRecord) -> tuple[int, int]:
    """Fold (-1 for a single split) and seed: what tells the runs of an arm apart."""
    return (-1 if record.fold is None else record.fold, record.seed)


def _place(group: Sequence[RunRecord], order: dict[str, int]) -> tuple[int, str]:
    """Of an arm among all: that of its first cell in the plan; after them, by its first start."""
    cells = [order[path] for run in group if (path := os.path.realpath(run.path)) in order]
    return min(cells, default=len(order)), min(run.started for run in group)


def _arm(number: int, runs: list[RunRecord], settings: Mapping[Path, Mapping[str, str]]) -> Arm:
    newest = {_repetition(run): run for run in runs if run.status == "completed"}
    return Arm(
        number=number,
        runs=tuple(runs),
        counted=tuple(newest[key] for key in sorted(newest)),
        settings=next((found for run in runs if (found := settings[run.path])), {}),
        levels=next((run.levels for run in runs if run.levels), {}),
    )


def _planned(arms: Sequence[Arm], plans: Sequence[FoundPlan]) -> list[Arm]:
    """The arms with what the plans ask of them."""
    cells = cells_by_place(plans)
    wanted = {
        found.path: Counter(_level_key(cell.levels) for cell in found.plan.cells) for found in plans
    }
    planned = []
    for arm in arms:
        places = [os.path.realpath(run.path) for run in arm.runs]
        own = [cells[place] for place in places if place in cells]
        levels = arm.levels or next((cell.levels for _, cell in own if cell.levels), {})
        asked = {found.path: wanted[found.path][_level_key(cell.levels)] for found, cell in own}
        dropped = not own and any(found.holds(run.path) for found in plans for run in arm.runs)
        most = max(asked.values(), default=None)
        planned.append(replace(arm, levels=levels, asked=most, dropped=dropped))
    return planned


def _level_key(levels: Mapping[str, str]) -> str:
    return json.dumps(levels, sort_keys=True)


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
