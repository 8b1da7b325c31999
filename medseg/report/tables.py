"""The report's tables, once, for HTML, Markdown and the terminal alike."""

import math
from collections.abc import Mapping, Sequence

from medseg.report import measures
from medseg.report.arm import Arm
from medseg.report.cells import (
    NOTHING,
    Cell,
    Column,
    Row,
    Table,
    amount,
    counted,
    duration,
    figure,
    fixed,
    memory,
    significant,
    spread,
    words,
)
from medseg.report.settings import varying_factors, varying_settings, varying_slots
from medseg.report.sources import number

_ALWAYS = ("encoder.conv", "decoder.conv")
_SETTINGS_SHOWN = 4


def arms_table(arms: Sequence[Arm], values: measures.Values, verdicts: Mapping[int, str]) -> Table:
    """One row per arm: what it is made of, what it costs, how good it is.

    Args:
        arms: All arms.
        values: Their metrics.
        verdicts: Arm → its verdict by Dice, or "reference".
    """
    factors = varying_factors(arms)
    slots = [] if all(arm.levels for arm in arms) else _slots(arms)
    matched = any(run.record.matched for arm in arms for run in arm.runs)
    settings = varying_settings(arms)
    datasets = len({arm.dataset for arm in arms}) > 1
    columns = [
        Column(key="arm", title="Arm"),
        *[Column(key="dataset", title="Dataset")] * datasets,
        *[Column(key=f"factor {factor}", title=factor) for factor in factors],
        *[Column(key=slot, title=slot.replace(".", " ")) for slot in slots],
        *[Column(key="settings", title="Other settings")] * bool(settings),
        Column(key="seeds", title="Runs", unit="completed", numeric=True),
        Column(key="verdict", title="Verdict", unit="in Dice"),
        *_metric_columns(),
        Column(key="gain", title="DC-gain imbalance", unit="largest layer", numeric=True),
        Column(key="constant", title="Constant response", unit="of logits’ SD", numeric=True),
        Column(key="parameters", title="Parameters", numeric=True),
        Column(key="macs", title="MACs", unit="one patch", numeric=True),
        Column(key="step", title="Training step", unit="median", numeric=True),
        Column(key="train", title="Training", unit="whole run", numeric=True),
        Column(key="memory", title="Peak memory", numeric=True),
        *[Column(key="matched", title="Made equal", unit="has / wanted", numeric=True)] * matched,
    ]
    rows = [
        Row(
            arm=arm.number,
            cells=(
                words(arm.label),
                *[words(arm.dataset)] * datasets,
                *[words(arm.levels.get(factor, "")) for factor in factors],
                *[_slot(arm, slot) for slot in slots],
                *[_settings(arm, settings)] * bool(settings),
                _runs(arm),
                words(verdicts.get(arm.number, "")),
                *_metrics(arm, values),
                _gain(arm),
                _constant(arm),
                *_costs(arm),
                *[_matched(arm)] * matched,
            ),
        )
        for arm in arms
    ]
    return Table(
        caption="Mean ± standard deviation over cases", columns=tuple(columns), rows=tuple(rows)
    )


def classes_table(arms: Sequence[Arm], values: measures.Values) -> Table:
    """One row per arm and class."""
    rows = []
    for arm in arms:
        for name in values.classes(arm.number):
            cells = _metrics(arm, values, name)
            rows.append(Row(arm=arm.number, cells=(words(arm.label), words(name), *cells)))
    head = (Column(key="arm", title="Arm"), Column(key="class", title="Class"))
    return Table(
        caption="Mean ± standard deviation over cases, by class",
        columns=(*head, *_metric_columns()),
        rows=tuple(rows),
    )


def upsampling_table(arms: Sequence[Arm]) -> Table:
    """One row per arm and upsampling layer."""
    rows = []
    for arm in arms:
        layers: dict[tuple[str, str], list[float]] = {}
        for run in arm.counted:
            for gain in run.record.upsampling:
                known = layers.setdefault((gain.layer, gain.operator), [])
                known += [] if math.isnan(number(gain.imbalance)) else [number(gain.imbalance)]
        for (layer, operator), gains in layers.items():
            cells = (
                words(arm.label),
                words(layer, code=True),
                words(operator, code=True),
                figure(measures.mean(gains), fixed(measures.mean(gains)), note=_range(gains)),
                _constant(arm),
            )
            rows.append(Row(arm=arm.number, cells=cells))
        if not layers and arm.counted:
            none = (words(arm.label), words(""), words(""), Cell(text=NOTHING), _constant(arm))
            rows.append(Row(arm=arm.number, cells=none))
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="layer", title="Upsampling layer"),
        Column(key="operator", title="Operator"),
        Column(key="gain", title="DC-gain imbalance", unit="0 flat … 1 worst", numeric=True),
        Column(key="constant", title="Constant response", unit="of logits’ SD", numeric=True),
    )
    return Table(caption="Mean over seeds", columns=columns, rows=tuple(rows))


