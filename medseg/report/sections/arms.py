"""The arms: what each is made of, what it costs, how good it is, and the same by class."""

from collections.abc import Sequence
from typing import Any

from medseg.formatting import MISSING, amount, counted, duration, memory, spread
from medseg.record import METRICS
from medseg.record.frame import summaries
from medseg.report.arms import Arm
from medseg.report.labels import varying_factors, varying_settings, varying_slots
from medseg.report.page import Note, Section
from medseg.report.sections.checkerboard import measure_cell
from medseg.report.study import ReportData
from medseg.report.tables import Cell, Table, arm_cell, number, table, words

_ALWAYS = ("encoder.conv", "decoder.conv")
_SETTINGS_SHOWN = 4
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
    metrics = metric_cells(data)
    verdicts: dict[int, str] = {}
    for study in data.studies:
        found = study.by(reference=True)
        verdicts |= dict(zip(found["arm"], found["verdict"], strict=True))
    costs = data.costs.to_dict("index")
    factors, settings = varying_factors(data.arms), varying_settings(data.arms)
    slots = [] if all(arm.levels for arm in data.arms) else _slots(data.arms)
    datasets = len({arm.dataset for arm in data.arms}) > 1
    matched = any(run.matched for run in data.runs)
    rows = []
    for arm in data.arms:
        verdict = verdicts.get(arm.number, "")
        made_of = {factor: words(arm.levels.get(factor, "")) for factor in factors}
        made_of |= {slot.replace(".", " "): _slot(arm, slot) for slot in slots}
        first = {"Arm": arm_cell(arm)} | ({"Dataset": words(arm.dataset)} if datasets else {})
        rest = (
            ({"Other settings": _settings(arm, settings)} if settings else {})
            | {
                "Runs": _runs(arm),
                "Verdict": Cell(verdict, verdict, look="verdict") if verdict else words(""),
            }
            | metrics.get((arm.number,), _no_metrics(arm))
            | {
                "DC-gain imbalance": measure_cell(arm, "dc_gain"),
                "Constant response": measure_cell(arm, "constant_response"),
            }
            | _costs(arm, costs[arm.number])
            | ({"Made equal": _matched(arm)} if matched else {})
        )
        taken = first | rest
        own = {f"{k} (varied)" if k in taken else k: cell for k, cell in made_of.items()}
        rows.append(first | own | rest)
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
    arms = {arm.number: arm for arm in data.arms}
    rows = [
        {"Arm": arm_cell(arms[number]), "Class": words(name)} | cells
        for (number, name), cells in metric_cells(data, "class").items()
    ]
    return table("Mean ± standard deviation over cases, by class", rows, METRIC_UNITS)


def metric_cells(data: ReportData, *by: str) -> dict[tuple[Any, ...], dict[str, Cell]]:
    """Arm, and further columns of the frame → the cell of each metric, by its title."""
    found = summaries(data.frame, *by)
    cells: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for (arm, name, *rest), one in zip(found.index, found.to_dict("records"), strict=True):
        blank = {metric.title: Cell(MISSING, note="not recorded") for metric in METRICS.values()}
        row = cells.setdefault((arm, *rest), blank)
        if name in METRICS:
            row[METRICS[name].title] = _metric(one, METRICS[name].digits)
    return cells


def _metric(found: dict[Any, Any], digits: int) -> Cell:
    """Mean ± standard deviation over cases, and of how many; why there is none."""
    undefined, text = int(found["undefined"]), spread(found["mean"], found["deviation"], digits)
    if undefined == found["total"]:
        return Cell(text, note=f"{undefined} undefined: class absent from label and prediction")
    note = f"n {int(found['cases'])}" + (f", {undefined} undefined" if undefined else "")
    return Cell(text, found["mean"], note)


def _no_metrics(arm: Arm) -> dict[str, Cell]:
    note = "not recorded" if arm.counted else f"no run finished ({arm.runs[-1].status})"
    if arm.counted and not any(run.split.get("validation") for run in arm.counted):
        note = "no case was held out"
    return {metric.title: Cell(MISSING, note=note) for metric in METRICS.values()}


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
