"""What separates arms from one another, and their labels made of it."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from medseg.report.arms import Arm

_SETTINGS_NAMED = 3


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


def levels_of(arms: Sequence[Arm]) -> dict[str, set[str]]:
    """Every level of the arms by factor, in order of appearance."""
    levels: dict[str, set[str]] = {}
    for arm in arms:
        for factor, level in arm.levels.items():
            levels.setdefault(factor, set()).add(level)
    return levels


def varying_factors(arms: Sequence[Arm]) -> list[str]:
    """Factors of an ablation that take more than one level, in order of appearance."""
    return [factor for factor, found in levels_of(arms).items() if len(found) > 1]


def labelled(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms with their labels: the name, and where arms share it, only what separates those."""
    names = [arm.runs[0].name for arm in arms]
    labels = [name if len(set(names)) > 1 or len(arms) == 1 else "" for name in names]
    for parts_of in (_level_parts, _slot_parts, _setting_parts):
        labels = _apart(arms, labels, parts_of)
    labels = [label or name for label, name in zip(labels, names, strict=True)]
    labels = _apart(arms, labels, lambda group: [[f"arm {arm.number}"] for arm in group])
    return tuple(replace(arm, label=label) for arm, label in zip(arms, labels, strict=True))


def _apart(
    arms: Sequence[Arm],
    labels: Sequence[str],
    parts_of: Callable[[Sequence[Arm]], list[list[str]]],
) -> list[str]:
    """Adds parts to the labels that several arms share."""
    added, places = list(labels), defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    for label, group in places.items():
        if len(group) > 1:
            for place, parts in zip(group, parts_of([arms[p] for p in group]), strict=True):
                added[place] = " · ".join(filter(None, [label, *parts]))
    return added


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
    """As few settings as separate the arms."""

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
