"""From folders to arms: records and plans are read, and runs that repeat one another grouped.

A file that cannot be read never hides the others.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.errors import DataError
from medseg.formatting import printable
from medseg.record import (
    FILE_NAME,
    PLAN_FILE,
    AblationPlan,
    ArtifactRecord,
    Cell,
    RunRecord,
    RunStatus,
    content,
    data_digest,
    digest,
)
from medseg.record.lock import is_at_work

# What an experiment or an ablation chose stands in the configuration itself.
_LAUNCH_CHOICES = ("experiment", "sweep", "ablation")
_FOLDS = ("data.fold", "fold")
_DIGITS = 8
_SPLIT = "split_seed"  # other cases are another experiment
_SPLIT_FILE = "data.split_file"
# A place on one machine; the place that matters, the data, has a name.
_PLACE = re.compile(r"/|~|\.\.?/|[A-Za-z]:[\\/]|\\\\")
_KILLED: Any = {
    "status": "interrupted",
    "error": "killed: no process is at work in its folder",
}


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

    @property
    def records(self) -> list[ArtifactRecord]:
        """What the counted runs recorded of their checkerboard patterns."""
        return [run.artifacts for run in self.counted if run.artifacts is not None]

    def _first(self, name: str) -> Any:
        values = [getattr(run, name) for run in self.runs]
        return next((value for value in values if value), values[0])


def read_sources(
    sources: Sequence[Path],
) -> tuple[list[RunRecord], list[AblationPlan], dict[str, str]]:
    """Reads every record and plan below the given folders; a given file is read as a record.

    Returns:
        Runs, oldest first; plans; and each file that is neither, with the reason.

    Raises:
        DataError: a source does not exist, there is no record, or not one can be read.
    """
    for source in sources:
        if not source.exists():
            raise DataError(
                f"{printable(str(source))}: no such file or folder; "
                "give a folder with runs or a record.json"
            )
    records = _find(sources, FILE_NAME)
    plans = _find([source for source in sources if source.is_dir()], PLAN_FILE)
    places = ", ".join(printable(str(source)) for source in sources)
    if not records and plans:
        raise DataError(
            f"{places}: an {PLAN_FILE} is there, but no {FILE_NAME}; "
            "start the ablation, and report once its first run has begun"
        )
    if not records:
        raise DataError(
            f"{places}: no {FILE_NAME} in there; give the folder that training wrote to"
        )
    runs: list[RunRecord] = []
    found: list[AblationPlan] = []
    unreadable: dict[str, str] = {}
    for path in (*records, *plans):
        try:
            if path in plans:
                found.append(AblationPlan.read(path))
            else:
                runs.append(RunRecord.read(path))
        except DataError as error:
            source = printable(str(path))
            unreadable[source] = printable(str(error)).removeprefix(f"{source}: ")
    if not runs:
        source, reason = next(iter(unreadable.items()))
        raise DataError(
            f"{source}: {reason} "
            f"({len(unreadable)} found, not one can be read, so there is nothing to report)"
        )
    runs = [replace(run, **_KILLED) if _is_dead(run) else run for run in runs]
    return sorted(runs, key=lambda run: (run.started, run.source)), found, unreadable


def _is_dead(run: RunRecord) -> bool:
    """Whether a run was killed, which then still says that it runs."""
    if run.status != "running":
        return False
    status = RunStatus.read(run.path.parent)
    return not is_at_work(run.path.parent, status.machine if status else "")


def names_of_datasets(runs: Sequence[RunRecord]) -> list[str]:
    """The dataset of each run, by another name where its files were others.

    Datasets of one name are different if a case of both has other files. A run that does not say
    what its files were counts with the first of that name.
    """
    versions: dict[str, list[dict[str, str]]] = defaultdict(list)
    places = []
    for run in runs:
        known, own = versions[run.dataset], run.cases_sha256
        place = next(
            (
                place
                for place, files in enumerate(known)
                if all(own.get(case, digits) == digits for case, digits in files.items())
            ),
            len(known),
        )
        if place == len(known):
            known.append({})
        known[place] |= own
        places.append(place)
    return [
        f"{run.dataset} (files {data_digest(known[place])[:_DIGITS]})"
        if run.dataset and len(known := versions[run.dataset]) > 1
        else run.dataset
        for run, place in zip(runs, places, strict=True)
    ]


def missing_cells(
    plans: Iterable[AblationPlan], runs: Sequence[RunRecord], unreadable: Iterable[str]
) -> list[tuple[AblationPlan, Cell]]:
    """Cells without a record in their folder, and without one elsewhere that does the same.

    A cell whose record cannot be read is not missing: it is listed with the reason.
    """
    places = {os.path.realpath(run.path) for run in runs}
    places |= {os.path.realpath(source) for source in unreadable}
    known = {(run.digest or digest(run.config), data_digest(run.cases_sha256)) for run in runs}

    def is_elsewhere(cell: Cell) -> bool:
        files = [data for own, data in known if own == cell.digest]
        return any("" in (cell.data, data) or cell.data == data for data in files)

    return [
        (plan, cell)
        for plan in plans
        for cell in plan.cells
        if plan.place(cell) not in places and not is_elsewhere(cell)
    ]


def cell_name(cell: Cell) -> str:
    """Levels, seed and fold of a cell."""
    fold = {} if cell.fold is None else {"fold": cell.fold}
    parts = {**cell.levels, "seed": cell.seed, **fold}
    return printable(", ".join(f"{key}={value}" for key, value in parts.items()))


def arms_of(runs: Sequence[RunRecord], plans: Sequence[AblationPlan] = ()) -> list[Arm]:
    """Groups runs by dataset, blocks and configuration without seed and fold.

    Their names do not count: runs of one digest are one experiment. Of a run that does not say
    its configuration, name and options stand in for it. Arms have the order of their first cells
    in the plans; others follow by their first start.
    """
    seeds = _seed_leaves(runs)
    settings = {run.path: _settings(run, seeds) for run in runs}
    cells = {plan.place(cell): (plan, cell) for plan in plans for cell in plan.cells}
    order = {place: number for number, place in enumerate(cells)}
    found = []
    for group in _groups(runs, settings):
        places = [place for run in group if (place := os.path.realpath(run.path)) in cells]
        own = [cells[place] for place in places]
        first = min((order[place] for place in places), default=len(order))
        found.append((first, min(run.started for run in group), group, own))
    found.sort(key=lambda entry: entry[:2])
    return [
        _arm(number, group, own, plans, settings)
        for number, (_, _, group, own) in enumerate(found, start=1)
    ]


def _arm(
    number: int,
    runs: Sequence[RunRecord],
    cells: Sequence[tuple[AblationPlan, Cell]],
    plans: Sequence[AblationPlan],
    settings: Mapping[Path, Mapping[str, str]],
) -> Arm:
    newest = {_repetition(run): run for run in runs if run.status == "completed"}
    levels = [run.levels for run in runs] + [cell.levels for _, cell in cells]
    asked = [
        sum(other.levels == cell.levels for other in plan.cells)
        for plan, cell in {id(plan): (plan, cell) for plan, cell in cells}.values()
    ]
    return Arm(
        number=number,
        runs=tuple(runs),
        counted=tuple(newest[key] for key in sorted(newest)),
        settings=next((found for run in runs if (found := settings[run.path])), {}),
        levels=next(filter(None, levels), {}),
        asked=max(asked, default=None),
        dropped=not cells and any(plan.holds(run.path) for plan in plans for run in runs),
    )


def _groups(
    runs: Sequence[RunRecord], settings: Mapping[Path, Mapping[str, str]]
) -> list[list[RunRecord]]:
    def facts(run: RunRecord) -> list[Any]:
        return [run.dataset, run.blocks, settings[run.path], run.name, _choices(run)]

    groups: dict[str, list[RunRecord]] = defaultdict(list)
    early = []
    for run in runs:
        known = all(facts(run)[:3])
        key = json.dumps(facts(run)[:3] if known else facts(run), sort_keys=True)
        if known or run.status == "completed":
            groups[key].append(run)
        else:
            early.append((key, run))
    whole = [(key, facts(run)) for key, group in groups.items() for run in group]
    for key, run in early:
        # A run that died before the network was built knows less of itself than its siblings.
        said = [(place, fact) for place, fact in enumerate(facts(run)) if fact]
        fits = {own for own, sibling in whole if all(sibling[p] == fact for p, fact in said)}
        groups[fits.pop() if len(fits) == 1 else key].append(run)
    return [sorted(group, key=runs.index) for group in groups.values()]


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
    """Leaf → text of everything that makes the run's arm: neither places, nor seeds, nor folds.

    Of a file that holds cases out, it is the cases that count, of all its folds.
    """
    found = {}
    for leaf, value in content(record.config).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if leaf == _SPLIT_FILE and value:
            held_out = dict.fromkeys(record.split.get("validation", ()), "")
            text = record.folds or data_digest(held_out)
        if leaf not in seeds and leaf not in _FOLDS and not _PLACE.match(text):
            found[printable(leaf)] = printable(text)
    return found


def _choices(record: RunRecord) -> dict[str, str]:
    return {k: option for k, option in record.choices.items() if k not in _LAUNCH_CHOICES}


def _repetition(record: RunRecord) -> tuple[int, int]:
    """Fold (-1 for a single split) and seed: what tells the runs of an arm apart."""
    return (-1 if record.fold is None else record.fold, record.seed)


def _find(sources: Iterable[Path], name: str) -> list[Path]:
    found: dict[str, Path] = {}
    for source in sources:
        for path in sorted(source.rglob(name)) if source.is_dir() else [source]:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())
