"""From runs to arms: which runs repeat one another, which cells of a sweep are not there."""

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.record import RunRecord
from medseg.report.sources import Run, Unreadable, find_records, printable, read_records

MISSING_SHOWN = 200

# Where a run lives and how it was launched do not make it another experiment; what an
# experiment or a sweep chose stands in the configuration itself.
_LAUNCH_CHOICES = ("experiment", "sweep")
_LAUNCH_CONFIG = ("artifacts", "hydra", "name", "paths", "pictures", "resume", "runs", "sweep")
_LAUNCH_LEAVES = ("cache", "download", "num_workers", "root")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The runs that are equal apart from the seed.

    Args:
        number: From 1, in order of the first start; names the arm in the figures.
        label: Unique text; the run's name, or the options that tell the arms apart.
        runs: All of them, whatever their status.
        counted: The completed ones that the numbers come from: the newest of each seed.
        settings: Leaves of the configuration, without places and seeds.
    """

    number: int
    label: str
    runs: tuple[Run, ...]
    counted: tuple[Run, ...]
    settings: Mapping[str, str]

    @property
    def dataset(self) -> str:
        """The dataset's name; empty if every run failed before it was read."""
        return self._first("dataset")

    @property
    def choices(self) -> Mapping[str, str]:
        """Slot → option."""
        return _choices(self.runs[0].record)

    @property
    def blocks(self) -> Mapping[str, str]:
        """Slot → block with its parameters."""
        return self._first("blocks")

    @property
    def superseded(self) -> tuple[Run, ...]:
        """Completed runs whose seed was run again later."""
        kept = {run.path for run in self.counted}
        return tuple(
            run for run in self.runs if run.record.status == "completed" and run.path not in kept
        )

    def _first(self, field: str) -> Any:
        values = [getattr(run.record, field) for run in self.runs]
        return next((value for value in values if value), values[0])


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Everything that a report is made from.

    Args:
        runs: All readable runs, oldest first.
        arms: Those runs by arm.
        unreadable: Files that are not records.
        missing: Cells of sweeps without a record, at most `MISSING_SHOWN` of them.
        missing_count: How many such cells there are.
    """

    runs: tuple[Run, ...]
    arms: tuple[Arm, ...]
    unreadable: tuple[Unreadable, ...]
    missing: tuple[str, ...]
    missing_count: int


def collect(sources: Iterable[Path]) -> Collection:
    """Reads all records below `sources` and sorts them into arms.

    Raises:
        DataError: nothing is there, or nothing that can be read.
    """
    runs, unreadable = read_records(find_records(sources))
    missing, count = missing_cells([run.record for run in runs])
    return Collection(
        runs=tuple(runs),
        arms=arms_of(runs),
        unreadable=tuple(unreadable),
        missing=tuple(missing),
        missing_count=count,
    )


def arms_of(runs: Sequence[Run]) -> tuple[Arm, ...]:
    """Groups runs by name, dataset, choices, blocks and configuration without the seed.

    The configuration is part of the key because two learning rates under one name would
    otherwise be averaged as if they were seeds: an arm too many is seen, an arm too few is not.
    """
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    early: list[Run] = []
    for run in runs:
        record = run.record
        if record.status == "completed" or (record.blocks and record.config and record.dataset):
            groups[_key(record)].append(run)
        else:
            early.append(run)
    for run in early:
        # A run that died before the network was built knows less of itself than its siblings.
        key = _key(run.record)
        fits = [k for k in groups if all(a in ("", "{}", b) for a, b in zip(key, k, strict=True))]
        groups[fits[0] if len(fits) == 1 else key].append(run)
    ordered = sorted(groups.values(), key=lambda group: min(r.record.started for r in group))
    arms = [_arm(number, group) for number, group in enumerate(ordered, start=1)]
    return tuple(replace(arm, label=label) for arm, label in zip(arms, _labels(arms), strict=True))


def varying_slots(arms: Sequence[Arm]) -> list[str]:
    """Slots whose option or block differs between arms, in order of appearance."""
    slots = dict.fromkeys(slot for arm in arms for slot in [*arm.choices, *arm.blocks])
    slots.pop("data", None)  # the dataset has a column of its own
    return [
        slot
        for slot in slots
        if len({arm.choices[slot] for arm in arms if slot in arm.choices}) > 1
        or len({arm.blocks[slot] for arm in arms if slot in arm.blocks}) > 1
    ]


def varying_settings(arms: Sequence[Arm]) -> list[str]:
    """Configuration leaves that differ between arms and that no block's text shows.

    Those that somebody set by hand come first.
    """
    records = [run.record for arm in arms for run in arm.runs]
    by_hand = dict.fromkeys(key for record in records for key in _overrides(record))
    keys = dict.fromkeys(key for arm in arms for key in arm.settings)
    keys = sorted(keys, key=lambda key: key not in by_hand)
    known = [arm for arm in arms if arm.settings]
    # of all arms: one that failed early has settings, but no blocks yet
    slots = {slot for arm in arms for slot in arm.blocks}
    return [
        key
        for key in keys
        if len({arm.settings.get(key) for arm in known}) > 1
        and not any(f".{slot}." in f".{key}." for slot in slots)
    ]


def missing_cells(records: Sequence[RunRecord]) -> tuple[list[str], int]:
    """Cells of the sweeps that have no record, as text (at most `MISSING_SHOWN`) and counted."""
    grids: dict[tuple[str, str], dict[str, list[str]]] = {}
    for record in records:
        if record.sweep:
            grid = {_name(key): [_value(v) for v in vs] for key, vs in record.sweep.items()}
            grids[json.dumps(grid, sort_keys=True), _rest(record, grid)] = grid
    shown, count = [], 0
    for (_, rest), grid in grids.items():
        given = [_overrides(r) for r in records if _rest(r, grid) == rest]
        values = {key: dict.fromkeys(options) for key, options in grid.items()}
        present = {
            tuple(cell[key] for key in values)
            for cell in given
            if all(cell.get(key) in options for key, options in values.items())
        }
        count += math.prod(map(len, values.values())) - len(present)
        absent = (cell for cell in itertools.product(*values.values()) if cell not in present)
        for cell in itertools.islice(absent, MISSING_SHOWN - len(shown)):
            shown.append(", ".join(f"{key}={v}" for key, v in zip(values, cell, strict=True)))
    return shown, count


def _arm(number: int, runs: list[Run]) -> Arm:
    newest = {run.record.seed: run for run in runs if run.record.status == "completed"}
    counted = sorted(newest.values(), key=lambda run: run.record.seed)
    settings = next((s for run in runs if (s := dict(_settings(run.record)))), {})
    return Arm(number=number, label="", runs=tuple(runs), counted=tuple(counted), settings=settings)


def _key(record: RunRecord) -> tuple[str, ...]:
    parts = (_choices(record), record.blocks, dict(_settings(record)))
    return record.name, record.dataset, *(json.dumps(part, sort_keys=True) for part in parts)


def _settings(record: RunRecord) -> Iterator[tuple[str, str]]:
    for key, value in _leaves(record.config):
        path = key.split(".")
        is_seed = path[-1].endswith("seed") and value == record.seed
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        # A slash marks a place on one machine; the place that matters, the data, has a name.
        is_launch = path[0] in _LAUNCH_CONFIG or path[-1] in _LAUNCH_LEAVES
        if not is_launch and not is_seed and "/" not in text:
            yield printable(key), printable(text)


def _choices(record: RunRecord) -> dict[str, str]:
    return {k: option for k, option in record.choices.items() if k not in _LAUNCH_CHOICES}


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, tree


def _labels(arms: Sequence[Arm]) -> list[str]:
    """The name, and where arms share it, only what tells those arms apart."""
    names = [arm.runs[0].record.name for arm in arms]
    labels = [name if len(set(names)) > 1 or len(arms) == 1 else "" for name in names]
    labels = _told_apart(arms, labels, _slot_parts)
    labels = _told_apart(arms, labels, _setting_parts)
    labels = [label or name for label, name in zip(labels, names, strict=True)]
    return _told_apart(arms, labels, lambda group: [[f"arm {arm.number}"] for arm in group])


def _told_apart(
    arms: Sequence[Arm],
    labels: Sequence[str],
    parts_of: Callable[[Sequence[Arm]], list[list[str]]],
) -> list[str]:
    told = list(labels)
    for label, times in Counter(labels).items():
        places = [place for place, other in enumerate(labels) if other == label]
        if times > 1:
            for place, parts in zip(places, parts_of([arms[p] for p in places]), strict=True):
                told[place] = " · ".join(filter(None, [label, *parts]))
    return told


def _slot_parts(arms: Sequence[Arm]) -> list[list[str]]:
    datasets = len({arm.dataset for arm in arms if arm.dataset}) > 1
    columns = [[arm.dataset if datasets else "" for arm in arms]]
    for slot in varying_slots(arms):
        pairs = {(arm.choices.get(slot), arm.blocks[slot]) for arm in arms if slot in arm.blocks}
        ambiguous = len(pairs) > len({option for option, _ in pairs})
        options = [(arm.choices.get(slot, ""), arm.blocks.get(slot, "")) for arm in arms]
        texts = [block or option if ambiguous else option or block for option, block in options]
        if texts not in columns:  # a decoder that follows its encoder is not said twice
            columns.append(texts)
    return [list(parts) for parts in zip(*columns, strict=True)]


def _setting_parts(arms: Sequence[Arm]) -> list[list[str]]:
    """As few settings as tell the arms apart, at most three."""
    keys: list[str] = []
    for key in varying_settings(arms):
        more = [*keys, key]
        if len(keys) < 3 and _distinct(arms, more) > _distinct(arms, keys):
            keys = more
    return [
        [f"{k.removeprefix('model.')}={arm.settings[k]}" for k in keys if k in arm.settings]
        for arm in arms
    ]


def _distinct(arms: Sequence[Arm], keys: Sequence[str]) -> int:
    return len({tuple(arm.settings.get(key) for key in keys) for arm in arms})


def _overrides(record: RunRecord) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in record.overrides)
    return {_name(key): _value(value) for key, _, value in pairs}


def _rest(record: RunRecord, grid: Mapping[str, object]) -> str:
    """What was set besides the grid: equal for the cells of one sweep."""
    rest = {
        key: value
        for key, value in _overrides(record).items()
        if key not in grid and key not in ("sweep", "name") and not key.startswith("hydra.")
    }
    return json.dumps(rest, sort_keys=True)


def _name(key: str) -> str:
    return key.strip().lstrip("+")


def _value(value: str) -> str:
    return value.strip().strip("'\"")
