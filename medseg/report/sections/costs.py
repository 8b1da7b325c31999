"""Quality against cost."""

from typing import Any

import pandas as pd

from medseg.formatting import amount, duration, memory
from medseg.record import METRICS
from medseg.record.frame import summaries
from medseg.report.figures.trade import pareto
from medseg.report.page import Figure, Note, Section
from medseg.report.study import ReportData

COSTS = {
    "parameters": ("Parameters", amount),
    "macs": ("MACs of one patch", amount),
    "step": ("Training step, median", duration),
    "memory": ("Peak memory", memory),
}
"""Column of `ReportData.costs` → title and text of a value."""

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
