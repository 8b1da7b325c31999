"""What arms cost: quality against cost, and predictions against measurements."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from medseg.formatting import amount, duration, fixed, memory
from medseg.record import METRICS, RunRecord
from medseg.report import figures
from medseg.report.arms import Arm
from medseg.report.page import Figure, Note, Section
from medseg.report.study import ReportData
from medseg.report.tables import Cell, Table, number, table

_PREDICTED = (
    "Memory predicted is the peak of a training step by its arithmetic, weights not included; "
    "measured is what the process or the device grew by, which holds the weights and what the "
    "libraries keep. A step predicted is the reference’s, scaled by MACs: a ratio above 1 means "
    "that the arm is slower than its arithmetic says."
)


@dataclass(frozen=True)
class Quantity:
    """A cost of an arm: better when smaller.

    Args:
        title: Names it.
        read: Record → its value, None where it is not known.
        text: Value → text.
        unit: Of its axis: `B`, `s`, or empty for a count.
        largest: Whether an arm has the largest of its runs, else their mean.
    """

    title: str
    read: Callable[[RunRecord], float | None]
    text: Callable[[float | None], str]
    unit: str = ""
    largest: bool = False

    def of(self, arm: Arm) -> float:
        """Of the counted runs; NaN where none recorded it."""
        values = arm.values(self.read)
        if not values:
            return math.nan
        return max(values) if self.largest else fmean(values)


PARAMETERS = Quantity("Parameters", lambda record: record.parameters, amount)
MACS = Quantity("MACs of one patch", lambda record: record.macs, amount)
STEP = Quantity("Training step, median", lambda record: record.seconds.get("step"), duration, "s")
MEMORY = Quantity("Peak memory", lambda record: record.peak_memory_bytes, memory, "B", largest=True)
COSTS = (PARAMETERS, MACS, STEP, MEMORY)

_PREDICTED_MEMORY = Quantity(
    "Memory predicted", lambda record: record.predicted_memory_bytes, memory, largest=True
)


def _growth_of(record: RunRecord) -> float | None:
    peak, before = record.peak_memory_bytes, record.memory_before_bytes
    return None if peak is None or before is None else peak - before


_GROWTH = Quantity("Memory measured", _growth_of, memory, largest=True)


def quality_and_cost(data: ReportData) -> Section:
    """Every quality by every cost that differs between arms, with the arms that none beats."""
    parts: list[Section | str | list[Figure]] = []
    for title, read, higher in _qualities(data):
        drawn = [found for cost in COSTS if (found := _front(data, title, read, cost, higher))]
        if drawn and not parts:
            parts.append(drawn)
        elif drawn:
            parts.append(Section(title, [drawn], folded=True, about=f"{len(drawn)} figures"))
    if not parts:
        parts = ["No cost tells the finished arms apart."]
    else:
        datasets = {arm.dataset for arm in data.arms if arm.dataset}
        apart = " Arms on different datasets do not compare." if len(datasets) > 1 else ""
        parts.append(
            Note(
                "Numbers are arms; the line joins the arms that no other beats in both. Rings are "
                "beaten by the numbers alone: whether a difference is more than chance stands "
                f"under Verdicts.{apart}"
            )
        )
    return Section("Quality against cost", parts, key="fronts", legend=bool(parts[1:]))


def costs(data: ReportData) -> Section:
    """Memory and step time: predicted and measured."""
    rows = _predictions(data)
    found = _table(rows)
    if not found:
        text = "No finished run recorded both a prediction and its measurement."
        return Section("Costs: predicted and measured", [text], key="costs")
    drawn = [
        Figure(
            figures.predicted_figure(
                pd.DataFrame(
                    [(arm.number, *pair) for arm, pair in known],
                    columns=["arm", "predicted", "measured"],
                ),
                label=label,
                unit=unit,
                places=data.style,
            ),
            f"{label}: measured against predicted",
        )
        for label, unit, known in (
            ("Memory of a training step", "B", [(arm, pair) for arm, *pair, _, _ in rows]),
            ("Training step", "s", [(arm, pair) for arm, _, _, *pair in rows]),
        )
    ]
    return Section(
        "Costs: predicted and measured", [drawn, found, Note(_PREDICTED)], key="costs", legend=True
    )


def _predictions(data: ReportData) -> list[tuple[Arm, float, float, float, float]]:
    """Arm, memory predicted and measured, step predicted and measured; NaN where unknown."""
    references = {study.dataset: study.reference for study in data.studies}
    rows = []
    for arm in data.arms:
        reference = references.get(arm.dataset)
        macs = MACS.of(reference) if reference else math.nan
        step = STEP.of(reference) * MACS.of(arm) / macs if reference and macs > 0 else math.nan
        rows.append((arm, _PREDICTED_MEMORY.of(arm), _GROWTH.of(arm), step, STEP.of(arm)))
    return rows


def _table(rows: list[tuple[Arm, float, float, float, float]]) -> Table:
    units = {
        "Memory predicted": "of a training step",
        "Memory measured": "growth to the peak",
        "Memory ratio": "measured / predicted",
        "Step predicted": "reference × MACs",
        "Step measured": "median",
        "Step ratio": "measured / predicted",
    }
    cells = []
    for arm, *numbers in rows:
        pairs = (("Memory", memory, *numbers[:2]), ("Step", duration, *numbers[2:]))
        row = {"Arm": Cell(arm.label, arm.label, look="arm", arm=arm.number)}
        for name, text, predicted, measured in pairs:
            known = math.isfinite(predicted) and math.isfinite(measured)
            ratio = measured / predicted if known and predicted > 0 else math.nan
            row |= {
                f"{name} predicted": number(predicted if known else None, text(predicted)),
                f"{name} measured": number(measured if known else None, text(measured)),
                f"{name} ratio": number(ratio, fixed(ratio, 2)),
            }
        if any(cell.value is not None for title, cell in row.items() if title != "Arm"):
            cells.append(row)
    return table("Predicted and measured costs", cells, units)


def _qualities(data: ReportData) -> list[tuple[str, Callable[[Arm], float], bool]]:
    """Title, arm → value, and whether higher is better."""

    def mean_of(metric: str) -> Callable[[Arm], float]:
        known = data.summaries["mean"].to_dict()
        return lambda arm: known.get((arm.number, metric), math.nan)

    gain = Quantity("Gain κ", _headline_gain, fixed)
    return [
        *((m.title, mean_of(key), True) for key, m in METRICS.items() if not m.lower_is_better),
        (gain.title, gain.of, False),
    ]


def _headline_gain(record: RunRecord) -> float | None:
    found = record.artifacts.means.get("gain") if record.artifacts else None
    return found.mean if found else None


def _front(
    data: ReportData, title: str, read: Callable[[Arm], float], cost: Quantity, higher: bool
) -> Figure | None:
    """One figure, where more than one arm has both and the cost differs."""
    points = pd.DataFrame(
        [(arm.number, cost.of(arm), read(arm), math.nan, math.nan) for arm in data.arms],
        columns=["arm", "x", "y", "y_low", "y_high"],
    ).dropna(subset=["x", "y"])
    if len(set(points["x"])) < 2:
        return None
    drawn = figures.pareto(
        points,
        x_label=cost.title,
        y_label=title,
        places=data.style,
        unit=cost.unit,
        higher_better=higher,
    )
    return Figure(drawn, f"{title} against {cost.title.lower()}")
