"""Differences with their intervals, and means of two factors together."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medseg.formatting import fixed, signed
from medseg.plotting import (
    AS_DRAWN,
    BLUE,
    GREEN,
    ORANGE,
    OTHER,
    SOFT,
    new_figure,
    plain_ticks,
    shortened,
    styled,
)

# A shape and a word besides the colour: the verdict is read without seeing colours.
_LOOKS = {"better": (GREEN, "^"), "worse": (ORANGE, "v"), "equal": (BLUE, "s")}
_UNDECIDED = (SOFT, "o")
_ENDS = ["estimate", "low", "high", "case_low", "case_high"]
_ROWS, _COLUMNS = 30, 10  # levels in one figure
_FAR = 4.0  # times the typical half-width: there the axis ends


@styled()
def forest(
    rows: pd.DataFrame, *, margin: float | None, metric: str, reference: str
) -> Figure | None:
    """Every arm minus the reference with both intervals, in the order given.

    The thick bar is the interval over runs and cases, the thin one over cases alone, the shaded
    band what counts as equal. A mark is hollow where runs were not repeated. An end far beyond
    what most rows need becomes an arrow at the edge.

    Args:
        rows: Columns arm, label, estimate, low, high, case_low, case_high (NaN if unknown) and
            verdict; rows without an estimate are left out.
        margin: What counts as equal, in units of the metric.
        metric: Its name, with its unit if it has one.
        reference: Label of the reference.
    """
    known = rows.dropna(subset=["estimate"]).astype(dict.fromkeys(_ENDS, float))
    if known.empty:
        return None
    limit, cut = _limit(known[_ENDS].abs().max(axis=1).to_numpy(), margin)
    digits = _digits(margin or float(np.median(np.abs(known["estimate"]))))
    figure = new_figure(1.15 + 0.36 * len(known))
    axes = figure.add_subplot()
    band = f"; shaded: ±{margin:.6g} counts as equal" if margin else ""
    note = "\nArrows: beyond the axis; the table has the numbers." if cut else ""
    axes.set(title=f"{metric} minus that of {shortened(reference, 40)}", yticks=[])
    axes.set(xlabel=f"Difference in {metric}{band}{note}")
    axes.set(xlim=(-limit, limit), ylim=(len(known) - 0.5, -0.5))
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(plain_ticks())
    if margin:
        axes.axvspan(-margin, margin, color=BLUE, alpha=0.13, lw=0)
    for place, row in enumerate(known.itertuples()):
        _draw_row(axes, place, row, limit, digits)
    bars = {
        "low": Line2D([], [], color=SOFT, lw=6, alpha=0.38, label="95 % over runs and cases"),
        "case_low": Line2D([], [], color=SOFT, lw=1.5, label="95 % over cases alone"),
    }
    drawn = [bar for name, bar in bars.items() if not known[name].isna().to_numpy().all()]
    if drawn:
        figure.legend(handles=drawn, loc="outside lower left", ncols=2)
    return figure


@styled()
def interaction_figure(means: pd.DataFrame, *, metric: str) -> Figure | None:
    """Means by the levels of two factors as a map with its numbers; hatched is not there.

    Args:
        means: Levels of one factor by those of another, NaN where no arm has both; its index and
            columns have the names of the factors. Of more than 30 by 10 the first are drawn.
        metric: What the means are of.
    """
    shown = means.iloc[:_ROWS, :_COLUMNS]
    values = shown.to_numpy(float)
    if not np.isfinite(values).any():
        return None
    figure = new_figure(0.95 + 0.32 * len(shown))
    axes = figure.add_subplot()
    axes.patch.set(hatch="////", edgecolor=OTHER, linewidth=0)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colormaps["cividis"], aspect="auto")
    image.set_gid(AS_DRAWN)
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            ink = "white" if float(np.asarray(image.norm(value))) < 0.55 else "black"
            text = axes.text(column, row, fixed(value), ha="center", va="center", color=ink)
            text.set_gid(AS_DRAWN)
    letters = max(4, 52 // shown.shape[1])
    axes.set_xticks(range(shown.shape[1]), [shortened(str(c), letters) for c in shown.columns])
    axes.set_yticks(range(shown.shape[0]), [shortened(str(r), 20) for r in shown.index])
    axes.xaxis.tick_top()
    factors = f"{means.index.name} by {means.columns.name}"
    axes.set_title(f"{metric}: {shortened(factors, 50)}")
    axes.spines[:].set_visible(False)
    return figure


def _draw_row(axes: Axes, place: int, row: Any, limit: float, digits: int) -> None:
    """Name and number above, the bars and the mark below them."""
    text = {"transform": axes.get_yaxis_transform(), "va": "center"}
    colour, mark = _LOOKS.get(row.verdict, _UNDECIDED)
    axes.text(0, place - 0.2, f"{row.arm}  {shortened(row.label, 36)}", **text)
    words = f"{signed(row.estimate, digits)}  {row.verdict}"
    axes.text(1, place - 0.2, words, ha="right", **text)
    y = place + 0.22
    axes.vlines(0, y - 0.22, y + 0.22, color=SOFT, lw=1)  # strikes through no name
    axes.hlines(y, row.low, row.high, color=colour, lw=6, alpha=0.38)
    axes.hlines(y, row.case_low, row.case_high, color=colour, lw=1.5)
    face = "none" if math.isnan(row.low) else colour
    axes.plot(row.estimate, y, mark, color=colour, mfc=face, mew=1.3, ms=5.5)
    ends = [getattr(row, name) for name in _ENDS]
    for end in {math.copysign(limit, end) for end in ends if abs(end) > limit}:
        axes.plot(end, y, ">" if end > 0 else "<", color=colour, ms=6, mew=0, clip_on=False)


def _limit(reach: NDArray[np.float64], margin: float | None) -> tuple[float, bool]:
    """Half-width of the axis, and whether something lies beyond it."""
    least = 1.6 * (margin or 0.0)
    typical, needed = max(float(np.median(reach)), least), max(float(reach.max()), least)
    if needed <= _FAR * typical or typical == 0:
        return 1.04 * needed or 1.0, False
    return _FAR * typical, True


def _digits(size: float) -> int:
    """Decimals that tell numbers of that size apart to a tenth, 1 to 4."""
    return min(4, max(1, 1 - math.floor(math.log10(2 * size)))) if size > 0 else 3
