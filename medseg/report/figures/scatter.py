"""Dice against cost with the spread of cases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib import rc_context

from medseg.report.cells import amount, duration
from medseg.report.collect import Arm
from medseg.report.figures.style import RC, SMALL, TEXT, chart, stroke, svg
from medseg.report.measures import mean, of_runs


@dataclass(frozen=True, kw_only=True)
class Point:
    """An arm in the scatter: cost, mean Dice and its SD over cases (NaN for one case)."""

    arm: int
    cost: float
    dice: float
    deviation: float


def scatter(points: Sequence[Point], cost: str, style: Mapping[int, int]) -> str:
    """Mean Dice against what it cost, with the SD over cases as a thin bar.

    Args:
        points: Arms with both numbers.
        cost: Label of the axis; "MACs" are shown with SI prefixes, anything else as durations.
        style: Places in the palette.
    """
    known = [p for p in points if math.isfinite(p.cost) and math.isfinite(p.dice)]
    if not known:
        return ""
    with rc_context(RC):
        figure, axes = chart(cost, "Mean Dice over cases")
        for point in known:
            colour, dash = stroke(style.get(point.arm))
            if math.isfinite(point.deviation):
                low, high = point.dice - point.deviation, point.dice + point.deviation
                axes.plot([point.cost] * 2, [low, high], color=colour, lw=0.8, alpha=0.5)
            face = colour if dash == "-" else "none"
            axes.plot(point.cost, point.dice, "o", color=colour, mfc=face, mew=1.4, markersize=6)
            axes.annotate(
                str(point.arm),
                (point.cost, point.dice),
                xytext=(6, 3),
                textcoords="offset points",
                color=TEXT,
                fontsize=SMALL,
            )
        costs = [point.cost for point in known]
        if min(costs) > 0 and max(costs) / min(costs) > 10:
            axes.set_xscale("log")
        shown = amount if cost.startswith("MACs") else duration
        axes.xaxis.set_major_formatter(lambda value, _: shown(value) if value > 0 else "0")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.margins(x=0.12, y=0.08)
        return svg(figure, f"Mean Dice against {cost}")


def cost_of(arms: Sequence[Arm]) -> tuple[str, dict[int, float]]:
    """MACs by arm, or seconds per step where MACs do not tell the arms apart."""
    macs = {arm.number: mean(of_runs(arm, lambda r: r.macs)) for arm in arms}
    steps = {arm.number: mean(of_runs(arm, lambda r: r.seconds.get("step"))) for arm in arms}
    known = {value for value in macs.values() if math.isfinite(value)}
    times = any(map(math.isfinite, steps.values()))
    if len(known) > 1 or (known and not times):
        return "MACs of one patch", macs
    return "Median training step", steps
