"""What arms cost: quality against cost, and predictions against measurements."""

import math
from typing import Any

import pandas as pd

from medseg.formatting import amount, duration, fixed, memory
from medseg.record import METRICS
from medseg.record.frame import summaries
from medseg.report.figures.trade import pareto
from medseg.report.page import Figure, Note, Section
from medseg.report.study import ReportData
from medseg.report.tables import arm_cell, number, table

COSTS = {
    "parameters": ("Parameters", amount),
    "macs": ("MACs of one patch", amount),
    "step": ("Training step, median", duration),
    "memory": ("Peak memory", memory),
}
"""Column of `ReportData.costs` → title and text of a value."""

_PREDICTED = (
    "Memory predicted is the peak of a training step by its arithmetic, weights not included; "
    "measured is what the process or the device grew by, which holds the weights and what the "
    "libraries keep. A step predicted is the reference’s, scaled by MACs: a ratio above 1 means "
    "that the arm is slower than its arithmetic says."
)
_FRONTS = (
    "Numbers are arms; the line joins the arms that no other beats in both. Rings are beaten by "
    "the numbers alone: whether a difference is more than chance stands under Verdicts."
)


def quality_and_cost(data: ReportData) -> Section:
    """Every quality by every cost that differs between arms, with the arms that none beats."""
    parts: list[object] = []
    for title, values, higher in _qualities(data):
        drawn = [
            Figure(
                pareto(
                    pd.DataFrame({"x": data.costs[cost], "y": values}),
                    x_label=x_label,
                    y_label=title,
                    places=data.style,
                    unit={"step": "s", "memory": "B"}.get(cost, ""),
                    higher_better=higher,
                ),
                f"{title} against {x_label.lower()}",
            )
            for cost, (x_label, _) in COSTS.items()
            if data.costs.loc[values.dropna().index, cost].nunique() > 1
        ]
        if drawn and not parts:
            parts.append(drawn)
        elif drawn:
            parts.append(Section(title, [drawn], folded=True, about=f"{len(drawn)} figures"))
    if not parts:
        return Section("Quality against cost", ["No cost tells the finished arms apart."], "fronts")
    datasets = {arm.dataset for arm in data.arms if arm.dataset}
    apart = " Arms on different datasets do not compare." if len(datasets) > 1 else ""
    parts.append(Note(f"{_FRONTS}{apart}"))
    return Section("Quality against cost", parts, key="fronts", legend=True)


def costs(data: ReportData) -> Section:
    """Memory and step time: predicted and measured."""
    title = "Costs: predicted and measured"
    units = {"Memory predicted": "of a training step", "Step predicted": "reference × MACs"}
    for name, of in (("Memory", "growth to the peak"), ("Step", "median")):
        units |= {f"{name} measured": of, f"{name} ratio": "measured / predicted"}
    found = data.costs.copy()
    found["step_predicted"] = math.nan
    for study in data.studies:
        own = [arm.number for arm in study.arms]
        base = found.loc[study.reference.number]
        found.loc[own, "step_predicted"] = base["step"] * found.loc[own, "macs"] / base["macs"]
    rows = []
    for arm in data.arms:
        cells = {}
        for name, text, predicted, measured in (
            ("Memory", memory, "memory_predicted", "memory_growth"),
            ("Step", duration, "step_predicted", "step"),
        ):
            pair = found.loc[arm.number, [predicted, measured]]
            pair = pair if pair.notna().all() else pair * math.nan
            ratio = pair[measured] / pair[predicted] if pair[predicted] > 0 else math.nan
            cells |= {
                f"{name} predicted": number(pair[predicted], text),
                f"{name} measured": number(pair[measured], text),
                f"{name} ratio": number(ratio, lambda value: fixed(value, 2)),
            }
        if any(cell.value is not None for cell in cells.values()):
            rows.append({"Arm": arm_cell(arm)} | cells)
    if not rows:
        text = "No finished run recorded both a prediction and its measurement."
        return Section(title, [text], key="costs")
    shown = table("Predicted and measured costs", rows, units)
    return Section(title, [shown, Note(_PREDICTED)], key="costs")


def _qualities(data: ReportData) -> list[tuple[str, Any, bool]]:
    """Title, value of each arm, and whether higher is better."""
    means = summaries(data.frame)["mean"].unstack("metric").reindex(data.costs.index)
    found = [
        (metric.title, means[key], True)
        for key, metric in METRICS.items()
        if key in means and not metric.lower_is_better
    ]
    gains = [
        (arm.number, run.artifacts.means["gain"].mean)
        for arm in data.arms
        for run in arm.counted
        if run.artifacts and "gain" in run.artifacts.means
    ]
    gain = pd.DataFrame(gains, columns=["arm", "gain"], dtype=float)
    gain = pd.DataFrame(gain.groupby("arm").mean())
    return [*found, ("Gain κ", gain.reindex(data.costs.index)["gain"], False)]
