"""What was predicted against what was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib import rc_context

from medseg.report.cells import amount, duration, memory
from medseg.report.figures.scales import draw_marks, note, scale
from medseg.report.figures.style import RC, RULE, SOFT, chart, plain, svg


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One quantity of an arm as predicted and as measured, in the same unit."""

    arm: int
    promised: float
    measured: float


def promise_figure(
    promises: Sequence[Promise], *, label: str, unit: str, style: Mapping[int, int]
) -> str:
    """Predicted against measured with the line where both are equal; numbers are arms.

    Both axes have the same limits, logarithmic where all numbers are above 0.

    Args:
        promises: Arms; those without both numbers are left out.
        label: The quantity.
        unit: "B" is shown with binary prefixes, "s" as durations, anything else after the number.
        style: Places in the palette.
    """
    known = [p for p in promises if math.isfinite(p.promised) and math.isfinite(p.measured)]
    if not known:
        return ""
    values = [value for p in known for value in (p.promised, p.measured)]
    words = _words(unit)
    with rc_context(RC):
        figure, axes = chart(f"{label}, predicted", f"{label}, measured", height=3.6)
        axes.grid(axis="x", color=RULE, lw=0.6)
        for name in ("x", "y"):
            scale(axes, name, values, log=True, words=words)
        ends = axes.get_xlim()
        axes.plot(ends, ends, color=SOFT, lw=1, ls=(0, (4, 3)), zorder=1.5)
        note(axes, "more than predicted", 0.02, 0.96)
        note(axes, "less than predicted", 0.98, 0.04, right=True)
        marks = {p.arm: (p.promised, p.measured) for p in known}
        draw_marks(axes, marks, style)
        return svg(figure, f"{label}: measured against predicted")


def _words(unit: str) -> Callable[[float], str]:
    if unit in ("B", "bytes"):
        return memory
    if unit == "s":
        return duration
    if unit == "×":
        return lambda value: f"{plain(value)}×"
    return lambda value: f"{amount(value)} {unit}".strip()
