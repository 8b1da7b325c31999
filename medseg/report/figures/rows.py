"""Differences with their intervals, one below the other, each under its own name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medseg.report.figures.style import (
    OTHER,
    RULE,
    SERIES,
    SMALL,
    SOFT,
    TEXT,
    WIDTH,
    bare,
    plain,
    shortened,
    svg,
)

_PITCH, _TOP, _KEY, _BOTTOM = 26.0, 24.0, 15.0, 46.0  # points
_SIDE = 9.0
_LETTERS = 62  # of a label and what stands right of it
_VERDICT, _VERDICT_LETTERS, _GAP = 52.0, 11, 0.02
_FAR = 4.0  # times the typical half-width: there the axis ends
_BAND = SERIES[0]


@dataclass(frozen=True, kw_only=True)
class IntervalRow:
    """A difference: name above it on the left, words above it on the right.

    Args:
        label: Its name.
        words: What stands on the right.
        verdict: A word after `words`, in a column of its own.
        estimate: None for a heading.
        low: Lower end over runs and cases.
        high: Upper end over runs and cases.
        case_low: Lower end over cases alone.
        case_high: Upper end over cases alone.
        colour: Of the bars and the mark.
        mark: Shape of the mark, as matplotlib calls it.
    """

    label: str
    words: str
    verdict: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    case_low: float | None = None
    case_high: float | None = None
    colour: str = OTHER
    mark: str = "o"

    @property
    def ends(self) -> list[float]:
        """All numbers that are drawn."""
        found = (self.estimate, self.low, self.high, self.case_low, self.case_high)
        return [value for value in found if value is not None and math.isfinite(value)]


def interval_rows(
    rows: Sequence[IntervalRow], *, title: str, x_label: str, margin: float | None, spoken: str
) -> str:
    """SVG of the rows from top to bottom on one axis of differences, 0 in the middle.

    The thick bar is the interval over runs and cases, the thin one that over cases alone. An end
    far beyond what most rows need becomes an arrow at the edge.

    Args:
        rows: At least one with an estimate.
        title: Above the chart.
        x_label: Below it.
        margin: Half-width of the shaded band, None for none.
        spoken: What a screen reader says.
    """
    limit, cut = _limit(rows, margin)
    height = _TOP + _KEY + _PITCH * len(rows) + _BOTTOM + (_KEY if cut else 0)
    width = WIDTH * 72
    figure = Figure(figsize=(WIDTH, height / 72))
    foot = _BOTTOM + (_KEY if cut else 0)
    box = (_SIDE / width, foot / height, 1 - 2 * _SIDE / width, _PITCH * len(rows) / height)
    axes = figure.add_axes(box)
    bare(axes)
    axes.set(xlim=(-limit, limit), ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.grid(axis="x", color=RULE, lw=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))
    axes.tick_params(labelsize=SMALL)
    note = "\nArrows: beyond the axis; the table has the numbers." if cut else ""
    axes.set_xlabel(x_label + note, fontsize=SMALL)
    if margin:
        axes.axvspan(-margin, margin, color=_BAND, alpha=0.13, lw=0)
    # Broken, so that it strikes through no name.
    at = [(place + 0.02, place + 0.47, math.nan) for place, row in enumerate(rows) if row.ends]
    axes.plot([0.0] * 3 * len(at), [y for segment in at for y in segment], color=SOFT, lw=1)
    for place, row in enumerate(rows):
        _draw_row(axes, place, row, limit)
    top = _PITCH * len(rows) / height + foot / height
    figure.text(_SIDE / width, top + (_KEY + 11) / height, title, fontsize=SMALL + 0.5)
    _draw_key(figure, rows, top + 5 / height)
    return svg(figure, spoken)


def _draw_row(axes: Axes, place: int, row: IntervalRow, limit: float) -> None:
    across = axes.get_yaxis_transform()
    room = _LETTERS - len(row.words) - (_VERDICT_LETTERS if row.verdict else 0)
    column = _VERDICT / (WIDTH * 72 - 2 * _SIDE)
    weight = "bold" if row.estimate is None else "normal"
    style = {"transform": across, "fontsize": SMALL, "va": "center"}
    y = place - 0.18 if row.estimate is not None else place + 0.12
    axes.text(0, y, shortened(row.label, room), fontweight=weight, **style)
    colour = TEXT if row.estimate is not None else SOFT
    axes.text(1 - column if row.verdict else 1, y, row.words, ha="right", color=colour, **style)
    if row.verdict:
        axes.text(1 - column + _GAP, y, row.verdict, **style)
    if row.estimate is None:
        axes.plot([0, 1], [place - 0.42] * 2, transform=across, color=RULE, lw=0.8)
        return
    y = place + 0.24
    _bar(axes, y, row.low, row.high, limit, row.colour, 6.0, 0.38)
    _bar(axes, y, row.case_low, row.case_high, limit, row.colour, 1.5, 1.0)
    if abs(row.estimate) <= limit:
        face = "none" if row.low is None else row.colour
        axes.plot(row.estimate, y, row.mark, color=row.colour, mfc=face, mew=1.3, ms=5.5)
    else:
        _arrow(axes, math.copysign(limit, row.estimate), y, row.colour)


def _bar(
    axes: Axes,
    y: float,
    low: float | None,
    high: float | None,
    limit: float,
    colour: str,
    width: float,
    alpha: float,
) -> None:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return
    inside = [min(max(end, -limit), limit) for end in (low, high)]
    axes.plot(inside, [y, y], color=colour, lw=width, alpha=alpha, solid_capstyle="butt")
    for end in (low, high):
        if abs(end) > limit:
            _arrow(axes, math.copysign(limit, end), y, colour)


def _arrow(axes: Axes, x: float, y: float, colour: str) -> None:
    axes.plot(x, y, ">" if x > 0 else "<", color=colour, ms=6, mew=0, clip_on=False)


def _draw_key(figure: Figure, rows: Sequence[IntervalRow], y: float) -> None:
    """Samples of the bars that occur, with their names."""
    width = figure.get_figwidth() * 72
    x = _SIDE
    for name, has, thick, alpha in (
        ("95 % over runs and cases", any(row.low is not None for row in rows), 6.0, 0.38),
        ("95 % over cases alone", any(row.case_low is not None for row in rows), 1.5, 1.0),
    ):
        if has:
            mid = y + 3 / (figure.get_figheight() * 72)
            sample = figure.add_axes((x / width, mid, 16 / width, 0.001))
            sample.set_axis_off()
            sample.plot(
                [0, 1], [0, 0], color=SOFT, lw=thick, alpha=alpha, solid_capstyle="butt",
                clip_on=False,
            )  # fmt: skip
            sample.set_xlim(0, 1)
            figure.text((x + 21) / width, y, name, color=SOFT, fontsize=SMALL - 0.5)
            x += 27 + 5.2 * len(name)


def _limit(rows: Sequence[IntervalRow], margin: float | None) -> tuple[float, bool]:
    """Half-width of the axis, and whether something lies beyond it."""
    reach = sorted(max(map(abs, row.ends)) for row in rows if row.ends)
    typical = max(reach[len(reach) // 2], 1.6 * (margin or 0.0))
    needed = max(reach[-1], 1.6 * (margin or 0.0))
    if needed <= _FAR * typical or typical == 0:
        return needed * 1.04 or 1.0, False
    return _FAR * typical, True
