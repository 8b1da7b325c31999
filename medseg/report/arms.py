"""From runs to arms: which runs repeat one another, and what tells the arms apart."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.formatting import printable
from medseg.record import RunRecord, content
from medseg.report.sources import FoundPlan, cells_by_place

# What an experiment or an ablation chose stands in the configuration itself.
_LAUNCH_CHOICES = ("experiment", "sweep", "ablation")
_FOLDS = ("data.fold", "fold")
_SPLIT = "split_seed"  # other cases are another experiment
_SETTINGS_NAMED = 3


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
    label: str
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


def arms_of(runs: Sequence[RunRecord], plans: Sequence[FoundPlan] = ()) -> tuple[Arm, ...]:
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
    arms = _planned(arms, plans)
    labels = _labels(arms)
    return tuple(replace(arm, label=label) for arm, label in zip(arms, labels, strict=True))


def varying_slots(arms: Sequence[Arm]) -> list[str]:
    """Slots whose option or block differs between arms, in order of appearance."""
    found = {
        slot: (
            {arm.choices[slot] for arm in arms if slot in arm.choices},
            {arm.blocks[slot] for arm in arms if slot in arm.blocks},
        )
        for arm in arms
        for slot in [*arm.choices, *arm.blocks]
    }
    found.pop("data", None)  # the dataset has a column of its own
    return [slot for slot, kinds in found.items() if max(map(len, kinds)) > 1]


def varying_settings(arms: Sequence[Arm]) -> list[str]:
    """Configuration leaves that differ between arms and that no block's text shows.

    Those that somebody set by hand come first.
    """
    known = [arm for arm in arms if arm.settings]
    values: dict[str, set[str | None]] = {}
    for arm in known:
        for key, value in arm.settings.items():
            values.setdefault(key, set()).add(value)
    # of all arms: one that failed early has settings, but no blocks yet
    slots = {slot for arm in arms for slot in arm.blocks}
    varying = [
        key
        for key, found in values.items()
        if (len(found) > 1 or not all(key in arm.settings for arm in known))
        and not any(f".{slot}." in f".{key}." for slot in slots)
    ]
    entries = (entry for arm in arms for run in arm.runs for entry in run.overrides)
    by_hand = {entry.partition("=")[0].strip().lstrip("+") for entry in entries}
    return sorted(varying, key=lambda key: key not in by_hand)


def varying_factors(arms: Sequence[Arm]) -> list[str]:
    """Factors of an ablation that take more than one level, in order of appearance."""
    levels: dict[str, set[str]] = {}
    for arm in arms:
        for factor, level in arm.levels.items():
            levels.setdefault(factor, set()).add(level)
    return [factor for factor, found in levels.items() if len(found) > 1]


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
        label="",
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


def _labels(arms: Sequence[Arm]) -> list[str]:
    """The name, and where arms share it, only what tells those arms apart."""
    names = [arm.runs[0].name for arm in arms]
    labels = [name if len(set(names)) > 1 or len(arms) == 1 else "" for name in names]
    for parts_of in (_level_parts, _slot_parts, _setting_parts):
        labels = _told_apart(arms, labels, parts_of)
    labels = [label or name for label, name in zip(labels, names, strict=True)]
    return _told_apart(arms, labels, lambda group: [[f"arm {arm.number}"] for arm in group])


def _told_apart(
    arms: Sequence[Arm],
    labels: Sequence[str],
    parts_of: Callable[[Sequence[Arm]], list[list[str]]],
) -> list[str]:
    """Adds parts to the labels that several arms share."""
    told, places = list(labels), defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    for label, group in places.items():
        if len(group) > 1:
            for place, parts in zip(group, parts_of([arms[p] for p in group]), strict=True):
                told[place] = " · ".join(filter(None, [label, *parts]))
    return told


def _level_parts(arms: Sequence[Arm]) -> list[list[str]]:
    factors = varying_factors(arms)
    return [[arm.levels[factor] for factor in factors if factor in arm.levels] for arm in arms]


def _slot_parts(arms: Sequence[Arm]) -> list[list[str]]:
    datasets = len({arm.dataset for arm in arms if arm.dataset}) > 1
    columns = [[arm.dataset if datasets else "" for arm in arms]]
    for slot in varying_slots(arms):
        pairs = {(arm.choices.get(slot), arm.blocks[slot]) for arm in arms if slot in arm.blocks}
        ambiguous = len(pairs) > len({option for option, _ in pairs})
        options = [(arm.choices.get(slot, ""), arm.blocks.get(slot, "")) for arm in arms]
        texts = [block or option if ambiguous else option or block for option, block in options]
        if texts not in columns:  # a decoder that follows its encoder is not named twice
            columns.append(texts)
    return [list(parts) for parts in zip(*columns, strict=True)]


def _setting_parts(arms: Sequence[Arm]) -> list[list[str]]:
    """As few settings as tell the arms apart."""

    def distinct(keys: Sequence[str]) -> int:
        return len({tuple(arm.settings.get(key) for key in keys) for arm in arms})

    keys: list[str] = []
    for key in varying_settings(arms):
        if len(keys) < _SETTINGS_NAMED and distinct([*keys, key]) > distinct(keys):
            keys = [*keys, key]
    return [
        [f"{k.removeprefix('model.')}={arm.settings[k]}" for k in keys if k in arm.settings]
        for arm in arms
    ]
