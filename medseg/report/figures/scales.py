"""Axes for quantities that span decades, and marks that carry the number of their arm."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from medseg.report.cells import duration, memory
from medseg.report.figures.placing import number_marks
from medseg.report.figures.style import OTHER, SMALL, SOFT, settled, stroke

NUMBERED = 40

LEAST = 1.04  # highest over lowest cost: three digits tell the ticks apart
_PAD = 0.09
_ZEROS = re.compile(r"\.0+(?!\d)|(?<=\.)(\d*[1-9])0+(?!\d)")

Place = tuple[float, float]
Words = Callable[[float], str]


def scale(
    axes: Axes,
    name: str,
    values: Sequence[float],
    *,
    log: bool,
    words: Words,
    least: float = LEAST,
) -> None:
    """Limits, scale and ticks of the axis `name` ("x" or "y") for finite `values`.

    The highest value shown is at least `least` times the lowest, so that a difference that nobody
    would notice does not fill the chart. An axis with a value at or below 0 is linear.
    """
    low, high = min(values), max(values)
    log = log and low > 0
    if log:
        grow = max(1.0, math.sqrt(least * low / high))
        low, high = low / grow, high * grow
        pad = (high / low) ** _PAD
        limits = low / pad, high * pad
    else:
        grow = max(0.0, (least - 1) * max(abs(low), abs(high)) - (high - low)) / 2
        low, high = low - grow, high + grow
        pad = _PAD * (high - low) or 1.0
        limits = low - pad, high + pad
    axes.set(**{f"{name}scale": "log" if log else "linear", f"{name}lim": limits})
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(FixedLocator(_ticks(*limits, log=log, words=words)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: short(words, value))


def short(words: Words, value: float) -> str:
    """`words` without zeros behind the point, with a true minus; 0 has no unit."""
    if abs(value) < 1e-12:
        return "0"
    return _ZEROS.sub(r"\1", words(value)).replace("-", "−")


def draw_marks(
    axes: Axes,
    marks: Mapping[int, Place],
    style: Mapping[int, int],
    *,
    first: Sequence[int] = (),
    hollow: Sequence[int] = (),
    below: bool = False,
) -> list[int]:
    """Dots with the number of their arm; of more than `NUMBERED` only `first` and the coloured.

    The others are small grey dots. Call it when the limits are set.

    Args:
        axes: Where.
        marks: Arm → place.
        style: Arm → place in the palette.
        first: Arms that are numbered in bold.
        hollow: Arms drawn as rings.
        below: Numbers go below their dots where there is room.

    Returns:
        The numbered arms.
    """
    few = len(marks) <= NUMBERED
    chosen = [arm for arm in marks if few or arm in style or arm in first]
    if len(chosen) > 2 * NUMBERED:
        chosen = [arm for arm in chosen if arm in style]
    rest = [place for arm, place in marks.items() if arm not in set(chosen)]
    _cloud(axes, rest)
    for arm in sorted(chosen, key=lambda arm: arm in style):
        colour, _ = stroke(style.get(arm))
        face = "none" if arm in hollow else colour
        axes.plot(*marks[arm], "o", color=colour, mfc=face, mew=1.3, ms=5.5, clip_on=False)
    settled(axes.get_figure(root=True))  # type: ignore[arg-type]
    number_marks(
        axes,
        [str(arm) for arm in chosen],
        [marks[arm] for arm in chosen],
        bold=[arm in first for arm in chosen],
        below=below,
    )
    return chosen


def note(axes: Axes, text: str, x: float, y: float, *, right: bool = False) -> None:
    """Small soft words at a fraction of the chart."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        color=SOFT,
        fontsize=SMALL - 1,
        ha="right" if right else "left",
        va="center",
    )


def _cloud(axes: Axes, places: Sequence[Place]) -> None:
    """All dots as one path: strokes of no length with round ends."""
    if places:
        points = np.repeat(np.array(places), 2, axis=0)
        dots = Path(points, np.tile([Path.MOVETO, Path.LINETO], len(places)))
        dots.should_simplify = False
        axes.add_patch(PathPatch(dots, ec=OTHER, fc="none", lw=3.2, capstyle="round", zorder=1))


def _ticks(low: float, high: float, *, log: bool, words: Words) -> list[float]:
    base = 2 if words is memory else 10
    unit = 1024.0 ** math.floor(math.log(max(abs(high), 1), 1024)) if words is memory else 1.0
    if log and high / low > 10:
        span = math.log(high / low, base)
        steps = [1.0, 2.0, 5.0] if span <= 2 and base == 10 else [1.0]
        found = LogLocator(base=base, subs=steps, numticks=7).tick_values(low, high)
    else:
        bins = 4 if words is duration else 5
        ticks = MaxNLocator(nbins=bins).tick_values(low / unit, high / unit)
        found = [tick * unit for tick in ticks]
    return [float(tick) for tick in found if low <= tick <= high]
