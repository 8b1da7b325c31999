"""Differences with their intervals, and means of two factors together."""

import math
from collections.abc import Sequence

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
    RULE,
    SERIES,
    SOFT,
    new_figure,
    plain_ticks,
    shortened,
    styled,
)
from medseg.statistics import Effect

# A shape and a word besides the colour: the verdict is read without seeing colours.
_LOOKS = {"better": (GREEN, "^"), "worse": (ORANGE, "v"), "equal": (BLUE, "s")}
_UNDECIDED = (SOFT, "o")
_ENDS = ["estimate", "low", "high", "case_low", "case_high"]
_ROWS, _COLUMNS = 30, 10  # levels in one figure
_FAR = 4.0  # times the typical half-width: there the axis ends


def forest(
    rows: pd.DataFrame, *, margin: float | None, metric: str, reference: str
) -> Figure | None:
    """Every arm minus the reference with both intervals, in the order given.

    The thick bar is the interval over runs and cases, the thin one over cases alone, the shaded
    band what counts as equal. A mark is hollow where runs were not repeated.

    Args:
        rows: Columns arm, label, estimate, low, high, case_low, case_high (NaN if unknown) and
            verdict; rows without an estimate are left out.
        margin: What counts as equal, in units of the metric.
        metric: Its name, with its unit if it has one.
        reference: Label of the reference.
    """
    known = rows.dropna(subset=["estimate"])
    if known.empty:
        return None
    looks = [_LOOKS.get(verdict, _UNDECIDED) for verdict in known["verdict"]]
    digits = _digits(margin or float(np.median(np.abs(known["estimate"]))))
    drawn = known.assign(
        label=[
            f"{arm}  {shortened(label, 36)}"
            for arm, label in zip(known["arm"], known["label"], strict=True)
        ],
        words=[
            f"{signed(estimate, digits)}  {verdict}"
            for estimate, verdict in zip(known["estimate"], known["verdict"], strict=True)
        ],
        colour=[colour for colour, _ in looks],
        mark=[mark for _, mark in looks],
    )
    band = f"; shaded: ±{margin:.6g} counts as equal" if margin else ""
    return _intervals(
        drawn,
        title=f"{metric} minus that of {shortened(reference, 40)}",
        x_label=f"Difference in {metric}{band}",
        margin=margin,
    )


def effects_figure(effects: Sequence[Effect], *, metric: str) -> Figure | None:
    """Every level minus the first of its factor, with both intervals; at most 30 rows.

    Args:
        effects: Main effects; factors without a contrast are left out.
        metric: What differs.
    """
    known = [
        (effect, level.level, level.contrast)
        for effect in effects
        for level in effect.levels
        if level.contrast and level.contrast.estimate is not None
    ]
    if not known:
        return None
    digits = _digits(float(np.median([abs(found.estimate or 0.0) for _, _, found in known])))
    rows: list[dict] = []
    factors: list[str] = []
    for effect, level, found in known:
        if effect.factor not in factors:
            factors.append(effect.factor)
            first = shortened(effect.levels[0].level, 24)
            rows.append({"label": f"{shortened(effect.factor, 24)}, minus {first}", "words": ""})
        ends = {name: getattr(found, name) for name in _ENDS}
        rows.append(
            {
                "label": f"    {shortened(level, 36)}",
                "words": signed(found.estimate, digits),
                "colour": SERIES[(len(factors) - 1) % len(SERIES)],
                "mark": "o",
            }
            | ends
        )
    return _intervals(
        pd.DataFrame(rows[:_ROWS]),
        title=f"{metric} of each level minus that of the first",
        x_label=f"Difference in {metric}, averaged over the other factors",
        margin=None,
    )


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


@styled()
def _intervals(rows: pd.DataFrame, *, title: str, x_label: str, margin: float | None) -> Figure:
    """Rows from top to bottom on one axis with 0 in the middle; a row without estimate heads.

    An end far beyond what most rows need becomes an arrow at the edge.
    """
    rows = rows.astype(dict.fromkeys(_ENDS, float))
    reach = rows[_ENDS].abs().max(axis=1).dropna()
    limit, cut = _limit(reach.to_numpy(), margin)
    figure = new_figure(1.15 + 0.36 * len(rows))
    axes = figure.add_subplot()
    note = "\nArrows: beyond the axis; the table has the numbers." if cut else ""
    axes.set(title=title, xlabel=x_label + note, yticks=[])
    axes.set(xlim=(-limit, limit), ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(plain_ticks())
    if margin:
        axes.axvspan(-margin, margin, color=BLUE, alpha=0.13, lw=0)
    for place, row in enumerate(rows.itertuples()):
        _draw_row(axes, place, row, limit)
    bars = {
        "low": Line2D([], [], color=SOFT, lw=6, alpha=0.38, label="95 % over runs and cases"),
        "case_low": Line2D([], [], color=SOFT, lw=1.5, label="95 % over cases alone"),
    }
    known = [bar for name, bar in bars.items() if not rows[name].isna().to_numpy().all()]
    if known:
        figure.legend(handles=known, loc="outside lower left", ncols=2)
    return figure


def _draw_row(axes: Axes, place: int, row, limit: float) -> None:
    """Name and number above, the bars and the mark below them."""
    text = {"transform": axes.get_yaxis_transform(), "va": "center"}
    if math.isnan(row.estimate):
        axes.text(0, place + 0.1, row.label, fontweight="bold", **text)
        axes.axhline(place - 0.42, color=RULE, lw=0.8)
        return
    axes.text(0, place - 0.2, row.label, **text)
    axes.text(1, place - 0.2, row.words, ha="right", **text)
    y = place + 0.22
    axes.vlines(0, y - 0.22, y + 0.22, color=SOFT, lw=1)  # strikes through no name
    axes.hlines(y, row.low, row.high, color=row.colour, lw=6, alpha=0.38)
    axes.hlines(y, row.case_low, row.case_high, color=row.colour, lw=1.5)
    face = "none" if math.isnan(row.low) else row.colour
    axes.plot(row.estimate, y, row.mark, color=row.colour, mfc=face, mew=1.3, ms=5.5)
    ends = [getattr(row, name) for name in _ENDS]
    for end in {math.copysign(limit, end) for end in ends if abs(end) > limit}:
        axes.plot(end, y, ">" if end > 0 else "<", color=row.colour, ms=6, mew=0, clip_on=False)


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
