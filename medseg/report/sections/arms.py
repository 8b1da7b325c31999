"""The arms: what each is made of, what it costs, how good it is, and the same by class."""

from collections.abc import Sequence
from typing import Any

from medseg.formatting import MISSING, amount, counted, duration, fixed, memory, significant, spread
from medseg.record import METRICS
from medseg.record.frame import summaries
from medseg.report.arms import Arm
from medseg.report.labels import varying_factors, varying_settings, varying_slots
from medseg.report.page import Note, Section
from medseg.report.study import ReportData
from medseg.report.tables import Cell, Table, arm_cell, mean_cell, number, table, words

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
    verdicts: dict[int, str] = {}
    for study in data.studies:
        found = study.by(reference=True)
        verdicts |= dict(zip(found["arm"], found["verdict"], strict=True))
    means, costs = summaries(data.frame).to_dict("index"), data.costs.to_dict("index")
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
            | {
                metric.title: _metric(means.get((arm.number, name)), arm, metric.digits)
                for name, metric in METRICS.items()
            }
            | {
                "DC-gain imbalance": mean_cell([r.largest("dc_gain") for r in arm.records], fixed),
                "Constant response": mean_cell(
                    [r.constant_response for r in arm.records], significant
                ),
            }
            | _costs(arm, costs[arm.number])
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
    means = summaries(data.frame, "class").to_dict("index")
    arms_by_number = {arm.number: arm for arm in data.arms}
    pairs = data.frame[["arm", "class"]].drop_duplicates().itertuples(index=False, name=None)
    rows = [
        {"Arm": arm_cell(arms_by_number[number]), "Class": words(name)}
        | {
            metric.title: _metric(
                means.get((number, key, name)), arms_by_number[number], metric.digits
            )
            for key, metric in METRICS.items()
        }
        for number, name in pairs
    ]
    return table("Mean ± standard deviation over cases, by class", rows, METRIC_UNITS)


def _apart(title: str) -> str:
    """A factor or slot whose name is that of another column gets a mark."""
    return f"{title} (varied)" if title in _TITLES else title


def _metric(found: dict[str, Any] | None, arm: Arm, digits: int) -> Cell:
    """Mean ± standard deviation over cases, and of how many; why there is none."""
    if found is None:
        unfinished = f"no run finished ({arm.runs[-1].status})"
        return Cell(MISSING, note="not recorded" if arm.counted else unfinished)
    undefined = int(found["undefined"])
    note = f"n {int(found['cases'])}" + (f", {undefined} undefined" if undefined else "")
    if undefined == found["total"]:
        note = f"{undefined} undefined: class absent from label and prediction"
    return number(found["mean"], lambda mean: spread(mean, found["deviation"], digits), note)


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


def _costs(arm: Arm, costs: dict[Any, float]) -> dict[str, Cell]:
    patches = {tuple(run.patch_size) for run in arm.counted if run.patch_size}
    patch = " or ".join(sorted("×".join(map(str, patch)) for patch in patches))
    seeds = sum("train" in run.seconds for run in arm.counted)
    return {
        "Parameters": number(costs["parameters"], amount),
        "MACs": number(costs["macs"], amount, patch),
        "Training step": number(costs["step"], duration),
        "Training": number(
            costs["train"], duration, f"mean of {counted(seeds, 'seed')}" if seeds > 1 else ""
        ),
        "Peak memory": number(costs["memory"], memory),
    }


def _matched(arm: Arm) -> Cell:
    found = [run.matched for run in arm.runs if run.matched]
    if not found or not found[0].wanted:
        return words("")
    share = found[0].value / found[0].wanted
    return number(
        share, lambda value: f"{100 * value:.1f} %", f"of {found[0].quantity.replace('_', ' ')}"
    )
