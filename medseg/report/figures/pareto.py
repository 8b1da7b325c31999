"""What quality costs: arms by cost and value, and the front that no other arm beats."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib import rc_context

from medseg.report.cells import amount
from medseg.report.figures.scales import NUMBERED, draw_marks, scale
from medseg.report.figures.style import RC, SOFT, chart, plain, stroke, svg


@dataclass(frozen=True, kw_only=True)
class ParetoPoint:
    """An arm: x is what it costs, y what it is worth, with the ends of its interval if known."""

    arm: int
    x: float
    y: float
    y_low: float | None = None
    y_high: float | None = None


def front(points: Sequence[ParetoPoint], *, higher_y_better: bool = True) -> set[int]:
    """Arms that no other arm beats: none costs at most as much, is as good, and better in one.

    Arms with equal numbers do not beat each other; one without a number is not in the front.

    >>> sorted(front([ParetoPoint(arm=a, x=a, y=y) for a, y in enumerate((0.8, 0.7, 0.9))]))
    [0, 2]
    """
    sign = 1 if higher_y_better else -1
    found: set[int] = set()
    best, cost = -math.inf, math.nan
    for point in sorted(_finite(points), key=lambda p: (p.x, -sign * p.y)):
        if sign * point.y > best:
            best, cost = sign * point.y, point.x
            found.add(point.arm)
        elif sign * point.y == best and point.x == cost:
            found.add(point.arm)
    return found


def pareto(
    points: Sequence[ParetoPoint],
    *,
    x_label: str,
    y_label: str,
    style: Mapping[int, int],
    x_log: bool = True,
    higher_y_better: bool = True,
    x_words: Callable[[float], str] = amount,
) -> str:
    """Arms by cost and value with the front as a stepped line; numbers are arms, rings are beaten.

    Args:
        points: Arms; those without both numbers are left out.
        x_label: Cost, always better when smaller.
        y_label: Value.
        style: Places in the palette.
        x_log: Logarithmic cost, where all costs are above 0.
        higher_y_better: Whether a greater value is the better one.
        x_words: Cost → tick label, such as `amount`, `memory` or `duration`.
    """
    known = _finite(points)
    if not known:
        return ""
    undominated = front(known, higher_y_better=higher_y_better)
    marks = {point.arm: (point.x, point.y) for point in known}
    shown = [p for p in known if len(known) <= NUMBERED or p.arm in undominated or p.arm in style]
    ends = [y for p in shown for y in (p.y_low, p.y_high) if y is not None and math.isfinite(y)]
    with rc_context(RC):
        figure, axes = chart(x_label, y_label)
        scale(axes, "x", [p.x for p in known], log=x_log, words=x_words)
        scale(axes, "y", [*(p.y for p in known), *ends], log=False, words=plain, least=1.01)
        steps = sorted({marks[arm] for arm in undominated})
        far = axes.get_xlim()[1]
        xs, ys = [x for x, _ in steps], [y for _, y in steps]
        axes.plot([*xs, far], [*ys, ys[-1]], color=SOFT, lw=1, drawstyle="steps-post", zorder=1.5)
        for point in shown:
            if point.y_low is not None and point.y_high is not None:
                colour, _ = stroke(style.get(point.arm))
                axes.plot([point.x] * 2, [point.y_low, point.y_high], color=colour, lw=1, alpha=0.5)
        draw_marks(
            axes,
            marks,
            style,
            first=sorted(undominated),
            hollow=sorted(set(marks) - undominated),
            below=not higher_y_better,
        )
        return svg(figure, f"{y_label} against {x_label}")


def _finite(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    return [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)]
