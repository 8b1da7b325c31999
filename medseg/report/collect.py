"""From runs to arms: which runs repeat one another, which cells of an ablation are not there."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.record import Cell, RunRecord
from medseg.report.arm import Arm, choices_of, repetition
from medseg.report.labels import labels_of
from medseg.report.plans import (
    FoundPlan,
    Missing,
    cells_by_place,
    find_plans,
    missing_cells,
    read_plans,
)
from medseg.report.settings import Seeds, settings_of
from medseg.report.sources import Run, Unreadable, find_records, read_records


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Everything that a report is made from.

    Args:
        runs: All readable runs, oldest first.
        arms: Those runs by arm.
        plans: All readable plans of ablations.
        unreadable: Files that are neither records nor plans.
        missing: Cells of plans without a record.
    """

    runs: tuple[Run, ...]
    arms: tuple[Arm, ...]
    plans: tuple[FoundPlan, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    missing: tuple[Missing, ...] = ()


def collect(sources: Iterable[Path]) -> Collection:
    """Reads all records and plans below `sources` and sorts the records into arms.

    Raises:
        DataError: nothing is there, or nothing that can be read.
    """
    sources = list(sources)
    runs, bad_records = read_records(find_records(sources))
    plans, bad_plans = read_plans(find_plans(sources))
    return Collection(
        runs=tuple(runs),
        arms=arms_of(runs, plans),
        plans=tuple(plans),
        unreadable=(*bad_records, *bad_plans),
        missing=tuple(missing_cells(plans, runs, bad_records)),
    )


def arms_of(runs: Sequence[Run], plans: Sequence[FoundPlan] = ()) -> tuple[Arm, ...]:
    """Groups runs by name, dataset, choices, blocks and configuration without seed and fold.

    The configuration is part of the key because two learning rates under one name would
    otherwise be averaged as if they were seeds: an arm too many is seen, an arm too few is not.
    """
    seeds = Seeds.of(run.record for run in runs)
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    early: list[tuple[tuple[str, ...], Run]] = []
    settings = {}
    for run in runs:
        record = run.record
        settings[run.path] = settings_of(record, seeds)
        key = _key(record, settings[run.path])
        if record.status == "completed" or (record.blocks and record.config and record.dataset):
            groups[key].append(run)
        else:
            early.append((key, run))
    for key, run in early:
        # A run that died before the network was built knows less of itself than its siblings.
        fits = [k for k in groups if all(a in ("", "{}", b) for a, b in zip(key, k, strict=True))]
        groups[fits[0] if len(fits) == 1 else key].append(run)
    order = {place: number for number, place in enumerate(cells_by_place(plans))}
    ordered = sorted(groups.values(), key=lambda group: _place(group, order))
    arms = [_arm(number, group, settings) for number, group in enumerate(ordered, start=1)]
    arms = _planned(arms, plans)
    return tuple(
        replace(arm, label=label) for arm, label in zip(arms, labels_of(arms), strict=True)
    )


def _place(group: Sequence[Run], order: dict[str, int]) -> tuple[int, str]:
    """Of an arm among all: that of its first cell in the plan; after them, by its first start."""
    cells = [order[path] for run in group if (path := os.path.realpath(run.path)) in order]
    return min(cells, default=len(order)), min(run.record.started for run in group)


def _arm(number: int, runs: list[Run], settings: dict[Path, dict[str, str]]) -> Arm:
    newest = {repetition(run.record): run for run in runs if run.record.status == "completed"}
    return Arm(
        number=number,
        label="",
        runs=tuple(runs),
        counted=tuple(newest[key] for key in sorted(newest)),
        settings=next((found for run in runs if (found := settings[run.path])), {}),
        levels=next((run.record.levels for run in runs if run.record.levels), {}),
    )


def _key(record: RunRecord, settings: dict[str, str]) -> tuple[str, ...]:
    parts = (choices_of(record), record.blocks, settings)
    return record.name, record.dataset, *(json.dumps(part, sort_keys=True) for part in parts)


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
        asked = _asked(own, wanted)
        dropped = not own and any(found.holds(run.path) for found in plans for run in arm.runs)
        planned.append(replace(arm, levels=levels, asked=asked, dropped=dropped))
    return planned


def _asked(own: Sequence[tuple[FoundPlan, Cell]], wanted: dict[Path, Counter[str]]) -> int | None:
    asked = {found.path: wanted[found.path][_level_key(cell.levels)] for found, cell in own}
    return max(asked.values(), default=None)


def _level_key(levels: dict[str, str]) -> str:
    return json.dumps(levels, sort_keys=True)
