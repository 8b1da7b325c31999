"""The arms: what each is made of, what it costs, how good it is, and the same by class."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import pandas as pd

from medseg.formatting import MISSING, amount, counted, duration, fixed, memory, significant, spread
from medseg.record import METRICS, RunRecord
from medseg.report.arms import Arm
from medseg.report.labels import varying_factors, varying_settings, varying_slots
from medseg.report.page import Note, Section
from medseg.report.sections.costs import MACS, MEMORY, PARAMETERS, STEP
from medseg.report.study import ReportData
from medseg.report.tables import Cell, Table, number, table, words

_ALWAYS = ("encoder.conv", "decoder.conv")
_SETTINGS_SHOWN = 4
_TITLES = ["Arm", "Dataset", "Runs", "Verdict", "MACs", "Parameters", "Training"]
_TITLES += [metric.title for metric in METRICS.values()]
METRIC_UNITS = {
    metric.title: f"{metric.unit}, mean ± SD" if metric.unit else "mean ± SD"
    for metric in METRICS.values()
}


def arms(data: ReportData) -> Section:
    """One table of arms, and one by class behind a fold."""
    classes = classes_table(data)
    note = f"n is the number of cases with a value; {words('').text} has its reason beside it."
    return Section(
        "Arms",
        [
            "An arm is one choice of blocks and settings; its runs differ by seed and fold only.",
            arms_table(data),
            Note(note),
            Section("By class", [classes], folded=True) if classes else "No metrics were recorded.",
        ],
        key="arms",
    )


def arms_table(data: ReportData) -> Table:
    """One row per arm."""
    verdicts = {c.arm: c.verdict for study in data.studies for c in study.primary.comparisons}
    verdicts |= {study.reference.number: "reference" for study in data.studies}
    factors, settings = varying_factors(data.arms), varying_settings(data.arms)
    slots = [] if all(arm.levels for arm in data.arms) else _slots(data.arms)
    datasets = len({arm.dataset for arm in data.arms}) > 1
    matched = any(run.matched for run in data.runs)
    rows = []
    for arm in data.arms:
        verdict = verdicts.get(arm.number, "")
        rows.append(
            {"Arm": arm_cell(arm)}
            | ({"Dataset": words(arm.dataset)} if datasets else {})
            | {_apart(factor): words(arm.levels.get(factor, "")) for factor in factors}
            | {_apart(slot.replace(".", " ")): _slot(arm, slot) for slot in slots}
            | ({"Other settings": _settings(arm, settings)} if settings else {})
            | {
                "Runs": _runs(arm),
                "Verdict": Cell(verdict, verdict, look="verdict") if verdict else words(""),
            }
            | _metrics(arm, data.summaries, (arm.number,))
            | {
                "DC-gain imbalance": mean_cell(arm, _worst_gain, fixed),
                "Constant response": mean_cell(arm, lambda r: r.constant_response, significant),
            }
            | _costs(arm)
            | ({"Made equal": _matched(arm)} if matched else {})
        )
    return table(
        "Mean ± standard deviation over cases",
        rows,
        {
            "Runs": "completed",
            "Verdict": "in Dice",
            **METRIC_UNITS,
            "DC-gain imbalance": "largest layer",
            "Constant response": "of logits’ SD",
            "MACs": "one patch",
            "Training step": "median",
            "Training": "whole run",
            "Made equal": "has / wanted",
        },
    )


def classes_table(data: ReportData) -> Table:
    """One row per arm and class."""
    pairs = data.frame[["arm", "class"]].drop_duplicates()
    labels = {arm.number: arm for arm in data.arms}
    rows = [
        {"Arm": arm_cell(labels[number]), "Class": words(name)}
        | _metrics(labels[number], data.class_summaries, (number, name))
        for number, name in pairs.itertuples(index=False, name=None)
    ]
    return table("Mean ± standard deviation over cases, by class", rows, METRIC_UNITS)


def arm_cell(arm: Arm) -> Cell:
    """An arm's label with its number and colour."""
    return Cell(arm.label, arm.label, look="arm", arm=arm.number)


