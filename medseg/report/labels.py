"""Names of the arms: as short as tells them apart."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from medseg.report.arm import Arm
from medseg.report.settings import varying_factors, varying_settings, varying_slots

_SETTINGS = 3


def labels_of(arms: Sequence[Arm]) -> list[str]:
    """The name, and where arms share it, only what tells those arms apart.

    In an ablation that is the levels of the factors that vary.
    """
    names = [arm.runs[0].record.name for arm in arms]
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
        if texts not in columns:  # a decoder that follows its encoder is not said twice
            columns.append(texts)
    return [list(parts) for parts in zip(*columns, strict=True)]


def _setting_parts(arms: Sequence[Arm]) -> list[list[str]]:
    """As few settings as tell the arms apart."""
    keys: list[str] = []
    for key in varying_settings(arms):
        more = [*keys, key]
        if len(keys) < _SETTINGS and _distinct(arms, more) > _distinct(arms, keys):
            keys = more
    return [
        [f"{k.removeprefix('model.')}={arm.settings[k]}" for k in keys if k in arm.settings]
        for arm in arms
    ]


def _distinct(arms: Sequence[Arm], keys: Sequence[str]) -> int:
    return len({tuple(arm.settings.get(key) for key in keys) for arm in arms})
