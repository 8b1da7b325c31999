"""What a run was configured with, as far as it makes an arm."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.record import RunRecord, content
from medseg.report.arm import Arm
from medseg.report.sources import printable

_FOLDS = ("data.fold", "fold")
_COUNTS = "split_seed"  # other cases are another experiment


@dataclass(frozen=True)
class Seeds:
    """Leaves of the configuration that are nothing but the run's seed."""

    leaves: frozenset[str]

    @classmethod
    def of(cls, records: Iterable[RunRecord]) -> "Seeds":
        """Leaves called `…seed` that equal the run's seed in every record that has them.

        A phantom's own seed, say, is 0 in all runs, whatever their seeds: it stays a setting.
        """
        follow: dict[str, bool] = {}
        for record in records:
            for leaf, value in content(record.config).items():
                name = leaf.rpartition(".")[2]
                if name.endswith("seed") and name != _COUNTS:
                    follow[leaf] = follow.get(leaf, True) and value == record.seed
        return cls(frozenset(leaf for leaf, follows in follow.items() if follows) | {"seed"})


def settings_of(record: RunRecord, seeds: Seeds) -> dict[str, str]:
    """Leaf → text of everything that makes the run's arm: neither places, nor seeds, nor folds."""
    found = {}
    for leaf, value in content(record.config).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        # A slash marks a place on one machine; the place that matters, the data, has a name.
        if leaf not in seeds.leaves and leaf not in _FOLDS and "/" not in text:
            found[printable(leaf)] = printable(text)
    return found


def varying_slots(arms: Sequence[Arm]) -> list[str]:
    """Slots whose option or block differs between arms, in order of appearance."""
    options: dict[str, set[Any]] = {}
    blocks: dict[str, set[Any]] = {}
    for arm in arms:
        for found, known in ((arm.choices, options), (arm.blocks, blocks)):
            for slot, value in found.items():
                known.setdefault(slot, set()).add(value)
    slots = dict.fromkeys(slot for arm in arms for slot in [*arm.choices, *arm.blocks])
    slots.pop("data", None)  # the dataset has a column of its own
    return [s for s in slots if len(options.get(s, ())) > 1 or len(blocks.get(s, ())) > 1]


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
    by_hand = {key for arm in arms for run in arm.runs for key in overrides_of(run.record)}
    return sorted(varying, key=lambda key: key not in by_hand)


def varying_factors(arms: Sequence[Arm]) -> list[str]:
    """Factors of an ablation that take more than one level, in order of appearance."""
    levels: dict[str, set[str]] = {}
    for arm in arms:
        for factor, level in arm.levels.items():
            levels.setdefault(factor, set()).add(level)
    return [factor for factor, found in levels.items() if len(found) > 1]


def overrides_of(record: RunRecord) -> Mapping[str, str]:
    """Key → value of the overrides, without the marks of Hydra's grammar."""
    pairs = (entry.partition("=") for entry in record.overrides)
    return {key.strip().lstrip("+"): value.strip().strip("'\"") for key, _, value in pairs}