def _slots(arms: Sequence[Arm]) -> list[str]:
    varying = varying_slots(arms)
    return varying + [slot for slot in _usual(arms) if slot not in varying]


def _usual(arms: Sequence[Arm]) -> list[str]:
    known = dict.fromkeys(slot for arm in arms for slot in [*arm.choices, *arm.blocks])
    return [slot for slot in known if slot in _ALWAYS or "upsampl" in slot]


def _slot(arm: Arm, slot: str) -> Cell:
    option, block = arm.choices.get(slot, ""), arm.blocks.get(slot, "")
    return words(option, note=block) if option else words(block, code=True)


def _settings(arm: Arm, keys: Sequence[str]) -> Cell:
    shown = [f"{key}={arm.settings[key]}" for key in keys if key in arm.settings]
    more = len(shown) - _SETTINGS_SHOWN
    text = ", ".join(shown[:_SETTINGS_SHOWN])
    return words(text, note=f"and {more} more" if more > 0 else "", code=True)


def _runs(arm: Arm) -> Cell:
    done, asked = len(arm.counted), arm.wanted
    note = "not in the plan" if arm.dropped else ""
    return Cell(text=str(done) if done == asked else f"{done} of {asked}", value=done, note=note)


def _matched(arm: Arm) -> Cell:
    found = [run.record.matched for run in arm.runs if run.record.matched]
    if not found or not found[0].wanted:
        return Cell(text="–")
    share = found[0].value / found[0].wanted
    return figure(share, f"{100 * share:.1f} %", note=f"of {found[0].quantity.replace('_', ' ')}")


def _metric_columns() -> list[Column]:
    units = {"hd95_mm": "mm, mean ± SD"}
    return [
        Column(key=key, title=title, unit=units.get(key, "mean ± SD"), numeric=True)
        for key, title in measures.METRICS.items()
    ]


def _metrics(arm: Arm, values: measures.Values, name: str | None = None) -> list[Cell]:
    cells = []
    for metric in measures.METRICS:
        found = values.summary(arm.number, metric, name)
        if found is None:
            unfinished = f"no run finished ({arm.runs[-1].record.status})"
            cells.append(Cell(text=NOTHING, note="not recorded" if arm.counted else unfinished))
            continue
        note = f"n {found.cases}"
        if found.undefined == found.total:
            note = f"{found.undefined} undefined: class absent from label and prediction"
        elif found.undefined:
            note += f", {found.undefined} undefined"
        text = spread(found.mean, found.deviation, measures.DIGITS[metric])
        cells.append(figure(found.mean, text, note=note))
    return cells


def _gain(arm: Arm) -> Cell:
    gains = measures.of_runs(arm, measures.worst_gain)
    return figure(measures.mean(gains), fixed(measures.mean(gains)), note=_range(gains))


def _constant(arm: Arm) -> Cell:
    found = measures.of_runs(arm, lambda record: record.constant_response)
    low, high = (significant(f(found)) if found else "" for f in (min, max))
    note = f"{low} … {high}" if low != high else ""
    return figure(measures.mean(found), significant(measures.mean(found)), note=note)


def _range(numbers: Sequence[float]) -> str:
    low, high = (fixed(f(numbers)) if numbers else "" for f in (min, max))
    return f"{low} … {high}" if low != high else ""


def _costs(arm: Arm) -> list[Cell]:
    parameters = measures.mean(measures.of_runs(arm, lambda record: record.parameters))
    macs = measures.mean(measures.of_runs(arm, lambda record: record.macs))
    patches = {tuple(r.record.patch_size) for r in arm.counted if r.record.patch_size}
    patch = " or ".join(sorted("×".join(map(str, patch)) for patch in patches))
    step = measures.mean(measures.of_runs(arm, lambda record: record.seconds.get("step")))
    train = measures.of_runs(arm, lambda record: record.seconds.get("train"))
    peaks = measures.of_runs(arm, lambda record: record.peak_memory_bytes)
    peak = max(peaks, default=math.nan)
    over = f"mean of {counted(len(train), 'seed')}" if len(train) > 1 else ""
    return [
        figure(parameters, amount(parameters)),
        figure(macs, amount(macs), note=patch),
        figure(step, duration(step)),
        figure(measures.mean(train), duration(measures.mean(train)), note=over),
        figure(peak, memory(peak)),
    ]
