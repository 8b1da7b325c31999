"""Quality against cost."""

import numpy as np
import pandas as pd

from medseg.formatting import amount, duration, memory
from medseg.record import METRICS
from medseg.record.frame import summaries
from medseg.report.figures.trade import pareto
from medseg.report.page import Figure, Note, Section
from medseg.report.study import PRIMARY, ReportData

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
    """Dice by every cost that differs between arms, with the arms that none beats."""
    means = summaries(data.frame).reset_index()
    own = means[means["metric"] == PRIMARY]
    values = pd.Series(np.asarray(own["mean"], float), index=np.asarray(own["arm"])).dropna()
    drawn = [
        Figure(
            pareto(
                pd.DataFrame({"x": data.costs.loc[values.index, cost], "y": values}),
                x_label=title,
                y_label=METRICS[PRIMARY].title,
                places=data.style,
                unit={"step": "s", "memory": "B"}.get(cost, ""),
            ),
            f"{METRICS[PRIMARY].title} against {title.lower()}",
        )
        for cost, (title, _) in COSTS.items()
        if data.costs.loc[values.index, cost].nunique() > 1
    ]
    if not drawn:
        return Section("Quality against cost", ["No cost tells the finished arms apart."], "fronts")
    datasets = {arm.dataset for arm in data.arms if arm.dataset}
    apart = " Arms on different datasets do not compare." if len(datasets) > 1 else ""
    parts = [drawn, Note(f"{_FRONTS}{apart}")]
    return Section("Quality against cost", parts, key="fronts", legend=True)
