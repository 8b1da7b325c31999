"""Quality against cost: the points of the Pareto figures, and the cheapest arm that is no worse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medseg.record import RunRecord
from medseg.report.arm import Arm
from medseg.report.costs import COSTS, Cost
from medseg.report.measures import Values, mean, of_runs
from medseg.report.studies import Study

GAIN = "gain"  # of the artifacts' headline
_QUALITIES = (("dice", "Dice", True), ("surface_dice", "Surface Dice", True))


@dataclass(frozen=True, kw_only=True)
class ParetoPoint:
    """An arm: x is what it costs, y what it is worth, with the ends of its interval if known."""

    arm: int
    x: float
    y: float
    y_low: float = math.nan
    y_high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Front:
    """The points of one figure."""

    cost: Cost
    y_label: str
    higher_y_better: bool
    points: tuple[ParetoPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Trade:
    """The cheapest arm that was shown to be no worse than the reference, by one cost."""

    cost: Cost
    arm: Arm
    value: float
    reference: float


def fronts_of(arms: Sequence[Arm], values: Values) -> list[Front]:
    """Every quality by every cost that more than one arm recorded and that differs between arms."""
    fronts = []
    for key, label, higher in (*_QUALITIES, (GAIN, "Gain κ", False)):
        for cost in COSTS:
            points = tuple(_point(arm, key, cost, values) for arm in arms)
            points = tuple(p for p in points if math.isfinite(p.x) and math.isfinite(p.y))
            if len({point.x for point in points}) > 1:
                fronts.append(
                    Front(cost=cost, y_label=label, higher_y_better=higher, points=points)
                )
    return fronts


def trades_of(study: Study) -> list[Trade]:
    """For parameters and for the training step the cheapest arm that is better or equal.

    An arm that costs more than the reference is none; undecided is not shown to be no worse.
    """
    reference = study.reference.arm
    sound = {c.arm for c in study.chief.comparisons if c.verdict in ("better", "equal")}
    arms = [arm for arm in study.compared if arm.number in sound]
    trades = []
    for cost in COSTS:
        base = cost.of(reference)
        cheaper = [(cost.of(arm), arm.number, arm) for arm in arms if cost.of(arm) < base]
        if cheaper:
            value, _, arm = min(cheaper)
            trades.append(Trade(cost=cost, arm=arm, value=value, reference=base))
    return trades


def gain_of(arm: Arm) -> float:
    """Mean over runs of the headline gain, NaN where none was measured."""
    return mean(of_runs(arm, _headline))


def _point(arm: Arm, key: str, cost: Cost, values: Values) -> ParetoPoint:
    if key == GAIN:
        return ParetoPoint(arm=arm.number, x=cost.of(arm), y=gain_of(arm))
    summary = values.summary(arm.number, key)
    y = summary.mean if summary else math.nan
    return ParetoPoint(arm=arm.number, x=cost.of(arm), y=y)


def _headline(record: RunRecord) -> float | None:
    found = record.artifacts.means.get(GAIN) if record.artifacts else None
    return found.mean if found else None