def mean_cell(
    arm: Arm, read: Callable[[RunRecord], float | None], text: Callable[[float], str]
) -> Cell:
    """The mean of a quantity over an arm's runs, with their range below."""
    values = arm.values(read)
    mean = fmean(values) if values else math.nan
    ends = [text(min(values)), text(max(values))] if values else ["", ""]
    return number(mean, text(mean), " … ".join(ends) if ends[0] != ends[1] else "")


def _worst_gain(record: RunRecord) -> float | None:
    """The largest DC-gain imbalance of the upsampling layers; None where there is none."""
    return record.artifacts.largest("dc_gain") if record.artifacts else None


def _apart(title: str) -> str:
    """A factor or slot whose name is that of another column gets a mark."""
    return f"{title} (varied)" if title in _TITLES else title


def _metrics(arm: Arm, summaries: pd.DataFrame, key: tuple[object, ...]) -> dict[str, Cell]:
    cells = {}
    for name, metric in METRICS.items():
        place = (key[0], name, *key[1:])
        if place not in summaries.index:
            unfinished = f"no run finished ({arm.runs[-1].status})"
            cells[metric.title] = Cell(MISSING, note="not recorded" if arm.counted else unfinished)
            continue
        found = summaries.loc[place]
        undefined = int(found["undefined"])
        note = f"n {int(found['cases'])}" + (f", {undefined} undefined" if undefined else "")
        if undefined == found["total"]:
            note = f"{undefined} undefined: class absent from label and prediction"
        mean = None if pd.isna(found["mean"]) else float(found["mean"])
        text = spread(mean, float(found["deviation"]), metric.digits)
        cells[metric.title] = Cell(text, mean, note)
    return cells


def _slots(arms: Sequence[Arm]) -> list[str]:
    varying = varying_slots(arms)
    known = dict.fromkeys(slot for arm in arms for slot in [*arm.choices, *arm.blocks])
    usual = [slot for slot in known if slot in _ALWAYS or "upsampl" in slot]
    return varying + [slot for slot in usual if slot not in varying]


def _slot(arm: Arm, slot: str) -> Cell:
    option, block = arm.choices.get(slot, ""), arm.blocks.get(slot, "")
    return words(option, block) if option else words(block, code=True)


def _settings(arm: Arm, keys: Sequence[str]) -> Cell:
    shown = [f"{key}={arm.settings[key]}" for key in keys if key in arm.settings]
    more = len(shown) - _SETTINGS_SHOWN
    text = ", ".join(shown[:_SETTINGS_SHOWN])
    return words(text, f"and {more} more" if more > 0 else "", code=True)


def _runs(arm: Arm) -> Cell:
    done, asked = len(arm.counted), arm.wanted
    note = "not in the plan" if arm.dropped else ""
    return Cell(str(done) if done == asked else f"{done} of {asked}", done, note)


def _costs(arm: Arm) -> dict[str, Cell]:
    patches = {tuple(run.patch_size) for run in arm.counted if run.patch_size}
    patch = " or ".join(sorted("×".join(map(str, patch)) for patch in patches))
    train = arm.values(lambda record: record.seconds.get("train"))
    whole = fmean(train) if train else math.nan
    over = f"mean of {counted(len(train), 'seed')}" if len(train) > 1 else ""
    return {
        "Parameters": number(PARAMETERS.of(arm), amount(PARAMETERS.of(arm))),
        "MACs": number(MACS.of(arm), amount(MACS.of(arm)), patch),
        "Training step": number(STEP.of(arm), duration(STEP.of(arm))),
        "Training": number(whole, duration(whole), over),
        "Peak memory": number(MEMORY.of(arm), memory(MEMORY.of(arm))),
    }


def _matched(arm: Arm) -> Cell:
    found = [run.matched for run in arm.runs if run.matched]
    if not found or not found[0].wanted:
        return words("")
    share = found[0].value / found[0].wanted
    return number(share, f"{100 * share:.1f} %", f"of {found[0].quantity.replace('_', ' ')}")
